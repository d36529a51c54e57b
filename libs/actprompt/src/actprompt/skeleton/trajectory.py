"""Trajectory of a skeleton over a clip as one vector, and augmented copies for training.

The vector holds the channels at evenly spaced moments, and their statistics in parts of the clip (a temporal pyramid):
the first contains the order of movements, the second is robust to their pace.

Two kinds of skeleton are understood: the limb directions of `actprompt.skeleton.joint_angles` (joints named
`LIMB_JOINTS`), and positions of any other joints, which are taken from their mean and in units of the body's size.

Shapes: T frames of a clip, J joints, F = (moments + rows of the pyramid) x channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from einops import rearrange

from actprompt.skeleton.joint_angles import LIMB_JOINTS, active_side_first, limb_channels
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
            jitter: standard deviation of each joint's displacement, constant over a copy, as of a tracker's error.
        """
        whole = complete(skeleton, self.joint_means)
        rows = [self._vector(whole)]
        for _ in range(count):
            moved = time_warp(whole, generator) + generator.normal(0, jitter, (1, *whole.shape[1:]))
            if self.limbs:
                moved = moved / np.maximum(np.linalg.norm(moved, axis=-1, keepdims=True), 1e-6)
            rows.append(self._vector(moved))
        return np.stack(rows)

    @property
    def limbs(self) -> bool:
        """True for the limb directions of `actprompt.skeleton.joint_angles`."""
        return self.joint_names == LIMB_JOINTS

    def _vector(self, whole: Array) -> npt.NDArray[np.float32]:
        channels = limb_channels(active_side_first(whole)) if self.limbs else _position_channels(whole)
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
