"""The page of an evaluation: figures beside their floor, goals, confusions, and motions beside their nearest clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.evaluation import Predictions, confusion_matrix, per_class_recall
from icube_common.io.reports import Report, figure_svg
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.comparison import bound_text, joined
from motiondiff.evaluation.metrics import MEANING, EvaluatedClips, MotionEvaluator, shown
from motiondiff.evaluation.movement import DIFFERENCES, hand_spectra
from motiondiff.evaluation.movement import MEANING as MOVEMENT
from motiondiff.evaluation.physics import MEANING as PHYSICS
from motiondiff.evaluation.stance import MEANING as STANCE
from motiondiff.evaluation.text_to_motion.metrics import MEANING as TEXT_MEANING
from motiondiff.export.images.render import write_contact_sheet
from motiondiff.pipelines.sampling import guidance_text, slug
from motiondiff.skeleton.motion import Motion

SAMPLES = 3
"""Motions of each class on the page."""
FRAMES, CELL = 5, (84, 116)  # two sheets of 420 pixels stand side by side on a page
MAX_MATRIX = 40
"""Classes that a confusion matrix is drawn for, at most."""
MAX_SPECTRA = 24
"""Actions with a plot of their spectrum, at most."""
REPORTED = ("hands_1-4hz", "frequency", "reversals", "jerk", "hands_0.3-1hz", "hands_5-10hz", "feet_1-4hz")
"""Figures of movement with a table on the page; all are in ``metrics.json``."""


def write_report(
    folder: Path,
    result: Mapping[str, Any],
    evaluators: Sequence[MotionEvaluator],
    evaluated: Sequence[EvaluatedClips],
    motions: list[Motion],
    predictions: Predictions,
    store: MotionStore,
) -> None:
    """Write ``report.html``, and ``sheets/`` with images of motions.

    Args:
        folder: existing folder.
        result: of `motiondiff.evaluation.runner.evaluate`.
        evaluators: real clips and classifiers; one for each held-out person that is evaluated in turn.
        evaluated: features of each set of motions.
        motions: the first set.
        predictions: of all sets.
        store: the real clips.
    """
    evaluator = evaluators[0]
    held_out = joined([one.held_out.clips for one in evaluators])
    settings = result["settings"]
    subtitle = (
        f"{result['counts']['generated']} motions from each of {settings['seeds']} seeds; {settings['scheduler']}, "
        f"{settings['steps']} steps, guidance {guidance_text(settings['guidance'])}"
    )
    if result["simulated"]:
        subtitle = f"simulated motions, not recordings of people: {subtitle}"
    report = Report("Motion evaluation", subtitle=subtitle)
    for note in result["warnings"]:
        report.paragraph(note)
    _targets(report, result)
    _metrics(report, result)
    if result["movement"] is not None:
        _movement(report, result["movement"])
        made = joined([clips.clips for clips in evaluated])
        _spectra(report, {"generated": made, "training": evaluator.train.clips, "held-out": held_out})
    if len(evaluators) > 1:
        _people(report, result["subjects"])
    if "text" in result:
        _texts(report, result["text"])
    _curves(report, evaluators, evaluated[0], result)
    _classes(report, evaluators, predictions)
    _motions(report, folder / "sheets", evaluator, evaluated[0], motions, store)
    report.section("Settings")
    report.facts({name: value for name, value in settings.items() if name not in ("evaluator", "accuracy_classifier")})
    report.facts(settings["evaluator"], caption="Extractors of features, each trained without some training subjects")
    report.facts(settings["accuracy_classifier"], caption="The independent classifier, trained in the same way")
    report.facts(result["counts"], caption="Clips")
    report.facts({"data": result["data_fingerprint"], "revision": result["environment"]["git_revision"]})
    report.save(folder / "report.html")


def _targets(report: Report, result: Mapping[str, Any]) -> None:
    report.section("Targets")
    rows = []
    for name, target in result["targets"].items():
        beside = _short(target["held_out"]["value"]) if "held_out" in target else ""
        meaning = f"{target['meaning']} ({target['note']})" if "note" in target else target["meaning"]
        value, action, bound = _short(target["value"]), target.get("action") or "", bound_text(target)
        rows.append([name, value, action, bound, target["met"], beside, meaning])
    report.table(["target", "value", "worst action", "bound", "met", "to held-out", "meaning"], rows)


def _metrics(report: Report, result: Mapping[str, Any]) -> None:
    report.section("Metrics")
    report.paragraph(
        "Mean over seeds with a 95 % t-interval of the mean; real: held-out clips. Features are of networks that were "
        "each trained without one training subject (or fold of subjects). For kid, fid, precision and recall, real "
        "compares this subject with held-out ones, person to person: the floor that real motion reaches, with an "
        "interval over networks. For real accuracy the interval is over held-out subjects."
    )
    meaning = {**MEANING, **PHYSICS, **STANCE}
    report.table(
        ["figure", "generated", "real", "what"],
        [[name, shown(result[name]), shown(result["real"][name]), words] for name, words in meaning.items()],
    )
    report.facts(result["training"], caption="Training clips among themselves")


def _movement(report: Report, movement: Mapping[str, Any]) -> None:
    report.section("Movement")
    report.paragraph(
        "Median over the clips of each action. Ratio: generated / training people (for frequency and reversals the "
        "difference), with a 95 % bootstrap interval over clips; beside it generated / held-out people, and held-out / "
        "training people: how much real people differ."
    )
    for figure in REPORTED:
        kind = "difference" if figure in DIFFERENCES else "ratio"
        rows = []
        for action, row in movement["training"].items():
            compared = row[figure]
            if compared["generated"] is None and compared["reference"] is None:
                continue
            beside = [movement[name].get(action, {}).get(figure, {}).get(kind) for name in ("held_out", "real")]
            numbers = [_short(compared[name]) for name in ("generated", "reference")]
            rows.append([action, *numbers, _interval(compared, kind), *map(_short, beside)])
        columns = ["action", "generated", "training", kind, f"{kind} to held-out", f"{kind}, held-out to training"]
        if rows:
            report.table(columns, rows, caption=f"{figure}: {MOVEMENT[figure]}")


def _short(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3g}"


def _interval(compared: Mapping[str, Any], kind: str) -> str:
    low, high = compared["ci95"]
    return _short(compared[kind]) + ("" if low is None else f" [{low:.3g}, {high:.3g}]")


def _spectra(report: Report, sets: Mapping[str, ClipSet]) -> None:
    """One small plot for each action: amplitude of the hands over frequency."""
    from matplotlib.figure import Figure

    spectra = {name: hand_spectra(clips) for name, clips in sets.items()}
    images = []
    for action in list(spectra["generated"][1])[:MAX_SPECTRA]:
        figure = Figure(figsize=(4, 2.8), layout="constrained")
        axes = figure.subplots()
        for name, (frequency, amplitude) in spectra.items():
            inside = (frequency >= 0.2) & (frequency <= 10)
            if action in amplitude and (amplitude[action][inside] > 0).any():
                axes.plot(frequency[inside], 100 * amplitude[action][inside], label=name, linewidth=1.2)
        axes.axvspan(1, 4, color="0.93", zorder=0)
        axes.set(xscale="log", yscale="log", xlabel="Hz", ylabel="cm / sqrt(Hz)", title=action)
        axes.minorticks_off()
        axes.set_xticks([0.3, 1, 4, 10], ["0.3", "1", "4", "10"])
        axes.legend(fontsize=7, frameon=False)
        alt = f"Amplitude spectrum of the hands relative to the chest: {action}; {', '.join(sets)} clips"
        images.append((figure_svg(figure), alt, action))
    report.paragraph("Amplitude of both hands relative to the chest over frequency; grey: 1-4 Hz.")
    report.gallery(images)


def _people(report: Report, subjects: Mapping[str, Any]) -> None:
    report.section("Held-out people in turn")
    rows: list[list[Any]] = [[name, *(values[name] for values in subjects.values())] for name in ("clips", "classes")]
    for name in ("kid", "precision", "recall", "accuracy", "within_class_diversity", "below_held_out_p5", "slip"):
        pairs = [[_short(values[side][name]) for side in ("generated", "real")] for values in subjects.values()]
        rows.append([name, *(" / ".join(pair) for pair in pairs)])
    report.table(["figure", *subjects], rows, caption="generated / real")


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


def _curves(
    report: Report, evaluators: Sequence[MotionEvaluator], evaluated: EvaluatedClips, result: Mapping[str, Any]
) -> None:
    report.section("Memorisation")
    report.paragraph(
        "Distance to the nearest training clip, its mirror image, or a part of either, on a common body. Motions that "
        "copy lie left of held-out ones; a generator that generalises lies near them."
    )
    series = {}
    for name, sets in (
        ("generated (seed 0)", [evaluated]),
        ("held-out real", [evaluator.held_out for evaluator in evaluators]),
        ("training", [evaluators[0].train]),
    ):
        distances = np.sort(np.concatenate([clips.nearest.distance for clips in sets]))
        series[name] = (distances.tolist(), (np.arange(1, len(distances) + 1) / len(distances)).tolist())
    report.plot(
        series,
        alt="Share of clips within a distance of the nearest training clip: generated, held-out, training",
        x_label="distance to the nearest training clip, m",
        y_label="share of clips within it",
        caption=f"Below {result['training']['copy_distance']:.4f} m a clip counts as a copy.",
    )


def _classes(report: Report, evaluators: Sequence[MotionEvaluator], predictions: Predictions) -> None:
    report.section("Classes")
    names = predictions.class_names
    train = evaluators[0].train.clips
    labels = np.concatenate([evaluator.held_out.clips.labels for evaluator in evaluators])
    probabilities = np.concatenate([evaluator.held_out.probabilities for evaluator in evaluators])
    counts = np.bincount(labels, minlength=len(names))
    made = per_class_recall(predictions.labels, predictions.probabilities)
    recall = per_class_recall(labels, probabilities)
    report.table(
        ["action", "recognised, generated", "recognised, real", "training clips", "held-out clips"],
        [
            [
                name,
                float(made[row]),
                float(recall[row]),
                int(train.counts[row]),
                int(counts[row]),
            ]
            for row, name in enumerate(names)
        ],
    )
    if len(names) > MAX_MATRIX:
        return
    alt = "Confusion matrix of the independent classifier: rows requested, columns predicted; {}"
    report.gallery(
        [
            (_heat_map(confusion_matrix(truth, table), names), alt.format(words), words)
            for words, truth, table in (
                ("generated, all seeds", predictions.labels, predictions.probabilities),
                ("held-out real", labels, probabilities),
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
        "Left: the first generated motions of each action (seed 0), with what the independent classifier takes them "
        "for. Right, row by row: the training clip that each is nearest to, whole or in part, itself or mirrored."
    )
    folder.mkdir()
    row_of = {name: row for row, name in enumerate(store.clip_ids)}
    names = evaluated.clips.class_names
    for label, name in enumerate(names):
        rows = np.flatnonzero(evaluated.clips.labels == label)[:SAMPLES]
        best = evaluated.probabilities[rows].argmax(axis=1)
        made = [f"{name}: taken for {names[guess]}" for guess in best]
        ids = [evaluator.train.clips.ids[evaluated.nearest.clip[row]] for row in rows]
        near = [
            f"{evaluated.nearest.distance[row]:.3f} m: {clip}{', mirrored' if evaluated.nearest.mirrored[row] else ''}"
            for row, clip in zip(rows, ids, strict=True)
        ]
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
