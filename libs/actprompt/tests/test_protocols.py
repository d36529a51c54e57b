"""Protocols as folds: who is tested, who is trained on, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from act_world import settings

from actprompt.data.manifest import Clip, Manifest, Protocol
from actprompt.evaluation.protocols import (
    ProtocolOptions,
    base_to_new_folds,
    few_shot_folds,
    official_fold,
    plain_folds,
    split_test_sides,
)
from icube_common.errors import InputError
from icube_common.evaluation import Fold

CONFIG = settings()


def manifest(
    protocols: Sequence[Protocol] = (),
    *,
    people: int = 4,
    classes: int = 4,
    takes: int = 3,
    splits: Any = None,
    subject: Any = "s{}",
) -> Manifest:
    """Clips of each person and class; ``splits(person, take)`` gives their parts. No file is needed."""
    labels = [f"c{number:02d}" for number in range(classes)]
    clips = [
        Clip(
            id=f"{person}-{label}-{take}",
            path="x.avi",
            label=label,
            subject=None if subject is None else subject.format(person),
            camera=f"cam{take}",
            splits={} if splits is None else splits(person, take),
        )
        for person in range(1, people + 1)
        for label in labels
        for take in range(takes)
    ]
    description = {"root": ".", "class_names": labels, "class_texts": {}, "protocols": [vars(row) for row in protocols]}
    return Manifest(Path("data"), description, clips)


def plain(made: Manifest, protocol: str, config: Any = CONFIG, **options: Any) -> list[Fold]:
    return list(plain_folds(made, made.samples(), config, protocol, ProtocolOptions(**options)))


def people(fold: Fold, part: str) -> set[str]:
    return {fold.samples.groups[row] for row in getattr(fold, part)}


def test_leave_one_subject_out() -> None:
    made = manifest()
    folds = plain(made, "leave-one-subject-out")
    assert [people(fold, "test") for fold in folds] == [{"s1"}, {"s2"}, {"s3"}, {"s4"}]
    for fold in folds:
        assert people(fold, "train") == {"s1", "s2", "s3", "s4"} - people(fold, "test")
        assert len(fold.train) == 36 and len(fold.test) == 12 and not len(fold.validation)
        assert fold.train_classes == fold.test_classes == (0, 1, 2, 3)


def test_validation_rows_are_other_people_of_the_training_side() -> None:
    config = settings(train={"eval_steps": 5})
    for fold in plain(manifest(people=6), "leave-one-subject-out", config):
        groups = [people(fold, part) for part in ("train", "validation", "test")]
        assert all(groups) and sum(map(len, groups)) == 6 == len(set().union(*groups))


def test_clips_without_a_subject_cannot_be_left_out_by_subject() -> None:
    made = manifest(subject=None)
    with pytest.raises(InputError, match=r"leave-one-subject-out: 1-c00-0 names no subject \(48 clips do not\)"):
        plain(made, "leave-one-subject-out")
    with pytest.raises(InputError, match="only group"):
        plain(manifest(people=1), "leave-one-subject-out")
    # k-fold takes each clip for itself
    assert len(plain(made, "k-fold", folds=3)) == 3


def test_a_sets_own_groups_are_left_out() -> None:
    protocol = Protocol(name="leave-one-camera-out", kind="leave-one-group-out", column="camera")
    folds = plain(manifest([protocol]), "leave-one-camera-out")
    assert [people(fold, "test") for fold in folds] == [{"cam0"}, {"cam1"}, {"cam2"}]
    by_actor = Protocol(name="leave-one-actor-out", kind="leave-one-group-out", column="subject")
    made = manifest([by_actor])
    own, general = plain(made, "leave-one-actor-out"), plain(made, "leave-one-subject-out")
    assert [fold.test.tolist() for fold in own] == [fold.test.tolist() for fold in general]


def test_k_fold_keeps_people_whole() -> None:
    made = manifest(people=6)
    folds = plain(made, "k-fold", folds=3, repeats=2)
    assert [(fold.repeat, fold.number) for fold in folds] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    for repeat in range(2):
        tested = [row for fold in folds if fold.repeat == repeat for row in fold.test.tolist()]
        assert sorted(tested) == list(range(len(made.clips)))
    assert all(not people(fold, "train") & people(fold, "test") for fold in folds)
    again = plain(made, "k-fold", folds=3, repeats=2)
    assert [fold.test.tolist() for fold in folds] == [fold.test.tolist() for fold in again]
    with pytest.raises(InputError, match="7 folds of 6 groups"):
        plain(made, "k-fold", folds=7)


def numbered(person: int, take: int) -> dict[str, str]:
    """Three splits, each with another person on the test side; one clip has no part in the second."""
    parts = {f"split_{n}": "test" if person == n else "train" for n in (1, 2, 3)}
    return {key: part for key, part in parts.items() if not (key == "split_2" and person == 4 and take == 0)}


THREE = [Protocol(name=f"split-{n}", kind="split", column=f"split_{n}") for n in (1, 2, 3)]


def test_official_is_the_mean_of_numbered_splits() -> None:
    made = manifest(THREE, splits=numbered)
    folds = plain(made, "official")
    assert [people(fold, "test") for fold in folds] == [{"s1"}, {"s2"}, {"s3"}]
    assert [len(fold.train) for fold in folds] == [36, 32, 36]
    assert len({(fold.repeat, fold.number) for fold in folds}) == 3
    (one,) = plain(made, "split-2")
    assert one.test.tolist() == folds[1].test.tolist() and one.train.tolist() == folds[1].train.tolist()


def test_official_splits_may_test_the_same_clips() -> None:
    """As HMDB51's three do: each is a repeat of its own, so that a clip has one prediction in each."""
    overlapping = manifest(
        THREE, splits=lambda person, take: {f"split_{n}": "test" if person in (n, 4) else "train" for n in (1, 2, 3)}
    )
    folds = plain(overlapping, "official")
    rows = [(fold.repeat, row) for fold in folds for row in fold.test.tolist()]
    assert len(rows) == 72 == len(set(rows))


def test_official_where_there_is_one_split_several_unlike_or_none() -> None:
    def splits(person: int, take: int) -> dict[str, str]:
        return {"subject": "test" if person == 1 else "train", "view": "test" if take == 0 else "train"}

    by_subject = Protocol(name="cross-subject", kind="split", column="subject")
    by_view = Protocol(name="cross-view", kind="split", column="view")
    (fold,) = plain(manifest([by_subject], splits=splits), "official")
    assert people(fold, "test") == {"s1"} and fold.name == "cross-subject"
    with pytest.raises(InputError, match="several: name one of cross-subject, cross-view"):
        plain(manifest([by_subject, by_view], splits=splits), "official")
    with pytest.raises(InputError, match="this set has none"):
        plain(manifest(), "official")


@pytest.mark.parametrize("name", ["cross-subject", "given", "split-1"])
def test_the_same_person_on_both_sides_is_refused(name: str) -> None:
    protocol = Protocol(name=name, kind="split", column="part")
    made = manifest([protocol], splits=lambda person, take: {"part": "test" if take == 0 else "train"})
    with pytest.raises(InputError, match=r"group 's1' has training and test rows"):
        plain(made, name)


@pytest.mark.parametrize("name", ["cross-view-1", "cross-setup", "cross-camera"])
def test_protocols_by_camera_have_the_same_people_on_both_sides(name: str) -> None:
    protocol = Protocol(name=name, kind="split", column="part")
    made = manifest([protocol], splits=lambda person, take: {"part": "test" if take == 0 else "train"})
    (fold,) = plain(made, name)
    assert people(fold, "train") == people(fold, "test") and not set(fold.train) & set(fold.test)


def test_a_split_s_own_validation_part_is_trained_on() -> None:
    protocol = Protocol(name="three-parts", kind="split", column="part")
    parts = {1: "test", 2: "validation", 3: "train", 4: "train"}
    made = manifest([protocol], splits=lambda person, take: {"part": parts[person]})
    fold = official_fold(made, made.samples(), "three-parts", CONFIG)
    assert people(fold, "train") == {"s2", "s3", "s4"} and people(fold, "test") == {"s1"}


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown protocol 'leave-one-subjct-out': did you mean 'leave-one-subject-ou"):
        plain(manifest(), "leave-one-subjct-out")
    with pytest.raises(InputError, match="did you mean 'split-2'"):
        plain(manifest(THREE, splits=numbered), "split2")


# few-shot


def test_few_shot_tests_each_person_in_turn() -> None:
    made = manifest(takes=4)
    samples = made.samples()
    folds = list(few_shot_folds(samples, CONFIG, ProtocolOptions(shots=(1, 4), draws=2)))
    assert len(folds) == 4 * 2 * 2
    for shots, fold in folds:
        assert len(fold.train) == 4 * shots and len(fold.test) == 16
        assert sorted(samples.labels[fold.train]) == sorted(list(range(4)) * shots)
        (person,) = people(fold, "test")
        assert person not in people(fold, "train")
    draws = {(next(iter(people(fold, "test"))), fold.repeat): fold.train.tolist() for n, fold in folds if n == 1}
    assert len(draws) == 8 and len({tuple(rows) for rows in draws.values()}) > 4
    # the clips of few shots are among those of more
    many = {(next(iter(people(fold, "test"))), fold.repeat): set(fold.train.tolist()) for n, fold in folds if n == 4}
    assert all(set(rows) <= many[key] for key, rows in draws.items())
    again = few_shot_folds(samples, CONFIG, ProtocolOptions(shots=(1, 4), draws=2))
    assert [fold.train.tolist() for _, fold in again] == [fold.train.tolist() for _, fold in folds]
    with pytest.raises(InputError, match="64 shots: class 'c00' has 12 training rows"):
        list(few_shot_folds(samples, CONFIG, ProtocolOptions(shots=(64,))))


def test_with_many_people_a_quarter_is_tested() -> None:
    samples = manifest(people=12, takes=1).samples()
    sides = split_test_sides(samples)
    assert len(sides) == 1 and len(sides[0]) == 12
    owners = dict(zip(samples.ids, samples.groups or (), strict=True))
    assert len({owners[name] for name in sides[0]}) == 3
    assert len(split_test_sides(manifest(people=10, takes=1).samples())) == 10
    # clips that name nobody are as many people
    assert len(split_test_sides(manifest(subject=None).samples())) == 1


# base to new


@pytest.mark.parametrize(("classes", "new", "draws"), [(4, 2, 6), (6, 3, 10), (22, 2, 60)])
def test_every_draw_has_other_new_classes(classes: int, new: int, draws: int) -> None:
    samples = manifest(people=2, classes=classes, takes=1).samples()
    options = ProtocolOptions(draws=draws, new_classes=new)
    folds = list(base_to_new_folds(samples, CONFIG, options))
    assert len(folds) == draws * 2
    chosen = {number: tuple(names) for number, names, _ in folds}
    assert len(chosen) == draws == len(set(chosen.values()))
    for _, names, pair in folds:
        wanted = {list(samples.class_names).index(name) for name in names}
        assert len(wanted) == new and set(pair.new.test_classes) == wanted
        assert not set(pair.base.train_classes) & wanted and pair.base.train_classes == pair.base.test_classes
        assert not {int(samples.labels[row]) for row in pair.base.train} & wanted
        assert {int(samples.labels[row]) for row in pair.new.test} == wanted
        assert pair.base.train.tolist() == pair.new.train.tolist()
        assert not people(pair.base, "train") & (people(pair.base, "test") | people(pair.new, "test"))
    again = base_to_new_folds(samples, CONFIG, options)
    assert [names for _, names, _ in again] == [names for _, names, _ in folds]
    other = base_to_new_folds(samples, CONFIG, ProtocolOptions(draws=draws, new_classes=new, seed=1))
    assert [names for _, names, _ in other] != [names for _, names, _ in folds]


def test_all_draws_are_all_choices() -> None:
    samples = manifest(people=2, classes=4, takes=1).samples()
    folds = base_to_new_folds(samples, CONFIG, ProtocolOptions(draws=6))
    assert {tuple(names) for _, names, _ in folds} == set(combinations([f"c{n:02d}" for n in range(4)], 2))


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (3, {}, "1 new of 3 classes: need at least two new and two others"),
        (5, {"new_classes": 4}, "4 new of 5 classes"),
        (4, {"draws": 7}, "7 draws, and only 6 choices of 2 classes"),
        (22, {"draws": 232, "new_classes": 2}, "232 draws, and only 231 choices of 2 classes"),
    ],
)
def test_base_to_new_that_cannot_be(classes: int, options: dict[str, Any], message: str) -> None:
    samples = manifest(people=2, classes=classes, takes=1).samples()
    with pytest.raises(InputError, match=message):
        list(base_to_new_folds(samples, CONFIG, ProtocolOptions(**options)))


@pytest.mark.parametrize(
    "options", [{"draws": 0}, {"repeats": 0}, {"folds": 1}, {"shots": ()}, {"shots": (0, 1)}, {"seed": -1}]
)
def test_options_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))}.*must be"):
        ProtocolOptions(**options)
