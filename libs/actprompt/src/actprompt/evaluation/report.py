"""Metrics of an evaluation, and its report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icube_common.evaluation import EvaluationResult, Predictions, harmonic_mean, mean_interval
from icube_common.evaluation.report import class_tables, evaluation_report
from icube_common.evaluation.runner import interval_text
from icube_common.io.reports import Report

METRICS = ("top1", "top5", "mean_class_accuracy", "macro_f1", "ece")
PRIMARY = "class texts shuffled"
"""The primary comparison, a test of the use of class knowledge; all others are descriptive."""


def metric_names(classes: int) -> list[str]:
    """The metrics of an evaluation of so many classes."""
    return [name for name in METRICS if name != "top5" or classes > 5]


def metrics_of(predictions: Predictions) -> dict[str, Any]:
    """Each metric as ``{"mean", "ci95", "groups", "method"}``."""
    return {
        name: interval.to_dict()
        for name, interval in predictions.metrics(metric_names(len(predictions.class_names))).items()
    }


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


def report_page(result: EvaluationResult, *, title: str, settings: str) -> Report:
    """Report page of an evaluation: metrics, shots or draws, comparisons, classes, settings."""
    report = evaluation_report(result, subtitle=f"{title}; {result.facts['backbone']}", groups="people or groups")
    if shots := result.facts.get("shots"):
        report.section("Few shots")
        report.table(
            ["clips of each class", "top-1", "95 % interval"],
            [[int(count), values["top1"]["mean"], interval_text(values["top1"])] for count, values in shots.items()],
        )
    if values := result.facts.get("base_to_new"):
        report.section("Base to new")
        names = {"base": "base", "new": "new", "harmonic_mean": "harmonic_mean", "new_above_chance": "new above chance"}
        report.table(
            ["figure", "mean over draws", "95 % interval over draws"],
            [[name, values[key]["mean"], interval_text(values[key])] for key, name in names.items()],
        )
        report.table(
            ["new classes", "base", "new"],
            [[", ".join(r["new_classes"]), r["base"], r["new"]] for r in values["draws"]],
        )
    if result.comparisons:
        report.section("On the same folds")
        rows = []
        for name, row in result.comparisons.items():
            metric, paired = row["top1"], row["difference"]["top1"]
            cells = [metric["mean"], interval_text(metric), paired["mean"], interval_text(paired), paired.get("p")]
            rows.append([name, *cells, row["comparison"]])
        head = ["", "top-1", "95 % interval", "this run minus it", "95 % interval", "p (paired over people)"]
        report.table(
            [*head, "comparison"],
            rows,
            caption=f"The primary comparison, {PRIMARY}, is the same for all evaluations; the other p are "
            "descriptive, not corrected for multiple tests.",
        )
    class_tables(report, result.predictions, class_word="action", row_word="clips")
    report.section("Settings")
    report.paragraph(settings)
    return report
