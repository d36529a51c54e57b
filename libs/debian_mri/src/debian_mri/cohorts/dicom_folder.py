"""Any folder of DICOM files, one subfolder a subject, with a CSV of labels: ``subject,label[,age,sex,...]``.

``subject`` is the subfolder's name; it is hashed like every id of headers. Age and sex come from the headers where the
table has none; a column ``sequence`` gives the sequence of series without one in their description.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from debian_mri.biomarkers.knowledge import check_sequences
from debian_mri.cohorts.base import Candidate, ReaderOptions, ReaderResult, implausibility, participant_row, read_rows
from debian_mri.cohorts.mri_sequence.description import SequenceFinding
from debian_mri.cohorts.mri_sequence.image import header_sequence, image_type_reason
from debian_mri.data.clinical_variables import is_missing_name, is_number, normalise_value
from debian_mri.data.manifest import Rejection, Scan
from debian_mri.dicom.frames import Frame
from debian_mri.dicom.privacy.pseudonyms import hash_subject
from icube_common.data.processes import map_items
from icube_common.data.reader import require_file, require_folder
from icube_common.errors import InputError
from icube_common.io.progress import progress_bar

if TYPE_CHECKING:
    from pydicom import Dataset

EXPECTED = "a folder a subject, with DICOM files in it"
AGE = re.compile(r"(\d{3})([DWMY])")
DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
# placeholders of anonymisers for an id
ANONYMOUS_IDS = re.compile(
    r"(anon\w*|unknown|none|null|removed|deidentified|de-identified|patient|x+|0+|1|-)?", re.IGNORECASE
)
YEARS_APART = 2.0  # between the table's age and the header's, at most


@dataclass(frozen=True)
class _Volume:
    """Part of a series: frames, or the reason for a rejection, and a derived image type (``type``).

    ``order`` sorts studies, ``person`` is a keyed hash.
    """

    frames: tuple[Frame, ...]
    reason: str
    type: str
    finding: SequenceFinding
    order: tuple[str, str]
    person: str
    age: str
    sex: str


def find(source: Path, options: ReaderOptions) -> ReaderResult:
    """One scan a volume of the sequences asked for.

    Raises:
        InputError: an unknown sequence, no such folder, no subfolder in it, no table, or one without subject and label.
    """
    check_sequences(options.sequences, "--sequences")
    root = require_folder(source, EXPECTED)
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise InputError(f"{source}: no subfolder in it; expected {EXPECTED}")
    table = require_file(options.participants, "--participants", "a CSV with subject (the subfolder's name) and label")
    people, rejected = _people(table, {folder.name for folder in folders})
    read = partial(_volumes, salt=options.salt)
    headers = map_items(read, folders, worth_a_pool=32, chunksize=1)
    volumes = dict(
        zip(
            (folder.name for folder in folders),
            progress_bar(headers, desc="headers", unit="subject", total=len(folders)),
            strict=True,
        )
    )
    shared, everywhere = _shared_people(volumes)
    candidates: list[Candidate] = []
    for folder, subject_volumes in volumes.items():
        key = hash_subject(folder, options.salt)
        subject_volumes = [replace(one, person="") if one.person in everywhere else one for one in subject_volumes]
        made, refused = _subject(key, people.get(folder), subject_volumes, shared, options.sequences)
        candidates += made
        rejected += refused
    warnings = ["subjects are keyed hashes of the folders' names; sessions are numbered in the order of studies"]
    if everywhere:
        warnings.append("the headers give all subjects one id: the same person under two folders cannot be detected")
    return ReaderResult(title="DICOM folder", root=root, candidates=candidates, rejected=rejected, warnings=warnings)


def _people(table: Path, folders: set[str]) -> tuple[dict[str, dict[str, str]], list[Rejection]]:
    """Rows by subfolder; duplicate rows and rows without a folder are rejected."""
    rows: dict[str, list[tuple[int, dict[str, str]]]] = defaultdict(list)
    for line, cells in read_rows(table, ("subject", "label")):
        rows[cells["subject"]].append((line, cells))
    people = {}
    rejected = []
    for subject, same in rows.items():
        names = [f"line {line} of --participants" for line, _ in same]
        if any(cells != same[0][1] for _, cells in same):
            rejected += [Rejection(name, "one subject is there with different values") for name in names]
        elif subject not in folders:
            rejected += [Rejection(name, "names a folder that is not there") for name in names]
        else:
            people[subject] = same[0][1]
    return people, rejected


def _volumes(folder: Path, *, salt: bytes) -> list[_Volume]:
    """Headers below a subject's folder."""
    from debian_mri.dicom.files.dicom_io import optional, text
    from debian_mri.dicom.stacks.series import find_series, split_series

    def read(header: Dataset, keyword: str) -> str:
        return optional(text, header, keyword) or ""

    result = []
    try:
        series_found = find_series(folder)
    except InputError:
        return [_Volume((), "the folder is empty", "", SequenceFinding(), ("", ""), "", "", "")]
    for series in series_found:
        header = series.header
        finding = header_sequence(header)
        patient = read(header, "PatientID")
        anonymous = ANONYMOUS_IDS.fullmatch(patient.strip()) or is_missing_name(patient)
        # for the order of studies only: it goes into nothing that is written
        order = (read(header, "StudyDate") + read(header, "StudyTime"), read(header, "StudyInstanceUID"))
        for part in split_series(series):
            result.append(
                _Volume(
                    frames=part.frames if part.refusal is None else (),
                    reason=str(part.refusal) if part.refusal is not None else "",
                    type=image_type_reason(part.frames[0].image_type) if part.frames else "",
                    finding=finding,
                    order=order,
                    person="" if anonymous else hash_subject(patient, salt),
                    age=_years(read(header, "PatientAge")),
                    sex=normalise_value("sex", read(header, "PatientSex")),
                )
            )
    return result


def _years(text: str) -> str:
    match = AGE.fullmatch(text.strip())
    return f"{int(match[1]) * DAYS[match[2]] / DAYS['Y']:.4g}" if match else ""


def _shared_people(volumes: Mapping[str, list[_Volume]]) -> tuple[set[str], set[str]]:
    """Patients in several subfolders, and those in all of three or more, which is an anonymiser's id."""
    people = Counter(
        person for subject_volumes in volumes.values() for person in {one.person for one in subject_volumes} - {""}
    )
    with_id = sum(any(one.person for one in subject_volumes) for subject_volumes in volumes.values())
    everywhere = {person for person, folders in people.items() if folders == with_id >= 3}
    return {person for person, folders in people.items() if folders > 1} - everywhere, everywhere


def _subject(
    key: str, cells: dict[str, str] | None, volumes: list[_Volume], shared: set[str], sequences: tuple[str, ...]
) -> tuple[list[Candidate], list[Rejection]]:
    """Scans of a subject, and rejections of its other series."""
    people = {one.person for one in volumes} - {""}
    sexes = {one.sex for one in volumes} - {""}
    cells_of_subject = participant_row(cells or {}, ("subject", "label", "sequence"))
    subject_problem = ""
    if cells is None:
        subject_problem = "its folder has no row in --participants that can be used"
    elif not cells["label"]:
        subject_problem = "label is empty"
    elif len(people) > 1:
        subject_problem = f"the headers in its folder are of {len(people)} people"
    elif people & shared:
        subject_problem = "the headers' patient is in another subject's folder as well"
    elif len(sexes | ({cells_of_subject.get("sex", "")} - {""})) > 1:
        subject_problem = "the table and the headers contradict each other about sex"
    studies = sorted({one.order for one in volumes if one.frames})
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    runs: Counter[str] = Counter()
    for number, one in enumerate(volumes, 1):
        name = f"{key}, series {number}"
        reason, by_rule = subject_problem or one.reason, False
        sequence = one.finding.sequence or (cells or {}).get("sequence") or None
        row = {
            **cells_of_subject,
            "age": cells_of_subject.get("age") or one.age,
            "sex": cells_of_subject.get("sex") or one.sex,
        }
        if not reason and one.type:
            reason, by_rule = one.type, True
        elif not reason and sequence is None:
            reason, by_rule = one.finding.reason or "the description names no sequence that is known", True
        elif not reason and sequence not in sequences:
            reason, by_rule = f"{sequence} was not requested (--sequences {','.join(sequences)})", True
        elif not reason and _ages_differ(cells_of_subject.get("age", ""), one.age):
            reason = "the table and the headers contradict each other about age"
        reason = reason or implausibility(row)
        if reason or cells is None or sequence is None:
            rejected.append(Rejection(name, reason, by_rule=by_rule))
            continue
        session = f"visit{studies.index(one.order) + 1}"
        runs[session + sequence] += 1
        run = f"_run-{runs[session + sequence]}" if runs[session + sequence] > 1 else ""
        scan = Scan(
            id=f"{key}_ses-{session}{run}_{sequence}",
            subject=key,
            session=session,
            label=cells["label"],
            sequence=sequence,
            paths=("",),
        )
        candidates.append(Candidate(scan=scan, row=row, source=name, handling="dicom", frames=one.frames))
    return candidates, rejected


def _ages_differ(table: str, header: str) -> bool:
    return is_number(table) and is_number(header) and abs(float(table) - float(header)) > YEARS_APART
