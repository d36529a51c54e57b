"""Knowledge files: YAML or JSON mappings, checked on reading, written atomically."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from icube_common.errors import InputError, unknown
from icube_common.io.runs import atomic_file
from icube_common.knowledge.sentences import Sentence, Source, check_text

SUFFIXES = (".yaml", ".yml", ".json")
HEADER = "# Sentences about classes. Made for `knowledge review` and for an editor; see `knowledge --help`.\n"


def check_suffix(path: str | Path) -> Path:
    """The path of a YAML or JSON file.

    Raises:
        InputError: it has another ending.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a knowledge file ends in {', '.join(SUFFIXES)}")
    return path


def read_utf8(path: Path) -> str:
    """Text of a file in UTF-8, with or without byte order mark.

    Raises:
        InputError: the file is missing or in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text in UTF-8") from error


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Content of a YAML or JSON file.

    Raises:
        InputError: the file is missing, no such format, no mapping, or has a key twice.
    """
    path = check_suffix(path)
    text = read_utf8(path)
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


KEYS = ("title", "domain", "language", "reviewer", "frozen", "sources", "classes")
FROZEN_KEYS = ("hash", "date", "classes")
SENTENCE_KEYS = tuple(field.name for field in dataclasses.fields(Sentence))
SOURCE_KEYS = tuple(field.name for field in dataclasses.fields(Source))


def parse_knowledge(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `ClassKnowledge`; ``frozen`` as the fields of its own class, or absent.

    Raises:
        InputError: an unknown or missing key, a value of another type; the message begins with the place.
    """
    check_keys(value, KEYS, required=("title", "classes"))
    fields: dict[str, Any] = {}
    for key in ("title", "domain", "language", "reviewer"):
        if key in value:
            fields[key] = value[key]
            if key != "domain" or value[key] != "":
                check_text(value[key], key)
    sources = _at("sources", _mapping, value.get("sources", {}))
    for name in sources:
        _at("sources", lambda key: check_text(key, "name"), name)
    fields["sources"] = {name: _at(f"sources.{name}", parse_source, result) for name, result in sources.items()}
    if value.get("frozen") is not None:
        fields["frozen"] = _at("frozen", _parse_frozen, value["frozen"])
    fields["classes"] = {
        name: _sentences(f"classes.{name}", result, fields["sources"])
        for name, result in _at("classes", _mapping, value["classes"]).items()
    }
    return fields


def parse_source(value: Any) -> Source:
    """A source written as a mapping.

    Raises:
        InputError: an unknown or missing key, a value of another type.
    """
    check_keys(value, SOURCE_KEYS, required=("kind",))
    return Source(**value)


def _sentences(where: str, value: Any, sources: Mapping[str, Source]) -> tuple[Sentence, ...]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: must be a list with at least one sentence")
    return tuple(
        _at(f"{where}[{number}]", lambda item: _parse_sentence(item, sources), item)
        for number, item in enumerate(value, start=1)
    )


def _parse_sentence(value: Any, sources: Mapping[str, Source]) -> Sentence:
    check_keys(value, SENTENCE_KEYS, required=("text", "source"))
    source = value["source"]
    if isinstance(source, str):
        if source not in sources:
            raise unknown("source", source, sources)
        source = sources[source]
    else:
        source = _at("source", parse_source, source)
    return Sentence(**{**value, "source": source})


def _parse_frozen(value: Any) -> dict[str, Any]:
    check_keys(value, FROZEN_KEYS, required=FROZEN_KEYS)
    check_text(value["hash"], "hash")
    check_text(value["date"], "date")
    for name, result in _at("classes", _mapping, value["classes"]).items():
        check_text(result, f"classes.{name}")
    return dict(value)


def check_keys(value: Any, allowed: Sequence[str], *, required: Sequence[str]) -> None:
    """Check that a value is a mapping with the required keys and no unallowed ones.

    Raises:
        InputError: it is not; the key is named.
    """
    for key in _mapping(value):
        if key not in allowed:
            raise unknown("key", key, allowed)
    for key in required:
        if key not in value:
            raise InputError(f"{key!r} is missing")


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"must be a mapping (found {value!r:.60})")
    return value


def _at(where: str, parse: Callable[[Any], Any], value: Any) -> Any:
    """Parse a part, its place put in front of what is wrong with it."""
    try:
        return parse(value)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
