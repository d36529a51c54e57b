"""Selective prediction: abstain below a confidence threshold, chosen on people outside the training.

Coverage is the share of people that are answered, risk the share of wrong answers among them (El-Yaniv and Wiener, "On
the Foundations of Noise-free Selective Classification", JMLR 2010). Confidence is the largest probability.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# a threshold that only certainty reaches
ABSTAIN_ALWAYS = 1.0


@dataclass(frozen=True)
class Abstention:
    """Confidence threshold, with coverage and risk on the rows that it was chosen on.

    Attributes:
        threshold: answers are given from this confidence on.
        coverage: share of the rows that are answered.
        risk: share of wrong answers among these; None without any answer.
        rows: number of rows, 0 where nothing was chosen.
    """

    threshold: float
    coverage: float
    risk: float | None
    rows: int

    def answered(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """(N,) whether to answer, from probabilities (N, C)."""
        return probabilities.max(1) >= self.threshold

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def no_threshold() -> Abstention:
    """No threshold."""
    return Abstention(0.0, 1.0, None, 0)


def choose_threshold(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], *, coverage: float, risk: float = 0.0
) -> Abstention:
    """The threshold that answers a share of the people, or the most people at a bounded risk.

    Args:
        probabilities: (N, C) of people not trained on.
        labels: (N,) class numbers.
        coverage: share that is to be answered, at least, where ``risk`` is 0.
        risk: largest share of wrong answers; where it is not 0 it decides alone.
    """
    curve = coverage_and_risk(probabilities, labels)
    if risk:
        fitting = [row for row in curve if row[2] <= risk]
    else:
        fitting = [row for row in curve if row[1] >= coverage - 1e-9][:1]
    if not fitting:
        return Abstention(ABSTAIN_ALWAYS, 0.0, None, len(labels))
    threshold, covered, wrong = fitting[-1]
    return Abstention(threshold, covered, wrong, len(labels))


def coverage_and_risk(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> list[tuple[float, float, float]]:
    """``(threshold, coverage, risk)`` for each confidence that occurs, from the highest down."""
    confidence, wrong = probabilities.max(1), probabilities.argmax(1) != labels
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], wrong[order]
    counts = np.arange(1, len(labels) + 1)
    # people of one confidence are answered together
    last = np.append(np.diff(confidence) != 0, True)
    shares, risks = counts / len(labels), np.cumsum(wrong) / counts
    return [(float(confidence[at]), float(shares[at]), float(risks[at])) for at in np.flatnonzero(last)]
