"""Interface of the readers, and functions shared by several of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from debian_mri.data.clinical_variables import MISSING_CODES, canonical_name, is_missing, is_number, normalise_value
from debian_mri.data.manifest import Rejection, Scan
from icube_common.data.reader import split_duplicates
from icube_common.errors import InputError, unknown
from icube_common.io.csv import read_spreadsheet

if TYPE_CHECKING:
    from debian_mri.dicom.frames import Frame

# as is: read where it lies; copy: voxels and affine into a file without free text; the last two convert
IMAGE_TYPES = ("original", "processed", "all")
MAX_AGE = 120.0  # years


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """Options of ``prepare`` for readers; each reader uses those of its format.

    Attributes:
        collection_csv: LONI's table of the download.
        adnimerge: ADNI's table of visits.
        participants: table of labels and variables.
        label_column: column of the label.
        image_type: of LONI: "original", "processed" or "all".
        sequences: sequences to include.
        salt: the project's secret for subject keys.
        salt_is_stored: true for a salt in a file of the project; any other salt gives keys that cannot be reproduced.

    Raises:
        InputError: an unknown image type, or no sequence.
    """

    collection_csv: Path | None = None
    adnimerge: Path | None = None
    participants: Path | None = None
    label_column: str | None = None
    image_type: str = "original"
    sequences: tuple[str, ...] = ("T1w",)
    salt: bytes = b""
    salt_is_stored: bool = True

    def __post_init__(self) -> None:
        if self.image_type not in IMAGE_TYPES:
            raise InputError(f"--image-type: {unknown('image type', self.image_type, IMAGE_TYPES)}")
        if not self.sequences:
            raise InputError("--sequences: must name one at least, such as T1w")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Scan before its images are opened.

    Attributes:
        scan: without sha256; its paths are those of the source, relative to the root.
        row: variable -> text, `normalise_value`.
        source: name in a rejection.
        handling: "as is", "copy", "analyze" or "dicom"; all but "as is" write ``nifti/<id>.nii.gz``.
        frames: of a DICOM volume whose headers are read.
        files: of a DICOM volume, its files in the folder ``scan.paths[0]``.
    """

    scan: Scan
    row: Mapping[str, str] = field(default_factory=dict)
    source: str
    handling: str = "as is"
    frames: tuple[Frame, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReaderResult:
    """Scans of a cohort, as read by a reader.

    Attributes:
        title: the set's name.
        citation: the paper that defines it.
        root: root of the scans' paths.
        candidates: scans.
        rejected: rejections with reasons.
        warnings: about labels and keys, one line each.
        description: further entries of ``dataset.json``.
    """

    title: str
    citation: str = ""
    root: Path
    candidates: list[Candidate]
    rejected: list[Rejection]
    warnings: list[str] = field(default_factory=list)
    description: Mapping[str, object] = field(default_factory=dict)


class Reader(Protocol):
    """Interface of a reader module."""

    def find(self, source: Path, options: ReaderOptions) -> ReaderResult:
        """Scans of a source; opens no volume. Raises InputError for a source of another format."""
        ...


read_rows = partial(read_spreadsheet, is_missing=is_missing)
"""Rows of a table as (line number, column -> text), with words for missing values as empty cells."""


def participant_row(cells: Mapping[str, str], skip: Iterable[str]) -> dict[str, str]:
    """Variables of a table's row by canonical names, empty if missing.

    Of two columns of one variable the first with a value counts. Unknown words for a sex are kept, to be counted.
    """
    skipped = set(skip)
    row: dict[str, str] = {}
    for column, text in cells.items():
        if column in skipped or not column:
            continue
        name = canonical_name(column)
        value = normalise_value(name, text) or ("" if is_missing(text) else text.strip())
        if not row.get(name):
            row[name] = value
    return row


def implausibility(row: Mapping[str, str]) -> str:
    """Reason that a person's row is implausible, empty if it is plausible."""
    age = row.get("age", "")
    # 0 and codes such as 999 are missing ages
    if is_number(age) and float(age) not in MISSING_CODES | {0.0} and not 0 < float(age) <= MAX_AGE:
        return f"age is not between 0 and {MAX_AGE:g} years"
    return ""


def reject_duplicate_ids(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Rejection]]:
    """Reject all candidates that share an id."""
    unique, shared = split_duplicates(candidates, lambda one: one.scan.id)
    return unique, [Rejection(one.source, reason) for one, reason in shared]
