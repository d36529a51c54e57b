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
from debian_mri.imaging.template import Grid, Template, load_template, mni_grid, resample, template_on_grid
from debian_mri.simulation.effects import STRUCTURES

COARSE = 3.0  # mm
# of the random field: mm that points move (root mean square along an axis), mm over which neighbours move alike
_WANDER, _ALIKE = 1.2, 13.0
_SQUARINGS = 5
# how far around a structure its change is made up for, mm
_AROUND = {"lateral_ventricles": 24.0, "parietal": 6.0, "cortex": 4.0}
_AROUND_ELSE = 12.0

Field = Float32[np.ndarray, "3 x y z"]
Scalar = Float32[np.ndarray, "x y z"]


def structure_mask(name: str, template: Template) -> Scalar:
    """A structure on the template's grid, 0 to 1: where it is, from region and tissue.

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
        # the fluid, which the ellipsoids hold only roughly
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
    """The velocity, mm, that makes a structure smaller by a factor e (to first order, as far as it is smooth)."""
    template = template_on_grid(COARSE)
    mask = coarse_mask(name)
    tissue = np.clip(template.grey + template.white, 0, 1)
    soft = ndimage.gaussian_filter(mask, 1.0)
    reach = _AROUND.get(name, _AROUND_ELSE)
    distance = ndimage.distance_transform_edt(mask < 0.5) * COARSE
    near = np.exp(-((distance / reach) ** 2)) * (1 - np.clip(soft, 0, 1)) * (template.t1 > 0.05)
    # fluid gives way before tissue does; ventricles have tissue around them only
    give = near * (0.1 + tissue) if name == "lateral_ventricles" else near * (1.1 - tissue)
    source = soft - give * (soft.sum() / give.sum())
    field = _gradient_of_potential(source)
    reached = float((divergence(field) * mask).sum() / mask.sum())
    field /= reached
    field.setflags(write=False)
    return field


def _gradient_of_potential(source: Scalar) -> Field:
    """The gradient field whose divergence is ``source``: Poisson's equation by FFT, padded against its periodicity."""
    padded = np.pad(source, [(0, n // 2) for n in source.shape])
    k = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(n, COARSE) for n in padded.shape), indexing="ij", sparse=True)
    squared = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    squared[0, 0, 0] = 1
    potential = fft.fftn(padded) / -squared
    potential[0, 0, 0] = 0
    inside = tuple(slice(n) for n in source.shape)
    return np.stack([fft.ifftn(1j * axis * potential).real[inside] for axis in k]).astype(np.float32)


def divergence(field: Field) -> Scalar:
    """Of a field in mm on the coarse grid."""
    total: Scalar = sum(np.gradient(field[axis], COARSE, axis=axis) for axis in range(3))
    return total


def random_field(generator: np.random.Generator) -> Field:
    """A smooth random velocity, mm: what makes one brain differ from another."""
    shape = mni_grid(COARSE).shape
    field = generator.standard_normal((3, *shape), dtype=np.float32)
    for axis in range(3):
        field[axis] = ndimage.gaussian_filter(field[axis], _ALIKE / COARSE, mode="wrap")
    return field * np.float32(_WANDER / field.std())


@cache
def _crosstalk() -> Float64[np.ndarray, "s s"]:
    """What the unit field of each structure (column) does to the log volume of each (row), times -1."""
    masks = [coarse_mask(name) for name in STRUCTURES]
    fields = [divergence(unit_field(name)) for name in STRUCTURES]
    return np.array([[float((field * mask).sum() / mask.sum()) for field in fields] for mask in masks])


def _strengths(changes: Mapping[str, float]) -> Float64[np.ndarray, "s"]:
    """How strongly each unit field enters so that all structures change as they should, neighbours included."""
    strengths: Float64[np.ndarray, "s"] = np.linalg.solve(_crosstalk(), [changes.get(name, 0.0) for name in STRUCTURES])
    return strengths


def displacement(changes: Mapping[str, float], wander: Field | None = None) -> Field:
    """Where the template is read: ``phi(x) - x`` in mm.

    Args:
        changes: structure -> change of its log volume.
        wander: of `random_field`; None for none.

    Returns:
        (3, X, Y, Z) on the coarse grid.
    """
    velocity = np.zeros((3, *mni_grid(COARSE).shape), dtype=np.float32) if wander is None else wander.copy()
    for name, strength in zip(STRUCTURES, _strengths(changes), strict=True):
        if strength:
            velocity -= np.float32(strength) * unit_field(name)
    moved = velocity / np.float32(2**_SQUARINGS)
    places = np.indices(moved.shape[1:], dtype=np.float32)
    for _ in range(_SQUARINGS):
        # phi after phi: x + u(x) + u(x + u(x))
        there = places + moved / np.float32(COARSE)
        moved = moved + np.stack([ndimage.map_coordinates(part, there, order=1, mode="nearest") for part in moved])
    return moved


def jacobian(field: Field) -> Scalar:
    """Determinant of the derivative of ``x + field(x)``: template volume per brain volume."""
    derivative = np.stack([np.stack(np.gradient(part, COARSE)) for part in field])
    derivative += np.eye(3, dtype=np.float32)[:, :, None, None, None]
    determinant: Scalar = np.linalg.det(np.moveaxis(derivative, (0, 1), (-2, -1)))
    return determinant


def volumes(field: Field, head: float = 1.0) -> dict[str, float]:
    """Volumes in mL of a brain's structures, and of its ``tissue`` and ``brain`` in all.

    Args:
        field: its `displacement`.
        head: factor of its length.
    """
    places = np.indices(field.shape[1:], dtype=np.float32) + field / np.float32(COARSE)
    template = template_on_grid(COARSE)
    masks = {name: coarse_mask(name) for name in STRUCTURES}
    masks |= {"tissue": np.clip(template.grey + template.white, 0, 1), "brain": template.brain.astype(np.float32)}
    voxel = (COARSE * head) ** 3 / 1000
    return {
        name: float(ndimage.map_coordinates(mask, places, order=1).sum(dtype=np.float64) * voxel)
        for name, mask in masks.items()
    }


def template_coordinates(field: Field, head: float, grid: Grid) -> Float32[np.ndarray, "3 x y z"]:
    """Where each voxel of a grid is read in the template, MNI mm.

    Args:
        field: `displacement`.
        head: factor of the head's length.
        grid: of the brain; upright.
    """
    world = np.stack(
        [
            np.broadcast_to(places, grid.shape)
            for places in np.ix_(
                *(grid.affine[a, 3] + grid.affine[a, a] * np.arange(n) for a, n in enumerate(grid.shape))
            )
        ]
    ).astype(np.float32) / np.float32(head)
    origin = mni_grid(COARSE).affine[:3, 3].astype(np.float32)
    there = (world - origin[:, None, None, None]) / np.float32(COARSE)
    return world + np.stack([ndimage.map_coordinates(part, there, order=1, mode="nearest") for part in field])


def sample_template(
    image: Scalar, affine: Float64[np.ndarray, "4 4"], places: Float32[np.ndarray, "3 x y z"]
) -> Scalar:
    """An image in template space, linearly, at places in mm; 0 outside."""
    step = np.diag(affine)[:3].astype(np.float32)[:, None, None, None]
    origin = affine[:3, 3].astype(np.float32)[:, None, None, None]
    read: Scalar = ndimage.map_coordinates(image, (places - origin) / step, order=1, output=np.float32)
    return read
