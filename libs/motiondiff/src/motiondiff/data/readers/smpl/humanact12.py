"""HumanAct12 (Guo et al., ACM MM 2020) as ACTOR prepared it: ``humanact12poses.pkl``, which MDM and others use.

A pickled dictionary of lists, one entry a clip: ``poses`` (frames, 72) axis-angle of SMPL's 24 joints, ``joints3D``
(frames, 24, 3) metres, ``y`` the action from 0. It is read without executing anything
(`motiondiff.data.readers.pickles`). Rotations are unchanged; bone lengths are the clip's own, measured between
its joints, along the mean body's rest directions (`motiondiff.skeleton.smpl`). The camera's y may point down; the file
is turned upright by the height of heads. It has no subjects, so there is no split by subject, and no frame rate: `FPS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from einops import rearrange
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, check_fps, find_files, resample
from motiondiff.data.readers.pickles import load_restricted
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.smpl import JOINT_NAMES, PARENTS, mean_skeleton

Array = npt.NDArray[np.float64]

ACTIONS = (
    "warm_up", "walk", "run", "jump", "drink", "lift_dumbbell", "sit", "eat", "turn steering wheel", "phone", "boxing",
    "throw",
)  # fmt: skip
"""Actions 0 to 11, as ACTOR names them."""
FPS = 20.0
"""Frames per second at which ACTOR and MDM play the set."""
NUM_JOINTS = 24
MAX_REACH = 100.0
"""Metres."""

_KEYS = ("poses", "joints3D", "y")
_UPSIDE_DOWN = np.diag([1.0, -1.0, -1.0])


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per .pkl file below a folder, or the file itself."""
    files = find_files(Path(folder), ".pkl", "HumanAct12 (humanact12poses.pkl)")
    return [ClipRef("humanact12", path.stem, (path,)) for path in files]


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """All clips of a file, ids ``humanact12poses.0000``."""
    check_fps(fps)
    path = ref.files[0]
    content = load_restricted(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), (list, tuple, np.ndarray)) for key in _KEYS
    ):
        raise InputError(f"{path}: a dictionary with lists {', '.join(_KEYS)} expected")
    counts = {key: len(content[key]) if getattr(content[key], "shape", None) != () else 0 for key in _KEYS}
    if len(set(counts.values())) != 1 or not counts["y"]:
        raise InputError(f"{path}: as many poses as joints3D as y expected, found {counts}")
    read: list[tuple[str, Array, Array, str]] = []
    results: list[Clip | Rejection] = []
    for number in range(counts["y"]):
        clip_id = f"{ref.clip_id}.{number:04d}"
        try:
            read.append((clip_id, *_read_entry(*(content[key][number] for key in _KEYS))))
        except InputError as error:
            results.append(Rejection(clip_id, f"{path}: entry {number}: {error}"))
    up = sum(_height(joints) for _, _, joints, _ in read)
    for clip_id, poses, joints, action in read:
        turn = _UPSIDE_DOWN if up < 0 else np.eye(3)
        results.append(Clip(clip_id, resample(_motion(poses, joints, turn, action, clip_id), fps)))
    return results


def _read_entry(poses: Any, joints: Any, label: Any) -> tuple[Array, Array, str]:
    """Checked (T, 24, 3) axis-angle, (T, 24, 3) joints, and the action."""
    poses, joints = (np.asarray(array) if isinstance(array, np.ndarray) else np.empty(0) for array in (poses, joints))
    if poses.dtype.kind not in "fiu" or joints.dtype.kind not in "fiu":
        raise InputError("poses and joints3D must be numbers")
    if (
        poses.ndim != 2
        or poses.shape[1] != 3 * NUM_JOINTS
        or joints.shape != (len(poses), NUM_JOINTS, 3)
        or len(poses) == 0
    ):
        raise InputError(f"poses {poses.shape} and joints3D {joints.shape}; (frames, 72) and (frames, 24, 3) wanted")
    if not (np.isfinite(poses).all() and np.isfinite(joints).all()) or np.abs(joints).max() > MAX_REACH:
        raise InputError("holds values that are not finite, or joints out of reach")
    if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or not 0 <= int(label) < len(ACTIONS):
        raise InputError(f"action {label!r} is not from 0 to {len(ACTIONS) - 1}")
    turns = rearrange(poses.astype(np.float64), "t (joint xyz) -> t joint xyz", xyz=3)
    return turns, joints.astype(np.float64), ACTIONS[int(label)]


def _height(joints: Array) -> float:
    """Mean height of the head above the ankles along y, metres."""
    ankles = joints[:, [JOINT_NAMES.index("left_ankle"), JOINT_NAMES.index("right_ankle")], 1].mean(axis=1)
    return float((joints[:, JOINT_NAMES.index("head"), 1] - ankles).mean())


def _motion(poses: Array, joints: Array, turn: Array, action: str, source: str) -> Motion:
    lengths = np.zeros(NUM_JOINTS)
    bones = joints[:, 1:] - joints[:, PARENTS[1:]]
    lengths[1:] = np.median(np.linalg.norm(bones, axis=-1), axis=0)
    rotations = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(*poses.shape, 3)
    rotations[:, 0] = turn @ rotations[:, 0]
    turned = joints @ turn.T
    motion = Motion(
        turned[:, 0].astype(np.float32),
        rotations.astype(np.float32),
        mean_skeleton(NUM_JOINTS).with_bone_lengths(lengths),
        FPS,
        action=action,
        source=source,
    )
    residual = float(np.linalg.norm(motion.positions - turned, axis=-1).mean())
    return Motion(motion.root, motion.rotations, motion.skeleton, FPS, action=action, source=source, residual=residual)
