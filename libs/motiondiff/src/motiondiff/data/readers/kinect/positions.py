"""Joint positions of Kinect recordings: camera levelled, floor at y = 0, resampled, fitted per subject.

Both Kinect v1 sets read here are right-handed (x to the camera's left, y up, z away from it) and name left and right
as the subject's: toes and knees point to the front that left and up give, and one-armed actions are done with the
right arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from motiondiff.data.readers.base import Clip, frame_times
from motiondiff.skeleton.inverse_kinematics import estimate_skeleton, fit_motion, swing_rotation
from motiondiff.skeleton.kinect import KINECT_V1, KinectJoints

Array = npt.NDArray[np.float64]

MAX_REACH = 50.0
"""Metres. The range of a Kinect v1 is about 4 m, a little more by extrapolation; beyond: another unit or damage."""
MIN_STANDING_HEIGHT = 0.97
"""Minimum height of the head above the ankles of a standing frame, relative to the 90th percentile."""
MAX_TILT = 20.0
"""Degrees: maximum lean of a standing body that is attributed to the camera."""


def coordinate_error(coordinates: Sequence[float]) -> str:
    """Error text for coordinates (metres) that are not finite or beyond `MAX_REACH`; empty if there is none."""
    for value in coordinates:
        if not abs(value) <= MAX_REACH:
            return f"{value} m is beyond the range of a Kinect" if np.isfinite(value) else "NaN or infinite value"
    return ""


def level_camera(recordings: Sequence[Array], joints: KinectJoints = KINECT_V1) -> Array:
    """(3, 3) rotation from the camera's frame to a y-up frame, from the standing subject.

    Up is the median direction from between the ankles to between the shoulders, over frames in which the subject
    stands. Identity where that leans by more than `MAX_TILT` or no frame stands.

    Measured: in the twelve visible UTKinect recordings this lean is 7 to 10 degrees towards the camera, and the floor
    seen by the ankles slopes by 4 to 9 degrees the same way; after the turn the height of the lowest ankle while
    standing spreads half as much (standard deviation 4.2 to 2.1 cm on average). In MSR-Action3D the median lean is 5
    to 11 degrees; half of a subject's clips lie within a degree of it (within 2.4 for s03). Its subjects hardly walk,
    so the floor does not show there how much of the lean is the camera's and how much is posture.

    Args:
        recordings: (T, J, 3) each, metres, all by one camera that stood still.
        joints: joints of the sensor.
    """
    positions = np.concatenate([np.asarray(recording, dtype=np.float64) for recording in recordings])
    between = positions[:, joints.ankles].mean(axis=1)
    height = np.linalg.norm(positions[:, joints.names.index("Head")] - between, axis=-1)
    trunk = positions[:, joints.names.index(joints.shoulders)] - between
    standing = (height >= MIN_STANDING_HEIGHT * np.percentile(height, 90)) & (np.linalg.norm(trunk, axis=-1) > 1e-6)
    if not standing.any():
        return np.eye(3)
    up = np.median(trunk[standing] / np.linalg.norm(trunk[standing], axis=-1, keepdims=True), axis=0)
    turn = swing_rotation(up[None], np.array([[0.0, 1.0, 0.0]]))[0]
    return turn if Rotation.from_matrix(turn).magnitude() <= np.radians(MAX_TILT) else np.eye(3)


def floor_height(positions: Array, joints: KinectJoints = KINECT_V1) -> float:
    """Height of the ground, metres: the 5th percentile over frames of the lowest ankle or foot."""
    return float(np.percentile(positions[:, joints.lowest, 1].min(axis=1), 5))


def resample_positions(times: Array, positions: Array, fps: float) -> Array:
    """(N, J, 3) linear interpolation of (T, J, 3) positions at ``fps``, from the first recorded time to the last.

    Args:
        times: (T,) seconds, increasing.
        positions: metres.
        fps: frames per second.
    """
    targets = times[0] + frame_times(float(times[-1] - times[0]), fps)
    after = np.clip(np.searchsorted(times, targets, side="right"), 1, len(times) - 1)
    before = after - 1
    weight = np.clip((targets - times[before]) / (times[after] - times[before]), 0, 1)[:, None, None]
    return np.asarray((1 - weight) * positions[before] + weight * positions[after])


def level_and_resample(
    positions: Array, times: Array, rotation: Array, fps: float, joints: KinectJoints = KINECT_V1
) -> Array:
    """(N, J, 3) positions of one clip, rotated by `level_camera`, with the floor at y = 0, at ``fps``."""
    levelled = positions @ rotation.T
    levelled[..., 1] -= floor_height(levelled, joints)
    return resample_positions(times, levelled, fps)


@dataclass(frozen=True, eq=False)
class PositionClip:
    """Levelled joint positions of one clip.

    Attributes:
        positions: (T, J, 3) metres, y up, at ``fps``.
        fps: frames per second.
        labels: action, subject, source and style of the `Motion`.
    """

    clip_id: str
    positions: Array
    fps: float
    labels: Mapping[str, Any]


def fit_subject(recorded: Sequence[PositionClip], joints: KinectJoints = KINECT_V1) -> list[Clip]:
    """Each clip of one subject as a `Motion` on the subject's own skeleton."""
    skeleton = estimate_skeleton([clip.positions for clip in recorded], joints.names, joints.parents)
    return [Clip(clip.clip_id, fit_motion(clip.positions, skeleton, clip.fps, **clip.labels)) for clip in recorded]
