"""DICOM files of a simulated scanner, for tests: noise in a grid whose place in space is known."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def turned(*degrees: float) -> tuple[float, ...]:
    """Rows and columns of an axial plane turned about x, y and z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return tuple(matrix[:, 0]) + tuple(matrix[:, 1])


@dataclass
class Phantom:
    """``data[t, k, row, column]`` (slices in order along the normal), written as one file an image."""

    volumes: int = 1
    slices: int = 5
    rows: int = 12
    columns: int = 10
    orientation: tuple[float, ...] = AXIAL
    origin: tuple[float, ...] = (-31.5, 12.25, -7.0)
    spacing: tuple[float, float] = (1.5, 2.25)  # between rows, between columns
    step: float = 3.0
    seed: int = 0
    dtype: str = "<u2"
    series_uid: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    data: np.ndarray[Any, Any] = field(init=False)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        low, high = (0, 4000) if self.dtype == "<u2" else (-2000, 2000)
        shape = (self.volumes, self.slices, self.rows, self.columns)
        self.data = generator.integers(low, high, shape).astype(self.dtype)
        self.series_uid = self.series_uid or generate_uid(entropy_srcs=[str(self.seed)])

    @property
    def normal(self) -> np.ndarray[Any, Any]:
        return np.cross(self.orientation[:3], self.orientation[3:])

    def position(self, k: int) -> np.ndarray[Any, Any]:
        """LPS, mm."""
        return np.array(self.origin) + k * self.step * self.normal

    def place(self, column: int, row: int, k: int) -> np.ndarray[Any, Any]:
        """RAS, mm, of a voxel: DICOM's own equation (PS3.3 C.7.6.2.1.1), written out."""
        x, y = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        lps = self.position(k) + column * self.spacing[1] * x + row * self.spacing[0] * y
        return np.array([-lps[0], -lps[1], lps[2]])

    @property
    def expected(self) -> np.ndarray[Any, Any]:
        """The NIfTI array: (columns, rows, slices[, volumes])."""
        moved = self.data.transpose(3, 2, 1, 0)
        return moved[..., 0] if self.volumes == 1 else moved

    def header(self, t: int, k: int) -> FileDataset:
        """The file of volume t, slice k, uncompressed."""
        dataset = blank(MRImageStorage, self.series_uid, f"{self.seed}.{t}.{k}")
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        dataset.SeriesDescription = "t1 mprage sag"
        dataset.InstanceNumber = t * self.slices + k + 1
        dataset.ImageOrientationPatient = [f"{item:.10f}" for item in self.orientation]
        dataset.ImagePositionPatient = [f"{item:.8f}" for item in self.position(k)]
        dataset.PixelSpacing = list(self.spacing)
        dataset.SliceThickness = self.step
        dataset.RepetitionTime, dataset.EchoTime = 2400, 3.5
        set_pixels(dataset, self.data[t, k])
        for keyword, value in self.changes.items():
            setattr(dataset, keyword, value)
        return dataset

    def files(self) -> Iterable[tuple[str, FileDataset]]:
        # names in an order that has nothing to do with that of the slices
        for t in range(self.volumes):
            for k in range(self.slices):
                yield f"im{(7 * (t * self.slices + k)) % 101:03d}", self.header(t, k)

    def write(
        self,
        folder: Path,
        edit: Callable[[int, FileDataset], FileDataset | None] | None = None,
        *,
        suffix: str = ".dcm",
        **save: Any,
    ) -> Path:
        """Write all files; ``edit`` gets the number and the data set of each and returns it, changed, or None."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, dataset) in enumerate(self.files()):
            edited = edit(number, dataset) if edit else dataset
            if edited is not None:
                save_as(edited, folder / f"{name}{suffix}", **save)
        return folder


def blank(kind: UID, series_uid: str, image: str) -> FileDataset:
    """A header with patient and series, without geometry and pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series_uid, image])
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = series_uid
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.Modality, dataset.Manufacturer = "MR", "SIEMENS"
    dataset.SeriesNumber = 4
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Simulated^Person", "SIM-0042", "19500317"
    return dataset


def set_pixels(dataset: Dataset, pixels: np.ndarray[Any, Any]) -> None:
    """Pixels of 16 bits, of shape (rows, columns) or (frames, rows, columns)."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"


def save_as(dataset: Dataset, path: Path, **save: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(path, dataset, enforce_file_format="force_encoding" not in save, **save)


def enhanced(phantom: Phantom, *, shuffle: bool = True) -> FileDataset:
    """The phantom as one enhanced multi-frame file, frames in a wild order."""
    dataset = blank(EnhancedMRImageStorage, phantom.series_uid, "enhanced")
    order = [(t, k) for k in range(phantom.slices) for t in range(phantom.volumes)]
    if shuffle:
        np.random.default_rng(3).shuffle(order)
    dataset.ImageType, dataset.InstanceNumber = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], 1
    dataset.NumberOfFrames = len(order)
    shared, measures, plane, timing, kind = (Dataset() for _ in range(5))
    measures.PixelSpacing, measures.SliceThickness = list(phantom.spacing), phantom.step
    plane.ImageOrientationPatient = [f"{item:.10f}" for item in phantom.orientation]
    timing.RepetitionTime = 2400.0
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    shared.MRTimingAndRelatedParametersSequence = Sequence([timing])
    shared.MRImageFrameTypeSequence = Sequence([kind])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dimensions = []
    for pointer in (0x00209057, 0x00209128):  # place in the stack, temporal position
        dimension = Dataset()
        dimension.DimensionIndexPointer = pointer
        dimensions.append(dimension)
    dataset.DimensionIndexSequence = Sequence(dimensions)
    frames = []
    for t, k in order:
        frame, place, content = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [f"{item:.8f}" for item in phantom.position(k)]
        content.DimensionIndexValues = [k + 1, t + 1]
        content.StackID, content.InStackPositionNumber, content.TemporalPositionIndex = "1", k + 1, t + 1
        frame.PlanePositionSequence, frame.FrameContentSequence = Sequence([place]), Sequence([content])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    set_pixels(dataset, np.stack([phantom.data[t, k] for t, k in order]))
    return dataset
