"""Splits by group: no subject (or, without subjects, no style) is in two splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from icube_common.errors import InputError, unknown

# a group with a larger fraction of the clips stays in training, which would be too small without it
MAX_HELD_OUT_FRACTION = 0.25


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
