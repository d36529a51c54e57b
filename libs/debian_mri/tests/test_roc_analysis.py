"""DeLong's test, pairs of classes, decision curves and subgroups, against formulas written out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from debian_mri.evaluation.statistics.roc_analysis import auc_covariance, delong_test, net_benefit, pairwise_auc
from debian_mri.evaluation.statistics.subgroups import age_band, subgroup_metrics, table_rows
from icube_common.errors import InputError
from icube_common.evaluation import Predictions, find_metric


def predictions_of(
    labels: Sequence[int], probabilities: np.ndarray, subjects: Sequence[str] | None = None, classes: str = "ABCDE"
) -> Predictions:
    count = len(labels)
    return Predictions(
        ids=[f"s{number:03d}" for number in range(count)],
        subjects=subjects or [f"p{number:03d}" for number in range(count)],
        repeats=np.zeros(count, dtype=np.int64),
        folds=np.zeros(count, dtype=np.int64),
        labels=np.asarray(labels),
        probabilities=probabilities,
        class_names=list(classes[: probabilities.shape[1]]),
    )


def two(scores: np.ndarray) -> np.ndarray:
    return np.stack([1 - scores, scores], axis=1)


def test_variance_by_hand() -> None:
    # positives 0.9 and 0.4, negatives 0.5 and 0.2: pairs won 1, 1, 0, 1
    labels, scores = np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.5, 0.2])
    areas, covariance = auc_covariance(labels, scores[None], ["a", "b", "c", "d"])
    assert areas.tolist() == [0.75]
    # components of the positives 1 and 1/2, of the negatives 1/2 and 1: each variance 1/8, over two rows
    assert covariance[0, 0] == pytest.approx(0.125 / 2 + 0.125 / 2)


def test_difference_by_delongs_formula() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [30, 40])
    first = generator.normal(labels * 1.2, 1.0)
    second = first * 0.4 + generator.normal(labels * 0.4, 1.0)
    a, b = (1 / (1 + np.exp(-scores)) for scores in (first, second))
    result = delong_test(predictions_of(labels, two(a)), predictions_of(labels, two(b)))

    up, down = [], []
    for scores in (a, b):
        wins = (scores[labels == 1][:, None] > scores[labels == 0]).astype(float)
        up.append(wins.mean(1))
        down.append(wins.mean(0))
    covariance = np.cov(up) / 40 + np.cov(down) / 30
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert result.difference == pytest.approx(np.mean(up[0]) - np.mean(up[1]))
    assert result.standard_error == pytest.approx(math.sqrt(variance))
    z = result.difference / math.sqrt(variance)
    assert result.p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)))
    assert result.low < result.difference < result.high


def test_two_scans_of_a_person_are_not_two_people() -> None:
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1], [25, 25])
    scores = generator.normal(labels * 1.0, 1.0)
    once = auc_covariance(labels, scores[None], [str(number) for number in range(50)])[1][0, 0]
    people = [str(number) for number in range(50)] * 2
    twice = auc_covariance(np.tile(labels, 2), np.tile(scores, 2)[None], people)[1][0, 0]
    naive = auc_covariance(np.tile(labels, 2), np.tile(scores, 2)[None], [str(number) for number in range(100)])[1][
        0, 0
    ]
    assert twice == pytest.approx(once) and naive < 0.6 * once


def test_interval_covers_the_true_area() -> None:
    generator = np.random.default_rng(2)
    # two normal distributions one deviation apart
    truth, hits, draws = 0.5 * math.erfc(-1 / 2), 0, 300
    for _ in range(draws):
        labels = np.repeat([0, 1], [40, 40])
        scores = generator.normal(labels * 1.0, 1.0)
        (area,), covariance = auc_covariance(labels, scores[None], [str(number) for number in range(80)])
        hits += abs(area - truth) < 1.96 * math.sqrt(covariance[0, 0])
    # three standard errors of a share of 0.95 among 300 draws
    assert abs(hits / draws - 0.95) < 3 * math.sqrt(0.95 * 0.05 / draws)


def test_tests_that_are_not_defined_are_refused() -> None:
    labels, scores = [0, 0, 0, 1], np.array([0.1, 0.2, 0.3, 0.9])
    run = predictions_of(labels, two(scores))
    with pytest.raises(InputError, match="1 and 3 people of the two classes, two of each needed"):
        delong_test(run, run)
    three = predictions_of([0, 1, 2], np.eye(3) * 0.7 + 0.1)
    with pytest.raises(InputError, match="3 classes, two needed"):
        delong_test(three, three)
    with pytest.raises(InputError, match="decision curve: 3 classes"):
        net_benefit(three)


def test_equal_runs_do_not_differ() -> None:
    run = predictions_of([0, 0, 1, 1], two(np.array([0.1, 0.6, 0.5, 0.9])))
    result = delong_test(run, run)
    assert (result.difference, result.p_value) == (0.0, 1.0)


def test_pairs_of_classes_and_their_mean() -> None:
    generator = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], 20)
    probabilities = generator.dirichlet([1, 1, 1], 60) * 0.5 + np.eye(3)[labels] * 0.5
    probabilities[::7] = np.roll(probabilities[::7], 1, axis=1)
    rows = pairwise_auc(predictions_of(labels.tolist(), probabilities, classes="XYZ"))
    assert [row["classes"] for row in rows] == [("X", "Y"), ("X", "Z"), ("Y", "Z"), ("all pairs",)]
    assert [row["people"] for row in rows] == [40, 40, 40, 60]

    def area(one: int, other: int) -> float:
        a, b = probabilities[labels == one, one], probabilities[labels == other, one]
        return float((a[:, None] > b).mean())

    hand_and_till = np.mean([area(i, j) for i in range(3) for j in range(3) if i != j])
    assert rows[-1]["auc"]["mean"] == pytest.approx(hand_and_till)
    share = probabilities[:, 1] / probabilities[:, :2].sum(1)
    first = (share[labels == 1][:, None] > share[labels == 0]).mean()
    assert rows[0]["auc"]["mean"] == pytest.approx(first)


def test_two_classes_have_one_pair() -> None:
    run = predictions_of([0, 0, 1, 1], two(np.array([0.1, 0.6, 0.5, 0.9])))
    metrics = run.metrics(["auc", "auc_ovo"])
    assert metrics["auc"].mean == metrics["auc_ovo"].mean == 0.75
    assert math.isnan(find_metric("auc_ovo")([0, 0], two(np.array([0.1, 0.2]))))


def test_net_benefit_by_hand() -> None:
    # at 0.5: acts on 0.6, 0.5 and 0.9, two of them rightly
    run = predictions_of([0, 0, 1, 1], two(np.array([0.1, 0.6, 0.5, 0.9])))
    curve = net_benefit(run, np.array([0.5, 0.8]))
    assert curve["model"].tolist() == pytest.approx([2 / 4 - 1 / 4 * 1.0, 1 / 4 - 0.0])
    assert curve["all"].tolist() == pytest.approx([0.5 - 0.5 * 1.0, 0.5 - 0.5 * 4.0])
    assert curve["none"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("age", "band"),
    [(40.0, "below 65"), (65.0, "65-74"), (84.9, "75-84"), (85.0, "85 and older"), (math.nan, "unknown")],
)
def test_age_bands(age: float, band: str) -> None:
    assert age_band(age) == band


def test_small_subgroups_are_counted_only() -> None:
    labels = [0, 1] * 8
    scores = np.linspace(0.1, 0.9, 16)
    run = predictions_of(labels, two(scores))
    groups = {"sex": {name: "F" if number < 12 else "M" for number, name in enumerate(run.ids)}}
    female, male = subgroup_metrics(run, groups)
    assert (female["group"], female["people"], female["classes"]) == ("F", 12, {"A": 6, "B": 6})
    wins = (scores[1:12:2][:, None] > scores[0:12:2]).mean()
    assert female["auc"]["mean"] == pytest.approx(wins)
    assert (male["people"], male["auc"]) == (4, None)
    assert table_rows([male])[0][:4] == ["sex", "M", 4, "A 2, B 2"]
