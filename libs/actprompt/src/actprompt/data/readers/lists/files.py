"""Lists of clips in the dialects of published code and of spreadsheets.

With a head line: any order of columns, divided by commas, semicolons, tabs or bars; see
`actprompt.data.readers.lists.columns`. Without one, a line is ``path label`` (mmaction2's videos, VideoMAE, ViFi-CLIP),
``path number_of_frames label`` (TSN, TSM, mmaction2's rawframes), or the same with one of these characters between.
Paths may hold spaces; a path without a suffix is that of the only video of this name.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from actprompt.data.readers.base import VIDEO_SUFFIXES
from actprompt.data.readers.lists.class_names import NUMBER
from actprompt.data.readers.lists.columns import DELIMITERS, Head, find_head
from actprompt.data.readers.lists.splits import part_of, read_lines
from icube_common.errors import InputError

EXPECTED = "a list of clips: lines '<path> <label>', or a table with the head line path,label"
# rows that are looked up to find out how a list is divided
_TRIED = 500
_MANY = re.compile(r"\d+(\s*[\s,;|]\s*\d+)+")
_BY_SUFFIX = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))}))\s+(.*)", re.IGNORECASE)
_NO_LABEL = ("", "nan", "na", "n/a", "<na>", "null")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A clip of a list; missing values are empty, or 0."""

    line: int
    path: str
    label: str
    subject: str = ""
    camera: str = ""
    setup: str = ""
    skeleton: str = ""
    split: str = ""
    n_frames: int = 0


def read_list(path: Path, root: Path) -> tuple[list[Row], list[str]]:
    """The rows of a list, and what a user has to know about how they were read.

    Args:
        path: the list.
        root: where its relative paths start.

    Raises:
        InputError: not readable as a list, no row, or several labels a clip.
    """
    _named.cache_clear()
    locate.cache_clear()
    text = read_lines(path, EXPECTED)
    if path.suffix.lower() in (".json", ".jsonl") or text.lstrip().startswith(('{"', "[{", '["')):
        raise InputError(f"{path}: JSON is not read as a list; expected {EXPECTED}")
    # Excel writes the delimiter above the table
    lines = ["" if re.fullmatch(r"sep=.", line.strip()) else line for line in text.split("\n")]
    first = next((at for at, line in enumerate(lines) if line.strip() and not _is_comment(line, root)), None)
    if first is None:
        raise InputError(f"{path}: no row in it; expected {EXPECTED}")
    head = find_head(lines[first], path, first + 1)
    if head is not None:
        rows, warnings = _rows_below(path, head, lines, first, root)
    else:
        rows, warnings = _rows_without_head(path, lines, root), []
    if not rows:
        raise InputError(f"{path}: no row below the head line")
    for row in rows:
        if _MANY.fullmatch(row.label):
            raise InputError(f"{path}: line {row.line}: several labels ({row.label}): a clip has one class here")
    return [_without_missing(row) for row in rows], warnings


@cache
def locate(root: Path, path: str) -> str | None:
    r"""A path of a list as it is on this machine, or None where there is no such file or folder.

    Tried in this order: as it stands, with ``\`` as ``/``, below the root although it begins with ``/``, and with the
    suffix of the only video of its name.
    """
    if not path.strip():
        return None
    base = os.fspath(root)
    for spelt in dict.fromkeys((path, path.replace("\\", "/"))):
        for below in dict.fromkeys((spelt, spelt.lstrip("/"))):
            if below and os.path.exists(os.path.join(base, below)):
                return below
            folder, name = os.path.split(below)
            names = _named(os.path.join(base, folder)).get(name, ())
            if len(names) == 1:
                return os.path.join(folder, names[0])
    return None


@cache
def _named(folder: str) -> dict[str, tuple[str, ...]]:
    """Name without suffix -> the videos of that name in a folder."""
    columns: dict[str, tuple[str, ...]] = {}
    try:
        names = sorted(os.listdir(folder))
    except (OSError, ValueError):
        return columns
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in VIDEO_SUFFIXES:
            columns[stem] = (*columns.get(stem, ()), name)
    return columns


def _is_comment(line: str, root: Path) -> bool:
    """True for a line that begins with ``#`` and is no clip of such a name."""
    line = line.strip()
    return (
        line.startswith("#")
        and _split_at_spaces(line, root) is None
        and not any(locate(root, line.partition(delimiter)[0]) for delimiter in DELIMITERS if delimiter in line)
    )


def _without_missing(row: Row) -> Row:
    """The row, with a label that pandas writes for a missing one made empty."""
    return Row(**{**vars(row), "label": ""}) if row.label.lower() in _NO_LABEL else row


def _cells(path: Path, lines: Sequence[str], delimiter: str, root: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of the rows of a table; blank lines and comments are passed over."""
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, strict=True, skipinitialspace=True)
    start = 1
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            cells = [cell.strip() for cell in row]
            if any(cells) and not (cells[0].startswith("#") and _is_comment(lines[line - 1], root)):
                yield line, cells
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}") from error


def _rows_below(path: Path, head: Head, lines: Sequence[str], first: int, root: Path) -> tuple[list[Row], list[str]]:
    """The rows below a head line, and a note on the columns that are not read."""
    width, table = len(head.names), []
    below = lines[first + 1 :]
    lines_of_cells: Iterable[tuple[int, list[str]]] = (
        ((at, line.split()) for at, line in enumerate(below, start=1) if line.strip())
        if head.delimiter == " "
        else _cells(path, below, head.delimiter, root)
    )
    for line, cells in lines_of_cells:
        while len(cells) > width and not cells[-1]:
            cells.pop()
        if len(cells) != width:
            raise InputError(f"{path}: line {line + first + 1}: {len(cells)} fields, {width} expected")
        table.append((line + first + 1, cells))
    # a column of names is taken before one of numbers
    label = next(
        (at for at in head.places["label"] if not all(NUMBER.fullmatch(cells[at]) for _, cells in table)),
        head.places["label"][0],
    )
    rows = []
    for line, cells in table:
        values = {kind: cells[places[0]] for kind, places in head.places.items()} | {"label": cells[label]}
        count = values.pop("n_frames", "")
        if count and not NUMBER.fullmatch(count):
            raise InputError(f"{path}: line {line}: {count!r} is no number of frames")
        rows.append(Row(line=line, n_frames=int(float(count or 0)), **values))
    ignored = head.ignored(label)
    return rows, [f"{path.name}: columns that are not read: {', '.join(ignored)}"] if ignored else []


def _rows_without_head(path: Path, lines: Sequence[str], root: Path) -> list[Row]:
    """The rows of a list without a head line, divided in the way in which most of its paths are there."""
    best: tuple[int, list[tuple[int, list[str]]]] | None = None
    for delimiter in (*DELIMITERS, " "):
        try:
            table = list(_spaced(lines, root) if delimiter == " " else _cells(path, lines, delimiter, root))
        except InputError:
            continue  # an open quotation mark in another dialect
        if not all(len(cells) > 1 for _, cells in table):
            continue
        table = _without_index(table)
        there = sum(locate(root, cells[0]) is not None for _, cells in table[:_TRIED])
        if best is None or there > best[0]:
            best = there, table
    if best is None:
        line = next(at for at, line in enumerate(lines, start=1) if len(line.split()) == 1)
        raise InputError(f"{path}: line {line}: {lines[line - 1].strip()!r} has no label; expected {EXPECTED}")
    there, table = best
    _check_order(path, table, there, root)
    return _named_cells(path, table)


def _without_index(table: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """A table without the running number that pandas writes before each row."""
    first = [cells[0] for _, cells in table]
    if min(len(cells) for _, cells in table) > 2 and first == [str(number) for number in range(len(first))]:
        return [(line, cells[1:]) for line, cells in table]
    return table


def _check_order(path: Path, table: Sequence[tuple[int, list[str]]], there: int, root: Path) -> None:
    """Refuse an unknown head line, and labels before paths."""
    line, cells = table[0]
    wordy = not any(NUMBER.fullmatch(cell) or "/" in cell or os.path.splitext(cell)[1] for cell in cells)
    if wordy and locate(root, cells[0]) is None and (there or _numbers([cells[-1] for _, cells in table[1:]])):
        raise InputError(
            f"{path}: line {line}: {cells} is no clip, nor a head line with columns such as path and label: rename them"
        )
    if not there and any(locate(root, cells[-1]) for _, cells in table[:_TRIED]):
        raise InputError(f"{path}: line {line}: the path stands last: put the head line label,path above the rows")


def _numbers(cells: Sequence[str]) -> bool:
    return bool(cells) and all(NUMBER.fullmatch(cell) for cell in cells)


def _named_cells(path: Path, table: Sequence[tuple[int, list[str]]]) -> list[Row]:
    """Rows of cells as path and label, with a number of frames or a part of a split where there are three."""
    widths = {len(cells) for _, cells in table}
    numeric = all(_numbers(cells[1:]) for _, cells in table)
    line = next((line for line, cells in table if len(cells) > 2), 0)
    if widths == {2}:
        return [Row(line=line, path=cells[0], label=cells[1]) for line, cells in table]
    if widths == {3} and numeric and all(float(cells[1]) >= 1 for _, cells in table):
        return [Row(line=line, path=cells[0], n_frames=int(float(cells[1])), label=cells[2]) for line, cells in table]
    if widths == {3} and all(part_of(cells[2]) for _, cells in table):
        return [Row(line=line, path=cells[0], label=cells[1], split=cells[2]) for line, cells in table]
    if numeric:
        problem = "parts of longer videos" if widths == {4} else "several labels a clip"
        raise InputError(
            f"{path}: line {line}: {max(widths)} columns ({problem}?); expected '<path> <label>' or "
            "'<path> <frames> <label>' in all lines: a clip has one class here, and is a file or folder of its own"
        )
    raise InputError(f"{path}: line {line}: more than path and label: name the columns in a head line path,label,...")


def _spaced(lines: Sequence[str], root: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, path and what follows) of lines that are divided by white space."""
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (line.lstrip().startswith("#") and _is_comment(line, root)):
            continue
        path, rest = _split_at_spaces(line.strip(), root) or _guess_split(line.strip())
        # a label may be of several words, numbers are columns
        words = rest.split()
        yield number, [path, *(words if _numbers(words) else [rest] if rest else [])]


def _split_at_spaces(line: str, root: Path) -> tuple[str, str] | None:
    """The longest beginning of a line that is a path, and the rest; None where none is one."""
    if match := re.fullmatch(r'"((?:[^"]|"")*)"\s+(.*)', line):
        return match[1].replace('""', '"'), match[2]
    ends = [(len(line), len(line)), *reversed([match.span() for match in re.finditer(r"\s+", line)])]
    for start, end in ends:
        if (path := locate(root, line[:start])) is not None:
            # "walk 01.mp4 0", whose file is not there, is not folder "walk"
            wrong = os.path.isdir(root / path) and _BY_SUFFIX.fullmatch(line) is not None
            return None if wrong else (line[:start], line[end:])
    return None


def _guess_split(line: str) -> tuple[str, str]:
    """Path and rest of a line whose file is not there: up to a suffix, or to the numbers, or to the first space."""
    match = (
        _BY_SUFFIX.fullmatch(line)
        or re.fullmatch(r"(.*?)((?:\s+[+-]?\d+)+)", line)
        or re.fullmatch(r"(\S+)\s+(.*)", line)
    )
    return (match[1], match[2].strip()) if match else (line, "")
