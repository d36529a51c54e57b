"""Imaging biomarkers of atrophy on a T1-weighted image: fraction of CSF or of grey matter in the box of a structure.

Where tissue is lost, cerebrospinal fluid takes its place. A pixel's CSF fraction is ``sigmoid((0.45 - I / I_wm) /
0.06)`` with I_wm the intensity of the person's white matter (`white_matter_intensity` of a slice image,
`local_white_matter_intensity` of a volume). A biomarker is ``log(mean fraction + 0.02)`` over its box in a plane,
averaged over the planes that pass the box, so the contribution of each plane is explicit. Of a small structure it is
minus the logarithm of the grey matter fraction, 1 - CSF - white matter. No threshold in scanner units, no
segmentation, both hemispheres together; slices of a known geometry and volumes in MNI space are measured alike. Images
without contrast between CSF and white matter are refused.

A slice image shows a slab of at most 12 mm, a volume the whole structure: there the box is as long as the structure.

Coordinates are mm, RAS, of MNI or the OASIS sets' T88 space, which differ by a few mm here. |x| is the distance from
the midline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Float32

from debian_mri.biomarkers.measurement import BiomarkerMeasurement
from debian_mri.imaging.preprocess import Volume
from debian_mri.imaging.regions import PLANES, get_region
from debian_mri.imaging.template import Grid, load_template, resample, world_axes
from icube_common.errors import InputError, unknown

Array = npt.NDArray[np.float64]
Range = tuple[float, float]

# bump when measured values change: it is part of caches' keys
VERSION = 4
# y of the slab of coronal slice images, mm
_SLAB = (-26.0, -14.0)
# relative to white matter's intensity: CSF lies below
CSF_THRESHOLD, SOFTNESS = 0.45, 0.06
# white matter lies above
_WHITE_ABOVE, _WHITE_SOFTNESS = 0.82, 0.05
# keeps the logarithm of an empty box finite
FLOOR = 0.02
# darker pixels than this share of the range are background
_DARK = 0.04
_UPPER_PERCENTILE = 55.0
_BINS, _SMOOTH = 64, 5
# of volumes: fraction of white matter in the template, and the distance from a box that is searched
_SURELY_WHITE = 0.9
_NEAR_MM = 15.0
# of those voxels' intensities: the percentile to start from, and the range around the level
_WHITE_PERCENTILE, _WHITE_RANGE, _WHITE_STEPS = 75.0, 0.1, 50


@dataclass(frozen=True, kw_only=True)
class ImagingBiomarker:
    """Imaging biomarker: box of a structure and the tissue whose fraction is measured in it.

    Attributes:
        name: concept of ``concepts.yaml`` that gives its direction.
        label: measured quantity in words.
        x_mm: |x| of slice images.
        y_mm: y of slice images; None for a biomarker of volumes only.
        z_mm: z of slice images.
        plane: plane of the slice images; the box is a thin slab along it.
        volume_box_mm: box of the whole structure (|x|, y, z), for volumes.
        region: region of `debian_mri.imaging.regions` that masks the box; empty for no mask.
        tissue: "csf", or "grey" for less of it.
        requires: sequence with dark CSF.
    """

    name: str
    label: str
    x_mm: Range
    y_mm: Range | None = _SLAB
    z_mm: Range
    volume_box_mm: tuple[Range, Range, Range]
    plane: str = "coronal"
    region: str = ""
    tissue: str = "csf"
    requires: str = "T1w"


BIOMARKERS: Mapping[str, ImagingBiomarker] = {
    biomarker.name: biomarker
    for biomarker in (
        ImagingBiomarker(
            name="medial_temporal_atrophy",
            label="CSF around the hippocampus and in the temporal horns",
            x_mm=(8.5, 44.5),
            z_mm=(-32.5, -10.5),
            volume_box_mm=((8.5, 44.5), (-38.0, 4.0), (-34.0, -4.0)),
        ),
        ImagingBiomarker(
            name="sylvian_widening",
            label="CSF in the Sylvian fissures",
            x_mm=(25.5, 62.5),
            z_mm=(-11.5, 23.5),
            volume_box_mm=((25.5, 62.5), (-36.0, 12.0), (-11.5, 23.5)),
        ),
        ImagingBiomarker(
            name="third_ventricle_enlargement",
            label="CSF in the third ventricle",
            x_mm=(0.0, 8.5),
            z_mm=(-14.5, 13.5),
            volume_box_mm=((0.0, 8.5), (-28.0, 4.0), (-14.5, 13.5)),
        ),
        ImagingBiomarker(
            name="ventricular_enlargement",
            label="CSF in the lateral ventricles",
            x_mm=(0.0, 26.5),
            z_mm=(8.5, 39.5),
            volume_box_mm=((0.0, 40.0), (-56.0, 32.0), (-4.0, 36.0)),
        ),
        ImagingBiomarker(
            name="hippocampal_volume_loss",
            label="loss of grey matter in the hippocampus",
            x_mm=(14.0, 40.0),
            y_mm=None,
            z_mm=(-26.0, 0.0),
            volume_box_mm=((14.0, 40.0), (-37.0, -9.0), (-26.0, 0.0)),
            region="hippocampus",
            tissue="grey",
        ),
        ImagingBiomarker(
            name="parietal_atrophy",
            label="CSF around the parietal lobes",
            x_mm=(0.0, 60.0),
            y_mm=None,
            z_mm=(28.0, 72.0),
            volume_box_mm=((0.0, 60.0), (-76.0, -30.0), (28.0, 72.0)),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class SliceGeometry:
    """Geometry of a slice image: mm = ``start + step * index`` along rows and along columns.

    Attributes:
        plane: "axial", "coronal" or "sagittal".
        position: mm along its normal.
        rows: axis (0 x, 1 y, 2 z), mm of row 0, mm from row to row.
        columns: likewise.
        shape: rows and columns of the images.
    """

    plane: str
    position: float
    rows: tuple[int, float, float]
    columns: tuple[int, float, float]
    shape: tuple[int, int]

    def box_mask(self, biomarker: ImagingBiomarker) -> Bool[np.ndarray, "h w"] | None:
        """Pixels in a biomarker's box; None for another plane, or one that does not pass the box."""
        if self.plane != biomarker.plane or biomarker.y_mm is None:
            return None
        ranges = (biomarker.x_mm, biomarker.y_mm, biomarker.z_mm)
        normal = PLANES[self.plane]
        low, high = ranges[normal]
        if not low <= (abs(self.position) if normal == 0 else self.position) <= high:
            return None
        masks = []
        for (axis, start, step), count in zip((self.rows, self.columns), self.shape, strict=True):
            masks.append(_within(axis, start + step * np.arange(count), ranges[axis]))
        return np.outer(*masks)


# mid slices of volumes of 176 x 208 x 176 voxels of 1 mm in T88 space; read off the mean image, within about 3 mm
_OASIS = (
    SliceGeometry(plane="coronal", position=-20.0, rows=(2, 101.0, -1.0), columns=(0, -88.0, 1.0), shape=(176, 176)),
    SliceGeometry(plane="axial", position=13.0, rows=(1, 84.0, -1.0), columns=(0, -88.0, 1.0), shape=(208, 176)),
    SliceGeometry(plane="sagittal", position=0.0, rows=(2, 101.0, -1.0), columns=(1, -124.0, 1.0), shape=(176, 208)),
)
SLICE_GEOMETRIES: Mapping[str, tuple[SliceGeometry, ...]] = {"oasis-slices": _OASIS, "none": ()}
"""Format of a set of slice images -> geometry of its planes."""


def slice_geometries(name: str, format: str) -> tuple[SliceGeometry, ...]:
    """Slice geometries by the value of ``concepts.slice_geometry``; ``auto`` selects by the set's format.

    Raises:
        InputError: unknown name.
    """
    if name == "auto":
        return SLICE_GEOMETRIES.get(format, ())
    if name not in SLICE_GEOMETRIES:
        raise unknown("value of concepts.slice_geometry", name, ("auto", *SLICE_GEOMETRIES))
    return SLICE_GEOMETRIES[name]


def measure_slices(
    images: Sequence[tuple[Float32[np.ndarray, "h w"], str]], geometries: Sequence[SliceGeometry], names: Sequence[str]
) -> BiomarkerMeasurement:
    """Biomarkers of a scan's slice images, NaN for structures outside all of them.

    Args:
        images: grey values (black is 0) and planes.
        geometries: slice geometries of the set.
        names: K biomarkers.

    Raises:
        InputError: an image without contrast, or of another size than its geometry.
    """
    columns, positions, indices = [], [], []
    for index, (image, plane) in enumerate(images):
        for geometry in geometries:
            boxes = {name: geometry.box_mask(BIOMARKERS[name]) for name in names} if geometry.plane == plane else {}
            if all(box is None for box in boxes.values()):
                continue
            if image.shape != geometry.shape:
                raise InputError(
                    f"{plane} slice of {image.shape[0]} x {image.shape[1]} pixels: biomarkers are measured on "
                    f"{geometry.shape[0]} x {geometry.shape[1]}; "
                    "set concepts.slice_geometry=none or concepts.enabled=false"
                )
            fraction = csf_fraction(image, image > _DARK * image.max())
            columns.append(
                [math.nan if box is None else math.log(float(fraction[box].mean()) + FLOOR) for box in boxes.values()]
            )
            positions.append(geometry.position)
            indices.append(index)
    planes = np.array(columns, dtype=np.float64).reshape(-1, len(names)).T
    return BiomarkerMeasurement(planes, np.array(positions, dtype=np.float64), np.array(indices, dtype=np.int64))


def measure_volume(volume: Volume, names: Sequence[str]) -> BiomarkerMeasurement:
    """Biomarkers of a preprocessed volume in MNI space (also z-scored), NaN for a box outside the volume.

    The white matter level is estimated near each box, among the template's white matter voxels
    (`local_white_matter_intensity`), because scalp may be brighter and coil sensitivity uneven.

    Raises:
        InputError: white matter no brighter than background near a box.
    """
    planes = _planes(volume, tuple(names))
    # the CSF fraction varies along a structure in every brain: the template's profile is subtracted, so that the mean
    # over a subset of planes is unbiased; the mean over all planes does not change
    profile = _template_planes(volume.data.shape, tuple(volume.affine.ravel().tolist()), tuple(names))
    measured = ~np.isnan(planes).all(axis=1)
    profile = profile[measured]
    planes[measured] -= profile - np.nanmean(profile, axis=1, keepdims=True)
    positions = volume.affine[1, 3] + volume.affine[1, 1] * np.arange(volume.data.shape[1])
    return BiomarkerMeasurement(planes, positions, np.full(len(positions), -1))


def _planes(volume: Volume, names: tuple[str, ...]) -> Array:
    """(K, Y) logarithm of the tissue fraction of each box in each coronal plane, NaN for planes outside the box."""
    # z-scores have no zero: the darkest voxels, air and CSF, define it
    shifted = volume.data - np.float32(np.percentile(volume.data, 0.5))
    white = _template_white(volume.data.shape, tuple(volume.affine.ravel().tolist()))
    axes_mm = [axis.ravel() for axis in world_axes(white.shape, volume.affine)]
    planes = np.full((len(names), white.shape[1]), math.nan)
    for row, name in enumerate(names):
        biomarker = BIOMARKERS[name]
        ranges = biomarker.volume_box_mm
        inside = [_within(axis, mm, ranges[axis]) for axis, mm in enumerate(axes_mm)]
        wide = ((low - _NEAR_MM, high + _NEAR_MM) for low, high in ranges)
        near = np.ix_(*(_within(axis, mm, bounds) for (axis, mm), bounds in zip(enumerate(axes_mm), wide, strict=True)))
        box = shifted[np.ix_(*inside)]
        if not box.size or not white[near].any():
            continue
        level = local_white_matter_intensity(shifted[near][white[near]])
        if level <= 0:
            raise InputError("no contrast in white matter: biomarkers of atrophy cannot be measured")
        ratio = box / level
        fraction = _csf_fraction(ratio)
        if biomarker.tissue == "grey":
            fraction = 1 - fraction - 1 / (1 + np.exp(-(ratio.astype(np.float64) - _WHITE_ABOVE) / _WHITE_SOFTNESS))
        region = None
        if biomarker.region:
            region = get_region(biomarker.region).mask(white.shape, volume.affine)[np.ix_(*inside)]
        # planes without a voxel of the structure have no mean
        columns = np.flatnonzero(inside[1])[slice(None) if region is None else region.any(axis=(0, 2))]
        means = np.mean(fraction, axis=(0, 2)) if region is None else _plane_means(fraction, region)
        planes[row, columns] = np.log(np.maximum(means, 0) + FLOOR) * (-1 if biomarker.tissue == "grey" else 1)
    return planes


def _plane_means(values: Array, region: Bool[np.ndarray, "x y z"]) -> Array:
    """Means over x and z of the voxels in a region, for the planes that pass it."""
    counts = region.sum(axis=(0, 2))
    sums = (values * region).sum(axis=(0, 2))
    return np.asarray(sums[counts > 0] / counts[counts > 0])


@lru_cache(maxsize=4)
def _template_planes(shape: tuple[int, int, int], affine: tuple[float, ...], names: tuple[str, ...]) -> Array:
    template = load_template()
    grid = Grid(shape, np.array(affine).reshape(4, 4))
    image = resample(template.t1, template.affine, grid)
    return _planes(Volume(image, grid.affine, image > 0), names)


@lru_cache(maxsize=4)
def _template_white(shape: tuple[int, int, int], affine: tuple[float, ...]) -> Bool[np.ndarray, "x y z"]:
    template = load_template()
    grid = Grid(shape, np.array(affine).reshape(4, 4))
    white: Bool[np.ndarray, "x y z"] = resample(template.white, template.affine, grid) > _SURELY_WHITE
    return white


def csf_fraction(image: Float[np.ndarray, "*shape"], brain: Bool[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """CSF fraction of each pixel, 0 to 1; black pixels, background included, have 1.

    Args:
        image: intensities, 0 is black.
        brain: mask of the brain, for the level of white matter.
    """
    return _csf_fraction(image.astype(np.float64) / white_matter_intensity(image[brain]))


def _csf_fraction(ratio: npt.NDArray[np.floating[Any]]) -> Array:
    """CSF fraction by the ratio of an intensity to that of white matter."""
    fraction: Array = 1 / (1 + np.exp(-(CSF_THRESHOLD - ratio.astype(np.float64)) / SOFTNESS))
    return fraction


def local_white_matter_intensity(values: Float[np.ndarray, " n"]) -> float:
    """Intensity of a person's white matter, from voxels that are white matter in the template.

    In an atrophic brain many of these are CSF or grey matter, and their median is too dark. The level starts at an
    upper percentile and is updated to the median of the values within 10 % of it until it no longer changes.
    """
    level = float(np.percentile(values, _WHITE_PERCENTILE, method="nearest"))
    for _ in range(_WHITE_STEPS):
        near = values[np.abs(values - level) <= _WHITE_RANGE * abs(level)]
        after = float(np.median(near)) if len(near) else level
        if after == level:
            break
        level = after
    return level


def white_matter_intensity(values: Float[np.ndarray, " n"]) -> float:
    """Intensity of white matter in a T1-weighted image: the mode of the brain's brighter part.

    Raises:
        InputError: an empty brain, or one of constant intensity.
    """
    if len(values) < 2 or values.max() <= values.min():
        raise InputError("no contrast inside the brain: biomarkers of atrophy cannot be measured")
    upper = values[values >= np.percentile(values, _UPPER_PERCENTILE)]
    low, high = float(upper.min()), float(upper.max())
    if low == high:
        return low
    counts, edges = np.histogram(upper, bins=_BINS, range=(low, high))
    smooth = np.convolve(counts, np.ones(_SMOOTH) / _SMOOTH, "same")
    top = int(smooth.argmax())
    return float(edges[top] + edges[top + 1]) / 2


def _within(axis: int, mm: npt.NDArray[np.floating[Any]], bounds: Range) -> npt.NDArray[np.bool_]:
    mm = np.abs(mm) if axis == 0 else mm
    return (mm >= bounds[0]) & (mm <= bounds[1])
