"""Slice images of a brain: planes through named regions, evenly spaced planes, or the slice images of a set.

Display: axial with the front up, coronal with the top up, both with the person's left on the left;
sagittal with the top up and the front on the right. Pixels are grey, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64

from debian_mri.imaging.preprocess import Volume
from debian_mri.imaging.regions import PLANES, get_region, regions_on_plane
from icube_common.config import Config, option
from icube_common.errors import InputError, unknown

BLOCKS = 22
"""Blocks along each side of a slice: 8 mm of an image of 176 mm."""
VOXEL_MM = 8.0
"""Side of a down-sampled voxel."""
# minimum section of the brain on an evenly spaced plane, relative to the largest section
_MIN_SECTION = 0.2


@dataclass(frozen=True)
class SliceInfo:
    """A slice without its pixels.

    Attributes:
        plane: "axial", "coronal" or "sagittal"; "volume" for the whole volume.
        position_mm: along the plane's normal, RAS; None for an image of unknown place.
        regions: that it cuts.
    """

    plane: str
    position_mm: float | None
    regions: tuple[str, ...]


WHOLE = SliceInfo("volume", None, ())
"""Place of all slices, where an encoder of volumes gives one feature of a scan."""


@dataclass(frozen=True, kw_only=True)
class SliceConfig(Config):
    """Planes of a volume that become slice images; a set of slice images has all of its ``planes``."""

    mode: str = option("regions", "planes through named regions, or evenly over the brain", choices=("regions", "even"))
    planes: list[str] = option(["coronal", "axial", "sagittal"], "orientations", choices=tuple(PLANES))
    regions: list[str] = option(
        ["hippocampus", "lateral_ventricles", "parietal", "midbrain", "occipital"], "regions of mode regions"
    )
    count: int = option(2, "slices of each plane (even), or of each plane and region (regions)", ge=1, le=128)
    window_low: float = option(1.0, "percentile of the brain's voxels that becomes black", ge=0, lt=50)
    window_high: float = option(99.5, "percentile of the brain's voxels that becomes white", gt=50, le=100)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("planes", "regions"):
            values = getattr(self, key)
            if not values or len(set(values)) < len(values):
                raise InputError(f"{key}={list(values)}: at least one is needed, each once")
        for name in self.regions:
            get_region(name)


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceImage:
    """Slice image.

    Attributes:
        image: (H, W) grey, 0 to 1.
        plane: "axial", "coronal" or "sagittal".
        position_mm: of the voxels' centre along the plane's normal, MNI; None for an unknown position, and
            outside MNI space.
        regions: names of the regions on the slice (`debian_mri.imaging.regions`); empty outside MNI space.
    """

    image: Float32[np.ndarray, "h w"]
    plane: str
    position_mm: float | None
    regions: tuple[str, ...]

    @property
    def words(self) -> str:
        """Plane and position: ``"coronal, y = -22 mm"``."""
        if self.position_mm is None:
            return self.plane
        return f"{self.plane}, {'xyz'[PLANES[self.plane]]} = {self.position_mm:g} mm"


def slice_volume(volume: Volume, config: SliceConfig, *, in_mni: bool = True) -> list[SliceImage]:
    """Slice images of a preprocessed volume.

    Raises:
        InputError: mode regions outside MNI space, or a region outside the volume.
    """
    if config.mode == "regions" and not in_mni:
        raise InputError("slices.mode=regions: regions lie in MNI space; set space=mni or slices.mode=even")
    shown = window_intensity(volume, config.window_low, config.window_high)
    images = []
    for plane, index in dict.fromkeys(_planes(volume, config)):
        axis = PLANES[plane]
        # planes of an oblique native grid have no single position
        position = round(float(volume.affine[axis, 3] + volume.affine[axis, axis] * index), 3) if in_mni else None
        regions = () if position is None else regions_on_plane(plane, position)
        images.append(
            SliceImage(image=upright(shown, plane, index), plane=plane, position_mm=position, regions=regions)
        )
    return images


def upright(data: Float32[np.ndarray, "x y z"], plane: str, index: int) -> Float32[np.ndarray, "h w"]:
    """Plane of a RAS volume in display orientation."""
    return np.ascontiguousarray(np.flipud(np.take(data, index, axis=PLANES[plane]).T))


def window_intensity(volume: Volume, low: float, high: float) -> Float32[np.ndarray, "x y z"]:
    """Intensities scaled to 0 to 1 between two percentiles of the mask's voxels."""
    black, white = np.percentile(volume.data[volume.mask], [low, high])
    if white <= black:
        raise InputError(f"all of the brain has one intensity ({black:g}): no contrast")
    return np.clip((volume.data - black) / (white - black), 0, 1).astype(np.float32)


def read_slices(paths: Sequence[Path], planes: Sequence[str], config: SliceConfig) -> Iterator[SliceImage]:
    """Read slice images of the configured planes, in their order.

    Raises:
        InputError: unreadable or empty image, or no image of the planes.
    """
    chosen = [(path, plane) for path, plane in zip(paths, planes, strict=True) if plane in config.planes]
    if not chosen:
        raise unknown("plane among slices.planes of this set", ", ".join(config.planes), set(planes))
    for path, plane in chosen:
        yield SliceImage(image=read_slice_image(path), plane=plane, position_mm=None, regions=())


def read_slice_image(path: Path) -> Float32[np.ndarray, "h w"]:
    """Read a JPEG, PNG or other image of Pillow, as grey from 0 to 1.

    Raises:
        InputError: unreadable image, or one of constant grey value.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            deep = opened.mode.startswith("I") or opened.mode == "F"
            pixels = np.asarray(opened if deep else opened.convert("L"), dtype=np.float32)
            if opened.mode == "F" or pixels.max() > 65535:
                raise ValueError(f"pixels of mode {opened.mode}")
    except Exception as error:  # a damaged file may bring up any error of a decoder
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: cannot be read as an image ({reason})") from error
    if pixels.min() == pixels.max():
        raise InputError(f"{path}: empty: all pixels are {pixels.min():g}")
    return pixels / np.float32(65535 if deep else 255)


def _planes(volume: Volume, config: SliceConfig) -> Iterator[tuple[str, int]]:
    """Plane and voxel index of each slice."""
    if config.mode == "even":
        for plane in config.planes:
            yield from ((plane, index) for index in _even(volume.mask, PLANES[plane], config.count))
        return
    for name in config.regions:
        for plane in config.planes:
            for position in get_region(name).slice_positions(plane, config.count):
                yield plane, _index(volume.affine, volume.data.shape, PLANES[plane], position, name)


def _index(affine: Float64[np.ndarray, "4 4"], shape: Sequence[int], axis: int, position: float, name: str) -> int:
    index = round((position - affine[axis, 3]) / affine[axis, axis])
    if not 0 <= index < shape[axis]:
        raise InputError(f"region {name}: {'xyz'[axis]} = {position:g} mm lies outside the field of view: widen it")
    return int(index)


def _even(mask: Bool[np.ndarray, "x y z"], axis: int, count: int) -> list[int]:
    """Evenly spaced indices over the part of the brain with sections above the minimum."""
    areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
    sizable = np.flatnonzero(areas >= _MIN_SECTION * areas.max())
    first, last = int(sizable[0]), int(sizable[-1])
    return [first + round((last - first) * (number + 0.5) / count) for number in range(count)]


def block_means(image: Float32[np.ndarray, "h w"], blocks: int = BLOCKS) -> Float32[np.ndarray, "b b"]:
    """The means of ``blocks`` x ``blocks`` parts of an image, as equal as its pixels allow; pixels in full only.

    An image with fewer pixels than blocks along a side repeats pixels.
    """
    for axis in (0, 1):
        image = _means_along(image, blocks, axis)
    return image.astype(np.float32)


def coarse(volume: Float32[np.ndarray, "x y z"], spacing: float, mm: float = VOXEL_MM) -> Float32[np.ndarray, "i j k"]:
    """A volume in voxels of about ``mm``: block means along each axis.

    Args:
        volume: preprocessed.
        spacing: mm between its voxels.
        mm: wanted side of a voxel.
    """
    for axis in range(3):
        volume = _means_along(volume, max(1, round(volume.shape[axis] * spacing / mm)), axis)
    return volume.astype(np.float32)


def stacked(images: Sequence[Float32[np.ndarray, "h w"]], blocks: int) -> Float32[np.ndarray, "s b b"]:
    """All slices of a scan as block means."""
    return np.stack([block_means(image, blocks) for image in images])


def _means_along(values: Float32[np.ndarray, "..."], parts: int, axis: int) -> Float32[np.ndarray, "..."]:
    """Means of ``parts`` runs along an axis: run i is ``floor(i n / parts)`` to ``ceil((i + 1) n / parts)``."""
    size = values.shape[axis]
    sums = np.concatenate(
        [np.zeros_like(values.take([0], axis=axis), dtype=np.float64), np.cumsum(values, axis=axis, dtype=np.float64)],
        axis=axis,
    )
    first = np.arange(parts) * size // parts
    last = -(-(np.arange(parts) + 1) * size // parts)
    shape = [1] * values.ndim
    shape[axis] = parts
    means: Float32[np.ndarray, "..."] = (sums.take(last, axis=axis) - sums.take(first, axis=axis)) / (
        (last - first).reshape(shape)
    )
    return means


def pixel_features(images: Sequence[SliceImage], planes: Sequence[str]) -> Float32[np.ndarray, "s w"]:
    """Block means of slices, each in the columns of its plane and NaN in the others, so that planes do not mix.

    Args:
        images: of a scan.
        planes: all planes of the configuration.
    """
    rows = np.full((len(images), len(planes), BLOCKS**2), np.nan, dtype=np.float32)
    for row, image in zip(rows, images, strict=True):
        # of length one at most, as features of an encoder
        row[planes.index(image.plane)] = block_means(image.image).reshape(-1) / BLOCKS
    return rows.reshape(len(images), -1)
