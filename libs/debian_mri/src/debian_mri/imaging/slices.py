"""Pictures of planes through a brain: through named regions, evenly over it, or the images that a set consists of.

How planes are shown: axial with the front up, coronal with the top up, both with the person's left on the left;
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

# an even plane is taken where at least this share of the brain's largest section lies in it
_MIN_SECTION = 0.2


@dataclass(frozen=True, kw_only=True)
class SliceConfig(Config):
    """Which planes of a volume become pictures; a set of slice images gives all that it has of ``planes``."""

    mode: str = option("regions", "planes through named regions, or evenly over the brain", choices=("regions", "even"))
    planes: list[str] = option(["coronal", "axial", "sagittal"], "orientations", choices=tuple(PLANES))
    regions: list[str] = option(
        ["hippocampus", "lateral_ventricles", "parietal", "midbrain", "occipital"], "of mode regions"
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
    """One picture.

    Attributes:
        image: (H, W) grey, 0 to 1.
        plane: "axial", "coronal" or "sagittal".
        position_mm: of the voxels' middle along the plane's normal, MNI; None for a picture of unknown place, and
            outside MNI space.
        regions: names of the regions that it cuts (`debian_mri.imaging.regions`); empty outside MNI space.
    """

    image: Float32[np.ndarray, "h w"]
    plane: str
    position_mm: float | None
    regions: tuple[str, ...]

    @property
    def words(self) -> str:
        """Plane and place: ``"coronal, y = -22 mm"``."""
        if self.position_mm is None:
            return self.plane
        return f"{self.plane}, {'xyz'[PLANES[self.plane]]} = {self.position_mm:g} mm"


def slice_volume(volume: Volume, config: SliceConfig, *, in_mni: bool = True) -> list[SliceImage]:
    """The pictures of a preprocessed volume.

    Args:
        volume: on an upright grid.
        config: which planes.
        in_mni: whether its world is that of the regions.

    Raises:
        InputError: regions are asked for outside MNI space, or one lies outside the volume.
    """
    if config.mode == "regions" and not in_mni:
        raise InputError("slices.mode=regions: regions lie in MNI space; set space=mni or slices.mode=even")
    shown = window_intensity(volume, config.window_low, config.window_high)
    pictures = []
    for plane, index in dict.fromkeys(_planes(volume, config)):
        axis = PLANES[plane]
        # a native grid may be oblique: its planes then lie at no one place
        place = round(float(volume.affine[axis, 3] + volume.affine[axis, axis] * index), 3) if in_mni else None
        regions = () if place is None else regions_on_plane(plane, place)
        pictures.append(SliceImage(image=upright(shown, plane, index), plane=plane, position_mm=place, regions=regions))
    return pictures


def upright(data: Float32[np.ndarray, "x y z"], plane: str, index: int) -> Float32[np.ndarray, "h w"]:
    """A plane of a RAS volume as it is shown."""
    return np.ascontiguousarray(np.flipud(np.take(data, index, axis=PLANES[plane]).T))


def window_intensity(volume: Volume, low: float, high: float) -> Float32[np.ndarray, "x y z"]:
    """Intensities from 0 to 1 between two percentiles of the mask's voxels."""
    black, white = np.percentile(volume.data[volume.mask], [low, high])
    if white <= black:
        raise InputError(f"all of the brain has one intensity ({black:g}): nothing to see")
    return np.clip((volume.data - black) / (white - black), 0, 1).astype(np.float32)


def read_slices(paths: Sequence[Path], planes: Sequence[str], config: SliceConfig) -> Iterator[SliceImage]:
    """Slice images as grey pictures, those of the planes that are asked for, in their order.

    Raises:
        InputError: a file cannot be read as an image or is empty, or there is none of the planes.
    """
    chosen = [(path, plane) for path, plane in zip(paths, planes, strict=True) if plane in config.planes]
    if not chosen:
        raise unknown("plane among slices.planes of this set", ", ".join(config.planes), set(planes))
    for path, plane in chosen:
        yield SliceImage(image=read_slice_image(path), plane=plane, position_mm=None, regions=())


def read_slice_image(path: Path) -> Float32[np.ndarray, "h w"]:
    """A JPEG, PNG or other image that Pillow reads, as grey from 0 to 1.

    Raises:
        InputError: it cannot be read, or all of its pixels are the same.
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
    """Plane and voxel index of each picture."""
    if config.mode == "even":
        for plane in config.planes:
            yield from ((plane, index) for index in _even(volume.mask, PLANES[plane], config.count))
        return
    for name in config.regions:
        for plane in config.planes:
            for place in get_region(name).places(plane, config.count):
                yield plane, _index(volume.affine, volume.data.shape, PLANES[plane], place, name)


def _index(affine: Float64[np.ndarray, "4 4"], shape: Sequence[int], axis: int, place: float, name: str) -> int:
    index = round((place - affine[axis, 3]) / affine[axis, axis])
    if not 0 <= index < shape[axis]:
        raise InputError(f"region {name}: {'xyz'[axis]} = {place:g} mm lies outside the field of view: widen it")
    return int(index)


def _even(mask: Bool[np.ndarray, "x y z"], axis: int, count: int) -> list[int]:
    """Indices that divide the part of the brain with sizable sections into equal parts."""
    areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
    sizable = np.flatnonzero(areas >= _MIN_SECTION * areas.max())
    first, last = int(sizable[0]), int(sizable[-1])
    return [first + round((last - first) * (at + 0.5) / count) for at in range(count)]
