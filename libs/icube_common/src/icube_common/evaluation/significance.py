"""Paired significance tests of two runs, on the same subjects or on the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from icube_common.errors import InputError
from icube_common.evaluation.intervals import (
    Interval,
    MetricLike,
    interval_of,
    leave_one_out,
    mean_interval,
    over_groups,
    pseudo_values,
)
from icube_common.evaluation.metrics import Array

FLIPS = 10_000


@dataclass(frozen=True)
class Comparison:
    """The difference of two runs, first minus second.

    Args:
        difference: with its interval.
        p_value: two-sided; NaN where the difference has no interval.
        method: ``"sign flips"`` over groups, or ``"paired t"`` over seeds.
    """

    difference: Interval
    p_value: float
    method: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the interval's keys, ``p`` (None where undefined) and ``test``."""
        p = self.p_value if math.isfinite(self.p_value) else None
        return {**self.difference.to_dict(), "p": p, "test": self.method}


def paired_test(
    metric: MetricLike,
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    groups: Sequence[str] | Array,
    *,
    repeats: ArrayLike | None = None,
) -> Comparison:
    """Difference of a metric between two runs on the same rows, with a sign-flip permutation test over groups.

    Each group's part in the difference is its jackknife pseudo-value (for a mean over rows and groups of one size, the
    group's own mean difference); under "no difference" its sign is arbitrary, so all ``2 ** G`` choices of signs are
    tried where there are at most 10,000 (up to 13 groups), else 10,000 random ones. With G groups no p-value lies
    below ``2 / 2 ** G``: four subjects cannot give less than 0.125.

    Args:
        metric: as in `group_interval`.
        labels: class numbers, (N,), the same for both runs.
        a: probabilities of the first run, (N, C).
        b: probabilities of the second run, (N, C), of the same rows in the same order; `Predictions.compare` aligns
            them by id.
        groups: which subject each row is of, (N,).
        repeats: which repeat each row is of, (N,).

    Raises:
        InputError: the two runs differ in shape.
    """
    if np.shape(a) != np.shape(b):
        raise InputError(f"two runs of {np.shape(a)} and {np.shape(b)} probabilities: need the same rows and classes")
    first, names = over_groups(metric, labels, a, groups, repeats)
    second, _ = over_groups(metric, labels, b, groups, repeats)

    def difference(draws: Array) -> Array:
        return first(draws) - second(draws)

    interval = interval_of(difference, names)
    p = math.nan
    if math.isfinite(interval.low):
        p = _sign_flips(pseudo_values(interval.mean, leave_one_out(difference, len(names))))
    return Comparison(interval, p, "sign flips")


def smallest_p_value(groups: int) -> float:
    """The smallest p-value that a sign-flip test over so many groups can give, whatever the difference."""
    return max(2.0 / 2**groups, 1.0 / (FLIPS + 1)) if groups else math.nan


def _sign_flips(values: Array) -> float:
    """Two-sided p-value of the mean of ``values`` under random signs, exact where all signs can be tried."""
    from scipy import stats

    largest = np.abs(values).max()
    if largest < 1e-12:
        return 1.0
    # rounding errors would split ties between equal differences
    values = np.round(values / largest, 10)
    result = stats.permutation_test(
        (values, np.zeros_like(values)),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        batch=max(1, 1_000_000 // len(values)),
        random_state=np.random.default_rng(0),
    )
    return float(result.pvalue)


def paired_mean_test(a: ArrayLike, b: ArrayLike) -> Comparison:
    """Difference of two lists of results with the same seeds: paired t-test and t-interval.

    Not sign flips, which with the usual 3 to 5 seeds cannot reach 0.05 whatever the difference.

    Raises:
        InputError: the lists differ in length, or a value is not finite.
    """
    from scipy import stats

    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise InputError(f"two lists of {first.shape} and {second.shape} values: need one of each for each seed")
    interval = mean_interval(first - second)
    spread = float((first - second).std())
    if interval.groups == 1:
        p = math.nan
    elif spread < 1e-12:
        # the t statistic is 0/0 or infinite: equal results tell nothing, a constant difference leaves no doubt
        p = 1.0 if abs(interval.mean) < 1e-12 else 0.0
    else:
        p = float(stats.ttest_rel(first, second).pvalue)
    return Comparison(interval, p, "paired t")
