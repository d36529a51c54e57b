"""Splits by group: whole groups on one side, and enough left to train on."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from icube_common.errors import InputError
from motiondiff.data.prepare import MAX_HELD_OUT_FRACTION, assign_splits, choose_split_key

GROUPS = st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), min_size=2, max_size=60)
SEEDS = st.integers(0, 2**32 - 1)


@given(GROUPS, SEEDS)
def test_no_group_stands_on_both_sides(groups: list[str | None], seed: int) -> None:
    assume(len(set(groups) - {None}) >= 2)
    splits = assign_splits(groups, seed=seed)
    sides: dict[str | None, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        sides.setdefault(group, set()).add(split)
    assert all(len(side) == 1 for side in sides.values())
    assert sides.get(None, {"train"}) == {"train"}
    assert {"train", "test"} <= {split for side in sides.values() for split in side}


@given(GROUPS, SEEDS)
def test_a_dominant_group_stays_in_training(groups: list[str | None], seed: int) -> None:
    counts = Counter(group for group in groups if group is not None)
    assume(len(counts) >= 2)
    held_out = {
        group for group, split in zip(groups, assign_splits(groups, seed=seed), strict=True) if split != "train"
    }
    shares = {group: count / len(groups) for group, count in counts.items()}
    if min(shares.values()) <= MAX_HELD_OUT_FRACTION:
        assert all(shares[group] <= MAX_HELD_OUT_FRACTION for group in held_out)
    assert all(shares[group] <= 0.5 for group in held_out)


@given(GROUPS, SEEDS)
def test_the_same_seed_gives_the_same_split(groups: list[str | None], seed: int) -> None:
    assume(len(set(groups) - {None}) >= 2)
    assert assign_splits(groups, seed=seed) == assign_splits(groups, seed=seed)


def test_shares_are_of_the_groups() -> None:
    groups = [f"s{number:02d}" for number in range(20) for _ in range(number + 1)]
    by_group = dict(zip(groups, assign_splits(groups), strict=True))
    assert Counter(by_group.values()) == {"train": 14, "test": 4, "validation": 2}


def test_seeds_hold_out_different_groups() -> None:
    groups = list("abcdefgh")
    assert len({tuple(assign_splits(groups, seed=seed)) for seed in range(10)}) > 3


def test_three_groups_make_no_validation_split() -> None:
    assert set(assign_splits(list("abc"))) == {"train", "test"}


@given(SEEDS)
def test_named_test_groups_are_the_test_groups(seed: int) -> None:
    groups = list("aabbbbcdef")
    splits = assign_splits(groups, test_groups=("b", "d"), seed=seed)
    assert {group for group, split in zip(groups, splits, strict=True) if split == "test"} == {"b", "d"}
    assert "train" in splits and "validation" in splits


def test_an_unknown_test_group_names_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown test group 'subject3': did you mean 'subject-3'"):
        assign_splits(["subject-3", "walker"], test_groups=("subject3",))


def test_empty_training_split_is_refused() -> None:
    with pytest.raises(InputError, match="all 2 groups are held out"):
        assign_splits(["a", "b"], test_groups=("a", "b"))
    with pytest.raises(InputError, match="all 1 groups are held out"):
        assign_splits(["a", "a"])


def test_without_groups_everything_trains() -> None:
    assert assign_splits([None, None]) == ["train", "train"]


@pytest.mark.parametrize(
    ("subjects", "styles", "wanted", "key"),
    [
        (["a", "b"], ["x", "y"], None, "subject"),
        (["a", "a"], ["x", "y"], None, "style"),
        ([None, None], ["x", "y"], None, "style"),
        (["a", None], ["x", None], None, None),
        (["a", "b"], ["x", "y"], "style", "style"),
    ],
)
def test_split_criteria(subjects: list[str | None], styles: list[str | None], wanted: str | None, key: str) -> None:
    assert choose_split_key(subjects, styles, wanted) == key


def test_fewer_than_two_groups_cannot_be_split_by() -> None:
    with pytest.raises(InputError, match="--split-by subject: the clips have fewer than two subjects"):
        choose_split_key(["a", "a", None], ["x", "y", "x"], "subject")
    with pytest.raises(InputError, match="unknown value of --split-by 'subjects': did you mean 'subject'"):
        choose_split_key(["a", "b"], ["x", "y"], "subjects")
