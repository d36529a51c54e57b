"""Overrides of a configuration as ``{dotted key: value}``: to and from nested YAML, and held against a schema."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

import yaml

from icube_common.config import Config, config_to_dict, iterate_options, load_config
from icube_common.errors import InputError


def flatten(values: Mapping[str, Any], leaves: Container[str] = (), prefix: str = "") -> dict[str, Any]:
    """``{"train": {"steps": 3}}`` as ``{"train.steps": 3}``.

    Args:
        values: nested or dotted keys, mixed as one likes.
        leaves: keys whose value is itself a mapping and stays whole.
        prefix: put before every key.

    Raises:
        InputError: a key is given twice, once nested and once dotted.
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        inner = flatten(value, leaves, f"{key}.") if isinstance(value, Mapping) and key not in leaves else {key: value}
        if twice := sorted(flat.keys() & inner.keys()):
            raise InputError(f"{twice[0]}: is given twice")
        flat.update(inner)
    return flat


def nest(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``{"train.steps": 3}`` as ``{"train": {"steps": 3}}``, the form of a ``--config`` file."""
    nested: dict[str, Any] = {}
    for key, value in overrides.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return nested


def override_texts(overrides: Mapping[str, Any]) -> list[str]:
    """Overrides as the ``key=value`` words that `icube_common.config.load_config` takes."""
    return [f"{key}={_inline(value)}" for key, value in overrides.items()]


def _inline(value: Any) -> str:
    """A value as YAML in one line; a text that would be read as something else comes in quotes."""
    if not isinstance(value, str) or "\n" in value or _reads_as_number(value):
        return json.dumps(value, ensure_ascii=False)
    return yaml.safe_dump(value, width=2**30, allow_unicode=True).removesuffix("\n").removesuffix("\n...")


def _reads_as_number(text: str) -> bool:
    """Whether OmegaConf's YAML takes the text for a number: more often than PyYAML, which writes ``1e-4`` bare."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_overrides(schema: type[Config], overrides: Mapping[str, Any], *, where: str) -> None:
    """Hold overrides against the schema: names, types, ranges, choices.

    Raises:
        InputError: one of them does not fit; the message starts with ``where``.
    """
    try:
        load_config(schema, overrides=override_texts(overrides))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def leaves(schema: type[Config] | None) -> frozenset[str]:
    """The dotted keys that hold a value; none where there is no schema."""
    return frozenset(key for key, *_ in iterate_options(schema)) if schema else frozenset()


def changed(config: Config) -> dict[str, Any]:
    """The keys of a loaded configuration that differ from their defaults, with their values."""
    known = leaves(type(config))
    values, defaults = (flatten(config_to_dict(one), known) for one in (config, type(config)()))
    return {key: value for key, value in values.items() if value != defaults[key]}


def values_of(config: Config, names: Iterable[str]) -> dict[str, Any]:
    """The values of some keys of a loaded configuration; the name of a section stands for all its keys."""
    wanted = tuple(names)
    values = flatten(config_to_dict(config), leaves(type(config)))
    return {
        key: value for key, value in values.items() if any(key == name or key.startswith(f"{name}.") for name in wanted)
    }
