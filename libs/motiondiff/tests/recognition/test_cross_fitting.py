"""Cross-fitting over subjects: no network is tested on subjects of its training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from motiondiff.config import ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.recognition import cross_fitting
from motiondiff.recognition.cross_fitting import fit_cross_fitted, out_of_fold, subject_folds

TINY = ClassifierConfig(frames=8, steps=2, batch_size=8)


def clips_of(store: MotionStore, subjects: list[str] | None = None) -> ClipSet:
    clips = ClipSet.from_store(store, split="train")
    return (
        clips
        if subjects is None
        else replace(clips, subjects=[subjects[row % len(subjects)] for row in range(len(clips))])
    )


def test_each_subject_is_left_out_once(store: MotionStore) -> None:
    clips = clips_of(store)
    folds = subject_folds(clips)
    assert sorted(subjects for subjects, _ in folds) == [(name,) for name in sorted(set(clips.subjects))]
    assert sorted(np.concatenate([rows for _, rows in folds])) == list(range(len(clips)))
    for subjects, rows in folds:
        assert {clips.subjects[row] for row in rows} == set(subjects)


def test_many_subjects_make_five_folds_of_similar_size(store: MotionStore) -> None:
    names = ["large"] * 8 + [f"s{number}" for number in range(9)]
    clips = clips_of(store, names)
    folds = subject_folds(clips)
    assert len(folds) == 5 and ("large",) in [subjects for subjects, _ in folds]
    sizes = [len(rows) for subjects, rows in folds if subjects != ("large",)]
    assert max(sizes) - min(sizes) <= 3


@pytest.mark.parametrize("name", ["", "one"])
def test_one_subject_is_split_by_clips_of_each_class(store: MotionStore, name: str) -> None:
    clips = clips_of(store, [name])
    folds = subject_folds(clips)
    assert len(folds) == 5 and all(subjects == () for subjects, _ in folds)
    assert sorted(np.concatenate([rows for _, rows in folds])) == list(range(len(clips)))
    for label in range(len(clips.class_names)):
        counts = [int((clips.labels[rows] == label).sum()) for _, rows in folds]
        assert max(counts) - min(counts) <= 1


def test_networks_are_trained_without_the_subjects(store: MotionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = clips_of(store)
    trained: list[set[str]] = []
    real = cross_fitting.fit_classifier

    def record(given: ClipSet, config: ClassifierConfig, seed: int) -> object:
        trained.append(set(given.subjects))
        return real(given, config, seed)

    monkeypatch.setattr(cross_fitting, "fit_classifier", record)
    folds = fit_cross_fitted(clips, TINY, 3)
    assert len(folds) == len(set(clips.subjects)) == 3
    for fold, others in zip(folds, trained, strict=True):
        assert others == set(clips.subjects) - set(fold.subjects)
    table = out_of_fold(folds, clips)
    np.testing.assert_allclose(table.sum(axis=1), 1)
    first = folds[1]
    np.testing.assert_array_equal(table[first.rows], first.predict(clips.take(first.rows)))


def test_a_class_that_only_one_subject_has_is_unknown_to_its_network(store: MotionStore) -> None:
    clips = clips_of(store)
    alone = sorted(set(clips.subjects))[0]
    rows = [r for r in range(len(clips)) if clips.labels[r] != 1 or clips.subjects[r] == alone]
    clips = clips.take(rows)
    fold = next(fold for fold in fit_cross_fitted(clips, TINY) if fold.subjects == (alone,))
    assert clips.class_names[1] not in fold.classifier.class_names
    probabilities = fold.predict(clips)
    assert probabilities.shape == (len(clips), 5) and (probabilities[:, 1] == 0).all()
