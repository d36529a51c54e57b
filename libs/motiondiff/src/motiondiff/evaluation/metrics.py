"""All figures of sets of generated motions, beside those of held-out real motion.

What depends on the number of clips or on the mixture of classes (FID, precision, recall, diversity) is computed on
*matched* draws: of each class as many clips of every set as the smallest of the three (generated, held-out, training)
has. KID, accuracy and physics take all clips and let every class weigh the same.

The features of training clips are those of clips that the classifier was trained on, so that the floor of KID and of
precision and recall is a little higher than real motion of further people would set it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.evaluation import find_metric, group_interval, mean_interval
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
from motiondiff.evaluation.pose_descriptors import describe_all
from motiondiff.recognition.classifier import ActionClassifier
from motiondiff.recognition.training import check_class_sizes

Table = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Values = dict[str, float]

MEANING = {
    "kid": "kernel distance to held-out motion, on the classifier's features; 0: the same distribution",
    "fid": "Frechet distance to held-out motion, where the counts allow it",
    "precision": "share of motions that lie among held-out real ones (k = 3)",
    "recall": "share of held-out real motions that lie among these (k = 3)",
    "accuracy": "share that the classifier assigns to the target action, mean over classes",
    "diversity": "mean distance of two motions, on the classifier's features",
    "multimodality": "mean distance of two motions of one action, on the classifier's features",
    "within_class_diversity": "m: mean distance of two motions of one action, root mean square over joints",
    "nearest_training_median": "m: distance to the nearest training clip or part of one, median",
    "nearest_training_p5": "m: the same, 5th percentile",
    "copies": "share of motions that are nearly a training clip",
    "below_held_out_p5": "share of motions nearer to a training clip than 95 % of held-out ones are",
}
FIXED = "one fixed set of clips, without seeds"


@dataclass(frozen=True, eq=False)
class EvaluatedClips:
    """A set of clips with its features (N, D), probabilities (N, C), poses (N, F), nearest training clips."""

    clips: ClipSet
    features: Table
    probabilities: Table
    poses: Table
    nearest: Nearest


class MotionEvaluator:
    """Evaluator of sets of motions: training and held-out clips, and an action classifier.

    Args:
        train: the generator's training clips, and no others.
        held_out: real clips of other people, same classes in the same order.
        classifier: trained on ``train`` alone.

    Raises:
        InputError: a subject on both sides, other classes, or a class with fewer than two clips on a side.
    """

    def __init__(self, train: ClipSet, held_out: ClipSet, classifier: ActionClassifier) -> None:
        check_subject_overlap(train, held_out)
        if not train.class_names == held_out.class_names == classifier.class_names:
            raise InputError(
                f"evaluation: classes {list(train.class_names)}, {list(held_out.class_names)} and "
                f"{list(classifier.class_names)} of training, held-out clips and classifier have to be the same"
            )
        check_class_sizes(train, MIN_CLIPS, "to train on")
        check_class_sizes(held_out, MIN_CLIPS, "held out")
        self.classifier = classifier
        self.memory = TrainingMemory(train)
        poses = describe_all(train, self.memory.lengths)
        self.train = EvaluatedClips(
            train, classifier.features(train), classifier.predict(train), poses, self.memory.own
        )
        self.held_out = self.describe(held_out)
        self.held_out_p5 = float(np.percentile(self.held_out.nearest.distance, 5))

    def describe(self, clips: ClipSet) -> EvaluatedClips:
        """Features, probabilities, poses and nearest training clips of a set."""
        return EvaluatedClips(
            clips,
            self.classifier.features(clips),
            self.classifier.predict(clips),
            describe_all(clips, self.memory.lengths),
            self.memory.nearest(clips),
        )

    def matched(self, generated: EvaluatedClips, reference: EvaluatedClips, seed: int) -> tuple[Index, Index]:
        """Rows of two sets, as many of each class as the smallest of generated, held-out and training set has."""
        generator = np.random.default_rng([seed, 17])
        rows: tuple[list[int], list[int]] = ([], [])
        sets = (generated.clips, self.held_out.clips, self.train.clips)
        for label in range(len(generated.clips.class_names)):
            size = min(int(clips.counts[label]) for clips in sets)
            for chosen, clips in zip(rows, (generated.clips, reference.clips), strict=True):
                members = np.flatnonzero(clips.labels == label)
                chosen.extend(generator.permutation(members)[:size].tolist())
        return np.array(rows[0]), np.array(rows[1])

    def distribution_metrics(self, generated: EvaluatedClips, seed: int) -> Values:
        """KID, FID (NaN where the counts do not allow it), precision, recall and diversity of a matched draw."""
        mine, theirs = self.matched(generated, self.held_out, seed)
        features, reference = generated.features[mine], self.held_out.features[theirs]
        real = self.held_out
        distance = kid(generated.features, real.features, generated.clips.labels, real.clips.labels)
        values = {"kid": distance, "fid": math.nan, "precision": math.nan, "recall": math.nan}
        if not why_no_fid(len(features), len(reference), features.shape[1]):
            values["fid"] = fid(features, reference)
        if len(features) > NEIGHBOURS:
            values["precision"], values["recall"] = precision_recall(reference, features)
        return {**values, "diversity": diversity(features)}

    def set_metrics(self, generated: EvaluatedClips) -> Values:
        """Accuracy, what a class spans, memorisation and physics of a whole set."""
        labels = generated.clips.labels
        return {
            "accuracy": find_metric("mean_class_accuracy")(labels, generated.probabilities),
            "multimodality": within_class(generated.features, labels),
            "within_class_diversity": within_class(generated.poses, labels),
            **memorisation_metrics(generated.nearest, self.memory.copy_distance, self.held_out_p5),
            **physics_metrics(generated.clips),
        }

    def generated(self, clips: EvaluatedClips, seed: int) -> Values:
        """All figures of one set of generated motions."""
        check_class_sizes(clips.clips, MIN_CLIPS, "generated")
        return {**self.distribution_metrics(clips, seed), **self.set_metrics(clips)}

    def why_undefined(self, count: int) -> dict[str, str]:
        """Reasons for figures that are NaN, where each side of a matched draw has ``count`` clips."""
        return {
            "fid": why_no_fid(count, count, self.train.features.shape[1]),
            "precision": f"{count} clips a side, more than {NEIGHBOURS} needed",
            "recall": f"{count} clips a side, more than {NEIGHBOURS} needed",
            "foot_skate": "no foot joint is ever near the floor, or none is named",
            "foot_skate_share": "no foot joint is ever near the floor, or none is named",
            "jitter": "all clips are shorter than four frames",
        }


def evaluate_sets(
    generated: Sequence[ClipSet], evaluator: MotionEvaluator
) -> tuple[dict[str, Any], list[EvaluatedClips]]:
    """Figures of generated sets, one for each seed, beside those of held-out motion, and the goals.

    Args:
        generated: one set of motions for each seed, all with the classes of ``judge``, two clips of each at least.
        evaluator: with the real clips to compare with.

    Returns:
        Every figure as ``{"mean", "ci95": [low, high], ...}`` (95 % t-interval of the mean over seeds; None and a
        ``note`` where undefined); ``real``: the same for held-out clips, where KID compares the training clips
        with them, and FID, precision and recall draws of training clips; ``training``; ``targets``; ``counts``;
        ``warnings``. And what was seen of each set.

    Raises:
        InputError: no set, or a class with fewer than two clips.
    """
    if not generated:
        raise InputError("evaluation: no set of motions given")
    evaluated = [evaluator.describe(clips) for clips in generated]
    rows = [evaluator.generated(described, seed) for seed, described in enumerate(evaluated)]
    floor = [evaluator.distribution_metrics(evaluator.train, seed) for seed in range(len(evaluated))]
    matched = len(evaluator.matched(evaluated[0], evaluator.held_out, 0)[0])
    floor_matched = len(evaluator.matched(evaluator.train, evaluator.held_out, 0)[0])
    reasons, floor_reasons = evaluator.why_undefined(matched), evaluator.why_undefined(floor_matched)
    metrics = {name: _over_seeds([row[name] for row in rows], reasons.get(name, "")) for name in rows[0]}
    real = {name: _over_seeds([row[name] for row in floor], floor_reasons.get(name, "")) for name in floor[0]}
    mine, _ = evaluator.matched(evaluator.held_out, evaluator.held_out, 0)
    held_out = {
        "kid": floor[0]["kid"],
        **evaluator.set_metrics(evaluator.held_out),
        "diversity": diversity(evaluator.held_out.features[mine]),
    }
    real |= {name: _fixed(value, floor_reasons.get(name, "")) for name, value in held_out.items()}
    clips = evaluator.held_out.clips
    accuracy = group_interval(
        find_metric("mean_class_accuracy"), clips.labels, evaluator.held_out.probabilities, clips.subjects
    )
    real["accuracy"] = {**accuracy.to_dict(), "over": "held-out subjects"}
    distance, of_training = evaluator.train.nearest.distance, evaluator.set_metrics(evaluator.train)
    training = {
        "nearest_training_median": float(np.median(distance)),
        "nearest_training_p5": float(np.percentile(distance, 5)),
        "copy_distance": evaluator.memory.copy_distance,
        **{name: of_training[name] for name in ("accuracy", "within_class_diversity")},
    }
    result = {
        **{name: metrics[name] for name in (*MEANING, *(name for name in metrics if name not in MEANING))},
        "real": {name: real[name] for name in (*MEANING, *(name for name in real if name not in MEANING))},
        "training": training,
        "targets": check_targets(metrics, real, training["nearest_training_median"]),
        "counts": {
            "generated": len(evaluated[0].clips),
            "held_out": len(clips),
            "training": len(evaluator.train.clips),
            "matched": matched,
            "matched_real": floor_matched,
        },
        "warnings": copy_warnings(evaluated, evaluator),
    }
    return result, evaluated


def copy_warnings(evaluated: Sequence[EvaluatedClips], evaluator: MotionEvaluator) -> list[str]:
    """One line where motions are nearly verbatim copies of training clips; none otherwise."""
    distances = np.concatenate([clips.nearest.distance for clips in evaluated])
    copied = int((distances < evaluator.memory.copy_distance).sum())
    if not copied:
        return []
    clips, row = next(
        (clips, int(row))
        for clips in evaluated
        for row in np.flatnonzero(clips.nearest.distance < evaluator.memory.copy_distance)
    )
    return [
        f"verbatim copies: {copied} of {len(distances)} motions are within {evaluator.memory.copy_distance:.4f} m of a "
        f"training clip, the first: {clips.clips.ids[row]} of {evaluator.train.clips.ids[clips.nearest.clip[row]]}"
    ]


def _over_seeds(values: Sequence[float], reason: str) -> dict[str, Any]:
    """``{"mean", "ci95", ...}`` over seeds; None with the reason where a value is undefined."""
    if not np.isfinite(values).all():
        return _undefined(reason)
    return mean_interval(values).to_dict()


def _fixed(value: float, reason: str) -> dict[str, Any]:
    """The same of a value that does not vary."""
    return {"mean": value, "ci95": [None, None], "note": FIXED} if math.isfinite(value) else _undefined(reason)


def _undefined(reason: str) -> dict[str, Any]:
    return {"mean": None, "ci95": [None, None], "note": reason}


def shown(metric: Mapping[str, Any]) -> str:
    """A figure for people: the mean, with its interval where there is one."""
    if metric["mean"] is None:
        return f"\N{EN DASH} ({metric['note']})"
    low, high = metric["ci95"]
    return f"{metric['mean']:.4g}" + ("" if low is None else f" [{low:.4g}, {high:.4g}]")


# target -> (minimum, maximum, meaning)
TARGETS: dict[str, tuple[float | None, float | None, str]] = {
    "accuracy_ratio": (0.9, None, "accuracy of generated / of held-out real motions"),
    "within_class_diversity_ratio": (0.6, None, "within-class diversity of generated / of held-out real motions"),
    "nearest_training_over_held_out_p5": (
        1.0,
        None,
        "median distance of generated motions to the nearest training clip / 5th percentile of held-out ones'",
    ),
    "nearest_training_over_training": (
        0.5,
        None,
        "the same median / median distance of a training clip to the nearest other one",
    ),
    "foot_skate_ratio": (None, 1.5, "foot skate of generated / of held-out real motions"),
    "jitter_ratio": (None, 1.5, "jitter of generated / of held-out real motions"),
}


def check_targets(
    generated: Mapping[str, Mapping[str, Any]], real: Mapping[str, Mapping[str, Any]], training_nearest: float
) -> dict[str, Any]:
    """Each target as ``{"value", "at_least" or "at_most", "met", "meaning"}``; value and met are None where undefined.

    Args:
        generated: metric -> ``{"mean": ...}``.
        real: the same of held-out motions.
        training_nearest: median distance of a training clip to the nearest other one, metres.
    """

    def of(metrics: Mapping[str, Mapping[str, Any]], name: str) -> float:
        value = metrics[name]["mean"]
        return math.nan if value is None else float(value)

    def ratio(name: str) -> float:
        return _divide(of(generated, name), of(real, name))

    median = of(generated, "nearest_training_median")
    values = {
        "accuracy_ratio": ratio("accuracy"),
        "within_class_diversity_ratio": ratio("within_class_diversity"),
        "nearest_training_over_held_out_p5": _divide(median, of(real, "nearest_training_p5")),
        "nearest_training_over_training": _divide(median, training_nearest),
        "foot_skate_ratio": ratio("foot_skate"),
        "jitter_ratio": ratio("jitter"),
    }
    result = {}
    for name, (least, most, meaning) in TARGETS.items():
        value = values[name]
        finite = math.isfinite(value)
        met = None if not finite else (least is None or value >= least) and (most is None or value <= most)
        bound = {"at_least": least} if least is not None else {"at_most": most}
        result[name] = {"value": value if finite else None, **bound, "met": met, "meaning": meaning}
    return result


def _divide(above: float, below: float) -> float:
    return above / below if below else math.nan
