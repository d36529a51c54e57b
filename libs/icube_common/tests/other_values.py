"""For each key of a configuration another value than its default, so that a test can see whether it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from icube_common.config import Config, config_to_dict, iterate_options, load_config
from icube_common.errors import InputError
from icube_common.experiments import override_texts
from icube_common.experiments.overrides import SET_BY_STUDY, flatten, leaves


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
    return ["another {name} {value}", "another", "7", "64"]


def check_keys_of_a_trial(
    module: Any,
    schema: type[Config],
    needs: dict[str, dict[str, Any]],
    refused: frozenset[str],
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[dict[str, Any]], object],
) -> None:
    """Every key of a training arrives in the evaluation of a trial, and a key that the study sets is refused.

    Args:
        module: whose ``evaluate`` a trial calls.
        schema: of the training.
        needs: as for `other_values`.
        refused: as for `other_values`.
        monkeypatch: replaces ``evaluate``.
        run: runs a trial with these overrides and seed 5.
    """
    asked: list[dict[str, Any]] = []

    def record(*arguments: Any, **options: Any) -> None:
        found = [value for value in (*arguments, *options.values()) if isinstance(value, schema)]
        asked.append(values(found[0]))
        raise InputError("recorded")

    monkeypatch.setattr(module, "evaluate", record)
    for key, overrides in other_values(schema, needs, refused=refused):
        if key in SET_BY_STUDY:
            with pytest.raises(InputError, match=f"{key}=.*cannot be set for a trial"):
                run(overrides)
            continue
        with pytest.raises(InputError, match="recorded"):
            run(overrides)
        expected = values(load_config(schema, overrides=override_texts(overrides)))
        assert asked[-1] == {**expected, "train.seed": 5, "train.report_to": "none"}, key
        assert asked[-1][key] != values(schema())[key]
