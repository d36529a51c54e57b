"""Abstention by hand."""

from __future__ import annotations

import numpy as np

from debian_mri.models.selective_prediction import ABSTAIN_ALWAYS, Abstention, choose_threshold, coverage_and_risk

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
