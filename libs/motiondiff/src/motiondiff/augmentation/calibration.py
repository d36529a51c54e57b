"""Scale of classifier-free guidance for each action, by the movement of what it generates."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.errors import InputError
from icube_common.io.runs import read_json, write_json
from motiondiff.config import ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.movement import BANDS, action_medians, band_name
from motiondiff.pipelines.sampling import SampleOptions, generate, is_distilled, load_pipeline, model_folder
from motiondiff.recognition.training import fit_classifier
from motiondiff.results import Results
from motiondiff.training.diffusion import check_same_data

logger = logging.getLogger(__name__)

SCALES = (1.0, 1.5, 2.0, 2.5, 3.0)
FIGURES = (band_name("hands", BANDS[1]), band_name("feet", BANDS[1]), "jerk")
"""Figures of `motiondiff.evaluation.movement` that are compared; all are amplitudes."""
ACCURACY = "accuracy"
MARGIN = 0.1
"""Share of recognised motions by which a scale may lie below the best of its action."""
CLASSIFIER_STEPS = 200
SEED = 50_000
"""Of the motions; evaluations and examples take small seeds."""
FILE = "guidance.json"
"""In the folder of the saved model."""


def calibrate_guidance(
    run: str | Path,
    data: str | Path,
    *,
    scales: Sequence[float] = SCALES,
    count: int = 16,
    steps: int = 10,
    device: str = "cpu",
) -> Results:
    """Choose the scale of guidance of each action, and write it into the saved model.

    A large scale makes movement stronger and jerkier, a small one actions that are hard to recognise, both in some
    actions more than in others. Of each action only scales count whose motions a classifier of the training clips
    recognises in as many cases as those of the best scale, up to `MARGIN`. Of these the one is taken whose motions come
    nearest to the training clips of the action: the least sum of ``|log(generated / training)|`` over `FIGURES`, each
    the median over the motions; of equal ones the smallest. No held-out clip is read.

    Args:
        run: the run folder.
        data: the store that it was trained on.
        scales: candidates.
        count: motions of each action and scale.
        steps: denoising steps of DPM-Solver++.
        device: torch device of the generator.

    Returns:
        ``guidance`` (action -> scale) and ``ratios`` (action -> scale -> figure -> generated / training, None where
        undefined; `ACCURACY`: share of recognised motions), also in ``guidance.json`` of the saved model.

    Raises:
        InputError: another store, a distilled run, a model without actions, no scale or one below 0, or joints without
            roles.
    """
    store = MotionStore(data)
    check_same_data(run, store)
    if is_distilled(run):
        raise InputError(f"{run}: was distilled with its guidance folded in; calibrate the run it was distilled from")
    if not scales or min(scales) < 0:
        raise InputError("--scales: give at least one number, none below 0")
    pipeline = load_pipeline(run, "dpmsolver++")
    if not pipeline.denoiser.config.actions:
        raise InputError(f"{run}: was trained without actions; guidance is chosen by action")
    train = ClipSet.from_store(store, split="train")
    actions = [name for label, name in enumerate(train.class_names) if (train.labels == label).any()]
    reference = action_medians(train)
    classifier = None
    if len(actions) > 1:
        classifier = fit_classifier(train.with_classes(actions), ClassifierConfig(steps=CLASSIFIER_STEPS), fewest=1)
    ratios: dict[str, dict[str, dict[str, float | None]]] = {action: {} for action in actions}
    errors: dict[str, dict[float, float]] = {action: {} for action in actions}
    shares: dict[str, dict[float, float]] = {action: {} for action in actions}
    for scale in sorted(set(scales)):
        options = SampleOptions(
            actions=actions, count=count, steps=steps, guidance=scale, seed=SEED, device=device, batch_size=64
        )
        clips = ClipSet.from_motions(list(generate(pipeline, options)), tuple(actions))
        made = action_medians(clips)
        logger.info("guidance %g: %d motions", scale, len(actions) * count)
        right = np.ones(len(clips), bool) if classifier is None else classifier.predict(clips).argmax(1) == clips.labels
        for label, action in enumerate(actions):
            row = {figure: _ratio(made[action][figure], reference[action][figure]) for figure in FIGURES}
            defined = [abs(np.log(value)) for value in row.values() if value is not None]
            errors[action][scale] = float(sum(defined)) if defined else np.inf
            shares[action][scale] = float(right[clips.labels == label].mean())
            ratios[action][f"{scale:g}"] = {**row, ACCURACY: shares[action][scale]}
    chosen = {action: _choose(errors[action], shares[action]) for action in actions}
    folder = model_folder(run)
    result: dict[str, Any] = {"guidance": chosen, "ratios": ratios, "motions": count, "steps": steps, "seed": SEED}
    write_json(folder / FILE, result)
    config = folder / "representation" / "config.json"
    write_json(config, {**read_json(config), "guidance": chosen})
    return Results({"run": str(run), **result})


def _choose(errors: Mapping[float, float], shares: Mapping[float, float]) -> float:
    """The scale of least error among those that are recognised about as often as the best."""
    best = max(shares.values())
    return min((scale for scale in sorted(errors) if shares[scale] >= best - MARGIN - 1e-9), key=errors.__getitem__)


def _ratio(generated: float, training: float) -> float | None:
    if not (np.isfinite(generated) and np.isfinite(training)) or min(generated, training) <= 0:
        return None
    return float(generated / training)
