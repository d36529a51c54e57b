"""Action classifiers: learning, reproducibility, saving and loading, refused clips."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from motiondiff.config import ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.readers.base import Clip
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_clips, simulate_motion
from motiondiff.recognition import ActionClassifier, fit_classifier
from motiondiff.recognition.features import resample
from motiondiff.recognition.train_and_test import train_and_test

TINY = ClassifierConfig(frames=12, steps=40, batch_size=16, ema_decay=0.9)
ABOUT = {"format": "simulated", "source": "tests", "simulated": True}


@pytest.mark.parametrize("model", ["gru", "st-gcn"])
def test_it_learns_repeats_itself_and_comes_back(model: str, store: MotionStore, tmp_path: Path) -> None:
    config = replace(TINY, model=model)
    train, test = (ClipSet.from_store(store, split=split) for split in ("train", "test"))
    classifier = fit_classifier(train, config, 1)
    probabilities = classifier.predict(test)
    assert probabilities.shape == (len(test), 5)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == test.labels).mean() > 0.7  # chance is 0.2
    assert classifier.features(test).shape == (len(test), 30 if model == "gru" else 64)
    again = fit_classifier(train, config, 1)
    np.testing.assert_array_equal(again.predict(test), probabilities)
    assert not np.array_equal(fit_classifier(train, config, 2).predict(test), probabilities)
    classifier.save(tmp_path / "saved")
    loaded = ActionClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict(test), probabilities)
    assert loaded.class_names == classifier.class_names
    # a clip's answer does not depend on what else is asked
    np.testing.assert_allclose(loaded.predict(test.take([3])), probabilities[3:4], atol=1e-6)


def test_damaged_files_are_refused(store: MotionStore, tmp_path: Path) -> None:
    fit_classifier(ClipSet.from_store(store), replace(TINY, steps=2)).save(tmp_path / "saved")
    (tmp_path / "saved" / "model.safetensors").write_bytes(b"12345678")
    with pytest.raises(InputError, match="is no saved classifier, or broken"):
        ActionClassifier.load(tmp_path / "saved")
    with pytest.raises(InputError, match="cannot be read"):
        ActionClassifier.load(tmp_path)


def test_clips_of_another_kind_are_refused(store: MotionStore) -> None:
    clips = ClipSet.from_store(store)
    classifier = fit_classifier(clips, replace(TINY, steps=2))
    with pytest.raises(InputError, match="20 fps, it was trained on 10"):
        classifier.predict(replace(clips, fps=20.0))


@pytest.mark.parametrize(("kept", "words"), [(0, "'walk' has no clip to train on"), (1, "'walk' has a single clip")])
def test_small_classes_are_refused(kept: int, words: str, store: MotionStore) -> None:
    clips = ClipSet.from_store(store)
    walk = clips.class_names.index("walk")
    rows = [*np.flatnonzero(clips.labels != walk), *np.flatnonzero(clips.labels == walk)[:kept]]
    with pytest.raises(InputError, match=words):
        fit_classifier(clips.take(rows), TINY)


def test_one_store_is_split_by_its_subjects(store_path: Path, tmp_path: Path) -> None:
    splits = MotionStore(store_path).info()["splits"]
    result = train_and_test(store_path, store_path, tmp_path / "out", replace(TINY, steps=4), seeds=2)
    assert (
        result["training_clips"] == splits["train"] and result["test_clips"] == splits["test"] and result["seeds"] == 2
    )
    assert not set(result["training_subjects"]) & set(result["test_subjects"])
    with (tmp_path / "out" / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 2 * splits["test"] and {row["repeat"] for row in rows} == {"0", "1"}
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert result["top1"]["mean"] == pytest.approx(right)
    assert ActionClassifier.load(result["classifier"]).config.steps == 4


def test_generated_clips_may_be_added(store_path: Path, tmp_path: Path) -> None:
    motions = [simulate_motion(action, 90 + n, fps=10, subject=9) for action in ("walk", "run") for n in range(2)]
    clips = [Clip(f"made-{n}", replace(motion, subject=None)) for n, motion in enumerate(motions)]
    extra = write_store(iter(clips), tmp_path / "extra", PrepareOptions(), description=ABOUT)
    result = train_and_test(store_path, store_path, tmp_path / "out", replace(TINY, steps=2), extra=extra.path)
    assert result["training_clips"] == MotionStore(store_path).info()["splits"]["train"] + 4


def test_a_subject_on_both_sides_is_refused(store_path: Path, tmp_path: Path) -> None:
    other = write_store(
        simulate_clips(10, fps=10, subjects=2, seed=50), tmp_path / "other", PrepareOptions(), description=ABOUT
    )
    with pytest.raises(InputError, match="subject 'simulated-0' is in the training and in the test clips"):
        train_and_test(store_path, other.path, tmp_path / "out", TINY)
    with pytest.raises(InputError, match="is in the training and in the test clips"):
        train_and_test(store_path, store_path, tmp_path / "out", TINY, extra=store_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("ICUBE_SLOW"), reason="minutes: ICUBE_SLOW=1 runs it")
def test_utkinect_each_subject_left_out(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Better than the plain nearest neighbour on 16 root-centred frames, with the same clips on either side."""
    from motiondiff.data.prepare import prepare

    store = prepare("utkinect", real_data("utkinect"), tmp_path / "store", PrepareOptions(fps=20))
    clips = ClipSet.from_store(store)
    subjects = np.array(clips.subjects)
    moments = [resample(clip, 16) for clip in clips.positions]
    points = np.stack([(found - found[:, :1]).ravel() for found in moments])
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    apart[subjects[:, None] == subjects[None]] = np.inf
    plain = (clips.labels[apart.argmin(axis=1)] == clips.labels).mean()
    right = []
    for name in np.unique(subjects):
        classifier = fit_classifier(clips.take(np.flatnonzero(subjects != name)), ClassifierConfig())
        left_out = clips.take(np.flatnonzero(subjects == name))
        right.extend(classifier.predict(left_out).argmax(axis=1) == left_out.labels)
    assert np.mean(right) > plain > 0.8


def test_config_is_checked() -> None:
    with pytest.raises(InputError, match="unknown value of model 'stgcn': did you mean 'st-gcn'"):
        ClassifierConfig(model="stgcn")
