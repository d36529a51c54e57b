"""The whole evaluation on a tiny run: figures, files, the same again, copies called out, wrong input refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icube_common.errors import InputError
from icube_common.evaluation import Predictions
from motiondiff.cli import main
from motiondiff.config import ClassifierConfig, EvaluateOptions
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.readers.base import Clip
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion
from motiondiff.evaluation import MotionEvaluator, evaluate_sets, movement, stance
from motiondiff.evaluation.comparison import TARGETS
from motiondiff.evaluation.metrics import MEANING
from motiondiff.evaluation.physics import FIGURES
from motiondiff.evaluation.runner import evaluate, fit_evaluators, held_out_subjects, real_clips
from motiondiff.recognition import ActionClassifier
from motiondiff.skeleton.mirror import mirror_positions
from motiondiff.training.diffusion import check_same_data

TINY = ClassifierConfig(frames=12, steps=10, batch_size=8, ema_decay=0.9)
OPTIONS = EvaluateOptions(seeds=2, per_action=2, steps=2, classifier=TINY)
ABOUT = {"format": "simulated", "source": "tests", "simulated": True}


@pytest.fixture(scope="module")
def evaluator(store: MotionStore) -> MotionEvaluator:
    train, held_out = real_clips(store, OPTIONS)
    return fit_evaluators(train, held_out, OPTIONS)[0]


@pytest.fixture(scope="module")
def evaluated(run_path: Path, store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    out = tmp_path_factory.mktemp("evaluated") / "out"
    yield evaluate(run_path, store_path, out, OPTIONS), out


def test_every_figure_stands_beside_its_floor(evaluated: Any, store: MotionStore) -> None:
    result, out = evaluated
    names = {*MEANING, *FIGURES, *stance.FIGURES}
    assert names <= set(result) and names == set(result["real"])
    for name in names:
        for metric in (result[name], result["real"][name]):
            assert set(metric) >= {"mean", "ci95"} and len(metric["ci95"]) == 2
            if metric["mean"] is None:
                assert metric["note"]
            else:
                assert math.isfinite(metric["mean"])
    low, high = result["accuracy"]["ci95"]
    assert low <= result["accuracy"]["mean"] <= high
    assert result["fid"]["mean"] is None and "needs 300" in result["fid"]["note"]
    assert result["counts"]["generated"] == 10 and result["counts"]["training"] == store.info()["splits"]["train"]
    assert set(result["targets"]) == set(TARGETS)
    assert set(result["movement"]["training"]) == set(store.actions)
    assert set(result["movement"]["training"]["wave"]) == set(movement.FIGURES)
    for name in ("kid", "precision", "recall"):
        assert len(result[name]["folds"]) == len(result["real"][name]["folds"]) == result["counts"]["extractors"] == 3
    assert result["bone_length_drift"]["mean"] < 1e-4 and result["simulated"] is True
    assert json.loads((out / "metrics.json").read_text())["kid"] == result["kid"]


def test_files_hold_the_reported_metrics(evaluated: Any, store: MotionStore) -> None:
    result, out = evaluated
    predictions = Predictions.read_csv(out / "predictions.csv")
    assert len(predictions) == 20 and set(predictions.repeats) == {0, 1}
    shares = [
        np.mean((predictions.predicted == predictions.labels)[(predictions.labels == c) & (predictions.repeats == r)])
        for r in range(2)
        for c in range(5)
    ]
    assert result["accuracy"]["mean"] == pytest.approx(np.mean(shares))
    for name, model in (("extractor", "gru"), ("accuracy", "st-gcn")):
        classifier = ActionClassifier.load(out / "evaluator" / f"{name}-2")
        assert classifier.class_names == tuple(store.actions) and classifier.config.model == model
    assert (
        result["settings"]["accuracy_classifier"]["model"] == "st-gcn"
        and result["settings"]["accuracy_classifier"]["seed"] == 1000
    )
    page = (out / "report.html").read_text()
    assert "not recordings of people" in page and page.count("<img") == 3 + 2 * 5 + 5
    for words in ("Targets", "Movement", "Memorisation", "within_class_diversity", "nearest training clips"):
        assert words in page
    assert len(list((out / "sheets").glob("*.png"))) == 10


def test_the_same_again_gives_the_same_figures(
    evaluated: Any, run_path: Path, store_path: Path, tmp_path: Path
) -> None:
    result, _ = evaluated
    again = evaluate(run_path, store_path, tmp_path / "again", OPTIONS)
    varying = {"seconds", "predictions", "report", "environment"}
    assert {k: v for k, v in again.items() if k not in varying} == {k: v for k, v in result.items() if k not in varying}


def test_training_clips_given_back_are_called_out(evaluator: MotionEvaluator) -> None:
    result, _ = evaluate_sets([evaluator.train.clips, evaluator.train.clips], evaluator)
    assert result["copies"]["mean"] == 1 and result["nearest_training_median"]["mean"] < 1e-6
    assert not result["targets"]["below_held_out_p5"]["met"]
    [note] = result["warnings"]
    count = 2 * len(evaluator.train.clips)
    assert note.startswith(f"verbatim copies: {count} of {count} motions (0 of them mirrored)")
    # what is given back moves as it should, which is why movement alone is not enough
    assert result["targets"]["hands_1-4hz_ratio"]["value"] == 1


def test_mirrored_training_clips_are_copies(evaluator: MotionEvaluator) -> None:
    train = evaluator.train.clips
    order = train.skeleton.mirror_indices
    mirrored = replace(train, positions=[mirror_positions(clip, order) for clip in train.positions])
    result, _ = evaluate_sets([mirrored], evaluator)
    assert result["copies"]["mean"] == 1 and result["nearest_training_median"]["mean"] < 1e-6
    assert f"({len(train)} of them mirrored)" in result["warnings"][0]


def test_held_out_clips_evaluated_as_generated(evaluator: MotionEvaluator) -> None:
    """A perfect generator: every ratio is one, no copy, and KID against itself is at or below zero."""
    result, _ = evaluate_sets([evaluator.held_out.clips] * 2, evaluator)
    assert result["warnings"] == [] and result["targets"]["below_held_out_p5"]["met"]
    for name in ("within_class_diversity_ratio", "slip_ratio"):
        assert result["targets"][name]["value"] == pytest.approx(1) and result["targets"][name]["met"]
    for name in ("hands_1-4hz_ratio", "jerk_ratio"):
        assert result["targets"][name]["held_out"]["value"] == pytest.approx(1)
    assert result["kid"]["mean"] <= 0 < result["real"]["kid"]["mean"]
    assert result["precision"]["mean"] == result["recall"]["mean"] == 1


def test_a_class_that_collapses_is_seen(evaluator: MotionEvaluator) -> None:
    first = [int(np.flatnonzero(evaluator.held_out.clips.labels == label)[0]) for label in range(5)]
    result, _ = evaluate_sets([evaluator.held_out.clips.take(np.repeat(first, 3))] * 2, evaluator)
    assert result["within_class_diversity"]["mean"] == pytest.approx(0, abs=1e-9)
    assert not result["targets"]["within_class_diversity_ratio"]["met"]


@pytest.mark.parametrize(("left", "words"), [(0, "has no clip generated"), (1, "has a single clip generated")])
def test_sets_without_enough_of_a_class_are_refused(left: int, words: str, evaluator: MotionEvaluator) -> None:
    clips = evaluator.held_out.clips
    rows = [*np.flatnonzero(clips.labels != 2), *np.flatnonzero(clips.labels == 2)[:left]]
    with pytest.raises(InputError, match=words):
        evaluate_sets([clips.take(rows)], evaluator)


def small_store(path: Path, kept: dict[str, int], *, shared: bool = False) -> Path:
    """Six clips of each action by three people; of the third person, who is held out, ``kept`` clips."""
    clips = []
    for action in ("walk", "run", "wave"):
        for subject in range(3):
            for number in range(kept.get(action, 2) if subject == 2 else 2):
                motion = simulate_motion(action, number, fps=10, subject=subject)
                clips.append(Clip(f"{action}-{subject}-{number}", motion))
    options = PrepareOptions(split_by="subject", test_groups=("simulated-2",))
    write_store(iter(clips), path, options, description=ABOUT)
    if shared:  # a damaged index: a clip of the held-out person is said to be for training
        with np.load(path / "clips.npz") as archive:
            columns = dict(archive)
        columns["split"][np.flatnonzero(columns["subject"] == 2)[0]] = 0
        np.savez(path / "clips.npz", **columns)
    return path


@pytest.mark.parametrize(
    ("kept", "shared", "words"),
    [
        ({"walk": 0}, False, "class 'walk' has no clip held out, at least 2 are needed"),
        ({"wave": 1}, False, "class 'wave' has a single clip held out, at least 2 are needed"),
        ({}, True, "subject 'simulated-2' is in the training and in the test clips"),
    ],
)
def test_stores_that_cannot_be_evaluated(
    kept: dict[str, int], shared: bool, words: str, run_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = small_store(tmp_path / "store", kept, shared=shared)
    with pytest.raises(InputError, match=words):
        real_clips(MotionStore(data), OPTIONS)
    run = tmp_path / "run"
    shutil.copytree(run_path, run)
    record = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps({**record, "data_fingerprint": MotionStore(data).fingerprint}))
    assert main(["evaluate", str(run), "--data", str(data), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("motiondiff: ") and words in error and "\n" not in error
    assert not (tmp_path / "out").exists()


def test_small_classes_are_left_out_on_request(tmp_path: Path) -> None:
    store = MotionStore(small_store(tmp_path / "store", {"walk": 1}))
    train, held_out = real_clips(store, replace(OPTIONS, min_clips=2))
    assert train.class_names == held_out.class_names == ("run", "wave")
    with pytest.raises(InputError, match="--min-clips 5: 0 classes"):
        real_clips(store, replace(OPTIONS, min_clips=5))


def test_held_out_people_in_turn(evaluator: MotionEvaluator, store: MotionStore) -> None:
    """Validation and test people each by themselves, and the mean; a class that a person lacks is left out for them."""
    options = replace(OPTIONS, split="all")
    _, held_out = real_clips(store, options)
    assert set(held_out.splits) == {"validation", "test"}
    ann = np.arange(len(held_out))
    bob = [*np.flatnonzero(np.isin(held_out.labels, (1, 2, 3)))[1:], np.flatnonzero(held_out.labels == 0)[0]]
    names = ["ann"] * len(ann) + ["bob"] * len(bob)
    people = held_out_subjects(replace(held_out.take([*ann, *bob]), subjects=names))
    assert [set(clips.subjects) for clips in people] == [{"ann"}, {"bob"}]
    assert (people[0].counts >= 2).all() and (people[1].counts > 0).tolist() == [False, True, True, True, False]
    evaluators = [evaluator.with_held_out(clips) for clips in people]
    sets = [people[0], people[0]]
    result, _ = evaluate_sets(sets, evaluators)
    alone, _ = evaluate_sets(sets, evaluators[0])
    first, second = result["subjects"].values()
    assert (first["classes"], second["classes"]) == (5, 3)
    for name in ("kid", "accuracy", "below_held_out_p5", "within_class_diversity"):
        assert result[name]["mean"] == pytest.approx((first["generated"][name] + second["generated"][name]) / 2)
        assert alone[name]["mean"] == pytest.approx(first["generated"][name])
        assert result["real"][name]["mean"] == pytest.approx((first["real"][name] + second["real"][name]) / 2)
    assert first["targets"]["slip_ratio"]["value"] == pytest.approx(1)
    assert result["real"]["accuracy"]["over"] == "held-out people"


def test_a_person_without_two_clips_of_any_class(store: MotionStore) -> None:
    _, held_out = real_clips(store, OPTIONS)
    few = held_out.take([int(np.flatnonzero(held_out.labels == label)[0]) for label in range(5)])
    with pytest.raises(InputError, match="has no class of 2 clips; use --split test"):
        held_out_subjects(few)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy_model": "gru"}, "accuracy_model=gru: is the network of the extractors .* choose st-gcn"),
        ({"accuracy_seed": 0}, "accuracy_seed=0: is evaluator_seed"),
    ],
)
def test_the_independent_classifier_is_another_network(changes: dict[str, Any], words: str) -> None:
    assert (
        OPTIONS.accuracy_classifier.model == "st-gcn"
        and replace(OPTIONS, classifier=OPTIONS.accuracy_classifier).accuracy_classifier.model == "gru"
    )
    with pytest.raises(InputError, match=words):
        replace(OPTIONS, **changes)


def test_only_the_runs_own_data_will_do(run_path: Path, store: MotionStore, tmp_path: Path) -> None:
    check_same_data(run_path, store)
    check_same_data(run_path / "model", store)
    other = MotionStore(small_store(tmp_path / "store", {}))
    with pytest.raises(InputError, match=r"is not the data that .* was trained on"):
        check_same_data(run_path, other)
    shutil.copytree(run_path / "model", tmp_path / "alone" / "model")
    with pytest.raises(InputError, match=r"has no environment\.json"):
        check_same_data(tmp_path / "alone" / "model", store)


def test_for_people(run_path: Path, store_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        f"evaluate {run_path} --data {store_path} --out {tmp_path / 'out'} --seeds 1 --per-action 2 --steps 2 --quiet"
    )
    assert main([*words.split(), "classifier.steps=3", "classifier.frames=8"]) == 0
    out = capsys.readouterr().out
    assert "targets:" in out and "within_class_diversity" in out and str(tmp_path / "out" / "report.html") in out
    words = f"train-classifier --train {store_path} --test {store_path} --out {tmp_path / 'rec'} --model st-gcn --quiet"
    assert main([*words.split(), "steps=3", "frames=8"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("accuracy ") and "walk: " in out and str(tmp_path / "rec" / "predictions.csv") in out
