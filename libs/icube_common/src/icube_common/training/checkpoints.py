"""Checkpoints of a run: safetensors for tensors, JSON for the rest, whole or absent, no pickle.

``checkpoints/step-N/`` holds ``model.safetensors`` (trainable parameters and buffers), ``optimizer.safetensors``,
``ema.safetensors`` where an average is kept, and ``state.json``. Frozen parameters are not stored: a resumed run must
bring the same ones, which a digest in ``state.json`` makes sure of.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.runs import RunFolder, atomic_folder, read_json, write_json

logger = logging.getLogger(__name__)

STATE = "state.json"
_NAME = re.compile(r"step-(\d+)")


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training changes in a model: trainable parameters and persistent buffers, tied ones once."""
    persistent = model.state_dict().keys()
    tensors = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    return tensors | {name: value for name, value in model.named_buffers() if name in persistent}


def frozen_digest(model: nn.Module) -> str | None:
    """SHA-256 of the parameters that training leaves alone, None where there are none."""
    frozen = [(name, value.detach()) for name, value in model.named_parameters() if not value.requires_grad]
    if not frozen:
        return None
    digest = hashlib.sha256()
    for name, value in frozen:
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
    """Where the checkpoint after ``step`` optimiser steps lies."""
    return run.checkpoints / f"step-{step}"


def steps_on_disk(run: RunFolder) -> list[int]:
    """Steps of all folders named as checkpoints, oldest first."""
    if not run.checkpoints.is_dir():
        return []
    found = (_NAME.fullmatch(path.name) for path in run.checkpoints.iterdir())
    return sorted(int(match[1]) for match in found if match)


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


def refuse_other(folder: Path, written: Mapping[str, Any], current: Mapping[str, Any]) -> None:
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
        found = f"{tuple(loaded[name].shape)} {loaded[name].dtype}" if name in loaded else "absent"
        wanted = f"{tuple(target[name].shape)} {target[name].dtype}" if name in target else "absent"
        if found != wanted:
            raise InputError(
                f"{source}: {name} is {found}, in this run's model {wanted}; resume with the same model configuration "
                f"or start a new run"
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
