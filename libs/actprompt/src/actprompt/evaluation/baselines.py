"""Baselines: plain classifiers of the same skeletons on the same folds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from actprompt.data.dataset import Inputs
from actprompt.skeleton.trajectory_ops import complete, mean_joints, resample
from icube_common.evaluation import Fold

Array = npt.NDArray[np.float64]
BASELINES = ("nearest neighbour", "randomised trees")
_FRAMES = 16
_TREES = 1000


def baseline(name: str, inputs: Inputs, fold: Fold, *, seed: int = 0) -> Array:
    """Probabilities (n, C) of a fold's test rows, from skeletons alone.

    ``nearest neighbour``: Euclidean distance of 16 resampled frames, one neighbour. ``randomised trees``: 1,000
    extremely randomised trees (Geurts et al. 2006) on the frames, their differences, means, deviations and ranges.

    Args:
        name: one of `BASELINES`.
        inputs: with skeletons.
        fold: rows and training labels.
        seed: of the trees.
    """
    assert inputs.skeletons is not None and name in BASELINES
    training = fold.training_rows(inputs.skeletons)
    joint_means = np.nan_to_num(mean_joints(joints for joints in training.values() if len(joints)))
    train, test = (
        np.stack([_frames(joints, joint_means) for joints in view.values()])
        for view in (training, fold.test_inputs(inputs.skeletons))
    )
    columns = [fold.test_classes.index(number) for number in fold.train_classes]
    probabilities = np.zeros((len(test), len(fold.test_classes)))
    if name == "nearest neighbour":
        flat, queries = train.reshape(len(train), -1), test.reshape(len(test), -1)
        nearest = ((queries[:, None] - flat[None]) ** 2).sum(-1).argmin(1)
        probabilities[np.arange(len(test)), [columns[label] for label in fold.train_labels[nearest]]] = 1
        return probabilities
    from sklearn.ensemble import ExtraTreesClassifier

    model = ExtraTreesClassifier(_TREES, random_state=seed).fit(_with_statistics(train), fold.train_labels)
    probabilities[:, [columns[label] for label in model.classes_]] = model.predict_proba(_with_statistics(test))
    return probabilities


def _frames(joints: npt.ArrayLike, joint_means: Array) -> Array:
    """(16, 3 J); a clip without any skeleton is the mean body throughout."""
    joints = np.asarray(joints)
    whole = complete(joints, joint_means) if len(joints) else joint_means[None]
    return resample(whole.reshape(len(whole), -1), _FRAMES)


def _with_statistics(frames: Array) -> Array:
    flat = frames.reshape(len(frames), -1)
    steps = np.diff(frames, axis=1).reshape(len(frames), -1)
    return np.concatenate([flat, steps, frames.mean(1), frames.std(1), np.ptp(frames, axis=1)], axis=1)
