"""Means of a training's logged terms, collected without waiting for the device at every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from icube_common.errors import InputError


class LossTracker:
    """Adds up loss terms until they are logged, and stops the training at the first one that is not finite.

    Values stay on the device until `collect`, which the loop calls before it logs, validates or writes anything, and
    at every step on a CPU, where it is free.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._waiting: list[tuple[int, list[str], Tensor]] = []

    def add(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Take the terms of one micro-batch of optimiser step ``step`` (its number once it is done)."""
        values = torch.stack([value.detach().float().reshape(()) for value in terms.values()])
        self._waiting.append((step, list(terms), values))

    def collect(self) -> None:
        """Bring the waiting values over.

        Raises:
            InputError: a value is not finite; the message names the step and the term.
        """
        if not self._waiting:
            return
        rows = torch.cat([values for _, _, values in self._waiting]).tolist()
        waiting, self._waiting = self._waiting, []
        position = 0
        for step, names, _ in waiting:
            for name in names:
                value = rows[position]
                position += 1
                if not math.isfinite(value):
                    raise InputError(
                        f"step {step}: {name} is {value}, the training stopped; look at the data of this step, or "
                        f"lower learning_rate, set max_grad_norm, or take mixed_precision=no"
                    )
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> tuple[dict[str, float], dict[str, int]]:
        """Sums and counts since the last call, which resets them."""
        taken = self.sums, self.counts
        self.sums, self.counts = {}, {}
        return taken

    def state(self) -> dict[str, Any]:
        """State for a checkpoint, so that a resumed run logs the same means."""
        return {"sums": self.sums, "counts": self.counts}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore a `state`."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])
