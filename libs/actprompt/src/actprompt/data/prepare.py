"""From a set of videos to a manifest: find clips, look into each file, record what cannot be used."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from actprompt.data.manifest import GROUP_COLUMNS, Clip, Manifest, write_manifest
from actprompt.data.readers import FORMATS, get_reader
from actprompt.data.readers.base import ReaderResult, Rejection, Skeletons, in_order, scan_folder
from actprompt.data.readers.lists.class_names import ClassNames, check_distinct, check_labels, read_class_names
from actprompt.data.video import VideoError, probe
from actprompt.data.video.frame_folder import clip_digest, clip_status
from actprompt.skeleton.features import named_parameters, parameter_table, write_parameters
from actprompt.skeleton.io import spans_other_time, write_skeleton
from icube_common.data.processes import map_items
from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from icube_common.io.runs import atomic_folder, check_output_path

logger = logging.getLogger(__name__)

# below this many files starting worker processes takes longer than looking into them
CLIPS_WORTH_A_POOL = 256
# tools that extract frames count one or two others; a list that is further off means another video, or no frames at all
FRAMES_OFF, SHARE_OFF = 2, 0.1


def prepare(
    format: str,
    source: str | Path | Mapping[str, str | Path],
    out: str | Path,
    *,
    splits: str | Path | None = None,
    root: str | Path | None = None,
    class_names: str | Path | None = None,
    frame_rate: float | None = None,
    strict: bool = False,
    overwrite: bool = False,
    keep_damaged: bool = False,
    executor: Executor | None = None,
) -> Manifest:
    """Make a prepared folder of a set of videos.

    Every file is decoded once: frames are counted, and a damaged file is found now. What cannot be used ends in
    ``rejected.csv`` with the reason. No video is copied.

    Args:
        format: a key of `actprompt.data.readers.FORMATS`.
        source: the set's folder; for "csv", the list, or part of a split ("train", ...) -> its list.
        out: the folder to make.
        splits: folder of the official split files, where they are not below ``source``.
        root: for "csv": where relative paths start; by default in the list's folder.
        class_names: file with the names of classes whose labels are numbers or codes.
        frame_rate: frames per second of clips that are folders of frames.
        strict: stop at the first clip that cannot be used, and at copies that contradict each other.
        overwrite: replace an existing ``out``.
        keep_damaged: use truncated and damaged files as far as they decode, at least one frame; the reason stands in
            the manifest's column ``damage``.
        executor: where files are looked into; by default a local process pool.

    Raises:
        InputError: unknown format, nothing of it in the source, damaged split files or lists, labels without names,
            class names that are one name, one file with two labels or in two parts of a split, folders of frames
            without a frame rate, no usable clip, ``out`` exists, or (strict) a clip that cannot be used; nothing is
            written then.
    """
    options = {"splits": splits, "root": root, "class_names": class_names}
    reading, where = _find(format, source, options, lambda: check_output_path(out, overwrite=overwrite))
    _check_folders(reading, frame_rate, where)
    clips, same = merge_same_files(reading.clips, reading.root)
    rejected = [*reading.rejected, *same]
    if strict and rejected:
        raise InputError(f"{rejected[0].path}: {rejected[0].reason}")
    probe_clip = partial(_probe_clip, reading.root, frame_rate, keep_damaged)
    clips, unusable = _probe_all(replace(reading, clips=clips), probe_clip, strict, executor)
    rejected += unusable
    if not clips:
        first = f"; the first, {rejected[0].id}: {rejected[0].reason}" if rejected else ""
        elsewhere = "; paths that start elsewhere want --root FOLDER" if FORMATS[format].lists else ""
        raise InputError(f"{where}: none of its {len(rejected)} clips can be used{first}{elsewhere}")
    copies = find_copies(clips, reading.root)
    about_copies = describe_copies(copies)
    if strict and len(about_copies) > 1:
        raise InputError(f"{where}: {about_copies[-1]}")
    warnings = [*reading.warnings, *about_copies, *_about_classes(reading, clips), *_about_skeletons(reading, clips)]
    description: dict[str, Any] = {
        "format": format,
        "title": reading.title,
        "citation": reading.citation,
        "root": str(reading.root),
        "class_names": in_order(reading.class_names, clips),
        "class_texts": dict(reading.class_texts),
        "protocols": [vars(protocol) for protocol in reading.protocols],
        "counts": {"rejected": len(rejected)},
        "warnings": warnings,
        **reading.description,
    }
    if not FORMATS[format].lists:
        side_count = len(reading.skeletons.times) if reading.skeletons and reading.skeletons.seconds else 0
        description["counts"]["side_files"] = scan_folder(reading.root).side_files - side_count
    if copies:
        description["copies"] = [[clip.id for clip in group] for group in copies]
    with atomic_folder(out, overwrite=overwrite) as folder:
        if reading.skeletons:
            description |= _write_skeletons(folder, clips, reading.skeletons)
        write_manifest(folder, clips, description)
        with (folder / "rejected.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(["id", "path", "reason"])
            writer.writerows([cell.replace("\r", "\\r") for cell in (row.id, row.path, row.reason)] for row in rejected)
    for warning in warnings:
        logger.warning("%s", warning)
    damaged = sum(bool(clip.damage) for clip in clips)
    if damaged:
        logger.warning("%d damaged clips are used: see column damage of %s", damaged, Path(out) / "manifest.csv")
    if rejected:
        logger.warning("%d clips could not be used: see %s", len(rejected), Path(out) / "rejected.csv")
    return Manifest.load(out)


def _find(
    format: str,
    source: str | Path | Mapping[str, str | Path],
    options: Mapping[str, str | Path | None],
    check_out: Callable[[], object],
) -> tuple[ReaderResult, Path]:
    """The clips of a source with their classes' names, and the source for messages.

    Raises:
        InputError: as `prepare`, from what can be known before a video is opened.
    """
    reader, info = get_reader(format), FORMATS[format]
    takes = {"splits": info.split_files, "root": info.lists, "class_names": not info.official}
    reasons = {"splits": "has no files of splits", "root": "has no list of paths", "class_names": "names its classes"}
    for name, value in options.items():
        if value is not None and not takes[name]:
            raise InputError(f"--{name.replace('_', '-')} {value}: format {format!r} {reasons[name]}")
    check_out()
    if isinstance(source, Mapping):
        if not info.lists:
            raise InputError(f"format {format!r}: takes one folder, not a list for each part of a split")
        where = Path(next(iter(source.values())))
    else:
        where = Path(source)
    if info.lists:
        from actprompt.data.readers.lists import csv_list

        lists = {part: Path(path) for part, path in source.items()} if isinstance(source, Mapping) else where
        start = options["root"]
        reading = csv_list.find(lists, root=None if start is None else Path(start))
    else:
        splits = options["splits"]
        reading = reader.find(where, Path(splits) if splits is not None else None)
    reading = _without_unnameable(reading)
    if options["class_names"] is not None:
        reading = _with_names(reading, read_class_names(options["class_names"]))
    elif not info.official:
        check_labels((clip.label for clip in reading.clips), where)
    check_distinct((clip.label for clip in reading.clips), where)
    return reading, where


def _with_names(reading: ReaderResult, names: ClassNames) -> ReaderResult:
    """The clips with the names of their classes in place of numbers or codes, classes in the order of the names."""
    clips = []
    for clip in reading.clips:
        try:
            clips.append(replace(clip, label=names.look_up(clip.label)))
        except InputError as error:
            raise InputError(f"{reading.root / clip.path}: {error}") from error
    return replace(reading, clips=clips, class_names=list(names.names.values()))


def _without_unnameable(reading: ReaderResult) -> ReaderResult:
    """The clips whose path can be written down; file names of another encoding than UTF-8 are rejected."""
    clips, rejected = [], list(reading.rejected)
    for clip in reading.clips:
        # what a CSV file in UTF-8 cannot hold
        if any("\ud800" <= character <= "\udfff" for character in clip.path):
            rejected.append(Rejection(clip.id, clip.path, "the file name is not UTF-8: rename the file"))
        elif "\r" in clip.path:
            rejected.append(Rejection(clip.id, clip.path, "the file name holds a carriage return: rename the file"))
        else:
            clips.append(clip)
    return replace(reading, clips=clips, rejected=rejected)


def _check_folders(reading: ReaderResult, frame_rate: float | None, where: Path) -> None:
    """Refuse folders of frames without a frame rate, a rate without folders, and one that is none."""
    if frame_rate is not None and not 0 < frame_rate < math.inf:
        raise InputError(f"--frame-rate {frame_rate:g}: must be a positive number of frames per second")
    folder = next((clip.path for clip in reading.clips if os.path.isdir(reading.root / clip.path)), None)
    if folder is not None and frame_rate is None:
        raise InputError(
            f"{reading.root / folder}: a folder of frames has no frame rate: give it with --frame-rate FPS"
        )
    if folder is None and frame_rate is not None:
        raise InputError(
            f"--frame-rate {frame_rate:g}: no clip of {where} is a folder of frames; videos have their own"
        )


def _about_classes(reading: ReaderResult, clips: Sequence[Clip]) -> list[str]:
    """Warnings about classes that no clip is left of, and about a set of one class."""
    present = {clip.label for clip in clips}
    warnings = []
    if lost := [name for name in reading.class_names if name not in present]:
        listed = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        warnings.append(f"{len(lost)} of {len(reading.class_names)} classes have no usable clip: {listed}")
    if len(present) == 1:
        warnings.append(f"one class ({present.pop()!r}): a model needs two; such a set can only be predicted")
    return warnings


def _about_skeletons(reading: ReaderResult, clips: Sequence[Clip]) -> list[str]:
    """Warning about skeletons whose times are not those of their videos."""
    if reading.skeletons is None or not reading.skeletons.seconds:
        return []
    times = reading.skeletons.times
    odd = [clip.id for clip in clips if clip.id in times and spans_other_time(times[clip.id], clip.duration)]
    listed = ", ".join(odd[:5]) + (", ..." if len(odd) > 5 else "")
    return [f"{len(odd)} skeletons span another time than their videos: {listed}"] if odd else []


def _probe_all(
    reading: ReaderResult, probe_clip: Callable[[Clip], Clip | Rejection], strict: bool, executor: Executor | None
) -> tuple[list[Clip], list[Rejection]]:
    """The clips with frames, fps and duration, and those whose file cannot be used."""
    clips: list[Clip] = []
    rejected: list[Rejection] = []
    items = map_items(probe_clip, reading.clips, executor=executor, worth_a_pool=CLIPS_WORTH_A_POOL)
    with progress_bar(items, desc="videos", unit="clip", total=len(reading.clips)) as items:
        for item in items:
            if isinstance(item, Clip):
                clips.append(item)
            elif strict:
                raise InputError(f"{item.path}: {item.reason}")
            else:
                rejected.append(item)
    return clips, rejected


def _probe_clip(root: Path, frame_rate: float | None, keep_damaged: bool, clip: Clip) -> Clip | Rejection:
    try:
        info = probe(root / clip.path, frame_rate=frame_rate, keep_damaged=keep_damaged)
    except VideoError as error:
        # the path has a column of its own
        return Rejection(clip.id, clip.path, str(error).removeprefix(f"{root / clip.path}: "))
    off = abs(clip.n_frames - info.n_frames) > max(FRAMES_OFF, SHARE_OFF * clip.n_frames)
    if clip.n_frames and off and not info.damage:
        return Rejection(clip.id, clip.path, f"listed with {clip.n_frames} frames, {info.n_frames} decode")
    return replace(clip, **info.measured())


def _write_skeletons(folder: Path, clips: Sequence[Clip], skeletons: Skeletons) -> dict[str, object]:
    """Write ``skeleton/`` and ``parameters.csv`` of clips with joints; returns their entries of ``dataset.json``."""
    with_joints = [clip for clip in clips if clip.id in skeletons.sequences]
    if not with_joints:
        return {}
    rows = []
    for clip in with_joints:
        joints = skeletons.sequences[clip.id]
        write_skeleton(folder, clip.id, joints, skeletons.times[clip.id] * (1 if skeletons.seconds else clip.duration))
        rows.append(named_parameters(joints, skeletons.joint_names, clip.duration))
    table = parameter_table([clip.id for clip in with_joints], rows)
    return {
        "parameters": write_parameters(folder, table),
        "skeleton": {"joints": list(skeletons.joint_names), "unit": skeletons.unit, "clips": len(with_joints)},
    }


def contradiction(one: Clip, two: Clip) -> str | None:
    """The first thing that two clips of one file disagree on, in words; None where they agree."""
    if one.label != two.label:
        return f"as {one.label!r} and as {two.label!r}"
    for column in sorted({*one.splits, *two.splits}):
        parts = one.splits.get(column), two.splits.get(column)
        if parts[0] != parts[1]:
            return f"in {column} as {parts[0] or 'no part'} and as {parts[1] or 'no part'}"
    for column in GROUP_COLUMNS:
        values = getattr(one, column), getattr(two, column)
        if values[0] != values[1]:
            return f"of {column} {values[0]} and {values[1]}"
    return None


def merge_same_files(clips: Iterable[Clip], root: Path) -> tuple[list[Clip], list[Rejection]]:
    """Clips of different files; a further clip of the same file (by path, symbolic or hard link) is rejected.

    Raises:
        InputError: two clips of one file have other labels, subjects, cameras or parts of a split.
    """
    first: dict[tuple[int, int], Clip] = {}
    unique, rejected = [], []
    for clip in clips:
        try:
            status = os.stat(root / clip.path)
        except (OSError, ValueError):
            unique.append(clip)  # opening it says why it cannot be used
            continue
        other = first.setdefault((status.st_dev, status.st_ino), clip)
        if other is clip:
            unique.append(clip)
        elif problem := contradiction(other, clip):
            raise InputError(f"{root / clip.path}: the same file as {other.path}, listed {problem}: keep one of them")
        else:
            rejected.append(Rejection(clip.id, clip.path, f"the same file as {other.path}"))
    return unique, rejected


def find_copies(clips: Sequence[Clip], root: Path) -> list[list[Clip]]:
    """Groups of clips whose files have the same content; only files of equal size are read.

    Raises:
        InputError: a file cannot be read.
    """
    by_size: dict[int, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_size[clip_status(root / clip.path)[0]].append(clip)
    by_content: dict[str, list[Clip]] = defaultdict(list)
    for alike in by_size.values():
        if len(alike) > 1:
            for clip in alike:
                by_content[clip_digest(root / clip.path)].append(clip)
    return [group for group in by_content.values() if len(group) > 1]


def describe_copies(copies: Sequence[Sequence[Clip]]) -> list[str]:
    """Warnings about copies: how many there are, and the first that contradict each other."""
    if not copies:
        return []
    pairs = [(group[0], other, contradiction(group[0], other)) for group in copies for other in group[1:]]
    warnings = [f"copies (files of the same content as another clip's): {len(pairs)}, such as {pairs[0][1].path}"]
    bad = [(one, two, problem) for one, two, problem in pairs if problem]
    if bad:
        one, two, problem = bad[0]
        warnings.append(f"copies that contradict each other: {len(bad)}, such as {one.path} and {two.path}, {problem}")
    return warnings
