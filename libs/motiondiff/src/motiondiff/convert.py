"""Motions from one file format, or from a store, to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from icube_common.errors import InputError, unknown
from icube_common.runs import atomic_folder, refuse_existing
from motiondiff.data.store import MotionStore
from motiondiff.export import FORMATS, write
from motiondiff.motion import Motion, place

# what a single motion file may be, by suffix -> reader
READABLE = {".npz": "npz", ".bvh": "bvh"}


def read_motion(path: str | Path) -> Motion:
    """The first motion of an .npz or .bvh file.

    Raises:
        InputError: missing, another kind of file, or broken.
    """
    from motiondiff.data.readers import Rejection, get_reader

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix.lower() not in READABLE:
        raise InputError(f"{path}: only {' and '.join(READABLE)} files can be read as one motion")
    reader = get_reader(READABLE[path.suffix.lower()])
    clip = reader.read_clips(reader.find_clips(path)[0])[0]
    if isinstance(clip, Rejection):
        raise InputError(f"{path}: {clip.reason}")
    return clip.motion


def export(
    source: str | Path,
    out: str | Path,
    format: str,
    *,
    split: str | None = None,
    world: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a motion file, or every clip of a store, in another format.

    Args:
        source: an .npz or .bvh file, or a store.
        out: the file to write, or for a store the folder.
        format: one of `motiondiff.export.FORMATS`.
        split: only the clips of one split of a store.
        world: where a store's clips were recorded, instead of the common frame.
        overwrite: replace what is at ``out``.

    Returns:
        ``{"out": ..., "motions": N}``.

    Raises:
        InputError: unknown format, unreadable source, or ``out`` exists.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    source = Path(source)
    refuse_existing(out, overwrite=overwrite)
    if source.is_file():
        motion = read_motion(source)
        write(motion, Path(out), format, clip_id=source.stem)
        return {"out": str(out), "motions": 1}
    store = MotionStore(source)
    clips = store.select(split)
    with atomic_folder(out, overwrite=overwrite) as folder:
        for clip in tqdm(clips, desc="export", unit="clip"):
            motion = store[int(clip)]
            if world:
                motion = place(motion, store.placement(int(clip)))
            name = store.clip_ids[clip]
            path = folder / f"{name}.{format}"
            if not path.resolve().is_relative_to(folder.resolve()):
                raise InputError(f"{source}: the clip id {name!r} leads out of the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            write(motion, path, format, clip_id=name)
    return {"out": str(out), "motions": len(clips)}
