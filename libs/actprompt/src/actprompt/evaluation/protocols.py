"""Evaluation protocols as folds: published splits, and splits sampled here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from actprompt.config import ActConfig
from actprompt.data.manifest import Manifest
from actprompt.training.folds import official_fold, validation_share
from icube_common.errors import InputError, unknown
from icube_common.evaluation import (
    BaseToNew,
    Fold,
    Samples,
    base_to_new,
    few_shot,
    grouped_k_fold,
    held_out,
    leave_one_group_out,
)

DRAWN = ("leave-one-subject-out", "k-fold", "few-shot", "base-to-new", "official")
"""Protocols of every set, beside the published ones of its own."""
MAX_SUBJECTS = 10
"""Up to this many subjects, few-shot and base-to-new leave each of them out in turn; with more, a quarter of them."""


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """Options of sampled protocols.

    Attributes:
        folds: number of folds of k-fold.
        repeats: repeats of k-fold.
        shots: training clips of each class, for few-shot.
        draws: samples of few-shot's clips, or of base-to-new's classes.
        new_classes: how many classes base-to-new leaves out of training; None: half.
        seed: of all samples.

    Raises:
        InputError: a number out of range.
    """

    folds: int = 5
    repeats: int = 1
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 3
    new_classes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum in (("folds", 2), ("repeats", 1), ("draws", 1), ("seed", 0)):
            if getattr(self, name) < minimum:
                raise InputError(f"{name} {getattr(self, name)}: must be at least {minimum}")
        if not self.shots or min(self.shots) < 1:
            raise InputError(f"shots {list(self.shots)}: must be positive numbers, and at least one")


def subject_folds(manifest: Manifest, samples: Samples, config: ActConfig, protocol: str) -> Iterator[Fold]:
    """Each subject left out in turn, or each group of a set's own protocol of that kind.

    Raises:
        InputError: clips without a subject, or one subject only.
    """
    if protocol == "leave-one-subject-out":
        unnamed = [clip.id for clip in manifest.clips if clip.subject is None]
        if unnamed:
            raise InputError(
                f"{manifest.folder}: {protocol}: {unnamed[0]} names no subject ({len(unnamed)} clips do not)"
            )
    else:
        column = manifest.groups(protocol)
        samples = Samples(
            ids=samples.ids, labels=samples.labels, class_names=samples.class_names, groups=column, sites=samples.sites
        )
    yield from leave_one_group_out(samples, seed=config.train.seed, validation=validation_share(config))


def plain_folds(
    manifest: Manifest, samples: Samples, config: ActConfig, protocol: str, options: ProtocolOptions
) -> Iterator[Fold]:
    """The folds of a protocol that trains on all classes and on all clips outside the test side.

    Raises:
        InputError: no such protocol; the nearest is named.
    """
    splits = [name for name, definition in manifest.protocols.items() if definition.kind == "split"]
    if protocol == "k-fold":
        yield from grouped_k_fold(
            samples,
            folds=options.folds,
            repeats=options.repeats,
            seed=options.seed,
            validation=validation_share(config),
        )
    elif protocol == "official":
        # a repeat each: the published figure is the mean over the splits, and they may test the same clips (HMDB51)
        yield from (
            replace(official_fold(manifest, samples, name, config, number=number), repeat=number)
            for number, name in enumerate(_official(manifest, splits))
        )
    elif protocol in splits:
        yield official_fold(manifest, samples, protocol, config)
    elif protocol == "leave-one-subject-out" or protocol in manifest.protocols:
        yield from subject_folds(manifest, samples, config, protocol)
    else:
        raise unknown("protocol", protocol, [*DRAWN, *manifest.protocols])


def _official(manifest: Manifest, splits: list[str]) -> list[str]:
    """The splits of "official": the only one, or the numbered ones of a set whose figure is their mean."""
    if len(splits) == 1 or (splits and all(name.startswith("split-") for name in splits)):
        return splits
    splits_text = f"several: name one of {', '.join(splits)}" if splits else "none"
    raise InputError(f"{manifest.folder}: protocol official: this set has {splits_text}")


def few_shot_folds(samples: Samples, config: ActConfig, options: ProtocolOptions) -> Iterator[tuple[int, Fold]]:
    """Shots and fold, for each number of shots, draw and test side.

    Raises:
        InputError: a class has fewer clips than shots on a training side.
    """
    for test_ids in split_test_sides(samples):
        folds = few_shot(
            samples,
            shots=options.shots,
            seeds=[options.seed + draw for draw in range(options.draws)],
            test_ids=test_ids,
            validation=validation_share(config),
        )
        for fold in folds:
            yield options.shots[fold.number], fold


def base_to_new_folds(
    samples: Samples, config: ActConfig, options: ProtocolOptions
) -> Iterator[tuple[int, list[str], BaseToNew]]:
    """Number of the draw, the new classes and both folds, for each draw of classes and each test side.

    Raises:
        InputError: fewer than two classes on either side, or fewer choices than draws.
    """
    names = list(samples.class_names)
    count = len(names) // 2 if options.new_classes is None else options.new_classes
    if not 2 <= count <= len(names) - 2:
        raise InputError(f"base-to-new: {count} new of {len(names)} classes: need at least two new and two others")
    if math.comb(len(names), count) < options.draws:
        possible = math.comb(len(names), count)
        raise InputError(f"base-to-new: {options.draws} draws, and only {possible} choices of {count} classes")
    generator = np.random.default_rng(options.seed)
    drawn: list[tuple[int, ...]] = []
    if len(names) <= 20:
        choices = list(combinations(range(len(names)), count))
        drawn = [choices[index] for index in generator.permutation(len(choices))[: options.draws]]
    while len(drawn) < options.draws:
        indices = tuple(sorted(generator.permutation(len(names))[:count].tolist()))
        drawn += [indices] if indices not in drawn else []
    for number, indices in enumerate(drawn):
        new = [names[index] for index in indices]
        for test_ids in split_test_sides(samples):
            # one division of the classes a call: the classes are sampled here, so that no choice occurs twice
            yield from (
                (number, new, pair)
                for pair in base_to_new(
                    samples,
                    new_classes=new,
                    seed=options.seed,
                    test_ids=test_ids,
                    validation=validation_share(config),
                )
            )


def split_test_sides(samples: Samples) -> list[list[str]]:
    """Ids of the test sides of few-shot and base-to-new: each subject in turn, or a quarter of many subjects."""
    groups = sorted(set(samples.groups or ()))
    if not 2 <= len(groups) <= MAX_SUBJECTS:
        return [held_out(samples)]
    return [
        [name for name, owner in zip(samples.ids, samples.groups or (), strict=True) if owner == group]
        for group in groups
    ]
