"""Simulated motions: a stick figure animated by formulas, for the demo and for tests.

They replace motion capture where there is none. They are not recordings of people, and everything derived from them is
marked as simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from motiondiff.data.readers.base import Clip
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

Array = npt.NDArray[np.float64]

# joint -> (parent, rest offset in metres): a standing adult with arms down, x left, y up, z forward
_BODY: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "pelvis": (None, (0, 0, 0)),
    "left_hip": ("pelvis", (0.09, -0.05, 0)),
    "left_knee": ("left_hip", (0, -0.42, 0)),
    "left_ankle": ("left_knee", (0, -0.42, 0)),
    "left_toe": ("left_ankle", (0, -0.06, 0.14)),
    "right_hip": ("pelvis", (-0.09, -0.05, 0)),
    "right_knee": ("right_hip", (0, -0.42, 0)),
    "right_ankle": ("right_knee", (0, -0.42, 0)),
    "right_toe": ("right_ankle", (0, -0.06, 0.14)),
    "spine": ("pelvis", (0, 0.22, 0)),
    "chest": ("spine", (0, 0.22, 0)),
    "head": ("chest", (0, 0.25, 0.02)),
    "left_shoulder": ("chest", (0.17, 0.05, 0)),
    "left_elbow": ("left_shoulder", (0, -0.29, 0)),
    "left_wrist": ("left_elbow", (0, -0.26, 0)),
    "right_shoulder": ("chest", (-0.17, 0.05, 0)),
    "right_elbow": ("right_shoulder", (0, -0.29, 0)),
    "right_wrist": ("right_elbow", (0, -0.26, 0)),
}
JOINT_NAMES = tuple(_BODY)
LEG = 0.05 + 0.42 + 0.42 + 0.06


def synthetic_skeleton(stature: float = 1.0) -> Skeleton:
    """The simulated body, its bones scaled by ``stature`` (1 is a person of 1.75 m)."""
    parents = tuple(-1 if parent is None else JOINT_NAMES.index(parent) for parent, _ in _BODY.values())
    offsets = np.array([offset for _, offset in _BODY.values()], dtype=np.float32) * np.float32(stature)
    return Skeleton(JOINT_NAMES, parents, offsets)


class _Pose:
    """Rotation vectors (rad) of every joint and the root trajectory (m, before scaling), set by an action."""

    def __init__(self, seconds: float, fps: float) -> None:
        self.time: Array = np.arange(max(2, round(seconds * fps))) / fps
        self.angles: Array = np.zeros((len(self.time), len(JOINT_NAMES), 3))
        self.path: Array = np.zeros((len(self.time), 3))

    def bend(self, joint: str, axis: str, angle: Array | float) -> None:
        """Add an angle (rad) about x (positive: a hanging limb swings back), y or z."""
        self.angles[:, JOINT_NAMES.index(joint), "xyz".index(axis)] += angle

    def ramp(self, start: float, stop: float) -> Array:
        """Smooth step from 0 to 1 between two fractions of the clip."""
        fraction = np.clip((self.time / self.time[-1] - start) / (stop - start), 0, 1)
        return np.asarray(fraction * fraction * (3 - 2 * fraction))


def _stride(pose: _Pose, rng: np.random.Generator, frequency: float, swing: float, knee: float, speed: float) -> None:
    phase = 2 * np.pi * (frequency * pose.time + rng.uniform())
    for side, shift in (("left", 0.0), ("right", np.pi)):
        leg = np.sin(phase + shift)
        pose.bend(f"{side}_hip", "x", -swing * leg)
        pose.bend(f"{side}_knee", "x", knee * (0.6 + np.sin(phase + shift - 1.9)).clip(0))
        pose.bend(f"{side}_shoulder", "x", 0.8 * swing * leg)
        pose.bend(f"{side}_elbow", "x", -0.3 - 0.5 * knee)
    pose.path[:, 2] += speed * pose.time
    pose.path[:, 1] += 0.02 * np.cos(2 * phase)


def _walk(pose: _Pose, rng: np.random.Generator) -> None:
    _stride(pose, rng, rng.uniform(0.8, 1.0), rng.uniform(0.4, 0.5), 0.5, rng.uniform(1.0, 1.4))


def _run(pose: _Pose, rng: np.random.Generator) -> None:
    _stride(pose, rng, rng.uniform(1.3, 1.5), rng.uniform(0.7, 0.85), 1.1, rng.uniform(2.6, 3.2))
    pose.bend("spine", "x", 0.2)


def _wave(pose: _Pose, rng: np.random.Generator) -> None:
    up = pose.ramp(0.0, 0.2) * (1 - pose.ramp(0.8, 1.0))
    pose.bend("right_shoulder", "z", -2.3 * up)
    sway = np.sin(2 * np.pi * rng.uniform(1.0, 1.5) * pose.time)
    pose.bend("right_elbow", "z", up * (-0.4 + rng.uniform(0.4, 0.6) * sway))


def _sit_down(pose: _Pose, rng: np.random.Generator) -> None:
    down = pose.ramp(0.1, rng.uniform(0.6, 0.8))
    for side in ("left", "right"):
        pose.bend(f"{side}_hip", "x", -1.5 * down)
        pose.bend(f"{side}_knee", "x", 1.5 * down)
        pose.bend(f"{side}_shoulder", "x", -0.5 * down)
    pose.bend("spine", "x", 0.8 * down * (1 - 0.7 * pose.ramp(0.6, 1.0)))
    pose.path[:, 1] -= 0.42 * down
    pose.path[:, 2] -= 0.35 * down


def _pick_up(pose: _Pose, rng: np.random.Generator) -> None:
    down = pose.ramp(0.05, 0.45) * (1 - pose.ramp(0.55, 0.95))
    pose.bend("pelvis", "x", 0.9 * down)
    pose.bend("spine", "x", rng.uniform(0.5, 0.7) * down)
    for side in ("left", "right"):
        pose.bend(f"{side}_hip", "x", -1.3 * down)
        pose.bend(f"{side}_knee", "x", 0.8 * down)
    pose.bend("right_shoulder", "x", -1.2 * down)
    pose.path[:, 1] -= 0.12 * down


ACTIONS: dict[str, Callable[[_Pose, np.random.Generator], None]] = {
    "walk": _walk,
    "run": _run,
    "wave": _wave,
    "sit down": _sit_down,
    "pick up": _pick_up,
}


def simulate_motion(action: str, seed: int, *, fps: float = 20.0, subject: int = 0) -> Motion:
    """One simulated clip in the common frame's convention: metres, y-up, starting towards +z.

    Args:
        action: a key of `ACTIONS`.
        seed: seed of the variation.
        fps: frames per second.
        subject: number of the simulated person; sets stature and posture.
    """
    person = np.random.default_rng([7, subject])
    stature, lean = float(person.uniform(0.9, 1.1)), float(person.normal(0, 0.05))
    rng = np.random.default_rng([seed, subject, sorted(ACTIONS).index(action)])
    pose = _Pose(rng.uniform(2.0, 3.5), fps)
    ACTIONS[action](pose, rng)
    pose.bend("spine", "x", lean)
    for joint in range(1, len(JOINT_NAMES)):  # slow sway of every joint
        frequency, phase = rng.uniform(0.2, 0.6, 3), rng.uniform(0, 2 * np.pi, 3)
        pose.angles[:, joint] += 0.03 * np.sin(2 * np.pi * pose.time[:, None] * frequency + phase)
    root = (pose.path + np.array([0, LEG, 0])) * stature
    rotations = Rotation.from_rotvec(pose.angles.reshape(-1, 3)).as_matrix().reshape(*pose.angles.shape[:2], 3, 3)
    return Motion(
        root=root,
        rotations=rotations,
        skeleton=synthetic_skeleton(stature),
        fps=fps,
        action=action,
        subject=f"simulated-{subject}",
        source="simulated",
    )


def simulate_clips(count: int, *, fps: float = 20.0, subjects: int = 5, seed: int = 0) -> Iterator[Clip]:
    """``count`` simulated clips, cycling through actions and subjects."""
    actions = list(ACTIONS)
    for number in range(count):
        action, subject = actions[number % len(actions)], (number // len(actions)) % subjects
        motion = simulate_motion(action, seed + number, fps=fps, subject=subject)
        yield Clip(f"simulated-{number:06d}", motion)
