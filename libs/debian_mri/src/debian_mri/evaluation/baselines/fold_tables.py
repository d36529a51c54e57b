"""Rows of side tables as arrays, through a fold's views: training and test rows of a plain classifier.

N rows that are learnt from, M that are tested, P columns, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """One training and one test.

    Attributes:
        known: (N, ...) what is learnt from: training and validation rows.
        labels: (N,) positions in the fold's training classes.
        groups: (N,) whose each is.
        test: (M, ...) what is predicted.
        classes: C, how many columns a prediction has.
    """

    train: Array
    labels: Labels
    groups: npt.NDArray[np.str_]
    test: Array
    classes: int


def fold_rows(fold: Fold, table: Mapping[str, Any]) -> Rows:
    """A table's rows of a fold; labels of test rows are not in it.

    Args:
        fold: its training and test classes are the same.
        table: scan id -> numbers, all of one shape.

    Raises:
        InputError: a class has no training row.
    """
    assert fold.train_classes == fold.test_classes
    labels = np.concatenate([fold.train_labels, fold.validation_labels])
    counts = np.bincount(labels, minlength=len(fold.train_classes))
    if not counts.all():
        empty = fold.train_class_names[int(counts.argmin())]
        raise InputError(f"fold {fold.name!r}: class {empty!r} has no training row; take fewer folds, or leave it out")
    visible = fold.side_table(table)
    order = [fold.samples.ids[row] for row in np.concatenate([fold.train, fold.validation])]
    groups = [fold.samples.groups[row] for row in np.concatenate([fold.train, fold.validation])]
    return Rows(
        train=np.stack([np.asarray(visible[name], dtype=np.float64) for name in order]),
        labels=labels,
        groups=np.asarray(groups, dtype=str),
        test=fold.test_inputs(table).array().astype(np.float64),
        classes=len(fold.train_classes),
    )


def as_samples(labels: Labels, groups: npt.NDArray[np.str_], classes: int) -> Samples:
    """Training rows as a table of their own, for inner splits; the ids are the rows' numbers."""
    return Samples(
        ids=[str(row) for row in range(len(labels))],
        labels=labels,
        class_names=[str(number) for number in range(classes)],
        groups=list(groups),
    )


def with_missing_indicators(train: Array, test: Array) -> tuple[Array, Array]:
    """Columns scaled by the training rows; a missing value is 0, the mean, with an indicator column.

    Args:
        train: (N, P), NaN where missing.
        test: (M, P).

    Returns:
        (N, P + I) and (M, P + I): an indicator for each column that misses a value among the N rows. A column that is
        missing in all of them is left away.
    """
    there = ~np.isnan(train)
    use = there.any(axis=0)
    train, test, there = train[:, use], test[:, use], there[:, use]
    if train.shape[1] == 0:
        return np.zeros((len(train), 0)), np.zeros((len(test), 0))
    center, spread = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    gaps = ~there.all(axis=0)
    sides = []
    for part in (train, test):
        missing = np.isnan(part)
        scaled = np.where(missing, 0.0, (part - center) / spread)
        sides.append(np.concatenate([scaled, missing[:, gaps].astype(np.float64)], axis=1))
    return sides[0], sides[1]
