"""Names of classes for labels that are numbers or codes, as lists of TSN, mmaction2, VideoMAE and ViFi-CLIP have them.

Files: one name a line, counted from 0 (mmaction2's ``label_map.txt``); a number or code and a name
(``1 ApplyEyeMakeup`` of UCF101's ``classInd.txt``, ``0,walk``, ``3: crouch``, ``c012 Closing a door``); CSV with a
head line ``id,name`` (ViFi-CLIP, X-CLIP, BIKE); JSON or YAML with a list, ``{"0": "walk"}`` or ``{"walk": 0}``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from actprompt.data.readers.lists.splits import read_lines
from icube_common.errors import InputError, nearest
from icube_common.knowledge.names import name_key

EXPECTED = "the names of the classes, one a line"
NUMBER = re.compile(r"[+-]?\d+(?:\.0+)?")
_CODED = re.compile(r"(?P<code>\d+|[A-Za-z]{1,2}\d+)\s*[\s,;:]\s*(?P<name>\D.*)")
_TURNED = re.compile(r"(?P<name>.*\D)\s*[\s,;:]\s*(?P<code>\d+)")
_CODE_HEADS = ("id", "index", "idx", "label", "number", "code", "classid", "classidx", "labelid", "target")
_NAME_HEADS = ("name", "class", "classname", "labelname", "action", "actionname", "activity", "category", "text")


@dataclass(frozen=True)
class ClassNames:
    """The classes of a file.

    Attributes:
        path: the file.
        names: number or code -> name, in the order of the file's numbers.
    """

    path: Path
    names: Mapping[str, str]

    def look_up(self, label: str) -> str:
        """The name of a label, which is a number, a code, or a name that the file has.

        Raises:
            InputError: none of them.
        """
        key = label_key(label)
        if key in self.names:
            return self.names[key]
        if label in self.names.values():
            return label
        if NUMBER.fullmatch(label) and all(code.isdigit() for code in self.names):
            numbers = [int(code) for code in self.names]
            raise InputError(
                f"label {label} is none of the {len(numbers)} classes of {self.path}, which are numbered "
                f"{min(numbers)} to {max(numbers)}: a line '<number> <name>' for each class sets other numbers"
            )
        close = nearest(label, [*self.names, *self.names.values()])
        hint = f"; did you mean {close!r}?" if close else ""
        raise InputError(f"label {label!r} is no class of {self.path}{hint}")


def label_key(label: str) -> str:
    """A label as a key: ``"007"`` and pandas' ``"7.0"`` are 7."""
    return str(int(float(label))) if NUMBER.fullmatch(label) else label


def check_labels(labels: Iterable[str], where: Path) -> None:
    """Refuse labels that are numbers: prompts would read "a photo of a 7".

    Raises:
        InputError: a label is a number.
    """
    numbers = sorted({label for label in labels if NUMBER.fullmatch(label)}, key=float)
    if numbers:
        listed = ", ".join(numbers[:3]) + (", ..." if len(numbers) > 3 else "")
        raise InputError(f"{where}: labels are numbers ({listed}): give the classes' names with --class-names FILE")


def check_distinct(labels: Iterable[str], where: Path) -> None:
    """Refuse class names that are one name to a reader, and those that are no text.

    Raises:
        InputError: two names differ only in case, spaces or punctuation, or one holds a line break.
    """
    first_label: dict[str, str] = {}
    for label in sorted(set(labels)):
        if not label.isprintable():
            raise InputError(f"{where}: class {label!r} holds a line break or another control character: rename it")
        other = first_label.setdefault(name_key(label) or label, label)
        if other != label:
            raise InputError(
                f"{where}: classes {other!r} and {label!r} differ only in case, spaces or punctuation: spell them alike"
            )


def read_class_names(path: str | Path) -> ClassNames:
    """Read a file of class names.

    Raises:
        InputError: it cannot be read, is of another form, misses a name or has one twice.
    """
    path = Path(path)
    text = read_lines(path, EXPECTED)
    rows = _structured(path, text) if path.suffix.lower() in (".json", ".yaml", ".yml") else _lines(path, text)
    names: dict[str, str] = {}
    for code, name in rows:
        if not name:
            raise InputError(f"{path}: class {code} has no name")
        if code in names:
            raise InputError(f"{path}: number {code} is there twice")
        names[code] = name
    if not names:
        raise InputError(f"{path}: no class in it; expected {EXPECTED}")
    check_labels(names.values(), path)
    if len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise InputError(f"{path}: class {twice!r} is there twice")
    check_distinct(names.values(), path)
    if all(code.isdigit() for code in names):
        names = {code: names[code] for code in sorted(names, key=int)}
    return ClassNames(path, names)


def _lines(path: Path, text: str) -> list[tuple[str, str]]:
    """(number or code, name) of the lines of a text or CSV file."""
    lines = [line.strip() for line in text.strip("\n").split("\n")]
    lines = [line for line in lines if not line.startswith("#")]
    content = [line for line in lines if line]
    if head := _head(content):
        return _table(path, content, *head)
    for pattern in (_CODED, _TURNED):
        matches = [match for line in content if (match := pattern.fullmatch(line))]
        codes = [label_key(match["code"]) for match in matches]
        names = {_plain(match["name"]) for match in matches}
        distinct = content and len(matches) == len(content) == len(set(codes)) == len(names)
        # "walk 1" is a numbered name only where the numbers run through
        if distinct and (pattern is _CODED or sorted(map(int, codes)) in (_range(codes, 0), _range(codes, 1))):
            return [(code, _plain(match["name"])) for code, match in zip(codes, matches, strict=True)]
    if (gap := next((at for at, line in enumerate(lines) if not line), None)) is not None and content:
        raise InputError(f"{path}: an empty line among the names ({gap + 1}): which number has the next class?")
    return [(str(number), _plain(line)) for number, line in enumerate(content)]


def _range(codes: list[str], start: int) -> list[int]:
    return list(range(start, start + len(codes)))


def _plain(name: str) -> str:
    """A name without the quotes of a CSV file."""
    name = name.strip()
    return name[1:-1].replace('""', '"').strip() if len(name) > 1 and name[0] == name[-1] == '"' else name


def _head(lines: list[str]) -> tuple[str, int, int] | None:
    """Delimiter, column of the number and column of the name, where the first line is a head line."""
    for delimiter in ",\t;":
        cells = [re.sub(r"[\s_-]", "", cell).strip('"').lower() for cell in (lines or [""])[0].split(delimiter)]
        code = next((cells.index(word) for word in _CODE_HEADS if word in cells), None)
        name = next((cells.index(word) for word in _NAME_HEADS if word in cells), None)
        if name is not None and code is not None:
            return delimiter, code, name
    return None


def _table(path: Path, lines: list[str], delimiter: str, code: int, name: int) -> list[tuple[str, str]]:
    """(number or code, name) of the lines below a head line."""
    entries = []
    try:
        for row in csv.reader(lines[1:], delimiter=delimiter, strict=True):
            if len(row) <= max(code, name):
                raise InputError(f"{path}: {delimiter.join(row)!r}: fewer columns than the head line")
            entries.append((label_key(row[code].strip()), row[name].strip()))
    except csv.Error as error:
        raise InputError(f"{path}: not readable as a table ({error})") from error
    return entries


def _structured(path: Path, text: str) -> list[tuple[str, str]]:
    """(number or code, name) of a JSON or YAML file."""
    value = _json_pairs(path, text) if path.suffix.lower() == ".json" else _yaml_pairs(path, text)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], tuple) and isinstance(value[0][1], list):
        value = value[0][1]  # {"names": [...]}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [(str(number), name.strip()) for number, name in enumerate(value)]
    if isinstance(value, list) and all(isinstance(item, tuple) and isinstance(item[1], str | int) for item in value):
        pairs = [(str(key).strip(), str(item).strip()) for key, item in value]
        if all(NUMBER.fullmatch(item) for _, item in pairs):
            pairs = [(item, key) for key, item in pairs]  # {"walk": 0}
        return [(label_key(code), name) for code, name in pairs]
    raise InputError(f"{path}: expected a list of names, or a mapping of numbers and names")


def _json_pairs(path: Path, text: str) -> object:
    """JSON with each mapping as a list of (key, value), so that a key that is there twice is seen."""
    try:
        return json.loads(text, object_pairs_hook=list)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from error


def _yaml_pairs(path: Path, text: str) -> object:
    """YAML of strings with each mapping as a list of (key, value); "no" and "on" stay names."""
    import yaml

    def plain(node: yaml.Node | None) -> object:
        if isinstance(node, yaml.MappingNode):
            return [(plain(key), plain(value)) for key, value in node.value]
        if isinstance(node, yaml.SequenceNode):
            return [plain(item) for item in node.value]
        return None if node is None else node.value

    try:
        return plain(yaml.compose(text, Loader=yaml.BaseLoader))
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
