"""Lists of clips: one list, or one for each part of a split, in the dialects of `actprompt.data.readers.lists.files`.

Paths are absolute, or relative to the list's folder (``--root``: to another one). Columns ``subject``, ``camera`` and
``setup`` are kept; ``skeleton`` is the path of a clip's skeleton file (`actprompt.skeleton.io`); ``split`` is train,
validation or test, in the words of `actprompt.data.readers.lists.splits`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from actprompt.data.manifest import Clip, Protocol
from actprompt.data.readers.base import ReaderResult, Rejection, ids_of, read_skeletons
from actprompt.data.readers.lists.files import Row, locate, read_list
from actprompt.data.readers.lists.splits import PART_NAMES, part_of
from icube_common.errors import InputError


def find(source: Path | Mapping[str, Path], splits: Path | None = None, *, root: Path | None = None) -> ReaderResult:
    """One clip a row; a row that names no class or no file, or repeats an earlier one, is rejected.

    Args:
        source: the list, or part of a split -> its list.
        splits: of no use here.
        root: where relative paths start; by default in the folder of the (first) list.

    Raises:
        InputError: a list that cannot be read, without a row, or with a column ``split`` beside lists of parts; a file
            with two labels or in two parts; skeleton files that cannot be read or have other joints than each other.
    """
    lists = {"": source} if isinstance(source, Path) else dict(source)
    start = (root or next(iter(lists.values())).parent).resolve()
    if not start.is_dir():
        raise InputError(f"--root {root}: no such folder; expected the one where the paths of the list start")
    clips: dict[str, tuple[str, Clip]] = {}
    skeletons: dict[str, Path] = {}
    rejected: list[Rejection] = []
    warnings: list[str] = []
    moved = 0
    for part, path in lists.items():
        rows, list_warnings = read_list(path, start)
        warnings += list_warnings
        for row in rows:
            where = f"line {row.line}" if len(lists) == 1 else f"{path.name}: line {row.line}"
            if part and row.split:
                raise InputError(
                    f"{path}: line {row.line}: a column of splits in a list of the part {part}: remove one"
                )
            if problem := _problem(row):
                rejected.append(Rejection(Path(row.path).name, row.path, f"{where}: {problem}"))
                continue
            location = locate(start, row.path) or row.path
            moved += location != row.path
            clip = _clip(row, location, part)
            key = os.path.normpath(start / location)
            before, other = clips.setdefault(key, (where, clip))
            if other is clip:
                if row.skeleton:
                    skeletons[key] = start / (locate(start, row.skeleton) or row.skeleton)
                continue
            if (other.label, other.splits) != (clip.label, clip.splits):
                as_one, as_other = (" in ".join([repr(c.label), *c.splits.values()]) for c in (other, clip))
                raise InputError(f"{path}: {where}: {row.path} is {as_one} in {before} and {as_other} here: keep one")
            rejected.append(Rejection(Path(location).name, location, f"{where}: the same file as in {before}"))
    if moved:
        warnings.append(f"{moved} paths of the list were completed (suffix, \\ as /, a leading / as the root)")
    inside = [Path(key) for key in clips if Path(key).is_relative_to(start)]
    names = ids_of(inside, start)
    ids = {key: names.get(Path(key), clip.path) for key, (_, clip) in clips.items()}
    named = [Clip(**{**vars(clip), "id": ids[key]}) for key, (_, clip) in clips.items()]
    origin = ", ".join(path.name for path in lists.values())
    return ReaderResult(
        title=next(iter(lists.values())).stem,
        citation="",
        root=start,
        clips=named,
        rejected=rejected,
        class_names=sorted({clip.label for clip in named}),
        protocols=_protocols(named, origin if len(lists) > 1 else f"column split of {origin}", origin),
        skeletons=read_skeletons({ids[key]: path for key, path in skeletons.items()}),
        warnings=warnings,
    )


def _problem(row: Row) -> str | None:
    """The reason why a row is no clip, or None."""
    if not row.path or not row.label:
        return f"{'path' if not row.path else 'label'} is empty"
    if row.split and part_of(row.split) is None:
        return f"split {row.split!r} is none of {', '.join(sorted(PART_NAMES))}"
    return None


def _clip(row: Row, path: str, part: str) -> Clip:
    """A row as a clip without id, with the number of frames of the list."""
    split = part or part_of(row.split) or ""
    return Clip(
        id="",
        path=path,
        label=row.label,
        subject=row.subject or None,
        camera=row.camera or None,
        setup=row.setup or None,
        splits={"split": split} if split else {},
        n_frames=row.n_frames,
    )


def _protocols(clips: list[Clip], splits: str, origin: str) -> list[Protocol]:
    """The protocols that the columns of a list give."""
    protocols = []
    if any(clip.splits for clip in clips):
        protocols.append(Protocol(name="given", kind="split", column="split", source=splits))
    if all(clip.subject for clip in clips) and len({clip.subject for clip in clips}) > 1:
        protocols.append(
            Protocol(
                name="leave-one-subject-out",
                kind="leave-one-group-out",
                column="subject",
                source=f"column subject of {origin}",
            )
        )
    return protocols
