"""Checkpoints of a run: safetensors for tensors, JSON for the rest, whole or absent, no pickle.

``checkpoints/step-N/`` holds ``model.safetensors`` (trainable parameters and buffers), ``optimizer.safetensors``,
``ema.safetensors`` where an average is kept, and ``state.json``. Frozen parameters are not stored: a resumed run must
bring the same ones, which a digest in ``state.json`` makes sure of.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.io.runs import RunFolder, atomic_folder, read_json, write_json
from icube_common.training.state import TrainingState

logger = logging.getLogger(__name__)

STATE = "state.json"
_NAME = re.compile(r"step-(\d+)")


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Tensors that training changes: trainable parameters and persistent buffers, tied ones once."""
    persistent = model.state_dict().keys()
    tensors = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    return tensors | {name: value for name, value in model.named_buffers() if name in persistent}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as ``"<parameter number>.<key>"`` -> tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, values in state.items() for key, value in values.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`; learning rates and the like stay the optimiser's own."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def checkpoint_folder(run: RunFolder, step: int) -> Path:
    """Folder of the checkpoint after ``step`` optimiser steps."""
    return run.checkpoints / f"step-{step}"


def steps_on_disk(run: RunFolder) -> list[int]:
    """Steps of all folders named as checkpoints, oldest first."""
    if not run.checkpoints.is_dir():
        return []
    result = (_NAME.fullmatch(path.name) for path in run.checkpoints.iterdir())
    return sorted(int(match[1]) for match in result if match)


def save_checkpoint(
    run: RunFolder, step: int, *, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> None:
    """Write one checkpoint atomically.

    Args:
        run: the run folder.
        step: optimiser steps done.
        tensors: file stem (``"model"``, ``"ema"``, ``"optimizer"``) -> its tensors.
        state: JSON-ready counters.
    """
    with atomic_folder(checkpoint_folder(run, step), overwrite=True) as folder:
        sizes = {}
        for stem, values in tensors.items():
            path = folder / f"{stem}.safetensors"
            # more metadata keys would come out in another order each time
            save_file(
                {k: v.detach().to("cpu", copy=True).contiguous() for k, v in values.items()}, path, {"format": "pt"}
            )
            sizes[path.name] = path.stat().st_size
        write_json(folder / STATE, {"step": step, **state, "files": sizes})


def _is_whole(folder: Path) -> bool:
    try:
        files = read_json(folder / STATE)["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (InputError, OSError, KeyError, TypeError):
        return False


def newest_whole(run: RunFolder) -> int | None:
    """The step of the newest checkpoint whose files are all there in full length; None where there is none."""
    for step in reversed(steps_on_disk(run)):
        if _is_whole(checkpoint_folder(run, step)):
            return step
        logger.warning("%s: is not whole, an older checkpoint serves", checkpoint_folder(run, step))
    return None


def read_state(run: RunFolder, step: int) -> dict[str, Any]:
    """The counters of a checkpoint."""
    state = read_json(checkpoint_folder(run, step) / STATE)
    assert isinstance(state, dict)
    return state


def read_tensors(run: RunFolder, step: int, stem: str) -> dict[str, Tensor]:
    """One file of a checkpoint, on the CPU."""
    return load_file(checkpoint_folder(run, step) / f"{stem}.safetensors")


def check_same_run(folder: Path, written: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Hold a checkpoint's fingerprint against this run's.

    Raises:
        InputError: the first key whose values differ.
    """
    for key in [*current, *(key for key in written if key not in current)]:
        if written.get(key) != current.get(key):
            raise InputError(
                f"{folder}: was written with {key}={written.get(key)}, this run has {key}={current.get(key)}; resume "
                f"with the same value or start a new run"
            )


@torch.no_grad()
def copy_tensors(source: Path, loaded: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Copy loaded tensors into a model's own.

    Raises:
        InputError: names, shapes or types differ; nothing has been copied then.
    """
    for name in sorted({*loaded, *target}):
        result = f"{tuple(loaded[name].shape)} {loaded[name].dtype}" if name in loaded else "absent"
        expected = f"{tuple(target[name].shape)} {target[name].dtype}" if name in target else "absent"
        if result != expected:
            raise InputError(
                f"{source}: {name} is {result}, in this run's model {expected}; resume with the same model "
                "configuration or start a new run"
            )
    for name, value in target.items():
        value.copy_(loaded[name])


def prune(run: RunFolder, *, keep: int, best: int | None) -> None:
    """Remove all but the ``keep`` newest checkpoints and the best one."""
    steps = steps_on_disk(run)
    for step in steps[:-keep]:
        if step != best:
            _remove(checkpoint_folder(run, step))


def _remove(folder: Path) -> None:
    # renamed first: a run killed in the middle leaves no folder that looks like a checkpoint
    doomed = folder.with_name(f".{folder.name}.removed")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def sweep(run: RunFolder) -> None:
    """Remove what a killed run left half-written."""
    if run.checkpoints.is_dir():
        for path in run.checkpoints.glob(".step-*"):
            shutil.rmtree(path)


@dataclass
class Progress:
    """The counters of a run, as they lie in ``state.json``."""

    step: int = 0
    seconds: float = 0.0
    best_value: float | None = None
    best_step: int | None = None
    bad_validations: int = 0


def start_fresh(state: TrainingState) -> Progress:
    """Counters of a new run.

    Raises:
        InputError: the folder holds checkpoints.
    """
    if state.run is not None and (result := steps_on_disk(state.run)):
        raise InputError(
            f"{state.run.path}: holds a checkpoint of step {result[-1]} already; --resume continues from it, "
            "--overwrite starts again"
        )
    return Progress()


def resume_newest(state: TrainingState) -> Progress:
    """Load the newest whole checkpoint into model, optimiser, moving average and loss tracker."""
    run, accelerator = state.run, state.accelerator
    assert run is not None
    step = newest_whole(run)
    if step is None:
        logger.info("%s: no checkpoint yet, the training starts from the beginning", run.path)
        return Progress()
    folder = checkpoint_folder(run, step)
    stored = read_state(run, step)
    check_same_run(folder, stored["fingerprint"], state.fingerprint)
    if step > state.config.max_steps:
        raise InputError(f"{folder}: the run is past max_steps={state.config.max_steps} already; raise max_steps")
    copy_tensors(
        folder / "model.safetensors",
        read_tensors(run, step, "model"),
        model_tensors(state.module),
    )
    load_optimizer(state.optimizer.optimizer, read_tensors(run, step, "optimizer"))
    if state.ema is not None:
        copy_tensors(folder / "ema.safetensors", read_tensors(run, step, "ema"), state.ema.average)
    if accelerator.scaler is not None and stored["scaler"]:
        accelerator.scaler.load_state_dict(stored["scaler"])
    if accelerator.is_main_process:
        state.loss_tracker.load(stored["losses"])  # holds the sums of all processes
    logger.info("%s: resumed", folder)
    return Progress(**stored["progress"])


def reduce_sums(state: TrainingState, sums: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, Any]:
    """Sums and counts over all processes."""
    if state.accelerator.num_processes > 1 and sums:
        names = sorted(sums)
        values = torch.tensor([[sums[name], counts[name]] for name in names], dtype=torch.float64)
        total = state.accelerator.reduce(values.to(state.accelerator.device), reduction="sum").tolist()
        reduced = dict(zip(names, total, strict=True))
        sums, counts = {name: reduced[name][0] for name in sums}, {name: int(reduced[name][1]) for name in sums}
    return {"sums": sums, "counts": counts}


def save(state: TrainingState, progress: Progress) -> None:
    """Write a checkpoint in the main process while the others wait, then prune; nothing without a run folder."""
    if state.run is None:
        return
    state.loss_tracker.collect()
    sums = reduce_sums(state, state.loss_tracker.sums, state.loss_tracker.counts)
    scaler = state.accelerator.scaler
    if state.output is not None:
        tensors = {
            "model": model_tensors(state.module),
            "optimizer": optimizer_tensors(state.optimizer.optimizer),
        }
        if state.ema is not None:
            tensors["ema"] = state.ema.average
        counters = {
            "progress": dataclasses.asdict(progress),
            "fingerprint": state.fingerprint,
            "losses": sums,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        save_checkpoint(state.output, progress.step, tensors=tensors, state=counters)
        prune(state.output, keep=state.config.checkpoints_total_limit, best=progress.best_step)
    state.accelerator.wait_for_everyone()


def load_final_weights(state: TrainingState, progress: Progress) -> None:
    """Put what the training is for into the module: the best validation's weights, the averaged ones, or the last."""
    if state.config.early_stopping_patience and progress.best_step is not None:
        assert state.run is not None
        for stem in ("model", "ema") if state.ema is not None else ("model",):
            loaded = read_tensors(state.run, progress.best_step, stem)
            source = checkpoint_folder(state.run, progress.best_step) / f"{stem}.safetensors"
            tensors = model_tensors(state.module)
            copy_tensors(source, loaded, tensors if stem == "model" else {name: tensors[name] for name in loaded})
    elif state.ema is not None:
        state.ema.copy_to_model()
