"""Metrics by sex, age and site: a model may serve some people worse than others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from debian_mri.data.manifest import Manifest
from icube_common.evaluation import Predictions, find_metric, group_interval

METRICS = ("auc", "balanced_accuracy")
AGES = (65.0, 75.0, 85.0)
"""Bounds of the age bands, years."""
MIN_PEOPLE = 10
"""Smaller subgroups are counted, and not evaluated."""
UNKNOWN = "unknown"


def subgroups_of(manifest: Manifest) -> dict[str, dict[str, str]]:
    """Variable -> scan id -> subgroup: sex, age band and site, as far as the set has them."""
    participants = manifest.participants()
    ids = [scan.id for scan in manifest.scans]
    grouped: dict[str, dict[str, str]] = {}
    if "sex" in participants.names:
        words = participants.column("sex").values
        values = participants.values[:, participants.names.index("sex")]
        grouped["sex"] = {
            scan: UNKNOWN if math.isnan(value) else words[int(value)] for scan, value in zip(ids, values, strict=True)
        }
    if "age" in participants.names:
        ages = participants.values[:, participants.names.index("age")]
        grouped["age"] = {scan: age_band(float(age)) for scan, age in zip(ids, ages, strict=True)}
    if manifest.sites is not None:
        grouped["site"] = dict(zip(ids, manifest.sites, strict=True))
    return {name: groups for name, groups in grouped.items() if len(set(groups.values())) > 1}


def age_band(age: float) -> str:
    """Band of an age in years: ``65-74``."""
    if math.isnan(age):
        return UNKNOWN
    for low, high in zip((0.0, *AGES), AGES, strict=False):
        if age < high:
            return f"{low:g}-{high - 1:g}" if low else f"below {high:g}"
    return f"{AGES[-1]:g} and older"


def subgroup_metrics(predictions: Predictions, subgroups: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Metrics of each subgroup with intervals over its people.

    Args:
        predictions: of an evaluation.
        subgroups: of `subgroups_of`.

    Returns:
        Rows ``{"variable", "group", "people", "classes": class -> people, <metric>: interval}``; the metrics are None
        below `MIN_PEOPLE` people or where a class is absent.
    """
    rows = []
    for variable, groups in subgroups.items():
        mine = np.array([groups.get(scan, UNKNOWN) for scan in predictions.ids])
        for group in sorted(set(mine.tolist()), key=_order):
            chosen = mine == group
            rows.append({"variable": variable, "group": group, **_metrics(predictions, chosen)})
    return rows


def _metrics(predictions: Predictions, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    subjects = np.asarray(predictions.subjects)[chosen]
    labels = predictions.labels[chosen]
    people = {(str(subject), int(label)) for subject, label in zip(subjects, labels, strict=True)}
    counts = Counter(label for _, label in people)
    names = predictions.class_names
    result: dict[str, Any] = {
        "people": len({subject for subject, _ in people}),
        "classes": {name: counts[number] for number, name in enumerate(names)},
    }
    enough = result["people"] >= MIN_PEOPLE and len(counts) == len(names)
    for metric in METRICS:
        result[metric] = None
        if enough:
            interval = group_interval(
                find_metric(metric),
                labels,
                predictions.probabilities[chosen],
                subjects,
                repeats=np.asarray(predictions.repeats)[chosen],
            )
            result[metric] = interval.to_dict()
    return result


def _order(group: str) -> tuple[bool, bool, str]:
    """Unknown last, "below" first."""
    return group == UNKNOWN, not group.startswith("below"), group


def table_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Rows of a report's table: variable, group, people, classes, metrics with intervals."""
    from icube_common.evaluation.runner import interval_text
    from icube_common.io.reports import format_value

    shown = []
    for row in rows:
        cells: list[Any] = [row["variable"], row["group"], row["people"]]
        cells.append(", ".join(f"{name} {count}" for name, count in row["classes"].items()))
        for metric in METRICS:
            value = row[metric]
            cells += (
                [format_value(None), format_value(None)]
                if value is None or value["mean"] is None
                else [f"{value['mean']:.3f}", interval_text(value)]
            )
        shown.append(cells)
    return shown
