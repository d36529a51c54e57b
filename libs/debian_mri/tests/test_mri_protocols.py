from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judge_world import people
from numpy.testing import assert_array_equal

from debian_mri.evaluation.protocols import ProtocolOptions, folds_of, permute_labels, permute_training_labels
from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples


def nearest_slices(samples: Samples, rows: np.ndarray) -> set[str]:
    return set(samples.group_array[rows].tolist())


def check(samples: Samples, folds: list[Fold]) -> None:
    """No subject is on two sides, and each scan is tested once a repeat."""
    for fold in folds:
        parts = [nearest_slices(samples, rows) for rows in (fold.train, fold.validation, fold.test)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    for repeat in {fold.repeat for fold in folds}:
        tested = np.concatenate([fold.test for fold in folds if fold.repeat == repeat])
        assert_array_equal(np.sort(tested), np.arange(len(samples)))


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_k_fold_keeps_people_whole_and_classes_even(validation: float) -> None:
    samples = people(20, sessions=3)
    folds = folds_of(samples, "group-kfold", ProtocolOptions(folds=5, repeats=2), validation=validation)
    assert len(folds) == 10
    check(samples, folds)
    for fold in folds:
        assert np.bincount(samples.labels[fold.test]).tolist() == [6, 6]
        assert bool(len(fold.validation)) == bool(validation)


def test_a_site_is_tested_on_the_others_and_its_people_are_nowhere_trained_on() -> None:
    samples = people(8, sites=True)
    # s00 was scanned at both sites
    sites = list(samples.sites or ())
    sites[1] = "site1"
    folds = folds_of(replace(samples, sites=sites), "leave-one-site-out", ProtocolOptions())
    assert [fold.name for fold in folds] == ["without site site0", "without site site1"]
    for fold in folds:
        assert not nearest_slices(samples, fold.train) & nearest_slices(samples, fold.test)
        assert "s00" not in nearest_slices(samples, fold.train)
        assert any("1 scans of its people at other sites are not trained on" in note for note in fold.warnings)
    tested = np.concatenate([fold.test for fold in folds])
    assert_array_equal(np.sort(tested), np.arange(len(samples)))


def test_sites_that_cannot_be_left_out_are_refused() -> None:
    with pytest.raises(InputError, match="not known"):
        folds_of(people(), "leave-one-site-out", ProtocolOptions())
    alone = replace(people(), sites=["here"] * 40)
    with pytest.raises(InputError, match="'here' is the only site"):
        folds_of(alone, "leave-one-site-out", ProtocolOptions())


def split(path: Path, lines: list[str], head: str = "id,fold") -> ProtocolOptions:
    path.write_text("\n".join([head, *lines]) + "\n")
    return ProtocolOptions(split=str(path))


def test_a_given_split_is_taken_as_it_is(tmp_path: Path) -> None:
    samples = people(4)
    lines = [f"{name},{'ab'[number // 4]},{repeat}" for repeat in "xy" for number, name in enumerate(samples.ids)]
    folds = folds_of(samples, "given", split(tmp_path / "split.csv", lines, "id,fold,repeat"))
    check(samples, folds)
    assert [(fold.repeat, fold.number) for fold in folds] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert_array_equal(folds[0].test, [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"s00-1": "b"}, r"line 3: subject 's00' is in fold b and, by line 2, in fold a: .*give all scans"),
        ({"s00-1": ""}, "line 3: 's00-1' has an empty fold"),
        ({"s00-1": None}, "repeat 0: 's00-1' has no fold"),
        ({"s09-0": "a"}, "unknown scan 's09-0'"),
        ({f"s0{number}-{session}": "a" for number in range(4) for session in range(2)}, "all scans are in fold a"),
    ],
)  # fmt: skip
def test_a_split_that_would_leak_or_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, str | None], message: str
) -> None:
    samples = people(4)
    parts: dict[str, str | None] = {name: "ab"[number // 4] for number, name in enumerate(samples.ids)}
    lines = [f"{name},{part}" for name, part in {**parts, **change}.items() if part is not None]
    with pytest.raises(InputError, match=message):
        folds_of(samples, "given", split(tmp_path / "split.csv", lines))


def test_a_scan_with_two_folds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'s00-0' is there twice"):
        folds_of(people(4), "given", split(tmp_path / "split.csv", ["s00-0,a", "s00-0,a"]))


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("kfold", ProtocolOptions(), "did you mean 'group-kfold'"),
        ("given", ProtocolOptions(), "--split go together"),
        ("group-kfold", ProtocolOptions(split="a.csv"), "--split go together"),
        ("group-kfold", ProtocolOptions(folds=50), "50 folds of 20 groups"),
    ],
)
def test_protocols_that_mean_nothing(protocol: str, options: ProtocolOptions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        folds_of(people(), protocol, options)


def test_numbers_that_mean_nothing() -> None:
    for words in ({"folds": 1}, {"repeats": 0}, {"seed": -1}):
        with pytest.raises(InputError, match="must be at least"):
            ProtocolOptions(**words)


def test_permuted_labels_keep_each_folds_shares_and_are_one_a_person() -> None:
    samples = people(20, sessions=2)
    folds = folds_of(samples, "group-kfold", ProtocolOptions(folds=4, repeats=2))
    drawn = list(permute_labels(samples, folds, seed=1))
    again = list(permute_labels(samples, folds, seed=1))
    changed = 0
    for (table, fold), (same, _), true in zip(drawn, again, folds, strict=True):
        assert_array_equal(table.labels, same.labels)
        assert_array_equal(fold.test, true.test)
        assert_array_equal(np.bincount(table.labels[fold.test]), np.bincount(samples.labels[fold.test]))
        # training sees the permuted labels, and those of test rows are not there
        assert_array_equal(fold.train_labels, table.labels[fold.train])
        assert not set(fold.samples.known_labels) & set(fold.test.tolist())
        changed += int((table.labels != samples.labels).sum())
        for person in set(table.group_array):
            assert len(set(table.labels[table.group_array == person].tolist())) == 1
    assert changed > 0
    # all folds of a repeat have the same labels, those of another repeat have others
    assert_array_equal(drawn[0][0].labels, drawn[3][0].labels)
    assert (drawn[0][0].labels != drawn[4][0].labels).any()


def test_blinded_folds_have_false_labels_for_training_only() -> None:
    samples = people(20)
    fold = folds_of(samples, "group-kfold", ProtocolOptions(), validation=0.2)[0]
    false = permute_training_labels(samples, fold, seed=1)
    assert_array_equal(false.test, fold.test)
    for name in ("train_labels", "validation_labels"):
        mine, true = getattr(false, name), getattr(fold, name)
        assert_array_equal(np.bincount(mine), np.bincount(true))
    assert (false.train_labels != fold.train_labels).any()
    assert not set(false.samples.known_labels) & set(fold.test.tolist())
