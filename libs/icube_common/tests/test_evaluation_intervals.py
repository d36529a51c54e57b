from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from icube_common.errors import InputError
from icube_common.evaluation.intervals import group_interval, interval_of, mean_interval
from icube_common.evaluation.metrics import Array, auc, ece, find_metric, macro_f1, top_k
from icube_common.evaluation.significance import paired_mean_test, paired_test

accuracy = top_k(1)


def table(right: Array) -> tuple[Array, Array]:
    """Two-class rows of which those marked are right."""
    labels = np.arange(len(right)) % 2
    predicted = np.where(right, labels, 1 - labels)
    return labels, np.where(np.eye(2)[predicted] > 0, 0.8, 0.2)


def simulate(
    generator: np.random.Generator, groups: int, classes: int = 3, gain: float = 1.5
) -> tuple[Array, Array, Array]:
    """Rows of groups of 5 to 15, each group with its own difficulty and its own leaning towards classes."""
    group = np.repeat(np.arange(groups), generator.integers(5, 16, groups))
    labels = generator.integers(0, classes, len(group))
    strength = gain + 0.7 * generator.normal(size=groups)[group]
    logits = generator.normal(size=(len(group), classes)) + 0.7 * generator.normal(size=(groups, classes))[group]
    logits += strength[:, None] * np.eye(classes)[labels]
    values = np.exp(logits)
    return labels, values / values.sum(axis=1, keepdims=True), group


def test_plain_t_interval_over_group_means() -> None:
    """Groups of one size, a function of unknown range: mean and t-interval of the groups' own accuracies."""
    right = np.random.default_rng(0).random((6, 10)) < 0.7
    y, p = table(right.ravel())
    groups = np.repeat([f"s{i}" for i in range(6)], 10)
    found = group_interval(lambda a, b: float(np.mean(b.argmax(1) == a)), y, p, groups)
    low, high = stats.t.interval(0.95, 5, right.mean(), stats.sem(right.mean(axis=1)))
    assert (found.mean, found.low, found.high) == pytest.approx((right.mean(), low, high), abs=1e-12)
    assert (found.groups, found.method) == (6, "t")


def test_known_range_puts_the_t_interval_on_the_logit_scale() -> None:
    right = np.random.default_rng(0).random((6, 10)) < 0.9
    y, p = table(right.ravel())
    found = group_interval(accuracy, y, p, np.repeat(np.arange(6), 10))
    mean, error = right.mean(), stats.sem(right.mean(axis=1))
    odds = math.log(mean / (1 - mean)) + np.array([-1, 1]) * stats.t.ppf(0.975, 5) * error / (mean * (1 - mean))
    assert (found.low, found.high) == pytest.approx(tuple(1 / (1 + np.exp(-odds))), abs=1e-12)
    assert found.low < mean - stats.t.ppf(0.975, 5) * error and found.high < 1


def test_pseudo_values_of_the_auc_by_hand() -> None:
    generator = np.random.default_rng(4)
    y, p, groups = simulate(generator, 5, classes=2)
    found = group_interval(lambda a, b: auc(a, b), y, p, groups)
    without = np.array([auc(y[groups != g], p[groups != g]) for g in range(5)])
    variance = 4 / 5 * ((without - without.mean()) ** 2).sum()  # the jackknife's own formula
    half = stats.t.ppf(0.975, 4) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((auc(y, p) - half, auc(y, p) + half), abs=1e-12)


def test_thirty_groups_take_the_bootstrap() -> None:
    y, p, groups = simulate(np.random.default_rng(0), 30)
    found = group_interval(macro_f1, y, p, groups)
    assert found.method == "bootstrap" and found.low < found.mean < found.high
    fewer = groups < 29
    assert group_interval(macro_f1, y[fewer], p[fewer], groups[fewer]).method == "t"
    assert group_interval(macro_f1, y, p, groups, seed=0) == found != group_interval(macro_f1, y, p, groups, seed=1)


def test_bootstrap_against_scipy() -> None:
    """Equal groups: scipy's BCa of the group means, at the level of the widened tails."""
    means = np.random.default_rng(2).beta(4, 2, 40)

    def statistic(draws: Array) -> Array:
        return draws @ means / draws.sum(axis=1)

    found = interval_of(statistic, [str(i) for i in range(40)], resamples=40_000)
    level = 2 * stats.norm.cdf(stats.t.ppf(0.975, 39) * math.sqrt(40 / 39)) - 1
    oracle = stats.bootstrap(
        (means,), np.mean, confidence_level=level, n_resamples=40_000, random_state=np.random.default_rng(5)
    ).confidence_interval
    assert level > 0.95
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=0.002)


@pytest.mark.parametrize("groups", [6, 40])
def test_rows_of_one_subject_are_no_evidence_of_their_own(groups: int) -> None:
    y, p, group = simulate(np.random.default_rng(1), groups)
    once = group_interval(accuracy, y, p, group)
    five = group_interval(accuracy, np.tile(y, 5), np.tile(p, (5, 1)), np.tile(group, 5))
    assert (five.low, five.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_repeats_are_averaged_and_no_further_subjects() -> None:
    y, p, group = simulate(np.random.default_rng(1), 8)
    other = simulate(np.random.default_rng(7), 8)[1]
    other = np.resize(other, p.shape)
    repeats = np.repeat([0, 1], len(y))
    both = group_interval(auc, np.tile(y, 2), np.concatenate([p, other]), np.tile(group, 2), repeats=repeats)
    assert both.mean == pytest.approx((auc(y, p) + auc(y, other)) / 2)
    same = group_interval(auc, np.tile(y, 2), np.tile(p, (2, 1)), np.tile(group, 2), repeats=repeats)
    alone = group_interval(auc, y, p, group)
    assert (same.low, same.high, same.groups) == pytest.approx((alone.low, alone.high, 8))


def test_perfect_groups_give_the_exact_limit() -> None:
    y, p = table(np.ones(60, dtype=bool))
    for metric in (accuracy, macro_f1, auc):
        found = group_interval(metric, y, p, np.repeat(np.arange(6), 10))
        assert (found.mean, found.high) == (1, 1)
        assert found.low == pytest.approx(stats.binomtest(6, 6).proportion_ci(0.95).low)
    assert group_interval(accuracy, y, 1 - p, np.repeat(np.arange(6), 10)).high == pytest.approx(1 - 0.025 ** (1 / 6))


def test_missing_interval_has_a_reason() -> None:
    y, p, group = simulate(np.random.default_rng(0), 4, classes=2)
    one = group_interval(accuracy, y, p, np.zeros(len(y)))
    assert math.isnan(one.low) and one.note == "one group only" and one.mean == accuracy(y, p)
    y = np.where(group == 2, 1, 0)
    alone = group_interval(auc, y, p, group)
    assert math.isfinite(alone.mean) and "without group '2'" in alone.note
    none = group_interval(auc, np.zeros_like(y), p, group)
    assert none.to_dict() == {
        "mean": None, "ci95": [None, None], "groups": 4, "method": "t", "note": "undefined: no row of class 1"
    }  # fmt: skip
    json.dumps(none.to_dict(), allow_nan=False)


def test_as_a_dictionary() -> None:
    found = mean_interval([0.7, 0.8, 0.9])
    half = stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert found.to_dict() == {
        "mean": pytest.approx(0.8), "ci95": [pytest.approx(0.8 - half), pytest.approx(0.8 + half)],
        "groups": 3, "method": "t",
    }  # fmt: skip
    assert "ci90" in mean_interval([0.7, 0.8], level=0.9).to_dict()
    assert mean_interval([0.7]).note == "one value only"


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [[0.1, 0.2]]])
def test_wrong_lists(values: list[float]) -> None:
    with pytest.raises(InputError, match="finite number"):
        mean_interval(values)


def test_wrong_input() -> None:
    y, p, group = simulate(np.random.default_rng(0), 4)
    with pytest.raises(InputError, match="level 95"):
        group_interval(accuracy, y, p, group, level=95)
    with pytest.raises(InputError, match="need one for each"):
        group_interval(accuracy, y, p, group[:-1])
    with pytest.raises(InputError, match="same rows"):
        paired_test(accuracy, y, p, p[:-1], group)
    with pytest.raises(InputError, match="one of each for each seed"):
        paired_mean_test([0.1, 0.2], [0.1])


# The full table over metrics, truths and numbers of groups is printed by benchmarks/interval_coverage.py.
@pytest.mark.parametrize(("groups", "lowest", "highest"), [(100, 0.93, 0.97), (6, 0.90, 0.99)])
@pytest.mark.parametrize("name", ["top1", "macro_f1"])
def test_coverage(name: str, groups: int, lowest: float, highest: float) -> None:
    metric = find_metric(name)
    truth = metric(*simulate(np.random.default_rng(99), 40_000)[:2])
    generator = np.random.default_rng(12)
    hits = []
    for _ in range(1000):
        found = group_interval(metric, *simulate(generator, groups), resamples=600)
        hits.append(found.low <= truth <= found.high)
    assert lowest <= np.mean(hits) <= highest


def test_the_bias_of_the_calibration_error_is_taken_off() -> None:
    truth = ece(*simulate(np.random.default_rng(99), 40_000)[:2])
    generator = np.random.default_rng(3)
    hits = []
    for _ in range(200):
        found = group_interval(ece, *simulate(generator, 100), resamples=500)
        assert found.low <= found.mean <= found.high
        hits.append(found.low <= truth <= found.high)
    assert np.mean(hits) > 0.85  # a percentile bootstrap: under 0.05


def test_sign_flips_by_hand() -> None:
    """Every group's difference by hand, all signs by a loop."""
    generator = np.random.default_rng(3)
    a, b = generator.random((6, 10)) < 0.9, generator.random((6, 10)) < 0.6
    y, first = table(a.ravel())
    _, second = table(b.ravel())
    found = paired_test(accuracy, y, first, second, np.repeat(np.arange(6), 10))
    gaps = a.mean(axis=1) - b.mean(axis=1)
    sums = np.array([abs(np.dot(signs, gaps)) for signs in itertools.product([-1, 1], repeat=6)])
    assert found.p_value == pytest.approx((sums >= abs(gaps.sum()) - 1e-9).mean())
    assert found.difference.mean == pytest.approx(gaps.mean())
    low, high = stats.t.interval(0.95, 5, gaps.mean(), stats.sem(gaps))
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))
    assert set(found.to_dict()) == {"mean", "ci95", "groups", "method", "p", "test"}
    turned = paired_test(accuracy, y, second, first, np.repeat(np.arange(6), 10))
    assert turned.p_value == found.p_value and turned.difference.mean == pytest.approx(-gaps.mean())


def test_smallest_p_value_of_few_groups() -> None:
    y, right = table(np.ones(40, dtype=bool))
    found = paired_test(accuracy, y, right, 1 - right, np.repeat(np.arange(4), 10))
    assert found.p_value == pytest.approx(2 / 2**4)


def test_equal_runs_do_not_differ() -> None:
    y, p, group = simulate(np.random.default_rng(0), 40)
    found = paired_test(macro_f1, y, p, p, group)
    assert (found.difference.mean, found.difference.low, found.difference.high, found.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize("name", ["top1", "auc"])
def test_the_paired_test_keeps_its_level(name: str) -> None:
    """Two runs that are equally good on average: p below 0.05 in about 5 % of the repeats."""
    generator = np.random.default_rng(8)
    small = []
    for _ in range(300):
        y, p, group = simulate(generator, 8, classes=2)
        noise = generator.normal(size=(2, *p.shape))
        runs = [np.exp(np.log(p) + 0.8 * part) for part in noise]
        runs = [run / run.sum(axis=1, keepdims=True) for run in runs]
        small.append(paired_test(find_metric(name), y, runs[0], runs[1], group).p_value < 0.05)
    assert 0.02 <= np.mean(small) <= 0.085


def test_seeds_are_compared_by_a_paired_t_test() -> None:
    a, b = [0.80, 0.82, 0.79, 0.85], [0.78, 0.79, 0.78, 0.80]
    found = paired_mean_test(a, b)
    assert found.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue) and found.difference.groups == 4
    assert paired_mean_test([0.5, 0.6], [0.5, 0.6]).p_value == 1
    assert paired_mean_test([0.6, 0.7], [0.5, 0.6]).p_value == 0
    assert math.isnan(paired_mean_test([0.6], [0.5]).p_value)
