"""SMPL's joints (Loper et al., SIGGRAPH Asia 2015) without its licensed model: names, parents, a mean body.

The rest offsets are those of the mean neutral body (all shape parameters zero) as public physics assets publish them
to a tenth of a millimetre (``smpl_humanoid.xml`` of ProtoMotions and others), made equal on both sides and rounded to
a millimetre. They contain no body shape: a person's own rest joints, where a user has the model, replace them
(`load_rest_skeleton`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from motiondiff.skeleton.skeleton import Skeleton

Array = npt.NDArray[np.float64]

JOINT_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
"""The 24 joints of SMPL; the first 22 are also SMPL+H's and SMPL-X's body, and HumanML3D's."""
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
PELVIS_OFFSET = (-0.002, -0.223, 0.028)
"""Metres: pelvis of the mean body in the model's own coordinates; SMPL's translation is added to it."""
Z_UP_TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Rotation from AMASS's z up to y up."""

# offset from the parent, metres: x to the left, y up, z to the front; a right joint is its left one mirrored
_OFFSETS = {
    "hip": (0.069, -0.091, -0.006), "knee": (0.036, -0.379, -0.007), "ankle": (-0.015, -0.398, -0.043),
    "foot": (0.026, -0.052, 0.121), "spine1": (0.0, 0.109, -0.027), "spine2": (0.0, 0.135, 0.001),
    "spine3": (0.0, 0.053, 0.025), "neck": (0.0, 0.214, -0.043), "head": (0.0, 0.065, 0.051),
    "collar": (0.080, 0.120, -0.036), "shoulder": (0.094, 0.032, -0.009), "elbow": (0.257, -0.013, -0.024),
    "wrist": (0.252, 0.008, -0.003), "hand": (0.084, -0.007, -0.013),
}  # fmt: skip


def mean_skeleton(joints: int = 22) -> Skeleton:
    """The mean body: 22 joints (SMPL+H, SMPL-X, HumanML3D) or 24 (SMPL)."""
    offsets = [(0.0, 0.0, 0.0)]
    for name in JOINT_NAMES[1:joints]:
        side, _, part = name.rpartition("_")
        x, y, z = _OFFSETS[part]
        offsets.append((-x if side == "right" else x, y, z))
    return Skeleton(JOINT_NAMES[:joints], PARENTS[:joints], np.array(offsets, dtype=np.float32))


def load_rest_skeleton(path: str | Path, joints: int = 22) -> tuple[Skeleton, Array]:
    """A body from rest joints of the licensed model: ``J_regressor @ v_shaped``.

    Args:
        path: .npy of (22 or more, 3) metres, the model's coordinates (y up, facing +z).
        joints: number of joints of the skeleton.

    Returns:
        The skeleton, and the pelvis (3,) in the model's coordinates.

    Raises:
        InputError: not readable, too few joints, or not a body of metres.
    """
    try:
        rest = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npy of rest joints ({error})") from error
    if rest.ndim != 2 or rest.shape[0] < joints or rest.shape[1] != 3 or rest.dtype.kind not in "fiu":
        raise InputError(f"{path}: rest joints {rest.shape}, (at least {joints}, 3) expected")
    rest = rest[:joints].astype(np.float64)
    parents = np.array(PARENTS[1:joints])
    offsets = np.concatenate([np.zeros((1, 3)), rest[1:] - rest[parents]])
    lengths = np.linalg.norm(offsets[1:], axis=-1)
    if not np.isfinite(rest).all() or lengths.max() > 1 or not 1 < lengths.sum() < 10:
        raise InputError(f"{path}: not the rest joints of a body in metres")
    return Skeleton(JOINT_NAMES[:joints], PARENTS[:joints], offsets.astype(np.float32)), rest[0]
