"""The course of a skeleton over a clip as one vector, and copies of it for training.

The vector holds the channels at evenly spaced moments, and what they do in ever longer parts of the clip (a temporal
pyramid): the first tells the order of movements, the second stays the same where two people do them at another pace.

Two kinds of skeleton are understood: the limb directions of `actprompt.limbs` (joints named `LIMB_JOINTS`), and
positions of any other joints, which are taken from their mean and in units of the body's size.

Shapes: T frames of a clip, J joints, F = (moments + rows of the pyramid) x channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from einops import rearrange

from actprompt.limbs import LIMB_JOINTS, active_side_first, limb_channels
from actprompt.sequences import complete, mean_joints, resample, temporal_pyramid, time_warp

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """Skeletons of any length -> vectors of one length; `fit` looks at training clips only.

    Attributes:
        joint_names: J names.
        stand_in: (J, 3), the training clips' mean of each joint, for joints that a clip has never seen.
        frames: points in time.
    """

    joint_names: tuple[str, ...]
    stand_in: Array
    frames: int

    @classmethod
    def fit(cls, skeletons: Iterable[npt.ArrayLike], joint_names: Sequence[str], frames: int) -> Course:
        """What stands in for lost joints, from training clips (T, J, 3) each, NaN where a joint was not tracked."""
        means = mean_joints(skeletons)
        # a joint that no training clip has says nothing, wherever it is put
        return cls(tuple(joint_names), np.nan_to_num(means), frames)

    def vector(self, skeleton: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """A clip (T, J, 3), NaN where a joint was not tracked, as (F,)."""
        return self._vector(complete(skeleton, self.stand_in))

    def copies(
        self, skeleton: npt.ArrayLike, count: int, generator: np.random.Generator, *, jitter: float
    ) -> npt.NDArray[np.float32]:
        """The clip and ``count`` copies of it, warped in time and with joints a little off: (1 + count, F).

        Args:
            skeleton: (T, J, 3).
            count: copies.
            generator: what is drawn from.
            jitter: deviation of each joint, the same all through a copy: a tracker's error rather than noise.
        """
        whole = complete(skeleton, self.stand_in)
        rows = [self._vector(whole)]
        for _ in range(count):
            moved = time_warp(whole, generator) + generator.normal(0, jitter, (1, *whole.shape[1:]))
            if self.limbs:
                moved = moved / np.maximum(np.linalg.norm(moved, axis=-1, keepdims=True), 1e-6)
            rows.append(self._vector(moved))
        return np.stack(rows)

    @property
    def limbs(self) -> bool:
        """Whether the joints are the limb directions of `actprompt.limbs`."""
        return self.joint_names == LIMB_JOINTS

    def _vector(self, whole: Array) -> npt.NDArray[np.float32]:
        channels = limb_channels(active_side_first(whole)) if self.limbs else _position_channels(whole)
        moments = rearrange(resample(channels, self.frames), "t c -> (t c)")
        return np.concatenate([moments, temporal_pyramid(channels, frames=self.frames)]).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "joint_names": list(self.joint_names),
            "stand_in": self.stand_in.tolist(),
            "frames": self.frames,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Course:
        """The inverse of `record`."""
        return cls(tuple(record["joint_names"]), np.asarray(record["stand_in"]), int(record["frames"]))


def _position_channels(positions: Array) -> Array:
    """Joints (T, J, 3) from the middle of each frame's joints, in units of their mean distance from it; (T, 3 J + 3).

    The last three channels are the way of the middle since the first frame.
    """
    middle = positions.mean(axis=1, keepdims=True)
    body = positions - middle
    size = max(float(np.linalg.norm(body, axis=2).mean()), 1e-6)
    way = (middle - middle[:1])[:, 0]
    return np.concatenate([rearrange(body, "t j xyz -> t (j xyz)"), way], axis=1) / size
