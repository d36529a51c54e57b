"""Input features of a classifier: a fixed number of frames, joints relative to the root, and their speed.

The clip's duration is left out on purpose: a generator that draws lengths as the training clips of an action have them
would be recognised by its lengths, whatever it does. Shapes: N clips, T frames, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from motiondiff.config import ClassifierConfig

Array = npt.NDArray[np.float32]

CHANNELS = 6
"""Three coordinates and their change from frame to frame."""
FINER = 2
"""Stored frames of a clip relative to the input of a network, so that a crop loses little."""


def resample(positions: Array, frames: int) -> Array:
    """(T, J, 3) to (frames, J, 3), evenly spaced in time, first and last frame kept, linear in between."""
    places = np.linspace(0, len(positions) - 1, frames)
    lower = np.floor(places).astype(int)
    upper = np.minimum(lower + 1, len(positions) - 1)
    share = (places - lower).astype(np.float32)[:, None, None]
    return np.asarray(positions[lower] * (1 - share) + positions[upper] * share, dtype=np.float32)


def root_relative(positions: Array) -> Array:
    """(T, J, 3) in the common frame to the same shape: joint 0 keeps its path, all others are relative to it."""
    relative = positions - positions[:, :1]
    relative[:, 0] = positions[:, 0]
    return np.asarray(relative)


def stack_clips(positions: Sequence[Array], config: ClassifierConfig) -> Float[Tensor, "N T J 3"]:
    """Clips of any length as one tensor with `FINER` times the network's frames, metres, relative to the root."""
    return torch.from_numpy(np.stack([resample(root_relative(clip), FINER * config.frames) for clip in positions]))


def crop_in_time(
    clips: Float[Tensor, "N T J 3"], start: Float[Tensor, " N"], stop: Float[Tensor, " N"], frames: int
) -> Float[Tensor, "N frames J 3"]:
    """Each clip between two shares of its length, resampled linearly; the path starts where the cut does."""
    last = clips.shape[1] - 1
    places = last * (start[:, None] + (stop - start)[:, None] * torch.linspace(0, 1, frames))
    lower = places.floor().long().clamp(0, last)
    share = (places - lower)[:, :, None, None]
    row = torch.arange(len(clips))[:, None]
    cut = clips[row, lower] * (1 - share) + clips[row, (lower + 1).clamp(max=last)] * share
    origin = cut[:, :1, :1] * torch.tensor([1.0, 0.0, 1.0])
    return torch.cat([cut[:, :, :1] - origin, cut[:, :, 1:]], dim=2)


def whole_clips(clips: Float[Tensor, "N T J 3"], config: ClassifierConfig) -> Float[Tensor, "N frames J 3"]:
    """The network's frames of whole clips, unvaried."""
    count = len(clips)
    return crop_in_time(clips, torch.zeros(count), torch.ones(count), config.frames)


def varied_clips(
    clips: Float[Tensor, "N T J 3"], config: ClassifierConfig, generator: torch.Generator
) -> Float[Tensor, "N frames J 3"]:
    """The network's frames of clips that are cut, turned about y, scaled, their joints moved, each at random.

    What a few people in front of one sensor do not show: other bodies, other directions, other beginnings and ends.
    """
    count, joints = len(clips), clips.shape[2]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    length = uniform(config.min_crop, 1.0)
    start = (1 - length) * torch.rand(count, generator=generator)
    cut = crop_in_time(clips, start, start + length, config.frames)
    reach = float(np.radians(config.rotation_degrees))
    angle = uniform(-reach, reach)
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros(count), torch.ones(count)
    turn = torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], dim=-1).view(count, 3, 3)
    turned = torch.einsum("nij,ntkj->ntki", turn, cut)
    scaled = turned * uniform(1 - config.scale_range, 1 + config.scale_range)[:, None, None, None]
    return scaled + config.joint_noise * torch.randn(count, 1, joints, 3, generator=generator)


def with_speed(clips: Float[Tensor, "N frames J 3"]) -> Float[Tensor, "N frames J 6"]:
    """Append to each coordinate its change from the frame before (0 in the first)."""
    change = torch.diff(clips, dim=1, prepend=clips[:, :1])
    return torch.cat([clips, change], dim=-1)
