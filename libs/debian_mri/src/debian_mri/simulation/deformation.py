"""Smooth, invertible deformations that change the volumes of chosen structures by chosen amounts.

A brain is the template read at other places: ``brain(x) = template(phi(x))``, phi the exponential of a stationary
velocity field (scaling and squaring, Arsigny et al., MICCAI 2006). Where phi's Jacobian determinant is above 1 the
brain is smaller than the template; to first order its logarithm is the velocity's divergence. A structure's field is
the gradient of a potential whose Laplacian is 1 in the structure and negative around it, preferably in fluid, so that
it sums to 0 and what lies further away stays where it is. The fields of structures add up, with a random field that
makes every brain another one.

World: MNI mm, RAS. Fields are (3, X, Y, Z) on `mni_grid` of `COARSE` mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from jaxtyping import Float32, Float64
from scipy import fft, ndimage

from debian_mri.imaging.regions import REGIONS
from debian_mri.imaging.template import Grid, Template, load_template, mni_grid, resample, template_on_grid, world_axes
from debian_mri.simulation.effects import STRUCTURES

COARSE = 3.0  # mm
# of the random field: root mean square displacement along an axis and correlation length, mm
_RANDOM_MM, _CORRELATION_MM = 1.2, 13.0
_SQUARINGS = 5
# range around a structure that compensates its change, mm
_COMPENSATION_MM = {"lateral_ventricles": 24.0, "parietal": 6.0, "cortex": 4.0}
_COMPENSATION_DEFAULT = 12.0

Field = Float32[np.ndarray, "3 x y z"]
Scalar = Float32[np.ndarray, "x y z"]


def structure_mask(name: str, template: Template) -> Scalar:
    """Soft mask of a structure on the template's grid, 0 to 1, from region and tissue.

    Args:
        name: of `STRUCTURES`.
        template: on any upright grid.
    """
    tissue = np.clip(template.grey + template.white, 0, 1)
    if name == "cortex":
        low = REGIONS["midbrain"].mask(template.t1.shape, template.affine)
        return np.where(low, 0, template.grey).astype(np.float32)
    inside = REGIONS[name].mask(template.t1.shape, template.affine)
    if name == "lateral_ventricles":
        # CSF inside the approximate ellipsoids
        return (inside & template.brain).astype(np.float32) * (1 - tissue)
    if name == "medial_temporal":
        inside = inside & ~REGIONS["hippocampus"].mask(template.t1.shape, template.affine)
    return inside * (template.grey if name == "parietal" else tissue).astype(np.float32)


@cache
def coarse_mask(name: str) -> Scalar:
    """`structure_mask` on the fields' grid, averaged from 1 mm."""
    full = load_template()
    return resample(structure_mask(name, full), full.affine, mni_grid(COARSE))


@cache
def unit_field(name: str) -> Field:
    """Velocity, mm, that shrinks a structure by a factor e (to first order)."""
    template = template_on_grid(COARSE)
    mask = coarse_mask(name)
    tissue = np.clip(template.grey + template.white, 0, 1)
    soft = ndimage.gaussian_filter(mask, 1.0)
    reach = _COMPENSATION_MM.get(name, _COMPENSATION_DEFAULT)
    distance = ndimage.distance_transform_edt(mask < 0.5) * COARSE
    near = np.exp(-((distance / reach) ** 2)) * (1 - np.clip(soft, 0, 1)) * (template.t1 > 0.05)
    # CSF compensates before tissue does; ventricles are surrounded by tissue only
    compensation = near * (0.1 + tissue) if name == "lateral_ventricles" else near * (1.1 - tissue)
    source = soft - compensation * (soft.sum() / compensation.sum())
    field = _gradient_of_potential(source)
    reached = float((divergence(field) * mask).sum() / mask.sum())
    field /= reached
    field.setflags(write=False)
    return field


def _gradient_of_potential(source: Scalar) -> Field:
    """Gradient field with divergence ``source``: Poisson's equation by FFT, padded against its periodicity."""
    padded = np.pad(source, [(0, n // 2) for n in source.shape])
    k = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(n, COARSE) for n in padded.shape), indexing="ij", sparse=True)
    squared = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    squared[0, 0, 0] = 1
    potential = fft.fftn(padded) / -squared
    potential[0, 0, 0] = 0
    inside = tuple(slice(n) for n in source.shape)
    return np.stack([fft.ifftn(1j * axis * potential).real[inside] for axis in k]).astype(np.float32)


def divergence(field: Field) -> Scalar:
    """Divergence of a field in mm on the coarse grid."""
    total: Scalar = sum(np.gradient(field[axis], COARSE, axis=axis) for axis in range(3))
    return total


def random_field(generator: np.random.Generator) -> Field:
    """Smooth random velocity, mm, for the variability between brains."""
    shape = mni_grid(COARSE).shape
    field = generator.standard_normal((3, *shape), dtype=np.float32)
    for axis in range(3):
        field[axis] = ndimage.gaussian_filter(field[axis], _CORRELATION_MM / COARSE, mode="wrap")
    return field * np.float32(_RANDOM_MM / field.std())


@cache
def _crosstalk() -> Float64[np.ndarray, "s s"]:
    """Effect of the unit field of each structure (column) on the log volume of each (row), times -1."""
    masks = [coarse_mask(name) for name in STRUCTURES]
    fields = [divergence(unit_field(name)) for name in STRUCTURES]
    return np.array([[float((field * mask).sum() / mask.sum()) for field in fields] for mask in masks])


def _strengths(changes: Mapping[str, float]) -> Float64[np.ndarray, " s"]:
    """Weights of the unit fields for the required changes of all structures, corrected for crosstalk."""
    return np.linalg.solve(_crosstalk(), [changes.get(name, 0.0) for name in STRUCTURES])


def displacement(changes: Mapping[str, float], random: Field | None = None) -> Field:
    """Displacement of the template coordinates: ``phi(x) - x`` in mm.

    Args:
        changes: structure -> change of its log volume.
        random: of `random_field`; None for none.

    Returns:
        (3, X, Y, Z) on the coarse grid.
    """
    velocity = np.zeros((3, *mni_grid(COARSE).shape), dtype=np.float32) if random is None else random.copy()
    for name, strength in zip(STRUCTURES, _strengths(changes), strict=True):
        if strength:
            velocity -= np.float32(strength) * unit_field(name)
    moved = velocity / np.float32(2**_SQUARINGS)
    grid = np.indices(moved.shape[1:], dtype=np.float32)
    for _ in range(_SQUARINGS):
        # phi after phi: x + u(x) + u(x + u(x))
        coordinates = grid + moved / np.float32(COARSE)
        moved = moved + np.stack(
            [ndimage.map_coordinates(part, coordinates, order=1, mode="nearest") for part in moved]
        )
    return moved


def volumes(field: Field, head: float = 1.0) -> dict[str, float]:
    """Volumes of a brain's structures, mL, and total ``tissue`` and ``brain`` volumes."""
    coordinates = np.indices(field.shape[1:], dtype=np.float32) + field / np.float32(COARSE)
    template = template_on_grid(COARSE)
    masks = {name: coarse_mask(name) for name in STRUCTURES}
    masks |= {"tissue": np.clip(template.grey + template.white, 0, 1), "brain": template.brain.astype(np.float32)}
    voxel = (COARSE * head) ** 3 / 1000
    return {
        name: float(ndimage.map_coordinates(mask, coordinates, order=1).sum(dtype=np.float64) * voxel)
        for name, mask in masks.items()
    }


def template_coordinates(field: Field, head: float, grid: Grid) -> Float32[np.ndarray, "3 x y z"]:
    """Template coordinates of the voxels of a grid, MNI mm."""
    world = np.stack(
        [np.broadcast_to(positions, grid.shape) for positions in world_axes(grid.shape, grid.affine)]
    ).astype(np.float32) / np.float32(head)
    origin = mni_grid(COARSE).affine[:3, 3].astype(np.float32)
    coordinates = (world - origin[:, None, None, None]) / np.float32(COARSE)
    return world + np.stack([ndimage.map_coordinates(part, coordinates, order=1, mode="nearest") for part in field])


def sample_template(
    image: Scalar, affine: Float64[np.ndarray, "4 4"], coordinates: Float32[np.ndarray, "3 x y z"]
) -> Scalar:
    """Sample an image in template space linearly at coordinates in mm; 0 outside."""
    step = np.diag(affine)[:3].astype(np.float32)[:, None, None, None]
    origin = affine[:3, 3].astype(np.float32)[:, None, None, None]
    sampled: Scalar = ndimage.map_coordinates(image, (coordinates - origin) / step, order=1, output=np.float32)
    return sampled
