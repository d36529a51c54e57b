"""What every reader takes and gives, and what several of them need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from debian_mri.data.clinical_variables import MISSING_CODES, canonical_name, is_missing, is_number, normalise_value
from debian_mri.data.manifest import Rejection, Scan
from icube_common.errors import InputError, unknown

if TYPE_CHECKING:
    from debian_mri.dicom.frames import Frame

# as is: read where it lies; copy: voxels and affine into a file without free text; the last two convert
HANDLINGS = ("as is", "copy", "analyze", "dicom")
IMAGE_TYPES = ("original", "processed", "all")
MAX_AGE = 120.0  # years


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """What ``prepare`` was asked beside the source; each reader takes what its format has.

    Attributes:
        collection_csv: LONI's table of the download.
        adnimerge: ADNI's table of visits.
        participants: table of labels and variables.
        label_column: which column is the label.
        image_type: of LONI: "original", "processed" or "all".
        sequences: those that are taken.
        salt: the project's secret for subject keys.
        salt_kept: whether it is in a file of the project; one that is not gives keys that are never the same again.

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
    """A scan before its images are opened.

    Attributes:
        scan: without sha256; its paths are those of the source, relative to the root.
        row: variable -> text, `normalise_value`.
        source: what a rejection calls it.
        handling: one of `HANDLINGS`; all but "as is" write ``nifti/<id>.nii.gz``.
        frames: of a DICOM volume whose headers are read.
        files: of a DICOM volume, those of the folder ``scan.paths[0]`` that belong to it.
    """

    scan: Scan
    row: Mapping[str, str] = field(default_factory=dict)
    source: str
    handling: str = "as is"
    frames: tuple[Frame, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReaderResult:
    """What a reader has found.

    Attributes:
        title: the set's name.
        citation: the paper that defines it.
        root: what the scans' paths start from.
        candidates: the scans.
        rejected: what is none.
        notes: lines for people.
        about: further entries of ``dataset.json``.
    """

    title: str
    citation: str = ""
    root: Path
    candidates: list[Candidate]
    rejected: list[Rejection]
    notes: list[str] = field(default_factory=list)
    about: Mapping[str, object] = field(default_factory=dict)


class Reader(Protocol):
    """Interface of a reader module."""

    def find(self, source: Path, options: ReaderOptions) -> ReaderResult:
        """The scans of a source; opens no volume. InputError where nothing of the format is there."""
        ...


def require_folder(path: Path, expected: str) -> Path:
    """The folder, with links resolved.

    Raises:
        InputError: there is none, or nothing in it.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected {expected}")
    if not any(path.iterdir()):
        raise InputError(f"{path}: the folder is empty; expected {expected}")
    return path.resolve()


def require_file(path: Path | None, option: str, expected: str) -> Path:
    """The file that an option names.

    Raises:
        InputError: the option was not given, or there is no such file.
    """
    if path is None:
        raise InputError(f"{option}: is needed; expected {expected}")
    if not path.is_file():
        raise InputError(f"{option} {path}: no such file; expected {expected}")
    return path


def participant_row(cells: Mapping[str, str], skip: Iterable[str]) -> dict[str, str]:
    """The variables of a table's row by our names, missing ones empty.

    Where two columns mean one variable, the first that has a value counts. Words of no known sex stay, to be counted.
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


def implausible_reason(row: Mapping[str, str]) -> str:
    """Why a person's row cannot be true; empty where nothing speaks against it."""
    age = row.get("age", "")
    # 0 and codes such as 999 are missing ages
    if is_number(age) and float(age) not in MISSING_CODES | {0.0} and not 0 < float(age) <= MAX_AGE:
        return f"age is not between 0 and {MAX_AGE:g} years"
    return ""


def reject_duplicate_ids(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Rejection]]:
    """Those whose id is theirs alone; all others of an id are rejected, for which of them is meant is not known."""
    times: dict[str, int] = {}
    for one in candidates:
        times[one.scan.id] = times.get(one.scan.id, 0) + 1
    kept = [one for one in candidates if times[one.scan.id] == 1]
    rejected = [
        Rejection(one.source, f"id {one.scan.id!r} is there {times[one.scan.id]} times")
        for one in candidates
        if times[one.scan.id] > 1
    ]
    return kept, rejected
