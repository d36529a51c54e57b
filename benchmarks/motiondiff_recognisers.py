"""Leave-one-subject-out accuracy of the action classifiers, beside a nearest-neighbour classifier.

Usage: python benchmarks/motiondiff_recognisers.py STORE [--models gru,st-gcn] [--seeds 3]

Each subject (style, where the store was split by style) is left out once; the classifier trains on all others with the
default configuration. The nearest neighbour compares 16 root-centred frames of joint positions, as
`motiondiff_nearest_neighbour.py` does. Accuracy over all clips, with a 95 % interval over subjects; seconds are of one
training.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from icube_common.evaluation import Predictions, concatenate
from motiondiff.config import ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.recognition import fit_classifier
from motiondiff.recognition.features import resample
from motiondiff.recognition.train_and_test import classifier_predictions

FRAMES = 16


def nearest_neighbour(train: ClipSet, test: ClipSet) -> Predictions:
    """Labels of test clips by the nearest training clip."""
    points = [
        np.stack(
            [(moments - moments[:, :1]).ravel() for moments in (resample(clip, FRAMES) for clip in clips.positions)]
        )
        for clips in (train, test)
    ]
    labels = train.labels[cdist(points[1], points[0]).argmin(axis=1)]
    return Predictions(
        ids=test.ids,
        subjects=test.subjects,
        repeats=np.zeros(len(test)),
        folds=np.zeros(len(test)),
        labels=test.labels,
        probabilities=np.eye(len(test.class_names))[labels],
        class_names=test.class_names,
    )


def run(store_path: str, models: list[str], seeds: int) -> dict[str, Any]:
    """Leave-one-subject-out accuracy of each model."""
    clips = ClipSet.from_store(MotionStore(store_path))
    subjects = np.array(clips.subjects)
    folds = [(clips.take(np.flatnonzero(subjects != name)), clips.take(np.flatnonzero(subjects == name)))
             for name in np.unique(subjects)]  # fmt: skip
    plain = concatenate([nearest_neighbour(train, test) for train, test in folds])
    result: dict[str, Any] = {"nearest neighbour": plain.metrics(["top1"])["top1"].to_dict()}
    for model in models:
        started, parts = time.perf_counter(), []
        for seed in range(seeds):
            for train, test in folds:
                classifier = fit_classifier(train, ClassifierConfig(model=model), seed)
                parts.append(classifier_predictions(test, classifier.predict(test), repeat=seed))
        seconds = (time.perf_counter() - started) / len(parts)
        found = concatenate(parts)
        result[model] = {**found.metrics(["top1"])["top1"].to_dict(), "seeds": seeds, "seconds": round(seconds, 1)}
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--models", default="gru,st-gcn")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.store, arguments.models.split(","), arguments.seeds), indent=2))
