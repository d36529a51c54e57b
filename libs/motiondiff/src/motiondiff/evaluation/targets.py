"""Target values of the metrics of generated motion, and whether they are reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# goal -> (least, most, meaning)
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
    """Each goal as ``{"value", "at_least" or "at_most", "met", "meaning"}``; value and met are None where undefined.

    Args:
        generated: figure -> ``{"mean": ...}``.
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
        known = math.isfinite(value)
        met = None if not known else (least is None or value >= least) and (most is None or value <= most)
        bound = {"at_least": least} if least is not None else {"at_most": most}
        result[name] = {"value": value if known else None, **bound, "met": met, "meaning": meaning}
    return result


def _divide(above: float, below: float) -> float:
    return above / below if below else math.nan
