"""A CSV file with a head line: ``path,label`` and any of ``subject``, ``camera``, ``setup``, ``split``.

Paths are relative to the file's folder, or absolute. ``split`` is train, validation (val, validate) or test.
"""

from __future__ import annotations

from pathlib import Path

from actprompt.datasets.base import Found, Rejection, ids_of
from actprompt.manifest import Clip, Protocol
from icube_common.errors import InputError
from icube_common.tables import read_table

PART_NAMES = {
    "train": "train",
    "val": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
}


def find(source: Path, splits: Path | None = None) -> Found:
    """One clip a row; a row that names no class, no file or one that was there before is rejected.

    Raises:
        InputError: no such file, no head line with path and label, a column nobody knows, or no row.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file; expected a CSV file with the head line path,label")
    root = source.resolve().parent
    rows: list[tuple[int, Path, dict[str, str]]] = []
    rejected: list[Rejection] = []
    seen: dict[Path, int] = {}
    for line, row in read_table(source, ("path", "label")):
        if extra := set(row) - {"path", "label", "subject", "camera", "setup", "split"}:
            raise InputError(f"{source}: line 1: unknown column {sorted(extra)[0]!r}")
        reason = ""
        path = root / row["path"]
        if not row["path"] or not row["label"]:
            reason = f"line {line}: {'path' if not row['path'] else 'label'} is empty"
        elif row.get("split") and row["split"].lower() not in PART_NAMES:
            reason = f"line {line}: split {row['split']!r} is none of {', '.join(sorted(PART_NAMES))}"
        elif path in seen:
            reason = f"line {line}: the same file as in line {seen[path]}"
        if reason:
            rejected.append(Rejection(Path(row["path"]).name, row["path"], reason))
        else:
            seen[path] = line
            rows.append((line, path, row))
    if not rows and not rejected:
        raise InputError(f"{source}: no row below the head line")
    inside = [path for _, path, _ in rows if path.is_relative_to(root)]
    names = ids_of(inside, root)
    clips = [
        Clip(
            id=names.get(path, row["path"]),
            path=row["path"],
            label=row["label"],
            subject=row.get("subject") or None,
            camera=row.get("camera") or None,
            setup=row.get("setup") or None,
            splits={"split": PART_NAMES[row["split"].lower()]} if row.get("split") else {},
        )
        for _, path, row in rows
    ]
    protocols = []
    if any(clip.splits for clip in clips):
        protocols.append(Protocol(name="given", kind="split", column="split", source=f"column split of {source.name}"))
    if all(clip.subject for clip in clips) and len({clip.subject for clip in clips}) > 1:
        protocols.append(
            Protocol(
                name="leave-one-subject-out",
                kind="leave-one-group-out",
                column="subject",
                source=f"column subject of {source.name}",
            )
        )
    return Found(
        title=source.stem,
        citation="",
        root=root,
        clips=clips,
        rejected=rejected,
        class_names=sorted({clip.label for clip in clips}),
        protocols=protocols,
    )
