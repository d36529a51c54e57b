"""Folds: training rows, validation rows for selection, and test rows that are only predicted.

Code that trains is given a `Fold` and nothing else. Two faults of published code are then impossible:

- choosing a checkpoint on the test rows: a fold does not hold their labels (they are not hidden but absent), and only
  `icube_common.evaluation.predictions.make_predictions`, which is given the `Samples`, can evaluate predictions;
- a side table (numeric parameters, features, demographics, memories) that still contains the held-out subjects: each
  table is read through a view of the fold, which raises when asked for a row of another part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from icube_common.errors import InputError
from icube_common.evaluation.leakage import TableView, TestLeakageError
from icube_common.evaluation.metrics import Array
from icube_common.evaluation.samples import Samples


@dataclass(frozen=True, eq=False, kw_only=True)
class FoldSamples:
    """Samples of a fold, without labels outside training and validation.

    Args:
        ids: (N,), all samples; the fold's index arrays refer to this order.
        groups: (N,).
        class_names: (C,), all classes.
        known_labels: row number -> class number, for training and validation rows only.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    class_names: tuple[str, ...]
    known_labels: Mapping[int, int]

    def labels_of(self, rows: Array) -> Array:
        """Class numbers of these rows, (n,).

        Raises:
            TestLeakageError: one of them is neither a training nor a validation row.
        """
        for row in rows:
            if int(row) not in self.known_labels:
                raise TestLeakageError(f"label of {self.ids[int(row)]!r}: not a training or validation row")
        return np.array([self.known_labels[int(row)] for row in rows], dtype=np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Fold:
    """One training and one test of a protocol; made by `make_fold`, normally through a protocol.

    Args:
        name: protocol and place in it: ``"5-fold 2/5"``, ``"16 shots"``.
        repeat: number of the repeat, the draw or the seed's place, from 0.
        number: number inside the repeat, from 0.
        seed: from which splits were drawn, and for the training's own randomness.
        train: row numbers, sorted.
        validation: row numbers for early stopping and selection, from the training side; may be empty.
        test: row numbers.
        train_classes: class numbers that are trained.
        test_classes: class numbers among which a prediction chooses: the columns of its probabilities.
        samples: ids, groups and the labels of training and validation.
        warnings: lines for the report: no validation rows and why, classes without training rows.
    """

    name: str
    repeat: int
    number: int
    seed: int
    train: Array
    validation: Array
    test: Array
    train_classes: tuple[int, ...]
    test_classes: tuple[int, ...]
    samples: FoldSamples
    warnings: tuple[str, ...] = ()

    @property
    def train_labels(self) -> Array:
        """Labels of the training rows as positions in `train_classes`, (n,)."""
        return np.searchsorted(self.train_classes, self.samples.labels_of(self.train))

    @property
    def validation_labels(self) -> Array:
        """Labels of the validation rows as positions in `train_classes`, (n,)."""
        return np.searchsorted(self.train_classes, self.samples.labels_of(self.validation))

    @property
    def train_class_names(self) -> list[str]:
        """Names of `train_classes`."""
        return [self.samples.class_names[number] for number in self.train_classes]

    @property
    def test_class_names(self) -> list[str]:
        """Names of `test_classes`."""
        return [self.samples.class_names[number] for number in self.test_classes]

    @property
    def test_ids(self) -> list[str]:
        """Ids of the test rows, in the order of `test`."""
        return [self.samples.ids[row] for row in self.test]

    def check_trainable(self, sample: str, *, eval_steps: int = 0) -> None:
        """Hold the fold against what a training needs, before anything is written.

        Args:
            sample: what a row is, for the message: "clip", "scan".
            eval_steps: steps between validations, 0 where there are none.

        Raises:
            InputError: a class without training rows, or no validation rows where they are needed.
        """
        counts = np.bincount(self.train_labels, minlength=len(self.train_classes))
        if not counts.all():
            empty = self.train_class_names[int(np.argmin(counts))]
            raise InputError(
                f"fold {self.name!r}: class {empty!r} has no training {sample}; leave it out, or take more {sample}s"
            )
        if eval_steps and not len(self.validation):
            why = next((note for note in self.warnings if note.startswith("no validation rows")), "no validation rows")
            raise InputError(f"fold {self.name!r}: train.eval_steps={eval_steps}: {why}; set it to 0")

    def training_rows(self, table: Any) -> TableView[Any]:
        """A side table's training rows: what scalers, imputers and memories are fitted on.

        Args:
            table: a mapping from id to a value, or a sequence or array with one row for each of the samples, in their
                order.

        Raises:
            InputError: a sequence of another length, or a mapping without one of the visible rows.
        """
        return self._view(table, self.train, "training")

    def side_table(self, table: Any) -> TableView[Any]:
        """A side table's training and validation rows, all that training and selection may read; see `training_rows`.

        What is *fitted* (a scaler, a memory) belongs on `training_rows`.
        """
        return self._view(table, np.concatenate([self.train, self.validation]), "training and validation")

    def validation_inputs(self, table: Any) -> TableView[Any]:
        """A side table's validation rows; see `training_rows`."""
        return self._view(table, self.validation, "validation")

    def test_inputs(self, table: Any) -> TableView[Any]:
        """A side table's test rows, for the code that predicts; see `training_rows`."""
        return self._view(table, self.test, "test")

    def _view(self, table: Any, rows: Array, part: str) -> TableView[Any]:
        ids = [self.samples.ids[row] for row in rows]
        visible: dict[str, Any] = dict(zip(ids, ids, strict=True))
        if isinstance(table, Mapping):
            missing = [name for name in ids if name not in table]
            if missing:
                raise InputError(f"side table: no row for {missing[0]!r} ({len(missing)} of {len(ids)} missing)")
        elif len(table) != len(self.samples.ids):
            raise InputError(f"side table: {len(table)} rows for {len(self.samples.ids)} samples, need one for each")
        else:
            visible = {name: int(row) for name, row in zip(ids, rows, strict=True)}
        return TableView(visible, table, frozenset(self.samples.ids), part)


def make_fold(
    samples: Samples,
    *,
    name: str,
    train: Array,
    validation: Array,
    test: Array,
    repeat: int = 0,
    number: int = 0,
    seed: int = 0,
    train_classes: Sequence[int] | None = None,
    test_classes: Sequence[int] | None = None,
    warnings: Sequence[str] = (),
    tested: bool = True,
) -> Fold:
    """A fold of these rows, which holds no label of any other row than those of ``train`` and ``validation``.

    ``tested=False`` is for a model that is tested elsewhere: only then there may be no test row.

    Raises:
        InputError: a row is in two parts, there is no test row, or a row's class is not among the part's classes.
    """
    parts = {"train": np.sort(train), "validation": np.sort(validation), "test": np.sort(test)}
    every = np.concatenate(list(parts.values()))
    if len(np.unique(every)) < len(every):
        raise InputError(f"fold {name!r}: a row is in two of training, validation and test")
    if tested and not len(test):
        raise InputError(f"fold {name!r}: no test row")
    all_classes = tuple(range(len(samples.class_names)))
    learned = all_classes if train_classes is None else tuple(sorted(train_classes))
    chosen = all_classes if test_classes is None else tuple(sorted(test_classes))
    for part, classes in (("train", learned), ("validation", learned), ("test", chosen)):
        outside = set(samples.labels[parts[part]].tolist()) - set(classes)
        if outside:
            raise InputError(
                f"fold {name!r}: class {samples.class_names[min(outside)]!r} is none of its {part} classes"
            )
    absent = set(learned) - set(samples.labels[parts["train"]].tolist()) if len(train) else set()
    warnings = (*warnings, *(f"no training row of class {samples.class_names[number]!r}" for number in sorted(absent)))
    for rows in parts.values():
        rows.setflags(write=False)
    return Fold(
        name=name,
        repeat=repeat,
        number=number,
        seed=seed,
        train_classes=learned,
        test_classes=chosen,
        samples=FoldSamples(
            ids=tuple(samples.ids),
            groups=tuple(samples.groups or samples.ids),
            class_names=tuple(samples.class_names),
            known_labels={
                int(row): int(samples.labels[row]) for row in np.concatenate([parts["train"], parts["validation"]])
            },
        ),
        warnings=warnings,
        **parts,
    )
