"""Foreground and brain masks of a volume by thresholds, masks of files, and detection of label images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Float64

from debian_mri.imaging.template import template_on_grid
from icube_common.errors import InputError

MAX_LABELS = 16  # values of a mask or a tissue segmentation
MAX_PARCELS = 400  # of a parcellation
# share of neighbouring foreground voxels of one value: parcels are flat, tissue is not
MIN_FLAT = 0.8
# a head has at least this share of its foreground outside the template's brain and its margin, in MNI space: 0.33 to
# 0.47 for 15 heads, at most 0.08 for their brains
MIN_HEAD_SHARE = 0.2
# margin of a mask around the template's brain, mm
MARGIN_MM = 4.0
# of `threshold_brain_mask`: depth in the template's brain that is always brain, opening and closing, mm; tissue
# relative to the level of bright tissue
_CORE_MM, _OPEN_MM, _CLOSE_MM = 6.0, 6.0, 8.0
_TISSUE, _TISSUE_PERCENTILE = (0.45, 1.35), 75.0


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
    # holes are pieces of the rest that do not reach the border; labelling is much faster than binary_fill_holes. What
    # reaches the border of the piece's bounding box also reaches that of the volume
    largest = int(sizes.argmax())
    box = ndimage.find_objects(pieces, largest)[largest - 1]
    rest, _ = ndimage.label(pieces[box] != largest)
    outside = {0}
    for axis in range(3):
        outside.update(np.unique(np.take(rest, (0, -1), axis=axis)).tolist())
    is_hole = np.ones(int(rest.max()) + 1, dtype=bool)
    is_hole[list(outside)] = False
    # label 0 is the piece itself
    is_hole[0] = True
    filled: Bool[np.ndarray, "x y z"] = np.zeros(data.shape, dtype=bool)
    filled[box] = is_hole[rest]
    return filled


@cache
def template_distance(spacing: float, field_of_view: tuple[float, ...]) -> Float32[np.ndarray, "x y z"]:
    """Distance of each voxel of `mni_grid` from the surface of the template's brain, mm; negative inside; cached."""
    from scipy.ndimage import distance_transform_edt

    brain = template_on_grid(spacing, field_of_view).brain
    distance = (distance_transform_edt(~brain) - distance_transform_edt(brain)) * spacing
    signed: Float32[np.ndarray, "x y z"] = distance.astype(np.float32)
    signed.setflags(write=False)
    return signed


def is_head(foreground: Bool[np.ndarray, "x y z"], distance: Float32[np.ndarray, "x y z"]) -> bool:
    """True for the foreground of a head in MNI space, false for that of a skull-stripped brain."""
    outside = int((foreground & (distance > MARGIN_MM)).sum())
    return outside >= MIN_HEAD_SHARE * max(1, int(foreground.sum()))


def threshold_brain_mask(
    data: Float32[np.ndarray, "x y z"], spacing: float, field_of_view: Sequence[float]
) -> Bool[np.ndarray, "x y z"]:
    """Brain mask of a head in MNI space by thresholds and morphology, for want of a better one.

    Tissue, between two shares of the level of bright tissue in the middle of the template's brain, is opened, so that
    scalp and dura come off, restricted to the largest piece and closed, with the middle of the template's brain always
    inside: ventricles and sulci belong to it. Nothing lies further than `MARGIN_MM` from the template's brain.

    Args:
        data: on `mni_grid`; intensities with background near 0.
        spacing: mm between voxels.
        field_of_view: of the grid, mm.
    """
    from scipy.ndimage import binary_fill_holes, label

    distance = template_distance(spacing, tuple(field_of_view))
    core, near = distance < -_CORE_MM, distance <= MARGIN_MM
    if not core.any():
        core = distance < 0
    level = float(np.percentile(data[core], _TISSUE_PERCENTILE))
    low, high = _TISSUE
    tissue = (data > low * level) & (data < high * level) & near
    pieces, count = label(_eroded(tissue, _OPEN_MM, spacing))
    mask = core
    if count:
        largest = pieces == np.bincount(pieces.reshape(-1))[1:].argmax() + 1
        mask = core | (_dilated(largest, _OPEN_MM + spacing / 2, spacing) & tissue)
    closed = _eroded(_dilated(mask, _CLOSE_MM, spacing), _CLOSE_MM, spacing)
    filled: Bool[np.ndarray, "x y z"] = binary_fill_holes(closed | mask) & near
    return filled


def _eroded(mask: Bool[np.ndarray, "x y z"], radius: float, spacing: float) -> Bool[np.ndarray, "x y z"]:
    from scipy.ndimage import distance_transform_edt

    inner: Bool[np.ndarray, "x y z"] = distance_transform_edt(mask) * spacing > radius
    return inner


def _dilated(mask: Bool[np.ndarray, "x y z"], radius: float, spacing: float) -> Bool[np.ndarray, "x y z"]:
    from scipy.ndimage import distance_transform_edt

    outer: Bool[np.ndarray, "x y z"] = distance_transform_edt(~mask) * spacing <= radius
    return outer


def mask_file(place: str | Path, source: Path | None) -> Path:
    """The user's mask of a volume: the file, or in a folder the one that carries the volume's name.

    In a folder (and those below) a name matches as ``<name>.nii.gz``, ``<name>_mask.nii.gz``,
    ``<name>_desc-brain_mask.nii.gz`` or, for ``sub-01_T1w``, ``sub-01_..._desc-brain_mask.nii.gz``; also ``.nii``.

    Raises:
        InputError: no such file or folder, or no or several masks of the volume in it.
    """
    place = Path(place)
    if place.is_file():
        return place
    if not place.is_dir():
        raise InputError(f"mask={place}: must be auto, deepbet, otsu, or a file or folder of masks")
    name = "" if source is None else source.name.removesuffix(".gz").rpartition(".")[0]
    exact = {f"{name}{suffix}" for suffix in ("", "_mask", "_desc-brain_mask")}
    start = name.removesuffix("_T1w") + "_"
    files = {path: path.name.removesuffix(".gz").removesuffix(".nii") for path in sorted(place.rglob("*.nii*"))}
    matches = [path for path, stem in files.items() if stem in exact and path != source]
    if not matches:
        matches = [path for path, stem in files.items() if stem.startswith(start) and stem.endswith("desc-brain_mask")]
    if len(matches) != 1:
        reason = "no mask" if not matches else f"{len(matches)} masks ({matches[0].name}, {matches[1].name}, ...)"
        raise InputError(f"mask={place}: {reason} of {name or 'this volume'}; name it {name or '<name>'}_mask.nii.gz")
    return matches[0]


def read_mask(path: Path) -> tuple[Bool[np.ndarray, "x y z"], Float64[np.ndarray, "4 4"]]:
    """Mask of a NIfTI file, true above 0.5, and its affine.

    Raises:
        InputError: unreadable, not 3-D, or empty.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
        data, affine = np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # a damaged file may bring up any error of a decoder
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: cannot be read as a mask ({reason})") from error
    if data.ndim != 3 or not (mask := data > 0.5).any():
        raise InputError(f"{path}: no mask: {data.ndim} axes, {int((data > 0.5).sum())} voxels above 0.5")
    return mask, affine


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
