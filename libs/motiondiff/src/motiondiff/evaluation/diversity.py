"""How different the clips of a set are: all of them, and those of one action."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from icube_common.errors import InputError

Table = npt.NDArray[np.float64]


def diversity(features: Table) -> float:
    """Mean distance between two clips of the set.

    Guo et al., "Action2Motion", ACM MM 2020, section 5.1, draw 200 pairs at random; all pairs give what the draws
    scatter around.

    Raises:
        InputError: fewer than two clips.
    """
    if len(features) < 2:
        raise InputError(f"diversity: {len(features)} clips, at least two are needed")
    return float(pdist(features).mean())


def within_class(features: Table, labels: npt.NDArray[np.int64]) -> float:
    """Mean over classes of the mean distance between two clips of the class.

    On a recogniser's features this is Action2Motion's multimodality (of all pairs instead of 20 drawn ones). A
    recogniser is trained to give the clips of a class the same features, so that it hardly sees a class collapse to one
    prototype: the same on poses (`motiondiff.evaluation.pose_descriptors`) does.

    Raises:
        InputError: a class with a single clip.
    """
    means = []
    for label in np.unique(labels):
        own = features[labels == label]
        if len(own) < 2:
            raise InputError(f"within-class diversity: class number {label} has a single clip, two are needed")
        means.append(pdist(own).mean())
    return float(np.mean(means))
