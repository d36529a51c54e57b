"""Report pages of evaluations: metrics with intervals, tables of classes."""

from __future__ import annotations

import numpy as np

from icube_common.evaluation.metrics import confusion_matrix, per_class_recall
from icube_common.evaluation.predictions import Predictions
from icube_common.evaluation.runner import EvaluationResult, interval_text
from icube_common.io.reports import Report

_MAX_CLASSES = 30


def evaluation_report(result: EvaluationResult, *, subtitle: str, groups: str = "people") -> Report:
    """Report page with disclaimers, warnings and the metrics; a library adds its own sections.

    Args:
        result: of an evaluation.
        subtitle: protocol, data set and backbone.
        groups: name of the units of the intervals.
    """
    report = Report("Evaluation", subtitle=subtitle)
    for text in (*result.disclaimers, *result.warnings):
        report.paragraph(text)
    rows = [
        [name, interval.mean, interval_text(interval.to_dict()), f"{interval.groups} {groups}"]
        for name, interval in result.metrics.items()
    ]
    report.table(["metric", "value", "95 % interval", "over"], rows)
    return report


def class_tables(report: Report, predictions: Predictions, *, class_word: str, row_word: str) -> None:
    """Add recall by class and, up to 30 classes, the confusion matrix.

    Args:
        report: the page.
        predictions: of the evaluation.
        class_word: name of a class: "action".
        row_word: name of the rows: "clips".
    """
    names = predictions.class_names
    report.section("Classes")
    recall = per_class_recall(predictions.labels, predictions.probabilities)
    counts = np.bincount(predictions.labels, minlength=len(names))
    report.table(
        [class_word, row_word, "recognised"],
        [
            [name, int(count), None if not count else float(share)]
            for name, count, share in zip(names, counts, recall, strict=True)
        ],
    )
    if len(names) <= _MAX_CLASSES:
        report.section("Confusions")
        matrix = confusion_matrix(predictions.labels, predictions.probabilities)
        report.table(
            [f"true {class_word}", *names],
            [[name, *map(int, row)] for name, row in zip(names, matrix, strict=True)],
            caption="Rows: true class; columns: predicted class.",
        )
