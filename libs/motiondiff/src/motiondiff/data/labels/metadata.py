"""Labels of users: from the folders of recordings, and from a table.

A row names a recording by its path below the source, with or without the suffix, or by its name where it is unique; a
clip of a recording by its id. Case and the kind of slash do not matter; an absolute path may be of another machine.
Rows of one recording add their texts up and must agree in the rest. Cells of a table replace labels of files and
folders; empty cells do not.

Columns (in any order, spelt in any case): ``file`` and at least one of ``action``, ``subject``, ``style``, ``text``;
common other names for them are in `COLUMNS`. Several ``text`` columns (``text1``, ``text2``), or ``|`` within one, are
several texts. Cells are divided by commas, semicolons or tabs. An empty cell, or one of `MISSING`, is no label.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from icube_common.errors import InputError, unknown
from icube_common.io.csv import read_spreadsheet
from motiondiff.data.readers import FORMATS
from motiondiff.data.readers.base import ClipRef
from motiondiff.skeleton.motion import Motion

logger = logging.getLogger(__name__)

ACTION_FROM = ("folder", "parent")
"""The top folder below the source, or the parent folder of the file."""
_SHOWN = 5
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


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Labels of a user for the clips of one source.

    Attributes:
        table: the table's path for messages; empty without one.
        rows: the table's rows.
        by_reference: labels by the id of a reference.
        by_clip: labels by the `name_key` of a clip id, from rows that name no file.
        actions: action by the id of a reference, from folders; None for a file in no folder.
    """

    table: str = ""
    rows: tuple[Row, ...] = ()
    by_reference: dict[str, Annotation] = field(default_factory=dict)
    by_clip: dict[str, Annotation] = field(default_factory=dict)
    actions: dict[str, str | None] = field(default_factory=dict)

    def apply(self, reference: str, clip_id: str, motion: Motion) -> Motion:
        """The motion with its labels.

        Raises:
            InputError: no folder, or no row of the table, for it; the reason for ``rejected.csv``.
        """
        if reference in self.actions:
            if self.actions[reference] is None:
                raise InputError("--action-from: the file is in no folder below the source")
            motion = replace(motion, action=self.actions[reference])
        if not self.table:
            return motion
        keys = (name_key(clip_id), name_key(PurePosixPath(clip_id).name))
        annotation = next((self.by_clip[key] for key in keys if key in self.by_clip), self.by_reference.get(reference))
        if annotation is None:
            raise InputError(f"no row of {self.table} names it (the first row names {self.rows[0].file!r})")
        return replace(
            motion,
            action=annotation.action or motion.action,
            subject=annotation.subject or motion.subject,
            style=annotation.style or motion.style,
            texts=annotation.texts or motion.texts,
        )

    def warn_unmatched(self, clip_ids: Iterable[str]) -> None:
        """Log the rows that name neither a file nor one of these clips."""
        present = {name_key(name) for clip_id in clip_ids for name in (clip_id, PurePosixPath(clip_id).name)}
        left = [row for row in self.rows if name_key(row.file) in self.by_clip and name_key(row.file) not in present]
        if left:
            shown = ", ".join(f"line {row.line} {row.file}" for row in left[:_SHOWN])
            more = ", ..." if len(left) > _SHOWN else ""
            logger.warning("%s: %d rows match no recording: %s%s", self.table, len(left), shown, more)


def annotate(
    format: str,
    references: Sequence[ClipRef],
    source: str | Path,
    *,
    action_from: str | None = None,
    metadata: str | Path | None = None,
) -> Annotations:
    """Labels for the clips of a source.

    Args:
        format: a key of `motiondiff.data.readers.FORMATS`.
        references: the source's, from the format's reader.
        source: the folder, or the one file.
        action_from: one of `ACTION_FROM`.
        metadata: a table.

    Raises:
        InputError: folders of a format whose clips are no files, a broken table, a row that names several recordings,
            or rows of one recording that contradict each other.
    """
    base = Path(source) if Path(source).is_dir() else Path(source).parent
    files = {ref.clip_id: ref.files[0] for ref in references} if FORMATS[format].single_file else {}
    actions: dict[str, str | None] = {}
    if action_from is not None:
        if action_from not in ACTION_FROM:
            raise unknown("--action-from", action_from, ACTION_FROM)
        if not FORMATS[format].single_file:
            formats = ", ".join(name for name, info in FORMATS.items() if info.single_file)
            raise InputError(f"--action-from {action_from}: the clips of {format} are no files; for {formats}")
        actions = _actions_of_folders(files, base, action_from)
    if metadata is None:
        return Annotations(actions=actions)
    rows, table = read_rows(Path(metadata)), f"--metadata {metadata}"
    find = _Files(files, base)
    by_reference: dict[str, list[Row]] = {}
    by_clip: dict[str, list[Row]] = {}
    for row in rows:
        matches = find(row.file)
        if len(matches) > 1:
            raise InputError(
                f"{table}: line {row.line}: {row.file!r} is the name of {len(matches)} recordings: give the path below "
                f"{base}, as in {_below(files[min(matches)], base).as_posix()}"
            )
        if matches:
            by_reference.setdefault(next(iter(matches)), []).append(row)
        else:
            by_clip.setdefault(name_key(row.file), []).append(row)
    return Annotations(
        table=table,
        rows=tuple(rows),
        by_reference={name: _merged(table, matches) for name, matches in by_reference.items()},
        by_clip={name: _merged(table, matches) for name, matches in by_clip.items()},
        actions=actions,
    )


def name_key(name: str) -> str:
    """Normalised name of a file or clip: slashes, composed letters, no case."""
    plain = unicodedata.normalize("NFC", name.strip().replace("\\", "/")).casefold()
    return PurePosixPath(plain).as_posix()


class _Files:
    """Recordings by the names that a table may use."""

    def __init__(self, files: dict[str, Path], base: Path) -> None:
        self._base = f"{name_key(base.resolve().name)}/"
        self._by_path: dict[str, set[str]] = {}
        self._by_name: dict[str, set[str]] = {}
        for reference, path in files.items():
            below = _below(path, base)
            for one in (below, below.with_suffix("")):
                self._by_path.setdefault(name_key(one.as_posix()), set()).add(reference)
                self._by_path.setdefault(self._base + name_key(one.as_posix()), set()).add(reference)
            for name in (path.name, path.stem, reference):
                self._by_name.setdefault(name_key(name), set()).add(reference)

    def __call__(self, name: str) -> Collection[str]:
        """Ids of the references with a name: one, none, or several."""
        key = name_key(name)
        if matches := self._by_path.get(key) or self._by_name.get(key):
            return matches
        # from elsewhere: an absolute path, or one that begins above the source
        elsewhere = PurePosixPath(key).is_absolute() or PureWindowsPath(key).is_absolute()
        parts = PurePosixPath(key).parts
        tails = ("/".join(parts[index:]) for index in range(1, len(parts)))
        return next(
            (
                self._by_path[tail]
                for tail in tails
                if tail in self._by_path and (elsewhere or tail.startswith(self._base))
            ),
            (),
        )


def _below(path: Path, base: Path) -> Path:
    """Path below the source; the name alone for a file beside it."""
    return path.relative_to(base) if path.is_relative_to(base) else Path(path.name)


def _merged(table: str, rows: Sequence[Row]) -> Annotation:
    """Labels of one recording from all its rows."""
    fields: dict[str, str | None] = {}
    for kind in ("action", "subject", "style"):
        values = {value: row.line for row in reversed(rows) if (value := getattr(row.annotation, kind)) is not None}
        if len(values) > 1:
            shown = " and ".join(
                f"{value!r} (line {line})" for value, line in sorted(values.items(), key=lambda v: v[1])
            )
            raise InputError(f"{table}: {rows[0].file!r} has more than one {kind}: {shown}")
        fields[kind] = next(iter(values), None)
    return Annotation(texts=tuple(dict.fromkeys(text for row in rows for text in row.annotation.texts)), **fields)


def _actions_of_folders(files: dict[str, Path], base: Path, action_from: str) -> dict[str, str | None]:
    folders = {reference: _below(path, base).parts[:-1] for reference, path in files.items()}
    actions = {
        reference: (parts[0 if action_from == "folder" else -1] if parts else None)
        for reference, parts in folders.items()
    }
    counted = Counter(actions.values())
    deeper = len({parts for parts in folders.values()})
    if action_from == "folder" and len(counted) == 1 and deeper > 1:
        logger.warning(
            "--action-from folder: all files lie below %s, so they have one action; --action-from parent takes the "
            "folder that each file lies in",
            next(iter(counted)),
        )
    return actions


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
