"""Predictions: what every evaluation writes as ``predictions.csv``, and what all its figures are computed from.

Columns: ``id, subject, repeat, fold, label, predicted, p_<class>...``; label and predicted are class names, ``id`` is
the source's own name, one row for each id and repeat.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from icube_common.errors import InputError, unknown
from icube_common.evaluation.folds import Fold
from icube_common.evaluation.intervals import Interval, group_interval
from icube_common.evaluation.metrics import Array, check_predictions, default_names, find_metric
from icube_common.evaluation.samples import Samples
from icube_common.evaluation.significance import Comparison, paired_test
from icube_common.io.runs import atomic_file

COLUMNS = ("id", "subject", "repeat", "fold", "label", "predicted")
PREFIX = "p_"
# how far a row's probabilities may sum from one: softmax in bfloat16 is off by some thousandths
SUM_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictions:
    """Probabilities of test rows with their labels.

    Args:
        ids: (N,).
        subjects: whose each row is, (N,): the groups of all intervals.
        repeats: (N,) integers.
        folds: (N,) integers.
        labels: class numbers, (N,).
        probabilities: (N, C), rows sum to one.
        class_names: (C,).

    Raises:
        InputError: shapes do not fit, a row does not sum to one, an id is twice in a repeat, or an id has two subjects
            or two labels.
    """

    ids: Sequence[str]
    subjects: Sequence[str]
    repeats: Array
    folds: Array
    labels: Array
    probabilities: Array
    class_names: Sequence[str]

    def __post_init__(self) -> None:
        labels, probabilities = check_predictions(self.labels, self.probabilities)
        ids, subjects = tuple(map(str, self.ids)), tuple(map(str, self.subjects))
        repeats, folds = np.asarray(self.repeats, dtype=np.int64), np.asarray(self.folds, dtype=np.int64)
        lengths = {"ids": len(ids), "subjects": len(subjects), "repeats": len(repeats), "folds": len(folds)}
        if set(lengths.values()) != {len(labels)} or len(self.class_names) != probabilities.shape[1]:
            shape = probabilities.shape
            raise InputError(f"predictions: {lengths}, {len(self.class_names)} class names, probabilities {shape}")
        off = np.abs(probabilities.sum(axis=1) - 1)
        if off.max() > SUM_TOLERANCE:
            worst = int(off.argmax())
            raise InputError(f"predictions: {ids[worst]!r} sums to {probabilities[worst].sum():.4f}, need 1")
        seen_pairs: set[tuple[str, int]] = set()
        facts: dict[str, tuple[str, int]] = {}
        for name, subject, repeat, label in zip(ids, subjects, repeats.tolist(), labels.tolist(), strict=True):
            if (name, repeat) in seen_pairs:
                raise InputError(f"predictions: {name!r} is there twice in repeat {repeat}, need one row")
            seen_pairs.add((name, repeat))
            if facts.setdefault(name, (subject, label)) != (subject, label):
                raise InputError(f"predictions: {name!r} has two subjects or two labels")
        values = (ids, subjects, repeats, folds, labels, probabilities, tuple(map(str, self.class_names)))
        for field, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def predicted(self) -> Array:
        """Number of the most probable class, (N,), the first of equals."""
        return self.probabilities.argmax(axis=1)

    def metrics(self, names: Iterable[str] | None = None) -> dict[str, Interval]:
        """The named metrics, or those that fit the number of classes, with intervals over subjects.

        Repeats are averaged, see `icube_common.evaluation.intervals`.

        Raises:
            InputError: an unknown name, or one that does not fit the number of classes.
        """
        return {
            name: group_interval(
                find_metric(name), self.labels, self.probabilities, self.subjects, repeats=self.repeats
            )
            for name in (default_names(len(self.class_names)) if names is None else names)
        }

    def compare(self, other: Predictions, names: Iterable[str] | None = None) -> dict[str, Comparison]:
        """Each metric of this run minus that of another on the same ids and repeats, paired by subject.

        Raises:
            InputError: ids, repeats, labels, subjects or class names differ.
        """
        mine, theirs = self._order(), other._order()
        if tuple(self.class_names) != tuple(other.class_names):
            raise InputError(f"two runs with classes {list(self.class_names)} and {list(other.class_names)}")
        odd = sorted(mine.keys() ^ theirs.keys())
        if odd:
            raise InputError(
                f"two runs on different rows: {odd[0][0]!r} of repeat {odd[0][1]} ({len(odd)} in one only)"
            )
        a, b = (np.array([order[key] for key in mine]) for order in (mine, theirs))
        groups, other_groups = np.asarray(self.subjects, dtype=str)[a], np.asarray(other.subjects, dtype=str)[b]
        wrong = np.flatnonzero((self.labels[a] != other.labels[b]) | (groups != other_groups))
        if len(wrong):
            raise InputError(f"two runs give {self.ids[a[wrong[0]]]!r} different labels or subjects")
        return {
            name: paired_test(
                find_metric(name),
                self.labels[a],
                self.probabilities[a],
                other.probabilities[b],
                groups,
                repeats=self.repeats[a],
            )
            for name in (default_names(len(self.class_names)) if names is None else names)
        }

    def over_classes(self, class_names: Sequence[str]) -> Predictions:
        """The same rows over more classes, with probability 0 of the added ones.

        Args:
            class_names: (K,), all of the present ones among them.
        """
        names = list(class_names)
        indices = np.array([names.index(name) for name in self.class_names])
        table = np.zeros((len(self), len(names)))
        table[:, indices] = self.probabilities
        return replace(self, labels=indices[self.labels], probabilities=table, class_names=names)

    def _order(self) -> dict[tuple[str, int], int]:
        return {key: row for row, key in enumerate(zip(self.ids, self.repeats.tolist(), strict=True))}

    def write_csv(self, path: str | Path) -> Path:
        """Write the table atomically; probabilities in full, so that reading gives them back exactly."""
        with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow([*COLUMNS, *(PREFIX + name for name in self.class_names)])
            for row, number in enumerate(self.predicted.tolist()):
                names = self.class_names[self.labels[row]], self.class_names[number]
                keys = self.ids[row], self.subjects[row], self.repeats[row], self.folds[row]
                writer.writerow([*keys, *names, *map(repr, self.probabilities[row].tolist())])
        return Path(path)

    @classmethod
    def read_csv(cls, path: str | Path) -> Predictions:
        """Read what `write_csv` wrote.

        Raises:
            InputError: the file is missing, is no such table, or contradicts itself; the message names the line.
        """
        try:
            with Path(path).open(newline="", encoding="utf-8") as handle:
                lines = list(csv.reader(handle))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: is not a CSV table in UTF-8 ({error})") from error
        head = lines[0] if lines else []
        fits = tuple(head[: len(COLUMNS)]) == COLUMNS and all(name.startswith(PREFIX) for name in head[len(COLUMNS) :])
        classes = [name.removeprefix(PREFIX) for name in head[len(COLUMNS) :]]
        if not fits or len(set(classes)) < len(classes) or len(classes) < 2:
            raise InputError(f"{path}: columns {head}, need {', '.join(COLUMNS)}, then {PREFIX}<class> of two or more")
        if len(lines) < 2:
            raise InputError(f"{path}: no row")
        number = {name: index for index, name in enumerate(classes)}
        repeats, folds, labels, table = [], [], [], []
        for count, line in enumerate(lines[1:], start=2):
            where = f"{path}: row {count}"
            if len(line) != len(head):
                raise InputError(f"{where}: {len(line)} values, need {len(head)}")
            try:
                repeats.append(int(line[2]))
                folds.append(int(line[3]))
                values = [float(value) for value in line[len(COLUMNS) :]]
            except ValueError as error:
                raise InputError(f"{where}: {error}") from error
            for name in line[4:6]:
                if name not in number:
                    raise InputError(f"{where}: {unknown('class', name, classes)}")
            if not values[number[line[5]]] == max(values):
                raise InputError(f"{where}: predicted {line[5]!r} is not the most probable class")
            labels.append(number[line[4]])
            table.append(values)
        try:
            return cls(
                ids=[line[0] for line in lines[1:]],
                subjects=[line[1] for line in lines[1:]],
                repeats=np.array(repeats),
                folds=np.array(folds),
                labels=np.array(labels),
                probabilities=np.array(table),
                class_names=classes,
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def concatenate(parts: Iterable[Predictions]) -> Predictions:
    """The rows of several folds and repeats in one table.

    Raises:
        InputError: no part, other classes in one, or an id twice in a repeat.
    """
    tables = list(parts)
    if not tables:
        raise InputError("predictions: nothing to join")
    names = tables[0].class_names
    for part in tables:
        if part.class_names != names:
            raise InputError(f"predictions: classes {list(names)} and {list(part.class_names)} cannot be joined")
    return Predictions(
        ids=[name for part in tables for name in part.ids],
        subjects=[name for part in tables for name in part.subjects],
        repeats=np.concatenate([part.repeats for part in tables]),
        folds=np.concatenate([part.folds for part in tables]),
        labels=np.concatenate([part.labels for part in tables]),
        probabilities=np.concatenate([part.probabilities for part in tables]),
        class_names=names,
    )


def make_predictions(samples: Samples, fold: Fold, probabilities: ArrayLike) -> Predictions:
    """Set a fold's predictions beside the labels: the only way from a fold to its test labels.

    Args:
        samples: the table that the fold was made from; code that trains or selects never gets it.
        fold: whose test rows were predicted.
        probabilities: (n, C) in the order of `Fold.test` and `Fold.test_classes`.

    Raises:
        InputError: the fold is of other samples, or the shape does not fit.
    """
    if tuple(samples.ids) != fold.samples.ids:
        raise InputError(f"fold {fold.name!r}: was made from other samples")
    table = np.asarray(probabilities, dtype=np.float64)
    if table.shape != (len(fold.test), len(fold.test_classes)):
        expected = (len(fold.test), len(fold.test_classes))
        raise InputError(f"fold {fold.name!r}: probabilities {table.shape}, need {expected} (test rows, test classes)")
    return Predictions(
        ids=fold.test_ids,
        subjects=[fold.samples.groups[row] for row in fold.test],
        repeats=np.full(len(fold.test), fold.repeat),
        folds=np.full(len(fold.test), fold.number),
        labels=np.searchsorted(fold.test_classes, samples.labels[fold.test]),
        probabilities=table,
        class_names=fold.test_class_names,
    )
