"""Splits of rows into two parts of about given size, with whole groups and every class on the training side."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from icube_common.errors import InputError
from icube_common.evaluation.manifest import Samples
from icube_common.evaluation.metrics import Array

# with two groups a validation split would take half of what there is to learn from
FEWEST_GROUPS = 3


def stratified_groups(samples: Samples, rows: Array, parts: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Divide rows into ``parts``, whole groups in each, labels (and sites) as even as the groups allow.

    Yields:
        ``(rest, part)``, row numbers, for each part in turn (scikit-learn's StratifiedGroupKFold).

    Raises:
        InputError: fewer groups than parts, or no class has as many rows as there are parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = samples.group_array[rows]
    count = len(np.unique(groups))
    if count < parts or parts < 2:
        raise InputError(f"{parts} folds of {count} groups: need at least 2 folds and a group for each")
    strata = samples.labels[rows]
    if samples.sites is not None:
        sites = np.unique(np.asarray(samples.sites, dtype=str)[rows], return_inverse=True)[1]
        crossed = np.unique(strata * (sites.max() + 1) + sites, return_inverse=True)[1]
        # combinations rarer than the parts cannot be spread; where all are, the label alone is balanced
        strata = crossed if np.bincount(crossed).max() >= parts else strata
    if np.bincount(strata).max() < parts:
        raise InputError(f"{parts} folds: no class has as many rows, take fewer folds")
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # a class rarer than the parts is in the fold's notes where it is left without a training row
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        divided = list(splitter.split(np.zeros(len(rows)), strata, groups))
    for rest, part in divided:
        yield rows[rest], rows[part]


def inner_split(samples: Samples, rows: Array, fraction: float, seed: int) -> tuple[Array, Array, tuple[str, ...]]:
    """Take a validation part off training rows: whole groups, labels balanced, no class lost from training.

    Args:
        samples: the table.
        rows: training rows.
        fraction: wanted share of the groups; 0 for none.
        seed: of the draw.

    Returns:
        Training rows, validation rows, and notes: why validation is empty, where it is.

    Raises:
        InputError: the fraction is not in 0..0.5.
    """
    if not 0 <= fraction <= 0.5:
        raise InputError(f"validation {fraction}: need a share between 0 and 0.5")
    empty = np.array([], dtype=np.int64)
    if fraction == 0:
        return rows, empty, ("no validation rows: none asked for",)
    count = len(np.unique(samples.group_array[rows]))
    if count < FEWEST_GROUPS:
        return rows, empty, (f"no validation rows: {count} training groups, {FEWEST_GROUPS} are needed",)
    parts = min(round(1 / fraction), count, int(np.bincount(samples.labels[rows]).max()))
    present = set(samples.labels[rows].tolist())
    if parts >= 2:
        for rest, part in stratified_groups(samples, rows, parts, seed):
            if len(part) and set(samples.labels[rest].tolist()) == present:
                return rest, part, ()
    return rows, empty, ("no validation rows: every split by group would leave a class without training rows",)


def held_out(samples: Samples, *, fraction: float = 0.25, seed: int = 0) -> list[str]:
    """Ids of a test part for data without an official split: whole groups, labels balanced.

    Raises:
        InputError: there is no such split that leaves every class on the training side.
    """
    _, test, notes = inner_split(samples, np.arange(len(samples)), fraction, seed)
    if notes:
        raise InputError(f"held-out test rows: {notes[0].partition(': ')[2]}")
    return [samples.ids[row] for row in test]
