"""A share of the real training clips as a store of its own: what is trained on it can see nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError, unknown
from icube_common.io.runs import atomic_folder
from motiondiff.config import MIN_CLIPS
from motiondiff.data.store import NO_LABEL, SPLITS, MotionStore
from motiondiff.data.store_writer import StoreWriter

Index = npt.NDArray[np.int64]


def split_real_and_test(store: MotionStore, test_subjects: Sequence[str] = ()) -> tuple[Index, Index]:
    """The clips that fractions are drawn from, and the clips of held-out subjects.

    A study chooses nothing on a validation split, so its clips are training clips here.

    Args:
        store: the prepared data.
        test_subjects: held-out subjects; by default the store's test split.

    Raises:
        InputError: an unknown subject, no or all subjects held out, a subject on both sides, a class with fewer than
            `MIN_CLIPS` clips to train on, or one without a test clip.
    """
    labelled = store.columns["action"] != NO_LABEL
    subjects = store.columns["subject"]
    for name in test_subjects:
        if name not in store.subjects:
            raise unknown("test subject", name, store.subjects)
    if test_subjects:
        held_out = np.isin(subjects, [store.subjects.index(name) for name in test_subjects])
    else:
        held_out = store.columns["split"] == SPLITS.index("test")
    real, test = np.flatnonzero(labelled & ~held_out), np.flatnonzero(labelled & held_out)
    if not len(real) or not len(test):
        raise InputError(f"{store.path}: {len(real)} clips to train on, {len(test)} held out: both are needed")
    column = "style" if store.header.get("split_by") == "style" and not test_subjects else "subject"
    both = (set(store.names(column, real)) & set(store.names(column, test))) - {""}
    if both:
        raise InputError(f"{store.path}: {column} {min(both)!r} has clips on both sides of the split")
    for code, action in enumerate(store.actions):
        count, test_count = (int((store.columns["action"][rows] == code).sum()) for rows in (real, test))
        if count < MIN_CLIPS:
            words = {0: "no clip", 1: "a single clip"}[count]
            raise InputError(f"{store.path}: class {action!r} has {words} to train on, at least {MIN_CLIPS} are needed")
        if not test_count:
            raise InputError(f"{store.path}: class {action!r} has no clip of the held-out subjects")
    return real, test


def sample_subset(store: MotionStore, real: Index, fraction: float, seed: int) -> Index:
    """Clips of each class in the same proportion, at least `MIN_CLIPS`; a larger fraction holds every smaller one.

    Args:
        store: gives the classes.
        real: what is drawn from.
        fraction: share of each class, 0 to 1.
        seed: which clips.
    """
    actions = store.columns["action"][real]
    drawn = []
    for code in np.unique(actions):
        rows = np.random.default_rng([seed, int(code)]).permutation(real[actions == code])
        drawn.append(rows[: max(MIN_CLIPS, round(fraction * len(rows)))])
    return np.sort(np.concatenate(drawn))


def check_distinct_subsets(store: MotionStore, real: Index, fractions: Sequence[float], seed: int) -> None:
    """Two rows of a table must not be the same clips under two names.

    Raises:
        InputError: two fractions draw the same clips, since `MIN_CLIPS` of a class is the least.
    """
    drawn: dict[int, float] = {}
    for fraction in sorted(fractions):
        count = len(sample_subset(store, real, fraction, seed))
        if count in drawn:
            raise InputError(
                f"fractions {drawn[count]:g} and {fraction:g} draw the same {count} of {len(real)} clips, at least "
                f"{MIN_CLIPS} of each class: leave one out, or hold fewer subjects out"
            )
        drawn[count] = fraction


def write_subset(
    store: MotionStore, rows: Index, out: str | Path, description: dict[str, Any] | None = None
) -> MotionStore:
    """Some clips of a store as a store of its own, all of them in the training split.

    Raises:
        InputError: ``out`` exists.
    """
    provenance = {name: store.header.get(name) for name in ("format", "source", "simulated")}
    with atomic_folder(out) as folder, StoreWriter(folder) as writer:
        for row in rows.tolist():
            writer.append(store[row], store.world_transform(row), clip_id=store.clip_ids[row])
        writer.finish(
            description={**provenance, "split_by": "none", "subset_of": store.fingerprint, **(description or {})}
        )
    return MotionStore(out)
