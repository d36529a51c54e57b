"""The study: folds over people, shares that nest, rows, resuming, budget, equal time, intervals by hand, bad input."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from study_helpers import tiny_study

from icube_common.errors import InputError
from icube_common.evaluation import Predictions
from icube_common.experiments.runner import trial_run
from icube_common.io.runs import read_json
from motiondiff.augmentation.config import FilterConfig
from motiondiff.augmentation.filter import MotionFilter
from motiondiff.augmentation.study import runner
from motiondiff.augmentation.study.arms import CHOSEN, StudyArm, primary_pair, study_arms
from motiondiff.augmentation.study.config import MixtureConfig, PrimaryConfig, StudyConfig
from motiondiff.augmentation.study.mixture import choose_mixture
from motiondiff.augmentation.study.runner import augmentation_study
from motiondiff.augmentation.study.sources import check_pretraining, generator_config, steps_of
from motiondiff.augmentation.study.subsets import (
    distinct_fractions,
    inner_parts,
    people_folds,
    sample_subset,
    split_real_and_test,
    write_subset,
)
from motiondiff.augmentation.study.summary import ArmResult, _contrast, accuracy_of_people
from motiondiff.config import ClassifierConfig, MotionDiffConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.data.store_writer import StoreWriter
from motiondiff.data.synthetic import simulate_motion
from motiondiff.recognition.training import sampling_weights
from motiondiff.skeleton.mirror import mirror

ConfigMaker = Callable[..., MotionDiffConfig]
Finished = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def config(tiny_config: ConfigMaker) -> StudyConfig:
    return tiny_study(tiny_config)


@pytest.fixture(scope="module")
def finished(store_path: Path, config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    out = tmp_path_factory.mktemp("study") / "study"
    summary = augmentation_study(store_path, out, config)
    assert not isinstance(summary, dict)
    return out, summary.to_dict()


def test_every_person_is_tested_once_and_never_trained_on(store: MotionStore, config: StudyConfig) -> None:
    folds = people_folds(store, replace(config, folds=3))
    assert sorted(person for fold in folds for person in fold.people) == store.subjects
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(len(store)))
    for fold in folds:
        assert set(store.names("subject", fold.test)) == set(fold.people)
        assert not set(store.names("subject", fold.real)) & set(fold.people)
        assert len(fold.real) + len(fold.test) == len(store)
    with pytest.raises(InputError, match="9 folds over people need as many subjects"):
        people_folds(store, replace(config, folds=9))


def test_inner_parts_are_of_different_people(store: MotionStore, config: StudyConfig) -> None:
    fold = people_folds(store, config)[0]
    parts = inner_parts(store, fold.real, config)
    people = [set(store.names("subject", part)) for part in parts]
    assert len(parts) == 2 and not people[0] & people[1] and people[0] | people[1] <= set(store.subjects)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), fold.real)
    one_person = fold.real[np.array(store.names("subject", fold.real)) == store.names("subject", fold.real)[0]]
    assert inner_parts(store, one_person, config) == []


def test_fractions_nest_and_keep_the_proportions(store: MotionStore) -> None:
    real, test = split_real_and_test(store)
    assert set(real) | set(test) == set(range(len(store))) and not set(real) & set(test)
    shares = [sample_subset(store, real, fraction, seed=0) for fraction in (0.1, 0.25, 0.5, 1.0)]
    for smaller, larger in itertools.pairwise(shares):
        assert set(smaller) <= set(larger)
    np.testing.assert_array_equal(shares[-1], real)
    for rows, fraction in zip(shares, (0.1, 0.25, 0.5, 1.0), strict=True):
        all_of, drawn = (np.bincount(store.columns["action"][clips]) for clips in (real, rows))
        np.testing.assert_array_equal(drawn, [max(2, round(fraction * count)) for count in all_of])
        for action in range(len(store.actions)):  # of as many people as there are
            people = store.columns["subject"][rows[store.columns["action"][rows] == action]]
            there = store.columns["subject"][real[store.columns["action"][real] == action]]
            assert len(set(people.tolist())) == min(len(people), len(set(there.tolist())))
    assert not np.array_equal(shares[2], sample_subset(store, real, 0.5, seed=1))


def test_a_subset_is_the_same_clips(store: MotionStore, tmp_path: Path) -> None:
    rows = np.array([3, 11, 20])
    part = write_subset(store, rows, tmp_path / "part", {"fraction": 0.1})
    assert part.clip_ids == [store.clip_ids[row] for row in rows] and part.header["subset_of"] == store.fingerprint
    assert part.info()["splits"] == {"train": 3}
    for number, row in enumerate(rows):
        assert part[number].action == store[row].action and part[number].subject == store[row].subject
        np.testing.assert_allclose(part[number].positions, store[row].positions, atol=1e-5)


def test_all_rows_are_there(config: StudyConfig, finished: Finished) -> None:
    out, result = finished
    rows = study_arms(config, mirrored=True)
    assert [row.training for row in rows] == [
        "real", "real + mirror", "synthetic (motiondiff)", "real + synthetic (motiondiff)",
        "real + synthetic (motiondiff), chosen", "synthetic (sdedit 0.5)", "real + synthetic (sdedit 0.5)",
        "synthetic (mdm-time)", "real + synthetic (mdm-time)", "synthetic (actor)", "real + synthetic (actor)",
    ]  # fmt: skip
    assert len(result["rows"]) == len(rows) and result["failed"] == 0
    # variations come from the model of the same cell
    trained = sorted(path.parent.parent.name for path in (out / "cells").glob("*/*/generator"))
    assert len(trained) == 2 * (3 + 2) and not any("sdedit" in name for name in trained)
    clips = {row["training"]: row["clips"] for row in result["rows"]}
    assert clips["synthetic (motiondiff)"] == 10
    assert clips["real + synthetic (actor)"] == clips["real"] + 10 == clips["real + mirror"] + 10
    for name in ("table", "differences", "people", "choices", "generators"):
        assert all((out / f"{name}.{kind}").is_file() for kind in ("md", "tex", "csv"))
    assert (out / "plot.svg").is_file() and (out / "plot.png").is_file()
    page = (out / "report.html").read_text()
    assert "real + synthetic (motiondiff)" in page and "Primary comparison" in page and "Person by person" in page


def test_predictions_are_of_the_people_of_the_fold(finished: Finished, store: MotionStore, config: StudyConfig) -> None:
    out, result = finished
    files = list((out / "cells").rglob("predictions.csv"))
    assert len(files) == config.folds * config.seeds * len(result["rows"])
    folds = people_folds(store, config)
    for file in files:
        with file.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        fold = folds[int(file.parts[-3].split("-")[1])]
        assert {row["id"] for row in rows} == {store.clip_ids[clip] for clip in fold.test}
        assert {row["subject"] for row in rows} == set(fold.people)


def test_one_primary_comparison_over_people(finished: Finished, store: MotionStore) -> None:
    _, result = finished
    people = {row["training"]: row["people"] for row in result["rows"]}
    assert all(sorted(values) == store.subjects for values in people.values())
    roles = [one["over_people"]["role"] for one in result["differences"]]
    assert roles[0] == "primary" and set(roles[1:]) == {"descriptive"}
    for one in result["differences"]:
        first, second = (people[one[name]] for name in ("first", "second"))
        changes = np.array([first[person] - second[person] for person in store.subjects])
        assert one["over_people"]["mean"] == pytest.approx(changes.mean(), abs=1e-9)
        assert one["over_people"]["groups"] == 5
        assert (one["better"], one["worse"]) == ((changes > 1e-9).sum(), (changes < -1e-9).sum())


def write_predictions(path: Path, right: dict[str, list[bool]]) -> Path:
    """``predictions.csv`` of two classes, with a row of each person for each entry."""
    rows = [(person, hit) for person, hits in right.items() for hit in hits]
    table = Predictions(
        ids=[f"clip-{number}" for number in range(len(rows))],
        subjects=[person for person, _ in rows],
        repeats=np.zeros(len(rows)),
        folds=np.zeros(len(rows)),
        labels=np.zeros(len(rows), dtype=int),
        probabilities=np.array([[0.9, 0.1] if hit else [0.2, 0.8] for _, hit in rows]),
        class_names=("a", "b"),
    )
    return table.write_csv(path)


def test_t_interval_over_people_by_hand(tmp_path: Path) -> None:
    # two seeds of a fold with anna and ben, one fold with carl; within a person seeds are averaged
    files = [
        write_predictions(tmp_path / "1.csv", {"anna": [True, True, False, False], "ben": [True, False]}),
        write_predictions(tmp_path / "2.csv", {"anna": [True, True, True, True], "ben": [True, False]}),
        write_predictions(tmp_path / "3.csv", {"carl": [True, True, True, False]}),
    ]
    first = accuracy_of_people(files)
    assert first == {"anna": 0.75, "ben": 0.5, "carl": 0.75}
    arms = [StudyArm(fraction=1.0, kind=kind, method="") for kind in ("mirror", "real")]
    results = [
        ArmResult(arm=arm, clips=1, people=people, trainings=3, errors=(), interval=None)
        for arm, people in zip(arms, (first, {"anna": 0.5, "ben": 0.5, "carl": 0.25}), strict=True)
    ]
    one = _contrast(*results, "primary")
    assert one.difference is not None and (one.better, one.worse) == (2, 0)
    # differences 0.25, 0, 0.5: mean 0.25, deviation 0.25, t(0.975, 2) = 4.302653
    interval, half = one.difference.interval, 4.302653 * 0.25 / np.sqrt(3)
    assert interval.groups == 3 and one.difference.role == "primary"
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.25, 0.25 - half, 0.25 + half), abs=1e-6)
    assert one.difference.p_value == pytest.approx(0.2254, abs=1e-4)  # t = sqrt(3), 2 degrees of freedom


def test_mixture_without_synthetic_clips_is_the_control(
    finished: Finished, store_path: Path, config: StudyConfig, tmp_path: Path
) -> None:
    only = replace(config, methods=["motiondiff"], mixture=MixtureConfig(shares=[0.0], pretrain=False))
    summary = augmentation_study(store_path, tmp_path / "study", only)
    assert not isinstance(summary, dict)
    clips = {row.arm.kind: row.clips for row in summary.rows}
    assert clips["chosen"] == clips["mirror"] == clips["real"] < clips["both"]
    texts: dict[str, list[str]] = {}
    for overrides, folder in cells_of(tmp_path / "study", "kind"):
        texts.setdefault(overrides["kind"], []).append((folder / "predictions.csv").read_text())
    assert texts["chosen"] == texts["mirror"] and len(texts["mirror"]) == config.folds * config.seeds
    # and they are other classifiers than those of real clips without mirror images, or with synthetic ones
    assert not set(texts["chosen"]) & {*texts["real"], *texts["both"]}


def cells_of(study: Path, key: str) -> list[tuple[dict[str, Any], Path]]:
    """Overrides and folder of each finished cell whose overrides have a key, in the order of fold and seed."""
    results = [(read_json(path), path.parent) for path in (study / "cells").rglob("result.json")]
    chosen = [(one["overrides"], one["seed"], folder) for one, folder in results if key in one["overrides"]]
    return [(one, folder) for one, _, folder in sorted(chosen, key=lambda cell: (cell[0]["fold"], cell[1]))]


def test_another_mixture_is_chosen_only_for_a_clear_gain() -> None:
    assert choose_mixture({"anna": [0.5, 0.6], "ben": [0.5, 0.5]}) == 0  # mean 0.05, standard error 0.05
    assert choose_mixture({"anna": [0.5, 0.7], "ben": [0.5, 0.6]}) == 1
    assert choose_mixture({"anna": [0.5, 0.7, 0.7], "ben": [0.5, 0.6, 0.6]}) == 1  # the first of equals
    assert choose_mixture({"anna": [0.5, 0.4], "ben": [0.5, 0.3]}) == 0
    assert choose_mixture({"anna": [0.1, 0.9]}) == 0 and choose_mixture({}) == 0  # a single person shows nothing


def test_confident_clips_are_sampled_more_often(store: MotionStore) -> None:
    rows = [int(np.flatnonzero(store.columns["action"] == code)[0]) for code in (0, 1)]
    real = ClipSet.from_store(store, rows=rows, class_names=store.actions).with_classes(store.actions[:2])
    further = replace(real.take([0, 0, 1]), ids=["x", "y", "z"], weights=np.array([0.9, 0.3, 0.5]))
    weights = sampling_weights(real.joined(further), 0.4)
    np.testing.assert_allclose(weights, [0.6, 0.6, 0.4 * 0.75, 0.4 * 0.25, 0.4])


def test_equal_time_is_that_of_the_probe(finished: Finished, config: StudyConfig) -> None:
    times = {"motiondiff": 0.2, "mdm": 0.1, "actor": 0.4}
    longer = replace(
        config, motiondiff=replace(config.motiondiff, train=replace(config.motiondiff.train, max_steps=600))
    )
    expected = {"motiondiff": 600, "sdedit 0.3": 600, "mdm": 600, "mdm-time": 1200, "actor": 600, "actor-time": 300}
    assert {method: steps_of(method, longer, times) for method in expected} == expected
    settings = generator_config("mdm-time", longer, 3, times)
    assert settings.train.max_steps == 1200 and settings.train.seed == config.mdm.train.seed + 3
    assert isinstance(settings, MotionDiffConfig) and settings.model.architecture == "mdm"
    # the study's own: steps of its generators are those of its probe
    out, result = finished
    probed = steps_of("mdm-time", config, read_json(out / "probe.json"))
    steps = {one["steps"] for one in result["generators"] if "mdm-time" in one["name"]}
    assert steps == {probed}


def test_budget_counts_every_training(finished: Finished, config: StudyConfig) -> None:
    out, result = finished
    counts = {
        "sets of motions": len(cells_of(out, "part")),
        "generators": len(list((out / "cells").glob("*/*/generator"))),
        "classifiers of rows": len(cells_of(out, "kind")),
        "pre-trainings": 0,
        "classifiers of filters": len(cells_of(out, "part")),
        # on each of two inner parts: share 0, share 0.5, and two for pre-training
        "classifiers of choices": config.folds * 2 * 4,
    }
    assert counts == {name: result["budget"][name] for name in counts} and counts["sets of motions"] == 12
    assert result["budget"]["hours"] >= 0


def test_estimate_trains_no_cell(store_path: Path, config: StudyConfig, tmp_path: Path) -> None:
    plan = augmentation_study(store_path, tmp_path / "study", config, estimate=True)
    assert isinstance(plan, dict) and plan["generators"] == 10 and not (tmp_path / "study" / "cells").exists()


def test_study_resumes(store_path: Path, config: StudyConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = replace(config, methods=["motiondiff"])
    ran: list[tuple[str, int]] = []
    execute = trial_run.execute_trial_run

    def killed(run: Any, cell: Any) -> Any:
        if len(ran) == 9:  # in the middle of a cell
            cell.folder.mkdir(parents=True)
            raise KeyboardInterrupt
        ran.append((cell.name, cell.seed))
        return execute(run, cell)

    out = tmp_path / "study"
    monkeypatch.setattr(trial_run, "execute_trial_run", killed)
    with pytest.raises(KeyboardInterrupt):
        augmentation_study(store_path, out, small)
    results = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    assert len(results) == len(ran) == 9

    def counted(run: Any, cell: Any) -> Any:
        ran.append((cell.name, cell.seed))
        return execute(run, cell)

    monkeypatch.setattr(trial_run, "execute_trial_run", counted)
    summary = augmentation_study(store_path, out, small)
    assert not isinstance(summary, dict)
    assert len(ran) == len(set(ran)) == len(list(out.rglob("result.json")))  # each cell once
    assert {path: path.stat().st_mtime_ns for path in results} == results
    done = len(ran)
    again = augmentation_study(store_path, out, small)
    assert not isinstance(again, dict) and again.to_dict() == summary.to_dict() and len(ran) == done
    more = augmentation_study(store_path, out, replace(small, seeds=3))
    assert not isinstance(more, dict) and len(ran) == done + small.folds * len(more.rows)
    for change in ({"subset_seed": 1}, {"primary": PrimaryConfig(fraction=0.5, first="real")}, {"folds": 3}):
        with pytest.raises(InputError, match="take another --out, or --overwrite"):
            augmentation_study(store_path, out, replace(small, **change))


def test_broken_generator_is_reported_and_the_rest_continues(
    store_path: Path, config: StudyConfig, tmp_path: Path
) -> None:
    # half precision needs a GPU: this generator cannot be trained here
    train = replace(config.actor.train, mixed_precision="fp16")
    hopeless = replace(config, methods=["actor"], chosen=[], actor=replace(config.actor, train=train))
    hopeless = replace(hopeless, primary=PrimaryConfig(fraction=0.5, first="real + synthetic (actor)"))
    (tmp_path / "study").mkdir()
    times = dict.fromkeys(["motiondiff", "mdm", "actor", "classifier"], 0.01)
    times |= {f"motion {name}": 0.01 for name in ("motiondiff", "mdm", "actor")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "probe", lambda *_: times)
        summary = augmentation_study(store_path, tmp_path / "study", hopeless)
    assert not isinstance(summary, dict)
    result = summary.to_dict()
    by_training = {row["training"]: row for row in result["rows"]}
    assert len(by_training["real"]["people"]) == 5 and not by_training["synthetic (actor)"]["people"]
    assert "generator actor: " in by_training["synthetic (actor)"]["errors"][0] and result["failed"] == 4
    assert "Cells that failed" in (tmp_path / "study" / "report.html").read_text()
    assert result["differences"][0]["over_people"] is None


def test_mirror_images_of_clips(store: MotionStore) -> None:
    clips = ClipSet.from_store(store, rows=[0, 1])
    images = clips.with_mirror_images("always")
    assert len(images) == 4 and not images.is_extra.any()
    for row in (0, 1):
        np.testing.assert_allclose(images.positions[2 + row], mirror(store[row]).positions, atol=1e-5)
    assert clips.with_mirror_images("never") is clips
    further = clips.joined(clips)
    assert len(further.with_mirror_images("auto")) == 6  # those of the further clips are not made


def sided_store(path: Path, sides: tuple[str, ...]) -> MotionStore:
    """Clips of waves with either hand, by three subjects."""
    path.mkdir()
    with StoreWriter(path) as writer:
        for number, (person, side, take) in enumerate(itertools.product("abc", sides, range(2))):
            motion = simulate_motion("wave", number, fps=10, subject=0)
            turned = Rotation.from_euler("z", number * 0.01).as_matrix().astype(np.float32)
            motion = replace(motion, subject=person, action=f"wave {side}", rotations=motion.rotations @ turned)
            writer.append(motion, clip_id=f"{person}{side}{take}")
        writer.finish(description={"split_by": "subject"})
    return MotionStore(path)


def test_mirror_is_refused_where_a_label_names_a_side(config: StudyConfig, tmp_path: Path) -> None:
    one_sided = sided_store(tmp_path / "one", ("left hand", "somehow"))
    always = replace(config, folds=3, classifier=replace(config.classifier, mirror="always"))
    with pytest.raises(InputError, match="'wave left hand' names a side, and 'wave right hand' is none of the actions"):
        augmentation_study(one_sided.path, tmp_path / "study", always)
    assert not (tmp_path / "study").exists()
    for sides in (("left hand", "somehow"), ("left hand", "right hand")):  # auto: labels name sides
        part = sided_store(tmp_path / sides[1], sides)
        clips = ClipSet.from_store(part)
        assert clips.with_mirror_images("auto") is clips
    exchanged = clips.with_mirror_images("always")
    names = np.array(exchanged.class_names)[exchanged.labels]
    half = len(clips)
    assert [name.replace("left", "right") if "left" in name else name.replace("right", "left")
            for name in names[:half]] == names[half:].tolist()  # fmt: skip


def test_without_mirror_images_real_clips_are_the_control(config: StudyConfig) -> None:
    arms = study_arms(config, mirrored=False)
    assert "real + mirror" not in {arm.training for arm in arms}
    first, second = primary_pair(config, arms)
    assert first.kind == CHOSEN and second.training == "real"


def write_clips(path: Path, clips: list[tuple[str, str | None, str]]) -> MotionStore:
    """A store of simulated clips given as (action, subject, split)."""
    path.mkdir()
    with StoreWriter(path) as writer:
        for number, (action, subject, _) in enumerate(clips):
            motion = replace(simulate_motion(action, number, fps=10, subject=0), subject=subject)
            writer.append(motion, clip_id=str(number))
        writer.finish(description={"split_by": "subject"}, splits=[split for _, _, split in clips])
    return MotionStore(path)


GOOD = [(action, person, split) for action in ("walk", "wave") for person, split in
        (("anna", "train"), ("anna", "train"), ("ben", "test"))]  # fmt: skip


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        ([*GOOD, ("walk", "anna", "test")], "subject 'anna' has clips on both sides"),
        ([*GOOD, ("run", "ben", "test")], "class 'run' has no clip to train on"),
        ([*GOOD, ("run", "anna", "train"), ("run", "ben", "test")], "class 'run' has a single clip to train on"),
        ([*GOOD, ("run", "anna", "train"), ("run", "anna", "train")], "class 'run' has no clip of the held-out"),
        ([clip for clip in GOOD if clip[2] == "train"], "4 clips to train on, 0 held out"),
    ],
)
def test_splits_that_cannot_be(clips: list[tuple[str, str, str]], words: str, tmp_path: Path) -> None:
    store = write_clips(tmp_path / "store", clips)
    with pytest.raises(InputError, match=words):
        augmentation_study(store.path, tmp_path / "study", StudyConfig(folds=1))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([("run", "ben", "test")], "class 'run' has no clip to train on"),
        ([("run", "anna", "train"), ("run", "ben", "test")], "class 'run' has a single clip to train on"),
    ],
)
def test_a_filter_needs_clips_of_every_class(more: list[tuple[str, str, str]], words: str, tmp_path: Path) -> None:
    store = write_clips(tmp_path / "store", [*GOOD, *more])
    with pytest.raises(InputError, match=words):
        MotionFilter(store, FilterConfig(), ClassifierConfig(steps=1))


def test_fractions_of_the_same_clips_are_left_out(
    store: MotionStore, config: StudyConfig, caplog: pytest.LogCaptureFixture
) -> None:
    many = replace(config, fractions=[0.1, 1.0, 0.01, 0.5])
    with caplog.at_level("INFO"):
        assert distinct_fractions(store, people_folds(store, many), many) == [0.5, 1.0]
    assert "0.1: left out of fractions" in caplog.text and "0.01: left out" in caplog.text


def test_held_out_subjects_may_be_named(store: MotionStore, config: StudyConfig) -> None:
    real, test = split_real_and_test(store, ["simulated-2", "simulated-0"])
    names = {store.subjects[code] for code in store.columns["subject"][test]}
    assert names == {"simulated-0", "simulated-2"} and len(real) + len(test) == len(store)
    (fold,) = people_folds(store, replace(config, test_subjects=["simulated-2", "simulated-0"]))
    np.testing.assert_array_equal(fold.test, test)
    with pytest.raises(InputError, match="unknown test subject 'simulated-9'"):
        split_real_and_test(store, ["simulated-9"])
    with pytest.raises(InputError, match="0 clips to train on"):
        split_real_and_test(store, store.subjects)


def test_pretraining_on_the_studied_set_is_refused(store: MotionStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds simulated, the format of the studied store"):
        check_pretraining(store, str(write_subset(store, store.select("train"), tmp_path / "part").path))
    other = write_clips(tmp_path / "other", GOOD)
    assert check_pretraining(store, str(other.path)).fingerprint == other.fingerprint


def test_cross_set_is_trained_from_other_sets(
    store_path: Path, store: MotionStore, config: StudyConfig, tmp_path: Path
) -> None:
    other = write_clips(tmp_path / "other", GOOD)
    first = "real + synthetic (cross-set)"
    small = replace(
        config,
        methods=["motiondiff", "cross-set"],
        chosen=[],
        seeds=1,
        pretraining=str(other.path),
        pretraining_steps=2,
        primary=PrimaryConfig(fraction=0.5, first=first),
    )
    summary = augmentation_study(store_path, tmp_path / "study", small)
    assert not isinstance(summary, dict) and not any(row.errors for row in summary.rows)
    assert summary.contrasts[0].first.training == first and summary.contrasts[0].difference is not None
    cells = tmp_path / "study" / "cells"
    (start,) = cells.glob("pre-training*/seed-0/generator")
    assert read_json(start / "environment.json")["data_fingerprint"] == other.fingerprint
    sources = [folder for one, folder in cells_of(tmp_path / "study", "part") if one["method"] == "cross-set"]
    assert len(sources) == config.folds
    for folder in sources:
        environment = read_json(folder / "generator" / "environment.json")
        assert environment["init_from"] == str(start.absolute())
        assert environment["data_fingerprint"] == MotionStore(folder / "real").fingerprint


@pytest.mark.parametrize(
    "change",
    [{"fractions": []}, {"fractions": [0.5, 0.5]}, {"fractions": [1.5]}, {"methods": ["gan"]}, {"seeds": 0},
     {"methods": ["cross-set"]}, {"chosen": ["sdedit"]}, {"noise_strengths": [1.0]}, {"folds": 0}],
)  # fmt: skip
def test_settings_that_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        StudyConfig(**change)
    with pytest.raises(InputError, match="needs 0, the control"):
        MixtureConfig(shares=[0.25, 0.5])


def test_primary_comparison_by_default(config: StudyConfig) -> None:
    plain = replace(config, fractions=[0.5, 0.25], primary=PrimaryConfig())
    first, second = primary_pair(plain, study_arms(plain, mirrored=True))
    assert (first.fraction, first.training, second.training) == (
        0.25, "real + synthetic (motiondiff), chosen", "real + mirror",
    )  # fmt: skip
    others = replace(plain, methods=["actor", "mdm"])  # the chosen method is not compared
    first, _ = primary_pair(others, study_arms(others, mirrored=True))
    assert first.training == "real + synthetic (actor)"


def test_primary_comparison_must_be_of_rows(config: StudyConfig) -> None:
    arms = study_arms(config, mirrored=True)
    with pytest.raises(InputError, match=r"unknown primary\.first 'real \+ synthetic \(gan\)'"):
        primary_pair(replace(config, primary=PrimaryConfig(fraction=0.5, first="real + synthetic (gan)")), arms)
    with pytest.raises(InputError, match=r"unknown primary\.fraction '0\.3'"):
        primary_pair(replace(config, primary=PrimaryConfig(fraction=0.3)), arms)
