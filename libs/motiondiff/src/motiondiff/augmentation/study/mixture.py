"""Mixtures of real and synthetic clips for a classifier, and their choice on people inside the training clips.

A mixture is a share of synthetic clips in the classifier's samples (0: none), or pre-training on synthetic clips. The
choice is made by cross-validation over the training people: generator, filter and classifier of an inner part have not
seen its people. Another mixture than 0 is chosen only where its accuracy on the inner people is better than that of 0
by more than one standard error over these people (Breiman et al., "Classification and Regression Trees", 1984,
section 3.4.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from icube_common.io.runs import read_json
from motiondiff.augmentation.augment import CONFIDENCE, FACTS
from motiondiff.augmentation.study.config import MixtureConfig
from motiondiff.config import MIN_CLIPS, ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.recognition.classifier import ActionClassifier
from motiondiff.recognition.training import fit_classifier


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Combination of real and synthetic clips.

    Attributes:
        share: of synthetic clips in the samples of a class that has both.
        pretrain: train on synthetic clips first, then on real ones alone; ``share`` is 0 then.
    """

    share: float = 0.0
    pretrain: bool = False

    @property
    def is_control(self) -> bool:
        """True without synthetic clips."""
        return self.share == 0 and not self.pretrain

    def __str__(self) -> str:
        return "pre-training" if self.pretrain else f"{self.share:g}"


def candidates(config: MixtureConfig) -> list[Mixture]:
    """All candidates, the control (share 0) first."""
    shares = [Mixture(share=share) for share in sorted(config.shares)]
    return [*shares, *([Mixture(pretrain=True)] if config.pretrain else [])]


def synthetic_clips(store: MotionStore, class_names: Sequence[str], *, weighted: bool) -> ClipSet:
    """The clips of a generated store as further clips.

    Args:
        store: made by `motiondiff.augmentation.augment.augment`.
        class_names: the classes and their order.
        weighted: sample them in proportion to the confidence of the filter's classifier in their class.
    """
    clips = ClipSet.from_store(store, class_names=class_names)
    confidence: Mapping[str, float] = read_json(Path(store.path) / FACTS)[CONFIDENCE]
    weights = np.array([confidence[name] for name in clips.ids])
    return replace(
        clips,
        extra=np.ones(len(clips), dtype=bool),
        # a class of which no clip is recognised keeps them, all alike
        weights=np.maximum(weights, 1e-3) if weighted else None,
    )


def fit_mixture(
    real: ClipSet | None,
    synthetic: ClipSet | None,
    mixture: Mixture,
    config: ClassifierConfig,
    seed: int,
    *,
    fewest: int = MIN_CLIPS,
) -> ActionClassifier:
    """Train a classifier on a mixture; with share 0 exactly as on the real clips alone.

    Args:
        real: real clips; None: synthetic clips alone.
        synthetic: further clips (`synthetic_clips`); None: real clips alone.
        mixture: their combination.
        config: network, steps, variations, mirror images of the real clips.
        seed: of the classifier.
        fewest: clips that every class must have.
    """
    if real is None:
        assert synthetic is not None
        return fit_classifier(synthetic, config, seed, fewest=fewest)
    if synthetic is None or mixture.is_control:
        return fit_classifier(real, config, seed, fewest=fewest)
    if mixture.pretrain:
        start = fit_classifier(synthetic, config, seed, fewest=fewest)
        return fit_classifier(real, config, seed, start=start, fewest=fewest)
    return fit_classifier(
        real.joined(synthetic), replace(config, synthetic_fraction=mixture.share), seed, fewest=fewest
    )


def choose_mixture(accuracies: Mapping[str, Sequence[float]]) -> int:
    """Index of the chosen candidate.

    Args:
        accuracies: inner person -> accuracy of each candidate, the control first.
    """
    values = np.array([accuracies[person] for person in sorted(accuracies)])
    if len(values) < 2:
        return 0
    differences = values - values[:, :1]
    errors = differences.std(axis=0, ddof=1) / math.sqrt(len(values))
    gains = np.where(differences.mean(axis=0) > errors, differences.mean(axis=0), 0.0)
    return int(gains.argmax())
