from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icube_common.errors import InputError
from icube_common.evaluation.folds import Fold, make_fold
from icube_common.evaluation.leakage import TestLeakageError
from icube_common.evaluation.metrics import Array
from icube_common.evaluation.predictions import make_predictions
from icube_common.evaluation.protocols import (
    base_to_new,
    few_shot,
    grouped_k_fold,
    leave_one_group_out,
    predefined_split,
    train_on_all,
    zero_shot,
)
from icube_common.evaluation.samples import Samples, held_out, inner_split


def make_samples(groups: int = 12, each: int = 6, classes: int = 3, *, sites: bool = False, seed: int = 0) -> Samples:
    """Every group has clips of every class, in a shuffled order of rows."""
    order = np.random.default_rng(seed).permutation(groups * each)
    return Samples(
        ids=[f"s{row // each:02d}_{row % each}" for row in order],
        labels=np.array([row % classes for row in order]),
        class_names=[f"class {number}" for number in range(classes)],
        groups=[f"s{row // each:02d}" for row in order],
        sites=[f"site {row // each % 2}" for row in order] if sites else None,
    )


SAMPLES = make_samples()


def all_folds(samples: Samples) -> Iterator[Fold]:
    yield from grouped_k_fold(samples, folds=4, repeats=2)
    yield from leave_one_group_out(samples)
    yield from few_shot(samples, shots=(1, 2, 4), seeds=(0, 1))
    yield zero_shot(samples)
    yield predefined_split(samples, held_out(samples))


def groups_of(samples: Samples, rows: Array) -> set[str]:
    return set(samples.group_array[rows].tolist())


@pytest.mark.parametrize("fold", list(all_folds(SAMPLES)), ids=lambda fold: f"{fold.name} {fold.repeat}")
def test_the_three_parts_share_no_subject(fold: Fold) -> None:
    train, validation, test = (groups_of(SAMPLES, rows) for rows in (fold.train, fold.validation, fold.test))
    assert not (train & validation or train & test or validation & test)
    assert len(fold.test) and bool(len(fold.train)) == (fold.name != "zero-shot")
    assert bool(len(fold.validation)) != any(note.startswith("no ") for note in fold.warnings)
    assert fold.train_labels.tolist() == SAMPLES.labels[fold.train].tolist()
    assert fold.validation_labels.tolist() == SAMPLES.labels[fold.validation].tolist()


# --- the predecessor's third fault: a checkpoint chosen on the test fold -------------------------------------------


def rows_with_labels_mixed(samples: Samples, fold: Fold) -> Samples:
    """The same samples with other labels in the test rows."""
    labels = samples.labels.copy()
    labels[fold.test] = (labels[fold.test] + 1) % len(samples.class_names)
    return Samples(ids=samples.ids, labels=labels, class_names=samples.class_names, groups=samples.groups)


@pytest.mark.parametrize("fold", list(all_folds(SAMPLES)), ids=lambda fold: f"{fold.name} {fold.repeat}")
def test_a_fold_holds_no_test_label(fold: Fold) -> None:
    """Nothing reachable from a fold changes with the labels of its test rows: not one byte of it."""
    parts = {"name": fold.name, "train": fold.train, "validation": fold.validation, "test": fold.test}
    again, other = (make_fold(samples, **parts) for samples in (SAMPLES, rows_with_labels_mixed(SAMPLES, fold)))
    assert pickle.dumps(again) == pickle.dumps(other)
    allowed = set(fold.train) | set(fold.validation)
    for row in range(len(SAMPLES)):
        if row in allowed:
            assert fold.samples.labels_of(np.array([row])) == SAMPLES.labels[row]
        else:
            with pytest.raises(TestLeakageError, match=SAMPLES.ids[row]):
                fold.samples.labels_of(np.array([row]))


def test_training_cannot_depend_on_test_labels() -> None:
    """A trainer that reads all it can get from its fold selects the same whatever the test labels are."""

    def greedy_trainer(fold: Fold, features: Array) -> float:
        view = fold.side_table(features)
        seen = [view.array().sum(), fold.train_labels.sum(), fold.validation_labels.sum()]
        return float(np.sum(seen))

    features = np.random.default_rng(0).normal(size=(len(SAMPLES), 4))
    test = held_out(SAMPLES)
    fold = predefined_split(SAMPLES, test)
    other = predefined_split(rows_with_labels_mixed(SAMPLES, fold), test)
    assert greedy_trainer(fold, features) == greedy_trainer(other, features)


def test_only_make_predictions_reads_test_labels() -> None:
    fold = predefined_split(SAMPLES, held_out(SAMPLES))
    exact = np.eye(3)[SAMPLES.labels[fold.test]]
    found = make_predictions(SAMPLES, fold, exact)
    assert found.labels.tolist() == SAMPLES.labels[fold.test].tolist() and list(found.ids) == fold.test_ids
    assert found.metrics(["top1"])["top1"].mean == 1
    with pytest.raises(InputError, match=r"need \(18, 3\)"):
        make_predictions(SAMPLES, fold, exact[:, :2])
    with pytest.raises(InputError, match="other samples"):
        make_predictions(make_samples(seed=1), fold, exact)


# --- the fourth: a side table with the held-out subjects in it -------------------------------------------------------


@pytest.mark.parametrize("kind", ["mapping", "array"])
def test_a_side_table_refuses_test_rows(kind: str) -> None:
    values = np.arange(len(SAMPLES), dtype=float)
    table = dict(zip(SAMPLES.ids, values.tolist(), strict=True)) if kind == "mapping" else values
    fold = next(grouped_k_fold(SAMPLES))
    views = {
        "training": (fold.training_rows(table), fold.train),
        "training and validation": (fold.side_table(table), np.concatenate([fold.train, fold.validation])),
        "validation": (fold.validation_inputs(table), fold.validation),
        "test": (fold.test_inputs(table), fold.test),
    }
    for part, (view, rows) in views.items():
        assert view.array().tolist() == values[rows].tolist() and len(view) == len(rows)
        assert list(view) == [SAMPLES.ids[row] for row in rows]
        for row in set(range(len(SAMPLES))) - set(rows.tolist()):
            name = SAMPLES.ids[row]
            assert name not in view
            with pytest.raises(TestLeakageError, match=f"'{name}' is not in the {part} rows"):
                view[name]
            with pytest.raises(TestLeakageError):
                view.get(name)  # must not pass for a missing value
        with pytest.raises(KeyError):
            view["nobody"]


def test_wrong_side_tables() -> None:
    fold = next(grouped_k_fold(SAMPLES))
    with pytest.raises(InputError, match="71 rows for 72 samples"):
        fold.training_rows(np.zeros(71))
    with pytest.raises(InputError, match=r"no row for 's\d\d_\d'"):
        fold.training_rows({"s00_0": 1})


# --- protocols ------------------------------------------------------------------------------------------------------


def test_k_fold_tests_every_id_once_in_each_repeat() -> None:
    folds = list(grouped_k_fold(SAMPLES, folds=4, repeats=3))
    tests = []
    for repeat in range(3):
        own = [fold for fold in folds if fold.repeat == repeat]
        assert [fold.number for fold in own] == [0, 1, 2, 3]
        assert sorted(np.concatenate([fold.test for fold in own])) == list(range(len(SAMPLES)))
        tests.append({frozenset(fold.test.tolist()) for fold in own})
    assert tests[0] != tests[1] != tests[2]
    assert [fold.name for fold in folds[:2]] == ["4-fold 1/4", "4-fold 2/4"]
    assert len({fold.seed for fold in folds}) == len(folds)


def test_the_same_seed_gives_the_same_folds() -> None:
    def rows(seed: int) -> list[list[int]]:
        folds = [*grouped_k_fold(SAMPLES, seed=seed), *few_shot(SAMPLES, shots=(2,), seeds=(seed,))]
        folds += [fold for pair in base_to_new(make_samples(classes=6), seed=seed) for fold in (pair.base, pair.new)]
        return [part.tolist() for fold in folds for part in (fold.train, fold.validation, fold.test)]

    assert rows(0) == rows(0) != rows(1)


def test_k_fold_balances_labels_and_sites() -> None:
    """Subjects with one label each, of two sites: each fold gets its share of each combination."""
    labels = np.repeat([0, 1], 20)
    samples = Samples(
        ids=[f"p{row}" for row in range(40)],
        labels=labels,
        class_names=["CN", "AD"],
        sites=["a" if row % 2 else "b" for row in range(40)],
    )
    sites = np.asarray(samples.sites)
    for fold in grouped_k_fold(samples, folds=5):
        assert [((labels == y) & (sites == s))[fold.test].sum() for y in (0, 1) for s in "ab"] == [2, 2, 2, 2]


def test_more_folds_than_groups() -> None:
    with pytest.raises(InputError, match="13 folds of 12 groups"):
        list(grouped_k_fold(SAMPLES, folds=13))
    with pytest.raises(InputError, match="only group"):
        list(leave_one_group_out(make_samples(groups=1)))


def test_leave_one_group_out() -> None:
    folds = list(leave_one_group_out(SAMPLES))
    assert [fold.name for fold in folds] == [f"without s{number:02d}" for number in range(12)]
    assert all(len(groups_of(SAMPLES, fold.test)) == 1 and len(fold.test) == 6 for fold in folds)
    assert all(len(groups_of(SAMPLES, fold.validation)) in (2, 3) for fold in folds)


def test_a_class_that_only_the_held_out_subject_has_is_noted() -> None:
    labels = np.where(SAMPLES.group_array == "s03", 3, SAMPLES.labels)
    samples = Samples(ids=SAMPLES.ids, labels=labels, class_names=[*SAMPLES.class_names, "rare"], groups=SAMPLES.groups)
    warnings = {fold.name: fold.warnings for fold in leave_one_group_out(samples)}
    assert warnings["without s03"] == ("no training row of class 'rare'",) and warnings["without s04"] == ()


def test_few_shot_counts() -> None:
    folds = list(few_shot(SAMPLES, shots=(1, 2, 4, 8), seeds=(5, 6)))
    assert [(fold.repeat, fold.number, fold.name) for fold in folds[3:6]] == [
        (0, 3, "8 shots"), (1, 0, "1 shot"), (1, 1, "2 shots")
    ]  # fmt: skip
    for fold, shots in zip(folds, (1, 2, 4, 8) * 2, strict=True):
        assert np.bincount(SAMPLES.labels[fold.train]).tolist() == [shots] * 3
        assert np.bincount(SAMPLES.labels[fold.validation]).tolist() == [min(shots, 4)] * 3
        assert fold.test.tolist() == folds[0].test.tolist()
    assert set(folds[0].train) < set(folds[1].train) < set(folds[2].train)
    assert set(folds[2].train) != set(folds[6].train)


def test_too_few_shots() -> None:
    with pytest.raises(InputError, match=r"32 shots: class 'class 0' has \d+ training rows; take no more"):
        list(few_shot(SAMPLES, shots=(1, 32)))
    with pytest.raises(InputError, match="need at least 1"):
        list(few_shot(SAMPLES, shots=(0,)))


def test_base_to_new_never_trains_a_new_class() -> None:
    samples = make_samples(groups=20, each=14, classes=7)
    pairs = list(base_to_new(samples, draws=3, shots=4))
    divisions = set()
    for draw, pair in enumerate(pairs):
        base, new = pair.base, pair.new
        assert set(base.test_classes) | set(new.test_classes) == set(range(7)) and len(new.test_classes) == 3
        assert base.train_classes == base.test_classes == new.train_classes
        assert base.train.tolist() == new.train.tolist() and base.repeat == new.repeat == draw
        assert set(samples.labels[base.train]) == set(samples.labels[base.test]) == set(base.train_classes)
        assert set(samples.labels[new.test]) == set(new.test_classes)
        assert np.bincount(base.train_labels).tolist() == [4] * 4
        assert (base.train_class_names == base.test_class_names) and not set(new.test_class_names) & set(
            new.train_class_names
        )
        found = make_predictions(samples, new, np.eye(3)[np.searchsorted(new.test_classes, samples.labels[new.test])])
        assert list(found.class_names) == new.test_class_names and found.metrics(["top1"])["top1"].mean == 1
        divisions.add(new.test_classes)
    assert len(divisions) > 1


def test_base_to_new_with_named_classes() -> None:
    samples = make_samples(classes=6)
    (pair,) = base_to_new(samples, new_classes=["class 1", "class 5"], draws=4)
    assert pair.new.test_classes == (1, 5) and pair.base.test_classes == (0, 2, 3, 4)
    with pytest.raises(InputError, match="did you mean 'class 1'"):
        list(base_to_new(samples, new_classes=["clas 1", "class 5"]))
    with pytest.raises(InputError, match="2 base and 1 new classes"):
        list(base_to_new(SAMPLES))


def test_zero_shot_trains_nothing() -> None:
    fold = zero_shot(SAMPLES, test_ids=["s01_2", "s00_1"])
    assert len(fold.train) == len(fold.validation) == 0 and set(fold.test_ids) == {"s01_2", "s00_1"}
    with pytest.raises(TestLeakageError):
        fold.side_table(np.zeros(72))["s01_2"]


def test_official_splits_are_checked() -> None:
    fold = predefined_split(SAMPLES, [name for name in SAMPLES.ids if name < "s03"], name="split 1", number=1)
    assert groups_of(SAMPLES, fold.test) == {"s00", "s01", "s02"} and (fold.name, fold.number) == ("split 1", 1)
    for test, train, message in (
        (["s99_0"], None, "'s99_0': no sample has this id"),
        (["s00_0", "s00_0"], None, "named twice"),
        (["s00_0"], None, "group 's00' has training and test rows .1 groups have.: keep each group on one side"),
        (["s00_0"], ["s00_0"], "on both sides"),
        (["s00_0"], [], "0 training and 1 test rows"),
    ):
        with pytest.raises(InputError, match=message):
            predefined_split(SAMPLES, test, train_ids=train)


@pytest.mark.parametrize(
    ("samples", "fraction", "reason"),
    [
        (make_samples(groups=2), 0.2, "2 training groups, 3 are needed"),
        (SAMPLES, 0, "none asked for"),
        # each class has one subject: taking any of them loses a class
        (Samples(ids=list("abcdef"), labels=np.repeat([0, 1, 2], 2), class_names=list("xyz"), groups=list("ppqqrr")),
         0.34, "would leave a class without training rows"),
    ],
)  # fmt: skip
def test_no_validation_rows_and_why(samples: Samples, fraction: float, reason: str) -> None:
    train, validation, warnings = inner_split(samples, np.arange(len(samples)), fraction, 0)
    assert len(validation) == 0 and len(train) == len(samples) and reason in warnings[0]


def test_wrong_validation_share() -> None:
    with pytest.raises(InputError, match=r"validation 0\.9"):
        list(leave_one_group_out(SAMPLES, validation=0.9))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_subject_is_ever_on_two_sides(data: st.DataObject) -> None:
    """Any table of subjects, labels and sites: a refusal, or disjoint parts that cover the table."""
    groups = data.draw(st.lists(st.integers(0, 7), min_size=4, max_size=40))
    size = st.integers(0, 2)
    labels = data.draw(st.lists(size, min_size=len(groups), max_size=len(groups)))
    sites = data.draw(st.none() | st.lists(size.map(str), min_size=len(groups), max_size=len(groups)))
    samples = Samples(
        ids=[str(row) for row in range(len(groups))], labels=np.array(labels), class_names=list("abc"),
        groups=[f"g{group}" for group in groups], sites=sites,
    )  # fmt: skip
    try:
        folds = list(grouped_k_fold(samples, folds=data.draw(st.integers(2, 5)), seed=data.draw(st.integers(0, 9))))
    except InputError:
        return
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(samples)))
    for fold in folds:
        parts = [groups_of(samples, rows) for rows in (fold.train, fold.validation, fold.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(set(groups))
        if len(fold.validation):
            side = set(samples.labels[np.concatenate([fold.train, fold.validation])])
            assert set(samples.labels[fold.train]) == side


# --- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ["a", "a"]}, "id 'a' is there more than once"),
        ({"ids": ["a", ""]}, "id '' is empty"),
        ({"ids": ["a"]}, "need equally many"),
        ({"class_names": ["x", "x"]}, "class name 'x'"),
        ({"labels": np.array([0, 2])}, "label 2 of 'b', need 0 to 1"),
        ({"labels": np.array([0.0, 1.0])}, "integers"),
        ({"groups": ["p", ""]}, "'b' has an empty group"),
        ({"sites": ["p"]}, "'sites': 1"),
    ],
)
def test_wrong_samples(changes: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"ids": ["a", "b"], "labels": np.array([0, 1]), "class_names": ["x", "y"]}
    assert Samples(**good).groups == ("a", "b")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        Samples(**{**good, **changes})  # type: ignore[arg-type]


def test_rows_in_two_parts_are_refused() -> None:
    rows = np.arange(4)
    with pytest.raises(InputError, match="a row is in two"):
        make_fold(SAMPLES, name="bad", train=rows, validation=np.array([9]), test=rows[:1])
    with pytest.raises(InputError, match="no test row"):
        make_fold(SAMPLES, name="bad", train=rows, validation=rows[:0], test=rows[:0])


def test_arrays_cannot_be_changed() -> None:
    fold = predefined_split(SAMPLES, held_out(SAMPLES))
    for array in (fold.train, fold.test, SAMPLES.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_everything_is_trained_on_and_nothing_tested() -> None:
    samples = Samples(
        ids=list("abcdefgh"), labels=np.array([0, 1] * 4), class_names=["x", "y"], groups=list("11223344")
    )
    fold = train_on_all(samples)
    assert (
        fold.train.tolist() == list(range(8))
        and not len(fold.validation)
        and not len(fold.test)
        and fold.warnings == ()
    )
    part = train_on_all(samples, validation=0.25)
    people = {samples.group_array[row] for row in part.train} & {samples.group_array[row] for row in part.validation}
    assert len(part.validation) == 2 and not people and not len(part.test)
    with pytest.raises(InputError, match="no test row"):
        make_fold(samples, name="x", train=np.arange(8), validation=np.array([], int), test=np.array([], int))
