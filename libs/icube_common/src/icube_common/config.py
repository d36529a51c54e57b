"""Configuration: frozen keyword-only dataclasses whose fields carry their range and meaning, merged by OmegaConf.

Declare a section as

    @dataclass(frozen=True, kw_only=True)
    class TrainConfig(Config):
        max_steps: int = option(10_000, "optimiser steps", ge=1)

and load it with `load_config`: defaults <- ``--config file.yaml`` <- ``key=value`` overrides.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from icube_common.errors import InputError, unknown

_BOUNDS = {
    "ge": (lambda value, bound: value >= bound, "at least"),
    "gt": (lambda value, bound: value > bound, "greater than"),
    "le": (lambda value, bound: value <= bound, "at most"),
    "lt": (lambda value, bound: value < bound, "less than"),
}


def as_list(texts: str | Iterable[str]) -> list[str]:
    """The texts of an argument as a list; a single string becomes a list of one."""
    return [texts] if isinstance(texts, str) else list(texts)


def option(
    default: Any,
    meaning: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: Sequence[str] | None = None,
    type_name: str = "",
) -> Any:
    """A dataclass field with its one-line meaning, inclusive (ge, le) or exclusive (gt, lt) bounds, and choices.

    ``type_name`` is what ``--help`` prints for a field of type Any, whose section checks the value itself.
    """
    bounds = {name: bound for name, bound in (("ge", ge), ("gt", gt), ("le", le), ("lt", lt)) if bound is not None}
    metadata = {
        "meaning": meaning,
        "bounds": bounds,
        "choices": tuple(choices) if choices else None,
        "type_name": type_name,
    }
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def section(config_class: type, **defaults: Any) -> Any:
    """A field that holds a nested section, with that section's own defaults or those given here."""
    return dataclasses.field(default_factory=lambda: config_class(**defaults))


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of all sections: checks every declared bound and choice on construction.

    Raises:
        InputError: (a ValueError) a value lies outside its declared range or choices.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_value(field, getattr(self, field.name), field.name)


ConfigType = TypeVar("ConfigType", bound=Config)


def _check_value(field: dataclasses.Field[Any], value: Any, key: str) -> None:
    """Hold one value, or each item of a list or mapping, against the bounds and choices that its field declares."""
    if value is None or "meaning" not in field.metadata:
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_value(field, item, f"{key}.{name}")
        return
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_value(field, item, key)
        return
    where = f"{key}={value}"
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where}: must be a finite number")
    for name, bound in field.metadata["bounds"].items():
        holds, words = _BOUNDS[name]
        if not holds(value, bound):
            raise InputError(f"{where}: must be {words} {bound}")
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise unknown(f"value of {key}", str(value), choices)


def iterate_options(
    schema: type[Config] | Config, prefix: str = ""
) -> Iterator[tuple[str, dataclasses.Field[Any], Any, Any]]:
    """Every key of a schema as ``(dotted key, field, type, default)``, nested sections flattened."""
    defaults = schema() if isinstance(schema, type) else schema
    types = typing.get_type_hints(type(defaults))
    for field in dataclasses.fields(defaults):
        value = getattr(defaults, field.name)
        if isinstance(value, Config):
            yield from iterate_options(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field, types[field.name], value


def describe_config(config_class: type[Config]) -> str:
    """The text that ``--help`` prints: every key with type, default and meaning."""
    lines = ["configuration keys (key=value after the options, or --config file.yaml):"]
    for key, field, kind, default in iterate_options(config_class):
        name = field.metadata.get("type_name") or (
            kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
        )
        choices = field.metadata.get("choices")
        meaning = field.metadata.get("meaning", "") + (f" ({', '.join(choices)})" if choices else "")
        lines.append(f"  {key:<28} {name:<14} default {default!s:<14} {meaning}")
    return "\n".join(lines)


def load_config(
    config_class: type[ConfigType], *, file: str | Path | None = None, overrides: Sequence[str] = ()
) -> ConfigType:
    """Merge the schema's defaults, a YAML file and dotted ``key=value`` overrides, in that order.

    Raises:
        InputError: unknown key (the nearest one is named), wrong type, or value out of range; a file that is missing
            or no YAML mapping.
    """
    # ~0.2 s of imports that `--help` does not need
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    leaves_by_key = {key: (field, kind) for key, field, kind, _ in iterate_options(config_class)}
    merged = OmegaConf.structured(config_class)
    layers: list[tuple[str, Any]] = []
    if file is not None:
        layers.append((str(file), OmegaConf.create(read_yaml(file, option="--config"))))
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals or not key:
            raise InputError(f"{text!r}: an override has the form key=value")
        try:
            layer = OmegaConf.from_dotlist([text])
        except (YAMLError, OmegaConfBaseException) as error:
            if not _takes_text(leaves_by_key.get(key)):
                raise InputError(f"{text}: cannot be read as key=value ({str(error).splitlines()[0]})") from error
            layer = None
        if layer is None or (_takes_text(leaves_by_key.get(key)) and OmegaConf.is_dict(OmegaConf.select(layer, key))):
            # braces and colons of a text are not YAML's: {} in a kitchen
            layer = OmegaConf.create()
            OmegaConf.update(layer, key, text.partition("=")[2], force_add=True)
        layers.append((text, layer))
    sections = {name for key in leaves_by_key for name in _parents(key)}
    set_by: dict[str, str] = {}
    for origin, layer in layers:
        for key, value in _flat_items(OmegaConf.to_container(layer), leaves_by_key):
            if key in sections:
                raise InputError(f"{origin}: {key}: is a section, its keys go below it (found {value!r} there)")
            if key not in leaves_by_key:
                raise InputError(f"{origin}: {unknown('configuration key', key, leaves_by_key)}")
            set_by[key] = origin
            if word := _word_read_as_bool(leaves_by_key[key][0], value):
                OmegaConf.update(layer, key, word)
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            raise InputError(f"{origin}: {_words(error)}") from error
    try:
        values = dict(_flat_items(OmegaConf.to_container(merged, resolve=True, throw_on_missing=True), leaves_by_key))
    except OmegaConfBaseException as error:
        raise InputError(f"{layers[-1][0]}: {_words(error)}") from error
    for key, (field, _) in leaves_by_key.items():
        try:
            _check_value(field, values[key], key)
        except InputError as error:
            # an override's text is in the message already, a file's name is not
            raise InputError(f"{file}: {error}") if set_by.get(key) == str(file) else error from None
    config = OmegaConf.to_object(merged)
    assert isinstance(config, config_class)
    return config


def load_saved_config(config_class: type[ConfigType], file: str | Path) -> ConfigType:
    """A configuration as `config_to_yaml` wrote it, whole: a file that was cut off would leave sections at defaults.

    Raises:
        InputError: as `load_config`, or a section is missing.
    """
    present, fields = read_yaml(file), dataclasses.fields(config_class)
    sections = [field.name for field in fields if field.default_factory is not dataclasses.MISSING]
    # of a section that was cut off after its first line there is a name without keys
    empty = [name for name in sections if present.get(name, "") is None]
    config = None if empty else load_config(config_class, file=file)
    absent = empty or [field.name for field in fields if field.name not in present]
    if config is None or absent:
        raise InputError(f"{file}: section {absent[-1]} is missing: the file is cut off; copy the saved model again")
    return config


def _takes_text(leaf: tuple[dataclasses.Field[Any], Any] | None) -> bool:
    """True for a key that holds a text: declared as one, or checking its value itself."""
    if leaf is None:
        return False
    field, kind = leaf
    return kind is str or kind == str | None or "str" in field.metadata.get("type_name", "")


def read_yaml(file: str | Path, *, option: str = "") -> dict[str, Any]:
    """A YAML mapping as plain dictionaries and lists; ``1e-4`` is a number and no key may stand twice.

    Args:
        file: where it is.
        option: the command-line option that named the file, for the message where there is none.

    Raises:
        InputError: the file is missing, no YAML, or no mapping.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = Path(file)
    if not path.is_file():
        raise InputError(f"{option} {path}: no such file".lstrip())
    try:
        loaded = OmegaConf.load(path)
        values = OmegaConf.to_container(loaded)
    except (YAMLError, OSError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise InputError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold a mapping of configuration keys")
    return {str(key): value for key, value in values.items()}


def _parents(key: str) -> Iterator[str]:
    """The sections that a dotted key lies in: ``a`` and ``a.b`` for ``a.b.c``."""
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _flat_items(values: Any, leaves: typing.Container[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a nested mapping, down to the known leaves (a leaf may itself be a mapping)."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in leaves:
            yield from _flat_items(value, leaves, f"{key}.")
        else:
            yield key, value


def _word_read_as_bool(field: dataclasses.Field[Any], value: Any) -> str | None:
    """The choice that YAML 1.1 has turned into a boolean: ``precision=no`` arrives as False."""
    words = {False: ("no", "off", "false"), True: ("yes", "on", "true")}[value] if isinstance(value, bool) else ()
    return next((word for word in words if word in (field.metadata.get("choices") or ())), None)


def _words(error: Exception) -> str:
    """OmegaConf's message in one line: what is wrong, and the full key that it puts further down."""
    lines = [line.strip() for line in str(error).splitlines()]
    key = next((line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), "")
    return f"{key}: {lines[0]}" if key else lines[0]


def config_to_yaml(config: Config) -> str:
    """The resolved configuration as YAML, as it is saved with each run."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(config))


def config_to_dict(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain nested dictionaries."""
    return dataclasses.asdict(config)
