"""Result of an evaluation: metrics with intervals, comparisons, and the report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.evaluation import (
    Interval,
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
PRIMARY = "class texts shuffled"
"""The primary comparison, a test of the use of class knowledge; all others are descriptive."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Result of an evaluation.

    Attributes:
        predictions: over all classes.
        notes: warnings for every reader: untrained backbones, unchecked texts.
        details: results particular to the protocol.
        comparisons: other settings and baselines on the same rows: name -> metrics and paired difference.
        metric: the protocol's own figure.
        backbone: the frozen model.
        folder: where ``predictions.csv`` and ``report.html`` are; None where nothing was written.
    """

    predictions: Predictions
    notes: Sequence[str]
    details: Mapping[str, Any] = field(default_factory=dict)
    comparisons: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "top1"
    backbone: str = ""
    folder: Path | None = None

    @cached_property
    def metrics(self) -> dict[str, Interval]:
        """Metric -> value (``mean``) with its interval over people; top-5 only with more than five classes."""
        return self.predictions.metrics(metric_names(self.predictions))

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON: each metric as ``{"mean", "ci95", "groups", "method"}``, counts, notes, paths."""
        return {
            **{name: interval.to_dict() for name, interval in self.metrics.items()},
            "metric": self.metric,
            "clips": len(set(self.predictions.ids)),
            "subjects": len(set(self.predictions.subjects)),
            "backbone": self.backbone,
            "notes": list(self.notes),
            **self.details,
            "comparisons": dict(self.comparisons),
            "predictions": None if self.folder is None else str(self.folder / "predictions.csv"),
            "report": None if self.folder is None else str(self.folder / "report.html"),
        }

    def write(self, folder: Path, *, title: str, settings: str) -> EvaluationResult:
        """Write ``predictions.csv``, ``metrics.json`` and ``report.html``; returns the result with its folder."""
        result = replace(self, folder=folder)
        self.predictions.write_csv(folder / "predictions.csv")
        write_json(folder / "metrics.json", result.to_dict())
        _report(result, title, settings).save(folder / "report.html")
        return result


def metric_names(predictions: Predictions) -> list[str]:
    """The metrics of an evaluation."""
    return [name for name in METRICS if name != "top5" or len(predictions.class_names) > 5]


def metrics_of(predictions: Predictions) -> dict[str, Any]:
    """Each metric as ``{"mean", "ci95", "groups", "method"}``."""
    return {name: interval.to_dict() for name, interval in predictions.metrics(metric_names(predictions)).items()}


def on_all_classes(predictions: Predictions, samples: Samples) -> Predictions:
    """Predictions over all classes of a set, 0 for classes outside the test side."""
    indices = [list(samples.class_names).index(name) for name in predictions.class_names]
    table = np.zeros((len(predictions), len(samples.class_names)))
    table[:, indices] = predictions.probabilities
    return Predictions(
        ids=predictions.ids,
        subjects=predictions.subjects,
        repeats=predictions.repeats,
        folds=predictions.folds,
        labels=np.array([indices[label] for label in predictions.labels]),
        probabilities=table,
        class_names=list(samples.class_names),
    )


def summarize_draws(predictions: Predictions, draws: Mapping[int, Sequence[str]]) -> dict[str, Any]:
    """Base-to-new accuracies, their harmonic mean, and the new classes' accuracy above chance, over draws of classes.

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
    return {"draws": rows, **over, "interval": "over draws of classes"}


def _report(result: EvaluationResult, title: str, settings: str) -> Report:
    predictions = result.predictions
    figures = {name: interval.to_dict() for name, interval in result.metrics.items()}
    report = Report("Evaluation", subtitle=f"{title}; {result.backbone}")
    for note in result.notes:
        report.paragraph(note)
    report.table(
        ["metric", "value", "95 % interval", "over"],
        [
            [name, found["mean"], interval_text(found), f"{found['groups']} people or groups"]
            for name, found in figures.items()
        ],
    )
    if shots := result.details.get("shots"):
        report.section("Few shots")
        report.table(
            ["clips of each class", "top-1", "95 % interval"],
            [[int(count), found["top1"]["mean"], interval_text(found["top1"])] for count, found in shots.items()],
        )
    if found := result.details.get("base_to_new"):
        report.section("Base to new")
        report.table(
            ["figure", "mean over draws", "95 % interval over draws"],
            [[key, found[key]["mean"], interval_text(found[key])] for key in ("base", "new", "harmonic_mean")]
            + [["new above chance", found["new_above_chance"]["mean"], interval_text(found["new_above_chance"])]],
        )
        report.table(
            ["new classes", "base", "new"], [[", ".join(r["new_classes"]), r["base"], r["new"]] for r in found["draws"]]
        )
    if result.comparisons:
        report.section("On the same folds")
        rows = []
        for name, row in result.comparisons.items():
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
            caption=f"The primary comparison, {PRIMARY}, is the same for all evaluations; the other p are "
            "descriptive, not corrected for multiple tests.",
        )
    class_tables(report, predictions, class_word="action", row_word="clips")
    report.section("Settings")
    report.paragraph(settings)
    return report
