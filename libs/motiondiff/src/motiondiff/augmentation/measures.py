"""What a clip is measured by before it may train a recogniser: physics, and distance to other clips.

Shapes: N clips, T frames, J joints. Metres, y up, floor at y = 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from motiondiff.recognition.clips import ClipSet
from motiondiff.recognition.features import resample, root_relative

Array = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

CONTACT_HEIGHT = 0.05
"""Metres above a foot joint's own lowest height (5th percentile of the clip) up to which it stands."""
FRAMES = 24
"""Clips are compared at this many moments, evenly spread over each."""


def clip_physics(clips: ClipSet) -> dict[str, Values]:
    """Four figures of each clip, (N,) each, all the smaller the better.

    - ``skate``, m/s: mean horizontal speed of foot joints while they stand (`CONTACT_HEIGHT`);
    - ``jitter``, m/s^3: mean size of the third derivative of joint positions;
    - ``drift``: the largest change of a bone's length within the clip, as a share of its mean;
    - ``penetration``, m: mean over frames of how far the lowest joint is below the floor.
    """
    feet, parents, fps = list(clips.skeleton.feet), clips.skeleton.parents, clips.fps
    return {
        "skate": np.array([skate(clip, feet, fps) for clip in clips.positions]),
        "jitter": np.array([jitter(clip, fps) for clip in clips.positions]),
        "drift": np.array([drift(clip, parents) for clip in clips.positions]),
        "penetration": np.array([penetration(clip) for clip in clips.positions]),
    }


def skate(positions: Array, feet: list[int], fps: float) -> float:
    """m/s; 0 where no foot is known or none stands."""
    if not feet or len(positions) < 2:
        return 0.0
    paths = positions[:, feet].astype(np.float64)
    lowest = np.percentile(paths[..., 1], 5, axis=0)
    stands = (paths[..., 1] < lowest + CONTACT_HEIGHT)[1:] & (paths[..., 1] < lowest + CONTACT_HEIGHT)[:-1]
    speed = np.linalg.norm(np.diff(paths[..., [0, 2]], axis=0), axis=-1) * fps
    return float(speed[stands].mean()) if stands.any() else 0.0


def jitter(positions: Array, fps: float) -> float:
    """m/s^3; 0 for fewer than four frames."""
    if len(positions) < 4:
        return 0.0
    jerk = np.diff(positions.astype(np.float64), n=3, axis=0) * fps**3
    return float(np.linalg.norm(jerk, axis=-1).mean())


def drift(positions: Array, parents: tuple[int, ...]) -> float:
    """Share of a bone's mean length, of the bone that changes most."""
    child = np.arange(1, len(parents))
    if not len(child):
        return 0.0
    bones = positions[:, child].astype(np.float64) - positions[:, np.asarray(parents)[child]]
    lengths = np.linalg.norm(bones, axis=-1)
    spread = lengths.max(axis=0) - lengths.min(axis=0)
    mean = lengths.mean(axis=0)
    return float(np.max(np.divide(spread, mean, out=np.zeros_like(mean), where=mean > 1e-6)))


def penetration(positions: Array) -> float:
    """Metres."""
    return float(np.maximum(-positions[..., 1].min(axis=1), 0).mean())


def nearest_distances(clips: ClipSet, others: ClipSet, *, leave_out_self: bool = False) -> Values:
    """(N,) metres from each clip to the nearest of the others: mean over joints and `FRAMES` moments, path included.

    Args:
        clips: from which.
        others: to which.
        leave_out_self: both are the same set; a clip's nearest is another one.
    """
    first, second = _flat(clips), _flat(others)
    nearest = np.empty(len(first))
    for row, one in enumerate(first):
        distances = np.linalg.norm(second - one, axis=-1).mean(axis=(1, 2))
        if leave_out_self:
            distances[row] = np.inf
        nearest[row] = distances.min()
    return nearest


def _flat(clips: ClipSet) -> Values:
    """(N, FRAMES, J, 3): the root's path in joint 0, the other joints relative to it."""
    return np.stack([resample(root_relative(clip), FRAMES) for clip in clips.positions]).astype(np.float64)
