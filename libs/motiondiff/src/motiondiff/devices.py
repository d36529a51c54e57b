"""Putting a model on the device that the user named."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from icube_common.errors import InputError


class Movable(Protocol):
    """A network, or a pipeline of several."""

    def to(self, device: torch.device, /) -> Any:
        """Move it."""
        ...


def put_on(model: Movable, device: str) -> None:
    """Move a network or a pipeline.

    Raises:
        InputError: no such device.
    """
    try:
        model.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error
