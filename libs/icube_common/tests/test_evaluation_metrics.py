from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as sk

from icube_common.errors import InputError
from icube_common.evaluation.intervals import leave_one_out, over_groups
from icube_common.evaluation.metrics import (
    METRICS,
    Array,
    absent_classes,
    auc,
    brier,
    confusion_matrix,
    default_names,
    ece,
    find_metric,
    harmonic_mean,
    mcc,
    mean_class_accuracy,
    per_class_recall,
    sensitivity,
    specificity,
    top_k,
)


def random_rows(classes: int, rows: int = 200, *, ties: bool = False, seed: int = 0) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes)) + 1.2 * np.eye(classes)[labels]
    values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, np.round(values, 1) if ties else values


def sk_auc(y: Array, p: Array) -> float:
    if p.shape[1] == 2:
        return float(sk.roc_auc_score(y, p[:, 1]))
    return float(np.mean([sk.roc_auc_score(y == number, p[:, number]) for number in range(p.shape[1])]))


ORACLES: dict[str, Callable[[Array, Array], float]] = {
    "top1": lambda y, p: sk.accuracy_score(y, p.argmax(1)),
    "top_3": lambda y, p: sk.top_k_accuracy_score(y, p, k=3, labels=range(p.shape[1])),
    "mean_class_accuracy": lambda y, p: sk.balanced_accuracy_score(y, p.argmax(1)),
    "macro_f1": lambda y, p: sk.f1_score(y, p.argmax(1), average="macro"),
    "weighted_f1": lambda y, p: sk.f1_score(y, p.argmax(1), average="weighted"),
    "mcc": lambda y, p: sk.matthews_corrcoef(y, p.argmax(1)),
    "auc": sk_auc,
    "brier": lambda y, p: np.mean([((p[i] - np.eye(p.shape[1])[y[i]]) ** 2).sum() for i in range(len(y))]),
}


@pytest.mark.parametrize(
    ("name", "classes", "seed"),
    [
        (name, classes, seed)
        for name in ORACLES
        for seed, classes in enumerate((2, 4, 9))
        if (name, classes) != ("top_3", 2)
    ],
)
def test_equals_scikit_learn(name: str, classes: int, seed: int) -> None:
    y, p = random_rows(classes, seed=seed)
    assert find_metric(name)(y, p) == pytest.approx(ORACLES[name](y, p), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 5])
def test_auc_counts_ties_half(classes: int) -> None:
    y, p = random_rows(classes, ties=True)
    assert len(np.unique(p)) < 12
    assert auc(y, p) == pytest.approx(sk_auc(y, p), abs=1e-12)


@pytest.mark.parametrize("name", ["macro_f1", "weighted_f1", "mean_class_accuracy", "mcc"])
def test_absent_classes_as_in_scikit_learn(name: str) -> None:
    y, p = random_rows(5)
    rows = y != 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn says that a predicted class has no true row
        wanted = ORACLES[name](y[rows], p[rows])
    assert find_metric(name)(y[rows], p[rows]) == pytest.approx(wanted, abs=1e-12)
    assert absent_classes(y[rows], 5) == [3]


def test_two_classes() -> None:
    y, p = random_rows(2)
    predicted = p.argmax(1)
    assert sensitivity(y, p) == pytest.approx(sk.recall_score(y, predicted))
    assert specificity(y, p) == pytest.approx(sk.recall_score(y, predicted, pos_label=0))
    assert brier(y, p) == pytest.approx(2 * sk.brier_score_loss(y, p[:, 1]))


def test_hand_computed() -> None:
    y = np.array([0, 0, 1, 1])
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
    for name, value in {"top1": 0.75, "sensitivity": 1.0, "specificity": 0.5, "mean_class_accuracy": 0.75}.items():
        assert find_metric(name)(y, p) == pytest.approx(value)
    assert auc(y, p) == 1.0
    assert mcc(y, p) == pytest.approx(1 / math.sqrt(3))  # tp 2, fp 1, fn 0, tn 1: 2 / sqrt(3 * 2 * 2 * 1)
    assert brier(y, p) == pytest.approx(2 * (0.01 + 0.36 + 0.09 + 0.04) / 4)
    # four bins of one row each: |.9 - 1|, |.6 - 0|, |.7 - 1|, |.8 - 1|
    assert ece(y, p) == pytest.approx((0.1 + 0.6 + 0.3 + 0.2) / 4)
    assert confusion_matrix(y, p).tolist() == [[1, 1], [0, 2]]
    assert per_class_recall(y, p).tolist() == [0.5, 1.0]
    assert harmonic_mean(0.8, 0.6) == pytest.approx(0.96 / 1.4) and harmonic_mean(0, 0.5) == 0


@pytest.mark.parametrize("classes", [2, 6])
def test_ece_against_a_loop_over_bins(classes: int) -> None:
    y, p = random_rows(classes, 500)
    total = 0.0
    for number in range(15):
        inside = [i for i in range(len(y)) if number / 15 < p[i].max() <= (number + 1) / 15]
        if inside:
            accuracy = np.mean([p[i].argmax() == y[i] for i in inside])
            confidence = np.mean([p[i].max() for i in inside])
            total += len(inside) / len(y) * abs(accuracy - confidence)
    assert total > 0.01 and ece(y, p) == pytest.approx(total, abs=1e-12)


def test_equally_probable_classes_rank_in_order() -> None:
    p = np.full((3, 3), 1 / 3)
    assert top_k(1)(np.array([0, 1, 2]), p) == pytest.approx(1 / 3)
    assert top_k(2)(np.array([0, 1, 2]), p) == pytest.approx(2 / 3)


def test_undefined_metrics_are_nan() -> None:
    y, p = np.zeros(4, dtype=int), np.array([[0.6, 0.4]] * 4)
    assert math.isnan(auc(y, p)) and math.isnan(sensitivity(y, p)) and specificity(y, p) == 1.0
    assert np.isnan(per_class_recall(y, p)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "classes"),
    [(name, classes) for classes in (2, 7) for name in [*default_names(classes), f"top_{classes - 1}"]],
)
def test_draws_of_groups_equal_the_metric_on_their_rows(name: str, classes: int) -> None:
    """The vectorised way against the plain one, for groups drawn several times and groups left out."""
    metric = find_metric(name)
    y, p = random_rows(classes, 120, seed=3)
    groups = np.random.default_rng(1).integers(0, 8, 120)
    draws = np.random.default_rng(2).multinomial(8, np.full(8, 1 / 8), 5).astype(float)
    fast, names = over_groups(metric, y, p, groups)
    plain, _ = over_groups(lambda a, b: metric(a, b), y, p, groups)
    np.testing.assert_allclose(fast(draws), plain(draws), atol=1e-12)
    np.testing.assert_allclose(
        leave_one_out(fast, len(names)), [metric(y[groups != g], p[groups != g]) for g in range(8)], atol=1e-12
    )


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [[0.5, 0.5]], r"need \(N,\) and \(N, C\)"),
        ([0, 2], [[0.5, 0.5]] * 2, "labels: 0 to 2, need 0 to 1"),
        ([0.0, 1.0], [[0.5, 0.5]] * 2, "need class numbers"),
        ([0, 1], [[2.5, -1.5]] * 2, "turn logits into probabilities"),
        ([0, 1], [[math.nan, 0.5]] * 2, "turn logits into probabilities"),
        ([], np.zeros((0, 2)), "at least one row"),
    ],
)
def test_wrong_input(labels: list[float], probabilities: list[list[float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        auc(labels, probabilities)


def test_names() -> None:
    with pytest.raises(InputError, match="did you mean 'macro_f1'"):
        find_metric("macrof1")
    y, p = random_rows(3)
    for name, message in {
        "top_3": "needs more than 3 classes",
        "sensitivity": "need two classes",
        "top_0": "at least",
    }.items():
        with pytest.raises(InputError, match=message):
            find_metric(name)(y, p)
    for classes in (2, 3, 10):
        values = {name: find_metric(name)(*random_rows(classes)) for name in default_names(classes)}
        assert all(math.isfinite(value) for value in values.values()) and "balanced_accuracy" not in values
    assert METRICS["balanced_accuracy"] is mean_class_accuracy


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, icube_common.evaluation.predictions, icube_common.evaluation.protocols\n"
        "print([name for name in ('torch', 'scipy', 'sklearn', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
