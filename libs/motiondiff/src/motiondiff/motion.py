"""`Motion`: one clip of a moving skeleton, and where it stands in the world."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.utils import as_list
from motiondiff.geometry.skeleton import Skeleton
from motiondiff.mirror_labels import mirrored_text

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Motion:
    """A clip: metres, y-up, right-handed.

    Attributes:
        root: (T, 3) float32, position of joint 0 in the world, metres.
        rotations: (T, J, 3, 3) float32, each joint in its parent's frame, the root in the world.
        skeleton: names, parents and rest offsets of the J joints.
        fps: frames per second.
        action: what is done ("walk"), or None where the source does not say.
        tag: how or by whom it is done (a style), or None.
        subject: who does it, or None where the source does not say.
        source: where it came from, for people (file name, frame range).
        texts: descriptions of the clip by people, one sentence each; empty where the source has none.
        residual: mean distance in metres between what was recorded and what the skeleton reproduces; 0 where the
            source holds rotations.

    Raises:
        InputError: shapes that do not fit, no frames, values that are not finite, fps not positive.
    """

    root: Array
    rotations: Array
    skeleton: Skeleton
    fps: float
    action: str | None = None
    tag: str | None = None
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

        from motiondiff.geometry.kinematics import forward_kinematics

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
class Placement:
    """A rigid placement in the world: turn by ``yaw`` about +y (rad, counter-clockwise seen from above), then shift.

    Attributes:
        yaw: radians.
        shift: metres along x, y, z.
    """

    yaw: float = 0.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def matrix(self) -> Array:
        """(3, 3) rotation about +y."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], dtype=np.float32)


def place(motion: Motion, placement: Placement) -> Motion:
    """The motion turned and shifted as a whole: ``p' = R p + shift``."""
    rotations = motion.rotations.copy()
    rotations[:, 0] = placement.matrix @ motion.rotations[:, 0]
    root = motion.root @ placement.matrix.T + np.asarray(placement.shift, dtype=np.float32)
    return replace(motion, root=root, rotations=rotations)


def headings(motion: Motion) -> Array:
    """(T,) facing direction as yaw from +z about +y (rad): the left axis of hips and shoulders, crossed with up.

    Zeros where the joint names do not tell left from right.
    """
    pairs = motion.skeleton.across
    if not pairs:
        return np.zeros(len(motion), dtype=np.float32)
    left = np.sum([motion.positions[:, a] - motion.positions[:, b] for a, b in pairs], axis=0)
    # left x up = (-left_z, 0, left_x)
    return np.asarray(np.arctan2(-left[:, 2], left[:, 0]), dtype=np.float32)


def in_mirror(motion: Motion) -> Motion:
    """The motion seen in the mirror x = 0: ``M p`` of the joint on the other side, M = diag(-1, 1, 1).

    Labels and texts that name a side name the other one (`motiondiff.mirror_labels`).

    Raises:
        InputError: the names of the joints do not tell left from right.
    """
    skeleton, order = motion.skeleton, list(motion.skeleton.mirrored)
    across = np.array([-1, 1, 1], dtype=np.float32)
    return replace(
        motion,
        root=motion.root * across,
        rotations=across[:, None] * motion.rotations[:, order] * across,
        skeleton=Skeleton(skeleton.names, skeleton.parents, skeleton.offsets[order] * across),
        action=None if motion.action is None else mirrored_text(motion.action),
        tag=None if motion.tag is None else mirrored_text(motion.tag),
        texts=tuple(mirrored_text(text) for text in motion.texts),
    )


def canonicalise(motion: Motion, *, floor: float | None = None) -> tuple[Motion, Placement]:
    """Bring a clip to the common frame: the root above the origin and facing +z in the first frame, floor at y = 0.

    Args:
        motion: the clip as recorded.
        floor: height of the ground, metres; by default the 1st percentile over frames of the lowest joint's height.

    Returns:
        The clip, and the placement that puts it back: ``place(clip, placement)`` is the input.
    """
    if floor is None:
        floor = float(np.percentile(motion.positions[..., 1].min(axis=-1), 1))
    yaw = float(headings(motion)[0])
    back = Placement(yaw, (float(motion.root[0, 0]), floor, float(motion.root[0, 2])))
    turn = Placement(-yaw)
    shift = -(turn.matrix @ np.asarray(back.shift, dtype=np.float32))
    return place(motion, Placement(-yaw, (float(shift[0]), float(shift[1]), float(shift[2])))), back
