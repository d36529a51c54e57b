"""Orientation of a head: rotated starts of the registration to the template, compared by the correlation ratio.

The correlation ratio (Roche et al., MICCAI 1998) is the share of an image's variance that the template explains: 1
where the image's intensity is a function of the template's, whichever function (so of any sequence), 0 where the two
have nothing in common. On a grid of 8 mm it is computed for all translations at once, by Fourier transform, for each of
the 24 rotations of a cube. Where none of them stands out, a head may lie between two: smaller turns are tried as well.

A mirror image is no rotation, and a brain is nearly symmetric: a left-right flip cannot be detected.
"""

from __future__ import annotations

import itertools
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Float64

from debian_mri.imaging.nifti import RawVolume
from debian_mri.imaging.template import template_on_grid
from icube_common.errors import InputError

Rotation = Float64[np.ndarray, "3 3"]

# mm between voxels of the search
_STEP = 8.0
# and of the comparison after registration
_FINE, _RANKS = 4.0, 16
# classes of template intensity inside the brain, each with the same number of voxels
_CLASSES = 4
# of the template's brain and margin that has to lie inside the image
_MIN_INSIDE = 0.8
# the best of 24 rotations is the only start at this similarity and this margin to the next
_GOOD, _CLEAR = 0.35, 0.08
# else smaller turns of the best few are searched, degrees, by decreasing size
_REFINED, _TURNS = 6, (30.0, 15.0)
# number of starts, and their minimum distance, degrees
_MAX_STARTS, _APART = 8, 20.0
# maximum tilt of a head in a scanner, degrees; a larger rotation is reported
MAX_HEAD_ROTATION = 30.0


class RegistrationStart(NamedTuple):
    """Rigid initialisation of a registration: points of the template to points of the head, both RAS in mm.

    Attributes:
        similarity: correlation ratio of template and head on the coarse grid.
        rotation: matrix.
        shift: mm, after the rotation.
    """

    similarity: float
    rotation: Rotation
    shift: Float64[np.ndarray, "3"]

    @property
    def matrix(self) -> Float64[np.ndarray, "4 4"]:
        """Rotation and shift as one matrix."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, self.shift
        return matrix


def registration_starts(volume: RawVolume) -> list[RegistrationStart]:
    """Candidate orientations of a head, most similar to the template first; a single one if it is clear.

    Raises:
        InputError: too little overlap of image and template.
    """
    head = _Head(volume)
    starts = sorted((head.best_shift(turn) for turn in right_angles()), key=_worst_last)
    if starts[0].similarity < 0:
        raise InputError(
            "registration to MNI failed: the image is smaller than a brain, or has no contrast where one could lie: is "
            "it a whole head?"
        )
    if starts[0].similarity >= _GOOD and starts[0].similarity - starts[1].similarity >= _CLEAR:
        return starts[:1]
    candidates = list(starts)
    for start in starts[:_REFINED]:
        candidates += _smaller_turns(head, start)
    distinct: list[RegistrationStart] = []
    for start in sorted(candidates, key=_worst_last):
        if len(distinct) < _MAX_STARTS and all(angle_between(start.rotation, s.rotation) > _APART for s in distinct):
            distinct.append(start)
    return distinct


def similarity(volume: RawVolume, to_mni: Float64[np.ndarray, "4 4"]) -> float:
    """Mutual information of template and head inside the template's brain, at 4 mm, in nats.

    Intensities of both images are ranked into 16 classes of the same size, which removes the scanner's units and the
    fraction of CSF.
    """
    from scipy.ndimage import affine_transform

    template = template_on_grid(_FINE)
    matrix = np.linalg.inv(to_mni @ volume.affine) @ template.affine
    image = affine_transform(
        _smoothed(volume.data, volume.affine, _FINE),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=template.t1.shape,
        order=1,
        output=np.float32,
    )
    classes = (intensity_classes(part, template.brain, _RANKS) for part in (template.t1, image))
    return mutual_information(*classes)


def mutual_information(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> float:
    """Mutual information of two classifications of the same voxels, in nats.

    >>> round(mutual_information(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])), 4)
    0.6931
    >>> mutual_information(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    0.0
    """
    joint = np.zeros((int(one.max()) + 1, int(other.max()) + 1))
    np.add.at(joint, (one, other), 1.0 / len(one))
    alone = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    positive = joint > 0
    return float(np.sum(joint[positive] * np.log(joint[positive] / alone[positive])))


def head_rotation(to_mni: Float64[np.ndarray, "4 4"]) -> float:
    """Rotation of a head relative to its affine, degrees, from its matrix into MNI space."""
    from scipy.linalg import polar

    rotation, _ = polar(to_mni[:3, :3])
    return angle_between(np.eye(3), rotation)


def intensity_classes(
    image: npt.NDArray[np.float32], brain: Bool[np.ndarray, "x y z"], count: int
) -> npt.NDArray[np.int64]:
    """(voxels,) class of each voxel of a brain by its intensity, with classes of the same size."""
    inside = image[brain]
    bounds = np.quantile(inside, np.linspace(0, 1, count + 1)[1:-1])
    return np.searchsorted(bounds, inside, side="right").astype(np.int64)


@cache
def right_angles() -> tuple[Rotation, ...]:
    """24 rotations of a cube, the identity first."""
    rotations = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                rotations.append(matrix)
    return tuple(sorted(rotations, key=lambda matrix: -float(np.trace(matrix))))


def _worst_last(start: RegistrationStart) -> float:
    return -start.similarity


def _smaller_turns(head: _Head, start: RegistrationStart) -> list[RegistrationStart]:
    """Smaller turns of a start about the template's axes, each size from the best so far."""
    from scipy.spatial.transform import Rotation as Turn

    tried: list[RegistrationStart] = []
    for size in _TURNS:
        best = max([start, *tried], key=lambda one: one.similarity)
        for axis, sign in itertools.product("xyz", (1, -1)):
            turn = Turn.from_euler(axis, sign * size, degrees=True).as_matrix()
            tried.append(head.best_shift(best.rotation @ turn))
    return tried


def angle_between(one: Rotation, other: Rotation) -> float:
    """Angle between two rotations, degrees."""
    cosine = (np.trace(one.T @ other) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


class _Template(NamedTuple):
    """Template on the coarse grid: marks (K, X, Y, Z) of its classes, the margin first, and the affine."""

    marks: npt.NDArray[np.float32]
    affine: Float64[np.ndarray, "4 4"]


@cache
def _coarse_template() -> _Template:
    from scipy.ndimage import binary_dilation

    template = template_on_grid(_STEP)
    brain = template.brain
    marks = np.zeros((_CLASSES + 1, *brain.shape), dtype=np.float32)
    # around the brain lies CSF, dark in T1w, bright in T2w, and then bone
    marks[0] = binary_dilation(brain) & ~brain
    for number in range(_CLASSES):
        marks[number + 1][brain] = intensity_classes(template.t1, brain, _CLASSES) == number
    return _Template(marks, template.affine)


class _Head:
    """Head resampled onto coarse grids."""

    def __init__(self, volume: RawVolume) -> None:
        from scipy.ndimage import affine_transform

        data, affine = volume.data, volume.affine
        smooth = _smoothed(data, affine, _STEP)
        smooth = (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-6)
        corners = np.array(list(itertools.product(*((0, n - 1) for n in data.shape))))
        corners = corners @ affine[:3, :3].T + affine[:3, 3]
        self.middle: Float64[np.ndarray, "3"] = (corners.min(0) + corners.max(0)) / 2
        self._corners = corners - self.middle
        self._sources = [(smooth, 1), (np.ones_like(smooth), 0)]
        self._to_voxels = np.linalg.inv(affine)
        self._transform = affine_transform

    def best_shift(self, rotation: Rotation) -> RegistrationStart:
        """Shift of the highest correlation ratio, for a rotation of the template into the head."""
        from scipy import fft

        marks, affine = _coarse_template()
        # a cube that holds the image, and that the template may reach beyond
        extent = float(np.abs(self._corners @ rotation).max())
        side = 2 * int(np.ceil(extent / _STEP)) + 1
        image, inside = self._on_grid(rotation, side)
        length = int(fft.next_fast_len(side + max(marks.shape[1:]), real=True))
        size = [length] * 3
        parts = [fft.rfftn(part, size) for part in (inside, image * inside, image**2 * inside)]
        counts, sums, squares, within = (np.zeros(size, dtype=np.float32) for _ in range(4))
        for mark in _marks_transformed(length):
            count, total, square = (fft.irfftn(part * mark, size) for part in parts)
            within += square - total**2 / np.maximum(count, 1)
            counts += count
            sums += total
            squares += square
        variance = squares - sums**2 / np.maximum(counts, 1)
        whole = float(marks.sum())
        ratio = 1 - within / np.maximum(variance, 1e-6 * whole)
        ratio[(counts < _MIN_INSIDE * whole) | (variance < 1e-4 * whole)] = -1
        best = np.unravel_index(int(ratio.argmax()), ratio.shape)
        steps = np.array([step if step < side else step - length for step in best])
        # voxel i of the template lies on voxel i + steps of the head's grid, whose middle is the head's
        offset = _STEP * (steps - (side - 1) / 2) - affine[:3, 3]
        return RegistrationStart(float(ratio[best]), rotation, rotation @ offset + self.middle)

    def _on_grid(self, rotation: Rotation, side: int) -> list[Float32[np.ndarray, "x y z"]]:
        """Head turned upright, and the mask of voxels inside its image."""
        grid = np.eye(4)
        grid[:3, :3] = rotation * _STEP
        grid[:3, 3] = self.middle - rotation @ np.full(3, _STEP * (side - 1) / 2)
        matrix = self._to_voxels @ grid
        return [
            self._transform(
                source, matrix[:3, :3], matrix[:3, 3], output_shape=(side,) * 3, order=order, output=np.float32
            )
            for source, order in self._sources
        ]


@lru_cache(maxsize=8)
def _marks_transformed(size: int) -> list[npt.NDArray[np.complex64]]:
    from scipy import fft

    return [np.conj(fft.rfftn(mark, [size] * 3)) for mark in _coarse_template().marks]


def _smoothed(
    data: Float32[np.ndarray, "x y z"], affine: Float64[np.ndarray, "4 4"], step: float
) -> Float32[np.ndarray, "x y z"]:
    """Image without its brightest voxels (vessels, fat), smoothed to a coarser grid."""
    from scipy.ndimage import gaussian_filter

    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # full width at half maximum of a coarse voxel, of which the fine one has its share already
    sigmas = np.sqrt(np.maximum(0, step**2 - spacing**2)) / 2.355 / spacing
    clipped = np.minimum(data, np.percentile(data, 99.5)).astype(np.float32)
    smooth: Float32[np.ndarray, "x y z"] = gaussian_filter(clipped, sigmas)
    return smooth
