"""Memorisation of training clips by a generator: distance to the nearest one, beside that of held-out clips."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from icube_common.data.skeleton_roles import mirror_order
from motiondiff.data.clips import ClipSet
from motiondiff.recognition.pose_descriptors import body_lengths, describe_all, describe_parts
from motiondiff.skeleton.mirror import mirror_positions

COPY_SHARE = 0.1
"""A clip is called a copy if it is this much nearer to a training clip than training clips are to each other."""
MIN_COPY_DISTANCE = 0.001
"""Metres: nearer than this is a copy in any case."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """For N clips the nearest training clip.

    Attributes:
        distance: (N,) metres: root mean square distance of the joints (`motiondiff.recognition.pose_descriptors`).
        clip: (N,) the training clip's number.
        mirrored: (N,) whether its mirror image is the nearest.
    """

    distance: npt.NDArray[np.float64]
    clip: npt.NDArray[np.int64]
    mirrored: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.int64]) -> Nearest:
        """Some of the clips."""
        return Nearest(self.distance[rows], self.clip[rows], self.mirrored[rows])


class TrainingMemory:
    """The training clips, whole and in parts, ready to be searched.

    Args:
        train: the clips that the generator has seen.
        mirrored: search their mirror images as well: a generator trained with mirrored windows has seen these, and a
            mirrored copy is a copy. Without effect where no joint name has a side (`mirrors`).
    """

    def __init__(self, train: ClipSet, *, mirrored: bool = False) -> None:
        self.lengths = body_lengths(train)
        self._points, self._owner = describe_parts(train, self.lengths)
        self._parts = len(self._points)
        order = mirror_order(train.skeleton.names)
        self.mirrors = mirrored and order is not None
        """Whether mirror images are searched."""
        if mirrored and order is not None:
            images = replace(train, positions=[mirror_positions(clip, order) for clip in train.positions])
            points, owner = describe_parts(images, self.lengths)
            self._points = np.concatenate([self._points, points])
            self._owner = np.concatenate([self._owner, owner])
        self.own = self._search(describe_all(train, self.lengths), np.arange(len(train)))
        """Each training clip's nearest *other* training clip."""
        self.copy_distance = max(MIN_COPY_DISTANCE, COPY_SHARE * float(np.median(self.own.distance)))
        """Metres below which a clip counts as a copy."""

    def nearest(self, clips: ClipSet) -> Nearest:
        """The nearest training clip, or part of one, of each clip."""
        return self._search(describe_all(clips, self.lengths), None)

    def _search(self, points: npt.NDArray[np.float64], without: npt.NDArray[np.int64] | None) -> Nearest:
        distances = cdist(points, self._points)
        if without is not None:
            distances[without[:, None] == self._owner[None]] = np.inf
        best = distances.argmin(axis=1)
        return Nearest(distances[np.arange(len(points)), best], self._owner[best], best >= self._parts)


def memorisation_metrics(nearest: Nearest, copy_distance: float, held_out_p5: float) -> dict[str, float]:
    """The figures of one set.

    Args:
        nearest: of its clips.
        copy_distance: metres.
        held_out_p5: 5th percentile of the held-out real clips' distances, metres, of the same search.

    Returns:
        ``nearest_training_median`` and ``nearest_training_p5`` (metres), ``copies`` (share of clips that are nearly a
        training clip), ``below_held_out_p5`` (share of clips nearer to a training clip than 95 % of held-out ones).
    """
    return {
        "nearest_training_median": float(np.median(nearest.distance)),
        "nearest_training_p5": float(np.percentile(nearest.distance, 5)),
        "copies": float((nearest.distance < copy_distance).mean()),
        "below_held_out_p5": float((nearest.distance < held_out_p5).mean()),
    }
