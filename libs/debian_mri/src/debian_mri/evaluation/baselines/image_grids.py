"""Images and volumes as few numbers: means of blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

BLOCKS = 22
"""Blocks along each side of a slice: 8 mm of an image of 176 mm."""
VOXEL_MM = 8.0
"""Side of a down-sampled voxel."""


def block_means(image: Float32[np.ndarray, "h w"], blocks: int = BLOCKS) -> Float32[np.ndarray, "b b"]:
    """The means of ``blocks`` x ``blocks`` parts of an image, as equal as its pixels allow; pixels in full only.

    An image with fewer pixels than blocks along a side repeats pixels.
    """
    for axis in (0, 1):
        image = _means_along(image, blocks, axis)
    return image.astype(np.float32)


def coarse(volume: Float32[np.ndarray, "x y z"], spacing: float, mm: float = VOXEL_MM) -> Float32[np.ndarray, "i j k"]:
    """A volume in voxels of about ``mm``: block means along each axis.

    Args:
        volume: preprocessed.
        spacing: mm between its voxels.
        mm: wanted side of a voxel.
    """
    for axis in range(3):
        volume = _means_along(volume, max(1, round(volume.shape[axis] * spacing / mm)), axis)
    return volume.astype(np.float32)


def stacked(images: Sequence[Float32[np.ndarray, "h w"]], blocks: int) -> Float32[np.ndarray, "s b b"]:
    """All slices of a scan as block means."""
    return np.stack([block_means(image, blocks) for image in images])


def _means_along(values: Float32[np.ndarray, "..."], parts: int, axis: int) -> Float32[np.ndarray, "..."]:
    """Means of ``parts`` runs along an axis: run i is ``floor(i n / parts)`` to ``ceil((i + 1) n / parts)``."""
    size = values.shape[axis]
    sums = np.concatenate(
        [np.zeros_like(values.take([0], axis=axis), dtype=np.float64), np.cumsum(values, axis=axis, dtype=np.float64)],
        axis=axis,
    )
    first = np.arange(parts) * size // parts
    last = -(-(np.arange(parts) + 1) * size // parts)
    shape = [1] * values.ndim
    shape[axis] = parts
    means: Float32[np.ndarray, "..."] = (sums.take(last, axis=axis) - sums.take(first, axis=axis)) / (
        (last - first).reshape(shape)
    )
    return means
