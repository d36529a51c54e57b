"""Weights of a trained denoiser as the start of another training: pre-training on other data sets."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from icube_common.errors import InputError
from motiondiff.models.custom_denoiser import CustomDenoiser
from motiondiff.models.denoiser import MotionDenoiser
from motiondiff.pipelines.sampling import load_pipeline

logger = logging.getLogger(__name__)

STATISTICS = ("spectrum", "cumulative", "action_texts")
"""Buffers of a denoiser that describe its training motions and noise schedule: those of the new training stay."""
TABLES = {"embed_conditions.action.weight": "actions", "embed_conditions.style.weight": "styles"}
"""Embeddings with a row for each label, and the learned null in the last row."""


@torch.no_grad()
def initialise_from(denoiser: MotionDenoiser | CustomDenoiser, run: str | Path) -> list[str]:
    """Copy the weights of a run's denoiser into a new one, in place.

    Labels of the same name share their embedding; a label that the run does not have begins at the mean of the run's
    labels. The spectra, which belong to the training motions, are those of the new training.

    Args:
        denoiser: of the same shape, for other labels or data.
        run: a run folder of `motiondiff.training.diffusion.train`, or its ``model``.

    Returns:
        The labels that have an embedding of the run.

    Raises:
        InputError: no trained model is there, one of another architecture, or weights of other shapes.
    """
    other = load_pipeline(run).denoiser
    if type(other) is not type(denoiser):
        raise InputError(
            f"--init-from {run}: its model is a {type(other).__name__}, this training's a {type(denoiser).__name__}: "
            "take the same model.architecture"
        )
    state, source = denoiser.state_dict(), other.state_dict()
    common: list[str] = []
    for name, values in state.items():
        if name in STATISTICS:
            continue
        if name in TABLES:
            mine, theirs = list(denoiser.config[TABLES[name]]), list(other.config[TABLES[name]])
            if values.shape[1:] != source[name].shape[1:]:
                raise InputError(_other_shape(run, name, source[name], values))
            mean = source[name][: len(theirs)].mean(dim=0) if theirs else source[name][-1]
            for row, label in enumerate(mine):
                values[row] = source[name][theirs.index(label)] if label in theirs else mean
                common += [label] if label in theirs else []
            values[-1] = source[name][-1]
            continue
        if name not in source or source[name].shape != values.shape:
            raise InputError(_other_shape(run, name, source.get(name), values))
        values.copy_(source[name])
    denoiser.load_state_dict(state)
    logger.info("weights of %s; embeddings of labels in common: %s", run, ", ".join(common) or "none")
    return common


def _other_shape(run: str | Path, name: str, source: torch.Tensor | None, values: torch.Tensor) -> str:
    shapes = [None if one is None else list(one.shape) for one in (source, values)]
    return (
        f"--init-from {run}: {name} has shape {shapes[0]} there and {shapes[1]} here; take the same settings of the "
        "section model, text and skeleton"
    )
