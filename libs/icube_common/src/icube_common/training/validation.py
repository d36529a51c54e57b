"""Checks of a training before its run folder exists, and creating or reopening that folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icube_common.errors import InputError, require
from icube_common.io.runs import RunFolder, check_output_path, describe_environment
from icube_common.training.config import TrainConfig
from icube_common.training.sampler import local_rows


def check_config(config: TrainConfig) -> str:
    """Check a configuration for this machine and launch; call it before anything is written.

    Returns:
        The device type to train on, ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: no such device; fp16 on a CPU; a batch that does not divide over processes and micro-batches;
            patience without validations; a tracker that is not installed; a launch this loop cannot serve.
    """
    from icube_common.vlm.device import device_type, is_set

    device = device_type(config.device)
    if device == "cpu" and config.mixed_precision == "fp16":
        # accelerate would train in fp32 without a word
        raise InputError("mixed_precision=fp16: does not exist on a CPU; take mixed_precision=bf16 or no")
    for variable in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        if is_set(variable):
            raise InputError(f"{variable}: checkpoints hold whole weights; launch with --multi_gpu or torchrun instead")
    local_rows(
        config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        rank=0,
        processes=launched_processes(),
    )
    if config.early_stopping_patience and not config.eval_steps:
        raise InputError(
            f"early_stopping_patience={config.early_stopping_patience}: counts validations; set eval_steps as well"
        )
    if config.report_to == "wandb":
        require("wandb", package="icube_common")
    return device


def check_start(config: TrainConfig, out: str | Path, *, resume: bool, overwrite: bool) -> None:
    """Check, before any work is done, the configuration for this machine and that the run folder is free.

    Args:
        config: the training section of the run's configuration.
        out: the run folder.
        resume: the folder is reopened; `open_run` checks that it exists.
        overwrite: it may be replaced.

    Raises:
        InputError: whatever `check_config` refuses, or the folder exists (without ``resume`` or ``overwrite``).
    """
    check_config(config)
    # the main process alone: it makes the folder while the others may still be starting
    if not resume and int(os.environ.get("RANK", "0")) == 0:
        check_output_path(out, overwrite=overwrite)


def launched_processes() -> int:
    """Processes that ``accelerate launch`` or ``torchrun`` started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def open_run(
    path: str | Path,
    *,
    config: TrainConfig,
    config_yaml: str,
    environment: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> RunFolder:
    """Check the configuration, then make the run folder (the main process alone) or reopen it.

    Args:
        path: of the run folder.
        config: the training section of the run's configuration.
        config_yaml: the run's whole resolved configuration, for ``config.yaml``.
        environment: what to add to `describe_environment`, e.g. the data's fingerprint.
        resume: reopen an existing folder and leave its files alone.
        overwrite: replace an existing folder.

    Raises:
        InputError: whatever `check_config` refuses; the folder exists (without ``resume`` or ``overwrite``), or does
            not exist (with ``resume``).
    """
    check_config(config)
    if resume:
        run = RunFolder(path)
        if not run.environment.is_file():
            raise InputError(f"{path}: is no run folder to resume (no environment.json); start without --resume")
        return run
    if int(os.environ.get("RANK", "0")) != 0:
        return RunFolder(path)  # `fit` waits until the main process has made it
    return RunFolder.create(
        path,
        config_yaml=config_yaml,
        environment={**describe_environment(), **(environment or {})},
        overwrite=overwrite,
    )
