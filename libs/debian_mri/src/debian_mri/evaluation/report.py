"""From predictions to figures with intervals, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri import RESEARCH_ONLY
from icube_common.evaluation import Predictions
from icube_common.evaluation.folder import interval_text
from icube_common.evaluation.pages import class_tables
from icube_common.reports import Report, format_value
from icube_common.runs import write_json

METRICS = ("auc", "balanced_accuracy", "mcc", "ece", "brier")
DIFFERENCES = ("auc", "balanced_accuracy", "brier")
"""Metrics whose paired differences are tested."""
_GRID = np.linspace(0, 1, 101)
_BINS = 10
_DRAWN = ("image", "table", "logistic-pixels", "slice-mean", "daft")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judgement:
    """Predictions of an evaluation and what is said about them.

    Attributes:
        predictions: of the configured model.
        notes: what every reader has to know: untrained backbones, unchecked texts.
        stamps: what every report carries: variables of tier C.
        facts: protocol, folds, seconds.
        comparisons: of `debian_mri.evaluation.comparisons.compare`.
        comparison_note: how the comparisons were trained, where that is not on the same folds.
    """

    predictions: Predictions
    notes: Sequence[str]
    stamps: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    comparisons: Mapping[str, Any] = field(default_factory=dict)
    comparison_note: str = ""


def metrics_of(predictions: Predictions) -> dict[str, Any]:
    """Each metric as ``{"mean", "ci95", "groups", "method"}``."""
    return {name: interval.to_dict() for name, interval in predictions.metrics(METRICS).items()}


def write_evaluation(out: Path, judgement: Judgement, *, title: str, backbone: str, settings: str) -> dict[str, Any]:
    """Write ``predictions.csv``, ``metrics.json`` and ``report.html``; returns what ``metrics.json`` holds."""
    predictions = judgement.predictions
    figures = metrics_of(predictions)
    result: dict[str, Any] = {
        "notice": RESEARCH_ONLY,
        "stamps": list(judgement.stamps),
        **figures,
        "scans": len(set(predictions.ids)),
        "subjects": len(set(predictions.subjects)),
        "classes": list(predictions.class_names),
        **judgement.facts,
        "backbone": backbone,
        "notes": list(judgement.notes),
        "comparisons": dict(judgement.comparisons),
        "predictions": str(out / "predictions.csv"),
        "report": str(out / "report.html"),
    }
    predictions.write_csv(out / "predictions.csv")
    write_json(out / "metrics.json", result)
    _report(out, judgement, figures, title, backbone, settings).save(out / "report.html")
    return result


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


def _report(
    out: Path, judgement: Judgement, figures: Mapping[str, Any], title: str, backbone: str, settings: str
) -> Report:
    predictions = judgement.predictions
    report = Report("Evaluation", subtitle=f"{title}; {backbone}")
    report.paragraph(RESEARCH_ONLY)
    for text in (*judgement.stamps, *judgement.notes):
        report.paragraph(text)
    report.facts(
        {
            "scans": len(set(predictions.ids)),
            "people": len(set(predictions.subjects)),
            "classes": ", ".join(predictions.class_names),
            **{name.replace("_", " "): value for name, value in judgement.facts.items()},
        }
    )
    report.table(
        ["metric", "value", "95 % interval", "over"],
        [[name, found["mean"], interval_text(found), f"{found['groups']} people"] for name, found in figures.items()],
        caption="Intervals are over people: scans of one person, and repeats, are no further evidence.",
    )
    _plots(report, out, judgement)
    if judgement.comparisons:
        _comparisons(report, judgement)
    class_tables(report, predictions, class_word="class", row_word="predictions")
    report.section("Settings")
    report.paragraph(settings)
    return report


def _plots(report: Report, out: Path, judgement: Judgement) -> None:
    predictions = judgement.predictions
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
            row = judgement.comparisons.get(name, {})
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


def _comparisons(report: Report, judgement: Judgement) -> None:
    made = {name: row for name, row in judgement.comparisons.items() if "skipped" not in row}
    report.section("On the same folds")
    if judgement.comparison_note:
        report.paragraph(judgement.comparison_note)
    rows = []
    for row in (row for row in made.values() if not row["check"]):
        paired = row["difference"]["auc"]
        title = f"{row['title']}: the configured model" if row.get("configured") else row["title"]
        auc, balanced = _short(row["auc"]["mean"]), _short(row["balanced_accuracy"]["mean"])
        gap = f"{_short(paired['mean'])} ({interval_text(paired)})"
        rows.append([title, auc, interval_text(row["auc"]), balanced, gap, p_text(paired["p"]), row["comparison"]])
    report.table(
        ["", "AUC", "95 % interval", "balanced accuracy", "AUC: model minus it", "p", "comparison"],
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
    skipped = [[row["title"], row["skipped"]] for row in judgement.comparisons.values() if "skipped" in row]
    if skipped:
        report.table(["left out", "because"], skipped)


def _short(value: float | None) -> str:
    """Three decimals, an en dash where undefined."""
    return format_value(None) if value is None else f"{value:.3f}"


def p_text(value: float | None) -> str:
    """A p-value with three decimals, never as zero."""
    return "< 0.001" if value is not None and value < 0.001 else _short(value)
