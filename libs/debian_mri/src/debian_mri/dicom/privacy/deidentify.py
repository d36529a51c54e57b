"""De-identified DICOM files: the Basic Application Level Confidentiality Profile of PS3.15 Annex E, and stricter.

The profile's table (``profile.tsv``) lists an action for each attribute: removed (X), emptied (Z), replaced by a dummy
(D), UID replaced (U). Attributes outside the table are kept only if they cannot hold free text: numbers, and coded
words of this package's vocabulary. Private attributes are removed but for a few safe ones. Pixels are unchanged: a face
in the image is not removed.
"""

from __future__ import annotations

import functools
import re
from datetime import date, timedelta
from importlib import resources
from pathlib import Path
from typing import Literal

import pydicom
from pydicom import DataElement, Dataset
from pydicom.uid import UID

from debian_mri.dicom.files import dicom_io
from debian_mri.dicom.frames import Refusal
from debian_mri.dicom.privacy import vocabulary
from debian_mri.dicom.privacy.pseudonyms import check_salt, date_shift_days, hash_subject, remap_uid
from icube_common.errors import InputError
from icube_common.io.runs import atomic_file

Dates = Literal["remove", "shift"]

# PS3.15 Table E.3.10-1, those that conversion uses: group, creator -> elements
SAFE_PRIVATE: dict[tuple[int, str], frozenset[int]] = {
    (0x2005, "PHILIPS MR IMAGING DD 001"): frozenset({0x0D, 0x0E}),  # scale intercept and slope
    (0x0019, "SIEMENS MR HEADER"): frozenset({0x0C, 0x0E, 0x27}),  # b value, gradient direction, b matrix
    (0x0043, "GEMS_PARM_01"): frozenset({0x39}),  # b value
}
NUMERIC_VRS = frozenset(
    ["AT", "DS", "FD", "FL", "IS", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "US", "UV"]
)
NUMBER = re.compile(r"[ +\-0-9.eE]*")
DATED = frozenset({"StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime"})
# of type 1 in their modules: a conforming file needs a value
DUMMIES = {"DA": "19000101", "TM": "000000", "DT": "19000101000000", "PN": "removed", "AS": "000Y"}
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
METHOD = "PS3.15 Annex E Basic Profile"
METHOD_CODES = (("113100", "Basic Application Confidentiality Profile"),)
SHIFT_CODE = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")


@functools.cache
def profile() -> dict[int, str]:
    """Table of the profile: tag -> action."""
    lines = resources.files(__package__).joinpath("profile.tsv").read_text().splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {int(tag, 16): action for tag, action, _ in rows}


def deidentify_dataset(dataset: Dataset, salt: bytes, *, dates: Dates = "remove") -> Dataset:
    """De-identified copy of a data set.

    Args:
        dataset: as read by pydicom, with its file meta header.
        salt: salt of the project; patient and UIDs get the same key in all files of the project.
        dates: "remove" empties them with all times; "shift" moves the dates of a study, series, acquisition and
            content back by the same secret number of days for all of a person's files, and drops the times.

    Returns:
        A data set of its own, with file meta header, ready to be saved.

    Raises:
        InputError: the salt is too short, or ``dates`` is none of the two.
        Refusal: annotations are burnt into the pixels, or the data set is damaged.
    """
    check_salt(salt)
    if dates not in ("remove", "shift"):
        raise InputError(f"dates {dates!r}: must be 'remove' or 'shift'")
    if dicom_io.words(dataset, "BurnedInAnnotation")[:1] == ("YES",):
        raise Refusal("burnt-in annotation", "the pixels may identify the subject")
    patient = dicom_io.text(dataset, "PatientID")
    shift = timedelta(days=date_shift_days(patient, salt)) if dates == "shift" and patient else None
    with dicom_io.quiet():
        try:
            clean = _clean(dataset, salt, shift)
        except Exception as error:  # damaged values fail anywhere in pydicom
            raise Refusal(dicom_io.UNREADABLE, f"a value of the header is damaged ({type(error).__name__})") from None
        key = hash_subject(patient, salt) if patient else ""
        clean.PatientName, clean.PatientID = key, key
        clean.PatientIdentityRemoved = "YES"
        clean.DeidentificationMethod = METHOD
        clean.DeidentificationMethodCodeSequence = [
            _code(*code) for code in (*METHOD_CODES, *([SHIFT_CODE] if shift else []))
        ]
        clean.LongitudinalTemporalInformationModified = "MODIFIED" if shift else "REMOVED"
        clean.file_meta = _file_meta(dataset, clean)
    return clean


def deidentify_file(source: str | Path, out: str | Path, salt: bytes, *, dates: Dates = "remove") -> None:
    """Write a de-identified copy of a file; see `deidentify_dataset`.

    Raises:
        InputError: the file is no DICOM file, is damaged, or the copy cannot be written.
    """
    try:
        dataset, _ = dicom_io.read(Path(source), pixels=True)
        clean = deidentify_dataset(dataset, salt, dates=dates)
    except dicom_io.NotDicom:
        raise InputError(f"{source}: is no DICOM file") from None
    except Refusal as refusal:
        raise InputError(f"{source}: {refusal}") from None
    with atomic_file(out) as temporary, dicom_io.quiet():
        # the preamble of 128 bytes may hold anything: a new one is written
        clean.save_as(temporary, enforce_file_format=True)


def _clean(dataset: Dataset, salt: bytes, shift: timedelta | None) -> Dataset:
    clean = Dataset()
    for element in dataset:
        if element.tag.is_private:
            creator = _safe_creator(dataset, element)
            if creator is not None:
                clean.add(creator)
                clean.add(element)
        elif (public := _public(element, salt, shift)) is not None:
            clean.add(public)
    return clean


def _safe_creator(dataset: Dataset, element: DataElement) -> DataElement | None:
    """Element with the private creator, for a private attribute that the standard lists as safe."""
    group, block, number = element.tag.group, element.tag.element >> 8, element.tag.element & 0xFF
    if (group, block) not in dataset or not _is_numeric(element):
        return None
    creator = dataset[group, block]
    safe = SAFE_PRIVATE.get((group, str(creator.value).strip().upper()), frozenset())
    return creator if number in safe else None


def _is_numeric(element: DataElement) -> bool:
    """True for an element with numbers only; decimal strings are parsed."""
    if element.VR not in NUMERIC_VRS or (element.VR in ("OB", "OW") and element.tag not in PIXEL_TAGS):
        return False
    if element.VR not in ("DS", "IS") or element.value is None:
        return True
    values = element.value if isinstance(element.value, (list, pydicom.multival.MultiValue)) else [element.value]
    return all(NUMBER.fullmatch(str(getattr(item, "original_string", item))) for item in values)


def _public(element: DataElement, salt: bytes, shift: timedelta | None) -> DataElement | None:
    tag, vr = element.tag, element.VR
    action = profile().get(int(tag))
    if tag.group in range(0x5000, 0x5100) or tag.group in range(0x6000, 0x6100) or tag.element == 0:
        return None  # curves, overlays and group lengths
    if shift is not None and element.keyword in DATED:
        return DataElement(tag, vr, _shifted(str(element.value or ""), shift))
    if vr == "UI":
        return None if action in ("X", "X/Z") else _with_new_uids(element, salt)
    if action is not None:
        return _by_action(element, action, salt, shift)
    if vr == "SQ":
        return DataElement(tag, vr, [_clean(item, salt, shift) for item in element.value])
    if _is_numeric(element):
        return element
    if element.keyword == "Manufacturer":
        return DataElement(tag, vr, vocabulary.manufacturer(str(element.value)) or "")
    if element.keyword == "ManufacturerModelName":
        return DataElement(tag, vr, vocabulary.model(str(element.value)) or "")
    if element.keyword in vocabulary.CODES:
        values = element.value if isinstance(element.value, pydicom.multival.MultiValue) else [element.value]
        codes = vocabulary.codes(element.keyword, tuple(str(value).strip().upper() for value in values))
        return DataElement(tag, vr, codes) if codes else None
    return None


def _by_action(element: DataElement, action: str, salt: bytes, shift: timedelta | None) -> DataElement | None:
    """Apply the action of the profile; of alternatives by type the one that keeps the file conforming."""
    tag, vr = element.tag, element.VR
    if action == "X":
        return None
    if vr == "SQ":
        # a dummy for a sequence is its items, cleaned
        items = [_clean(item, salt, shift) for item in element.value] if action != "X/Z" else []
        return DataElement(tag, vr, items)
    if action in ("Z", "X/Z", "Z/D", "X/Z/D"):
        return DataElement(tag, vr, "" if vr not in NUMERIC_VRS else None)
    if action in ("D", "X/D"):
        return DataElement(tag, vr, DUMMIES.get(vr, "removed")) if vr not in NUMERIC_VRS else None
    raise AssertionError(f"no such action: {action}")


def _with_new_uids(element: DataElement, salt: bytes) -> DataElement:
    value = element.value
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        return DataElement(element.tag, "UI", [remap_uid(str(item), salt) for item in value])
    return DataElement(element.tag, "UI", remap_uid(str(value or ""), salt))


def _shifted(text: str, shift: timedelta) -> str:
    """Date, or date of a date and time, shifted back; empty if invalid."""
    match = re.match(r"(\d{4})\.?(\d{2})\.?(\d{2})", text)
    if match is None:
        return ""
    try:
        return (date(int(match[1]), int(match[2]), int(match[3])) - shift).strftime("%Y%m%d")
    except (ValueError, OverflowError):
        return ""


def _code(value: str, meaning: str) -> Dataset:
    """An item of a code sequence, of DICOM's own scheme (PS3.16 CID 7050)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _file_meta(dataset: Dataset, clean: Dataset) -> pydicom.dataset.FileMetaDataset:
    """New file meta header, without the sender and the software of the source."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(dicom_io.uid(clean, "SOPClassUID"))
    meta.MediaStorageSOPInstanceUID = UID(dicom_io.uid(clean, "SOPInstanceUID"))
    if not meta.MediaStorageSOPClassUID or not meta.MediaStorageSOPInstanceUID:
        raise Refusal("invalid header", "no class or UID of the image, which a file needs")
    meta.TransferSyntaxUID = dicom_io.transfer_syntax(dataset)
    meta.ImplementationClassUID = pydicom.uid.PYDICOM_IMPLEMENTATION_UID
    return meta
