"""Precision and recall of generated features: how many look real, and how much of the real is there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from icube_common.errors import InputError

NEIGHBOURS = 3


def precision_recall(
    real: npt.NDArray[np.float64], generated: npt.NDArray[np.float64], *, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Share of generated features in the real manifold, and of real ones in the generated.

    Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019, eq. 1
    and 2: a point lies in a manifold if it is within the distance of one of its points to that point's k-th nearest
    neighbour. Both depend on the number of clips: compare sets of the same size.

    Args:
        real: (N, D).
        generated: (M, D).
        neighbours: k.

    Raises:
        InputError: no more than k clips on a side.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise InputError(
            f"precision, recall: {len(real)} real and {len(generated)} generated clips, more than {neighbours} needed"
        )
    across = cdist(real, generated)
    precision = (across <= _radii(real, neighbours)[:, None]).any(axis=0).mean()
    recall = (across <= _radii(generated, neighbours)[None, :]).any(axis=1).mean()
    return float(precision), float(recall)


def _radii(points: npt.NDArray[np.float64], neighbours: int) -> npt.NDArray[np.float64]:
    """(N,) distance of each point to its k-th nearest other one."""
    distances = cdist(points, points)
    np.fill_diagonal(distances, -1.0)  # itself comes first
    return np.asarray(np.partition(distances, neighbours, axis=1)[:, neighbours])
