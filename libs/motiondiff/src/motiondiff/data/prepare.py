"""Preparation of a store from a folder of recordings: read, label, resample, check, split, write."""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from icube_common.data.processes import WORKER_DIED, available_cores, map_items, open_executor
from icube_common.errors import InputError, unknown
from icube_common.io.csv import read_text
from icube_common.io.progress import progress_bar
from icube_common.io.runs import atomic_folder, check_output_path
from motiondiff.data.labels.label_map import LabelMap, LabelMapCheck
from motiondiff.data.labels.metadata import Annotations, annotate
from motiondiff.data.readers import check_conventions, get_reader, read_or_reject
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, make_rejection
from motiondiff.data.store import MotionStore
from motiondiff.data.store_writer import StoreWriter
from motiondiff.skeleton.motion import Motion, canonicalise

logger = logging.getLogger(__name__)
T = TypeVar("T")

# with fewer clips, starting worker processes takes longer than reading
MIN_CLIPS_FOR_POOL = 64
CHUNK_SIZE = 16
"""Units of one task of a worker process."""
# a group with a larger fraction of the clips stays in training, which would be too small without it
MAX_HELD_OUT_FRACTION = 0.25
_ENDING = r"(_skeleton)?\.(skeleton|csv|avi|mp4|txt|npy|npz|bvh)$"


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Selection, labels, frame rate and split of a store.

    Attributes:
        fps: frames per second of the store; None keeps the source's, which must then be the same for all clips.
        labels: source label -> action.
        exclude: names of samples to leave out (`read_exclusion_lists`).
        split_by: "subject", "style", or None: subject where there are several, else style, else no split.
        test_groups: groups of the test split, instead of random ones.
        split_seed: seed of random groups.
        min_seconds: minimum duration of a clip.
        max_residual: maximum mean distance (m) of a clip's skeleton from the recorded joints.
        strict: stop at the first rejected clip.
        action_from: "folder" or "parent": the action is the name of the top folder below the source, or of the
            parent folder of the file.
        metadata: a table with columns file, action, subject, style, text (`motiondiff.data.labels.metadata`).
        up: up axis of files without one, or ``auto``.
        unit: unit of length of files without one (a name or metres), or ``auto``.
        source_fps: frames per second of the files, replacing their own.
    """

    fps: float | None = 20.0
    labels: LabelMap | None = None
    exclude: frozenset[str] = frozenset()
    split_by: str | None = None
    test_groups: Sequence[str] = ()
    split_seed: int = 0
    min_seconds: float = 0.3
    max_residual: float = 0.10
    strict: bool = False
    action_from: str | None = None
    metadata: str | Path | None = None
    up: str = "auto"
    unit: str = "auto"
    source_fps: float | None = None


def prepare(
    format: str,
    source: str | Path,
    out: str | Path,
    options: PrepareOptions | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> MotionStore:
    """Make a store of every usable clip below a folder.

    Rejected clips are listed in ``rejected.csv`` with the reason.

    Args:
        format: a key of `motiondiff.data.readers.FORMATS`.
        source: folder of the recordings.
        out: the store to make.
        options: selection, frame rate, split.
        overwrite: replace an existing ``out``.
        executor: executor for reading; by default a local process pool.

    Raises:
        InputError: unknown format, nothing of it in the folder, no usable clip, or ``out`` exists; nothing is
            written then.
    """
    options = options or PrepareOptions()
    references = get_reader(format).find_clips(Path(source))
    annotations = annotate(format, references, source, action_from=options.action_from, metadata=options.metadata)
    check_output_path(out, overwrite=overwrite)
    description: dict[str, Any] = {"format": format, "source": Path(source).name, "simulated": False}
    ids_by_source: dict[str, list[str]] = {"": []}
    with worker_pool(len(references), executor) as pool:
        references, rigs = resolve_conventions(format, references, options, pool)
        if rigs:
            description["rigs"] = rigs
        work = partial(read_and_check, options=options, annotations=annotations)
        items = read_all(references, work, pool, lambda reference: reference.clip_id)
        bar = progress_bar(
            check_labels(items, {"": options.labels}, ids_by_source), desc="read", unit="clip", total=len(references)
        )
        with bar as clips:  # closed also on an error, whose message then has a line of its own
            store = write_store(clips, out, options, description=description, overwrite=overwrite)
    annotations.warn_unmatched(ids_by_source[""])
    warn_rejected(store)
    return store


def check_labels(
    items: Iterable[Clip | Rejection],
    maps: Mapping[str, LabelMap | None],
    ids_by_source: Mapping[str, list[str]],
    split: Callable[[str], Sequence[str]] = lambda clip_id: ("", clip_id),
) -> Iterator[Clip | Rejection]:
    """The items, with their ids in ``ids_by_source`` by source (``split``); at the end, `LabelMapCheck` of each map."""
    checks = {name: LabelMapCheck(labels) for name, labels in maps.items() if labels is not None}
    for item in items:
        name, clip_id = split(item.clip_id)
        ids_by_source[name].append(clip_id)
        if name in checks and (isinstance(item, Clip) or item.label is not None):
            checks[name].add(item.label)
        yield item
    for check in checks.values():
        check.check()


def resolve_conventions(
    format: str, references: list[ClipRef], options: PrepareOptions, pool: Executor
) -> tuple[list[ClipRef], list[dict[str, Any]]]:
    """References with up axis and unit of their rigs, and a description of each rig for ``store.json``.

    References of formats that fix both are unchanged.

    Raises:
        InputError: up axis, unit or frame rate given for a format that fixes them.
    """
    conventions = {"up": options.up, "unit": options.unit, "source_fps": options.source_fps}
    check_conventions(format, conventions)
    choose = getattr(get_reader(format), "choose_conventions", None)
    if choose is None:
        return references, []
    # a file that ends its reader is not surveyed, and rejected when it is read
    run = partial(map_items, executor=pool, chunksize=CHUNK_SIZE, lost=lambda _: None)
    resolved, rigs = choose(references, **conventions, run=run)
    return resolved, rigs


def warn_rejected(store: MotionStore) -> None:
    """Log the number of rejected clips."""
    if store.header["rejected"]:
        logger.warning("%d clips rejected: see %s", store.header["rejected"], store.path / "rejected.csv")


def read_exclusion_lists(paths: Iterable[str | Path]) -> frozenset[str]:
    """Names in published lists of samples to leave out, one a line, without file suffixes.

    Raises:
        InputError: an unreadable or empty list.
    """
    names: set[str] = set()
    for path in map(Path, paths):
        entries = {re.sub(_ENDING, "", line.strip()).upper() for line in read_text(path).splitlines() if line.strip()}
        if not entries:
            raise InputError(f"--exclude {path}: no sample; one name a line expected")
        names |= entries
    return frozenset(names)


def write_store(
    items: Iterable[Clip | Rejection],
    out: str | Path,
    options: PrepareOptions,
    *,
    description: Mapping[str, Any],
    overwrite: bool = False,
) -> MotionStore:
    """Write clips in the common frame one by one, and split them at the end.

    Raises:
        InputError: ``out`` exists, no usable clip, an impossible split, or (strict) a rejected clip.
    """
    rejected: list[Rejection] = []
    subjects: list[str | None] = []
    styles: list[str | None] = []
    with atomic_folder(out, overwrite=overwrite) as folder, StoreWriter(folder) as writer:
        for item in items:
            if isinstance(item, Clip):
                try:
                    writer.append(*canonicalise(item.motion), clip_id=item.clip_id)
                    subjects.append(item.motion.subject)
                    styles.append(item.motion.style)
                    continue
                except OSError:  # the disk, not the clip
                    raise
                except Exception as error:  # as in `read_or_reject`
                    item = make_rejection(item.clip_id, error)
            if options.strict:
                raise InputError(f"{item.clip_id}: {item.reason}")
            rejected.append(item)
        if not subjects:
            first = f"; the first: {rejected[0].reason}" if rejected else ""
            raise InputError(f"{description['source']}: none of its {len(rejected)} clips can be used{first}")
        split_by = choose_split_key(subjects, styles, options.split_by)
        if split_by is None and options.test_groups:
            raise InputError("test groups given, but the clips have neither subjects nor styles to split by")
        if split_by is None:
            logger.warning("no two subjects or styles to split by: all clips are in the training split")
        by_key: dict[str | None, list[str | None]] = {"subject": subjects, "style": styles, None: [None] * len(styles)}
        groups = by_key[split_by]
        splits = assign_splits(groups, seed=options.split_seed, test_groups=options.test_groups)
        writer.finish(
            splits=splits,
            rejected=[(item.clip_id, item.reason) for item in rejected],
            description={**description, "split_by": split_by or "none"},
        )
    return MotionStore(out)


def choose_split_key(subjects: Sequence[str | None], styles: Sequence[str | None], requested: str | None) -> str | None:
    """Key of the split: subject where there are several, else style where there are several, else None.

    Raises:
        InputError: ``requested`` is unknown, or has fewer than two values.
    """
    several = {
        "subject": len({subject for subject in subjects if subject is not None}) > 1,
        "style": len({style for style in styles if style is not None}) > 1,
    }
    if requested is None:
        return next((key for key, is_several in several.items() if is_several), None)
    if requested not in several:
        raise unknown("value of --split-by", requested, several)
    if not several[requested]:
        raise InputError(f"--split-by {requested}: the clips have fewer than two {requested}s")
    return requested


def assign_splits(
    groups: Sequence[str | None],
    *,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.1,
    seed: int = 0,
    test_groups: Sequence[str] = (),
) -> list[str]:
    """Split (train, validation, test) of every clip, by whole groups.

    Args:
        groups: the group of each clip; clips without one train.
        test_fraction: fraction of the *groups* in the test split, at least one group.
        validation_fraction: the same for validation; none with fewer than four groups.
        seed: seed of random groups.
        test_groups: names of the test groups, instead of random ones.

    Raises:
        InputError: an unknown test group, or nothing left to train on.
    """
    counts = Counter(group for group in groups if group is not None)
    if not counts:
        return ["train"] * len(groups)
    for name in test_groups:
        if name not in counts:
            raise unknown("test group", name, counts)
    small = [name for name in sorted(counts) if counts[name] <= MAX_HELD_OUT_FRACTION * len(groups)]
    # two or three groups only: none is small, but none that is more than half of the clips is taken either
    small = small or [name for name in sorted(counts) if counts[name] <= len(groups) / 2] or sorted(counts)
    shuffled = [name for name in np.random.default_rng(seed).permutation(small).tolist()]
    test = set(test_groups) or set(shuffled[: max(1, round(test_fraction * len(counts)))])
    left = [name for name in shuffled if name not in test]
    validation = set(left[: max(1, round(validation_fraction * len(counts)))]) if len(counts) >= 4 else set()
    if not set(counts) - test - validation:
        raise InputError(f"all {len(counts)} groups are held out: nothing is left to train on")
    return ["test" if group in test else "validation" if group in validation else "train" for group in groups]


def read_all(
    references: Sequence[T],
    work: Callable[[T], list[Clip | Rejection]],
    pool: Executor,
    name: Callable[[T], str],
) -> Iterator[Clip | Rejection]:
    """Clips and rejections of ``work`` for each reference, in order.

    Args:
        references: units to read.
        work: reads one.
        pool: where.
        name: id of a reference whose reader was killed twice, and which is rejected for that.
    """

    def reject(reference: T) -> list[Clip | Rejection]:
        return [Rejection(name(reference), WORKER_DIED)]

    for result in map_items(work, references, executor=pool, chunksize=CHUNK_SIZE, lost=reject):
        yield from result


@contextlib.contextmanager
def worker_pool(count: int, executor: Executor | None = None) -> Iterator[Executor]:
    """Executor for reading ``count`` units: the given one, or local processes, or this process for few units."""
    workers = 1 if count < MIN_CLIPS_FOR_POOL else available_cores()
    with contextlib.nullcontext((executor, 0)) if executor is not None else open_executor(workers) as (pool, _):
        yield pool


def read_and_check(
    reference: ClipRef, options: PrepareOptions, annotations: Annotations | None = None
) -> list[Clip | Rejection]:
    """Read one unit and apply the user's labels, label map and checks to each of its clips."""
    results: list[Clip | Rejection] = []
    for item in read_or_reject(reference, options.fps):
        if isinstance(item, Clip):
            label = None
            try:
                if listed := _listed(item.clip_id, options.exclude):
                    raise InputError(f"{listed} is on a list of samples to leave out")
                motion = item.motion
                if annotations is not None:
                    motion = annotations.apply(reference.clip_id, item.clip_id, motion)
                label = motion.action
                item = Clip(item.clip_id, _select(motion, options), label)
            except Exception as error:  # as in `read_or_reject`
                item = replace(make_rejection(item.clip_id, error), label=label)
        results.append(item)
    return results


def _listed(clip_id: str, exclude: frozenset[str]) -> str:
    """Name on the lists of the clip, its file, or its recording; or an empty text."""
    if not exclude:
        return ""
    name = clip_id.upper()
    parts = [name, PurePosixPath(name).name]
    parts += [part.rsplit(".", cut)[0] for part in tuple(parts) for cut in range(1, part.count(".") + 1)]
    return next((part for part in parts if part in exclude), "")


def _select(motion: Motion, options: PrepareOptions) -> Motion:
    """The motion with its action of the label map.

    Raises:
        InputError: left out by the label map, too short, a poor fit, or implausible in size.
    """
    if options.labels is not None:
        motion = replace(motion, action=options.labels.apply(motion.action))
    if motion.seconds < options.min_seconds or len(motion) < 2:
        raise InputError(f"{motion.seconds:.2f} s long, shorter than {options.min_seconds} s")
    if motion.residual > options.max_residual:
        raise InputError(f"mean distance of {motion.residual * 100:.1f} cm from the recorded joints")
    if not 0.05 < float(motion.skeleton.bone_lengths.sum()) < 50:
        raise InputError(
            f"the body is not of human size (bones of {motion.skeleton.bone_lengths.sum():.2f} m in total)"
        )
    return motion
