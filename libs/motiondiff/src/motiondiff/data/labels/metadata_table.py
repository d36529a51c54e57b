"""Tables of labels: a row for each recording, or several rows with a text each.

Columns (in any order, spelt in any case): ``file`` and at least one of ``action``, ``subject``, ``style``, ``text``;
common other names for them are in `COLUMNS`. Several ``text`` columns (``text1``, ``text2``), or ``|`` within one, are
several texts. Cells are divided by commas, semicolons or tabs. An empty cell, or one of `MISSING`, is no label.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

from icube_common.errors import InputError
from icube_common.io.csv import read_spreadsheet

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
MISSING = frozenset({"", "na", "n/a", "nan", "<na>", "none", "null", "-"})
"""Cells without a label, in any case."""
TEXTS = "|"
"""Between the texts of one cell."""

# row numbers that pandas writes
_INDEX = ("", "unnamed:0", "index")


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
    """Rows of a table (`icube_common.io.csv.read_spreadsheet`); unknown columns are logged.

    Raises:
        InputError: an unreadable or empty table, no column of files or no column of labels, a row of another width, or
            a row without a file.
    """
    where = f"--metadata {path}"
    table = list(read_spreadsheet(Path(path), (), is_missing=_is_missing))
    if not table:
        raise InputError(f"{where}: no row below the head line")
    head = list(table[0][1])
    columns = _columns(head)
    if "file" not in columns or len(columns) < 2:
        problem = "action, subject, style or text" if "file" in columns else "'file'"
        raise InputError(f"{where}: line 1: no column {problem} in the head line {', '.join(map(repr, head))}")
    used = {name for kind, names in columns.items() for name in (names if kind == "text" else names[:1])}
    if ignored := [name for name in head if name not in used and _plain(name) not in _INDEX]:
        logger.warning("%s: columns that are not read: %s", where, ", ".join(ignored))
    rows = []
    for line, cells in table:
        values = {kind: cells[names[0]] or None for kind, names in columns.items() if kind != "text"}
        file = values.pop("file")
        if file is None:
            raise InputError(f"{where}: line {line}: names no file")
        texts = [" ".join(text.split()) for name in columns.get("text", ()) for text in cells[name].split(TEXTS)]
        valid = dict.fromkeys(text for text in texts if not _is_missing(text))
        rows.append(Row(line=line, file=file, annotation=Annotation(texts=tuple(valid), **values)))
    return rows


def _columns(head: list[str]) -> dict[str, list[str]]:
    """Kind of column -> its columns, the preferred name first; all of them for texts, in the file's order."""
    columns: dict[str, list[str]] = {}
    for kind, words in COLUMNS.items():
        if kind == "text":
            names = [name for name in head if re.sub(r"\d+$", "", _plain(name)) in words]
        else:
            names = sorted((name for name in head if _plain(name) in words), key=lambda name: words.index(_plain(name)))
        if names:
            columns[kind] = names
    return columns


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING
