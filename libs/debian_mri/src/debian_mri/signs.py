"""Signs of atrophy that are measured on a T1-weighted image: how much fluid there is in boxes around known structures.

Where tissue is lost, fluid takes its place. A pixel's share of fluid is ``sigmoid((0.45 - I / I_wm) / 0.06)`` with
I_wm the intensity of white matter, the mode of the histogram's upper part; a sign is ``log(mean share + 0.02)`` over
its box. No threshold on the scanner's units, no segmentation, both sides together: it works on slices of a known frame
and on volumes in MNI space alike. Scans without contrast between fluid and white matter are refused by `white_level`.

Coordinates are mm, RAS, of MNI or the OASIS sets' T88 space, which differ by a few mm here. |x| is the distance from
the middle: which side is left does not matter.
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

from debian_mri.preprocess import Volume
from debian_mri.regions import PLANES
from debian_mri.template import Grid, load_template, resample
from icube_common.errors import InputError, unknown

Array = npt.NDArray[np.float64]
Range = tuple[float, float]

# bump when measured values change: it is part of caches' keys
VERSION = 2
# of white matter's intensity: below it lies fluid
FLUID_BELOW, SOFTNESS = 0.45, 0.06
# keeps the logarithm of an empty box finite
FLOOR = 0.02
# darker pixels than this share of the range are background
_DARK = 0.04
_UPPER_PERCENTILE = 55.0
_BINS, _SMOOTH = 64, 5
# of volumes: share of white matter in the template, and how far from a box it is looked for
_SURELY_WHITE = 0.9
_NEAR_MM = 15.0


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A measured sign.

    Attributes:
        name: of the concept in ``concepts.yaml`` whose direction it has.
        words: what is measured.
        side: |x| in mm.
        front: y in mm.
        height: z in mm.
        plane: of the slice images on which it is read; the box is a thin slab along it.
        requires: the sequence on which fluid is dark.
    """

    name: str
    words: str
    side: Range
    front: Range
    height: Range
    plane: str = "coronal"
    requires: str = "T1w"


SIGNS: Mapping[str, Sign] = {
    sign.name: sign
    for sign in (
        Sign(
            name="medial_temporal_atrophy",
            words="fluid around the hippocampus and in the temporal horns",
            side=(8.5, 44.5),
            front=(-26.0, -14.0),
            height=(-32.5, -10.5),
        ),
        Sign(
            name="sylvian_widening",
            words="fluid in the Sylvian fissures",
            side=(25.5, 62.5),
            front=(-26.0, -14.0),
            height=(-11.5, 23.5),
        ),
        Sign(
            name="third_ventricle_enlargement",
            words="fluid in the third ventricle",
            side=(0.0, 8.5),
            front=(-26.0, -14.0),
            height=(-14.5, 13.5),
        ),
        Sign(
            name="ventricular_enlargement",
            words="fluid in the lateral ventricles",
            side=(0.0, 26.5),
            front=(-26.0, -14.0),
            height=(8.5, 39.5),
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
        if self.plane != sign.plane:
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


def signs_of_slices(
    images: Sequence[tuple[Float32[np.ndarray, "h w"], str]], frames: Sequence[Frame], names: Sequence[str]
) -> Array:
    """(K,) signs of a scan's slice images, NaN where none of them shows the structure.

    Args:
        images: grey values (black is 0) and planes.
        frames: of the set.
        names: K signs.

    Raises:
        InputError: an image has another size than its frame, or no contrast.
    """
    found: dict[str, list[float]] = {name: [] for name in names}
    for image, plane in images:
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
            for name, box in boxes.items():
                if box is not None:
                    found[name].append(float(share[box].mean()))
    return np.array([math.log(np.mean(values) + FLOOR) if values else math.nan for values in found.values()])


def signs_of_volume(volume: Volume, names: Sequence[str]) -> Array:
    """(K,) signs of a preprocessed volume in MNI space; z-scores will do, NaN where a box lies outside the volume.

    White matter is looked for where the template has it, near each box: a volume may hold a scalp that is brighter, and
    coils make one part of a head brighter than another.

    Raises:
        InputError: white matter is no brighter than background there.
    """
    # z-scores have lost their zero: the darkest voxels, air and fluid, are it again
    shifted = volume.data - np.float32(np.percentile(volume.data, 0.5))
    white = _template_white(volume.data.shape, tuple(volume.affine.ravel().tolist()))
    places = [volume.affine[axis, 3] + volume.affine[axis, axis] * np.arange(n) for axis, n in enumerate(white.shape)]
    values = []
    for name in names:
        sign = SIGNS[name]
        ranges = (sign.side, sign.front, sign.height)
        box = np.ix_(*(_within(axis, place, ranges[axis]) for axis, place in enumerate(places)))
        wide = ((low - _NEAR_MM, high + _NEAR_MM) for low, high in ranges)
        near = np.ix_(
            *(_within(axis, place, bounds) for (axis, place), bounds in zip(enumerate(places), wide, strict=True))
        )
        if not shifted[box].size or not white[near].any():
            values.append(math.nan)
            continue
        level = float(np.median(shifted[near][white[near]]))
        if level <= 0:
            raise InputError("no contrast where white matter should be: signs of atrophy cannot be measured")
        values.append(math.log(float(_share(shifted[box] / level).mean()) + FLOOR))
    return np.array(values)


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
