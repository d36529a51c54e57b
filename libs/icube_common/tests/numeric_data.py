"""What the tests of the numeric branch share: a table with holes and a fold over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icube_common.numeric import NumericTable

NAMES = ("walking speed", "step length", "cadence", "age")
UNITS = ("m/s", "m", "steps/min", "years")
LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 1, 2]


@dataclass(frozen=True)
class Rows:
    """A fold that is nothing but its training rows."""

    rows: Sequence[int]

    def training_rows(self, table: NumericTable) -> Sequence[int]:
        return self.rows


FOLD = Rows(range(9))
"""The last three of the twelve rows are for testing."""


def make_table(*, seed: int = 0) -> NumericTable:
    """Twelve simulated walkers of three classes; one of the training rows has no step length."""
    generator = np.random.default_rng(seed)
    values = generator.normal([1.0, 0.6, 110.0, 70.0], [0.2, 0.1, 12.0, 8.0], (12, 4))
    values -= np.array(LABELS)[:, None] * [0.2, 0.1, 5.0, -3.0]
    values[4, 1] = np.nan
    return NumericTable(ids=tuple(f"walk-{row}" for row in range(12)), names=NAMES, values=values, units=UNITS)


def with_values(table: NumericTable, values: np.ndarray) -> NumericTable:
    return NumericTable(ids=table.ids, names=table.names, values=values, units=table.units)


def with_other_test_rows(table: NumericTable) -> NumericTable:
    """The same training rows; what is outside of them is another world."""
    values = table.values.copy()
    values[9:] = [[1e6, -1e6, 0.0, 3.0], [np.nan] * 4, [5.0, 5.0, 5.0, 5.0]]
    return with_values(table, values)
