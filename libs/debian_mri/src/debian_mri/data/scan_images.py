"""Images of a scan, read on first access: of a prepared set, or of one scan outside it. S slices of a scan."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from debian_mri.biomarkers import measure
from debian_mri.biomarkers.measurement import BiomarkerMeasurement
from debian_mri.biomarkers.volumes.scores import measure_table, read_volumes
from debian_mri.biomarkers.volumes.table import VolumeTable
from debian_mri.config import MriConfig
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.imaging.nifti import RawVolume
from debian_mri.imaging.preprocess import PreprocessConfig, Volume, preprocess_volume
from debian_mri.imaging.slices import SliceImage, read_slices, slice_volume
from debian_mri.imaging.volume_cache import cached_head_rotation, cached_mask_source, cached_volume, load_volume
from icube_common.errors import InputError


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


class ScanImages:
    """Images of a scan of a prepared set, read on first access.

    Attributes:
        volumes: table of the scan's volumes in place of that of ``concepts.volumes``; None for the latter.

    Args:
        manifest: the set.
        scan: one of it.
        config: preprocessing and slices.

    Raises:
        InputError: (on access) an image cannot be used.
    """

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
