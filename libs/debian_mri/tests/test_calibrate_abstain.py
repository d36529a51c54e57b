"""Calibration and abstention by hand."""

from __future__ import annotations

import numpy as np
import pytest

from debian_mri.models.calibration import Calibration, calibrate, no_calibration
from debian_mri.models.selective_prediction import ABSTAIN_ALWAYS, Abstention, choose_threshold, coverage_and_risk


def test_a_temperature_divides_and_a_bias_is_added_before() -> None:
    found = Calibration(2.0, (1.0, -1.0)).probabilities(np.array([[1.0, 3.0]]))
    np.testing.assert_allclose(found, [[0.5, 0.5]])
    np.testing.assert_allclose(no_calibration(2).probabilities(np.array([[0.0, np.log(3)]])), [[0.25, 0.75]])


def test_logits_that_are_too_sure_are_cooled_to_the_frequencies() -> None:
    """1000 scans of margin 4, of which three quarters are right: log 3 = 4 / T."""
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


PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6], [0.55, 0.45]])
LABELS = np.array([0, 1, 1, 1, 1])  # the third and the fifth are wrong


def test_the_curve_of_coverage_and_risk() -> None:
    found = coverage_and_risk(PROBABILITIES, LABELS)
    np.testing.assert_allclose(
        found, [(0.9, 0.2, 0), (0.8, 0.4, 0), (0.7, 0.6, 1 / 3), (0.6, 0.8, 1 / 4), (0.55, 1.0, 2 / 5)]
    )


def test_the_threshold_answers_the_wanted_share_or_bounds_the_risk() -> None:
    assert choose_threshold(PROBABILITIES, LABELS, coverage=0.7) == Abstention(0.6, 0.8, 0.25, 5)
    assert choose_threshold(PROBABILITIES, LABELS, coverage=1.0).threshold == 0.55
    # the largest coverage at that risk, past a stretch where it was higher
    assert choose_threshold(PROBABILITIES, LABELS, coverage=1.0, risk=0.25).threshold == 0.6
    assert choose_threshold(PROBABILITIES, LABELS, coverage=1.0, risk=0.1).threshold == 0.8
    nobody = choose_threshold(PROBABILITIES[2:3], LABELS[2:3], coverage=1.0, risk=0.1)
    assert (nobody.threshold, nobody.coverage, nobody.risk) == (ABSTAIN_ALWAYS, 0.0, None)
    assert choose_threshold(PROBABILITIES, LABELS, coverage=0.7).answered(PROBABILITIES).tolist() == [True] * 4 + [
        False
    ]


def test_equal_confidences_are_answered_together() -> None:
    found = coverage_and_risk(np.array([[0.8, 0.2], [0.2, 0.8]]), np.array([0, 0]))
    assert found == [(0.8, 1.0, 0.5)]
