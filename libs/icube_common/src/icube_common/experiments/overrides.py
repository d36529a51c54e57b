"""Overrides of a configuration as ``{dotted key: value}``: to and from nested YAML, and checked by a schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import yaml

from icube_common.config import Config, ConfigType, config_to_dict, iterate_options, load_config
from icube_common.errors import InputError

SET_BY_STUDY = {"train.seed": "the seeds of the study set it", "train.report_to": "trials are not tracked (none)"}
"""Keys that a study sets in every trial -> why."""
Unused = Callable[[Any], Mapping[str, str]]
"""A configuration -> the keys that have no effect under it, and why."""


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
    """True where OmegaConf's YAML reads the text as a number: more often than PyYAML, which writes ``1e-4`` bare."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_overrides(schema: type[Config], overrides: Mapping[str, Any], *, where: str) -> None:
    """Hold overrides against the schema: names, types, ranges, choices.

    Raises:
        InputError: one of them does not fit, or is set by the study; the message starts with ``where``.
    """
    try:
        _check_set_by_study(overrides)
        load_config(schema, overrides=override_texts(overrides))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def trial_config(schema: type[ConfigType], overrides: Mapping[str, Any], seed: int) -> ConfigType:
    """The configuration that a trial trains with: every override, the seed of the study, no tracker.

    Raises:
        InputError: an override does not fit the schema, or the study sets it itself.
    """
    _check_set_by_study(overrides)
    return load_config(schema, overrides=override_texts({**overrides, "train.seed": seed, "train.report_to": "none"}))


def _check_set_by_study(overrides: Mapping[str, Any]) -> None:
    for key, why in SET_BY_STUDY.items():
        if key in overrides and overrides[key] != "none":
            raise InputError(f"{key}={overrides[key]}: cannot be set for a trial: {why}; take it out")


def check_unused(
    schema: type[Config], key: str, trials: Sequence[Mapping[str, Any]], unused: Unused, *, where: str
) -> None:
    """Refuse a key that has an effect in none of some trials, which would compare a model with itself.

    Args:
        schema: of the configuration.
        key: what is set.
        trials: the overrides of each.
        unused: the library's.
        where: what the message starts with.

    Raises:
        InputError: it has no effect; the message names it and why.
    """
    reasons = []
    for overrides in trials:
        result = unused(load_config(schema, overrides=override_texts(overrides)))
        if key not in result:
            return
        reasons.append(result[key])
    if reasons:
        raise InputError(f"{where}: {key} has no effect: {reasons[0]}")


def leaves(schema: type[Config] | None) -> frozenset[str]:
    """The dotted keys that hold a value; none where there is no schema."""
    return frozenset(key for key, *_ in iterate_options(schema)) if schema else frozenset()


def changed(config: Config) -> dict[str, Any]:
    """The keys of a loaded configuration that differ from their defaults, with their values."""
    leaf_keys = leaves(type(config))
    values, defaults = (flatten(config_to_dict(one), leaf_keys) for one in (config, type(config)()))
    return {key: value for key, value in values.items() if value != defaults[key]}


def values_of(config: Config, names: Iterable[str]) -> dict[str, Any]:
    """The values of some keys of a loaded configuration; the name of a section selects all its keys."""
    expected = tuple(names)
    values = flatten(config_to_dict(config), leaves(type(config)))
    return {
        key: value
        for key, value in values.items()
        if any(key == name or key.startswith(f"{name}.") for name in expected)
    }
