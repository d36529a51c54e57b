"""From a set of videos to a manifest: find clips, look into each file, record what cannot be used."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from actprompt.datasets import FORMATS, Found, Rejection, get_reader
from actprompt.datasets.base import Skeletons, in_order
from actprompt.manifest import Clip, Manifest, NumericTable
from actprompt.manifest_writer import write_manifest, write_numeric, write_skeleton
from actprompt.numeric_features import limb_parameters, parameter_table
from actprompt.video import VideoError, probe
from icube_common.errors import InputError
from icube_common.processes import map_in_processes
from icube_common.runs import atomic_folder, refuse_existing

logger = logging.getLogger(__name__)

# below this many files starting worker processes takes longer than looking into them
CLIPS_WORTH_A_POOL = 256


def prepare(
    format: str,
    source: str | Path,
    out: str | Path,
    *,
    splits: str | Path | None = None,
    strict: bool = False,
    overwrite: bool = False,
    keep_damaged: bool = False,
    executor: Executor | None = None,
) -> Manifest:
    """Make a prepared folder of a set of videos.

    Every file is decoded once: frames are counted, and a damaged file is found now. What cannot be used ends in
    ``rejected.csv`` with the reason. No video is copied.

    Args:
        format: a key of `actprompt.datasets.FORMATS`.
        source: the set's folder; for "csv", the file.
        out: the folder to make.
        splits: folder of the official split files, where they are not below ``source``.
        strict: stop at the first clip that cannot be used.
        overwrite: replace an existing ``out``.
        keep_damaged: use truncated and damaged files as far as they decode, at least one frame; the reason stands in
            the manifest's column ``damage``.
        executor: where files are looked into; by default a local process pool.

    Raises:
        InputError: unknown format, nothing of it in the source, damaged split files, no usable clip, ``out`` exists, or
            (strict) a clip that cannot be used; nothing is written then.
    """
    reader = get_reader(format)
    if splits is not None and not FORMATS[format].split_files:
        raise InputError(f"--splits {splits}: format {format!r} has no files of splits")
    refuse_existing(out, overwrite=overwrite)
    found = reader.find(Path(source), Path(splits) if splits is not None else None)
    if strict and found.rejected:
        raise InputError(f"{found.rejected[0].path}: {found.rejected[0].reason}")
    clips, rejected = _look_into(found, strict, executor, keep_damaged)
    rejected = [*found.rejected, *rejected]
    if not clips:
        first = f"; the first, {rejected[0].id}: {rejected[0].reason}" if rejected else ""
        raise InputError(f"{source}: none of its {len(rejected)} clips can be used{first}")
    about = {
        "format": format,
        "title": found.title,
        "citation": found.citation,
        "root": str(found.root),
        "class_names": in_order(found.class_names, clips),
        "class_texts": dict(found.class_texts),
        "protocols": [vars(protocol) for protocol in found.protocols],
        "counts": {"rejected": len(rejected)},
        **found.notes,
    }
    with atomic_folder(out, overwrite=overwrite) as folder:
        if found.skeletons:
            about |= _write_skeletons(folder, clips, found.skeletons)
        write_manifest(folder, clips, about)
        with (folder / "rejected.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(["id", "path", "reason"])
            writer.writerows([row.id, row.path, row.reason] for row in rejected)
    damaged = sum(bool(clip.damage) for clip in clips)
    if damaged:
        logger.warning("%d damaged clips are used: see column damage of %s", damaged, Path(out) / "manifest.csv")
    if rejected:
        logger.warning("%d clips could not be used: see %s", len(rejected), Path(out) / "rejected.csv")
    return Manifest.load(out)


def _look_into(
    found: Found, strict: bool, executor: Executor | None, keep_damaged: bool
) -> tuple[list[Clip], list[Rejection]]:
    """The clips with frames, fps and duration, and those whose file cannot be used."""
    clips: list[Clip] = []
    rejected: list[Rejection] = []
    with tqdm(_probe_all(found, executor, keep_damaged), desc="videos", unit="clip", total=len(found.clips)) as items:
        for item in items:
            if isinstance(item, Clip):
                clips.append(item)
            elif strict:
                raise InputError(f"{item.path}: {item.reason}")
            else:
                rejected.append(item)
    return clips, rejected


def _probe_all(found: Found, executor: Executor | None, keep_damaged: bool) -> Iterator[Clip | Rejection]:
    """Each clip looked into, in order."""
    return map_in_processes(
        partial(_probe_one, found.root, keep_damaged), found.clips, executor=executor, worth_a_pool=CLIPS_WORTH_A_POOL
    )


def _probe_one(root: Path, keep_damaged: bool, clip: Clip) -> Clip | Rejection:
    try:
        info = probe(root / clip.path, keep_damaged=keep_damaged)
    except VideoError as error:
        # the path has a column of its own
        return Rejection(clip.id, clip.path, str(error).removeprefix(f"{root / clip.path}: "))
    return replace(
        clip,
        n_frames=info.n_frames,
        fps=info.fps,
        duration=info.duration,
        variable_rate=info.variable_rate,
        damage=info.damage,
    )


def _write_skeletons(folder: Path, clips: Sequence[Clip], skeletons: Skeletons) -> dict[str, object]:
    """``skeleton/`` and ``numeric.csv`` of the clips that have joints; what ``dataset.json`` says about them."""
    with_joints = [clip for clip in clips if clip.id in skeletons.sequences]
    if not with_joints:
        return {}
    rows = []
    for clip in with_joints:
        joints = skeletons.sequences[clip.id]
        write_skeleton(folder, clip.id, joints, skeletons.times[clip.id] * clip.duration)
        rows.append(limb_parameters(joints, clip.duration))
    names, units, values = parameter_table(rows)
    table = NumericTable(tuple(clip.id for clip in with_joints), names, units, values)
    return {
        "numeric": write_numeric(folder, table),
        "skeleton": {"joints": list(skeletons.joint_names), "unit": skeletons.unit, "clips": len(with_joints)},
    }
