"""Trajectory of a skeleton over a clip as one vector, and augmented copies for training.

The vector holds the channels at evenly spaced moments, and their statistics in parts of the clip (a temporal pyramid):
the first contains the order of movements, the second is robust to their pace.

Three kinds of skeleton are understood, alone or side by side: the limb directions of `actprompt.skeleton.joint_angles`
(joints named `LIMB_JOINTS`); positions of a body, whose joints are found by their roles (`actprompt.skeleton.roles`),
so that skeletons of any tracker give the same channels; and positions of any other joints, which are taken from their
mean and in units of their size.

Shapes: T frames of a clip, J joints, F = (moments + rows of the pyramid) x channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from einops import rearrange

from actprompt.skeleton.joint_angles import LIMB_JOINTS, active_side_first, limb_channels
from actprompt.skeleton.roles import active_arm_left, body_channels, body_joints, limb_directions, trunk_length
from actprompt.skeleton.trajectory_ops import complete, mean_joints, resample, temporal_pyramid, time_warp

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrajectoryEncoder:
    """Encoder of skeleton sequences of any length as vectors of one length; `fit` takes training clips only.

    Attributes:
        joint_names: J names.
        joint_means: (J, 3), the training clips' mean of each joint: imputed where a clip never has the joint.
        frames: points in time.
    """

    joint_names: tuple[str, ...]
    joint_means: Array
    frames: int

    @classmethod
    def fit(cls, skeletons: Iterable[npt.ArrayLike], joint_names: Sequence[str], frames: int) -> TrajectoryEncoder:
        """The encoder with the joint means of training clips (T, J, 3) each, NaN where a joint was not tracked."""
        # a joint that no training clip has is constant, so its value does not matter
        return cls(tuple(joint_names), np.nan_to_num(mean_joints(skeletons)), frames)

    @classmethod
    def unfitted(cls, joint_names: Sequence[str], frames: int) -> TrajectoryEncoder:
        """An encoder of these joints whose means are zero until a training fits them."""
        return cls(tuple(joint_names), np.zeros((len(joint_names), 3)), frames)

    @property
    def width(self) -> int:
        """Length F of the vectors."""
        return len(self.vector(np.zeros((1, len(self.joint_names), 3))))

    def vector(self, skeleton: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """A clip (T, J, 3), NaN where a joint was not tracked, as (F,)."""
        return self._vector(complete(skeleton, self.joint_means))

    def augment(
        self, skeleton: npt.ArrayLike, count: int, generator: np.random.Generator, *, jitter: float
    ) -> npt.NDArray[np.float32]:
        """The clip and ``count`` copies with time warps and displaced joints: (1 + count, F).

        Args:
            skeleton: (T, J, 3).
            count: copies.
            generator: source of the random numbers.
            jitter: standard deviation of each joint's displacement, constant over a copy, as of a tracker's error: of
                directions, and of positions in half trunk lengths.
        """
        whole = complete(skeleton, self.joint_means)
        rows = [self._vector(whole)]
        directions, others = self.limbs, self._others
        scale = np.ones((len(self.joint_names), 1))
        if others:
            scale[others] = self._limb_length(whole[:, others])
        for _ in range(count):
            moved = time_warp(whole, generator) + scale * generator.normal(0, jitter, (1, *whole.shape[1:]))
            if directions:
                limbs = moved[:, directions]
                moved[:, directions] = limbs / np.maximum(np.linalg.norm(limbs, axis=-1, keepdims=True), 1e-6)
            rows.append(self._vector(moved))
        return np.stack(rows)

    @cached_property
    def limbs(self) -> list[int]:
        """The limb directions of `actprompt.skeleton.joint_angles` among the joints."""
        names = self.joint_names
        return [names.index(name) for name in LIMB_JOINTS] if set(LIMB_JOINTS) <= set(names) else []

    @cached_property
    def _others(self) -> list[int]:
        """The joints that are positions."""
        return [index for index in range(len(self.joint_names)) if index not in self.limbs]

    def _body(self, positions: Array) -> Array | None:
        return body_joints(positions, [self.joint_names[index] for index in self._others])

    def _limb_length(self, positions: Array) -> float:
        """Half a trunk, about the length of a limb's part; 1 for joints that are no body."""
        body = self._body(positions)
        return 1.0 if body is None else trunk_length(body) / 2

    def _vector(self, whole: Array) -> npt.NDArray[np.float32]:
        parts = []
        if self.limbs:
            parts.append(limb_channels(active_side_first(whole[:, self.limbs])))
        if self._others:
            positions = whole[:, self._others]
            body = self._body(positions)
            if body is None:
                parts.append(_position_channels(positions))
            else:
                body = active_arm_left(body)
                parts += [limb_channels(limb_directions(body)), body_channels(body)]
        channels = np.concatenate(parts, axis=1)
        moments = rearrange(resample(channels, self.frames), "t c -> (t c)")
        return np.concatenate([moments, temporal_pyramid(channels, frames=self.frames)]).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "joint_names": list(self.joint_names),
            "joint_means": self.joint_means.tolist(),
            "frames": self.frames,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrajectoryEncoder:
        """The inverse of `to_dict`."""
        return cls(tuple(values["joint_names"]), np.asarray(values["joint_means"]), int(values["frames"]))


def _position_channels(positions: Array) -> Array:
    """Joints (T, J, 3) from the middle of each frame's joints, in units of their mean distance from it; (T, 3 J + 3).

    The last three channels are the way of the middle since the first frame.
    """
    middle = positions.mean(axis=1, keepdims=True)
    body = positions - middle
    size = max(float(np.linalg.norm(body, axis=2).mean()), 1e-6)
    way = (middle - middle[:1])[:, 0]
    return np.concatenate([rearrange(body, "t j xyz -> t (j xyz)"), way], axis=1) / size
