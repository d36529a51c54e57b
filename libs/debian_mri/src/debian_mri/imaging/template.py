"""The ICBM152 template that nilearn carries (2009a, nonlinear, symmetric, 1 mm, without skull), and grids in its space.

Fonov et al., NeuroImage 2011. No download: the files are part of the package nilearn. World coordinates are MNI, mm,
RAS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Float64

# field of view of ClinicaDL's cropped MNI images, mm; 169 x 208 x 179 voxels at 1 mm
FIELD_OF_VIEW = (169.0, 208.0, 179.0)
# centre of the grids: the brain of the template reaches from (-72, -107, -72) to (72, 73, 82)
MIDDLE = (0.0, -16.5, 5.0)
_BRAIN = 0.2  # of the template's maximum, as nilearn's own mask


class Grid(NamedTuple):
    """Voxel grid: number along x, y, z, and the RAS affine in mm."""

    shape: tuple[int, int, int]
    affine: Float64[np.ndarray, "4 4"]


class Template(NamedTuple):
    """Template images on one grid, each (X, Y, Z) float32 from 0 to 1."""

    t1: Float32[np.ndarray, "x y z"]
    grey: Float32[np.ndarray, "x y z"]
    white: Float32[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]

    @property
    def brain(self) -> Bool[np.ndarray, "x y z"]:
        """Mask of the brain with its cerebrospinal fluid."""
        return self.t1 > _BRAIN


def mni_grid(spacing: float, field_of_view: Sequence[float] = FIELD_OF_VIEW) -> Grid:
    """Grid of preprocessed volumes in MNI space, with one field of view at any spacing.

    Args:
        spacing: mm between voxels.
        field_of_view: mm along x, y, z; at least this much is covered.
    """
    shape = tuple(math.ceil(extent / spacing - 1e-6) for extent in field_of_view)
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = [middle - spacing * (n - 1) / 2 for middle, n in zip(MIDDLE, shape, strict=True)]
    return Grid((shape[0], shape[1], shape[2]), affine)


@cache
def load_template() -> Template:
    """Template at 1 mm, 197 x 233 x 189 voxels; cached and read-only."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    images = [load(resolution=1) for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)]
    arrays = []
    for image in images:
        array = np.asarray(image.dataobj, dtype=np.float32)
        array.setflags(write=False)
        arrays.append(array)
    t1, grey, white = arrays
    return Template(t1, grey, white, np.asarray(images[0].affine, dtype=np.float64))


@cache
def _on_grid(spacing: float, field_of_view: tuple[float, ...]) -> Template:
    grid, full = mni_grid(spacing, field_of_view), load_template()
    t1, grey, white = (resample(image, full.affine, grid) for image in (full.t1, full.grey, full.white))
    return Template(t1, grey, white, grid.affine)


def template_on_grid(spacing: float, field_of_view: Sequence[float] = FIELD_OF_VIEW) -> Template:
    """Template on `mni_grid`, smoothed for spacings above 1 mm; cached."""
    return _on_grid(float(spacing), tuple(map(float, field_of_view)))


def resample(
    image: npt.NDArray[np.float32], affine: Float64[np.ndarray, "4 4"], grid: Grid
) -> Float32[np.ndarray, "x y z"]:
    """Resample an image (X, Y, Z) on an axis-aligned grid linearly, 0 outside; smoothed first for a coarser grid.

    Args:
        image: on a grid whose axes are those of the world.
        affine: of that grid; diagonal but for its origin.
        grid: the new one.
    """
    from scipy.ndimage import affine_transform, gaussian_filter

    matrix = np.linalg.inv(affine) @ grid.affine
    ratio = np.diag(matrix)[:3]
    # full width at half maximum of a coarse voxel, of which the fine one has its share already
    sigmas = [math.sqrt(max(0.0, step**2 - 1)) / 2.355 for step in ratio]
    smooth = gaussian_filter(image, sigmas) if any(sigmas) else image
    resampled: npt.NDArray[np.float32] = affine_transform(
        smooth, np.diag(ratio), matrix[:3, 3], output_shape=grid.shape, order=1, output=np.float32
    )
    return resampled


def world_axes(shape: Sequence[int], affine: Float64[np.ndarray, "4 4"]) -> tuple[npt.NDArray[np.float64], ...]:
    """Coordinates in mm along each axis of an axis-aligned grid, shaped to broadcast to (X, Y, Z)."""
    axes = []
    for axis, n in enumerate(shape):
        positions = affine[axis, 3] + affine[axis, axis] * np.arange(n)
        axes.append(positions.reshape([-1 if other == axis else 1 for other in range(3)]))
    return tuple(axes)
