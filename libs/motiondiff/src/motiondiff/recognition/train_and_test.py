"""Action classifiers trained on some subjects and tested on others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.evaluation import Predictions, concatenate, per_class_recall
from icube_common.io.runs import atomic_folder, check_output_path, write_json
from motiondiff.config import MIN_CLIPS, ClassifierConfig
from motiondiff.data.clips import ClipSet, check_subject_overlap
from motiondiff.data.store import MotionStore
from motiondiff.recognition.training import fit_classifier
from motiondiff.results import Results

METRICS = ("top1", "mean_class_accuracy", "macro_f1")


def classifier_predictions(
    clips: ClipSet, probabilities: npt.NDArray[np.float64], *, repeat: int, subject: str | None = None
) -> Predictions:
    """A classifier's probabilities of clips, all of one subject or each of its own."""
    return Predictions(
        ids=clips.ids,
        subjects=clips.subjects if subject is None else [subject] * len(clips),
        repeats=np.full(len(clips), repeat),
        folds=np.zeros(len(clips)),
        labels=clips.labels,
        probabilities=probabilities,
        class_names=clips.class_names,
    )


def drop_small_classes(train: ClipSet, test: ClipSet, fewest: int, fewest_test: int) -> tuple[ClipSet, ClipSet]:
    """Both sets without the classes that have fewer clips than wanted on one side.

    Raises:
        InputError: fewer than two classes are left.
    """
    large = [
        name
        for name, count, tested in zip(train.class_names, train.counts.tolist(), test.counts.tolist(), strict=True)
        if count >= fewest and tested >= fewest_test
    ]
    if len(large) < 2:
        raise InputError(
            f"--min-clips {fewest}: {len(large)} classes have as many clips to train on (and {fewest_test} to test "
            "with), at least two are needed"
        )
    return train.with_classes(large), test.with_classes(large)


def load_clips(
    train: str | Path, test: str | Path, extra: str | Path | None = None, *, split: str = "test"
) -> tuple[ClipSet, ClipSet]:
    """Training and test clips, no person in both.

    Args:
        train: a store. If it is also the test store, its training split; else all of its clips.
        test: a store; the split ``split`` of it where it is the training store, else all of its clips.
        extra: a store of further training clips, all of them.
        split: ``test`` or ``validation``.

    Raises:
        InputError: a broken store, an action that the training store does not know, other joints or frame rate, a
            subject on both sides, or one store without subjects.
    """
    training, tested = MotionStore(train), MotionStore(test)
    same = training.fingerprint == tested.fingerprint
    clips = ClipSet.from_store(training, split="train" if same else None)
    if extra is not None:
        clips = clips.joined(ClipSet.from_store(MotionStore(extra), class_names=training.actions))
    others = ClipSet.from_store(tested, split=split if same else None, class_names=training.actions)
    clips.check_same_skeleton(others.skeleton, others.fps, str(tested.path))
    check_subject_overlap(clips, others)
    return clips, others


def train_and_test(
    train: str | Path,
    test: str | Path,
    out: str | Path,
    config: ClassifierConfig | None = None,
    *,
    extra: str | Path | None = None,
    seeds: int = 1,
    min_clips: int | None = None,
    overwrite: bool = False,
) -> Results:
    """Train classifiers with several seeds and write their predictions on the test clips.

    Args:
        train: store of the training clips; see `load_clips`.
        test: store of the test clips.
        out: the folder to make: ``predictions.csv`` (the seed is its ``repeat``), ``metrics.json``, and the classifier
            of the first seed.
        config: network, steps, variations.
        extra: store of further training clips, such as generated ones.
        seeds: classifiers, of seeds 0, 1, ...
        min_clips: leave out classes with fewer training clips; None refuses those with fewer than two.
        overwrite: replace an existing ``out``.

    Returns:
        Metrics with 95 % intervals over the test subjects, counts, and where the files are.

    Raises:
        InputError: anything that `load_clips` or `fit_classifier` refuses, or ``out`` exists.
    """
    check_output_path(out, overwrite=overwrite)
    config = config or ClassifierConfig()
    for name, value, least in (("--seeds", seeds, 1), ("--min-clips", min_clips, MIN_CLIPS)):
        if value is not None and value < least:
            raise InputError(f"{name} {value}: must be at least {least}")
    clips, others = load_clips(train, test, extra)
    names = clips.class_names
    if min_clips is not None:
        clips, others = drop_small_classes(clips, others, min_clips, 0)
    classifiers = [fit_classifier(clips, config, seed) for seed in range(seeds)]
    predictions = concatenate(
        [
            classifier_predictions(others, classifier.predict(others), repeat=seed)
            for seed, classifier in enumerate(classifiers)
        ]
    )
    recall = per_class_recall(predictions.labels, predictions.probabilities)
    target = Path(out)
    result = Results(
        {
            **{name: interval.to_dict() for name, interval in predictions.metrics(METRICS).items()},
            "recall": dict(zip(predictions.class_names, recall.tolist(), strict=True)),
            "training_clips": len(clips),
            "test_clips": len(others),
            "training_subjects": sorted(set(clips.subjects)),
            "test_subjects": sorted(set(others.subjects)),
            "left_out": [name for name in names if name not in clips.class_names],
            "seeds": seeds,
            "config": config_to_dict(config),
            "predictions": str(target / "predictions.csv"),
            "classifier": str(target / "classifier"),
        }
    )
    with atomic_folder(target, overwrite=overwrite) as folder:
        predictions.write_csv(folder / "predictions.csv")
        classifiers[0].save(folder / "classifier")
        write_json(folder / "metrics.json", result)
    return result
