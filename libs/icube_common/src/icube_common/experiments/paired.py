"""Variants against the baseline: paired differences with interval and p-value, corrected for how many there are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from icube_common.evaluation.intervals import Interval
from icube_common.evaluation.paired import paired_mean_test


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference to the baseline.

    Attributes:
        interval: mean and 95 % interval of (variant - baseline).
        p_value: two-sided.
        over: what the pairs are, with their number: ``3 seeds``, ``41 groups``.
        p_holm: the p-value corrected for all comparisons of the study.
    """

    interval: Interval
    p_value: float
    over: str
    p_holm: float = math.nan


def over_seeds(variant: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """The difference over the seeds that both have been run with; None with fewer than two of them.

    Args:
        variant: seed -> figure.
        baseline: the same for the baseline.
    """
    seeds = sorted(variant.keys() & baseline.keys())
    if len(seeds) < 2:
        return None
    test = paired_mean_test([variant[seed] for seed in seeds], [baseline[seed] for seed in seeds])
    return Difference(interval=test.difference, p_value=test.p_value, over=f"{len(seeds)} seeds")


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scand. J. Statist. 6, 1979): the chance of one false finding among all stays below.

    The i-th smallest of m values is multiplied by m - i + 1, is at least as large as the one before it, and at most 1.
    Values that are not numbers stay so and do not count.
    """
    corrected = [math.nan] * len(p_values)
    order = sorted((p, index) for index, p in enumerate(p_values) if math.isfinite(p))
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[index] = largest
    return corrected
