"""Conversion of motion files and stores to other formats, and retargeting of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from icube_common.errors import InputError, unknown
from icube_common.io.progress import progress_bar
from icube_common.io.runs import atomic_folder, check_output_path
from motiondiff.data.readers.motion_file import read_motion, read_motions
from motiondiff.data.store import MotionStore
from motiondiff.evaluation import stance
from motiondiff.export import FORMATS, check_scale, export, file_name
from motiondiff.export.datasets import FORMATS as SET_FORMATS
from motiondiff.export.datasets import VIDEO_FOLDER
from motiondiff.export.datasets import export_dataset as write_set
from motiondiff.skeleton.motion import Motion, apply_transform


def retarget_file(
    source: str | Path,
    out: str | Path,
    target: str | Path,
    *,
    joint_map: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Retarget the motion of a file (`motiondiff.skeleton.retarget`).

    Args:
        source: an .npz or .bvh file.
        out: the file to write, in the format of its suffix.
        target: ``smpl-22``, ``kinect-v1``, ``kinect-v2``, or a .npz or .bvh file.
        joint_map: YAML of role or joint of the target -> joint of the source.
        overwrite: replace what is at ``out``.

    Returns:
        ``out``, frames, ``residual_mm`` of the whole and of each joint of the target, and ``roles``: role -> joint of
        the source and of the target.

    Raises:
        InputError: unreadable source, target or map, joints that cannot be paired, or ``out`` exists.
    """
    from motiondiff.data.readers.body_shape import target_skeleton
    from motiondiff.skeleton.joint_matching import read_joint_map
    from motiondiff.skeleton.retarget import retarget_with_residuals

    out = Path(out)
    if out.suffix.lstrip(".").lower() not in FORMATS:
        raise InputError(f"--out {out}: one of the suffixes expected: {', '.join('.' + name for name in FORMATS)}")
    check_output_path(out, overwrite=overwrite)
    joints = None if joint_map is None else read_joint_map(joint_map)
    body = target_skeleton(target)
    motion = read_motion(source)
    try:
        result = retarget_with_residuals(motion, body, joints)
    except InputError as error:
        hint = "" if joint_map else "; pair joints with --map"
        raise InputError(f"{source if joint_map is None else joint_map}: {error}{hint}") from error
    export(result.motion, out, clip_id=Path(source).stem)
    match, joint_names = result.correspondence, motion.skeleton.names
    return {
        "out": str(out),
        "frames": len(motion),
        "residual_mm": round(1000 * result.motion.residual, 1),
        "joints": {
            body.names[joint]: {
                "source": joint_names[other],
                "residual_mm": round(1000 * result.joint_residuals[body.names[joint]], 1),
            }
            for joint, other in sorted(match.pairs.items())
        },
        "roles": {
            role: {"source": joint_names[match.source_roles[role]], "target": body.names[joint]}
            for role, joint in match.target_roles.items()
            if role in match.source_roles
        },
    }


def export_files(
    source: str | Path,
    out: str | Path,
    format: str,
    *,
    more: Sequence[str | Path] = (),
    split: str | None = None,
    world: bool = False,
    scale: float = 1.0,
    pin_feet: bool = False,
    overwrite: bool = False,
    up: str = "auto",
    unit: str = "auto",
    source_fps: float | None = None,
) -> dict[str, Any]:
    """Write a motion file, or every clip of a store, in another format.

    Args:
        source: an .npz, .bvh or .npy file, or a store.
        out: the file to write, or for a store or a file of several motions the folder (one file for ``html``, and for
            the data sets ``pyskl`` and ``ctr-gcn``).
        format: one of `motiondiff.export.FORMATS`, or, for a store, of `motiondiff.export.datasets.FORMATS`.
        more: further files or stores for the same ``html`` page; two motions in all are shown side by side.
        split: only the clips of one split of a store.
        world: clips of a store in the recording's world instead of the common frame; not for data sets, whose formats
            define a frame.
        scale: file units per metre, for ``bvh`` alone: 100 for centimetres.
        pin_feet: move the root so that standing feet stay in place (`motiondiff.evaluation.stance.pin_feet`); not for
            data sets.
        overwrite: replace what is at ``out``.
        up: up axis of a BVH file, or ``auto``.
        unit: unit of length of a BVH file, or ``auto``.
        source_fps: frames per second, replacing a BVH file's own.

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
    conventions: dict[str, Any] = {"up": up, "unit": unit, "source_fps": source_fps}
    if source.is_dir() and conventions != {"up": "auto", "unit": "auto", "source_fps": None}:
        raise InputError(f"--up, --unit and --source-fps are for BVH files; {source} is a store, y-up and in metres")
    check_output_path(out, overwrite=overwrite)
    change = stance.pin_feet if pin_feet else _unchanged
    if format == "html":
        sources = [source, *(Path(other) for other in more)]
        return _export_page(sources, Path(out), conventions, split=split, world=world, change=change)
    if format in SET_FORMATS:
        if pin_feet:
            raise InputError(f"--pin-feet: not for the data set {format}; pin the motions of files or a store's clips")
        return _export_set(source, Path(out), format, split=split, world=world, overwrite=overwrite)
    if source.is_file():
        motions = read_motions(source, **conventions)
        if len(motions) == 1:
            export(change(next(iter(motions.values()))), Path(out), format, clip_id=source.stem, scale=scale)
            return {"out": str(out), "motions": 1}
        changed = ((name, change(motion)) for name, motion in motions.items())
        return _export_folder(source, changed, len(motions), Path(out), format, scale, overwrite=overwrite)
    store = MotionStore(source)
    clips = store.select(split)
    named = ((name, change(motion)) for name, motion in (_clip(store, int(clip), world=world) for clip in clips))
    return _export_folder(source, named, len(clips), Path(out), format, scale, overwrite=overwrite)


def _unchanged(motion: Motion) -> Motion:
    return motion


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
    """Write each motion as a file below the folder."""
    with (
        atomic_folder(out, overwrite=overwrite) as folder,
        progress_bar(motions, desc="export", unit="clip", total=count) as bar,
    ):
        for name, motion in bar:
            path = folder / file_name(name, format)
            if not path.resolve().is_relative_to(folder.resolve()):
                raise InputError(f"{source}: the clip id {name!r} leads out of the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            export(motion, path, format, clip_id=name, scale=scale)
    return {"out": str(out), "motions": count}


def _clip(store: MotionStore, clip: int, *, world: bool) -> tuple[str, Motion]:
    motion = store[clip]
    return store.clip_ids[clip], apply_transform(motion, store.world_transform(clip)) if world else motion


def _export_page(
    sources: Sequence[Path],
    out: Path,
    conventions: dict[str, Any],
    *,
    split: str | None,
    world: bool,
    change: Callable[[Motion], Motion],
) -> dict[str, Any]:
    """Write one viewer page with the motions of all files and stores."""
    from motiondiff.export.html.page import write_html

    names = _distinct_names(sources)

    def motions() -> Iterator[tuple[str, Motion]]:
        for source, name in zip(sources, names, strict=True):
            if source.is_file():
                loaded = read_motions(source, **conventions)
                for motion_name, motion in loaded.items():
                    yield (
                        name if len(loaded) == 1 else motion_name if len(sources) == 1 else f"{name}/{motion_name}",
                        motion,
                    )
                continue
            store = MotionStore(source)
            for clip in store.select(split):
                clip_id, motion = _clip(store, int(clip), world=world)
                yield (clip_id if len(sources) == 1 else f"{name}/{clip_id}"), motion

    shown = [(name, change(motion)) for name, motion in motions()]
    title = names[0] if len(sources) == 1 else " and ".join(names[:2]) if len(sources) == 2 else f"{len(shown)} motions"
    write_html(
        [change(motion) for _, motion in shown],
        out,
        names=[name for name, _ in shown],
        title=title,
        compare=len(shown) == 2,
    )
    return {"out": str(out), "motions": len(shown)}


def _distinct_names(sources: Sequence[Path]) -> list[str]:
    """File names without suffix, each with as many parent folders as make it unique."""
    parts = [source.resolve().with_suffix("").parts for source in sources]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [source.name for source in sources]  # one file twice, or walk.bvh beside walk.npz


def _export_set(
    source: Path, out: Path, format: str, *, split: str | None, world: bool, overwrite: bool
) -> dict[str, Any]:
    """Write a store as a data set of `motiondiff.export.datasets`."""
    from motiondiff.data.clips import ClipSet
    from motiondiff.export.datasets.class_names import class_names_file

    if source.is_file():
        raise InputError(f"{source}: {format} holds a set: give a store; `motiondiff prepare` makes one")
    if world:
        raise InputError(f"--world: {format} has a frame of its own")
    store = MotionStore(source)
    rows = store.select(split)
    store.check_actions(rows, "recognition formats require labels")
    if format == VIDEO_FOLDER:
        from motiondiff.export.datasets.video_folder import write_video_folder

        with atomic_folder(out, overwrite=overwrite) as folder:
            return {"out": str(out), "motions": write_video_folder(store, folder, split=split)}
    clips = replace(ClipSet.from_store(store, rows=rows), subjects=store.names("subject", rows))
    if format == "ntu-skeleton":
        with atomic_folder(out, overwrite=overwrite) as folder:
            write_set(clips, folder, format, joint_names=store.joint_names)
    else:
        # the class names are a second file beside the first
        check_output_path(class_names_file(out), overwrite=overwrite)
        write_set(clips, out, format)
    return {"out": str(out), "motions": len(clips)}
