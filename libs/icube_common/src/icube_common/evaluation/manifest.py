"""The samples of an evaluation: who they are, what they show, whose they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from icube_common.errors import InputError
from icube_common.evaluation.metrics import Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """A light table, one row for each sample (clip, scan); the order of the rows is kept.

    Args:
        ids: the source's own names, unique, (N,).
        labels: class numbers, (N,), made a read-only array.
        class_names: name of each class, unique, (C,).
        groups: whose each sample is (the subject), (N,); where not given each sample is a group of its own.
        sites: where it was recorded (scanner, camera), (N,), where known: k-fold balances it.

    Raises:
        InputError: lengths differ, an id or class name appears twice or is empty, or a label is no class number.
    """

    ids: Sequence[str]
    labels: Array
    class_names: Sequence[str]
    groups: Sequence[str] | None = None
    sites: Sequence[str] | None = None

    def __post_init__(self) -> None:
        labels = np.array(self.labels)
        ids, names = tuple(map(str, self.ids)), tuple(map(str, self.class_names))
        groups = ids if self.groups is None else tuple(map(str, self.groups))
        sites = None if self.sites is None else tuple(map(str, self.sites))
        lengths = {"ids": len(ids), "labels": len(labels), "groups": len(groups)}
        lengths |= {} if sites is None else {"sites": len(sites)}
        if len(set(lengths.values())) > 1 or not ids:
            raise InputError(f"samples: {lengths}, need equally many and at least one")
        for kind, values in (("id", ids), ("class name", names)):
            if "" in values or len(set(values)) < len(values):
                twice = next((value for value in values if value == "" or values.count(value) > 1), "")
                raise InputError(f"samples: {kind} {twice!r} is {'empty' if twice == '' else 'there more than once'}")
        if "" in groups:
            raise InputError(f"samples: {ids[groups.index('')]!r} has an empty group")
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise InputError(f"samples: labels of type {labels.dtype} and shape {labels.shape}, need (N,) integers")
        if labels.min() < 0 or labels.max() >= len(names):
            bad = int(np.flatnonzero((labels < 0) | (labels >= len(names)))[0])
            raise InputError(f"samples: label {labels[bad]} of {ids[bad]!r}, need 0 to {len(names) - 1}")
        labels = labels.astype(np.int64)
        labels.setflags(write=False)
        for name, value in {"ids": ids, "class_names": names, "groups": groups, "sites": sites}.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def group_array(self) -> Array:
        """The groups as an array of str, (N,)."""
        return np.asarray(self.groups, dtype=str)

    def rows_of(self, ids: Iterable[str]) -> Array:
        """Row numbers of these ids, in the order of the table.

        Raises:
            InputError: an id is not in the table, or is named twice.
        """
        wanted = list(ids)
        position = {name: row for row, name in enumerate(self.ids)}
        missing = [name for name in wanted if name not in position]
        if missing:
            raise InputError(f"{missing[0]!r}: no sample has this id ({len(missing)} of {len(wanted)} are unknown)")
        if len(set(wanted)) < len(wanted):
            raise InputError(f"{next(name for name in wanted if wanted.count(name) > 1)!r}: this id is named twice")
        return np.sort(np.array([position[name] for name in wanted], dtype=np.int64))

    def subset(self, rows: Array) -> Samples:
        """The samples of these rows, with all class names."""
        picked: dict[str, Sequence[str] | None] = {
            name: None if values is None else [values[row] for row in rows]
            for name, values in (("ids", self.ids), ("groups", self.groups), ("sites", self.sites))
        }
        return dataclasses.replace(self, labels=self.labels[rows], **picked)  # type: ignore[arg-type]
