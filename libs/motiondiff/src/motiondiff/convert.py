"""Motions from one file format, or from a store, to another."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from icube_common.errors import InputError, unknown
from icube_common.io.runs import atomic_folder, check_output_path
from motiondiff.data.store import MotionStore
from motiondiff.export import FORMATS, check_scale, file_name, write
from motiondiff.motion import Motion, place
from motiondiff.sets import FORMATS as SET_FORMATS
from motiondiff.sets import write as write_set

# what a motion file may be, by suffix -> reader
READABLE = {".npz": "npz", ".bvh": "bvh", ".npy": "npy"}


def read_motion(path: str | Path, *, up: str = "auto", unit: str = "auto", source_fps: float | None = None) -> Motion:
    """The motion of an .npz, .bvh or .npy file.

    Args:
        path: the file.
        up: up axis of a BVH file, or ``auto``.
        unit: unit of length of a BVH file, or ``auto``.
        source_fps: frames per second, instead of a BVH file's own.

    Raises:
        InputError: missing, another kind of file, broken, or of several motions; or one of the options for a file that
            needs none.
    """
    motions = read_motions(path, up=up, unit=unit, source_fps=source_fps)
    if len(motions) > 1:
        raise InputError(
            f"{path}: holds {len(motions)} motions, one is wanted: `motiondiff export {path} --to npz --out DIR` "
            "makes a file of each"
        )
    return next(iter(motions.values()))


def read_motions(
    path: str | Path, *, up: str = "auto", unit: str = "auto", source_fps: float | None = None
) -> dict[str, Motion]:
    """The motions of an .npz (motiondiff's or AMASS's), .bvh or .npy file by name; one has the name of the file.

    Args:
        path: the file.
        up: as `read_motion`, like the next two.
        unit: unit of length.
        source_fps: frames per second.

    Raises:
        InputError: missing, another kind of file, or broken; the first motion that cannot be read is named; or one of
            the options for a file that needs none.
    """
    from motiondiff.data.readers import Rejection, check_conventions, get_reader

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix.lower() not in READABLE:
        raise InputError(f"{path}: only .npz, .bvh and .npy files can be read as motions")
    format = "amass" if _is_amass(path) else READABLE[path.suffix.lower()]
    options: dict[str, Any] = {"up": up, "unit": unit, "source_fps": source_fps}
    check_conventions(format, options)
    given = {name: value for name, value in options.items() if value not in ("auto", None)}
    reader = get_reader(format)
    # labels of AMASS that lie around are for `prepare`
    reference = replace(reader.find_clips(path)[0], files=(path,))
    motions: dict[str, Motion] = {}
    for clip in reader.read_clips(reference, **given):
        if isinstance(clip, Rejection):
            raise InputError(f"{'' if str(path) in clip.reason else f'{path}: '}{clip.reason}")
        motions[clip.clip_id.removeprefix(f"{reference.clip_id}/")] = clip.motion
    return motions


def _is_amass(path: Path) -> bool:
    """Whether an .npz names AMASS's arrays; what is no .npz is left to the reader to refuse."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"poses.npy", "trans.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def retarget_file(
    source: str | Path,
    out: str | Path,
    target: str | Path,
    *,
    joint_map: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Put the motion of a file on another body (`motiondiff.data.retarget`).

    Args:
        source: an .npz or .bvh file.
        out: the file to write, in the format of its suffix.
        target: ``smpl-22``, ``kinect-v1``, ``kinect-v2``, or a .npz or .bvh file whose body is taken.
        joint_map: YAML of role or joint of the target -> joint of the source.
        overwrite: replace what is at ``out``.

    Returns:
        ``out``, frames, ``residual_mm`` of the whole and of each joint of the target, and ``roles``: role -> joint of
        the source and of the target.

    Raises:
        InputError: unreadable source, target or map, joints that cannot be paired, or ``out`` exists.
    """
    from motiondiff.data.correspondence import read_joint_map
    from motiondiff.data.retarget import retarget_in_detail, target_skeleton

    out = Path(out)
    if out.suffix.lstrip(".").lower() not in FORMATS:
        raise InputError(f"--out {out}: wants one of the suffixes {', '.join('.' + name for name in FORMATS)}")
    check_output_path(out, overwrite=overwrite)
    joints = None if joint_map is None else read_joint_map(joint_map)
    body = target_skeleton(target)
    motion = read_motion(source)
    try:
        result = retarget_in_detail(motion, body, joints)
    except InputError as error:
        hint = "" if joint_map else "; pair joints with --map"
        raise InputError(f"{source if joint_map is None else joint_map}: {error}{hint}") from error
    write(result.motion, out, clip_id=Path(source).stem)
    match, own = result.correspondence, motion.skeleton.names
    return {
        "out": str(out),
        "frames": len(motion),
        "residual_mm": round(1000 * result.motion.residual, 1),
        "joints": {
            body.names[joint]: {
                "source": own[other],
                "residual_mm": round(1000 * result.joint_residuals[body.names[joint]], 1),
            }
            for joint, other in sorted(match.pairs.items())
        },
        "roles": {
            role: {"source": own[match.source_roles[role]], "target": body.names[joint]}
            for role, joint in match.target_roles.items()
            if role in match.source_roles
        },
    }


def export(
    source: str | Path,
    out: str | Path,
    format: str,
    *,
    more: Sequence[str | Path] = (),
    split: str | None = None,
    world: bool = False,
    scale: float = 1.0,
    overwrite: bool = False,
    up: str = "auto",
    unit: str = "auto",
    source_fps: float | None = None,
) -> dict[str, Any]:
    """Write a motion file, or every clip of a store, in another format.

    Args:
        source: an .npz, .bvh or .npy file, or a store.
        out: the file to write, or for a store or a file of several motions the folder (one file for ``html``, and for
            the sets ``pyskl`` and ``ctr-gcn``).
        format: one of `motiondiff.export.FORMATS`, or, for a store, of `motiondiff.sets.FORMATS`.
        more: further files or stores for the same ``html`` page; two motions in all are shown side by side.
        split: only the clips of one split of a store.
        world: where a store's clips were recorded, instead of the common frame; not for sets, which are in the frames
            that their formats ask for.
        scale: file units per metre, for ``bvh`` alone: 100 for centimetres.
        overwrite: replace what is at ``out``.
        up: up axis of a BVH file, or ``auto``.
        unit: unit of length of a BVH file, or ``auto``.
        source_fps: frames per second, instead of a BVH file's own.

    Returns:
        ``{"out": ..., "motions": N}``.

    Raises:
        InputError: unknown format, unreadable source, several sources for one file, a scale for another format, or
            ``out`` exists.
    """
    if format not in (*FORMATS, *SET_FORMATS):
        raise unknown("format", format, (*FORMATS, *SET_FORMATS))
    if more and format != "html":
        raise InputError(f"--to {format}: {1 + len(more)} sources are given, and only html takes several")
    check_scale(format, scale)
    source = Path(source)
    given: dict[str, Any] = {"up": up, "unit": unit, "source_fps": source_fps}
    if source.is_dir() and given != {"up": "auto", "unit": "auto", "source_fps": None}:
        raise InputError(f"--up, --unit and --source-fps are for BVH files; {source} is a store, y-up and in metres")
    check_output_path(out, overwrite=overwrite)
    if format == "html":
        return _export_page([source, *(Path(other) for other in more)], Path(out), given, split=split, world=world)
    if format in SET_FORMATS:
        return _export_set(source, Path(out), format, split=split, world=world, overwrite=overwrite)
    if source.is_file():
        motions = read_motions(source, **given)
        if len(motions) == 1:
            write(next(iter(motions.values())), Path(out), format, clip_id=source.stem, scale=scale)
            return {"out": str(out), "motions": 1}
        return _export_folder(source, motions.items(), len(motions), Path(out), format, scale, overwrite=overwrite)
    store = MotionStore(source)
    clips = store.select(split)
    named = (_clip(store, int(clip), world=world) for clip in clips)
    return _export_folder(source, named, len(clips), Path(out), format, scale, overwrite=overwrite)


def _export_folder(
    source: Path,
    motions: Iterable[tuple[str, Motion]],
    count: int,
    out: Path,
    format: str,
    scale: float,
    *,
    overwrite: bool,
) -> dict[str, Any]:
    """Write each motion as a file of its own, named below the folder."""
    with (
        atomic_folder(out, overwrite=overwrite) as folder,
        tqdm(motions, desc="export", unit="clip", total=count) as bar,
    ):
        for name, motion in bar:
            path = folder / file_name(name, format)
            if not path.resolve().is_relative_to(folder.resolve()):
                raise InputError(f"{source}: the clip id {name!r} leads out of the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            write(motion, path, format, clip_id=name, scale=scale)
    return {"out": str(out), "motions": count}


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
                found = read_motions(source, **given)
                for own, motion in found.items():
                    yield name if len(found) == 1 else own if len(sources) == 1 else f"{name}/{own}", motion
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
        check_output_path(labels_file(out), overwrite=overwrite)
        write_set(clips, out, format)
    return {"out": str(out), "motions": len(clips)}
