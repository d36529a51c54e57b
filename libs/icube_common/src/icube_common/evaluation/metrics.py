"""Metrics of classification from labels and probabilities, written so that thousands of resamples cost one product.

Shapes: ``N`` rows, ``C`` classes, ``G`` groups (subjects), ``B`` resamples.

Each metric is a `Metric`: called with ``labels (N,)`` and ``probabilities (N, C)`` it gives its value. All but the AUC
depend on the rows through sums only, so a bootstrap needs the sums of each group once and then one matrix product;
scikit-learn, which would be called once per resample, is what the tests compare the values with. The predicted class
is the most probable one, the first of several that are equally probable. Where a metric is not defined (a class that
it needs has no row) its value is NaN; `absent_classes` names the reason.
"""

from __future__ import annotations

import functools
import itertools
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from icube_common.errors import InputError, unknown

Array: TypeAlias = NDArray[Any]
# how often each group is drawn (B, G) -> the metric's values (B,)
OverGroups: TypeAlias = Callable[[Array], Array]

ECE_BINS = 15
# elements of one resampled block of rows: 2 MB of float64, which a processor's cache holds
_BLOCK = 250_000


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric that can be called, and evaluated on many resamples of groups at once.

    Args:
        name: its name in tables and files.
        meaning: one line: definition and source.
        range: its smallest and largest possible value.
        over_groups: ``(labels, probabilities, groups (N,) of 0..G-1, G)`` -> a function from ``(B, G)``, how often
            each group is drawn, to the metric's value for each of these ``B`` draws.
        biased: few rows push it to one side, so that an interval has to take the bias off.
    """

    name: str
    meaning: str
    range: tuple[float, float]
    over_groups: Callable[[Array, Array, Array, int], OverGroups]
    biased: bool = False

    def __call__(self, labels: ArrayLike, probabilities: ArrayLike) -> float:
        """The metric of ``labels`` (N,) and ``probabilities`` (N, C).

        Raises:
            InputError: the shapes do not fit, a label lies outside 0..C-1, or a probability outside 0..1.
        """
        label_array, probability_array = check_predictions(labels, probabilities)
        groups = np.zeros(len(label_array), dtype=np.int64)
        return float(self.over_groups(label_array, probability_array, groups, 1)(np.ones((1, 1)))[0])


def check_predictions(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Array, Array]:
    """Labels as ``(N,)`` integers and probabilities as ``(N, C)`` float64.

    Raises:
        InputError: the shapes do not fit, there is no row, fewer than two classes, a label outside 0..C-1, or a
            probability that is no number of 0..1; rows need not sum to one here.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or y.shape != p.shape[:1] or len(y) == 0 or p.shape[1] < 2:
        raise InputError(
            f"labels {y.shape} and probabilities {p.shape}: need (N,) and (N, C), at least one row, two classes"
        )
    if not np.issubdtype(y.dtype, np.integer):
        raise InputError(f"labels: of type {y.dtype}, need class numbers (integers)")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise InputError(f"labels: {y.min()} to {y.max()}, need 0 to {p.shape[1] - 1} for {p.shape[1]} classes")
    if not ((p >= 0) & (p <= 1 + 1e-6)).all():  # False for NaN too
        raise InputError("probabilities: each has to lie between 0 and 1; turn logits into probabilities first")
    return y.astype(np.int64), p


def absent_classes(labels: ArrayLike, count: int) -> list[int]:
    """Numbers of the classes of 0..count-1 that no label has: why an AUC or a recall is NaN."""
    return sorted(set(range(count)) - set(np.unique(np.asarray(labels)).tolist()))


def _from_sums(
    rows: Callable[[Array, Array], Array], low: float = 0.0, high: float = 1.0, biased: bool = False
) -> Callable[[Callable[[Array], Array]], Metric]:
    """Make a `Metric` from a function of sums over rows.

    Args:
        rows: ``(labels, probabilities)`` -> ``(N, S)``, what each row adds.
        low: the smallest possible value.
        high: the largest possible value.
        biased: see `Metric`.
    """

    def wrap(value: Callable[[Array], Array]) -> Metric:
        def over_groups(labels: Array, probabilities: Array, groups: Array, count: int) -> OverGroups:
            added = rows(labels, probabilities)
            sums = np.zeros((count, added.shape[1]))
            np.add.at(sums, groups, added)

            def values(draws: Array) -> Array:
                with np.errstate(invalid="ignore", divide="ignore"):  # NaN is the answer where a class is absent
                    return value(draws @ sums)

            return values

        return Metric(value.__name__, (value.__doc__ or "").split("\n")[0], (low, high), over_groups, biased)

    return wrap


def _rate(rows: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Numerator and denominator of a mean: the value of each row, and one."""
    return lambda labels, probabilities: np.stack([rows(labels, probabilities), np.ones(len(labels))], axis=1)


@functools.cache
def top_k(k: int) -> Metric:
    """The metric "share of rows whose class is among the ``k`` most probable"; equally probable ones rank in order.

    Its call raises InputError where there are not more than ``k`` classes, as the answer is then always one.
    """
    if k < 1:
        raise InputError(f"top_{k}: k has to be at least 1")

    def hit(labels: Array, probabilities: Array) -> Array:
        classes = probabilities.shape[1]
        if k >= classes:
            raise InputError(f"top_{k}: needs more than {k} classes, there are {classes}")
        true_class = np.take_along_axis(probabilities, labels[:, None], axis=1)
        earlier = np.arange(classes) < labels[:, None]
        rank = ((probabilities > true_class) | ((probabilities == true_class) & earlier)).sum(axis=1)
        return rank < k

    def share(sums: Array) -> Array:
        return sums[..., 0] / sums[..., 1]

    share.__name__ = f"top_{k}"
    share.__doc__ = f"share of rows whose class is among the {k} most probable" if k > 1 else "accuracy"
    return _from_sums(_rate(hit))(share)


def _class_counts(labels: Array, probabilities: Array) -> Array:
    """One-hot, for each class: found, predicted, true; (N, 3C)."""
    predicted = probabilities.argmax(axis=1)
    one = np.eye(probabilities.shape[1])
    return np.concatenate([one[labels] * (labels == predicted)[:, None], one[predicted], one[labels]], axis=1)


def _mean_where(values: Array, present: Array) -> Array:
    return np.where(present, values, 0.0).sum(axis=-1) / present.sum(axis=-1)


@_from_sums(_class_counts)
def mean_class_accuracy(sums: Array) -> Array:
    """Mean of the recalls of the classes that have rows; the same as balanced accuracy."""
    correct, _, true = np.split(sums, 3, axis=-1)
    return _mean_where(correct / true, true > 0)


@_from_sums(_class_counts)
def macro_f1(sums: Array) -> Array:
    """Mean F1 of the classes that are true or predicted somewhere."""
    correct, predicted, true = np.split(sums, 3, axis=-1)
    return _mean_where(2 * correct / (predicted + true), predicted + true > 0)


@_from_sums(_class_counts)
def weighted_f1(sums: Array) -> Array:
    """Mean F1 of the classes, weighted by how many rows each has."""
    correct, predicted, true = np.split(sums, 3, axis=-1)
    f1 = np.where(true > 0, 2 * correct / (predicted + true), 0.0)
    return (f1 * true).sum(axis=-1) / true.sum(axis=-1)


@_from_sums(_class_counts, low=-1.0)
def mcc(sums: Array) -> Array:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where all rows have or get one class."""
    correct, predicted, true = np.split(sums, 3, axis=-1)
    total, right = true.sum(axis=-1), correct.sum(axis=-1)
    covariance = right * total - (predicted * true).sum(axis=-1)
    spread = (total**2 - (predicted**2).sum(axis=-1)) * (total**2 - (true**2).sum(axis=-1))
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)


def _recall_of(number: int) -> Callable[[Array, Array], Array]:
    """Found and true rows of one of two classes."""

    def rows(labels: Array, probabilities: Array) -> Array:
        if probabilities.shape[1] != 2:
            raise InputError(
                f"sensitivity and specificity: need two classes, there are {probabilities.shape[1]}; "
                "per_class_recall gives the recall of each"
            )
        true = labels == number
        return np.stack([true & (probabilities.argmax(axis=1) == number), true], axis=1).astype(np.float64)

    return rows


@_from_sums(_recall_of(1))
def sensitivity(sums: Array) -> Array:
    """Recall of the second of two classes, the positive one; NaN where it has no row."""
    return sums[..., 0] / sums[..., 1]


@_from_sums(_recall_of(0))
def specificity(sums: Array) -> Array:
    """Recall of the first of two classes, the negative one; NaN where it has no row."""
    return sums[..., 0] / sums[..., 1]


def _calibration_rows(labels: Array, probabilities: Array) -> Array:
    """Confidence minus success in the row's bin, zero in the others; then a one. (N, bins + 1)."""
    confidence = probabilities.max(axis=1)
    gap = confidence - (probabilities.argmax(axis=1) == labels)
    # bin m is ((m-1)/15, m/15]; a confidence of 0 is impossible with two classes
    number = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    rows = np.zeros((len(labels), ECE_BINS + 1))
    rows[np.arange(len(labels)), number] = gap
    rows[:, -1] = 1
    return rows


@_from_sums(_calibration_rows, biased=True)
def ece(sums: Array) -> Array:
    """Expected calibration error of the most probable class, 15 equal-width bins (Guo et al. 2017, equation 3).

    ``sum_m n_m / N * |accuracy_m - confidence_m|``. Of few rows it comes out too large: the differences of a bin are
    never negative, and of a perfectly calibrated model never zero.
    """
    return np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1]


def _squared_error(labels: Array, probabilities: Array) -> Array:
    return np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(axis=1)


@_from_sums(_rate(_squared_error), high=2.0)
def brier(sums: Array) -> Array:
    """Squared error summed over all classes (Brier 1950), 0 to 2; with two classes twice the (p - y)^2 of one class."""
    return sums[..., 0] / sums[..., 1]


def _area(scores: Array, positive: Array, groups: Array) -> OverGroups:
    """Share of pairs (positive, negative row) in which the positive has the higher score, ties counting half."""
    order = np.argsort(scores[~positive], kind="stable")
    lower, up_group, down_group = scores[~positive][order], groups[positive], groups[~positive][order]
    first, last = (np.searchsorted(lower, scores[positive], side) for side in ("left", "right"))

    def block(draws: Array) -> Array:
        up = draws[:, up_group]
        below = np.zeros((len(draws), len(lower) + 1))  # weight of the lowest 0, 1, 2 ... negative rows
        np.cumsum(draws[:, down_group], axis=1, out=below[:, 1:])
        pairs = (up * (below[:, first] + below[:, last])).sum(axis=1) / 2
        with np.errstate(invalid="ignore"):
            return pairs / (up.sum(axis=1) * below[:, -1])

    def values(draws: Array) -> Array:
        size = max(1, _BLOCK // len(scores))
        return np.concatenate([block(draws[start : start + size]) for start in range(0, len(draws), size)])

    return values


def _auc_over_groups(labels: Array, probabilities: Array, groups: Array, count: int) -> OverGroups:
    classes = probabilities.shape[1]
    numbers = [1] if classes == 2 else range(classes)
    areas = [_area(probabilities[:, number], labels == number, groups) for number in numbers]
    return lambda draws: np.mean([area(draws) for area in areas], axis=0)


auc = Metric(
    "auc",
    "area under the ROC curve of the second of two classes, or the mean over all classes, each against the rest; "
    "NaN where a class has no row",
    (0.0, 1.0),
    _auc_over_groups,
)


def _auc_ovo_over_groups(labels: Array, probabilities: Array, groups: Array, count: int) -> OverGroups:
    areas: list[OverGroups] = []
    for number, other in itertools.permutations(range(probabilities.shape[1]), 2):
        rows = (labels == number) | (labels == other)
        areas.append(_area(probabilities[rows, number], labels[rows] == number, groups[rows]))
    return lambda draws: np.mean([area(draws) for area in areas], axis=0)


auc_ovo = Metric(
    "auc_ovo",
    "mean over all pairs of classes of the area under the ROC curve between the two (Hand and Till 2001, equation 7); "
    "NaN where a class has no row",
    (0.0, 1.0),
    _auc_ovo_over_groups,
)

METRICS: dict[str, Metric] = {
    "top1": top_k(1),
    "top5": top_k(5),
    "mean_class_accuracy": mean_class_accuracy,
    "balanced_accuracy": mean_class_accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "auc": auc,
    "auc_ovo": auc_ovo,
    "mcc": mcc,
    "ece": ece,
    "brier": brier,
    "sensitivity": sensitivity,
    "specificity": specificity,
}


def find_metric(name: str) -> Metric:
    """The metric of that name: one of `METRICS`, or ``top_<k>`` for any k.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    if match := re.fullmatch(r"top_(\d+)", name):
        return top_k(int(match[1]))
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def default_names(classes: int) -> list[str]:
    """Default metrics for a number of classes: all that are informative, each once."""
    names = ["top1", "mean_class_accuracy", "macro_f1", "weighted_f1", "auc", "mcc", "ece", "brier"]
    if classes > 5:
        names.insert(1, "top5")
    return [*names, "sensitivity", "specificity"] if classes == 2 else names


def confusion_matrix(labels: ArrayLike, probabilities: ArrayLike) -> Array:
    """Confusion matrix: counts of true classes (rows) by predicted classes (columns), (C, C) integers."""
    from sklearn.metrics import confusion_matrix as count

    y, p = check_predictions(labels, probabilities)
    return np.asarray(count(y, p.argmax(axis=1), labels=np.arange(p.shape[1])))


def per_class_recall(labels: ArrayLike, probabilities: ArrayLike) -> Array:
    """Recall of each class, (C,); NaN where a class has no row."""
    matrix = confusion_matrix(labels, probabilities)
    total = matrix.sum(axis=1)
    return np.where(total > 0, matrix.diagonal() / np.maximum(total, 1), np.nan)


def harmonic_mean(base: float, new: float) -> float:
    """``2 / (1/base + 1/new)``, of the accuracies on base and on new classes; 0 where one of them is 0."""
    return statistics.harmonic_mean([base, new])
