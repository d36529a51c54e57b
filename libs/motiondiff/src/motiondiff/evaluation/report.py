"""The page of an evaluation: figures beside their floor, goals, confusions, and motions beside their nearest clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.evaluation import Predictions, confusion_matrix, per_class_recall
from icube_common.io.reports import Report, figure_svg
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.metrics import MEANING, EvaluatedClips, MotionEvaluator, shown
from motiondiff.evaluation.physics import MEANING as PHYSICS
from motiondiff.evaluation.text_to_motion.metrics import MEANING as TEXT_MEANING
from motiondiff.export.images.render import write_contact_sheet
from motiondiff.pipelines.sampling import slug
from motiondiff.skeleton.motion import Motion

SAMPLES = 3
"""Motions of each class on the page."""
FRAMES, CELL = 5, (84, 116)  # two sheets of 420 pixels stand side by side on a page
MAX_MATRIX = 40
"""Classes that a confusion matrix is drawn for, at most."""


def write_report(
    folder: Path,
    result: Mapping[str, Any],
    evaluator: MotionEvaluator,
    evaluated: EvaluatedClips,
    motions: list[Motion],
    predictions: Predictions,
    store: MotionStore,
) -> None:
    """Write ``report.html``, and ``sheets/`` with images of motions.

    Args:
        folder: existing folder.
        result: of `motiondiff.evaluation.runner.evaluate`.
        evaluator: real clips and the classifier.
        evaluated: features of the first set of motions.
        motions: that set.
        predictions: of all sets.
        store: the real clips.
    """
    settings = result["settings"]
    subtitle = (
        f"{result['counts']['generated']} motions from each of {settings['seeds']} seeds; {settings['scheduler']}, "
        f"{settings['steps']} steps, guidance {settings['guidance']:g}"
    )
    if result["simulated"]:
        subtitle = f"simulated motions, not recordings of people: {subtitle}"
    report = Report("Motion evaluation", subtitle=subtitle)
    for note in result["warnings"]:
        report.paragraph(note)
    _targets(report, result)
    _metrics(report, result)
    if "text" in result:
        _texts(report, result["text"])
    _curves(report, evaluator, evaluated, result)
    _classes(report, evaluator, predictions)
    _motions(report, folder / "sheets", evaluator, evaluated, motions, store)
    report.section("Settings")
    report.facts({name: value for name, value in settings.items() if name != "evaluator"})
    report.facts(settings["evaluator"], caption="The evaluator, trained on the training split alone")
    report.facts(result["counts"], caption="Clips")
    report.facts({"data": result["data_fingerprint"], "revision": result["environment"]["git_revision"]})
    report.save(folder / "report.html")


def _targets(report: Report, result: Mapping[str, Any]) -> None:
    report.section("Targets")
    rows = []
    for name, target in result["targets"].items():
        bound = f"at least {target['at_least']:g}" if "at_least" in target else f"at most {target['at_most']:g}"
        rows.append([name, target["meaning"], target["value"], bound, target["met"]])
    report.table(["target", "meaning", "value", "bound", "met"], rows)


def _metrics(report: Report, result: Mapping[str, Any]) -> None:
    report.section("Metrics")
    report.paragraph(
        "Mean over seeds with a 95 % t-interval of the mean; real: held-out clips. For kid, fid, precision and recall, "
        "real compares draws of training clips with them: the floor that real motion reaches. For real accuracy the "
        "interval is over held-out subjects."
    )
    meaning = {**MEANING, **PHYSICS}
    report.table(
        ["figure", "generated", "real", "what"],
        [[name, shown(result[name]), shown(result["real"][name]), words] for name, words in meaning.items()],
    )
    report.facts(result["training"], caption="Training clips among themselves")


def _texts(report: Report, text: Mapping[str, Any]) -> None:
    report.section("Text")
    report.paragraph(
        f"Motions made of held-out clips' captions alone ({text['captions']} from each seed); real: these clips. "
        f"A caption is ranked among {text['pool']} of different meaning by a model that matches texts and motions, "
        "trained on the training clips."
    )
    report.table(
        ["figure", "generated", "real", "chance", "what"],
        [
            [name, shown(text[name]), shown(text["real"][name]), text["chance"].get(name), words]
            for name, words in TEXT_MEANING.items()
        ],
    )


def _curves(report: Report, evaluator: MotionEvaluator, evaluated: EvaluatedClips, result: Mapping[str, Any]) -> None:
    report.section("Memorisation")
    report.paragraph(
        "Distance to the nearest training clip, or part of one, on a common body. Motions that copy lie left of "
        "held-out ones; a generator that generalises lies near them."
    )
    series = {}
    for name, clips in (
        ("generated (seed 0)", evaluated),
        ("held-out real", evaluator.held_out),
        ("training", evaluator.train),
    ):
        distances = np.sort(clips.nearest.distance)
        series[name] = (distances.tolist(), (np.arange(1, len(distances) + 1) / len(distances)).tolist())
    report.plot(
        series,
        alt="Share of clips within a distance of the nearest training clip: generated, held-out, training",
        x_label="distance to the nearest training clip, m",
        y_label="share of clips within it",
        caption=f"Below {result['training']['copy_distance']:.4f} m a clip counts as a copy.",
    )


def _classes(report: Report, evaluator: MotionEvaluator, predictions: Predictions) -> None:
    report.section("Classes")
    names = predictions.class_names
    real = evaluator.held_out
    made = per_class_recall(predictions.labels, predictions.probabilities)
    recall = per_class_recall(real.clips.labels, real.probabilities)
    report.table(
        ["action", "recognised, generated", "recognised, real", "training clips", "held-out clips"],
        [
            [
                name,
                float(made[row]),
                float(recall[row]),
                int(evaluator.train.clips.counts[row]),
                int(real.clips.counts[row]),
            ]
            for row, name in enumerate(names)
        ],
    )
    if len(names) > MAX_MATRIX:
        return
    alt = "Confusion matrix of the classifier: rows requested, columns predicted; {}"
    report.gallery(
        [
            (_heat_map(confusion_matrix(labels, table), names), alt.format(words), words)
            for words, labels, table in (
                ("generated, all seeds", predictions.labels, predictions.probabilities),
                ("held-out real", real.clips.labels, real.probabilities),
            )
        ]
    )


def _heat_map(matrix: npt.NDArray[Any], names: tuple[str, ...] | Any) -> bytes:
    """A confusion matrix as SVG: shade is the share of the row, the number in a cell the count."""
    from matplotlib.figure import Figure

    size = max(3.6, 0.28 * len(names) + 1.6)  # two of up to ten classes stand side by side
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="taken for", ylabel="action")
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[row, column] > 0.55 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7, color=colour)
    return figure_svg(figure)


def _motions(
    report: Report,
    folder: Path,
    evaluator: MotionEvaluator,
    evaluated: EvaluatedClips,
    motions: list[Motion],
    store: MotionStore,
) -> None:
    report.section("Motions beside their nearest training clips")
    report.paragraph(
        "Left: the first generated motions of each action (seed 0), with what the classifier takes them for. Right, "
        "row by row: the training clip that each is nearest to, whole or in part."
    )
    folder.mkdir()
    row_of = {name: row for row, name in enumerate(store.clip_ids)}
    names = evaluated.clips.class_names
    for label, name in enumerate(names):
        rows = np.flatnonzero(evaluated.clips.labels == label)[:SAMPLES]
        best = evaluated.probabilities[rows].argmax(axis=1)
        made = [f"{name}: taken for {names[guess]}" for guess in best]
        ids = [evaluator.train.clips.ids[evaluated.nearest.clip[row]] for row in rows]
        near = [f"{evaluated.nearest.distance[row]:.3f} m: {clip}" for row, clip in zip(rows, ids, strict=True)]
        stem = f"{label:02d}-{slug(name)}"
        left = write_contact_sheet(
            [motions[row] for row in rows], made, folder / f"{stem}.png", frames=FRAMES, cell=CELL
        )
        right = write_contact_sheet(
            [store[row_of[clip]] for clip in ids], near, folder / f"{stem}-nearest.png", frames=FRAMES, cell=CELL
        )
        report.gallery(
            [
                (left, f"Stick figures of generated motions: {name}", f"{name}: generated"),
                (right, f"Stick figures of the nearest training clips to: {name}", "nearest training clips"),
            ]
        )
