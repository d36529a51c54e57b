"""`Motion`: one clip of a moving skeleton, and rigid transforms of it in the world."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from icube_common.config import as_list
from icube_common.errors import InputError
from motiondiff.skeleton.skeleton import Skeleton

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Motion:
    """A clip: metres, y-up, right-handed.

    Attributes:
        root: (T, 3) float32, position of joint 0 in the world, metres.
        rotations: (T, J, 3, 3) float32, each joint in its parent's frame, the root in the world.
        skeleton: names, parents and rest offsets of the J joints.
        fps: frames per second.
        action: action label ("walk"), or None where the source has none.
        style: style label, or None.
        subject: identifier of the person, or None where the source has none.
        source: file name and frame range, for messages.
        texts: captions, one sentence each; empty where the source has none.
        residual: mean distance in metres of the recorded joints from those of the skeleton; 0 where the source holds
            rotations.

    Raises:
        InputError: shapes that do not fit, no frames, values that are not finite, fps not positive.
    """

    root: Array
    rotations: Array
    skeleton: Skeleton
    fps: float
    action: str | None = None
    style: str | None = None
    subject: str | None = None
    source: str = ""
    residual: float = 0.0
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(as_list(self.texts)))
        object.__setattr__(self, "root", np.ascontiguousarray(self.root, dtype=np.float32))
        object.__setattr__(self, "rotations", np.ascontiguousarray(self.rotations, dtype=np.float32))
        frames, joints = len(self.root), len(self.skeleton)
        if frames == 0:
            raise InputError(f"{self.source or 'motion'}: holds no frames")
        if self.root.shape != (frames, 3) or self.rotations.shape != (frames, joints, 3, 3):
            raise InputError(
                f"{self.source or 'motion'}: root {self.root.shape} and rotations {self.rotations.shape} "
                f"do not fit a skeleton of {joints} joints"
            )
        if not (np.isfinite(self.root).all() and np.isfinite(self.rotations).all()):
            frame = int(np.argmax(~(np.isfinite(self.root).all(-1) & np.isfinite(self.rotations).all((-3, -2, -1)))))
            raise InputError(f"{self.source or 'motion'}: frame {frame} holds NaN or infinite values")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise InputError(f"{self.source or 'motion'}: fps {self.fps} must be positive")

    def __len__(self) -> int:
        return len(self.root)

    @property
    def seconds(self) -> float:
        """Duration: frames divided by fps."""
        return len(self) / self.fps

    @cached_property
    def positions(self) -> Array:
        """(T, J, 3) metres: world positions of the joints by forward kinematics."""
        import torch

        from motiondiff.skeleton.kinematics import forward_kinematics

        positions, _ = forward_kinematics(
            torch.from_numpy(self.root),
            torch.from_numpy(self.rotations),
            torch.tensor(self.skeleton.offsets),
            self.skeleton.parents,
        )
        return np.asarray(positions.numpy(), dtype=np.float32)

    def cut(self, start: int, stop: int) -> Motion:
        """Frames ``start`` (inclusive) to ``stop`` (exclusive).

        Raises:
            InputError: the range is empty or leaves the clip.
        """
        if not 0 <= start < stop <= len(self):
            raise InputError(f"{self.source}: frames {start} to {stop} are not within 0 to {len(self)}")
        return replace(self, root=self.root[start:stop], rotations=self.rotations[start:stop])


@dataclass(frozen=True)
class RigidTransform:
    """Rigid transform in the world: rotation by ``yaw`` about +y (rad, counter-clockwise from above), then translation.

    Attributes:
        yaw: radians.
        translation: metres along x, y, z.
    """

    yaw: float = 0.0
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def matrix(self) -> Array:
        """(3, 3) rotation about +y."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], dtype=np.float32)


def apply_transform(motion: Motion, transform: RigidTransform) -> Motion:
    """The motion rotated and translated as a whole: ``p' = R p + t``."""
    rotations = motion.rotations.copy()
    rotations[:, 0] = transform.matrix @ motion.rotations[:, 0]
    root = motion.root @ transform.matrix.T + np.asarray(transform.translation, dtype=np.float32)
    return replace(motion, root=root, rotations=rotations)


def headings(motion: Motion) -> Array:
    """(T,) facing direction as yaw from +z about +y (rad): left axis of hips and shoulders, crossed with up.

    Zeros where no joint name has a side.
    """
    pairs = motion.skeleton.left_right_pairs
    if not pairs:
        return np.zeros(len(motion), dtype=np.float32)
    left = np.sum([motion.positions[:, a] - motion.positions[:, b] for a, b in pairs], axis=0)
    # left x up = (-left_z, 0, left_x)
    return np.asarray(np.arctan2(-left[:, 2], left[:, 0]), dtype=np.float32)


def canonicalise(motion: Motion, *, floor: float | None = None) -> tuple[Motion, RigidTransform]:
    """Bring a clip to the common frame: root above the origin, facing +z in the first frame, floor at y = 0.

    Args:
        motion: the clip as recorded.
        floor: height of the ground, metres; by default the 1st percentile over frames of the lowest joint's height.

    Returns:
        The clip, and the inverse transform: ``apply_transform(clip, transform)`` is the input.
    """
    if floor is None:
        floor = float(np.percentile(motion.positions[..., 1].min(axis=-1), 1))
    yaw = float(headings(motion)[0])
    back = RigidTransform(yaw, (float(motion.root[0, 0]), floor, float(motion.root[0, 2])))
    turn = RigidTransform(-yaw)
    shift = -(turn.matrix @ np.asarray(back.translation, dtype=np.float32))
    return apply_transform(motion, RigidTransform(-yaw, (float(shift[0]), float(shift[1]), float(shift[2])))), back
