"""Scale of classifier-free guidance for each action, by the movement of what it generates."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.errors import InputError
from icube_common.io.runs import read_json, write_json
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.movement import BANDS, action_medians, band_name
from motiondiff.pipelines.sampling import SampleOptions, generate, is_distilled, load_pipeline, model_folder
from motiondiff.results import Results
from motiondiff.training.diffusion import check_same_data

logger = logging.getLogger(__name__)

SCALES = (1.5, 2.0, 2.5, 3.0)
"""Candidates. Not 1: without guidance motions are less often of the requested action, which movement does not show."""
FIGURES = (band_name("hands", BANDS[1]), band_name("feet", BANDS[1]), "jerk")
"""Figures of `motiondiff.evaluation.movement` that are compared; all are amplitudes."""
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

    A large scale makes movement stronger and jerkier, in some actions more than in others. Of each action the scale is
    taken whose motions come nearest to the training clips of that action: the least sum of ``|log(generated /
    training)|`` over `FIGURES`, each the median over the motions; of equal ones the smallest. No held-out clip is read.
    The criterion is movement alone: for accuracy and diversity evaluate afterwards.

    Args:
        run: the run folder.
        data: the store that it was trained on.
        scales: candidates.
        count: motions of each action and scale.
        steps: denoising steps of DPM-Solver++.
        device: torch device of the generator.

    Returns:
        ``guidance`` (action -> scale) and ``ratios`` (action -> scale -> figure -> generated / training, None where
        undefined), also in ``guidance.json`` of the saved model.

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
    ratios: dict[str, dict[str, dict[str, float | None]]] = {action: {} for action in actions}
    errors: dict[str, dict[float, float]] = {action: {} for action in actions}
    for scale in sorted(set(scales)):
        options = SampleOptions(
            actions=actions, count=count, steps=steps, guidance=scale, seed=SEED, device=device, batch_size=64
        )
        made = action_medians(ClipSet.from_motions(list(generate(pipeline, options)), tuple(actions)))
        logger.info("guidance %g: %d motions", scale, len(actions) * count)
        for action in actions:
            row = {figure: _ratio(made[action][figure], reference[action][figure]) for figure in FIGURES}
            ratios[action][f"{scale:g}"] = row
            defined = [abs(np.log(value)) for value in row.values() if value is not None]
            errors[action][scale] = float(sum(defined)) if defined else np.inf
    chosen = {action: min(errors[action], key=errors[action].__getitem__) for action in actions}
    folder = model_folder(run)
    result: dict[str, Any] = {"guidance": chosen, "ratios": ratios, "motions": count, "steps": steps, "seed": SEED}
    write_json(folder / FILE, result)
    config = folder / "representation" / "config.json"
    write_json(config, {**read_json(config), "guidance": chosen})
    return Results({"run": str(run), **result})


def _ratio(generated: float, training: float) -> float | None:
    if not (np.isfinite(generated) and np.isfinite(training)) or min(generated, training) <= 0:
        return None
    return float(generated / training)
