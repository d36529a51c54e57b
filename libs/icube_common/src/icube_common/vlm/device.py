"""Device and mixed precision of frozen towers: accelerate's, unless an option or a configuration names another."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
from accelerate import PartialState

from icube_common.errors import InputError

MIXED_PRECISIONS = ("no", "bf16", "fp16")


def device_type(choice: str = "auto") -> str:
    """Type of device of a run, ``"cpu"`` or ``"cuda"``.

    Args:
        choice: as ``train.device``: ``"auto"`` (CUDA where there is one, unless ``ACCELERATE_USE_CPU`` is set),
            ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: ``"cuda"``, and torch finds none.
    """
    if choice == "auto":
        return "cuda" if torch.cuda.is_available() and not is_set("ACCELERATE_USE_CPU") else "cpu"
    if choice == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: torch finds no CUDA device here; take device=cpu or device=auto")
    return choice


def is_set(variable: str) -> bool:
    """True where an environment variable of accelerate is switched on."""
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")


def default_device(choice: str = "auto") -> torch.device:
    """Accelerate's device of this process: under a launcher the GPU of its local rank.

    Args:
        choice: as `device_type`.

    Raises:
        InputError: as `device_type`.
    """
    cpu = device_type(choice) == "cpu"
    # others wait while the main process computes features, for hours perhaps
    result: torch.device = PartialState(cpu=cpu, timeout=timedelta(days=1)).device
    # accelerate keeps the device of the first call in a process, such as of a training on the other kind
    if cpu and result.type == "cuda":
        return torch.device("cpu")
    if not cpu and result.type == "cpu":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return result


@contextlib.contextmanager
def main_process_first(choice: str = "auto") -> Iterator[None]:
    """Run the block in the main process of a training first, then in the others, which read what it has stored.

    Args:
        choice: as `device_type`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    default_device(choice)
    with PartialState().main_process_first():
        yield


def named_device(name: str | torch.device) -> torch.device:
    """The device of an option ``--device``.

    Raises:
        InputError: there is no such device.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}; take cpu, or leave --device away") from error
    return device


def encoder_precision(device: torch.device, precision: str | None = None) -> str:
    """Mixed precision in which a frozen tower computes its features: that of the run on a GPU, ``"no"`` on a CPU.

    Args:
        device: where the tower is.
        precision: as ``train.mixed_precision``; None: that of ``accelerate launch --mixed_precision``.
    """
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no") if precision is None else precision
    if precision not in MIXED_PRECISIONS or device.type == "cpu" or not torch.amp.is_autocast_available(device.type):
        return "no"
    return precision
