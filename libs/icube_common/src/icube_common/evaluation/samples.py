"""Samples of an evaluation with classes, groups and sites, and grouped splits of their rows."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Iterator, Sequence
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
        names = list(ids)
        position = {name: row for row, name in enumerate(self.ids)}
        missing = [name for name in names if name not in position]
        if missing:
            raise InputError(f"{missing[0]!r}: no sample has this id ({len(missing)} of {len(names)} are unknown)")
        if len(set(names)) < len(names):
            raise InputError(f"{next(name for name in names if names.count(name) > 1)!r}: this id is named twice")
        return np.sort(np.array([position[name] for name in names], dtype=np.int64))

    def subset(self, rows: Array) -> Samples:
        """The samples of these rows, with all class names."""
        picked: dict[str, Sequence[str] | None] = {
            name: None if values is None else [values[row] for row in rows]
            for name, values in (("ids", self.ids), ("groups", self.groups), ("sites", self.sites))
        }
        return dataclasses.replace(self, labels=self.labels[rows], **picked)  # type: ignore[arg-type]


# with two groups a validation split would take half of what there is to learn from
MIN_GROUPS = 3


def select_groups(samples: Samples, names: Sequence[str], *, option: str, exclude: bool = False) -> Array:
    """Row numbers of some groups (subjects), or of all others.

    Args:
        samples: the table.
        names: groups; none of them selects all rows.
        option: the option that named them, for messages: ``"--subjects"``.
        exclude: take the other groups.

    Raises:
        InputError: an unknown group, or no row is left.
    """
    groups = samples.group_array
    if absent := sorted(set(names) - set(groups)):
        raise InputError(f"{option} {absent[0]}: no such subject; there are {', '.join(sorted(set(groups))[:30])}")
    rows = np.flatnonzero(np.isin(groups, list(names)) != exclude) if names else np.arange(len(samples))
    if not len(rows):
        raise InputError(f"{option} {','.join(names)}: no subject is left")
    return rows


def stratified_groups(samples: Samples, rows: Array, parts: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Divide rows into ``parts``, whole groups in each, labels (and sites) as even as the groups allow.

    Yields:
        ``(rest, part)``, row numbers, for each part in turn (scikit-learn's StratifiedGroupKFold).

    Raises:
        InputError: fewer groups than parts, or no class has as many rows as there are parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = samples.group_array[rows]
    count = len(np.unique(groups))
    if count < parts or parts < 2:
        raise InputError(f"{parts} folds of {count} groups: need at least 2 folds and a group for each")
    strata = samples.labels[rows]
    if samples.sites is not None:
        sites = np.unique(np.asarray(samples.sites, dtype=str)[rows], return_inverse=True)[1]
        crossed = np.unique(strata * (sites.max() + 1) + sites, return_inverse=True)[1]
        # combinations rarer than the parts cannot be spread; where all are, the label alone is balanced
        strata = crossed if np.bincount(crossed).max() >= parts else strata
    if np.bincount(strata).max() < parts:
        raise InputError(f"{parts} folds: no class has as many rows, take fewer folds")
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # a class rarer than the parts is in the fold's reasons where it is left without a training row
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        divided = list(splitter.split(np.zeros(len(rows)), strata, groups))
    for rest, part in divided:
        yield rows[rest], rows[part]


def inner_split(samples: Samples, rows: Array, fraction: float, seed: int) -> tuple[Array, Array, tuple[str, ...]]:
    """Take a validation part off training rows: whole groups, labels balanced, no class lost from training.

    Args:
        samples: the table.
        rows: training rows.
        fraction: wanted share of the groups; 0 for none.
        seed: of the draw.

    Returns:
        Training rows, validation rows, and reasons: why validation is empty, where it is.

    Raises:
        InputError: the fraction is not in 0..0.5.
    """
    if not 0 <= fraction <= 0.5:
        raise InputError(f"validation {fraction}: need a share between 0 and 0.5")
    empty = np.array([], dtype=np.int64)
    if fraction == 0:
        return rows, empty, ("no validation rows: none asked for",)
    count = len(np.unique(samples.group_array[rows]))
    if count < MIN_GROUPS:
        return rows, empty, (f"no validation rows: {count} training groups, {MIN_GROUPS} are needed",)
    parts = min(round(1 / fraction), count, int(np.bincount(samples.labels[rows]).max()))
    present = set(samples.labels[rows].tolist())
    if parts >= 2:
        for rest, part in stratified_groups(samples, rows, parts, seed):
            if len(part) and set(samples.labels[rest].tolist()) == present:
                return rest, part, ()
    return rows, empty, ("no validation rows: every split by group would leave a class without training rows",)


def held_out(samples: Samples, *, fraction: float = 0.25, seed: int = 0) -> list[str]:
    """Ids of a test part for data without an official split: whole groups, labels balanced.

    Raises:
        InputError: there is no such split that leaves every class on the training side.
    """
    _, test, reasons = inner_split(samples, np.arange(len(samples)), fraction, seed)
    if reasons:
        raise InputError(f"held-out test rows: {reasons[0].partition(': ')[2]}")
    return [samples.ids[row] for row in test]
