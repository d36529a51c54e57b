"""Exponential moving average of the trainable weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class MovingAverage:
    """``average <- d * average + (1 - d) * weights`` after every optimiser step.

    ``d = min(decay, (1 + n) / (10 + n))``, where ``n`` counts the updates before this one, so that a short training is
    not dominated by its random start. Frozen parameters and buffers are not averaged: the model's own serve.

    Args:
        model: the unwrapped model.
        decay: the limit of ``d``, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.average: dict[str, Tensor] = {name: value.detach().clone() for name, value in self.live.items()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Take the present weights in; ``updates`` is the number of updates before this one."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(list(self.average.values()), list(self.live.values()), 1.0 - decay)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Overwrite the model's weights with the average."""
        for name, value in self.live.items():
            value.copy_(self.average[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the average inside the block and its own weights again afterwards."""
        remaining = {name: value.detach().clone() for name, value in self.live.items()}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self.live.items():
                    value.copy_(remaining[name])
