"""Putting a model on the device that the user named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from icube_common.errors import InputError

if TYPE_CHECKING:
    from motiondiff.pipeline import MotionDiffusionPipeline


def put_on(model: torch.nn.Module | MotionDiffusionPipeline, device: str) -> None:
    """Move a network or a pipeline.

    Raises:
        InputError: no such device.
    """
    try:
        model.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error
