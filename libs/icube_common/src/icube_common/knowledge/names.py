"""Class names: lists of them in files, and the same class spelt in different ways."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from icube_common.errors import InputError, nearest
from icube_common.knowledge.files import read_utf8
from icube_common.knowledge.sentences import check_text, one_line

COLUMNS = ("name", "class", "class_name", "label")
# "12 walk", "12: walk", "c012 walk", "12,walk": how lists of classes are numbered
NUMBERED = re.compile(r"c?(\d+)\s*[:,\s]\s*(\S.*)")
# between a small and a capital letter, and before the last of several capitals: "BlowDry", "TVScreen"
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def readable_name(name: str) -> str:
    """A class name as words: ``ApplyEyeMakeup`` and ``apply_eye_makeup`` become ``apply eye makeup``.

    Words in capitals (``AD``) and what stands in brackets stay.
    """
    words = CAMEL.sub(" ", name.replace("_", " ")).split()
    return " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words)


def name_key(name: str) -> str:
    """Key of a class name, equal for all spellings: letters and digits in lower case."""
    return "".join(character for character in name.casefold() if character.isalnum())


def match_classes(class_names: Sequence[str], candidates: Iterable[str]) -> dict[str, str]:
    """Match names to classes, whatever the case, the spaces and the underscores.

    Returns:
        wanted name -> found name, for those that have one, in the order of ``class_names``.

    Raises:
        InputError: two names of one list differ in nothing but that.
    """
    by_key: list[dict[str, str]] = []
    for names in (class_names, candidates):
        keys: dict[str, str] = {}
        for name in names:
            key = name_key(name) or name
            if key in keys:
                raise InputError(f"class {name!r}: is the same as {keys[key]!r}; class names must differ in letters")
            keys[key] = name
        by_key.append(keys)
    return {name: by_key[1][key] for key, name in by_key[0].items() if key in by_key[1]}


def name_them(names: Iterable[str], candidates: Iterable[str] = (), limit: int = 20) -> str:
    """Names in one line, each with the nearest known spelling where there is one."""
    candidates = list(candidates)
    listed = []
    for name in names:
        close = nearest(name, candidates)
        listed.append(repr(name) + (f" (did you mean {close!r}?)" if close else ""))
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The class names in a file, in its order.

    Forms: text with one name a line, numbered lines (``12 walk``, ``12: walk``, ``c012 walk``) losing their number
    where every line has another one; CSV with a column ``name``, ``class``, ``class_name`` or ``label``; JSON with a
    list of names, or a mapping of index to name.

    Raises:
        InputError: the file is missing, empty or of another form, or a name stands there twice.
    """
    path = Path(path)
    readers = {".csv": _csv_names, ".json": _json_names}
    names = readers.get(path.suffix.lower(), _text_names)(read_utf8(path), path)
    if not names:
        raise InputError(f"{path}: holds no class name")
    seen_names = set()
    for name in names:
        try:
            check_text(name, "class name")
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if name in seen_names:
            raise InputError(f"{path}: class {name!r} stands there twice")
        seen_names.add(name)
    return tuple(names)


def _text_names(text: str, path: Path) -> list[str]:
    lines = [one_line(line) for line in text.splitlines() if line.strip()]
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    numbers = [match[1] for match in numbered if match]
    if len(numbers) == len(lines) and len(set(numbers)) == len(lines):
        return [match[2] for match in numbered if match]
    return lines


def _csv_names(text: str, path: Path) -> list[str]:
    try:
        rows = list(csv.DictReader(text.splitlines(), strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: not readable as CSV ({error})") from error
    header = list(rows[0]) if rows else []
    column = next((name for name in COLUMNS if name in header), None)
    if column is None:
        raise InputError(f"{path}: needs a column {' or '.join(map(repr, COLUMNS))} (found {header})")
    return [one_line(row[column] or "") for row in rows]


def _json_names(text: str, path: Path) -> list[str]:
    try:
        value: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    names = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: must hold a list of class names, or a mapping of index to name")
    return [one_line(name) for name in names]
