"""Knowledge files as plain mappings: YAML for people, JSON as well, no key twice, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icube_common.errors import InputError
from icube_common.runs import atomic_file

SUFFIXES = (".yaml", ".yml", ".json")
HEADER = "# Sentences about classes. Made for `describe review` and for an editor; see `describe --help`.\n"


def check_suffix(path: str | Path) -> Path:
    """The path, when its ending says YAML or JSON.

    Raises:
        InputError: it has another ending.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a knowledge file ends in {', '.join(SUFFIXES)}")
    return path


def read_mapping(path: str | Path) -> dict[str, Any]:
    """What a YAML or JSON file holds.

    Raises:
        InputError: the file is missing, no such format, no mapping, or has a key twice.
    """
    path = check_suffix(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text in UTF-8") from error
    try:
        value = read_json_text(text, path) if path.suffix.lower() == ".json" else _read_yaml(text, path)
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a mapping (found {type(value).__name__})")
    return value


def write_mapping(path: str | Path, value: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """Write a mapping as YAML or JSON, by the file's ending, keys in the given order.

    Raises:
        InputError: the file exists and ``overwrite`` is False, or another ending.
    """
    path = check_suffix(path)
    if path.suffix.lower() == ".json":
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    else:
        import yaml

        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = HEADER + yaml.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=True, width=110)
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def read_json_text(text: str, path: Path) -> Any:
    """JSON in which no object has a key twice.

    Raises:
        InputError: it is no JSON, or a key stands twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{path}: {twice!r} stands there twice")
        return value

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error


def _read_yaml(text: str, path: Path) -> Any:
    import yaml

    # the C parser reads ten thousand sentences in a second, the Python one in ten
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # a class of its own, so that PyYAML's is not changed for everybody
        pass

    # a date stays the text that it is
    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        value: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise InputError(f"{path}: line {line}: {key_node.value!r} is read as {key!r}: put the key in quotes")
            if key in value:
                raise InputError(f"{path}: line {line}: {key!r} stands there twice")
            value[key] = loader.construct_object(value_node, deep=True)
        return value

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{path}: {where}is not YAML ({problem})") from error
    except ValueError as error:  # a number or character that YAML's grammar lets through and Python does not
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not YAML ({error})") from error
