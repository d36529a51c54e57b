"""From predictions to figures with intervals, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.evaluation import (
    Predictions,
    Samples,
    harmonic_mean,
    mean_interval,
)
from icube_common.evaluation.report import class_tables
from icube_common.evaluation.runner import interval_text
from icube_common.io.reports import Report
from icube_common.io.runs import write_json

METRICS = ("top1", "top5", "mean_class_accuracy", "macro_f1", "ece")
PRIMARY = "class texts exchanged"
"""The comparison that is tested: whether knowledge about the classes matters. All others are descriptive."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """Predictions of an evaluation and what is said about them.

    Attributes:
        predictions: over all classes.
        notes: what every reader has to know: untrained backbones, unchecked texts.
        details: what is particular to the protocol.
        comparisons: other settings and baselines on the same rows: name -> metrics and paired difference.
        metric: the protocol's own figure.
    """

    predictions: Predictions
    notes: Sequence[str]
    details: Mapping[str, Any] = field(default_factory=dict)
    comparisons: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "top1"


def metrics_of(predictions: Predictions) -> dict[str, Any]:
    """Each metric as ``{"mean", "ci95", "groups", "method"}``; top-5 only where there are more than five classes."""
    names = [name for name in METRICS if name != "top5" or len(predictions.class_names) > 5]
    return {name: interval.to_dict() for name, interval in predictions.metrics(names).items()}


def on_all_classes(predictions: Predictions, samples: Samples) -> Predictions:
    """Predictions over all classes of a set, 0 for those that were not to choose among."""
    places = [list(samples.class_names).index(name) for name in predictions.class_names]
    table = np.zeros((len(predictions), len(samples.class_names)))
    table[:, places] = predictions.probabilities
    return Predictions(
        ids=predictions.ids,
        subjects=predictions.subjects,
        repeats=predictions.repeats,
        folds=predictions.folds,
        labels=np.array([places[label] for label in predictions.labels]),
        probabilities=table,
        class_names=list(samples.class_names),
    )


def judge_draws(predictions: Predictions, draws: Mapping[int, Sequence[str]]) -> dict[str, Any]:
    """Accuracies on base and new classes, their harmonic mean, and the new ones' distance from chance, over draws.

    Args:
        predictions: `Predictions.repeats` is the number of the draw.
        draws: number -> the new classes.
    """
    names = list(predictions.class_names)
    right = predictions.predicted == predictions.labels
    rows = []
    for draw, new in draws.items():
        is_new = np.isin(predictions.labels, [names.index(name) for name in new])
        mine = predictions.repeats == draw
        base_share, new_share = float(right[mine & ~is_new].mean()), float(right[mine & is_new].mean())
        rows.append(
            {
                "new_classes": list(new),
                "base": base_share,
                "new": new_share,
                "harmonic_mean": harmonic_mean(base_share, new_share),
                "new_above_chance": new_share - 1 / len(new),
            }
        )
    keys = ("base", "new", "harmonic_mean", "new_above_chance")
    over = {key: mean_interval([row[key] for row in rows]).to_dict() for key in keys}
    return {"draws": rows, **over, "interval": "over draws of classes: what another draw would change"}


def write_evaluation(out: Path, judgement: Judgement, *, title: str, backbone: str, settings: str) -> dict[str, Any]:
    """Write ``predictions.csv``, ``metrics.json`` and ``report.html``; returns what ``metrics.json`` holds."""
    predictions = judgement.predictions
    figures = metrics_of(predictions)
    result: dict[str, Any] = {
        **figures,
        "metric": judgement.metric,
        "clips": len(set(predictions.ids)),
        "subjects": len(set(predictions.subjects)),
        "backbone": backbone,
        "notes": list(judgement.notes),
        **judgement.details,
        "comparisons": dict(judgement.comparisons),
        "predictions": str(out / "predictions.csv"),
        "report": str(out / "report.html"),
    }
    predictions.write_csv(out / "predictions.csv")
    write_json(out / "metrics.json", result)
    _report(judgement, figures, title, backbone, settings).save(out / "report.html")
    return result


def _report(judgement: Judgement, figures: Mapping[str, Any], title: str, backbone: str, settings: str) -> Report:
    predictions = judgement.predictions
    report = Report("Evaluation", subtitle=f"{title}; {backbone}")
    for note in judgement.notes:
        report.paragraph(note)
    report.table(
        ["metric", "value", "95 % interval", "over"],
        [
            [name, found["mean"], interval_text(found), f"{found['groups']} people or groups"]
            for name, found in figures.items()
        ],
    )
    if shots := judgement.details.get("shots"):
        report.section("Few shots")
        report.table(
            ["clips of each class", "top-1", "95 % interval"],
            [[int(count), found["top1"]["mean"], interval_text(found["top1"])] for count, found in shots.items()],
        )
    if found := judgement.details.get("base_to_new"):
        report.section("Base to new")
        report.table(
            ["figure", "mean over draws", "95 % interval over draws"],
            [[key, found[key]["mean"], interval_text(found[key])] for key in ("base", "new", "harmonic_mean")]
            + [["new above chance", found["new_above_chance"]["mean"], interval_text(found["new_above_chance"])]],
        )
        report.table(
            ["new classes", "base", "new"], [[", ".join(r["new_classes"]), r["base"], r["new"]] for r in found["draws"]]
        )
    if judgement.comparisons:
        report.section("On the same folds")
        rows = []
        for name, row in judgement.comparisons.items():
            paired = row["difference_top1"]
            rows.append(
                [
                    name,
                    row["top1"]["mean"],
                    interval_text(row["top1"]),
                    paired["mean"],
                    interval_text(paired),
                    paired.get("p"),
                    row["comparison"],
                ]
            )
        report.table(
            [
                "",
                "top-1",
                "95 % interval",
                "this run minus it",
                "95 % interval",
                "p (paired over people)",
                "comparison",
            ],
            rows,
            caption=f"The primary comparison, {PRIMARY}, is the same for all evaluations; the other p are not "
            "corrected for their number: descriptive.",
        )
    class_tables(report, predictions, class_word="action", row_word="clips")
    report.section("Settings")
    report.paragraph(settings)
    return report
