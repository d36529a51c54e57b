"""Skeletons of any tracker by the roles of their joints: one body of 13 joints, and its limb directions.

A Kinect, BlazePose and a motion-capture file name and number their joints differently.
`icube_common.data.skeleton_roles` finds shoulders, elbows and so on by name; the rest depends on these roles alone.

Shapes: T frames, J joints, 3 coordinates. Axes of a skeleton: x to the right of the image or of the world, y up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from actprompt.skeleton.joint_angles import inverse_torso_directions
from icube_common.data.skeleton_roles import joint_roles

Array = npt.NDArray[np.float64]

ROLES = (
    "head", "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
    "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
)  # fmt: skip
"""The 13 joints."""
MIRROR = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11]
"""For each joint the one of the other side."""
_HEAD, _SHOULDERS, _HIPS, _ARMS = 0, [1, 2], [7, 8], ([3, 5], [4, 6])
_LIMBS = ((1, 3, 5), (2, 4, 6), (7, 9, 11), (8, 10, 12))
"""Start, middle and end of the arms and legs, left first."""


@cache
def role_indices(joint_names: tuple[str, ...]) -> tuple[int, ...] | None:
    """For each of `ROLES` the joint, by name; None where one is missing."""
    roles = joint_roles(joint_names, [-1] + [0] * (len(joint_names) - 1))
    return tuple(roles[role] for role in ROLES) if all(role in roles for role in ROLES) else None


def body_joints(skeleton: npt.ArrayLike, joint_names: Sequence[str]) -> Array | None:
    """The 13 joints (T, 13, 3) of a skeleton (T, J, 3); None where it lacks one of them."""
    indices = role_indices(tuple(joint_names))
    return None if indices is None else np.asarray(skeleton, dtype=np.float64)[:, list(indices)]


def trunk_length(body: Array) -> float:
    """Median distance between the middle of the shoulders and that of the hips of (T, 13, 3)."""
    trunk = body[:, _SHOULDERS].mean(axis=1) - body[:, _HIPS].mean(axis=1)
    return max(float(np.nanmedian(np.linalg.norm(trunk, axis=1))), 1e-6) if np.isfinite(trunk).any() else 1.0


def limb_directions(body: Array) -> Array:
    """Directions of the limbs (T, 8, 3) as `actprompt.skeleton.joint_angles` describes them, left side first.

    The torso's frame: down from the shoulders to the hips, across from the right to the left ones.
    """
    down = _unit(body[:, _HIPS].mean(axis=1) - body[:, _SHOULDERS].mean(axis=1))
    left = body[:, 1] - body[:, 2] + body[:, 7] - body[:, 8]
    left = _unit(left - (left * down).sum(axis=-1, keepdims=True) * down)
    backwards = np.cross(left, down)
    directions = np.empty((len(body), 8, 3))
    for limb, (start, middle, end) in enumerate(_LIMBS):
        outwards = left if limb % 2 == 0 else -left
        axes = np.stack([down, outwards, backwards], axis=1)
        for part, (first, second) in enumerate(((start, middle), (middle, end))):
            bone = _unit(body[:, second] - body[:, first])
            directions[:, 2 * limb + part] = np.einsum("tij,tj->ti", axes, bone)
    return inverse_torso_directions(directions)


def body_channels(body: Array) -> Array:
    """Positions and paths of a complete body (T, 13, 3) as channels (T, 45), independent of place, size and heading.

    The 13 joints from the middle of the hips (39), then the paths of head and hips since the first frame (6), all in
    trunk lengths, turned about the vertical so that hips and shoulders lie along x in the mean of the clip.
    """
    left = (body[:, 1] - body[:, 2] + body[:, 7] - body[:, 8]).mean(axis=0)
    angle = np.arctan2(left[2], left[0])
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = body @ np.array([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    hips = turned[:, _HIPS].mean(axis=1, keepdims=True)
    joints = (turned - hips).reshape(len(body), -1)
    paths = [path - path[:1] for path in (turned[:, _HEAD], hips[:, 0])]
    return np.concatenate([joints, *paths], axis=1) / trunk_length(body)


def active_arm_left(body: Array) -> Array:
    """The body (T, 13, 3), mirrored where the right arm moves more than the left one.

    Which hand holds the bottle is not the action's; a lost joint (NaN) counts as not moving.
    """
    travelled = np.nansum(np.linalg.norm(np.diff(body, axis=0), axis=2), axis=0)
    if travelled[_ARMS[0]].sum() >= travelled[_ARMS[1]].sum():
        return body
    return body[:, MIRROR] * np.array([-1.0, 1.0, 1.0])


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
