"""Figures of generated sets beside real motion: over seeds, over held-out people in turn, with movement and targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from icube_common.errors import InputError
from icube_common.evaluation import find_metric, group_interval, mean_interval
from motiondiff.data.clips import ClipSet
from motiondiff.evaluation.metrics import (
    DISTRIBUTION,
    FLOOR,
    MEANING,
    EvaluatedClips,
    MotionEvaluator,
    Values,
    mean_values,
    over_seeds,
    undefined,
)
from motiondiff.evaluation.movement import Limbs, action_medians, movement_table

FIXED = "one fixed set of clips, without seeds"
NO_SIDES = "mirrored copies are not searched: no joint name has a side"

# action -> figure -> comparison, of `motiondiff.evaluation.movement.movement_table`
MovementTable = Mapping[str, Mapping[str, Mapping[str, Any]]]

MIN_MOVEMENT = 0.01
"""m: actions whose real hands move less at 1-4 Hz have no target for it: the ratio would be one of noise."""
SWING = "hands_1-4hz"
MIN_ACCURACY = 0.5
"""Accuracy on real motion below which the independent classifier does not measure anything: no target for it."""

# target -> (minimum, maximum, meaning)
TARGETS: dict[str, tuple[float | None, float | None, str]] = {
    "hands_1-4hz_ratio": (0.75, 1.3, "1-4 Hz movement of the hands, generated / training people, worst action"),
    "frequency_difference": (-0.35, 0.35, "Hz: dominant frequency, generated - training people, worst action"),
    "jerk_ratio": (0.6, 1.6, "jerk of all joints, generated / training people, worst action"),
    "slip_ratio": (None, 1.5, "slip per stance, generated / held-out people"),
    "accuracy_ratio": (0.9, None, "accuracy of the independent classifier, generated / held-out people"),
    "within_class_diversity_ratio": (0.75, None, "within-class diversity, generated / held-out people"),
    "below_held_out_p5": (
        None,
        0.2,
        "share of motions nearer to a training clip or its mirror image than 95 % of held-out ones",
    ),
}


def evaluate_sets(
    generated: Sequence[ClipSet], evaluators: MotionEvaluator | Sequence[MotionEvaluator]
) -> tuple[dict[str, Any], list[EvaluatedClips]]:
    """Figures of generated sets, one for each seed, beside those of held-out motion, and the targets.

    Args:
        generated: one set of motions for each seed, with the classes of the evaluator, two clips of each at least.
        evaluators: with the real clips to compare with; several, of the same training clips and networks, for
            held-out people in turn: figures are then means over these.

    Returns:
        Every figure as ``{"mean", "ci95": [low, high], ...}`` (95 % t-interval of the mean over seeds; None and a
        ``note`` where undefined); figures on features also have ``folds``, the mean of each network, and ``spread``,
        their standard deviation. ``real``: the same for held-out clips, where KID, FID, precision and recall compare
        each training subject with them, over the networks that have not seen it. ``movement``: tables of generated
        motions beside ``training`` and ``held_out`` clips, and of held-out beside training ones (``real``); None where
        joints have no roles. ``training``; ``targets``; ``subjects``: means and targets against each held-out person;
        ``counts``; ``warnings``. And the evaluated clips of each set.

    Raises:
        InputError: no set, or a class with fewer than two clips.
    """
    if not generated:
        raise InputError("evaluation: no set of motions given")
    each = [evaluators] if isinstance(evaluators, MotionEvaluator) else list(evaluators)
    first = each[0]
    evaluated = [first.describe(clips) for clips in generated]
    made = joined(generated)
    tables = [_movement(made, evaluator) for evaluator in each]
    parts = [_against(evaluated, evaluator) for evaluator in each]
    metrics = _over_people([part["rows"] for part in parts], _reasons(evaluated, first))
    for name in DISTRIBUTION:
        metrics[name] |= _spread(_fold_means(parts, "folds", name))
    real = _real(parts, each, _reasons(evaluated, first))
    movement = tables[0] if len(each) == 1 else _movement(made, first, joined([one.held_out.clips for one in each]))
    result = {
        **{name: metrics[name] for name in (*MEANING, *(name for name in metrics if name not in MEANING))},
        "real": {name: real[name] for name in (*MEANING, *(name for name in real if name not in MEANING))},
        "training": _training(first),
        "movement": movement,
        "targets": check_targets(metrics, real, movement),
        "subjects": {
            ", ".join(sorted(set(evaluator.held_out.clips.subjects))): _person(part, evaluator, table)
            for part, evaluator, table in zip(parts, each, tables, strict=True)
        },
        "counts": {
            "generated": len(evaluated[0].clips),
            "held_out": sum(len(evaluator.held_out.clips) for evaluator in each),
            "training": len(first.train.clips),
            "extractors": len(first.extractors),
            "matched": [len(first.matched(fold, evaluated[0].clips, 0)[0]) for fold in range(len(first.extractors))],
        },
        "warnings": copy_warnings(evaluated, first),
    }
    return result, evaluated


def joined(sets: Sequence[ClipSet]) -> ClipSet:
    """The clips of several sets of the same classes, with new ids."""
    first = sets[0]
    return replace(
        first,
        positions=[clip for clips in sets for clip in clips.positions],
        labels=np.concatenate([clips.labels for clips in sets]),
        ids=[f"{number}/{name}" for number, clips in enumerate(sets) for name in clips.ids],
        subjects=[subject for clips in sets for subject in clips.subjects],
        splits=(),
        extra=None,
    )


def _against(evaluated: Sequence[EvaluatedClips], evaluator: MotionEvaluator) -> dict[str, Any]:
    """Figures of every seed against one evaluator's held-out clips, of every network, and of real motion."""
    rows = [evaluator.generated(clips, seed) for seed, clips in enumerate(evaluated)]
    chosen = [evaluator.comparable(clips) for clips in evaluated]
    count = len(evaluator.extractors)
    by_fold = [
        mean_values([evaluator.fold_metrics(fold, clips, seed) for seed, clips in enumerate(chosen)])
        for fold in range(count)
    ]
    floors = [evaluator.floor(seed) for seed in range(len(evaluated))]
    floor = [mean_values([seed[fold] for seed in floors]) for fold in range(count)]
    held_out = evaluator.distribution_metrics(evaluator.held_out, 0)
    return {
        "rows": rows,
        "folds": {name: [values[name] for values in by_fold] for name in DISTRIBUTION},
        "floor": {name: [values[name] for values in floor] for name in FLOOR},
        "real": {
            **evaluator.set_metrics(evaluator.held_out),
            **{name: held_out[name] for name in DISTRIBUTION if name not in FLOOR},
        },
    }


def _over_people(rows: Sequence[Sequence[Values]], reasons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Interval over seeds of each figure's mean over people; rows[person][seed]."""
    means = [mean_values(seed) for seed in zip(*rows, strict=True)]
    return {name: over_seeds([row[name] for row in means], reasons.get(name, "")) for name in means[0]}


def _real(
    parts: Sequence[Mapping[str, Any]], each: Sequence[MotionEvaluator], reasons: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Figures of real motion, with intervals over people."""
    result = {}
    for name in FLOOR:
        folds = _fold_means(parts, "floor", name)
        finite = [value for value in folds if math.isfinite(value)]
        value = mean_interval(finite).to_dict() if finite else undefined(reasons.get(name, ""))
        result[name] = {**value, **_spread(folds), "over": "training subjects, each against held-out ones"}
    for name in parts[0]["real"]:
        values = [part["real"][name] for part in parts if math.isfinite(part["real"][name])]
        if not values:
            result[name] = undefined(reasons.get(name, ""))
        elif len(each) > 1:
            result[name] = {**mean_interval(values).to_dict(), "over": "held-out people"}
        else:
            result[name] = {"mean": values[0], "ci95": [None, None], "note": FIXED}
    if len(each) == 1:
        clips, probabilities = each[0].held_out.clips, each[0].held_out.probabilities
        interval = group_interval(find_metric("mean_class_accuracy"), clips.labels, probabilities, clips.subjects)
        result["accuracy"] = {**interval.to_dict(), "over": "held-out subjects"}
    return result


def _training(evaluator: MotionEvaluator) -> dict[str, float]:
    """Training clips among themselves; no classifier is tested on clips that it was trained on."""
    distance, labels = evaluator.train.nearest.distance, evaluator.train.clips.labels
    return {
        "nearest_training_median": float(np.median(distance)),
        "nearest_training_p5": float(np.percentile(distance, 5)),
        "copy_distance": evaluator.memory.copy_distance,
        "accuracy": find_metric("mean_class_accuracy")(labels, evaluator.train.probabilities),
        "within_class_diversity": evaluator.set_metrics(evaluator.train)["within_class_diversity"],
    }


def _person(part: Mapping[str, Any], evaluator: MotionEvaluator, table: Mapping[str, Any] | None) -> dict[str, Any]:
    """Means against one evaluator's held-out clips, real values, and targets."""
    metrics = mean_values(part["rows"])
    floor = {name: mean_values([{name: value} for value in part["floor"][name]])[name] for name in FLOOR}
    real = {**floor, **part["real"]}
    pair = [{name: {"mean": _number(value)} for name, value in values.items()} for values in (metrics, real)]
    return {
        "clips": len(evaluator.held_out.clips),
        "classes": len(evaluator.classes),
        "generated": {name: value["mean"] for name, value in pair[0].items()},
        "real": {name: value["mean"] for name, value in pair[1].items()},
        "targets": check_targets(pair[0], pair[1], table),
    }


def _movement(
    made: ClipSet, evaluator: MotionEvaluator, held_out: ClipSet | None = None
) -> dict[str, dict[str, dict[str, dict[str, Any]]]] | None:
    """Tables of generated beside training and held-out clips, and of held-out beside training ones."""
    try:
        Limbs.of(made.skeleton)
    except InputError:
        return None
    real, train = held_out or evaluator.held_out.clips, evaluator.train.clips
    return {
        "training": movement_table(made, train),
        "held_out": movement_table(made, real),
        "real": movement_table(real, train),
    }


def _reasons(evaluated: Sequence[EvaluatedClips], evaluator: MotionEvaluator) -> dict[str, str]:
    return evaluator.why_undefined(len(evaluator.matched(0, evaluated[0].clips, 0)[0]))


def _spread(folds: Sequence[float]) -> dict[str, Any]:
    """Mean of each network, None where undefined, and their standard deviation."""
    finite = [value for value in folds if math.isfinite(value)]
    return {
        "folds": [_number(value) for value in folds],
        "spread": float(np.std(finite, ddof=1)) if len(finite) > 1 else None,
    }


def _fold_means(parts: Sequence[Mapping[str, Any]], kind: str, name: str) -> list[float]:
    """A figure of each network, mean over held-out people."""
    people = [part[kind][name] for part in parts]
    return [mean_values([{name: value} for value in fold])[name] for fold in zip(*people, strict=True)]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def worst(table: MovementTable, figure: str, *, least: float = 0.0) -> tuple[str | None, float]:
    """The action whose comparison is the farthest from equality, and its ratio (or difference).

    Ratios are compared by their logarithms: half is as far as double.

    Args:
        table: of `motiondiff.evaluation.movement.movement_table`.
        figure: one of its figures.
        least: smallest reference value; actions below it are left out.

    Returns:
        The action and its value; None and NaN where no action has one.
    """

    def distance(value: float) -> float:
        if kind == "difference":
            return abs(value)
        return abs(math.log(value)) if value > 0 else math.inf

    kind = "difference" if any("difference" in row[figure] for row in table.values()) else "ratio"
    values = {
        action: float(row[figure][kind])
        for action, row in table.items()
        if row[figure][kind] is not None and row[figure]["reference"] >= least
    }
    if not values:
        return None, math.nan
    action = max(values, key=lambda name: distance(values[name]))
    return action, values[action]


def movement_errors(generated: ClipSet, reference: ClipSet) -> dict[str, float]:
    """Errors of movement over actions: mean absolute natural logarithm of the ratio of medians, 0 where all are right.

    Args:
        generated: clips with an action.
        reference: real clips of the same classes.

    Returns:
        ``swing_error`` of the hands at 1-4 Hz, of actions whose real hands move by `MIN_MOVEMENT`, and ``jerk_error``;
        NaN where no action has a ratio, nothing where joints have no roles.
    """
    try:
        sides = [action_medians(clips) for clips in (generated, reference)]
    except InputError:
        return {}
    result = {}
    for name, figure, least in (("swing_error", SWING, MIN_MOVEMENT), ("jerk_error", "jerk", 0.0)):
        pairs = [(made[figure], real[figure]) for made, real in zip(*(side.values() for side in sides), strict=True)]
        errors = [abs(math.log(made / real)) for made, real in pairs if made > 0 and real > 0 and real >= least]
        result[name] = float(np.mean(errors)) if errors else math.nan
    return result


def check_targets(
    generated: Mapping[str, Mapping[str, Any]],
    real: Mapping[str, Mapping[str, Any]],
    movement: Mapping[str, MovementTable] | None,
) -> dict[str, dict[str, Any]]:
    """Every target with its value.

    Args:
        generated: metric -> ``{"mean": ...}``.
        real: the same of held-out motions.
        movement: ``training`` and ``held_out``: tables of generated beside these people's motion; None where joints
            have no roles.

    Returns:
        target -> ``{"value", "at_least" and / or "at_most", "met", "meaning"}``; value and met are None where
        undefined. Those of movement also have ``action`` (the worst) and ``held_out``, the same against held-out people
        (``{"value", "action"}``), which no bound is set for; that of accuracy has a ``note``
        where the classifier fails on real motion.
    """

    def of(metrics: Mapping[str, Mapping[str, Any]], name: str) -> float:
        value = metrics[name]["mean"]
        return math.nan if value is None else float(value)

    def ratio(name: str) -> tuple[float, dict[str, Any]]:
        below = of(real, name)
        return of(generated, name) / below if below else math.nan, {}

    def recognised() -> tuple[float, dict[str, Any]]:
        if of(real, "accuracy") >= MIN_ACCURACY:
            return ratio("accuracy")
        reason = f"the classifier recognises {of(real, 'accuracy'):.2f} of real motion, {MIN_ACCURACY:g} are needed"
        return math.nan, {"note": reason}

    def moving(figure: str, least: float = 0.0) -> tuple[float, dict[str, Any]]:
        if movement is None:
            return math.nan, {"action": None}
        action, value = worst(movement["training"], figure, least=least)
        other, beside = worst(movement["held_out"], figure, least=least)
        return value, {"action": action, "held_out": {"value": _number(beside), "action": other}}

    values: dict[str, Callable[[], tuple[float, dict[str, Any]]]] = {
        "hands_1-4hz_ratio": lambda: moving(SWING, MIN_MOVEMENT),
        "frequency_difference": lambda: moving("frequency"),
        "jerk_ratio": lambda: moving("jerk"),
        "slip_ratio": lambda: ratio("slip"),
        "accuracy_ratio": recognised,
        "within_class_diversity_ratio": lambda: ratio("within_class_diversity"),
        "below_held_out_p5": lambda: (of(generated, "below_held_out_p5"), {}),
    }
    result = {}
    for name, (low, high, meaning) in TARGETS.items():
        value, details = values[name]()
        finite = math.isfinite(value)
        met = (low is None or value >= low) and (high is None or value <= high) if finite else None
        bounds = {"at_least": low, "at_most": high}
        result[name] = {
            "value": _number(value),
            **{kind: bound for kind, bound in bounds.items() if bound is not None},
            "met": met,
            "meaning": meaning,
            **details,
        }
    return result


def bound_text(target: Mapping[str, Any]) -> str:
    """The bounds of a target for people: ``0.75 to 1.3``, ``at most 1.5``."""
    if "at_least" in target and "at_most" in target:
        return f"{target['at_least']:g} to {target['at_most']:g}"
    return f"at least {target['at_least']:g}" if "at_least" in target else f"at most {target['at_most']:g}"


def copy_warnings(evaluated: Sequence[EvaluatedClips], evaluator: MotionEvaluator) -> list[str]:
    """One line where motions are nearly verbatim copies of training clips, and one where mirrored ones are not seen."""
    warnings = [] if evaluator.memory.mirrors else [NO_SIDES]
    if not all(fold.subjects for fold in evaluator.extractors):
        warnings.append("training clips of one subject, or of none by name: networks are cross-fitted over clips")
    limit = evaluator.memory.copy_distance
    distances = np.concatenate([clips.nearest.distance for clips in evaluated])
    copied = int((distances < limit).sum())
    if not copied:
        return warnings
    near = [(clips, np.flatnonzero(clips.nearest.distance < limit)) for clips in evaluated]
    clips, row = next((clips, int(rows[0])) for clips, rows in near if len(rows))
    mirrored = sum(int(clips.nearest.mirrored[rows].sum()) for clips, rows in near)
    original = evaluator.train.clips.ids[clips.nearest.clip[row]]
    return [
        *warnings,
        f"verbatim copies: {copied} of {len(distances)} motions ({mirrored} of them mirrored) are within {limit:.4f} m "
        f"of a training clip, the first: {clips.clips.ids[row]} of {original}",
    ]
