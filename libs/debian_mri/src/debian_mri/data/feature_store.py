"""Feature store: slice features of the frozen image encoder and measured biomarkers, computed once a scan.

A folder of features holds ``features.json`` (backbone with its fingerprint, slices, preprocessing) and one file a scan
(`icube_common.vlm.FeatureCache`), under a key of the scan's content: an interrupted job is
resumed, a changed image is encoded again, and a folder of another backbone or other slices is refused.

Pixel features take no backbone and are computed on each reading: they cost less than the images.

Shapes: S slices of a scan, D width of the space that images and texts share, W of slice features for the image
branch (D where the encoder has no others), K signs. An encoder of volumes has one feature of a scan, S = 1.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from debian_mri.biomarkers import measure
from debian_mri.biomarkers.measurement import BiomarkerMeasurement
from debian_mri.biomarkers.volumes.scores import measure_table, read_volumes
from debian_mri.biomarkers.volumes.table import VolumeTable
from debian_mri.config import MriConfig
from debian_mri.data.manifest import PLANES, Manifest, Scan
from debian_mri.imaging.nifti import RawVolume
from debian_mri.imaging.preprocess import PreprocessConfig, Volume, preprocess_volume
from debian_mri.imaging.regions import regions_on_plane
from debian_mri.imaging.slices import (
    BLOCKS,
    WHOLE,
    SliceImage,
    SliceInfo,
    pixel_features,
    read_slices,
    slice_volume,
)
from debian_mri.imaging.volume_cache import cached_head_rotation, cached_mask_source, cached_volume, load_volume
from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.io.runs import write_json
from icube_common.vlm import FeatureCache, FrozenVLM, encode_items, feature_fingerprint, feature_key
from icube_common.vlm.features import HEAD, check_same_backbone, describe_backbone, read_head

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
_MICROMETRES = 1000


class ScanImages:
    """Images of a scan of a prepared set, read on first access.

    Args:
        manifest: the set.
        scan: one of it.
        config: preprocessing and slices.

    Raises:
        InputError: (on access) an image cannot be used.
    """

    # of the scan, in place of the table of ``concepts.volumes``
    volumes: VolumeTable | None = None

    def __init__(self, manifest: Manifest, scan: Scan, config: MriConfig) -> None:
        self.scan, self.config = scan, config
        self.format = str(manifest.description["format"])
        self.paths = manifest.paths_of(scan)
        self._manifest = manifest

    @cached_property
    def content(self) -> str:
        """Digest of the images; of a volume with its preprocessing."""
        if self.scan.kind == "volume":
            return self._path.name.partition(".")[0]
        digest = hashlib.sha256()
        for image in self.slices:
            digest.update(f"{image.plane} {image.image.shape}".encode())
            digest.update(image.image.tobytes())
        return digest.hexdigest()

    @cached_property
    def slices(self) -> list[SliceImage]:
        """The slice images for the image encoder."""
        if self.scan.kind == "slices":
            return list(read_slices(self.paths, self.scan.planes, self.config.slices))
        in_mni = self.config.preprocess.space == "mni"
        return slice_volume(self.volume, self.config.slices, in_mni=in_mni)

    @property
    def volume(self) -> Volume:
        """The preprocessed volume, from the set's cache."""
        return load_volume(self._path)

    def volume_of(self, config: PreprocessConfig) -> Volume:
        """The volume with other preprocessing, from the set's cache."""
        return load_volume(cached_volume(self._manifest, self.scan, config))

    @property
    def rotation(self) -> float:
        """Degrees between a head and the orientation of its file's affine, found by registration; 0 for slices."""
        return cached_head_rotation(self._path) if self.scan.kind == "volume" else 0.0

    @property
    def mask_source(self) -> str:
        """Source of a volume's brain mask; empty for slices."""
        return cached_mask_source(self._path) if self.scan.kind == "volume" else ""

    def biomarkers(self, names: Sequence[str]) -> BiomarkerMeasurement:
        """Measured biomarkers, plane by plane; those of ``concepts.volumes`` from the table."""
        if self.config.concepts.volumes:
            table = self.volumes or read_volumes(self.config.concepts.volumes)
            by_plane = self.scan.kind == "volume" and self.config.preprocess.space == "mni"
            return measure_table(table, self.scan.id, names, by_plane=by_plane)
        if self.scan.kind == "volume":
            return measure.measure_volume(self.volume, names)
        geometries = measure.slice_geometries(self.config.concepts.slice_geometry, self.format)
        return measure.measure_slices([(image.image, image.plane) for image in self.slices], geometries, names)

    @cached_property
    def _path(self) -> Path:
        return cached_volume(self._manifest, self.scan, self.config.preprocess)


class SingleScanImages(ScanImages):
    """Images of one scan outside a prepared set, preprocessed in memory.

    Args:
        scan: with paths that hold as they are.
        config: preprocessing and slices.
        format: of the set whose geometry slice images have.
        raw: voxels of a volume.
    """

    def __init__(self, scan: Scan, config: MriConfig, *, format: str, raw: RawVolume | None = None) -> None:
        self.scan, self.config, self.format, self._raw = scan, config, format, raw
        self.paths = tuple(map(Path, scan.paths))

    @cached_property
    def volume(self) -> Volume:
        """The preprocessed volume."""
        return self.volume_of(self.config.preprocess)

    def volume_of(self, config: PreprocessConfig) -> Volume:
        """The volume with other preprocessing; its affine in single precision, as in the cache of a set."""
        assert self._raw is not None
        try:
            volume = preprocess_volume(self._raw, config, source=self.paths[0])
        except InputError as error:
            raise InputError(f"{self.paths[0]}: {error}") from error
        return volume._replace(affine=volume.affine.astype(np.float32).astype(np.float64))

    @property
    def mask_source(self) -> str:
        """As of `ScanImages`."""
        return self.volume.mask_source if self.scan.kind == "volume" else ""

    @property
    def rotation(self) -> float:
        """As of `ScanImages`."""
        return round(self.volume.rotation, 1) if self.scan.kind == "volume" else 0.0


def uses_pixels(config: MriConfig, vlm: FrozenVLM) -> bool:
    """True where the image branch takes pixel features in place of the frozen image encoder's."""
    if config.finetune.enabled or config.visual.encoder != "auto":
        return config.visual.encoder == "pixels"
    return vlm.encoder is None and not vlm.origin.trained_on_pairs


def pixel_width(config: MriConfig) -> int:
    """Width W of pixel features."""
    return len(config.slices.planes) * BLOCKS**2


def read_pixels(scans: Iterable[tuple[Item, ScanImages | None]]) -> Iterator[ScanFeatures[Item]]:
    """Pixel features of scans in their order; see `encode_scans`."""
    for item, images in scans:
        result = ScanFeatures(item, images)
        if images is not None:
            try:
                result.features = torch.from_numpy(pixel_features(images.slices, images.config.slices.planes))
                result.slices = tuple(SliceInfo(one.plane, one.position_mm, one.regions) for one in images.slices)
            except InputError as error:
                result.error = error
        yield result


def features_folder(data: str | Path, features: str | Path | None, config: MriConfig, vlm: FrozenVLM) -> Path | None:
    """Folder of slice features: the given one, else below the prepared set, by backbone and slices."""
    if features is not None:
        return Path(features)
    digest = hashlib.sha256(repr(sorted(_choices(config).items())).encode()).hexdigest()
    folder = Path(data) / "features" / f"{feature_fingerprint(vlm)[:12]}-{digest[:8]}"
    if folder.is_dir() or os.access(data, os.W_OK):
        return folder
    logger.warning("%s: cannot be written, features are computed and not stored; --features FOLDER stores them", data)
    return None


def open_folder(folder: str | Path, config: MriConfig, vlm: FrozenVLM) -> FeatureCache:
    """The cache in a folder of features, made where it is not there.

    Raises:
        InputError: it holds something else, or features of another backbone, other slices or other preprocessing.
    """
    folder = Path(folder)
    header = {"backbone": describe_backbone(vlm), "chosen": _choices(config)}
    recorded = read_head(folder, tuple(header))
    if recorded is None:
        write_json(folder / HEAD, header)
        return FeatureCache(folder, half=True)
    check_same_backbone(folder, recorded["backbone"], vlm)
    chosen = recorded["chosen"]
    if other := [key for key, value in header["chosen"].items() if chosen.get(key) != value]:
        raise InputError(
            f"{folder}: its features are of {other[0]}={chosen.get(other[0])}, wanted is {header['chosen'][other[0]]}; "
            "choose those, or another folder for these"
        )
    return FeatureCache(folder, half=True)


@dataclass(eq=False)
class ScanFeatures(Generic[Item]):
    """A scan with the features of its slices.

    Attributes:
        item: what the scan belongs to, as it was given.
        images: its images; None where there are none to encode.
        features: ``(S, W)``; of an encoder in half precision, whether they come from the cache or not.
        joint: ``(S, D)`` in the space of the texts, where the encoder has separate features.
        slices: what they are of.
        error: why there are none: an image that cannot be used.
    """

    item: Item
    images: ScanImages | None
    features: Float[Tensor, "s w"] | None = None
    joint: Float[Tensor, "s d"] | None = None
    slices: tuple[SliceInfo, ...] = ()
    error: InputError | None = None


def encode_scans(
    scans: Iterable[tuple[Item, ScanImages | None]], vlm: FrozenVLM, cache: FeatureCache | None
) -> Iterator[ScanFeatures[Item]]:
    """Features of scans in their order, from the cache where they are there; the tower's batches join several scans.

    Args:
        scans: read a little ahead, as far as a batch needs. None: a scan that only keeps its place.
        vlm: the frozen backbone.
        cache: where to look and to store; None computes always.
    """

    def items() -> Iterator[tuple[_Looked[Item], Iterable[Tensor] | None]]:
        for item, images in scans:
            looked = _Looked(ScanFeatures(item, images))
            frames = None
            if images is not None:
                try:
                    if cache is not None:
                        looked.key = feature_key(feature_fingerprint(vlm), images.content, _choices(images.config))
                        looked.stored = cache.get(looked.key)
                    if looked.stored is None:
                        frames = encoder_inputs(images, vlm)
                except InputError as error:
                    looked.result.error = error
            yield looked, frames

    for encoded in encode_items(vlm, items()):
        looked = encoded.item
        result, stored = looked.result, looked.stored
        if encoded.error is not None:
            if not isinstance(encoded.error, InputError):
                raise encoded.error
            result.error = encoded.error
        elif encoded.features is not None:
            assert result.images is not None
            try:
                stored = _tensors(encoded.tensors, [] if vlm.kind == "volume" else result.images.slices)
                if cache is not None:
                    stored = cache.put(looked.key, stored)
            except InputError as error:
                result.error, stored = error, None
        if stored is not None:
            assert result.images is not None
            result.features = stored["features"].half().float()
            result.slices = (WHOLE,) if vlm.kind == "volume" else _infos(stored, result.images)
            result.joint = stored["joint"].half().float() if "joint" in stored else None
        yield result


def check_encoder(vlm: FrozenVLM, kinds: Iterable[str]) -> None:
    """Check that the image tower, or its encoder, takes scans of these kinds.

    Args:
        vlm: the frozen backbone.
        kinds: "slices" or "volume" of the scans.

    Raises:
        InputError: an encoder of clips, or one of volumes with slice images.
    """
    if vlm.kind == "clip":
        raise InputError(f"{vlm.encoder}: is an encoder of clips; scans take encoders of images or volumes")
    if vlm.kind == "volume" and "slices" in kinds:
        raise InputError(f"{vlm.encoder}: is an encoder of volumes, and scans are slice images; take one of images")


def encoder_inputs(images: ScanImages, vlm: FrozenVLM) -> Iterator[Tensor]:
    """Preprocessed slices (3, H, W) of a scan, or its volume (1, X, Y, Z) for an encoder of volumes.

    Raises:
        InputError: as `check_encoder`, or an image cannot be used.
    """
    check_encoder(vlm, [images.scan.kind])
    if vlm.kind == "volume":
        yield torch.as_tensor(vlm.preprocess(images.volume.data))
        return
    for image in images.slices:
        yield vlm.preprocess(to_rgb(image))


@dataclass(eq=False)
class _Looked(Generic[Item]):
    """A scan that was looked up in the cache."""

    result: ScanFeatures[Item]
    key: str = ""
    stored: dict[str, Tensor] | None = None


def _tensors(features: Mapping[str, Tensor], images: Sequence[SliceImage]) -> dict[str, Tensor]:
    """Features and places of a scan's slices as they are stored."""
    places = [image.position_mm for image in images]
    return {
        **features,
        "plane": torch.tensor([PLANES.index(image.plane) for image in images]),
        "place": torch.tensor([0 if mm is None else round(mm * _MICROMETRES) for mm in places]),
        "placed": torch.tensor([mm is not None for mm in places], dtype=torch.uint8),
    }


def _infos(features: Mapping[str, Tensor], images: ScanImages) -> tuple[SliceInfo, ...]:
    in_mni = images.scan.kind == "volume" and images.config.preprocess.space == "mni"
    infos = []
    rows = zip(features["plane"].tolist(), features["place"].tolist(), features["placed"].tolist(), strict=True)
    for number, place, placed in rows:
        position = place / _MICROMETRES if placed else None
        regions = regions_on_plane(PLANES[number], position) if in_mni and position is not None else ()
        infos.append(SliceInfo(PLANES[number], position, regions))
    return tuple(infos)


def scan_signs(images: ScanImages, names: Sequence[str], cache: FeatureCache | None) -> npt.NDArray[np.float64]:
    """(K,) measured signs of a scan, NaN where a structure is not shown; of volumes from the cache where it is there.

    Raises:
        InputError: an image cannot be used.
    """
    # reading slices, or a table of volumes, takes as long as reading the cache
    if images.scan.kind == "slices" or cache is None or images.config.concepts.volumes:
        return images.biomarkers(names).values

    def compute() -> dict[str, Tensor]:
        values = images.biomarkers(names).values
        # the cache takes finite numbers only
        measured = ~np.isnan(values)
        return {"values": torch.from_numpy(np.nan_to_num(values)), "measured": torch.from_numpy(measured).byte()}

    boxes = {name: asdict(measure.BIOMARKERS[name]) for name in names}
    arrays = cache.get_or_compute(
        feature_key("biomarkers", images.content, {"version": measure.VERSION, "boxes": boxes}), compute
    )
    values: npt.NDArray[np.float64] = arrays["values"].double().numpy().copy()
    values[arrays["measured"].numpy() == 0] = np.nan
    return values


def to_rgb(image: SliceImage) -> Image.Image:
    """A slice for the preprocessing of an image encoder: 8-bit RGB."""
    grey = np.round(np.clip(image.image, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _choices(config: MriConfig) -> dict[str, Any]:
    """Settings of the slice images, beside the scans' content."""
    return {"slices": config_to_dict(config.slices), "preprocess": config_to_dict(config.preprocess)}
