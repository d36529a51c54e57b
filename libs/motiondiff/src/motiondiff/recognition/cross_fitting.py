"""Classifiers cross-fitted over subjects: each is trained without some of the training subjects.

Features of a clip that a network was trained on differ from those of a clip of another person, by memory alone. Here
the clips of a training subject are only seen by the network that was trained without this subject, so that real motion
of one person can be compared with that of another, on features fitted on neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from motiondiff.config import MIN_CLIPS, ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.recognition.classifier import ActionClassifier
from motiondiff.recognition.training import fit_classifier

Table = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

MAX_FOLDS = 5


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A classifier and the training clips that it has not seen.

    Attributes:
        classifier: trained on all other training clips; without classes of which fewer than two clips are left.
        rows: training clips that were left out.
        subjects: their subjects; empty where clips were left out without regard to subjects.
    """

    classifier: ActionClassifier
    rows: Index
    subjects: tuple[str, ...]

    def predict(self, clips: ClipSet) -> Table:
        """(N, C) probabilities of the classes of ``clips``; 0 of a class that the classifier does not know.

        Raises:
            InputError: other joints or another frame rate.
        """
        columns = [list(clips.class_names).index(name) for name in self.classifier.class_names]
        result = np.zeros((len(clips), len(clips.class_names)))
        result[:, columns] = self.classifier.predict(clips)
        return result


def subject_folds(clips: ClipSet, folds: int = MAX_FOLDS) -> list[tuple[tuple[str, ...], Index]]:
    """Subjects and their clips in at most ``folds`` parts of similar size.

    One subject a fold where there are no more than ``folds``; else the largest subjects come first, each into the fold
    with the fewest clips. Without two subjects, clips are dealt out class by class, and the subjects are empty.

    Args:
        clips: training clips.
        folds: most folds.
    """
    subjects = np.array(clips.subjects)
    names, counts = np.unique(subjects, return_counts=True)
    if len(names) < 2:
        order = np.argsort(clips.labels, kind="stable")
        parts = [np.sort(order[first::folds]) for first in range(min(folds, len(order)))]
        return [((), part) for part in parts]
    groups: list[list[str]] = [[] for _ in range(min(folds, len(names)))]
    sizes = [0] * len(groups)
    for number in np.lexsort((names, -counts)).tolist():
        smallest = sizes.index(min(sizes))
        groups[smallest].append(str(names[number]))
        sizes[smallest] += int(counts[number])
    return [(tuple(sorted(group)), np.flatnonzero(np.isin(subjects, group))) for group in groups]


def fit_cross_fitted(
    clips: ClipSet, config: ClassifierConfig, seed: int = 0, *, folds: int = MAX_FOLDS
) -> tuple[LeftOut, ...]:
    """Train a classifier for each fold of `subject_folds`, without its clips.

    Args:
        clips: training clips.
        config: network, steps, variations.
        seed: of every training.
        folds: most folds.

    Raises:
        InputError: anything that `motiondiff.recognition.training.fit_classifier` refuses.
    """
    result = []
    for subjects, rows in subject_folds(clips, folds):
        rest = clips.take(np.setdiff1d(np.arange(len(clips)), rows))
        large = [name for name, count in zip(rest.class_names, rest.counts, strict=True) if count >= MIN_CLIPS]
        if large and len(large) < len(rest.class_names):
            rest = rest.with_classes(large)
        result.append(LeftOut(fit_classifier(rest, config, seed), rows, subjects))
    return tuple(result)


def out_of_fold(cross_fitted: Sequence[LeftOut], clips: ClipSet) -> Table:
    """(N, C) probabilities of the training clips, each by the classifier that has not seen it."""
    result = np.zeros((len(clips), len(clips.class_names)))
    for fold in cross_fitted:
        result[fold.rows] = fold.predict(clips.take(fold.rows))
    return result
