"""ROC and decision analysis: DeLong's test, AUC of each pair of classes, net benefit.

DeLong's variance of an AUC (DeLong et al., Biometrics 1988;44:837) for one scan a person; Obuchowski's (Biometrics
1997;53:567), of which it is the special case, where people have several. Shapes: N rows, K score vectors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.evaluation import Predictions, find_metric, group_interval

Array = npt.NDArray[np.float64]

THRESHOLDS = np.round(np.arange(0.05, 1.0, 0.05), 2)
"""Threshold probabilities of decision curves."""


@dataclass(frozen=True)
class DeLongTest:
    """Difference of two AUCs on the same people.

    Attributes:
        difference: first minus second.
        standard_error: of the difference.
        p_value: two-sided, normal approximation; NaN where the standard error is 0 and the AUCs differ.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    difference: float
    standard_error: float
    p_value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; what is undefined is None."""
        values = {"mean": self.difference, "se": self.standard_error, "p": self.p_value}
        ends = {"ci95": [self.low, self.high]} if math.isfinite(self.low) else {"ci95": None}
        return {name: value if math.isfinite(value) else None for name, value in values.items()} | ends


def auc_covariance(labels: npt.NDArray[np.int64], scores: Array, groups: Sequence[str]) -> tuple[Array, Array]:
    """AUCs (K,) of score vectors and their covariance (K, K) over people.

    Args:
        labels: 1 for positive rows, (N,).
        scores: (K, N), larger for positive rows.
        groups: person of each row, (N,).

    Raises:
        InputError: fewer than two people have positive or negative rows.
    """
    positive = np.asarray(labels) == 1
    _, numbers = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    m, n, people = int(positive.sum()), int((~positive).sum()), int(numbers.max()) + 1
    affected, healthy = len(np.unique(numbers[positive])), len(np.unique(numbers[~positive]))
    if min(affected, healthy) < 2:
        raise InputError(f"DeLong's variance: {affected} and {healthy} people of the two classes, two of each needed")
    areas, above, below = [], [], []
    for row in np.atleast_2d(scores):
        wins = (row[positive][:, None] > row[~positive]) + 0.5 * (row[positive][:, None] == row[~positive])
        area = wins.mean()
        areas.append(area)
        # sums over a person's rows, centred: of structural components
        above.append(np.bincount(numbers[positive], wins.mean(1) - area, minlength=people))
        below.append(np.bincount(numbers[~positive], wins.mean(0) - area, minlength=people))
    up, down = np.stack(above), np.stack(below)
    variance = affected / ((affected - 1) * m**2) * up @ up.T + healthy / ((healthy - 1) * n**2) * down @ down.T
    both = people / ((people - 1) * m * n) * up @ down.T
    return np.array(areas), variance + both + both.T


def delong_test(first: Predictions, second: Predictions) -> DeLongTest:
    """Difference of the AUCs of two runs with two classes, by DeLong; probabilities are averaged over repeats.

    Args:
        first: a run.
        second: another run, on the same scans.

    Raises:
        InputError: other scans, more than two classes, or as `auc_covariance`.
    """
    ids, labels, groups, scores = _averaged(first)
    other_ids, _, _, other = _averaged(second)
    if ids != other_ids:
        raise InputError("DeLong's test: the two runs are on different scans")
    (a, b), covariance = auc_covariance(labels, np.stack([scores, other]), groups)
    contrast = np.array([1.0, -1.0])
    error = math.sqrt(max(0.0, float(contrast @ covariance @ contrast)))
    difference = float(a - b)
    if error < 1e-12:
        return DeLongTest(difference, 0.0, 1.0 if abs(difference) < 1e-12 else math.nan, difference, difference)
    from scipy import stats

    half = float(stats.norm.ppf(0.975)) * error
    return DeLongTest(
        difference, error, float(2 * stats.norm.sf(abs(difference) / error)), difference - half, difference + half
    )


def _averaged(predictions: Predictions) -> tuple[list[str], npt.NDArray[np.int64], list[str], Array]:
    """Scans in order of their ids, labels, people and probabilities of the second class."""
    if len(predictions.class_names) != 2:
        raise InputError(f"DeLong's test: {len(predictions.class_names)} classes, two needed")
    ids, first, numbers = np.unique(np.asarray(predictions.ids), return_index=True, return_inverse=True)
    scores = np.bincount(numbers, predictions.probabilities[:, 1]) / np.bincount(numbers)
    return ids.tolist(), predictions.labels[first], [str(predictions.subjects[row]) for row in first], scores


def pairwise_auc(predictions: Predictions) -> list[dict[str, Any]]:
    """AUC between each two classes with its interval over people, and the macro average (Hand and Till 2001).

    A pair's score is the probability of the second class among the two. Pairs without rows of both are left away.

    Returns:
        Rows ``{"classes": (first, second), "people": n, "auc": interval}``; the last has ``("all pairs",)``.
    """
    names = predictions.class_names
    rows = []
    for a, b in itertools.combinations(range(len(names)), 2):
        mine = (predictions.labels == a) | (predictions.labels == b)
        labels = (predictions.labels[mine] == b).astype(np.int64)
        if len(set(labels.tolist())) < 2:
            continue
        two = predictions.probabilities[mine][:, [a, b]]
        total = two.sum(axis=1, keepdims=True)
        shares = np.where(total > 0, two / np.where(total > 0, total, 1.0), 0.5)
        subjects = np.asarray(predictions.subjects)[mine]
        interval = group_interval(
            find_metric("auc"), labels, shares, subjects, repeats=np.asarray(predictions.repeats)[mine]
        )
        rows.append({"classes": (names[a], names[b]), "people": len(set(subjects)), "auc": interval.to_dict()})
    macro = predictions.metrics(["auc_ovo"])["auc_ovo"].to_dict()
    return [*rows, {"classes": ("all pairs",), "people": len(set(predictions.subjects)), "auc": macro}]


def net_benefit(predictions: Predictions, thresholds: Array = THRESHOLDS) -> dict[str, Array]:
    """Decision curve of the second of two classes (Vickers and Elkin, Med Decis Making 2006;26:565).

    ``TP / n - FP / n * t / (1 - t)`` of acting where the probability is at least t; averaged over repeats.

    Args:
        predictions: of two classes.
        thresholds: (T,) probabilities below 1.

    Returns:
        ``model``, ``all`` (act on all people) and ``none``, each (T,).

    Raises:
        InputError: more than two classes.
    """
    if len(predictions.class_names) != 2:
        raise InputError(f"decision curve: {len(predictions.class_names)} classes, two needed")
    odds = thresholds / (1 - thresholds)
    positive, scores = predictions.labels == 1, predictions.probabilities[:, 1]
    acted = scores[:, None] >= thresholds
    share = positive.mean()
    model = (acted & positive[:, None]).mean(0) - (acted & ~positive[:, None]).mean(0) * odds
    return {"model": model, "all": share - (1 - share) * odds, "none": np.zeros_like(thresholds)}
