"""Physical plausibility of bodies on a floor: sliding feet, floating, sinking, jerking, bones that change their length.

Nothing here depends on a classifier. Shapes: T frames, J joints. Clips have their floor at y = 0.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from motiondiff.data.clips import ClipSet
from motiondiff.skeleton.skeleton import Skeleton

Array = npt.NDArray[np.float32]

LOW_FOOT = 0.08
"""Metres above the floor below which a foot joint should stand (the project's older movement figures use it too)."""
SLIDING = 0.25
"""m/s: a low foot that is faster than this horizontally slides; the threshold of the training's contact loss."""
FIGURES = ("float", "penetration", "jitter", "bone_length_drift")
"""Figures of a set; sliding feet are those of `motiondiff.evaluation.stance`."""

MEANING = {
    "float": "m: mean height of the lowest joint above the floor, frames below it as 0",
    "penetration": "m: mean depth of the lowest joint below the floor, frames above it as 0",
    "jitter": "m/s3: mean length of the joints' third derivative",
    "bone_length_drift": "m: largest difference of a bone's lengths within a clip",
}


def clip_physics(positions: Array, skeleton: Skeleton, fps: float) -> dict[str, float]:
    """The figures of `MEANING` and of low feet for one clip (T, J, 3); NaN where it has no low foot, or too few frames.

    ``foot_skate`` (m/s) is the mean horizontal speed of foot joints below 8 cm in two frames running, and
    ``foot_skate_share`` the share of these that are faster than 0.25 m/s. Both count the swinging leg, too; they bound
    what `motiondiff.augmentation.filter` keeps.
    """
    feet = list(skeleton.feet)
    lowest = positions[..., 1].min(axis=1)
    parents = list(skeleton.parents[1:])
    bones = np.linalg.norm(positions[:, 1:] - positions[:, parents], axis=-1)
    steps = np.linalg.norm(np.diff(positions[:, feet][..., [0, 2]], axis=0), axis=-1) * fps
    low = positions[:, feet, 1] < LOW_FOOT
    standing = steps[low[1:] & low[:-1]]
    jerk = np.linalg.norm(np.diff(positions, n=3, axis=0), axis=-1) * fps**3
    return {
        "foot_skate": float(standing.mean()) if standing.size else math.nan,
        "foot_skate_share": float((standing > SLIDING).mean()) if standing.size else math.nan,
        "float": float(lowest.clip(min=0).mean()),
        "penetration": float((-lowest).clip(min=0).mean()),
        "jitter": float(jerk.mean()) if jerk.size else math.nan,
        "bone_length_drift": float(np.ptp(bones, axis=0).max()) if bones.size else 0.0,
    }


def physics_metrics(clips: ClipSet) -> dict[str, float]:
    """Each figure of `clip_physics`: mean over the clips of a class that have it, then over classes.

    NaN where no clip has it.

    Raises:
        InputError: no clip.
    """
    if len(clips) == 0:
        raise InputError("physics: no clip given")
    rows = [clip_physics(clip, clips.skeleton, clips.fps) for clip in clips.positions]
    result = {}
    for name in FIGURES:
        values = np.array([row[name] for row in rows])
        finite = np.isfinite(values)
        means = [values[finite & (clips.labels == label)].mean() for label in np.unique(clips.labels[finite])]
        result[name] = float(np.mean(means)) if means else math.nan
    return result
