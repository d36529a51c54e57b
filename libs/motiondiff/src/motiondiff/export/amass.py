"""AMASS export: the ``.npz`` of SMPL poses for trainers, viewers and Blender's SMPL add-on.

The body is the model's mean one (``betas`` zero), so a motion must be on it: names, parents and rest offsets are
compared with `motiondiff.skeleton.smpl.mean_skeleton`, since rotations of another body are not SMPL's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.export.output import check_rotations, output_file
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.smpl import PELVIS_OFFSET, Z_UP_TO_Y_UP, mean_skeleton

POSE_SIZES = {22: 156, 24: 72}
"""Numbers a frame by joints of the body: SMPL+H with its hands at rest, SMPL."""
BODY_TOLERANCE = 1e-3
"""Metres: maximum difference of offsets from the mean body's."""


def write_amass(motion: Motion, path: str | Path) -> Path:
    """Write a motion on SMPL's mean body as AMASS does: z up, metres.

    Arrays (T frames): ``poses`` (T, 156), or (T, 72) for 24 joints, axis-angle, hands of SMPL+H at rest; ``trans``
    (T, 3); ``betas`` zero, (16,) or (10,); ``gender`` neutral; ``mocap_framerate``. Labels are not part of the format.

    Args:
        motion: 22 or 24 joints of SMPL.
        path: the file to write, and the result; replaced where it exists.

    Raises:
        InputError: another skeleton or body, matrices that are no rotations, or a file that cannot be written.
    """
    check_body(motion)
    check_rotations(motion, "AMASS")
    joints = len(motion.skeleton)
    rotations = motion.rotations.astype(np.float64)
    rotations[:, 0] = Z_UP_TO_Y_UP.T @ rotations[:, 0]
    turns = Rotation.from_matrix(rearrange(rotations, "t j row column -> (t j) row column")).as_rotvec()
    poses = np.zeros((len(motion), POSE_SIZES[joints]))
    poses[:, : 3 * joints] = rearrange(turns, "(t j) xyz -> t (j xyz)", j=joints)
    arrays: dict[str, Any] = {
        "poses": poses,
        "trans": motion.root.astype(np.float64) @ Z_UP_TO_Y_UP - PELVIS_OFFSET,
        "betas": np.zeros(16 if joints == 22 else 10),
        "gender": np.str_("neutral"),
        "mocap_framerate": np.float64(motion.fps),
    }
    with output_file(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
    return Path(path)


def check_body(motion: Motion) -> None:
    """Raise InputError unless the motion is on SMPL's mean body of 22 or 24 joints."""
    skeleton, joints = motion.skeleton, len(motion.skeleton)
    what, remedy = motion.source or "the motion", "`motiondiff retarget FILE --to smpl-22` puts it there"
    mean = mean_skeleton(joints) if joints in POSE_SIZES else None
    if mean is None or (skeleton.names, skeleton.parents) != (mean.names, mean.parents):
        raise InputError(f"amass: {what} has {joints} joints that are not SMPL's: {remedy}")
    off = np.linalg.norm(skeleton.offsets - mean.offsets, axis=-1)
    if off[1:].max() > BODY_TOLERANCE:
        joint = int(off[1:].argmax()) + 1
        raise InputError(
            f"amass: {what} is on another body than SMPL's mean one ({skeleton.names[joint]} is {off[joint]:.3f} m "
            f"off), and its rotations are not SMPL's: {remedy}"
        )
