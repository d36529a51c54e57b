"""Damaged files, and the series that may lack a slice because of them.

A damaged file belongs to one series at most. Candidate series follow from its name, the readable part of its header,
and the number of images announced in the headers of intact series.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from pydicom import Dataset

from debian_mri.dicom.files import dicom_io
from debian_mri.dicom.files.image_file import ImageFile, private_number
from debian_mri.dicom.frames import Frame, Refusal

START = 512  # bytes of a file that identify its kind
ARCHIVE = "an archive: unpack it first"
# magic bytes of other kinds of files, by their offset
ARCHIVES = ((0, b"PK\x03\x04"), (0, b"Rar!"), (0, b"7z\xbc\xaf"), (0, b"BZh"), (0, b"\xfd7zXZ"), (257, b"ustar"))
IMAGE_FORMATS = ((0, b"\x89PNG"), (0, b"\xff\xd8\xff"), (0, b"GIF8"), (0, b"BM"), (0, b"II*\0"), (0, b"MM\0*"))
DOCUMENTS = ((0, b"%PDF"), (0, b"\xd0\xcf\x11\xe0"), (0, b"SQLite format"), (0, b"\x89HDF"))
NIFTI = ((344, b"n+1"), (344, b"ni1"))
# the same in all files of a series
CONSTANT = (
    *("SOPClassUID", "StudyDate", "SeriesDate", "StudyTime", "Modality", "Manufacturer", "StudyDescription"),
    *("SeriesDescription", "PatientName", "PatientID", "PatientBirthDate", "ScanningSequence", "MRAcquisitionType"),
    *("SequenceName", "RepetitionTime", "MagneticFieldStrength", "ProtocolName", "FlipAngle", "PatientPosition"),
    *("StudyInstanceUID", "SeriesInstanceUID"),
)
MIN_DIFFERING_VALUES = 3  # of these differ: the header is that of another series
GE_LOCATIONS = (0x0021, "GEMS_RELA_01", 0x4F)
PHILIPS_SLICES = (0x2001, "PHILIPS IMAGING DD 001", 0x18)
NUMBERED = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*(?:\.[0-9a-f]*[0-9][0-9a-f]*)*")


@dataclass(frozen=True)
class DamagedFile:
    """Unreadable file that may be an image.

    Attributes:
        path: file.
        refusal: reason.
        header: readable part of the header.
        is_dicom: false for a file without any readable element (empty files, dead links).
    """

    path: Path
    refusal: Refusal
    header: Dataset
    is_dicom: bool


def foreign_kind(path: Path) -> str | None:
    """Kind of a file other than DICOM: an archive or, empty, anything else; None for a possible damaged DICOM file.

    Raises:
        Refusal: it cannot be opened.
    """
    start = dicom_io.first_bytes(path, START)
    if any(start[offset:].startswith(magic) for offset, magic in ARCHIVES):
        return ARCHIVE
    if any(start[offset:].startswith(magic) for offset, magic in (*IMAGE_FORMATS, *DOCUMENTS, *NIFTI)):
        return ""
    is_text = bool(start) and all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
    return "" if is_text else None


def name_pattern(path: Path) -> str:
    """File name with its numbers replaced by #, the same for the files of a series."""
    return NUMBERED.sub("#", path.name.lower().removesuffix(".gz"))


def candidate_series(file: DamagedFile, groups: Sequence[Sequence[ImageFile]]) -> list[int]:
    """Candidate series of a damaged file.

    Returns:
        Indices of ``groups``.
    """
    candidates = _matching_names(file.path, groups)
    if not candidates and file.is_dicom:
        candidates = list(range(len(groups)))
    if _is_copy(file, groups):
        return []
    # a single value may be the damage itself, unless it is that of another series
    differing = [_differing_values(file.header, group[0].header) for group in groups]
    enough = 1 if 0 in differing else MIN_DIFFERING_VALUES
    return [index for index in candidates if differing[index] < enough and not is_complete(groups[index])]


def _matching_names(path: Path, groups: Sequence[Sequence[ImageFile]]) -> list[int]:
    """Series with the same name pattern; of separate ranges of names, those before and after the file."""
    pattern = name_pattern(path)
    named = [
        (_numbers(image.path), index)
        for index, images in enumerate(groups)
        for image in images
        if name_pattern(image.path) == pattern
    ]
    named.sort(key=lambda pair: pair[0])
    alike = sorted({index for _, index in named})
    ranges = [index for index, _ in groupby(index for _, index in named)]
    if len(ranges) > len(alike) or not named:
        return alike
    path_numbers = _numbers(path)
    before = [index for numbers, index in named if numbers < path_numbers]
    after = [index for numbers, index in named if numbers >= path_numbers]
    return sorted({*before[-1:], *after[:1]})


def _numbers(path: Path) -> list[tuple[int, str]]:
    """Numbers of a name, as a sort key among names of one pattern."""
    pieces = [piece for match in NUMBERED.findall(path.name.lower()) for piece in match.split(".")]
    return [(len(piece.lstrip("0")), piece.lstrip("0")) for piece in pieces]


def _is_copy(file: DamagedFile, groups: Sequence[Sequence[ImageFile]]) -> bool:
    """True for the remains of an image that also exists intact; false if many images share one UID."""
    uid = dicom_io.optional(dicom_io.text, file.header, "SOPInstanceUID") or ""
    uids = Counter(image.uid for group in groups for image in group)
    return bool(uid) and uids[uid] == 1 and len(uids) > 1


def _differing_values(header: Dataset, other: Dataset) -> int:
    """Number of differing values among those that are constant in a series."""
    pairs = [[dicom_io.optional(dicom_io.text, one, keyword) for one in (header, other)] for keyword in CONSTANT]
    return sum(bool(ours and theirs and ours != theirs) for ours, theirs in pairs)


def is_complete(images: Sequence[ImageFile]) -> bool:
    """True for a complete series: a multi-frame file, or as many images as announced in the headers."""
    frames = [frame for image in images for frame in image.frames]
    if not frames or any(image.refusal is not None for image in images):
        return False
    of_mosaics = all(frame.tile is not None for frame in frames)
    if len(images) == 1 and not of_mosaics:
        return len(frames) > 1
    header = images[0].header

    def number(keyword: str) -> int:
        return dicom_io.optional(dicom_io.whole_number, header, keyword) or 0

    announced = {number("ImagesInAcquisition"), number("NumberOfSeriesRelatedInstances")}
    private = (dicom_io.optional(private_number, header, *tag) for tag in (GE_LOCATIONS, PHILIPS_SLICES))
    slices = {number("NumberOfSlices"), *(int(count or 0) for count in private)}
    volumes = number("NumberOfTemporalPositions") or number("NumberOfTimeSlices") or 1
    if of_mosaics:
        slices = {1}  # a mosaic is a volume
        volumes = number("NumberOfTemporalPositions")
    announced |= {count * volumes for count in slices if count}
    return len(images) in announced and _are_consecutive(frames)


def _are_consecutive(frames: Sequence[Frame]) -> bool:
    """True for unique consecutive instance numbers, or none."""
    numbers = sorted({frame.instance for frame in frames if frame.instance is not None})
    return all(after - before == 1 for before, after in pairwise(numbers))
