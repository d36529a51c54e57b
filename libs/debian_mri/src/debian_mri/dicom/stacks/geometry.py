"""Voxel grid of a stack of frames: slices sorted along the normal, every gap checked, LPS to RAS.

Positions other than a regular grid are refused, never repaired.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from debian_mri.dicom.frames import FloatArray, Frame, Refusal, plane_normal
from debian_mri.dicom.stacks.volume_order import group_into_volumes

SAME_ORIENTATION = 5e-4
SAME_SPACING = 1e-4  # relative
SAME_POSITION_MM = 0.02  # two images of one slice
GAP_TOLERANCE = 0.05  # of the slice distance; positions with two decimals at 0.5 mm come near it
MAX_SPACING_RATIO = 5.0  # of a slice's thickness, from centre to centre
TILT_DEGREES = 0.5
ROUNDING_MM = 0.02  # sideways, over the whole stack
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class VolumeGeometry:
    """Voxel grid of a volume or a series of volumes.

    Attributes:
        affine: (4, 4), from voxel index (column, row, slice) to RAS in mm.
        frames: ``frames[t][k]``: frame of volume t and slice k.
        volume_order_source: attribute that orders the volumes of a 4-D series, None for one volume.
    """

    affine: FloatArray
    frames: list[list[Frame]]
    volume_order_source: str | None

    @property
    def shape(self) -> tuple[int, ...]:
        """(columns, rows, slices) and, where there is more than one, volumes."""
        first = self.frames[0][0]
        shape = (first.columns, first.rows, len(self.frames[0]))
        return shape if len(self.frames) == 1 else (*shape, len(self.frames))


def same_orientation(frames: Sequence[Frame]) -> bool:
    """True for parallel frames of one orientation."""
    all_cosines = np.array([frame.orientation for frame in frames])
    return bool(np.abs(all_cosines - all_cosines[0]).max() <= SAME_ORIENTATION)


def check_uniform(frames: Sequence[Frame]) -> None:
    """Check that frames are parallel, of one size and of one pixel spacing.

    Raises:
        Refusal: different orientations, sizes or spacings.
    """
    if not same_orientation(frames):
        raise Refusal("mixed orientations", f"the {len(frames)} images are not parallel")
    sizes = Counter((frame.rows, frame.columns) for frame in frames)
    if len(sizes) > 1:
        listed = ", ".join(f"{count} of {rows} x {columns}" for (rows, columns), count in sizes.most_common(4))
        raise Refusal("inconsistent sizes", listed)
    spacing = np.array([frame.spacing for frame in frames])
    if (np.abs(spacing - spacing[0]) > SAME_SPACING * spacing[0]).any():
        raise Refusal("inconsistent sizes", "the pixel spacing differs between images")


def group_by_slice(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Group frames by slice, sorted along the normal."""
    normal = plane_normal(frames[0].orientation)
    along = [(float(normal @ np.array(frame.position)), frame) for frame in frames]
    along.sort(key=lambda pair: (pair[0], pair[1].order))
    slices: list[list[Frame]] = []
    start = -np.inf
    for height, frame in along:
        if height - start > SAME_POSITION_MM:
            slices.append([])
            start = height
        slices[-1].append(frame)
    return slices


def volume_geometry(frames: Sequence[Frame]) -> VolumeGeometry:
    """Voxel grid of frames, with each slice of each volume exactly once.

    Affine: DICOM PS3.3 C.7.6.2.1.1 with the step between slices taken from first and last position.

    Args:
        frames: at least one, of one kind (see `debian_mri.dicom.stacks.series.split_series`).

    Raises:
        Refusal: mixed orientations, inconsistent sizes, missing or duplicate slices, gantry tilt, missing geometry.
    """
    check_uniform(frames)
    # anonymisers give many images one UID or none: a copy has the same place, number and time as well
    identities = Counter(
        (frame.uid or frame.path, frame.index, frame.tile, frame.position, frame.instance, *sorted(frame.times.items()))
        for frame in frames
    )
    if repeated := sum(count > 1 for count in identities.values()):
        raise Refusal("duplicate slices", f"{repeated} images are there more than once")
    slices = group_by_slice(frames)
    check_counts(slices)
    step = slice_step(slices)
    volumes, volume_order_source = group_into_volumes(slices)
    first = volumes[0][0]
    affine = np.eye(4)
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    affine[:3, 0] = LPS_TO_RAS @ row * first.spacing[1]
    affine[:3, 1] = LPS_TO_RAS @ column * first.spacing[0]
    affine[:3, 2] = LPS_TO_RAS @ step
    affine[:3, 3] = LPS_TO_RAS @ np.array(first.position)
    return VolumeGeometry(affine, volumes, volume_order_source)


def check_counts(slices: Sequence[Sequence[Frame]]) -> None:
    """Check that every slice has the same number of images.

    Raises:
        Refusal: unequal numbers of images, or several images at one position only.
    """
    counts = Counter(len(frames) for frames in slices)
    if len(slices) == 1 and len(slices[0]) > 1:
        raise Refusal("not a volume", f"all {len(slices[0])} images have one position (duplicate slices)")
    if len(counts) == 1:
        return
    usual = max(counts, key=lambda count: (counts[count], -count))
    often = sum(number for count, number in counts.items() if count > usual)
    if often:
        raise Refusal("duplicate slices", f"{often} of {len(slices)} positions hold more than {usual} images")
    rarely = sum(number for count, number in counts.items() if count < usual)
    raise Refusal("missing slices", f"{rarely} of {len(slices)} positions hold fewer than {usual} images")


def slice_step(slices: Sequence[Sequence[Frame]]) -> FloatArray:
    """Vector from one slice to the next, LPS, mm.

    Of a single slice it is the normal times the header's slice spacing or, without a plausible one, its thickness.

    Raises:
        Refusal: unequal gaps, missing slices, a tilted stack, or a single slice without thickness.
    """
    first = slices[0][0]
    normal = plane_normal(first.orientation)
    if len(slices) == 1:
        return normal * _single_slice(first)
    positions = np.array([frames[0].position for frames in slices])
    for frames, position in zip(slices, positions, strict=True):
        aside = np.array([frame.position for frame in frames]) - position
        if np.abs(aside).max() > 2 * SAME_POSITION_MM:
            raise Refusal("duplicate slices", "images of one height lie side by side")
    gaps = np.diff(positions @ normal)
    usual = float(np.median(gaps))
    # the smallest gap, not the median, is the unit in a series that lacks more than half of its slices
    unit = float(gaps.min()) if (gaps > 1.5 * gaps.min()).any() else usual
    wrong = np.abs(gaps - unit) > GAP_TOLERANCE * unit
    if wrong.any():
        index = int(np.argmax(wrong))
        raise Refusal(
            "missing slices" if gaps[index] > unit else "uneven slices",
            f"{gaps[index]:.4g} mm between slices {index + 1} and {index + 2} of {len(slices)}, "
            f"{unit:.4g} mm between others",
        )
    check_against_header(slices, float(gaps.mean()))
    step: FloatArray = (positions[-1] - positions[0]) / (len(slices) - 1)
    check_gantry_tilt(positions, step, normal)
    return step


def _single_slice(frame: Frame) -> float:
    """Extent of a single slice along its normal, mm.

    Raises:
        Refusal: the header has neither thickness nor spacing.
    """
    spacing, thickness = frame.slice_spacing or 0.0, frame.thickness or 0.0
    if thickness > 0:
        # less may be the free gap to slices that are not there, much more is no spacing of slices
        return spacing if thickness <= spacing <= MAX_SPACING_RATIO * thickness else thickness
    if spacing <= 0:
        raise Refusal("missing geometry", "a single slice with neither thickness nor spacing")
    return spacing


def check_gantry_tilt(positions: FloatArray, step: FloatArray, normal: FloatArray) -> None:
    """Check that the stack is parallel to its normal.

    Raises:
        Refusal: tilt above half a degree, or slices off the line of the stack.
    """
    sideways = step - (step @ normal) * normal
    angle = float(np.degrees(np.arctan2(np.linalg.norm(sideways), step @ normal)))
    if angle > TILT_DEGREES and np.linalg.norm(sideways) * (len(positions) - 1) > ROUNDING_MM:
        raise Refusal("gantry tilt", f"slices are stacked at {angle:.2f} degrees from their normal")
    line = positions[0] + np.arange(len(positions))[:, None] * step
    off = float(np.abs(positions - line).max())
    if off > GAP_TOLERANCE * np.linalg.norm(step) + ROUNDING_MM:
        raise Refusal("uneven slices", f"a slice lies {off:.3g} mm off the line of the others")


def check_against_header(slices: Sequence[Sequence[Frame]], gap: float) -> None:
    """Check equal gaps against the header: a multiple of its spacing means missing slices.

    The spacing of a header may be the free gap between slices, so positions have priority. Images with consecutive
    numbers are complete; without numbers only a spacing of slice centres counts.

    Raises:
        Refusal: every second slice, or more, is missing.
    """
    firsts = [frames[0] for frames in slices]
    spacing, thickness = firsts[0].slice_spacing or 0.0, firsts[0].thickness or 0.0
    numbers = {frame.instance for frames in slices for frame in frames if frame.instance is not None}
    in_turn = len(numbers) >= len(slices) and max(numbers) - min(numbers) == len(numbers) - 1
    strides = {abs((after.instance or 0) - (before.instance or 0)) for before, after in pairwise(firsts)}
    is_free_gap = abs(gap - spacing - thickness) <= GAP_TOLERANCE * gap
    of_centres = thickness > 0 and spacing > (1 - GAP_TOLERANCE) * thickness and not is_free_gap
    for distance, alone in ((spacing, of_centres), (thickness if spacing <= 0 else 0.0, False)):
        times = round(gap / distance) if distance > 0 else 1
        if times < 2 or abs(gap / distance - times) > GAP_TOLERANCE * times or in_turn:
            continue
        # numbered volume by volume, or slice by slice
        if strides in ({times}, {times * len(slices[0])}) or (alone and strides != {1}):
            raise Refusal("missing slices", f"slices are {gap:.4g} mm apart, by the header {distance:.4g} mm")
