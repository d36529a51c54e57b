"""Tables of labels: a row for each recording, or several rows with a text each.

Columns (in any order, spelt in any case): ``file`` and at least one of ``action``, ``subject``, ``style``, ``text``;
common other names for them are in `COLUMNS`. Several ``text`` columns (``text1``, ``text2``), or ``|`` within one, are
several texts. Cells are divided by commas, semicolons or tabs. An empty cell, or one of `MISSING`, is no label.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

from icube_common.errors import InputError

logger = logging.getLogger(__name__)

# spelt without case, spaces, underscores and hyphens; the first of several that are there is taken
COLUMNS: dict[str, tuple[str, ...]] = {
    "file": (
        "file", "filename", "path", "filepath", "relpath", "relativepath", "recording", "clip", "clipid", "clipname",
        "motion", "motionfile", "bvh", "take", "name", "id",
    ),
    "action": ("action", "actionname", "label", "labelname", "class", "classname", "activity", "category"),
    "subject": (
        "subject", "subjectid", "person", "personid", "participant", "participantid", "performer", "performerid",
        "actor", "actorid",
    ),
    "style": ("style", "tag"),
    "text": ("text", "texts", "caption", "captions", "description", "descriptions", "sentence", "sentences"),
}  # fmt: skip
DELIMITERS = (",", ";", "\t")
MISSING = frozenset({"", "na", "n/a", "nan", "<na>", "none", "null", "-"})
"""Cells without a label, in any case."""
TEXTS = "|"
"""Between the texts of one cell."""

# row numbers that pandas writes
_INDEX = ("", "unnamed:0", "index")
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """Labels of a recording; None and empty where the table has none."""

    action: str | None = None
    subject: str | None = None
    style: str | None = None
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: line, file as the table spells it, and its labels."""

    line: int
    file: str
    annotation: Annotation = field(default_factory=Annotation)


def read_rows(path: Path) -> list[Row]:
    """The rows of a table; columns that are not read are named in the log.

    Raises:
        InputError: not readable as text, no head line with a column of files and one of labels, a row of another
            width, or one without a file; the line is named.
    """
    path = Path(path)
    lines = _read_text(path).splitlines(keepends=True)
    # Excel writes the delimiter above the table
    skipped = next((at for at, line in enumerate(lines) if line.strip() and not re.match(r"sep=.\s*$", line)), None)
    if skipped is None:
        raise InputError(f"--metadata {path}: is empty; a table with the columns file and action expected")
    delimiter = max(DELIMITERS, key=lambda sign: len(_places(_split(lines[skipped], sign))))
    head = _split(lines[skipped], delimiter)
    while head and not head[-1]:
        head.pop()
    places = _places(head)
    _check_head(path, skipped + 1, head, places)
    used = {at for kind, found in places.items() for at in (found if kind == "text" else found[:1])}
    ignored = [name for at, name in enumerate(head) if at not in used and _plain(name) not in _INDEX]
    if ignored:
        logger.warning("--metadata %s: columns that are not read: %s", path, ", ".join(ignored))
    rows: list[Row] = []
    reader = csv.reader(
        io.StringIO("".join(lines[skipped + 1 :])), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    start = 1
    try:
        for cells in reader:
            line, start = skipped + 1 + start, reader.line_num + 1
            cells = [cell.strip() for cell in cells]
            while len(cells) > len(head) and not cells[-1]:
                cells.pop()
            if any(cells):
                rows.append(_row(path, line, cells, head, places))
    except csv.Error as error:
        raise InputError(f"--metadata {path}: line {skipped + 1 + reader.line_num}: {error}") from error
    if not rows:
        raise InputError(f"--metadata {path}: no row below the head line")
    return rows


def _row(path: Path, line: int, cells: list[str], head: list[str], places: dict[str, list[int]]) -> Row:
    where = f"--metadata {path}: line {line}"
    if len(cells) != len(head):
        raise InputError(
            f"{where}: {len(cells)} cells, {len(head)} expected; put cells that hold the divider in quotes"
        )
    values = {kind: _value(cells[found[0]]) for kind, found in places.items() if kind != "text"}
    file = values.pop("file")
    if file is None:
        raise InputError(f"{where}: names no file")
    texts = [text for at in places.get("text", []) for text in cells[at].split(TEXTS)]
    known = tuple(dict.fromkeys(" ".join(text.split()) for text in texts if _value(text)))
    return Row(line=line, file=file, annotation=Annotation(texts=known, **values))


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"--metadata {path}: cannot be read ({error.strerror or error})") from error
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"--metadata {path}: line {line}: not UTF-8 text; save it as 'CSV UTF-8'") from error


def _check_head(path: Path, line: int, head: list[str], places: dict[str, list[int]]) -> None:
    where, shown = f"--metadata {path}: line {line}", ", ".join(map(repr, head))
    if "file" not in places:
        raise InputError(f"{where}: no column 'file' in the head line {shown}")
    if len(places) < 2:
        raise InputError(f"{where}: no column action, subject, style or text in the head line {shown}")
    names = [_plain(name) for name in head if _plain(name) not in _INDEX]
    twice = next((name for name in names if names.count(name) > 1 and name not in COLUMNS["text"]), None)
    if twice:
        raise InputError(f"{where}: column {twice!r} is there twice")


def _places(head: list[str]) -> dict[str, list[int]]:
    """Kind of column -> its places, the preferred name first; for texts all of them in the file's order."""
    places: dict[str, list[int]] = {}
    for kind, words in COLUMNS.items():
        names = [_plain(name) for name in head]
        if kind == "text":
            found = [at for at, name in enumerate(names) if re.sub(r"\d+$", "", name) in words]
        else:
            found = sorted(
                (at for at, name in enumerate(names) if name in words), key=lambda at: words.index(names[at])
            )
        if found:
            places[kind] = found
    return places


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return []


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _value(cell: str) -> str | None:
    cell = cell.strip()
    return None if cell.lower() in MISSING else cell
