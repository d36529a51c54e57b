"""Motions from one file format, or from a store, to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from icube_common.errors import InputError, unknown
from icube_common.runs import atomic_folder, refuse_existing
from motiondiff.data.store import MotionStore
from motiondiff.export import FORMATS, write
from motiondiff.motion import Motion, place
from motiondiff.sets import FORMATS as SET_FORMATS
from motiondiff.sets import write as write_set

# what a single motion file may be, by suffix -> reader
READABLE = {".npz": "npz", ".bvh": "bvh"}


def read_motion(path: str | Path, *, up: str = "auto", unit: str = "auto", source_fps: float | None = None) -> Motion:
    """The first motion of an .npz or .bvh file.

    Args:
        path: the file.
        up: up axis of a BVH file, or ``auto``.
        unit: unit of length of a BVH file, or ``auto``.
        source_fps: frames per second, instead of a BVH file's own.

    Raises:
        InputError: missing, another kind of file, or broken; or one of the options for a file that needs none.
    """
    from motiondiff.data.readers import Rejection, check_conventions, get_reader

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix.lower() not in READABLE:
        raise InputError(f"{path}: only {' and '.join(READABLE)} files can be read as one motion")
    format = READABLE[path.suffix.lower()]
    reader = get_reader(format)
    (reference, *_) = reader.find_clips(path)
    options: dict[str, Any] = {"up": up, "unit": unit, "source_fps": source_fps}
    check_conventions(format, options)
    given = {name: value for name, value in options.items() if value not in ("auto", None)}
    clip = reader.read_clips(reference, **given)[0]
    if isinstance(clip, Rejection):
        raise InputError(f"{path}: {clip.reason}")
    return clip.motion


def export(
    source: str | Path,
    out: str | Path,
    format: str,
    *,
    more: Sequence[str | Path] = (),
    split: str | None = None,
    world: bool = False,
    overwrite: bool = False,
    up: str = "auto",
    unit: str = "auto",
    source_fps: float | None = None,
) -> dict[str, Any]:
    """Write a motion file, or every clip of a store, in another format.

    Args:
        source: an .npz or .bvh file, or a store.
        out: the file to write, or for a store the folder (one file for ``html``, and for the sets ``pyskl`` and
            ``ctr-gcn``).
        format: one of `motiondiff.export.FORMATS`, or, for a store, of `motiondiff.sets.FORMATS`.
        more: further files or stores for the same ``html`` page; two motions in all are shown side by side.
        split: only the clips of one split of a store.
        world: where a store's clips were recorded, instead of the common frame; not for sets, which are in the frames
            that their formats ask for.
        overwrite: replace what is at ``out``.
        up: up axis of a BVH file, or ``auto``.
        unit: unit of length of a BVH file, or ``auto``.
        source_fps: frames per second, instead of a BVH file's own.

    Returns:
        ``{"out": ..., "motions": N}``.

    Raises:
        InputError: unknown format, unreadable source, several sources for one file, or ``out`` exists.
    """
    if format not in (*FORMATS, *SET_FORMATS):
        raise unknown("format", format, (*FORMATS, *SET_FORMATS))
    if more and format != "html":
        raise InputError(f"--to {format}: {1 + len(more)} sources are given, and only html takes several")
    source = Path(source)
    given: dict[str, Any] = {"up": up, "unit": unit, "source_fps": source_fps}
    if source.is_dir() and given != {"up": "auto", "unit": "auto", "source_fps": None}:
        raise InputError(f"--up, --unit and --source-fps are for BVH files; {source} is a store, y-up and in metres")
    refuse_existing(out, overwrite=overwrite)
    if format == "html":
        return _export_page([source, *(Path(other) for other in more)], Path(out), given, split=split, world=world)
    if format in SET_FORMATS:
        return _export_set(source, Path(out), format, split=split, world=world, overwrite=overwrite)
    if source.is_file():
        motion = read_motion(source, **given)
        write(motion, Path(out), format, clip_id=source.stem)
        return {"out": str(out), "motions": 1}
    store = MotionStore(source)
    clips = store.select(split)
    with atomic_folder(out, overwrite=overwrite) as folder, tqdm(clips, desc="export", unit="clip") as bar:
        for clip in bar:
            name, motion = _clip(store, int(clip), world=world)
            path = folder / f"{name}.{format}"
            if not path.resolve().is_relative_to(folder.resolve()):
                raise InputError(f"{source}: the clip id {name!r} leads out of the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            write(motion, path, format, clip_id=name)
    return {"out": str(out), "motions": len(clips)}


def _clip(store: MotionStore, clip: int, *, world: bool) -> tuple[str, Motion]:
    motion = store[clip]
    return store.clip_ids[clip], place(motion, store.placement(clip)) if world else motion


def _export_page(
    sources: Sequence[Path], out: Path, given: dict[str, Any], *, split: str | None, world: bool
) -> dict[str, Any]:
    """Write one viewer page with the motions of all files and stores."""
    from motiondiff.export.html import write_html

    names = _distinct_names(sources)

    def motions() -> Iterator[tuple[str, Motion]]:
        for source, name in zip(sources, names, strict=True):
            if source.is_file():
                yield name, read_motion(source, **given)
                continue
            store = MotionStore(source)
            for clip in store.select(split):
                clip_id, motion = _clip(store, int(clip), world=world)
                yield (clip_id if len(sources) == 1 else f"{name}/{clip_id}"), motion

    shown = list(motions())
    title = names[0] if len(sources) == 1 else " and ".join(names[:2]) if len(sources) == 2 else f"{len(shown)} motions"
    write_html(
        [motion for _, motion in shown], out, names=[name for name, _ in shown], title=title, compare=len(shown) == 2
    )
    return {"out": str(out), "motions": len(shown)}


def _distinct_names(sources: Sequence[Path]) -> list[str]:
    """File names without suffix, each with as many folders before it as tell it from the others."""
    parts = [source.resolve().with_suffix("").parts for source in sources]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [source.name for source in sources]  # one file twice, or walk.bvh beside walk.npz


def _export_set(
    source: Path, out: Path, format: str, *, split: str | None, world: bool, overwrite: bool
) -> dict[str, Any]:
    """Write a store as one set of `motiondiff.sets`."""
    from motiondiff.sets.labelled import LabelledSet, labels_file

    if source.is_file():
        raise InputError(f"{source}: {format} holds a set: give a store; `motiondiff prepare` makes one")
    if world:
        raise InputError(f"--world: {format} has a frame of its own")
    store = MotionStore(source)
    clips = LabelledSet.from_store(store, split)
    if format == "ntu-skeleton":
        with atomic_folder(out, overwrite=overwrite) as folder:
            write_set(clips, folder, format, joint_names=store.joint_names)
    else:
        # the class names are a second file beside the first
        refuse_existing(labels_file(out), overwrite=overwrite)
        write_set(clips, out, format)
    return {"out": str(out), "motions": len(clips)}
