"""From the mapping that a knowledge file holds to its fields, each key and type checked on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from icube_common.errors import InputError, unknown
from icube_common.knowledge.sentences import Sentence, Source, check_text

KEYS = ("title", "domain", "language", "reviewer", "frozen", "sources", "classes")
FROZEN_KEYS = ("hash", "date", "classes")
SENTENCE_KEYS = tuple(field.name for field in dataclasses.fields(Sentence))
SOURCE_KEYS = tuple(field.name for field in dataclasses.fields(Source))


def parse_knowledge(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `ClassKnowledge`; ``frozen`` as the fields of its own class, or absent.

    Raises:
        InputError: an unknown or missing key, a value of another type; the message begins with the place.
    """
    _check_keys(value, KEYS, required=("title", "classes"))
    fields: dict[str, Any] = {}
    for key in ("title", "domain", "language", "reviewer"):
        if key in value:
            fields[key] = value[key]
            if key != "domain" or value[key] != "":
                check_text(value[key], key)
    sources = _at("sources", _mapping, value.get("sources", {}))
    for name in sources:
        _at("sources", lambda key: check_text(key, "name"), name)
    fields["sources"] = {name: _at(f"sources.{name}", parse_source, found) for name, found in sources.items()}
    if value.get("frozen") is not None:
        fields["frozen"] = _at("frozen", _parse_frozen, value["frozen"])
    fields["classes"] = {
        name: _sentences(f"classes.{name}", found, fields["sources"])
        for name, found in _at("classes", _mapping, value["classes"]).items()
    }
    return fields


def parse_source(value: Any) -> Source:
    """A source written as a mapping.

    Raises:
        InputError: an unknown or missing key, a value of another type.
    """
    _check_keys(_mapping(value), SOURCE_KEYS, required=("kind",))
    return Source(**value)


def _sentences(where: str, value: Any, sources: Mapping[str, Source]) -> tuple[Sentence, ...]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: must be a list with at least one sentence")
    return tuple(
        _at(f"{where}[{number}]", lambda item: _parse_sentence(item, sources), item)
        for number, item in enumerate(value, start=1)
    )


def _parse_sentence(value: Any, sources: Mapping[str, Source]) -> Sentence:
    _check_keys(_mapping(value), SENTENCE_KEYS, required=("text", "source"))
    source = value["source"]
    if isinstance(source, str):
        if source not in sources:
            raise unknown("source", source, sources)
        source = sources[source]
    else:
        source = _at("source", parse_source, source)
    return Sentence(**{**value, "source": source})


def _parse_frozen(value: Any) -> dict[str, Any]:
    _check_keys(_mapping(value), FROZEN_KEYS, required=FROZEN_KEYS)
    check_text(value["hash"], "hash")
    check_text(value["date"], "date")
    for name, found in _at("classes", _mapping, value["classes"]).items():
        check_text(found, f"classes.{name}")
    return dict(value)


def _check_keys(value: Mapping[str, Any], known: tuple[str, ...], *, required: tuple[str, ...]) -> None:
    for key in value:
        if key not in known:
            raise unknown("key", key, known)
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
