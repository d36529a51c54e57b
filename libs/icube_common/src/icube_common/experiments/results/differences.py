"""Variants against the baseline: paired differences with interval and p-value, corrected for how many there are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.evaluation.intervals import Interval
from icube_common.evaluation.metrics import find_metric
from icube_common.evaluation.predictions import Predictions, concatenate
from icube_common.evaluation.significance import Comparison, paired_mean_test, smallest_p_value


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference to the baseline.

    Attributes:
        interval: mean and 95 % interval of (variant - baseline).
        p_value: two-sided.
        over: what the pairs are, with their number: ``3 seeds``, ``41 groups``.
        p_holm: the p-value corrected for all comparisons of the study.
        note: why the pairs are seeds though there are predictions; empty otherwise.
        smallest_p: the smallest p-value that the test can give with so many pairs; 0 where there is no such bound.
        role: ``primary`` or ``descriptive`` where the study names a primary comparison; empty otherwise.
    """

    interval: Interval
    p_value: float
    over: str
    p_holm: float = math.nan
    note: str = ""
    smallest_p: float = 0.0
    role: str = ""

    @classmethod
    def over_groups(cls, test: Comparison) -> Difference:
        """The difference of two runs, paired by subject."""
        groups = test.difference.groups
        smallest = smallest_p_value(groups)
        return cls(interval=test.difference, p_value=test.p_value, over=f"{groups} groups", smallest_p=smallest)

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        role = {"role": self.role} if self.role else {}
        return {"over": self.over, "p": self.p_value, "p_holm": self.p_holm, **role, **self.interval.to_dict()}


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


def over_groups(variant: Mapping[int, Path], baseline: Mapping[int, Path], metric: str) -> Difference:
    """The difference over the groups (subjects) of predictions, each seed standing as a repeat.

    Args:
        variant: seed -> its ``predictions.csv``.
        baseline: the same for the baseline, with the same seeds.
        metric: a metric of `icube_common.evaluation.metrics`.

    Raises:
        InputError: that metric is unknown there, a file cannot be read, or the two were not made on the same rows.
    """
    return Difference.over_groups(_joined(variant).compare(_joined(baseline), [metric])[metric])


def _joined(files: Mapping[int, Path]) -> Predictions:
    """The predictions of several seeds in one table, the repeats of each set apart from those of the others."""
    parts = [Predictions.read_csv(files[seed]) for seed in sorted(files)]
    apart = 1 + max(int(part.repeats.max()) for part in parts)
    return concatenate(replace(part, repeats=part.repeats + index * apart) for index, part in enumerate(parts))


def value_of(predictions: Path, metric: str) -> float:
    """The metric of a file of predictions, the mean over its repeats."""
    result = Predictions.read_csv(predictions)
    rows = [result.repeats == repeat for repeat in np.unique(result.repeats)]
    values = [find_metric(metric)(result.labels[row], result.probabilities[row]) for row in rows]
    return math.fsum(values) / len(values)


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


LEVEL = 0.05


def out_of_reach(differences: Sequence[Difference]) -> str:
    """Sentence for tests whose p-values cannot reach .05 after Holm's correction; empty where one can."""
    tested = [result for result in differences if math.isfinite(result.p_value)]
    if not tested:
        return ""
    least = min(tested, key=lambda result: result.smallest_p)
    if least.smallest_p * len(tested) <= LEVEL:
        return ""
    reason = f"With {least.over} no p lies below {least.smallest_p:.2g}"
    if len(tested) == 1:
        return f"{reason}: the difference and its interval are descriptive."
    return (
        f"{reason}, and {min(1.0, least.smallest_p * len(tested)):.2g} after Holm's correction for {len(tested)} "
        "comparisons: none of them can be significant. Name one as primary before the study runs, or read differences "
        "and intervals as descriptive."
    )
