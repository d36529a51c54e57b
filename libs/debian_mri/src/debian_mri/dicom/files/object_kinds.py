"""DICOM objects that are no image of a scan, often under the UID of a series."""

from __future__ import annotations

import functools

from pydicom import Dataset

from debian_mri.dicom.files import dicom_io
from debian_mri.dicom.frames import Refusal

STANDARD = "1.2.840.10008.5.1.4."
# PS3.4 Annex B, by the start of the class's UID; the longest start that fits decides
KINDS: dict[str, str] = {
    "1.1.4.2": "spectroscopy",
    "1.1.8": "an overlay",
    "1.1.9": "a waveform",
    "1.1.10": "a lookup table",
    "1.1.11": "a presentation state",
    "1.1.66": "raw data",
    "1.1.66.1": "a registration",
    "1.1.66.2": "fiducials",
    "1.1.66.3": "a registration",
    "1.1.66.4": "a segmentation",
    "1.1.66.5": "a segmentation",
    "1.1.66.6": "tractography results",
    "1.1.67": "a real world value mapping",
    "1.1.68": "a surface",
    "1.1.88": "a structured report",
    "1.1.88.59": "a key object selection",
    "1.1.90": "a report",
    "1.1.91": "annotations",
    "1.1.104": "an encapsulated document",
    "1.1.129": "a curve",
    "1.1.131": "a display protocol",
    "1.1.200": "a scan protocol",
    "1.1.481": "a radiotherapy object",
    "34": "a radiotherapy object",
    "38": "a display protocol",
    "39": "a colour palette",
}
PRIVATE: dict[str, str] = {  # of makers, whose files hold no image whatever is in them
    "1.3.12.2.1107.5.9.1": "a Siemens object without an image",
    "1.3.46.670589.11.0.0.12.1": "spectroscopy",
    "1.3.46.670589.11.0.0.12.2": "raw data",
    "1.3.46.670589.11.0.0.12.4": "a scan protocol",
}
# kinds by modality, for objects without a class
MODALITIES: dict[str, str] = {
    **dict.fromkeys(("SR", "DOC"), "a structured report"),
    **dict.fromkeys(("RTSTRUCT", "RTPLAN", "RTRECORD", "RTDOSE", "RTIMAGE", "PLAN"), "a radiotherapy object"),
    **dict.fromkeys(("ECG", "EPS", "EEG", "EMG", "EOG", "HD", "RESP", "AU"), "a waveform"),
    **{"PR": "a presentation state", "KO": "a key object selection", "SEG": "a segmentation", "REG": "a registration"},
}
# captures of a screen or camera, which are no slices of a series
CAPTURES = tuple(STANDARD + kind for kind in ("1.1.7", "1.1.6", "1.1.77", "1.1.3"))
IMAGES = tuple(
    STANDARD + kind for kind in ("1.1.1", "1.1.2", "1.1.4", "1.1.5", "1.1.12", "1.1.13", "1.1.20", "1.1.128", "1.1.130")
)


def _is_below(uid: str, start: str) -> bool:
    return uid == start or uid.startswith(start + ".")


def kind_without_image(header: Dataset) -> str | None:
    """Kind of an object that holds no image of a scan, None for all others; by its class, or by its modality."""
    try:
        if uid := dicom_io.text(header, "SOPClassUID"):
            return _kind_of_class(uid)
        if uid := dicom_io.meta_uid(header, "MediaStorageSOPClassUID"):
            return _kind_of_class(uid)
        return MODALITIES.get(dicom_io.text(header, "Modality").upper())
    except Refusal:
        return None


@functools.lru_cache
def _kind_of_class(uid: str) -> str | None:
    if uid in PRIVATE:
        return PRIVATE[uid]
    prefixes = [start for start in KINDS if _is_below(uid, STANDARD + start)]
    return KINDS[max(prefixes, key=len)] if prefixes else None


def is_secondary_capture(header: Dataset) -> bool:
    """True for a secondary capture, a photograph or another image that is no slice."""
    uid = dicom_io.optional(dicom_io.text, header, "SOPClassUID") or ""
    return any(_is_below(uid, start) for start in CAPTURES)


def is_private_without_size(header: Dataset) -> bool:
    """True for an object of a private class, or of a class without images, and without an image size."""
    try:
        uid = dicom_io.text(header, "SOPClassUID")
        private = bool(uid) and not any(_is_below(uid, start) for start in (*IMAGES, *CAPTURES))
        return private and dicom_io.value(header, "Rows") is None
    except Refusal:
        return False
