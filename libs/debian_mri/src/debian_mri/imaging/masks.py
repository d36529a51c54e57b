"""Foreground mask of a volume, and detection of label images, from intensities alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32

MAX_LABELS = 16  # values of a mask or a tissue segmentation
MAX_PARCELS = 400  # of a parcellation
# share of neighbouring foreground voxels of one value: parcels are flat, tissue is not
MIN_FLAT = 0.8


def signal_mask(data: Float32[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Foreground: above half of Otsu's threshold, the largest piece, its holes filled.

    The brain with its ventricles in a skull-stripped volume, else the head.
    """
    from scipy import ndimage

    above = data > _otsu(data) / 2
    pieces, count = ndimage.label(above)
    if count == 0:
        return above
    sizes = np.bincount(pieces.reshape(-1))
    sizes[0] = 0
    # holes are pieces of the rest that do not reach the border; labelling is much faster than binary_fill_holes
    rest, _ = ndimage.label(pieces != sizes.argmax())
    outside = {0}
    for axis in range(3):
        outside.update(np.unique(np.take(rest, (0, -1), axis=axis)).tolist())
    is_hole = np.ones(int(rest.max()) + 1, dtype=bool)
    is_hole[list(outside)] = False
    # label 0 is the piece itself
    is_hole[0] = True
    filled: Bool[np.ndarray, "x y z"] = is_hole[rest]
    return filled


def _otsu(data: Float32[np.ndarray, "x y z"]) -> float:
    """Otsu's threshold (IEEE SMC 1979) over 256 bins up to the 99.5th percentile."""
    low, high = float(data.min()), float(np.percentile(data, 99.5))
    if high <= low:
        return low
    counts, edges = np.histogram(np.clip(data, low, high), 256, (low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(middles[np.nanargmax(between)])


def label_image_reason(data: npt.NDArray[Any]) -> str:
    """Reason to take a volume for a mask or label image, empty for a scan."""
    values = np.unique(data)
    if len(values) > MAX_PARCELS or not np.array_equal(values, np.round(values)):
        # a mask that was resampled has values between 0 and 1, nearly all of them 0 or 1
        return ""
    if len(values) <= MAX_LABELS:
        return f"a mask or label image: {len(values)} different values"
    along = data[1:][(data[1:] != 0) & (data[:-1] != 0)] == data[:-1][(data[1:] != 0) & (data[:-1] != 0)]
    if along.size and along.mean() >= MIN_FLAT:
        return f"a label image: {len(values)} different values in flat pieces"
    return ""
