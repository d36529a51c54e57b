"""Confidence intervals over groups (subjects): rows of one person are no independent evidence.

What is drawn, left out and counted here is always a whole group. Shapes: ``N`` rows, ``C`` classes, ``G`` groups.

- From 30 groups on a bootstrap of groups: bias-corrected and accelerated (BCa; Efron and Tibshirani, An Introduction to
  the Bootstrap, 1993, chapter 14), with tails widened from the normal to the t distribution (Hesterberg 2015, "expanded
  percentile"), as the plain one is too narrow by ``sqrt((G - 1) / G)``.
- Below that a t-interval with ``G - 1`` degrees of freedom. The standard error is the jackknife's (ibid., chapter 11):
  each group is left out once, and ``G * all - (G - 1) * without`` is that group's pseudo-value. For a mean over rows
  and groups of one size the pseudo-values are the groups' own means; the same formula serves groups of unequal size
  and what is no mean (AUC, F1, MCC). A metric with a known range gets the interval on the logit scale of that range
  (delete-one variance carried over by the derivative), which keeps it inside and, unlike the symmetric one, covers as
  promised near the ends: `benchmarks/interval_coverage.py` measures both kinds.
- A metric that few rows bias (ECE) gets the bias taken off: reflected bootstrap, or the t-interval around the mean of
  the pseudo-values; the interval is stretched to hold the reported value, which is not corrected.
- Where every group reaches the end of the range (accuracy 1.0) there is no spread to go by. The interval then runs
  from that end to the exact binomial limit ``(1 - level) / 2) ** (1 / G)`` for ``G`` successes of ``G``.
- No interval (NaN, and the reason in `Interval.note`): one group only, the metric undefined, or a class that a single
  group has, without which the metric is undefined.

Repeats (k-fold run R times) are no further subjects: the metric is computed in each repeat and averaged over the
repeats, for all groups and for each draw of groups alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from icube_common.errors import InputError
from icube_common.evaluation.metrics import Array, Metric, OverGroups, absent_classes, check_predictions

BOOTSTRAP_FROM = 30
MetricLike: TypeAlias = Metric | Callable[[Array, Array], float]
# elements of one block of draws (B, G): 32 MB of float64
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval.

    Args:
        mean: the value itself.
        low: lower end; NaN where there is no interval.
        high: upper end.
        groups: how many independent units (subjects, seeds) it rests on.
        method: ``"bootstrap"`` or ``"t"``.
        level: confidence level.
        note: why the value or the interval is undefined; empty where both are there.
    """

    mean: float
    low: float
    high: float
    groups: int
    method: str
    level: float = 0.95
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: ``{"mean", "ci95": [low, high], "groups", "method"}``; what is undefined is None, with a note."""
        ends = [_json_number(self.low), _json_number(self.high)]
        values = {"mean": _json_number(self.mean), f"ci{100 * self.level:g}": ends}
        return {**values, "groups": self.groups, "method": self.method, **({"note": self.note} if self.note else {})}

    def __str__(self) -> str:
        ends = f" [{self.low:.3f}, {self.high:.3f}]" if math.isfinite(self.low) else f" (no interval: {self.note})"
        return f"{self.mean:.3f}{ends}, {self.groups} groups"


def _json_number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def group_interval(
    metric: MetricLike,
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: Sequence[str] | Array,
    *,
    repeats: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A metric with its interval over groups; the method is described at the head of this module.

    Args:
        metric: one of `icube_common.evaluation.metrics`, or any function of labels and probabilities (called once for
            each resample, and its range is taken as unknown: the t-interval is then symmetric).
        labels: class numbers, (N,).
        probabilities: (N, C).
        groups: which subject each row is of, (N,).
        repeats: which repeat each row is of, (N,); one repeat where not given.
        level: confidence level.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: shapes do not fit, or the metric does not fit the number of classes.
    """
    check_level(level)
    statistic, names = over_groups(metric, labels, probabilities, groups, repeats)
    definition = metric if isinstance(metric, Metric) else None
    return interval_of(
        statistic,
        names,
        range=definition.range if definition else None,
        biased=definition.biased if definition else False,
        level=level,
        resamples=resamples,
        seed=seed,
        absent=absent_classes(labels, np.shape(probabilities)[1]),
    )


def over_groups(
    metric: MetricLike,
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: Sequence[str] | Array,
    repeats: ArrayLike | None = None,
) -> tuple[OverGroups, list[str]]:
    """The metric, mean over repeats, as a function of how often each group is drawn; and the groups' names."""
    y, p = check_predictions(labels, probabilities)
    names, numbers = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    repeat = np.zeros(len(y), dtype=np.int64) if repeats is None else np.asarray(repeats)
    if numbers.shape != y.shape or repeat.shape != y.shape:
        raise InputError(f"groups {numbers.shape} and repeats {repeat.shape}: need one for each of {len(y)} rows")
    parts: list[OverGroups] = []
    for value in np.unique(repeat):
        rows = repeat == value
        make = metric.over_groups if isinstance(metric, Metric) else _rows_drawn(metric)
        parts.append(make(y[rows], p[rows], numbers[rows], len(names)))
    return lambda draws: np.mean([part(draws) for part in parts], axis=0), names.tolist()


def _rows_drawn(metric: Callable[[Array, Array], float]) -> Callable[[Array, Array, Array, int], OverGroups]:
    """Any function of labels and probabilities, called on the rows of the groups drawn."""

    def make(labels: Array, probabilities: Array, groups: Array, count: int) -> OverGroups:
        def value(draw: Array) -> float:
            rows = np.repeat(np.arange(len(labels)), draw[groups].astype(np.int64))
            return float(metric(labels[rows], probabilities[rows])) if len(rows) else math.nan

        return lambda draws: np.array([value(draw) for draw in draws])

    return make


def _blocks(count: int, groups: int) -> Iterator[int]:
    """Sizes of blocks of draws that fit into memory, ``count`` in all."""
    size = max(1, _BLOCK // groups)
    while count > 0:
        yield min(size, count)
        count -= size


def leave_one_out(statistic: OverGroups, groups: int) -> Array:
    """The statistic without each group in turn, (G,)."""
    values, start = [], 0
    for size in _blocks(groups, groups):
        draws = np.ones((size, groups))
        draws[np.arange(size), start + np.arange(size)] = 0
        values.append(statistic(draws))
        start += size
    return np.concatenate(values)


def pseudo_values(total: float, without: Array) -> Array:
    """The jackknife's pseudo-values (G,) of a statistic from its value and its values without each group."""
    return len(without) * total - (len(without) - 1) * without


def interval_of(
    statistic: OverGroups,
    names: Sequence[str],
    *,
    range: tuple[float, float] | None = None,
    biased: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    absent: Sequence[int] = (),
) -> Interval:
    """The interval of any statistic of groups, given as a function of how often each is drawn.

    Args:
        statistic: ``(B, G)`` -> ``(B,)``.
        names: the groups, (G,).
        range: smallest and largest possible value, where known.
        biased: take the bias off.
        level: confidence level.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.
        absent: classes without any row, for the note.
    """
    count = len(names)
    method = "bootstrap" if count >= BOOTSTRAP_FROM else "t"
    value = float(statistic(np.ones((1, count)))[0])
    without = leave_one_out(statistic, count) if count > 1 else np.full(1, np.nan)

    def result(low: float, high: float, note: str = "") -> Interval:
        return Interval(value, float(low), float(high), count, method, level, note)

    if not math.isfinite(value):
        return result(math.nan, math.nan, f"undefined: no row of class {', '.join(map(str, absent)) or '?'}")
    if count == 1:
        return result(math.nan, math.nan, "one group only")
    if not np.isfinite(without).all():
        alone = names[int(np.flatnonzero(~np.isfinite(without))[0])]
        return result(math.nan, math.nan, f"undefined without group {alone!r}, the only one with its class")
    pseudo = pseudo_values(value, without)
    error = float(pseudo.std(ddof=1)) / math.sqrt(count)
    if error < 1e-12 or (range is not None and not range[0] < value < range[1]):
        return result(*_without_spread(value, count, range, level))
    if method == "bootstrap":
        drawn = _bootstrap(statistic, count, resamples, seed)
        low, high = _reflected(drawn, value, level, count) if biased else _bca(drawn, value, without, level)
    elif range is None or biased:
        centre, half = (float(pseudo.mean()) if biased else value), t_quantile(level, count) * error
        low, high = centre - half, centre + half
    else:
        low, high = _on_logit_scale(value, error, t_quantile(level, count), range)
    if range is not None:
        low, high = max(low, range[0]), min(high, range[1])
    return result(min(low, value), max(high, value)) if biased else result(low, high)


def t_quantile(level: float, count: int) -> float:
    """Two-sided quantile of the t distribution for ``count`` units."""
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, count - 1))


def _without_spread(value: float, count: int, range: tuple[float, float] | None, level: float) -> tuple[float, float]:
    """Ends where all groups agree exactly: a point, but at an end of the range the exact binomial limit."""
    if range is None:
        return value, value
    reach = (range[1] - range[0]) * (1 - ((1 - level) / 2) ** (1 / count))
    if math.isclose(value, range[1], abs_tol=1e-12):
        return range[1] - reach, range[1]
    if math.isclose(value, range[0], abs_tol=1e-12):
        return range[0], range[0] + reach
    return value, value


def _on_logit_scale(value: float, error: float, quantile: float, range: tuple[float, float]) -> tuple[float, float]:
    from scipy.special import expit, logit

    low, width = range[0], range[1] - range[0]
    share = (value - low) / width
    half = quantile * error / width / (share * (1 - share))
    return low + width * float(expit(logit(share) - half)), low + width * float(expit(logit(share) + half))


def _bootstrap(statistic: OverGroups, count: int, resamples: int, seed: int) -> Array:
    """The statistic of groups drawn with replacement; draws in which it is undefined (a class missed) are left out."""
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([statistic(sample_groups(generator, size, count)) for size in _blocks(resamples, count)])
    return drawn[np.isfinite(drawn)]


def sample_groups(generator: np.random.Generator, draws: int, count: int) -> Array:
    """Counts of each of ``count`` groups in ``count`` draws with replacement, (draws, count)."""
    picked = generator.integers(0, count, (draws, count)) + count * np.arange(draws)[:, None]
    return np.bincount(picked.ravel(), minlength=draws * count).reshape(draws, count).astype(np.float64)


def _widened(level: float, count: int) -> float:
    """The normal quantile that replaces a t quantile, for a bootstrap whose spread is short by (count-1)/count."""
    return t_quantile(level, count) * math.sqrt(count / (count - 1))


def _bca(drawn: Array, value: float, without: Array, level: float) -> tuple[float, float]:
    """Ends of the BCa interval, Efron and Tibshirani 1993, equations 14.9 to 14.15."""
    from scipy import stats

    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    bias = stats.norm.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    away = without.mean() - without
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    z = bias + np.array([-1.0, 1.0]) * _widened(level, len(without))
    low, high = np.quantile(drawn, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def _reflected(drawn: Array, value: float, level: float, count: int) -> tuple[float, float]:
    """Ends of the basic bootstrap interval: the draws lie as far above the value as the value above the truth."""
    from scipy import stats

    low, high = np.quantile(drawn, stats.norm.cdf(np.array([-1.0, 1.0]) * _widened(level, count)))
    return float(2 * value - high), float(2 * value - low)


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean and t-interval of a plain list: one value for each seed, or for each draw of classes.

    The interval covers other seeds, not other subjects.

    Raises:
        InputError: no value, a value that is not finite, or more than one dimension.
    """
    check_level(level)
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise InputError(f"values {array.tolist()}: need a list of at least one finite number")
    mean, count = float(array.mean()), len(array)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1, "t", level, "one value only")
    half = t_quantile(level, count) * float(array.std(ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count, "t", level)


def check_level(level: float) -> None:
    """Refuse a confidence level outside 0..1, such as 95."""
    if not 0 < level < 1:
        raise InputError(f"level {level}: need a share between 0 and 1, such as 0.95")
