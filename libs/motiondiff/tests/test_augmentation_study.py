"""The study: fractions that nest, rows that see nothing else, resuming, paired differences by hand, bad splits."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from motiondiff.augmentation.study_arms import StudyArm, study_arms
from motiondiff.augmentation.subsets import sample_subset, split_real_and_test, write_subset

from icube_common.errors import InputError
from icube_common.training import TrainConfig
from motiondiff.augmentation import study as study_module
from motiondiff.augmentation.config import FilterConfig, StudyConfig
from motiondiff.augmentation.filter import MotionFilter
from motiondiff.augmentation.study import augmentation_study, run_source
from motiondiff.config import ActorConfig, ActorModelConfig, ClassifierConfig, DataConfig, MotionDiffConfig
from motiondiff.data.store import MotionStore
from motiondiff.data.store_writer import StoreWriter
from motiondiff.data.synthetic import simulate_motion

ConfigMaker = Callable[..., MotionDiffConfig]


@pytest.fixture(scope="module")
def config(tiny_config: ConfigMaker) -> StudyConfig:
    return StudyConfig(
        fractions=[0.5, 1.0],
        seeds=2,
        motiondiff=tiny_config(train={"max_steps": 1}),
        actor=ActorConfig(
            train=TrainConfig(max_steps=1, batch_size=4, device="cpu", report_to="none"),
            model=ActorModelConfig(num_layers=1, width=16, num_heads=2, feedforward=16),
            data=DataConfig(max_frames=32, min_frames=8),
        ),
        filter=FilterConfig(per_class=2, oversample_factor=1, steps=2, fill=True, copy_threshold=0),
        classifier=ClassifierConfig(model="gru", frames=16, steps=3, batch_size=8),
    )


@pytest.fixture(scope="module")
def finished(
    store_path: Path, config: StudyConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("study") / "study"
    return out, augmentation_study(store_path, out, config).to_dict()


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
    assert not np.array_equal(shares[2], sample_subset(store, real, 0.5, seed=1))


def test_a_subset_is_the_same_clips(store: MotionStore, tmp_path: Path) -> None:
    rows = np.array([3, 11, 20])
    part = write_subset(store, rows, tmp_path / "part", {"fraction": 0.1})
    assert part.clip_ids == [store.clip_ids[row] for row in rows] and part.header["subset_of"] == store.fingerprint
    assert part.info()["splits"] == {"train": 3}
    for number, row in enumerate(rows):
        assert part[number].action == store[row].action and part[number].subject == store[row].subject
        np.testing.assert_allclose(part[number].positions, store[row].positions, atol=1e-5)


def test_all_rows_are_there(config: StudyConfig, finished: tuple[Path, dict[str, Any]]) -> None:
    out, result = finished
    rows = study_arms(config)
    assert [row.training for row in rows[:7]] == [
        "real", "synthetic (motiondiff)", "real + synthetic (motiondiff)", "synthetic (sdedit)",
        "real + synthetic (sdedit)", "synthetic (actor)", "real + synthetic (actor)",
    ]  # fmt: skip
    assert len(result["rows"]) == 14 and result["failed"] == 0
    # variations come from the model of the same share
    trained = sorted(path.parent.parent.name for path in (out / "cells").glob("*/*/generator"))
    assert len(trained) == 4 and not any("sdedit" in name for name in trained)
    steps = {row["name"]: row["steps"] for row in result["generators"]}
    assert steps["0.5 generator sdedit"] == steps["0.5 generator motiondiff"] == 1
    clips = {(row["fraction"], row["training"]): row["clips"] for row in result["rows"]}
    assert clips[1.0, "synthetic (motiondiff)"] == 10
    for fraction in (0.5, 1.0):
        assert clips[fraction, "real + synthetic (actor)"] == clips[fraction, "real"] + 10
    for name in ("table", "differences", "generators"):
        assert all((out / f"{name}.{kind}").is_file() for kind in ("md", "tex", "csv"))
    assert (out / "plot.svg").is_file() and (out / "plot.png").is_file()
    page = (out / "report.html").read_text()
    assert "real + synthetic (motiondiff)" in page and "Paired differences" in page


def test_predictions_are_of_held_out_subjects(finished: tuple[Path, dict[str, Any]], store: MotionStore) -> None:
    out, result = finished
    files = list((out / "cells").rglob("predictions.csv"))
    assert len(files) == 2 * len(result["rows"])
    test = {store.clip_ids[clip] for clip in store.select("test")}
    for file in files:
        with file.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        assert {row["id"] for row in rows} == test and {row["subject"] for row in rows} == set(result["test_subjects"])


def test_differences_are_those_of_the_values(finished: tuple[Path, dict[str, Any]]) -> None:
    _, result = finished
    values = {(row["fraction"], row["training"]): row["values"] for row in result["rows"]}
    for one in result["differences"]:
        first, second = (values[one["fraction"], one[name]] for name in ("first", "second"))
        by_hand = np.mean([first[seed] - second[seed] for seed in first])
        assert one["over_seeds"]["mean"] == pytest.approx(by_hand, abs=1e-9)
        assert one["over_subjects"]["mean"] == pytest.approx(by_hand, abs=1e-9)
    pairs = [(one["first"], one["second"]) for one in result["differences"] if one["fraction"] == 0.5]
    assert ("real + synthetic (motiondiff)", "real") in pairs and (
        "synthetic (motiondiff)",
        "synthetic (actor)",
    ) in pairs
    assert ("real + synthetic (sdedit)", "real + synthetic (actor)") in pairs


class Spy:
    """Every row of the given store that is read, whoever reads it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: set[int] = set()
        self.others: set[Path] = set()
        rows = MotionStore.frames

        def spied(store: MotionStore, clip: int, start: int = 0, stop: int | None = None) -> np.ndarray:
            if store.path.resolve() == path.resolve():
                self.read.add(int(clip))
            else:
                self.others.add(store.path)
            return rows(store, clip, start, stop)

        monkeypatch.setattr(MotionStore, "frames", spied)


@pytest.mark.parametrize("method", ["motiondiff", "sdedit", "actor"])
@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_generator_filter_and_statistics_read_the_rows_fraction_alone(
    method: str, fraction: float, store_path: Path, store: MotionStore, config: StudyConfig, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real, _ = split_real_and_test(store)
    wanted = set(sample_subset(store, real, fraction, config.subset_seed).tolist())
    spy = Spy(store_path, monkeypatch)
    tmp_path.joinpath("cell").mkdir()
    overrides = {"fraction": fraction, "method": method}
    run_source(overrides, 0, tmp_path / "cell", data=str(store_path), config=config)
    assert spy.read == wanted
    assert {path.name for path in spy.others} == {"real"}  # the share itself, and no third place
    part = MotionStore(tmp_path / "cell" / "real")
    assert set(part.clip_ids) == {store.clip_ids[clip] for clip in wanted}


@pytest.mark.parametrize("real", [True, False])
def test_classifier_reads_its_arm_and_the_test_clips(
    real: bool, store_path: Path, store: MotionStore, config: StudyConfig, finished: tuple[Path, dict[str, Any]],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pool, test = split_real_and_test(store)
    share = set(sample_subset(store, pool, 0.5, config.subset_seed).tolist()) if real else set()
    spy = Spy(store_path, monkeypatch)
    settings = StudyArm(fraction=0.5, method="motiondiff", real=real).settings()
    study_module.run_arm(settings, 0, tmp_path, study=str(finished[0].absolute()), data=str(store_path), config=config)
    assert spy.read == share | set(test.tolist())


def test_study_resumes(
    finished: tuple[Path, dict[str, Any]], store_path: Path, config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = finished
    ran: list[tuple[str, int]] = []
    execute = study_module.execute_trial_run

    def counted(run: Any, cell: Any) -> Any:
        ran.append((cell.name, cell.seed))
        return execute(run, cell)

    monkeypatch.setattr(study_module, "execute_trial_run", counted)
    assert augmentation_study(store_path, out, config).to_dict() == result and ran == []
    victim = next(path for path in (out / "cells").rglob("result.json") if "seed-1" in str(path))
    victim.unlink()  # as if it had been interrupted
    assert augmentation_study(store_path, out, config).to_dict() == result and len(ran) == 1
    more = augmentation_study(store_path, out, replace(config, seeds=3)).to_dict()
    assert len(ran) == 1 + len(result["rows"]) and all(len(row["values"]) == 3 for row in more["rows"])
    with pytest.raises(InputError, match="take another --out, or --overwrite"):
        augmentation_study(store_path, out, replace(config, subset_seed=1))


def test_broken_generator_is_reported_and_the_rest_continues(
    store_path: Path, config: StudyConfig, tmp_path: Path
) -> None:
    # half precision needs a GPU: this generator cannot be trained here
    train = replace(config.actor.train, mixed_precision="fp16")
    hopeless = replace(config, fractions=[0.5], methods=["actor"], actor=replace(config.actor, train=train))
    result = augmentation_study(store_path, tmp_path / "study", hopeless).to_dict()
    by_training = {row["training"]: row for row in result["rows"]}
    assert len(by_training["real"]["values"]) == 2 and not by_training["synthetic (actor)"]["values"]
    assert "generator: " in by_training["synthetic (actor)"]["errors"][0] and result["failed"] == 2
    assert "Cells that failed" in (tmp_path / "study" / "report.html").read_text()


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
        augmentation_study(store.path, tmp_path / "study")
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


def test_fractions_of_the_same_clips_are_refused(store_path: Path, config: StudyConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fractions 0\.01 and 0\.1 draw the same 10 of \d+ clips, at least 2 of each"):
        augmentation_study(store_path, tmp_path / "study", replace(config, fractions=[0.1, 1.0, 0.01]))
    assert not (tmp_path / "study").exists()


def test_held_out_subjects_may_be_named(store: MotionStore) -> None:
    real, test = split_real_and_test(store, ["simulated-2", "simulated-0"])
    names = {store.subjects[code] for code in store.columns["subject"][test]}
    assert names == {"simulated-0", "simulated-2"} and len(real) + len(test) == len(store)
    with pytest.raises(InputError, match="unknown test subject 'simulated-9'"):
        split_real_and_test(store, ["simulated-9"])
    with pytest.raises(InputError, match="0 clips to train on"):
        split_real_and_test(store, store.subjects)


@pytest.mark.parametrize("change", [{"fractions": []}, {"fractions": [0.5, 0.5]}, {"fractions": [1.5]},
                                    {"methods": ["gan"]}, {"seeds": 1}])  # fmt: skip
def test_settings_that_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        StudyConfig(**change)
