"""Signs of atrophy, measured on a T1-weighted image: how much fluid or grey matter there is where structures lie.

Where tissue is lost, fluid takes its place. A pixel's share of fluid is ``sigmoid((0.45 - I / I_wm) / 0.06)`` with
I_wm the intensity of the person's white matter (`white_level` of a slice image, `local_white_level` of a volume). A
sign is ``log(mean share + 0.02)`` over its box in a plane, and the mean of that over the planes that pass the box: what
a plane adds to a sign is known. Of a
small structure it is the share of grey matter, what is neither fluid nor white matter, and the sign is minus its
logarithm. No threshold on the scanner's units, no segmentation, both sides together: it works on slices of a known
frame and on volumes in MNI space alike. Scans without contrast between fluid and white matter are refused.

A slice image shows a slab of 12 mm at most, a volume the whole structure: there the box is as long as the structure is.

Coordinates are mm, RAS, of MNI or the OASIS sets' T88 space, which differ by a few mm here. |x| is the distance from
the middle: which side is left does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Float32

from debian_mri.imaging.preprocess import Volume
from debian_mri.imaging.regions import PLANES, get_region
from debian_mri.imaging.template import Grid, load_template, resample
from icube_common.errors import InputError, unknown

Array = npt.NDArray[np.float64]
Range = tuple[float, float]

# bump when measured values change: it is part of caches' keys
VERSION = 4
# y of the slab that coronal slice images are taken from, mm
_SLAB = (-26.0, -14.0)
# of white matter's intensity: below it lies fluid
FLUID_BELOW, SOFTNESS = 0.45, 0.06
# above it white matter
_WHITE_ABOVE, _WHITE_SOFTNESS = 0.82, 0.05
# keeps the logarithm of an empty box finite
FLOOR = 0.02
# darker pixels than this share of the range are background
_DARK = 0.04
_UPPER_PERCENTILE = 55.0
_BINS, _SMOOTH = 64, 5
# of volumes: share of white matter in the template, and how far from a box it is looked for
_SURELY_WHITE = 0.9
_NEAR_MM = 15.0
# of those voxels' intensities: the percentile to start from, and how near to the level white matter is
_WHITE_PERCENTILE, _WHITE_RANGE, _WHITE_STEPS = 75.0, 0.1, 50


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A measured sign.

    Attributes:
        name: of the concept in ``concepts.yaml`` whose direction it has.
        words: what is measured.
        side: |x| in mm.
        front: y in mm, of slice images; None for a sign that is read in volumes alone.
        height: z in mm.
        plane: of the slice images on which it is read; the box is a thin slab along it.
        whole: box of the whole structure (x, y, z), for volumes.
        region: of `debian_mri.imaging.regions`, to which the box is cut; empty for the box as it is.
        tissue: "fluid", or "grey" for less of it.
        requires: the sequence on which fluid is dark.
    """

    name: str
    words: str
    side: Range
    front: Range | None = _SLAB
    height: Range
    whole: tuple[Range, Range, Range]
    plane: str = "coronal"
    region: str = ""
    tissue: str = "fluid"
    requires: str = "T1w"


SIGNS: Mapping[str, Sign] = {
    sign.name: sign
    for sign in (
        Sign(
            name="medial_temporal_atrophy",
            words="fluid around the hippocampus and in the temporal horns",
            side=(8.5, 44.5),
            height=(-32.5, -10.5),
            whole=((8.5, 44.5), (-38.0, 4.0), (-34.0, -4.0)),
        ),
        Sign(
            name="sylvian_widening",
            words="fluid in the Sylvian fissures",
            side=(25.5, 62.5),
            height=(-11.5, 23.5),
            whole=((25.5, 62.5), (-36.0, 12.0), (-11.5, 23.5)),
        ),
        Sign(
            name="third_ventricle_enlargement",
            words="fluid in the third ventricle",
            side=(0.0, 8.5),
            height=(-14.5, 13.5),
            whole=((0.0, 8.5), (-28.0, 4.0), (-14.5, 13.5)),
        ),
        Sign(
            name="ventricular_enlargement",
            words="fluid in the lateral ventricles",
            side=(0.0, 26.5),
            height=(8.5, 39.5),
            whole=((0.0, 40.0), (-56.0, 32.0), (-4.0, 36.0)),
        ),
        Sign(
            name="hippocampal_volume_loss",
            words="too little grey matter where the hippocampus lies",
            side=(14.0, 40.0),
            front=None,
            height=(-26.0, 0.0),
            whole=((14.0, 40.0), (-37.0, -9.0), (-26.0, 0.0)),
            region="hippocampus",
            tissue="grey",
        ),
        Sign(
            name="parietal_atrophy",
            words="fluid around the parietal lobes",
            side=(0.0, 60.0),
            front=None,
            height=(28.0, 72.0),
            whole=((0.0, 60.0), (-76.0, -30.0), (28.0, 72.0)),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where the pixels of an image of one plane lie: mm = ``start + step * index`` along rows and along columns.

    Attributes:
        plane: "axial", "coronal" or "sagittal".
        position: mm along its normal.
        rows: axis (0 x, 1 y, 2 z), mm of row 0, mm from row to row.
        columns: likewise.
        shape: rows and columns of the images that this is known of.
    """

    plane: str
    position: float
    rows: tuple[int, float, float]
    columns: tuple[int, float, float]
    shape: tuple[int, int]

    def inside(self, sign: Sign) -> Bool[np.ndarray, "h w"] | None:
        """The pixels in a sign's box; None where the plane does not pass it, or is none on which it is read."""
        if self.plane != sign.plane or sign.front is None:
            return None
        ranges = (sign.side, sign.front, sign.height)
        normal = PLANES[self.plane]
        low, high = ranges[normal]
        if not low <= (abs(self.position) if normal == 0 else self.position) <= high:
            return None
        marks = []
        for (axis, start, step), count in zip((self.rows, self.columns), self.shape, strict=True):
            marks.append(_within(axis, start + step * np.arange(count), ranges[axis]))
        return np.outer(*marks)


# mid slices of volumes of 176 x 208 x 176 voxels of 1 mm in T88 space; read off the mean image, within about 3 mm
_OASIS = (
    Frame(plane="coronal", position=-20.0, rows=(2, 101.0, -1.0), columns=(0, -88.0, 1.0), shape=(176, 176)),
    Frame(plane="axial", position=13.0, rows=(1, 84.0, -1.0), columns=(0, -88.0, 1.0), shape=(208, 176)),
    Frame(plane="sagittal", position=0.0, rows=(2, 101.0, -1.0), columns=(1, -124.0, 1.0), shape=(176, 208)),
)
FRAMES: Mapping[str, tuple[Frame, ...]] = {"oasis-slices": _OASIS, "none": ()}
"""Format of a set of slice images -> the frames of its planes."""


def frames_of(name: str, format: str) -> tuple[Frame, ...]:
    """The frames that ``concepts.geometry`` names; ``auto``: by the set's format, none for one of unknown geometry.

    Raises:
        InputError: there are none of that name.
    """
    if name == "auto":
        return FRAMES.get(format, ())
    if name not in FRAMES:
        raise unknown("value of concepts.geometry", name, ("auto", *FRAMES))
    return FRAMES[name]


class Measured(NamedTuple):
    """Signs, plane by plane.

    Attributes:
        planes: (K, P) of each sign on each plane, NaN where the plane does not pass its box; their mean is the sign.
        places: (P,) mm along y; of slice images that of their frame.
        images: (P,) number of the slice image that a plane is; -1 for a plane of a volume.
    """

    planes: Array
    places: Array
    images: npt.NDArray[np.int64]

    @property
    def values(self) -> Array:
        """(K,) the signs, NaN where a structure is not shown."""
        there = ~np.isnan(self.planes)
        count = there.sum(1)
        total = np.where(there, self.planes, 0.0).sum(1)
        return np.where(count > 0, total / np.maximum(count, 1), math.nan)

    def without(self, planes: npt.NDArray[np.bool_]) -> Measured:
        """As if some planes (P,) had not been there: signs are then what the others say."""
        return self._replace(planes=np.where(planes, math.nan, self.planes))


def signs_of_slices(
    images: Sequence[tuple[Float32[np.ndarray, "h w"], str]], frames: Sequence[Frame], names: Sequence[str]
) -> Measured:
    """Signs of a scan's slice images, NaN where none of them shows the structure.

    Args:
        images: grey values (black is 0) and planes.
        frames: of the set.
        names: K signs.

    Raises:
        InputError: an image has another size than its frame, or no contrast.
    """
    columns, places, numbers = [], [], []
    for number, (image, plane) in enumerate(images):
        for frame in frames:
            boxes = {name: frame.inside(SIGNS[name]) for name in names} if frame.plane == plane else {}
            if all(box is None for box in boxes.values()):
                continue
            if image.shape != frame.shape:
                raise InputError(
                    f"{plane} slice of {image.shape[0]} x {image.shape[1]} pixels: signs are known on "
                    f"{frame.shape[0]} x {frame.shape[1]}; set concepts.geometry=none or concepts.enabled=false"
                )
            share = fluid(image, image > _DARK * image.max())
            columns.append(
                [math.nan if box is None else math.log(float(share[box].mean()) + FLOOR) for box in boxes.values()]
            )
            places.append(frame.position)
            numbers.append(number)
    planes = np.array(columns, dtype=np.float64).reshape(-1, len(names)).T
    return Measured(planes, np.array(places, dtype=np.float64), np.array(numbers, dtype=np.int64))


def signs_of_volume(volume: Volume, names: Sequence[str]) -> Measured:
    """Signs of a preprocessed volume in MNI space; z-scores will do, NaN where a box lies outside the volume.

    White matter is looked for near each box, among the voxels where the template has it (`local_white_level`): a volume
    may hold a scalp that is brighter, and coils make one part of a head brighter than another.

    Raises:
        InputError: white matter is no brighter than background there.
    """
    planes = _planes(volume, tuple(names))
    # along a structure its fluid differs in everybody: without the template's course planes could not stand in for
    # each other. The mean over all planes stays as it is.
    course = _template_planes(volume.data.shape, tuple(volume.affine.ravel().tolist()), tuple(names))
    there = ~np.isnan(planes).all(axis=1)
    course = course[there]
    planes[there] -= course - np.nanmean(course, axis=1, keepdims=True)
    places = volume.affine[1, 3] + volume.affine[1, 1] * np.arange(volume.data.shape[1])
    return Measured(planes, places, np.full(len(places), -1))


def _planes(volume: Volume, names: tuple[str, ...]) -> Array:
    """(K, Y) logarithm of each coronal plane's share of fluid in each box, NaN where it does not pass it."""
    # z-scores have lost their zero: the darkest voxels, air and fluid, are it again
    shifted = volume.data - np.float32(np.percentile(volume.data, 0.5))
    white = _template_white(volume.data.shape, tuple(volume.affine.ravel().tolist()))
    places = [volume.affine[axis, 3] + volume.affine[axis, axis] * np.arange(n) for axis, n in enumerate(white.shape)]
    planes = np.full((len(names), white.shape[1]), math.nan)
    for row, name in enumerate(names):
        sign = SIGNS[name]
        ranges = sign.whole
        inside = [_within(axis, place, ranges[axis]) for axis, place in enumerate(places)]
        wide = ((low - _NEAR_MM, high + _NEAR_MM) for low, high in ranges)
        near = np.ix_(
            *(_within(axis, place, bounds) for (axis, place), bounds in zip(enumerate(places), wide, strict=True))
        )
        box = shifted[np.ix_(*inside)]
        if not box.size or not white[near].any():
            continue
        level = local_white_level(shifted[near][white[near]])
        if level <= 0:
            raise InputError("no contrast where white matter should be: signs of atrophy cannot be measured")
        ratio = box / level
        share = _share(ratio)
        if sign.tissue == "grey":
            share = 1 - share - 1 / (1 + np.exp(-(ratio.astype(np.float64) - _WHITE_ABOVE) / _WHITE_SOFTNESS))
        where = None
        if sign.region:
            where = get_region(sign.region).mask(white.shape, volume.affine)[np.ix_(*inside)]
        # a plane that passes nothing of the structure has no mean
        kept = np.flatnonzero(inside[1])[slice(None) if where is None else where.any(axis=(0, 2))]
        levels = np.mean(share, axis=(0, 2)) if where is None else _means(share, where)
        planes[row, kept] = np.log(np.maximum(levels, 0) + FLOOR) * (-1 if sign.tissue == "grey" else 1)
    return planes


def _means(values: Array, where: Bool[np.ndarray, "x y z"]) -> Array:
    """Means over x and z of the voxels in a region, of the planes that pass it."""
    counts = where.sum(axis=(0, 2))
    sums = (values * where).sum(axis=(0, 2))
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
    found: Bool[np.ndarray, "x y z"] = resample(template.white, template.affine, grid) > _SURELY_WHITE
    return found


def fluid(image: Float[np.ndarray, "*shape"], brain: Bool[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Each pixel's share of fluid, 0 to 1; what is black, background too, is 1.

    Args:
        image: intensities, 0 is black.
        brain: which pixels white matter is looked for in.
    """
    return _share(image.astype(np.float64) / white_level(image[brain]))


def _share(ratio: npt.NDArray[np.floating[Any]]) -> Array:
    """Share of fluid of intensities over that of white matter."""
    share: Array = 1 / (1 + np.exp(-(FLUID_BELOW - ratio.astype(np.float64)) / SOFTNESS))
    return share


def local_white_level(values: Float[np.ndarray, " n"]) -> float:
    """Intensity of a person's white matter, among the voxels that are white matter in the template.

    In a brain that has lost tissue many of these are fluid or grey matter, and the median of all is too dark. So the
    level starts in the upper part, and becomes the median of what is within 10 % of it until that no longer changes.

    Args:
        values: intensities, 0 is black.
    """
    level = float(np.percentile(values, _WHITE_PERCENTILE, method="nearest"))
    for _ in range(_WHITE_STEPS):
        near = values[np.abs(values - level) <= _WHITE_RANGE * abs(level)]
        after = float(np.median(near)) if len(near) else level
        if after == level:
            break
        level = after
    return level


def white_level(values: Float[np.ndarray, " n"]) -> float:
    """Intensity of white matter in a T1-weighted image: the mode of the brain's brighter part.

    Args:
        values: intensities of the brain's pixels, above 0.

    Raises:
        InputError: there is no brain, or all of it has one intensity.
    """
    if len(values) < 2 or values.max() <= values.min():
        raise InputError("no contrast inside the brain: signs of atrophy cannot be measured")
    upper = values[values >= np.percentile(values, _UPPER_PERCENTILE)]
    low, high = float(upper.min()), float(upper.max())
    if low == high:
        return low
    counts, edges = np.histogram(upper, bins=_BINS, range=(low, high))
    smooth = np.convolve(counts, np.ones(_SMOOTH) / _SMOOTH, "same")
    top = int(smooth.argmax())
    return float(edges[top] + edges[top + 1]) / 2


def _within(axis: int, places: npt.NDArray[np.floating[Any]], bounds: Range) -> npt.NDArray[np.bool_]:
    places = np.abs(places) if axis == 0 else places
    return (places >= bounds[0]) & (places <= bounds[1])
