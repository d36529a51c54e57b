"""Training of the methods that learn by gradient: mini-batches of cached features and the papers' schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icube_common.errors import InputError

# steps of one training, at most: what the papers' epochs come to on a few hundred rows
MAX_STEPS = 1000
# constant rate of the first epoch (Zhou et al., IJCV 2022, section 4.1)
_WARMUP_LR = 1e-5


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Length and learning rate of a training.

    Args:
        lr: learning rate before its decay.
        epochs: over the training rows.
        batch_size: rows of a step.
        max_steps: steps, at most; a schedule that is longer is compressed to them, warm-up and decay in proportion.
        warmup: the first epoch runs at 1e-5, then the rate decays by the cosine from epoch to epoch; False: it decays
            from step to step, from the first one on.
    """

    lr: float
    epochs: int
    batch_size: int
    max_steps: int = MAX_STEPS
    warmup: bool = True

    def steps(self, rows: int) -> int:
        """Steps of a training on so many rows."""
        return min(self._whole(rows), self.max_steps)

    def note(self, rows: int) -> tuple[str, ...]:
        """A line for the report where the budget of steps shortens the epochs; none where it does not."""
        if self._whole(rows) <= self.max_steps:
            return ()
        return (f"{self.max_steps} steps of {self._whole(rows)} ({self.epochs} epochs): schedule compressed",)

    def rate(self, step: int, total: int) -> float:
        """Learning rate of a step, from 0."""
        if not self.warmup:
            return self.lr * (1 + math.cos(math.pi * step / total)) / 2
        epoch = step * self.epochs // total
        return self.lr * (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2 if epoch else _WARMUP_LR

    def _whole(self, rows: int) -> int:
        return self.epochs * math.ceil(rows / self.batch_size)


def minimise(
    loss: Callable[[Int[Tensor, " b"]], Float[Tensor, ""]],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    rows: int,
    *,
    seed: int,
) -> int:
    """Take the steps of a schedule; the rows are shuffled in each epoch.

    Args:
        loss: row numbers -> the loss of these rows.
        optimizer: of the parameters to learn; its rate is set in each step.
        schedule: length and rate.
        rows: how many there are.
        seed: of the order of the rows.

    Returns:
        The number of steps.

    Raises:
        InputError: a loss is not finite.
    """
    total, step = schedule.steps(rows), 0
    generator = torch.Generator().manual_seed(seed)
    while step < total:
        for batch in torch.randperm(rows, generator=generator).split(schedule.batch_size)[: total - step]:
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step, total)
            optimizer.zero_grad()
            value = loss(batch)
            if not torch.isfinite(value):
                raise InputError(
                    f"learning rate {schedule.lr:g}: the loss of step {step} is not finite; take a smaller one"
                )
            value.backward()
            optimizer.step()
            step += 1
    return step
