"""The rows of an augmentation study: a share of the real clips, and what classifiers learn from at that share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from motiondiff.augmentation.config import StudyConfig

METRIC = "top1"
REAL = "real"
SYNTHETIC = "synthetic"


@dataclass(frozen=True, kw_only=True)
class StudyArm:
    """A row of the study's table.

    Attributes:
        fraction: share of the real training clips that everything in the row has seen.
        method: whose motions, one of `motiondiff.augmentation.config.METHODS`; empty for real clips alone.
        real: whether the real clips are trained on as well.
    """

    fraction: float
    method: str
    real: bool

    @property
    def training(self) -> str:
        """Training set of the classifiers, as it is named in the table."""
        parts = ([REAL] if self.real else []) + ([f"{SYNTHETIC} ({self.method})"] if self.method else [])
        return " + ".join(parts)

    @property
    def name(self) -> str:
        """Unique in a study."""
        return f"{self.fraction:g} {self.training}"

    def settings(self) -> dict[str, Any]:
        """For the record of a cell."""
        return {"fraction": self.fraction, "method": self.method, "real": self.real}


def study_arms(config: StudyConfig) -> list[StudyArm]:
    """All rows, fraction by fraction: real, then each method alone and with real."""
    rows = []
    for fraction in config.fractions:
        rows.append(StudyArm(fraction=fraction, method="", real=True))
        for method in config.methods:
            rows += [StudyArm(fraction=fraction, method=method, real=real) for real in (False, True)]
    return rows


def source_name(fraction: float, method: str) -> str:
    """Name of the cell that makes the generator and its motions."""
    return f"{fraction:g} generator {method}"
