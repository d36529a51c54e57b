"""Folds over people, and shares of their clips as stores: a training on such a store can read no other clip."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError, unknown
from icube_common.io.runs import atomic_folder
from motiondiff.augmentation.study.config import StudyConfig
from motiondiff.config import MIN_CLIPS
from motiondiff.data.store import NO_LABEL, SPLITS, MotionStore
from motiondiff.data.store_writer import StoreWriter

logger = logging.getLogger(__name__)

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class PeopleFold:
    """A part of the people, and the clips of all others.

    Attributes:
        number: from 0.
        people: names of the test people, sorted.
        real: clips of the others: shares of them are trained on.
        test: clips of the test people.
    """

    number: int
    people: tuple[str, ...]
    real: Index
    test: Index


def people_folds(store: MotionStore, config: StudyConfig) -> list[PeopleFold]:
    """Folds of a study: every subject is tested in exactly one of them.

    Subjects in the order of their names are dealt out like cards. With ``folds=1`` the one fold holds out
    ``config.test_subjects``, or the test split of the store.

    Raises:
        InputError: fewer subjects than folds, clips without a subject, or as `split_real_and_test`.
    """
    if config.folds == 1 or config.test_subjects:
        real, test = split_real_and_test(store, config.test_subjects)
        subjects, styles = (sorted(set(store.names(column, test)) - {""}) for column in ("subject", "style"))
        return [PeopleFold(number=0, people=tuple(subjects or styles), real=real, test=test)]
    labelled = np.flatnonzero(store.columns["action"] != NO_LABEL)
    subjects = store.names("subject", labelled)
    people = sorted(set(subjects) - {""})
    if "" in subjects or len(people) < config.folds:
        raise InputError(
            f"{store.path}: {len(people)} subjects, {subjects.count('')} clips without one: {config.folds} folds over "
            "people need as many subjects, and that of every clip; set folds=1 for the test split of the store"
        )
    result = []
    for number in range(config.folds):
        group = tuple(people[number :: config.folds])
        real, test = split_real_and_test(store, group, every_class=False)
        result.append(PeopleFold(number=number, people=group, real=real, test=test))
    return result


def cell_clips(store: MotionStore, fold: PeopleFold, config: StudyConfig, fraction: float) -> Index:
    """Training clips of a cell: its share of the clips of the fold's training people."""
    return sample_subset(store, fold.real, fraction, config.subset_seed)


def inner_parts(store: MotionStore, clips: Index, config: StudyConfig) -> list[Index]:
    """Parts of a cell's training clips by people, of which a mixture is chosen; none with a single person.

    Args:
        store: the data.
        clips: of `cell_clips`.
        config: of the study: at most ``mixture.inner_folds`` parts.
    """
    subjects = np.array(store.names("subject", clips))
    people = sorted(set(subjects.tolist()) - {""})
    count = min(config.mixture.inner_folds, len(people))
    if count < 2:
        return []
    return [clips[np.isin(subjects, people[number::count])] for number in range(count)]


def split_real_and_test(
    store: MotionStore, test_subjects: Sequence[str] = (), *, every_class: bool = True
) -> tuple[Index, Index]:
    """The clips that fractions are drawn from, and the clips of held-out subjects.

    A study chooses nothing on a validation split, so its clips are training clips here.

    Args:
        store: the prepared data.
        test_subjects: held-out subjects; by default the store's test split.
        every_class: require a test clip of every class.

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
        if not test_count and every_class:
            raise InputError(f"{store.path}: class {action!r} has no clip of the held-out subjects")
    return real, test


def sample_subset(store: MotionStore, real: Index, fraction: float, seed: int) -> Index:
    """Clips of each class in the same proportion, at least `MIN_CLIPS`; a larger fraction holds every smaller one.

    The clips of a class come from as many people as possible.

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
        people = store.columns["subject"][rows]
        earlier = [int((people[:number] == person).sum()) for number, person in enumerate(people)]
        rows = rows[np.argsort(earlier, kind="stable")]
        drawn.append(rows[: max(MIN_CLIPS, round(fraction * len(rows)))])
    return np.sort(np.concatenate(drawn))


def distinct_fractions(store: MotionStore, folds: Sequence[PeopleFold], config: StudyConfig) -> list[float]:
    """The fractions without those that draw the same clips as a larger one in any fold, which are logged.

    `MIN_CLIPS` of a class is the least: small fractions of few clips coincide.
    """
    distinct: list[float] = []
    larger: list[int] = []
    for fraction in sorted(config.fractions, reverse=True):
        sizes = [len(cell_clips(store, fold, config, fraction)) for fold in folds]
        if any(size == other for size, other in zip(sizes, larger, strict=False)):
            logger.info("%s: left out of fractions, since it draws the clips of the next larger one", f"{fraction:g}")
            continue
        larger = sizes
        distinct.append(fraction)
    return sorted(distinct)


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
