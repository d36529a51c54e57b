"""A folder per class: ``<class>/.../<any name>.mp4``, or ``<part>/<class>/...`` with parts train, val and test.

The first folder below the source (below the part, where there are parts) names the class. A clip is a video file or a
folder of frames. ``<name>.npz`` beside a video is its skeleton where it has the arrays of one
(`actprompt.skeleton.io`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from actprompt.data.manifest import Clip, Protocol
from actprompt.data.readers.base import ReaderResult, Rejection, ids_of, read_skeletons, reject_media, scan_folder
from actprompt.data.readers.lists.splits import part_of
from actprompt.skeleton.io import is_skeleton_file
from icube_common.data.reader import require_folder
from icube_common.errors import InputError


def find(source: Path, splits: Path | None = None) -> ReaderResult:
    """One clip a video; a video that lies in no class folder is rejected.

    Raises:
        InputError: no folder, no video in it, folders of parts beside folders of classes, or skeleton files of other
            joints than each other or without their names.
    """
    root = require_folder(source, "a folder with one folder of videos per class")
    scan = scan_folder(root, frames=True)
    files = [*scan.files, *scan.frame_folders]
    if not files:
        images = f" ({len(scan.images)} images in no folder of frames)" if scan.images else ""
        raise InputError(f"{root}: no video in it{images}; expected one folder of videos per class")
    parted, frame_folders = _has_parts(root, files), set(scan.frame_folders)
    clips, rejected, deep = [], reject_media(scan, root), 0
    skeletons: dict[str, Path] = {}
    for path, name in ids_of(files, root).items():
        parts = path.relative_to(root).parts
        names = parts[1:] if parted else parts
        if len(names) < 2:
            rejected.append(Rejection(name, "/".join(parts), "in no class folder"))
            continue
        deep += len(names) > 2
        part_of_clip = {"split": part_of(parts[0]) or ""} if parted else {}
        clips.append(Clip(id=name, path="/".join(parts), label=names[0], splits=part_of_clip))
        # a folder of frames has no suffix
        beside = path.with_name(f"{path.name if path in frame_folders else path.stem}.npz")
        if is_skeleton_file(beside):
            skeletons[name] = beside
    warnings = [f"{deep} clips lie in folders below their class folder, whose name is their class"] if deep else []
    if scan.empty:
        listed = ", ".join(path.name for path in scan.empty[:5]) + (", ..." if len(scan.empty) > 5 else "")
        warnings.append(f"{len(scan.empty)} folders hold no video: {listed}")
    where = "folders train, val and test of the source"
    return ReaderResult(
        title=root.name,
        citation="",
        root=root,
        clips=clips,
        rejected=rejected,
        class_names=sorted({clip.label for clip in clips}),
        protocols=[Protocol(name="given", kind="split", column="split", source=where)] if parted else [],
        skeletons=read_skeletons(skeletons),
        warnings=warnings,
    )


def _has_parts(root: Path, files: Iterable[Path]) -> bool:
    """True where the folders below the root are parts of a split (train, val, test) that hold the class folders.

    Raises:
        InputError: some are and others are not, or the parts hold no class folders.
    """
    below = [path.relative_to(root).parts for path in files]
    tops = {parts[0] for parts in below if len(parts) > 1}
    named = {top for top in tops if part_of(top)}
    nested = {parts[0] for parts in below if len(parts) > 2} & named
    if not named or (named != tops and not nested):
        return False  # a class may be called "train"
    if named != tops:
        one, other = min(nested), min(tops - named)
        raise InputError(
            f"{root}: {one!r} is a part of a split, {other!r} beside it is not: keep parts or classes here"
        )
    if not nested:
        raise InputError(f"{root}: no class folder in {', '.join(sorted(named))}: expected train/<class>/<video>")
    return True
