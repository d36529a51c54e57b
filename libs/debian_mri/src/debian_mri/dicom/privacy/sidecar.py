"""JSON sidecar of a NIfTI file: keys of an allow-list, values that are numbers or words of a vocabulary.

Names and units (s, Hz, T, degrees) are those of BIDS, https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

from typing import Any

from pydicom import Dataset

from debian_mri.dicom.files.dicom_io import number, optional, text, words
from debian_mri.dicom.files.multiframe import frame_headers, is_multiframe
from debian_mri.dicom.frames import Frame
from debian_mri.dicom.privacy import vocabulary
from debian_mri.dicom.privacy.pseudonyms import hash_subject, remap_uid

# keyword -> key and factor to the unit of BIDS
NUMBERS = {
    "MagneticFieldStrength": ("MagneticFieldStrength", 1.0),
    "ImagingFrequency": ("ImagingFrequency", 1.0),
    "SliceThickness": ("SliceThickness", 1.0),
    "SpacingBetweenSlices": ("SpacingBetweenSlices", 1.0),
    "EchoTime": ("EchoTime", 1e-3),
    "RepetitionTime": ("RepetitionTime", 1e-3),
    "InversionTime": ("InversionTime", 1e-3),
    "FlipAngle": ("FlipAngle", 1.0),
    "EchoTrainLength": ("EchoTrainLength", 1.0),
    "PixelBandwidth": ("PixelBandwidth", 1.0),
    "PercentPhaseFieldOfView": ("PercentPhaseFOV", 1.0),
    "PercentSampling": ("PercentSampling", 1.0),
    "NumberOfAverages": ("NumberOfAverages", 1.0),
}
CODES = (
    "Modality",
    "MRAcquisitionType",
    "ScanningSequence",
    "SequenceVariant",
    "PatientPosition",
    "InPlanePhaseEncodingDirection",
    "BodyPartExamined",
    "LossyImageCompression",
)
LINKS = {"StudyInstanceUID": "StudyKey", "SeriesInstanceUID": "SeriesKey", "FrameOfReferenceUID": "SpaceKey"}


def first_frame(header: Dataset) -> Dataset:
    """Header of the first frame of a multi-frame file; of any other file its own header."""
    return frame_headers(header)[0] if is_multiframe(header) else header


def repetition_time(header: Dataset) -> float | None:
    """Time between volumes in s, None without a positive value in the header."""
    milliseconds = optional(number, first_frame(header), "RepetitionTime") or optional(number, header, "RepetitionTime")
    return milliseconds / 1000 if milliseconds and milliseconds > 0 else None


def sidecar(header: Dataset, frame: Frame, *, salt: bytes | None, slice_spacing: float | None = None) -> dict[str, Any]:
    """Content of the JSON sidecar of a NIfTI file.

    Args:
        header: first file of the series.
        frame: first frame of the volume, for attributes that differ inside a series.
        salt: salt of the project; without one there are no hashed keys that link series.
        slice_spacing: between slice centres by their positions, mm, instead of the header's, which may be the free gap.
    """
    frame_header = first_frame(header)
    content: dict[str, Any] = {}
    if manufacturer := vocabulary.manufacturer(optional(text, header, "Manufacturer") or ""):
        content["Manufacturer"] = manufacturer
    if model := vocabulary.model(optional(text, header, "ManufacturerModelName") or ""):
        content["ManufacturersModelName"] = model
    for keyword in CODES:
        if codes := vocabulary.codes(keyword, words(header, keyword)):
            content[keyword] = "_".join(codes)
    if image_type := vocabulary.codes("ImageType", frame.image_type):
        content["ImageType"] = image_type
    if description := vocabulary.description(optional(text, header, "SeriesDescription") or ""):
        content["SeriesDescription"] = description
    for keyword, (key, factor) in NUMBERS.items():
        value = optional(number, frame_header, keyword)
        value = optional(number, header, keyword) if value is None else value
        if value is not None:
            content[key] = float(f"{value * factor:.9g}")
    if slice_spacing is not None:
        content["SpacingBetweenSlices"] = float(f"{slice_spacing:.6g}")
    if frame.echo[0] is not None:
        content["EchoTime"] = float(f"{frame.echo[0] / 1000:.9g}")
    if salt is not None:
        if patient := optional(text, header, "PatientID"):
            content["SubjectKey"] = hash_subject(patient, salt)
        for keyword, key in LINKS.items():
            if uid := optional(text, header, keyword):
                content[key] = remap_uid(uid, salt)
    return content
