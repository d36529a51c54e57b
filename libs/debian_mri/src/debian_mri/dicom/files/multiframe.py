"""Enhanced multi-frame objects: a frame's geometry lies in shared or per-frame groups (PS3.3 C.7.6.16)."""

from __future__ import annotations

from typing import Any

from pydicom import Dataset

from debian_mri.dicom.files import dicom_io
from debian_mri.dicom.frames import Refusal

GEOMETRY = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "MRImageFrameTypeSequence": ("FrameType", "ComplexImageComponent"),
    "MREchoSequence": ("EffectiveEchoTime",),
    "FrameContentSequence": ("TemporalPositionIndex", "FrameAcquisitionNumber", "DimensionIndexValues", "StackID"),
    "MRDiffusionSequence": ("DiffusionBValue", "DiffusionDirectionality"),
    "MRTimingAndRelatedParametersSequence": ("RepetitionTime", "FlipAngle"),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
}
# spatial dimensions; all others distinguish volumes
SPATIAL_DIMENSIONS = ("InStackPositionNumber", "ImagePositionPatient", "StackID")
MAX_FRAMES = 200_000
# keywords of single-frame files
RENAMED = {
    "FrameType": "ImageType",
    "EffectiveEchoTime": "EchoTime",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
}
PHILIPS_FRAME = (0x2005, 0x140F)  # Philips' own attributes of a frame


def is_multiframe(dataset: Dataset) -> bool:
    """True for a file with functional groups or several frames."""
    several = (dicom_io.whole_number(dataset, "NumberOfFrames") or 1) > 1
    return several or "PerFrameFunctionalGroupsSequence" in dataset


def frame_headers(dataset: Dataset) -> list[Dataset]:
    """Header of each frame, with the attributes of a single-frame file.

    Raises:
        Refusal: functional groups missing, or not one for each frame.
    """
    count = dicom_io.whole_number(dataset, "NumberOfFrames") or 1
    groups = dicom_io.sequence(dataset, "PerFrameFunctionalGroupsSequence")
    if not groups:
        raise Refusal("missing geometry", f"{count} frames in one file without a position of each")
    if len(groups) != count or count > MAX_FRAMES:
        raise Refusal("missing geometry", f"{len(groups)} positions for {count} frames")
    shared = (dicom_io.sequence(dataset, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    volume_dimensions = _volume_dimensions(dataset)
    return [_frame_header(shared, group, volume_dimensions) for group in groups]


def _frame_header(shared: Dataset, group: Dataset, volume_dimensions: list[int]) -> Dataset:
    header = Dataset()
    for name, keywords in GEOMETRY.items():
        items = dicom_io.sequence(group, name) or dicom_io.sequence(shared, name)
        for keyword in keywords:
            if items and (content := dicom_io.value(items[0], keyword)) is not None:
                _set(header, RENAMED.get(keyword, keyword), content)
    diffusion = dicom_io.sequence(group, "MRDiffusionSequence") or dicom_io.sequence(shared, "MRDiffusionSequence")
    for item in (dicom_io.sequence(diffusion[0], "DiffusionGradientDirectionSequence") if diffusion else [])[:1]:
        _set(header, "DiffusionGradientOrientation", dicom_io.value(item, "DiffusionGradientOrientation"))
    indices = dicom_io.value(header, "DimensionIndexValues")
    if indices is not None:
        values = [indices] if isinstance(indices, int) else list(indices)
        selected = [values[index] for index in volume_dimensions if index < len(values)]
        _set(header, "DimensionIndexValues", selected or None)
    for item in dicom_io.sequence(group, PHILIPS_FRAME)[:1]:
        for element in item.group_dataset(PHILIPS_FRAME[0]):
            header.add(element)
    return header


def _set(header: Dataset, keyword: str, value: Any) -> None:
    with dicom_io.failures(dicom_io.UNREADABLE, "a value of a frame is damaged"):
        setattr(header, keyword, value)


def _volume_dimensions(dataset: Dataset) -> list[int]:
    """Positions of the dimension indices that distinguish volumes."""
    from pydicom.datadict import tag_for_keyword

    spatial = {tag_for_keyword(keyword) for keyword in SPATIAL_DIMENSIONS}
    pointers = [
        dicom_io.value(item, "DimensionIndexPointer") for item in dicom_io.sequence(dataset, "DimensionIndexSequence")
    ]
    return [index for index, pointer in enumerate(pointers) if pointer not in spatial]
