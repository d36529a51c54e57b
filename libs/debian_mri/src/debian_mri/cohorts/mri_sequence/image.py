"""MRI sequence of an image: of a DICOM series by its header, of a file by its BIDS suffix, JSON sidecar and name.

The suffix of BIDS (https://bids-specification.readthedocs.io) counts before words, and a header before the
name of a file that is not of BIDS. Two sources that name different sequences leave it unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debian_mri.biomarkers.knowledge import SEQUENCES
from debian_mri.cohorts.mri_sequence.description import (
    SequenceFinding,
    Timing,
    read_description,
    read_name,
    timing_allows,
)

if TYPE_CHECKING:
    from pydicom import Dataset

# words of DICOM's image type: phase and complex images, and what was computed from the volume
DERIVED_IMAGE_TYPES = frozenset(
    [
        *("P", "PHASE", "P_FFE", "R", "REAL", "R_FFE", "I", "IMAGINARY", "I_FFE"),
        *("MPR", "MIP", "REFORMATTED", "SUBTRACTION", "LOCALIZER"),
    ]
)
_ENDINGS = re.compile(r"(\.(nii|hdr|img|mgz|mgh|png|jpe?g|tiff?|bmp))?(\.gz)?$", re.IGNORECASE)
_COMPLEX_PARTS = ("phase", "real", "imag")


def image_type_reason(image_type: Iterable[str]) -> str:
    """Reason that a DICOM image type is not the magnitude image as acquired, empty if it may be."""
    derived = sorted(frozenset(image_type) & DERIVED_IMAGE_TYPES)
    return f"not the magnitude image as scanned ({', '.join(derived)})" if derived else ""


def series_sequence(texts: Iterable[str], timing: Timing | None = None) -> SequenceFinding:
    """Sequence of a series.

    Args:
        texts: its description and the protocol's name; the next counts where one names none.
        timing: of its header.
    """
    for text in texts:
        finding = read_description(text)
        if finding.sequence or finding.reason:
            return read_description(text, timing)
    return read_description("", timing)


def header_sequence(header: Dataset) -> SequenceFinding:
    """Sequence of a DICOM series by its header."""
    from debian_mri.dicom.files.dicom_io import number, optional, text, words
    from debian_mri.dicom.frames import Refusal
    from debian_mri.dicom.privacy.sidecar import first_frame

    def milliseconds(keyword: str) -> float | None:
        value = optional(number, frame, keyword)
        return optional(number, header, keyword) if value is None else value

    try:
        frame = first_frame(header)
        technique = " ".join(words(header, "ScanningSequence"))
    except Refusal:
        frame, technique = header, ""
    timing = Timing(
        echo=milliseconds("EchoTime"),
        repetition=milliseconds("RepetitionTime"),
        inversion=milliseconds("InversionTime"),
        technique=technique,
    )
    return series_sequence([optional(text, header, key) or "" for key in ("SeriesDescription", "ProtocolName")], timing)


def file_sequence(path: Path) -> SequenceFinding:
    """Sequence of an image file; neither a sequence nor a reason without evidence."""
    stem = _ENDINGS.sub("", path.name)
    by_name, by_suffix = _name_sequence(stem)
    sidecar = _sidecar(path.with_name(f"{stem}.json"))
    if sidecar is None:
        return by_name
    image_type = sidecar.get("ImageType")
    if isinstance(image_type, list) and (reason := image_type_reason(map(str, image_type))):
        return SequenceFinding(reason=f"{reason} by the JSON beside it")
    texts = [str(sidecar.get(key) or "") for key in ("SeriesDescription", "ProtocolName")]
    timing = sidecar_timing(sidecar)
    by_header = series_sequence(texts, timing)
    if by_name.sequence and not timing_allows(by_name.sequence, timing):
        return SequenceFinding(
            reason=f"its name gives {by_name.sequence}, the timing in the JSON beside it ({timing}) contradicts that"
        )
    if by_name.sequence and by_header.sequence not in (None, by_name.sequence):
        part = "BIDS suffix" if by_suffix else "name"
        reason = f"its {part} gives {by_name.sequence}, the JSON beside it {by_header.sequence}"
        return SequenceFinding(reason=reason)
    if by_suffix or (by_name.reason and not by_header.sequence):
        return by_name
    return by_header if by_header.sequence or by_header.reason else by_name


def _name_sequence(stem: str) -> tuple[SequenceFinding, bool]:
    """Sequence by a file's name, and whether it is the suffix of a name of BIDS."""
    parts = stem.split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    words = [part for part in parts if "-" not in part] if "sub" in entities else parts
    if entities.get("part", "").lower() in _COMPLEX_PARTS:
        return SequenceFinding(reason=f"a complex image by its name (part-{entities['part']})"), True
    finding = read_name(" ".join(words))
    if "sub" not in entities or not words:
        return finding, False
    suffix = next((name for name in SEQUENCES if name.lower() == words[-1].lower()), None)
    if suffix and len(words) == 1:
        return SequenceFinding(suffix), True
    if finding.sequence or finding.reason:
        return finding, True
    return SequenceFinding(reason=f"{words[-1]} by its BIDS suffix, which is no sequence that is known"), True


def _sidecar(path: Path) -> Mapping[str, Any] | None:
    """JSON beside an image; None where there is none, or none that can be read."""
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return sidecar if isinstance(sidecar, dict) else None


def sidecar_timing(sidecar: Mapping[str, Any]) -> Timing:
    """Timing of a JSON sidecar, whose times are in seconds."""

    def milliseconds(key: str) -> float | None:
        value = sidecar.get(key)
        return value * 1000 if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    return Timing(
        echo=milliseconds("EchoTime"),
        repetition=milliseconds("RepetitionTime"),
        inversion=milliseconds("InversionTime"),
        technique=str(sidecar.get("ScanningSequence") or ""),
    )
