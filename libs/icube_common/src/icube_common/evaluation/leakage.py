"""Leakage between training and test: views of side tables, overlap of subjects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

import numpy as np

from icube_common.errors import InputError
from icube_common.evaluation.metrics import Array
from icube_common.evaluation.samples import Samples

Value = TypeVar("Value")


class TestLeakageError(RuntimeError):
    """Access to a row outside of this part of the fold; the message names it.

    No KeyError: ``view.get(id)`` and ``except KeyError`` would swallow it and train on.
    """

    __test__ = False  # pytest takes it for a test class otherwise


class TableView(Mapping[str, Value], Generic[Value]):
    """The rows of a side table that one part of a fold may see, in that part's order.

    A mapping from id to the table's value. Iterating, ``len`` and ``in`` know the visible rows only.

    Raises:
        TestLeakageError: on reading a row of another part.
        KeyError: on reading an id that is in no sample.
    """

    def __init__(self, visible: Mapping[str, Any], table: Any, all_keys: frozenset[str], part: str) -> None:
        self._visible, self._table, self._known, self._part = visible, table, all_keys, part

    def __getitem__(self, name: str) -> Value:
        if name in self._visible:
            return cast("Value", self._table[self._visible[name]])
        if name in self._known:
            raise TestLeakageError(f"{name!r} is not in the {self._part} rows of this fold and must not be read here")
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self._visible

    def __iter__(self) -> Iterator[str]:
        return iter(self._visible)

    def __len__(self) -> int:
        return len(self._visible)

    def array(self) -> Array:
        """The values of all visible rows, stacked, (n, ...)."""
        return np.stack([np.asarray(self[name]) for name in self])


def check_train_test_overlap(
    samples: Samples, rows: Iterable[int], trained_on: Mapping[str, Sequence[str]], *, kind: str = "sample"
) -> None:
    """Check that no subject or sample of a test was trained on.

    Args:
        samples: the set, whose ids and groups mean the same as those of the training.
        rows: what is to be tested.
        trained_on: ``ids`` and ``subjects`` of the training.
        kind: what a sample is called: "clip", "scan".

    Raises:
        InputError: some of them are the same; who, and how to leave them out.
    """
    rows = list(rows)
    ids = sorted({samples.ids[row] for row in rows} & set(trained_on["ids"]))
    people = sorted({str(samples.group_array[row]) for row in rows} & set(trained_on["subjects"]))
    if people or ids:
        who = f"subject {people[0]!r} ({len(people)} of the set's)" if people else f"{kind} {ids[0]!r}"
        others = sorted({str(group) for group in samples.group_array} - set(trained_on["subjects"]))
        remedy = f"--subjects {','.join(others[:8])} takes the others" if others else "it has no other subjects"
        raise InputError(f"the model was trained on {who}: test it on other people ({remedy})")
