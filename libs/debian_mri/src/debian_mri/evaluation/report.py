"""Report page of an evaluation: metrics with intervals, ROC and reliability curves, comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri.evaluation.statistics.roc_analysis import THRESHOLDS, net_benefit
from debian_mri.evaluation.statistics.subgroups import MIN_PEOPLE, table_rows
from icube_common.evaluation import EvaluationResult, Predictions
from icube_common.evaluation.report import class_tables, evaluation_report
from icube_common.evaluation.runner import interval_text
from icube_common.io.reports import Report, format_value

METRICS = ("auc", "balanced_accuracy", "mcc", "ece", "brier")
DIFFERENCES = ("auc", "balanced_accuracy", "brier")
"""Metrics whose paired differences are tested."""
_GRID = np.linspace(0, 1, 101)
_BINS = 10
_SHOWN = ("protocol", "folds", "repeats", "trained_on", "mode", "site_association", "training_seconds", "seconds")
_LOWEST_BENEFIT = 0.1
_DRAWN = ("image", "table", "logistic-pixels", "slice-mean", "daft")

Array = npt.NDArray[np.float64]


def metrics_of(predictions: Predictions) -> dict[str, Any]:
    """Each metric as ``{"mean", "ci95", "groups", "method"}``."""
    return {name: interval.to_dict() for name, interval in predictions.metrics(METRICS).items()}


def roc_points(labels: npt.NDArray[np.int64], scores: Array, repeats: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """False and true positive rates, (101,) each; repeats are averaged at each false positive rate.

    Args:
        labels: 1 for positive rows, (N,).
        scores: (N,).
        repeats: (N,).
    """
    from sklearn.metrics import roc_curve

    curves = []
    for repeat in np.unique(repeats):
        mine = repeats == repeat
        false, true, _ = roc_curve(labels[mine], scores[mine])
        curves.append(np.interp(_GRID, false, true))
    mean = np.mean(curves, axis=0)
    return np.concatenate([[0.0], _GRID]), np.concatenate([[0.0], mean])


def reliability(correct: npt.NDArray[np.bool_], confidence: Array) -> list[tuple[float, float, int]]:
    """Mean confidence, share that happened and number of rows of ten equal-width bins; empty bins are left away.

    Args:
        correct: whether what the confidence is of did happen, (N,).
        confidence: 0 to 1, (N,).
    """
    number = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
    return [
        (float(confidence[number == bin].mean()), float(correct[number == bin].mean()), int((number == bin).sum()))
        for bin in range(_BINS)
        if (number == bin).any()
    ]


def make_report(result: EvaluationResult, *, title: str, settings: str, comparison_note: str = "") -> Report:
    """Report page of an evaluation: metrics, curves, comparisons, classes, settings.

    Args:
        result: of the evaluation.
        title: protocol and data set.
        settings: the configuration as text.
        comparison_note: how the comparisons were trained, where that is not on the same folds.
    """
    predictions = result.predictions
    report = evaluation_report(result, subtitle=f"{title}; {result.facts['backbone']}")
    report.paragraph(str(result.facts["notice"]))
    report.facts(
        {
            "scans": len(set(predictions.ids)),
            "people": len(set(predictions.subjects)),
            "classes": ", ".join(predictions.class_names),
            **{name.replace("_", " "): result.facts[name] for name in _SHOWN if name in result.facts},
        }
    )
    _plots(report, result)
    _subgroups(report, result)
    if result.comparisons:
        _comparisons(report, result, comparison_note)
    class_tables(report, predictions, class_word="class", row_word="predictions")
    report.section("Settings")
    report.paragraph(settings)
    return report


def _plots(report: Report, result: EvaluationResult) -> None:
    predictions = result.predictions
    report.section("Curves")
    names = predictions.class_names
    series: dict[str, tuple[Any, Any]] = {}
    numbers = [1] if len(names) == 2 else range(len(names))
    for number in numbers:
        present = predictions.labels == number
        if not present.any() or present.all():
            continue
        title = "configured model" if len(names) == 2 else names[number]
        series[title] = roc_points(present.astype(np.int64), predictions.probabilities[:, number], predictions.repeats)
    if len(names) == 2:
        for name in _DRAWN:
            row = result.comparisons.get(name, {})
            if "predictions" in row and not row.get("configured"):
                other = Predictions.read_csv(row["predictions"])
                series[row["title"]] = roc_points(other.labels, other.probabilities[:, 1], other.repeats)
    if series:
        series["chance"] = ([0.0, 1.0], [0.0, 1.0])
        report.plot(
            series,
            alt="ROC curves",
            x_label="false positive rate",
            y_label="true positive rate",
            caption=f"ROC{f' of {names[1]}' if len(names) == 2 else ', each class against the others'}, "
            "averaged over repeats.",
        )
    if len(names) == 2:
        bins = reliability(predictions.labels == 1, predictions.probabilities[:, 1])
        said = f"predicted probability of {names[1]}"
    else:
        bins = reliability(predictions.predicted == predictions.labels, predictions.probabilities.max(axis=1))
        said = "confidence of the predicted class"
    means, shares, counts = zip(*bins, strict=True)
    report.plot(
        {"configured model": (means, shares), "calibrated": ([0.0, 1.0], [0.0, 1.0])},
        alt="Reliability: predicted probability against how often it came true",
        x_label=said,
        y_label="share that it came true for",
        caption=f"Reliability in bins of 0.1; predictions in each: {', '.join(map(str, counts))}.",
    )
    if len(names) == 2:
        benefit = net_benefit(predictions)
        words = {"model": "configured model", "all": f"all as {names[1]}", "none": "none"}
        # a decision for all costs more than the axis shows at high thresholds
        shown = {
            words[name]: (THRESHOLDS.tolist(), np.maximum(values, -_LOWEST_BENEFIT).tolist())
            for name, values in benefit.items()
        }
        report.plot(
            shown,
            alt="Decision curve",
            x_label=f"threshold probability of {names[1]}",
            y_label="net benefit",
            caption="Decision curve (Vickers and Elkin 2006): net benefit of acting on the model at each threshold, "
            f"beside acting on all people and on none; values below -{_LOWEST_BENEFIT} are not drawn.",
        )


def _subgroups(report: Report, result: EvaluationResult) -> None:
    """Metrics by sex, age and site, and between each two of more than two classes."""
    if rows := result.facts.get("subgroups"):
        report.section("Subgroups")
        report.table(
            ["", "group", "people", "of these", "AUC", "95 % interval", "balanced accuracy", "95 % interval"],
            table_rows(rows),
            caption=f"Intervals over people; groups of fewer than {MIN_PEOPLE} people, or without one of the classes, "
            "are counted only. Not corrected for the number of groups: descriptive.",
        )
    if pairs := result.facts.get("pairwise_auc"):
        report.section("Pairs of classes")
        report.table(
            ["classes", "people", "AUC", "95 % interval"],
            [
                [" against ".join(row["classes"]), row["people"], _short(row["auc"]["mean"]), interval_text(row["auc"])]
                for row in pairs
            ],
            caption="By the probability of the second class among the two; all pairs: Hand and Till 2001.",
        )


def _comparisons(report: Report, result: EvaluationResult, note: str) -> None:
    made = {name: row for name, row in result.comparisons.items() if "skipped" not in row}
    report.section("On the same folds")
    if note:
        report.paragraph(note)
    rows = []
    for row in (row for row in made.values() if not row["check"]):
        paired = row["difference"]["auc"]
        title = f"{row['title']}: the configured model" if row.get("configured") else row["title"]
        auc, balanced = _short(row["auc"]["mean"]), _short(row["balanced_accuracy"]["mean"])
        gap = f"{_short(paired['mean'])} ({interval_text(paired)})"
        delong = p_text((row.get("delong") or {}).get("p"))
        p = p_text(paired["p"])
        rows.append([title, auc, interval_text(row["auc"]), balanced, gap, p, delong, row["comparison"]])
    report.table(
        ["", "AUC", "95 % interval", "balanced accuracy", "AUC: model minus it", "p", "p (DeLong)", "comparison"],
        rows,
        caption="Differences are paired over people (sign flips), with 95 % intervals. The primary comparison is the "
        "same for all evaluations; the other p are not corrected for their number: descriptive.",
    )
    report.section("Checks")
    rows = []
    for name, row in ((name, row) for name, row in made.items() if row["check"]):
        verdict = {True: "holds 0.5", False: "does not hold 0.5: look for a leak", None: ""}[row.get("holds_chance")]
        if name == "site-from-image":
            verdict = f"balanced accuracy {row['balanced_accuracy']['mean']:.3f}; chance {row['chance']:.3f}"
        rows.append([row["title"], _short(row["auc"]["mean"]), interval_text(row["auc"]), verdict, row["what"]])
    report.table(["", "AUC", "95 % interval", "", "what it is"], rows)
    report.table(
        ["comparison", "what it is", "seconds"],
        [[row["title"], row["what"], row["seconds"]] for row in made.values() if not row["check"]],
    )
    skipped = [[row["title"], row["skipped"]] for row in result.comparisons.values() if "skipped" in row]
    if skipped:
        report.table(["left out", "because"], skipped)


def _short(value: float | None) -> str:
    """Three decimals, an en dash where undefined."""
    return format_value(None) if value is None else f"{value:.3f}"


def p_text(value: float | None) -> str:
    """A p-value with three decimals, never as zero."""
    return "< 0.001" if value is not None and value < 0.001 else _short(value)
