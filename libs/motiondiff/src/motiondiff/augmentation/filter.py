"""Filter of generated motions for a training set: recognised, physically as good as real ones, and no copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from motiondiff.augmentation.config import FilterConfig
from motiondiff.config import MIN_CLIPS, ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.memorisation import MIN_COPY_DISTANCE, TrainingMemory
from motiondiff.evaluation.physics import clip_physics
from motiondiff.recognition.training import fit_classifier
from motiondiff.skeleton.motion import Motion

COPY = "copy"
UNSURE = "confidence"
PHYSICS = ("foot_skate", "jitter", "bone_length_drift", "penetration")
"""Metrics of `motiondiff.evaluation.physics` that are compared with real training clips."""
TOLERANCE = {"bone_length_drift": 0.001, "penetration": 0.01}
"""Metres that are always allowed: by the store's making real clips have rounding errors here and hardly more."""


@dataclass(frozen=True, kw_only=True)
class FilterDecision:
    """Result of the filter for one motion.

    Attributes:
        confidence: probability of the target class.
        distance: to the nearest training clip or part of one, metres (`motiondiff.evaluation.memorisation`).
        kind: first criterion that rejects it; empty where it is accepted.
        reason: the same in words, with the values.
    """

    confidence: float
    distance: float
    kind: str
    reason: str


class MotionFilter:
    """Made from the training split of a store and nothing else.

    Args:
        store: its training split gives the classifier, the physical limits, and the clips not to copy.
        config: thresholds.
        classifier: settings of the classifier.
        fewest: training clips that every class must have.

    Raises:
        InputError: no labelled training clips, or a class that a classifier cannot learn.
    """

    def __init__(
        self, store: MotionStore, config: FilterConfig, classifier: ClassifierConfig, *, fewest: int = MIN_CLIPS
    ) -> None:
        self.config = config
        self.real = ClipSet.from_store(store, split="train")
        self.classifier = fit_classifier(self.real, classifier, config.seed, fewest=fewest)
        self.limits = {
            # a clip without a foot on the floor has no skate
            name: max(TOLERANCE.get(name, 0.0), config.tolerance * float(np.nanquantile(values, config.quantile)))
            for name, values in physics_of(self.real).items()
            if np.isfinite(values).any()
        }
        self.memory = TrainingMemory(self.real)
        # motions near the mean of a class are nearer to its clips than these are to each other, and no copies
        self.copy_limit = max(MIN_COPY_DISTANCE, config.copy_threshold * float(np.median(self.memory.own.distance)))

    def decisions(self, motions: Sequence[Motion]) -> list[FilterDecision]:
        """Decision on each motion; its action is the target class."""
        clips = ClipSet.from_motions(motions, self.real.class_names)
        probabilities = self.classifier.predict(clips)
        asked = probabilities[np.arange(len(clips)), clips.labels]
        distances = self.memory.nearest(clips).distance
        physics = physics_of(clips)
        return [
            self._decide(
                float(asked[row]),
                clips.class_names[int(probabilities[row].argmax())],
                float(distances[row]),
                {name: float(values[row]) for name, values in physics.items()},
            )
            for row in range(len(clips))
        ]

    def _decide(self, confidence: float, seen_as: str, distance: float, physics: dict[str, float]) -> FilterDecision:
        """The first rule that is broken: copies first, which nothing excuses."""
        kind, reason = "", ""
        if distance < self.copy_limit:
            kind = COPY
            reason = f"copy: {distance:.4g} m from a training clip, below {self.copy_limit:.4g}"
        for name, limit in self.limits.items():
            if not kind and physics[name] > limit:  # never where it is NaN
                kind, reason = name, f"{name}: {physics[name]:.4g}, above {limit:.4g}"
        if not kind and confidence < self.config.min_confidence:
            kind = UNSURE
            reason = f"confidence: {confidence:.3f} below {self.config.min_confidence:g}, seen as {seen_as!r}"
        return FilterDecision(confidence=confidence, distance=distance, kind=kind, reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """The limits, for the record."""
        return {"physics_at_most": self.limits, "distance_at_least_m": self.copy_limit}


def physics_of(clips: ClipSet) -> dict[str, npt.NDArray[np.float64]]:
    """(N,) each of `PHYSICS`; NaN where a clip does not have it."""
    rows = [clip_physics(clip, clips.skeleton, clips.fps) for clip in clips.positions]
    return {name: np.array([row[name] for row in rows]) for name in PHYSICS}


def choose(
    decisions: Sequence[FilterDecision], actions: Sequence[str], per_class: int, *, fill: bool
) -> tuple[list[int], list[int], dict[int, str]]:
    """Choose the first ``per_class`` motions of each class that pass, in the order of generation.

    Not the most confident ones: those would be the least varied.

    Args:
        decisions: of each motion.
        actions: of each motion.
        per_class: how many of each class.
        fill: complete a class with its most confident rejected ones, never with copies.

    Returns:
        Rows that are kept; those among them that fill; and why each other row is left out.
    """
    accepted: list[int] = []
    filled: list[int] = []
    left_out = {row: decision.reason for row, decision in enumerate(decisions) if decision.kind}
    for action in dict.fromkeys(actions):
        rows = [row for row, label in enumerate(actions) if label == action]
        good = [row for row in rows if not decisions[row].kind]
        for row in good[per_class:]:
            left_out[row] = f"not needed: {per_class} of {action!r} are there"
        accepted += good[:per_class]
        if fill and len(good) < per_class:
            rest = [row for row in rows if decisions[row].kind and decisions[row].kind != COPY]
            rest.sort(key=lambda row: -decisions[row].confidence)
            filled += rest[: per_class - len(good)]
    for row in filled:
        del left_out[row]
    return sorted(accepted + filled), sorted(filled), left_out
