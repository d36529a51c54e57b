"""Data set of scans, indexed by an int, and the tensors that a training or a prediction takes.

Shapes: N scans, S slices, D width of slice features, H and W pixels of a slice, X, Y and Z voxels of a volume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from debian_mri.biomarkers.measurement import BiomarkerMeasurement
from debian_mri.cohorts.base import ReaderOptions
from debian_mri.data.inputs import Inputs, PixelRows
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.data.prepare import prepare
from debian_mri.imaging.preprocess import PreprocessConfig
from debian_mri.imaging.slices import SliceConfig, SliceInfo, read_slices
from debian_mri.imaging.volume_cache import cached_volume, load_volume
from icube_common.training import SampleRef

PREDICTION_BATCH, PIXEL_BATCH = 256, 8


class ScanDataset(Dataset[dict[str, Any]]):
    """Scans of a prepared folder with their classes.

    An item is a dict of ``id``, ``image``, ``label`` (class number) and ``subject``. The image is float32: a
    preprocessed volume ``(X, Y, Z)``, or the 2-D images of a scan ``(S, H, W)`` from 0 to 1, the smaller ones padded
    with background.

    Args:
        folder: the prepared folder.
        root: folder of the images, where they have moved.
        preprocess: of volumes.
        slices: choice of 2-D images.
        transform: applied to each image.

    Raises:
        InputError: as `debian_mri.data.manifest.Manifest.load`.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        root: str | Path | None = None,
        preprocess: PreprocessConfig | None = None,
        slices: SliceConfig | None = None,
        transform: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.manifest = Manifest.load(folder, root=root)
        self.preprocess = preprocess or PreprocessConfig()
        self.slices = slices or SliceConfig()
        self.transform = transform

    @classmethod
    def prepare(cls, format: str, source: str | Path, out: str | Path, **options: Any) -> ScanDataset:
        """Prepare a cohort and open it.

        Args:
            format: a key of `debian_mri.cohorts.FORMATS`, such as "bids" or "dicom".
            source: the cohort's folder; for "csv", the file.
            out: the folder to make.
            options: of `debian_mri.data.prepare`.

        Raises:
            InputError: as `debian_mri.data.prepare`.
        """
        prepare(format, source, out, **options)
        return cls(out)

    @classmethod
    def from_bids(
        cls,
        source: str | Path,
        out: str | Path,
        *,
        label: str | None = None,
        sequences: Sequence[str] = ("T1w",),
        **options: Any,
    ) -> ScanDataset:
        """Prepare a BIDS data set and open it.

        Args:
            source: folder with ``participants.tsv`` and ``sub-*``.
            out: the folder to make.
            label: column of the class; by default ``diagnosis``, ``dx`` or ``group``.
            sequences: MRI sequences to take.
            options: of `debian_mri.data.prepare`.

        Raises:
            InputError: as `debian_mri.data.prepare`.
        """
        reader = ReaderOptions(label_column=label, sequences=tuple(sequences))
        return cls.prepare("bids", source, out, options=reader, **options)

    @classmethod
    def open(cls, data: ScanDataset | str | Path) -> ScanDataset:
        """A data set as it is, or that of a prepared folder."""
        return data if isinstance(data, ScanDataset) else cls(data)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the labels."""
        return self.manifest.class_names

    def __len__(self) -> int:
        return len(self.manifest.scans)

    def __getitem__(self, index: int) -> dict[str, Any]:
        scan = self.manifest.scans[index]
        image = torch.from_numpy(self.image(index))
        return {
            "id": scan.id,
            "image": image if self.transform is None else self.transform(image),
            "label": self.class_names.index(scan.label),
            "subject": scan.subject,
        }

    def image(self, index: int) -> Float[np.ndarray, "a b c"]:
        """The volume (X, Y, Z) or the 2-D images (S, H, W) of a scan.

        Raises:
            InputError: an image cannot be used.
        """
        scan = self.manifest.scans[index]
        if scan.kind == "volume":
            return load_volume(cached_volume(self.manifest, scan, self.preprocess)).data
        images = [item.image for item in read_slices(self.manifest.paths_of(scan), scan.planes, self.slices)]
        height, width = np.max([image.shape for image in images], axis=0)
        return np.stack([_padded(image, height, width) for image in images]).astype(np.float32)


def _padded(image: Float[np.ndarray, "h w"], height: int, width: int) -> Float[np.ndarray, "a b"]:
    """The image in the middle of a larger one."""
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    rest = (height - image.shape[0] - top, width - image.shape[1] - left)
    return np.pad(image, ((top, rest[0]), (left, rest[1])))


def to_tensors(inputs: Inputs, device: torch.device | None = None) -> dict[str, Any]:
    """Inputs of all scans as tensors, in their order; see `debian_mri.models.mri_model.Batch`.

    Pixels come as `debian_mri.data.inputs.PixelRows`, which read some rows at a time and stay on the CPU.

    Args:
        inputs: the tables.
        device: of the tensors; by default the CPU.
    """
    rows: dict[str, Any] = {}
    if inputs.tower_inputs is not None:
        rows["pixels"] = PixelRows(inputs.tower_inputs, inputs.ids)
    if inputs.features is not None:
        rows["slices"] = pad([inputs.features[name] for name in inputs.ids])
    if inputs.biomarkers is not None:
        rows["biomarkers"] = torch.from_numpy(inputs.biomarkers.rows(inputs.ids)).float()
    if inputs.demographics is not None:
        rows["variables"] = torch.from_numpy(inputs.demographics.rows(inputs.ids)).float()
    return rows if device is None else send_to_device(rows, device)


def pad(features: Sequence[Float[Tensor, "_ d"]]) -> Float[Tensor, "b s d"]:
    """Slice features of scans side by side, NaN where a scan has fewer slices than another."""
    longest = max(len(rows) for rows in features)
    padded = torch.full((len(features), longest, features[0].shape[1]), torch.nan)
    for place, rows in enumerate(features):
        padded[place, : len(rows)] = rows
    return padded


def batches(rows: Mapping[str, Any]) -> Iterator[dict[str, Tensor]]:
    """Parts of the rows, in their order; few rows where these are pixels."""
    count = len(next(iter(rows.values())))
    size = PIXEL_BATCH if "pixels" in rows else PREDICTION_BATCH
    for start in range(0, count, size):
        yield {name: table[start : start + size] for name, table in rows.items()}


class TrainingScans:
    """Training scans for the sampler of `icube_common.training`.

    Args:
        rows: of `rows_of`.
        labels: (N,) class of each.
    """

    def __init__(self, rows: Mapping[str, Any], labels: Tensor) -> None:
        self._rows: dict[str, Any] = {**rows, "label": labels}

    def __len__(self) -> int:
        return len(self._rows["label"])

    def __getitem__(self, draw: SampleRef) -> dict[str, Tensor]:
        return {name: table[draw.index] for name, table in self._rows.items()}

    def __getitems__(self, draws: Sequence[SampleRef]) -> dict[str, Tensor]:
        """A whole batch at once, as torch's loader asks for it; collated already."""
        places = torch.tensor([draw.index for draw in draws])
        return {name: table[places] for name, table in self._rows.items()}


def collated(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Batch of `TrainingScans.__getitems__`, which is collated already."""
    return batch


@dataclass(frozen=True, eq=False)
class ScanInput:
    """Model inputs of one scan, with what an explanation shows of it.

    Attributes:
        scan: its row.
        inputs: the tables of the model, of this scan alone.
        infos: its slices.
        images: their pixels (H, W), 0 to 1.
        measured: its biomarkers in the model's order; None for a model without biomarkers.
        simulated: True for a simulated image.
        warnings: warnings about the input.
    """

    scan: Scan
    inputs: Inputs
    infos: tuple[SliceInfo, ...]
    images: tuple[Any, ...]
    measured: BiomarkerMeasurement | None
    simulated: bool
    warnings: tuple[str, ...]
