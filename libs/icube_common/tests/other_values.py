"""For each key of a configuration another value than its default, so that a test can see whether it arrives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from icube_common.config import Config, config_to_dict, iterate_options, load_config
from icube_common.errors import InputError
from icube_common.experiments import override_texts
from icube_common.experiments.overrides import flatten, leaves


def values(config: Config) -> dict[str, Any]:
    """All values of a configuration by their dotted keys."""
    return flatten(config_to_dict(config), leaves(type(config)))


def other_values(
    schema: type[Config], needs: dict[str, dict[str, Any]], *, refused: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each key with the overrides that change it.

    Args:
        schema: the configuration.
        refused: keys that are left out.
        needs: key, or prefix of keys -> what else has to be set for another value to be legal.
    """
    for key, field, _, default in iterate_options(schema):
        if key in refused:
            continue
        more = next((extra for prefix, extra in needs.items() if key.startswith(prefix)), {})
        for value in _candidates(field.metadata, default):
            overrides = {**more, key: value}
            try:
                config = load_config(schema, overrides=override_texts(overrides))
            except InputError:
                continue
            if values(config)[key] != default:
                yield key, overrides
                break
        else:
            raise AssertionError(f"{key}: no other value than {default!r} is legal")


def _candidates(metadata: Any, default: Any) -> list[Any]:
    if metadata.get("choices") and not isinstance(default, list):
        return [choice for choice in metadata["choices"] if choice != default]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, int):
        return [default + 1, default - 1, default + 8, 2 * default]
    if isinstance(default, float):
        return [default / 2, default + 0.25, (default + 1) / 2, default + 1]
    if isinstance(default, list):
        if default and isinstance(default[0], (int, float)):
            return [[item * 2 for item in default], [item / 2 for item in default]]
        return [default[:1], [*default, "education"], ["a"]]
    return ["another {name} {value}", "another", "7"]
