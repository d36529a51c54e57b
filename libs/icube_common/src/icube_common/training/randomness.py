"""A step's random numbers: from ``(seed, step, micro-batch)`` alone, whatever the number of processes."""

from __future__ import annotations

import torch
from torch import Tensor

from icube_common.training.seeds import mix


class StepRandom:
    """Draws for one micro-batch of one optimiser step.

    Every method draws for the whole global micro-batch, on the CPU, and returns this process's rows on its device: two
    processes see together what one would see, and a GPU sees what a CPU would. A step must therefore make the same
    calls with the same shapes in every process.

    Args:
        seed: of the training.
        step: optimiser steps done before this one.
        micro: number of the micro-batch within the step.
        rows: this process's rows of the global micro-batch.
        total: rows of the global micro-batch.
        device: where the draws are wanted.
    """

    def __init__(
        self, seed: int, step: int, micro: int, *, rows: slice, total: int, device: torch.device | str = "cpu"
    ) -> None:
        self.rows = rows
        self.total = total
        self.device = torch.device(device)
        self.generator = torch.Generator().manual_seed(mix(seed, step, micro))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32, shape (B, *shape) with B this process's rows."""
        return self._local(torch.randn(self.total, *shape, generator=self.generator))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), float32, shape (B, *shape)."""
        return self._local(torch.rand(self.total, *shape, generator=self.generator))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Uniform integers in [low, high), int64, shape (B, *shape)."""
        return self._local(torch.randint(low, high, (self.total, *shape), generator=self.generator))

    def _local(self, drawn: Tensor) -> Tensor:
        local = drawn[self.rows]
        if self.device.type == "cuda":
            return local.pin_memory().to(self.device, non_blocking=True)
        return local.to(self.device)


def seed_global(seed: int, step: int, micro: int, rank: int, device: torch.device) -> None:
    """Seed the generators that ``nn.Dropout`` and the like read; call inside `torch.random.fork_rng`."""
    value = mix(seed, step, micro, rank, 1)
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        # only the device in use: the states of the others were not saved by fork_rng
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)
