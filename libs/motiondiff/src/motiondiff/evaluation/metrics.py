"""All figures of sets of generated motions, beside those of held-out real motion.

Features are those of networks cross-fitted over the training subjects (`motiondiff.recognition.cross_fitting`):
generated motions are compared with held-out people on features of a network without one training subject, and the floor
is this subject's real clips compared with the same held-out people, person to person. Figures are means over these
networks, on the actions of which both people have two clips. Accuracy is that of an independent classifier: networks of
another family and seed.

What depends on the number of clips or on the mixture of classes (FID, precision, recall, diversity) is computed on
*matched* draws: of each class as many clips as the smallest of generated, held-out and left-out set has. KID, accuracy,
physics and stances take all clips and let every class weigh the same.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.evaluation import find_metric, mean_interval
from motiondiff.config import MIN_CLIPS
from motiondiff.data.clips import ClipSet, check_subject_overlap
from motiondiff.evaluation.distances import (
    NEIGHBOURS,
    diversity,
    fid,
    kid,
    precision_recall,
    why_no_fid,
    within_class,
)
from motiondiff.evaluation.memorisation import Nearest, TrainingMemory, memorisation_metrics
from motiondiff.evaluation.physics import physics_metrics
from motiondiff.evaluation.stance import stance_metrics
from motiondiff.recognition.cross_fitting import LeftOut, out_of_fold
from motiondiff.recognition.pose_descriptors import describe_all
from motiondiff.recognition.training import check_class_sizes

Table = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Values = dict[str, float]

MEANING = {
    "kid": "kernel distance to held-out motion, on features fitted on other people; 0: the same distribution",
    "fid": "Frechet distance to held-out motion, where the counts allow it",
    "precision": "share of motions that lie among held-out real ones (k = 3)",
    "recall": "share of held-out real motions that lie among these (k = 3)",
    "accuracy": "share that the independent classifier assigns to the target action, mean over classes",
    "diversity": "mean distance of two motions, on the same features",
    "multimodality": "mean distance of two motions of one action, on the same features",
    "within_class_diversity": "m: mean distance of two motions of one action, root mean square over joints",
    "nearest_training_median": "m: distance to the nearest training clip, its mirror image or part of one, median",
    "nearest_training_p5": "m: the same, 5th percentile",
    "copies": "share of motions that are nearly a training clip or its mirror image",
    "below_held_out_p5": "share of motions nearer to a training clip than 95 % of held-out ones are",
}
DISTRIBUTION = ("kid", "fid", "precision", "recall", "diversity", "multimodality")
"""Figures on features, one for each network."""
FLOOR = ("kid", "fid", "precision", "recall")
"""Figures whose real value compares a training subject with held-out ones; of the others it is held-out motion's."""


@dataclass(frozen=True, eq=False)
class EvaluatedClips:
    """Clips with features (N, D) by each extractor, probabilities (N, C), poses (N, F), and nearest training clips."""

    clips: ClipSet
    features: tuple[Table, ...]
    probabilities: Table
    poses: Table
    nearest: Nearest

    def take(self, rows: Index) -> EvaluatedClips:
        """Some of the clips."""
        return EvaluatedClips(
            self.clips.take(rows),
            tuple(features[rows] for features in self.features),
            self.probabilities[rows],
            self.poses[rows],
            self.nearest.take(rows),
        )


class MotionEvaluator:
    """Evaluator of sets of motions: training and held-out clips, extractors of features, and an independent classifier.

    Args:
        train: the generator's training clips, and no others.
        held_out: real clips of other people, same classes in the same order.
        extractors: cross-fitted on ``train``, for features.
        classifiers: cross-fitted on ``train``, for accuracy; never the network that filtered the motions. By default
            the extractors.

    Raises:
        InputError: a subject on both sides, other classes, or a class with fewer than two clips on a side.
    """

    def __init__(
        self,
        train: ClipSet,
        held_out: ClipSet,
        extractors: Sequence[LeftOut],
        classifiers: Sequence[LeftOut] | None = None,
    ) -> None:
        if tuple(train.class_names) != tuple(held_out.class_names):
            raise InputError(
                f"evaluation: classes {list(train.class_names)} and {list(held_out.class_names)} of training and "
                "held-out clips have to be the same"
            )
        check_class_sizes(train, MIN_CLIPS, "to train on")
        self.extractors, self.classifiers = tuple(extractors), tuple(classifiers or extractors)
        self.memory = TrainingMemory(train, mirrored=True)
        self.train = EvaluatedClips(
            train,
            tuple(fold.classifier.features(train) for fold in self.extractors),
            out_of_fold(self.classifiers, train),
            describe_all(train, self.memory.lengths),
            self.memory.own,
        )
        check_class_sizes(held_out, MIN_CLIPS, "held out")
        self._compare_with(held_out)

    def _compare_with(self, held_out: ClipSet) -> None:
        check_subject_overlap(self.train.clips, held_out)
        self.classes = np.flatnonzero(held_out.counts)
        """Labels that the held-out clips have."""
        present = held_out.with_classes([held_out.class_names[label] for label in self.classes.tolist()])
        check_class_sizes(present, MIN_CLIPS, "held out")
        self.held_out = self.describe(held_out)
        self.held_out_p5 = float(np.percentile(self.held_out.nearest.distance, 5))

    def with_held_out(self, held_out: ClipSet) -> MotionEvaluator:
        """The same training clips and networks with other held-out clips; these may lack classes.

        Raises:
            InputError: a subject on both sides, or a class with a single held-out clip.
        """
        other = copy.copy(self)
        other._compare_with(held_out)
        return other

    def predict(self, clips: ClipSet) -> Table:
        """(N, C) probabilities by the independent classifier: the mean over its networks."""
        return np.asarray(np.mean([fold.predict(clips) for fold in self.classifiers], axis=0))

    def describe(self, clips: ClipSet) -> EvaluatedClips:
        """Features, probabilities, poses and nearest training clips of a set."""
        return EvaluatedClips(
            clips,
            tuple(fold.classifier.features(clips) for fold in self.extractors),
            self.predict(clips),
            describe_all(clips, self.memory.lengths),
            self.memory.nearest(clips),
        )

    def comparable(self, described: EvaluatedClips) -> EvaluatedClips:
        """The clips of classes that the held-out clips have."""
        if len(self.classes) == len(self.train.clips.class_names):
            return described
        return described.take(np.flatnonzero(np.isin(described.clips.labels, self.classes)))

    def left_out(self, fold: int) -> EvaluatedClips:
        """The training clips that an extractor has not seen."""
        return self.train.take(self.extractors[fold].rows)

    def fold_classes(self, fold: int) -> Index:
        """Labels that the held-out and the left-out clips have two clips of."""
        counts = np.minimum(self.left_out(fold).clips.counts, self.held_out.clips.counts)
        return np.flatnonzero(counts >= MIN_CLIPS)

    def matched(self, fold: int, clips: ClipSet, seed: int) -> tuple[Index, Index]:
        """Rows of a set and of the held-out clips: of each comparable class as many as the smallest set has.

        Args:
            fold: number of the extractor; the sets are ``clips``, held-out clips and those it has not seen.
            clips: generated, or left out.
            seed: of the draw.
        """
        generator = np.random.default_rng([seed, 17, fold])
        rows: tuple[list[int], list[int]] = ([], [])
        sets = (clips, self.held_out.clips)
        for label in self.fold_classes(fold).tolist():
            size = min(int(one.counts[label]) for one in (*sets, self.left_out(fold).clips))
            for chosen, one in zip(rows, sets, strict=True):
                chosen.extend(generator.permutation(np.flatnonzero(one.labels == label))[:size].tolist())
        return np.array(rows[0], dtype=np.int64), np.array(rows[1], dtype=np.int64)

    def fold_metrics(self, fold: int, clips: EvaluatedClips, seed: int) -> Values:
        """KID, FID, precision, recall and diversity by one extractor, on its comparable classes; NaN where undefined.

        KID and multimodality take all clips of these classes, the others a matched draw.
        """
        values = dict.fromkeys(DISTRIBUTION, math.nan)
        classes = self.fold_classes(fold)
        if not len(classes):
            return values
        sides = (clips, self.held_out)
        rows = [np.flatnonzero(np.isin(side.clips.labels, classes)) for side in sides]
        features = [side.features[fold][chosen] for side, chosen in zip(sides, rows, strict=True)]
        labels = [side.clips.labels[chosen] for side, chosen in zip(sides, rows, strict=True)]
        values["kid"] = kid(features[0], features[1], labels[0], labels[1])
        values["multimodality"] = within_class(features[0], labels[0])
        mine, theirs = self.matched(fold, clips.clips, seed)
        drawn, reference = clips.features[fold][mine], self.held_out.features[fold][theirs]
        values["diversity"] = diversity(drawn)
        if not why_no_fid(len(drawn), len(reference), drawn.shape[1]):
            values["fid"] = fid(drawn, reference)
        if min(len(drawn), len(reference)) > NEIGHBOURS:
            values["precision"], values["recall"] = precision_recall(reference, drawn)
        return values

    def distribution_metrics(self, clips: EvaluatedClips, seed: int) -> Values:
        """Means of `fold_metrics` over the extractors that have them."""
        return mean_values([self.fold_metrics(fold, clips, seed) for fold in range(len(self.extractors))])

    def set_metrics(self, clips: EvaluatedClips) -> Values:
        """Accuracy, within-class diversity, memorisation, physics and stances of a whole set."""
        labels = clips.clips.labels
        return {
            "accuracy": find_metric("mean_class_accuracy")(labels, clips.probabilities),
            "within_class_diversity": within_class(clips.poses, labels),
            **memorisation_metrics(clips.nearest, self.memory.copy_distance, self.held_out_p5),
            **physics_metrics(clips.clips),
            **stance_metrics(clips.clips),
        }

    def generated(self, clips: EvaluatedClips, seed: int) -> Values:
        """All figures of one set of generated motions."""
        check_class_sizes(clips.clips, MIN_CLIPS, "generated")
        chosen = self.comparable(clips)
        return {**self.distribution_metrics(chosen, seed), **self.set_metrics(chosen)}

    def floor(self, seed: int) -> list[Values]:
        """`fold_metrics` of each extractor's left-out subjects against held-out ones."""
        return [self.fold_metrics(fold, self.left_out(fold), seed) for fold in range(len(self.extractors))]

    def why_undefined(self, count: int) -> dict[str, str]:
        """Reasons for figures that are NaN, where each side of a matched draw has ``count`` clips."""
        few = f"{count} clips a side, more than {NEIGHBOURS} needed"
        foot = "no foot is ever in stance, or no joint is one by name"
        return {
            "kid": "no action of which a left-out and a held-out subject have two clips",
            "fid": why_no_fid(count, count, self.train.features[0].shape[1]),
            "precision": few,
            "recall": few,
            **dict.fromkeys(("diversity", "multimodality"), few),
            **dict.fromkeys(("slip", "slip_speed", "stance_share"), foot),
            "jitter": "all clips are shorter than four frames",
        }


def mean_values(rows: Sequence[Values]) -> Values:
    """Mean of every figure over the rows in which it is defined; NaN where it is in none."""
    result = {}
    for name in rows[0]:
        finite = [row[name] for row in rows if math.isfinite(row[name])]
        result[name] = float(np.mean(finite)) if finite else math.nan
    return result


def over_seeds(values: Sequence[float], reason: str) -> dict[str, Any]:
    """``{"mean", "ci95", ...}`` over seeds; None with the reason where a value is undefined."""
    return mean_interval(values).to_dict() if np.isfinite(values).all() else undefined(reason)


def undefined(reason: str) -> dict[str, Any]:
    """A figure that has no value, with the reason."""
    return {"mean": None, "ci95": [None, None], "note": reason}


def shown(metric: Mapping[str, Any]) -> str:
    """A figure for people: the mean, with its interval where there is one."""
    if metric["mean"] is None:
        return f"\N{EN DASH} ({metric['note']})"
    low, high = metric["ci95"]
    return f"{metric['mean']:.4g}" + ("" if low is None else f" [{low:.4g}, {high:.4g}]")
