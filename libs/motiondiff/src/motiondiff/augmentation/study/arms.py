"""Rows of an augmentation study, and the sets of synthetic clips that they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from icube_common.errors import unknown
from motiondiff.augmentation.study.config import CONTROL, StudyConfig

METRIC = "top1"
REAL = "real"
SYNTHETIC = "synthetic"
MIRROR = "mirror"
BOTH = "both"
CHOSEN = "chosen"


@dataclass(frozen=True, kw_only=True)
class StudyArm:
    """A row of the study's table.

    Attributes:
        fraction: share of the real training clips that everything in the row has seen.
        kind: `REAL` clips; with their `MIRROR` images; `SYNTHETIC` clips; `BOTH`; or both as `CHOSEN` on inner people.
        method: generator of the synthetic clips (`StudyConfig.labels`); empty for real clips alone.
    """

    fraction: float
    kind: str
    method: str = ""

    @property
    def training(self) -> str:
        """Training set of the classifiers, as it is named in the table."""
        if not self.method:
            return REAL if self.kind == REAL else f"{REAL} + {MIRROR}"
        made = f"{SYNTHETIC} ({self.method})"
        return made if self.kind == SYNTHETIC else f"{REAL} + {made}{', chosen' if self.kind == CHOSEN else ''}"

    @property
    def name(self) -> str:
        """Name in messages and failures, unique in a study."""
        return f"{self.fraction:g} {self.training}"

    def cell_name(self, fold: int, generator_seed: int) -> str:
        """Name of the row's cells of a fold and a generator."""
        seed = f" generator {generator_seed}" if self.method else ""
        return f"fold {fold} {self.name}{seed}"

    def settings(self, fold: int, generator_seed: int) -> dict[str, Any]:
        """For the record of a cell."""
        return {
            "fold": fold,
            "fraction": self.fraction,
            "kind": self.kind,
            "method": self.method,
            "generator_seed": generator_seed,
        }


@dataclass(frozen=True, kw_only=True)
class Source:
    """A generator of a cell and its filtered set.

    Attributes:
        fold: fold of people.
        fraction: share of the fold's real training clips.
        method: one of `StudyConfig.labels`.
        part: inner part of the training people that it has not seen; -1: it has seen all of them.
    """

    fold: int
    fraction: float
    method: str
    part: int = -1

    @property
    def name(self) -> str:
        """Name of the cell."""
        part = f" without part {self.part}" if self.part >= 0 else ""
        return f"fold {self.fold} {self.fraction:g} generator {self.method}{part}"

    def settings(self) -> dict[str, Any]:
        """For the record of a cell."""
        return {"fold": self.fold, "fraction": self.fraction, "method": self.method, "part": self.part}


def choice_name(fold: int, fraction: float, method: str) -> str:
    """Name of the cells that choose a mixture."""
    return f"fold {fold} {fraction:g} choice {method}"


def cells_before(arm: StudyArm, fold: int) -> list[str]:
    """Names of the cells that a row's cell of a fold needs: the set of its generator, and the choice of its mixture."""
    if not arm.method:
        return []
    source = Source(fold=fold, fraction=arm.fraction, method=arm.method).name
    return [source, *([choice_name(fold, arm.fraction, arm.method)] if arm.kind == CHOSEN else [])]


def study_arms(config: StudyConfig, *, mirrored: bool) -> list[StudyArm]:
    """All rows, fraction by fraction: real, its mirror images, then each method alone and with real.

    Args:
        config: of the study.
        mirrored: whether real clips are mirrored (`StudyConfig.classifier.mirror` and the classes).
    """
    rows = []
    for fraction in config.fractions:
        rows.append(StudyArm(fraction=fraction, kind=REAL))
        if mirrored:
            rows.append(StudyArm(fraction=fraction, kind=MIRROR))
        for method in config.labels:
            kinds = [SYNTHETIC, BOTH, *([CHOSEN] if method in config.chosen_labels else [])]
            rows += [StudyArm(fraction=fraction, kind=kind, method=method) for kind in kinds]
    return rows


def control_of(arms: list[StudyArm], fraction: float) -> StudyArm:
    """The real clips with their mirror images where there are such, else without."""
    return [arm for arm in arms if arm.fraction == fraction and not arm.method][-1]


def primary_pair(config: StudyConfig, arms: list[StudyArm]) -> tuple[StudyArm, StudyArm]:
    """The two rows of the primary comparison.

    Raises:
        InputError: the study has no such fraction or row.
    """
    fraction = min(config.fractions) if config.primary.fraction is None else config.primary.fraction
    here = {arm.training: arm for arm in arms if arm.fraction == fraction}
    if not here:
        raise unknown("primary.fraction", f"{fraction:g}", [f"{value:g}" for value in config.fractions])
    default = next(arm.training for kind in (CHOSEN, BOTH) for arm in here.values() if arm.kind == kind)
    control = control_of(arms, fraction).training
    pair = []
    for key, other in (("first", default), ("second", control)):
        name = getattr(config.primary, key)
        name = other if name in (None, CONTROL) else name
        if name not in here:
            raise unknown(f"primary.{key}", name, [*here, CONTROL])
        pair.append(here[name])
    return pair[0], pair[1]
