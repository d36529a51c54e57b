"""A training's state to disk and back: what a checkpoint holds, how a run goes on from it, what it ends with."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from icube_common.errors import InputError
from icube_common.training import checkpoints
from icube_common.training.parts import Parts

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """The counters of a run, as they lie in ``state.json``."""

    step: int = 0
    seconds: float = 0.0
    best_value: float | None = None
    best_step: int | None = None
    bad_validations: int = 0


def start_fresh(parts: Parts) -> Progress:
    """Counters of a new run.

    Raises:
        InputError: the folder holds checkpoints.
    """
    found = checkpoints.steps_on_disk(parts.run)
    if found:
        raise InputError(
            f"{parts.run.path}: holds a checkpoint of step {found[-1]} already; --resume goes on from it, --overwrite "
            f"starts anew"
        )
    return Progress()


def resume_newest(parts: Parts) -> Progress:
    """Load the newest whole checkpoint into model, optimiser, average and meter."""
    run, accelerator = parts.run, parts.accelerator
    step = checkpoints.newest_whole(run)
    if step is None:
        logger.info("%s: no checkpoint yet, the training starts from the beginning", run.path)
        return Progress()
    folder = checkpoints.checkpoint_folder(run, step)
    state = checkpoints.read_state(run, step)
    checkpoints.refuse_other(folder, state["fingerprint"], parts.fingerprint)
    if step > parts.config.max_steps:
        raise InputError(f"{folder}: the run is past max_steps={parts.config.max_steps} already; raise max_steps")
    checkpoints.copy_tensors(
        folder / "model.safetensors",
        checkpoints.read_tensors(run, step, "model"),
        checkpoints.model_tensors(parts.module),
    )
    checkpoints.load_optimizer(parts.optimizer.optimizer, checkpoints.read_tensors(run, step, "optimizer"))
    if parts.ema is not None:
        checkpoints.copy_tensors(
            folder / "ema.safetensors", checkpoints.read_tensors(run, step, "ema"), parts.ema.average
        )
    if accelerator.scaler is not None and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    if accelerator.is_main_process:
        parts.meter.load(state["meter"])  # holds the sums of all processes
    logger.info("%s: resumed", folder)
    return Progress(**state["progress"])


def reduce_sums(parts: Parts, sums: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, Any]:
    """Sums and counts over all processes."""
    if parts.accelerator.num_processes > 1 and sums:
        names = sorted(sums)
        values = torch.tensor([[sums[name], counts[name]] for name in names], dtype=torch.float64)
        total = parts.accelerator.reduce(values.to(parts.accelerator.device), reduction="sum").tolist()
        reduced = dict(zip(names, total, strict=True))
        sums, counts = {name: reduced[name][0] for name in sums}, {name: int(reduced[name][1]) for name in sums}
    return {"sums": sums, "counts": counts}


def save(parts: Parts, progress: Progress) -> None:
    """Write a checkpoint in the main process while the others wait, then prune."""
    parts.meter.collect()
    meter = reduce_sums(parts, parts.meter.sums, parts.meter.counts)
    scaler = parts.accelerator.scaler
    if parts.accelerator.is_main_process:
        tensors = {
            "model": checkpoints.model_tensors(parts.module),
            "optimizer": checkpoints.optimizer_tensors(parts.optimizer.optimizer),
        }
        if parts.ema is not None:
            tensors["ema"] = parts.ema.average
        state = {
            "progress": dataclasses.asdict(progress),
            "fingerprint": parts.fingerprint,
            "meter": meter,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        checkpoints.save_checkpoint(parts.run, progress.step, tensors=tensors, state=state)
        checkpoints.prune(parts.run, keep=parts.config.keep_checkpoints, best=progress.best_step)
    parts.accelerator.wait_for_everyone()


def load_final_weights(parts: Parts, progress: Progress) -> None:
    """Put what the training is for into the module: the best validation's weights, the averaged ones, or the last."""
    if parts.config.patience and progress.best_step is not None:
        for stem in ("model", "ema") if parts.ema is not None else ("model",):
            loaded = checkpoints.read_tensors(parts.run, progress.best_step, stem)
            source = checkpoints.checkpoint_folder(parts.run, progress.best_step) / f"{stem}.safetensors"
            own = checkpoints.model_tensors(parts.module)
            checkpoints.copy_tensors(source, loaded, own if stem == "model" else {name: own[name] for name in loaded})
    elif parts.ema is not None:
        parts.ema.copy_to_model()
