"""What report pages of evaluations have in common."""

from __future__ import annotations

import numpy as np

from icube_common.evaluation.metrics import confusion_matrix, per_class_recall
from icube_common.evaluation.predictions import Predictions
from icube_common.io.reports import Report

_MOST_CLASSES = 30


def class_tables(report: Report, predictions: Predictions, *, class_word: str, row_word: str) -> None:
    """Add how many rows of each class were recognised and, up to 30 classes, what they were taken for.

    Args:
        report: the page.
        predictions: of the evaluation.
        class_word: what a class is called: "action".
        row_word: what the rows are called: "clips".
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
    if len(names) <= _MOST_CLASSES:
        report.section("Confusions")
        matrix = confusion_matrix(predictions.labels, predictions.probabilities)
        report.table(
            [f"true {class_word}", *names],
            [[name, *map(int, row)] for name, row in zip(names, matrix, strict=True)],
            caption="Rows: what it was; columns: what it was taken for.",
        )
