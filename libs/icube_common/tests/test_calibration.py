"""Calibration by hand: temperature, threshold of rejection, predictions of held-out groups."""

from __future__ import annotations

import numpy as np
import pytest

from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples, train_on_all
from icube_common.training.calibration import (
    Calibration,
    Rejection,
    calibrate,
    choose_rejection,
    held_out_logits,
    no_calibration,
)


def test_a_temperature_divides_and_a_bias_is_added_before() -> None:
    found = Calibration(2.0, (1.0, -1.0)).probabilities(np.array([[1.0, 3.0]]))
    np.testing.assert_allclose(found, [[0.5, 0.5]])
    np.testing.assert_allclose(no_calibration(2).probabilities(np.array([[0.0, np.log(3)]])), [[0.25, 0.75]])


def test_logits_that_are_too_sure_are_cooled_to_the_frequencies() -> None:
    """1000 samples of margin 4, of which three quarters are right: log 3 = 4 / T."""
    logits = np.tile([[4.0, 0.0]], (1000, 1))
    labels = (np.arange(1000) % 4 == 0).astype(np.int64)
    found = calibrate(logits, labels, method="temperature")
    assert found.temperature == pytest.approx(4 / np.log(3), rel=0.01)
    assert found.rows == 1000 and found.after is not None and found.before is not None
    assert found.after < found.before
    assert calibrate(logits, labels, method="none").temperature == 1.0
    assert Calibration.from_dict(found.to_dict()) == found


def test_a_bias_moves_all_towards_the_class_that_is_more_frequent() -> None:
    labels = (np.arange(400) % 4 == 0).astype(np.int64)
    found = calibrate(np.zeros((400, 2)), labels, method="bias")
    np.testing.assert_allclose(found.probabilities(np.zeros((1, 2))), [[0.75, 0.25]], atol=0.01)
    assert sum(found.bias) == pytest.approx(0)


def test_the_threshold_accepts_a_share_of_the_correct_rows() -> None:
    """20 correct rows of 0.60 to 0.79, and 3 wrong ones that do not count: 19 of 20 reach 0.61."""
    confidence = np.concatenate([0.60 + 0.01 * np.arange(20), [0.51, 0.55, 0.99]])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0] * 20 + [1] * 3)
    assert choose_rejection(probabilities, labels) == Rejection(pytest.approx(0.61), 0.95, 20)
    assert choose_rejection(probabilities, labels, share=1.0) == Rejection(pytest.approx(0.60), 1.0, 20)
    assert choose_rejection(probabilities, labels, share=0.5) == Rejection(pytest.approx(0.70), 0.5, 20)
    # of 10 correct rows all are needed for 95 %
    assert choose_rejection(probabilities[:10], labels[:10]) == Rejection(pytest.approx(0.60), 1.0, 10)
    assert choose_rejection(probabilities[20:], labels[20:]) is None


def samples(groups: int, takes: int = 2) -> Samples:
    ids = [f"{group}-{label}-{take}" for group in range(groups) for label in range(2) for take in range(takes)]
    return Samples(
        ids=ids,
        labels=np.array([int(name.split("-")[1]) for name in ids]),
        class_names=["a", "b"],
        groups=[name.split("-")[0] for name in ids],
    )


def test_held_out_logits_are_of_models_without_the_group() -> None:
    table, seen = samples(4), []

    def train_and_predict(inner: Fold) -> np.ndarray:
        trained = {inner.samples.groups[row] for row in inner.train}
        tested = {inner.samples.groups[row] for row in inner.test}
        assert not trained & tested and not len(inner.validation)
        seen.append(tested)
        numbers = [float(name.split("-")[0]) for name in inner.test_ids]
        return np.stack([numbers, np.zeros(len(numbers))], axis=1)

    logits, warnings = held_out_logits(train_on_all(table), train_and_predict, folds=4, check=lambda inner: None)
    assert warnings == [] and sorted(map(sorted, seen)) == [["0"], ["1"], ["2"], ["3"]]
    np.testing.assert_array_equal(logits[:, 0], np.repeat(np.arange(4.0), 4))


def test_too_few_groups_or_rows_give_no_calibration() -> None:
    logits, warnings = held_out_logits(
        train_on_all(samples(1)), lambda inner: np.zeros((len(inner.test), 2)), folds=2, check=lambda inner: None
    )
    assert np.isnan(logits).all() and warnings[0].startswith("Not calibrated")

    def refuse(inner: Fold) -> None:
        raise InputError("a class without rows")

    logits, warnings = held_out_logits(train_on_all(samples(3)), lambda inner: np.zeros(0), folds=3, check=refuse)
    assert np.isnan(logits).all() and "a class without rows" in warnings[0]
