"""Shared by the tests of the tabular branch: a table with holes and a fold over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from icube_common.tabular import TabularData

NAMES = ("walking speed", "step length", "cadence", "age")
UNITS = ("m/s", "m", "steps/min", "years")
LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 1, 2]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Rows:
    """A fold that is nothing but its training rows: those ids of a table, and their labels."""

    names: Sequence[str]
    train_labels: np.ndarray = field(default_factory=lambda: np.array([], dtype=np.int64))
    train_classes: Sequence[int] = (0, 1, 2)

    def training_rows(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: table[name] for name in self.names}


FOLD = Rows([f"walk-{row}" for row in range(9)], np.array(LABELS[:9]))
"""The last three of the twelve rows are for testing."""


def make_table(*, seed: int = 0) -> TabularData:
    """Twelve simulated walkers of three classes; one of the training rows has no step length."""
    generator = np.random.default_rng(seed)
    values = generator.normal([1.0, 0.6, 110.0, 70.0], [0.2, 0.1, 12.0, 8.0], (12, 4))
    values -= np.array(LABELS)[:, None] * [0.2, 0.1, 5.0, -3.0]
    values[4, 1] = np.nan
    return TabularData(ids=tuple(f"walk-{row}" for row in range(12)), names=NAMES, values=values, units=UNITS)


def with_values(table: TabularData, values: np.ndarray) -> TabularData:
    return TabularData(ids=table.ids, names=table.names, values=values, units=table.units)


def with_other_test_rows(table: TabularData) -> TabularData:
    """The same training rows; what is outside of them is another world."""
    values = table.values.copy()
    values[9:] = [[1e6, -1e6, 0.0, 3.0], [np.nan] * 4, [5.0, 5.0, 5.0, 5.0]]
    return with_values(table, values)
