"""Masks and label images, told from scans by their voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

MAX_LABELS = 16  # values of a mask or a tissue segmentation
MAX_PARCELS = 400  # of a parcellation
# share of neighbouring foreground voxels of one value: parcels are flat, tissue is not
MIN_FLAT = 0.8


def label_image_reason(data: npt.NDArray[Any]) -> str:
    """Why a volume is a mask or label image; empty where it is none.

    Args:
        data: voxels (X, Y, Z), finite numbers.
    """
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
