"""Splits by group: no subject (or, where no subject is known, no style) stands on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from icube_common.errors import InputError, unknown

# a group with more than this share of the clips stays in training: taken out, too little would be left to learn from
MAX_HELD_OUT_FRACTION = 0.25


def choose_split_key(subjects: Sequence[str | None], styles: Sequence[str | None], wanted: str | None) -> str | None:
    """What to split by: subject where there are several, else style where there are several, else nothing.

    Raises:
        InputError: ``wanted`` names something else, or something of which there are not two.
    """
    several = {
        "subject": len({subject for subject in subjects if subject is not None}) > 1,
        "style": len({style for style in styles if style is not None}) > 1,
    }
    if wanted is None:
        return next((key for key, is_several in several.items() if is_several), None)
    if wanted not in several:
        raise unknown("value of --split-by", wanted, several)
    if not several[wanted]:
        raise InputError(f"--split-by {wanted}: the clips name fewer than two {wanted}s")
    return wanted


def assign_splits(
    groups: Sequence[str | None],
    *,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    seed: int = 0,
    test_groups: Sequence[str] = (),
) -> list[str]:
    """One of train, validation, test for every clip, whole groups at a time.

    Args:
        groups: the group of each clip; clips without one train.
        test_share: share of the *groups* that is held out for testing, at least one group.
        validation_share: the same for choosing models; none with fewer than four groups.
        seed: which groups are drawn.
        test_groups: names of the test groups, instead of drawing them.

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
    test = set(test_groups) or set(shuffled[: max(1, round(test_share * len(counts)))])
    left = [name for name in shuffled if name not in test]
    validation = set(left[: max(1, round(validation_share * len(counts)))]) if len(counts) >= 4 else set()
    if not set(counts) - test - validation:
        raise InputError(f"all {len(counts)} groups are held out: nothing is left to train on")
    return ["test" if group in test else "validation" if group in validation else "train" for group in groups]
