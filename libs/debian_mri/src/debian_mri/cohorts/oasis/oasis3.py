"""OASIS-3: MR sessions ``OAS30001_MR_d0129`` and the clinical visit nearest in days from entry.

LaMontagne et al., OASIS-3: longitudinal neuroimaging, clinical, and cognitive dataset, medRxiv 2019. The table of CDRs
(``OASIS3_UDSb4_cdr.csv``) has ``OASISID``, ``days_to_visit`` or the session's label ``OAS30001_UDSb4_d0339``, the CDR,
MMSE and ``dx1``; the older ``ADRC Clinical Data`` has ``OAS30001_ClinicalData_d0339``. A table of demographics beside
it (``*demographics*.csv``) gives sex, education and the age at entry.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from debian_mri.biomarkers.knowledge import check_sequences
from debian_mri.cohorts.base import Candidate, ReaderOptions, ReaderResult, implausibility, participant_row, read_rows
from debian_mri.cohorts.mri_sequence.image import file_sequence
from debian_mri.cohorts.oasis.ratings import oasis_label, oasis_row
from debian_mri.data.clinical_variables import is_number
from debian_mri.data.manifest import Rejection, Scan
from icube_common.data.reader import require_file, require_folder
from icube_common.errors import InputError, unknown

EXPECTED = "OASIS-3 session folders (OAS30001_MR_d0129/...) with NIfTI files"
CITATION = "LaMontagne et al., OASIS-3, medRxiv 2019.12.13.19014902"
NEAREST_DAYS = 180  # between an MR session and the clinical visit whose label it takes
_SESSION = re.compile(r"(?P<subject>OAS3\d{4})(?:_MR(?:scans)?|[_/]ses|_sess)[-_]d(?P<day>\d+)")
_VISIT = re.compile(r"(?P<subject>OAS3\d{4})_\w+_d(?P<day>\d+)")
RATINGS = ("CDRTOT", "cdr", "CDR", "CDRGLOB")
PEOPLE = ("OASISID", "Subject", "subject_id")
VISITS = ("OASIS_session_label", "ADRC_ADRCCLINICALDATA ID", "UDS_B4DATA ID", "session_label")
DAYS_A_YEAR = 365.25
# of the clinical table: names of its own
_SKIPPED = ("days_to_visit", "age at visit", "ageAtEntry", *PEOPLE, *VISITS, *RATINGS)


@dataclass(frozen=True)
class _Visit:
    day: int
    cells: dict[str, str]
    rating: str


def find(source: Path, options: ReaderOptions) -> ReaderResult:
    """One scan an image whose MR session has a clinical visit within `NEAREST_DAYS`.

    Raises:
        InputError: an unknown sequence, no such folder, no image of OASIS-3 in it, no table, or one without the
            columns.
    """
    check_sequences(options.sequences, "--sequences")
    root = require_folder(source, EXPECTED)
    table = require_file(options.participants, "--participants", "OASIS-3's table of CDRs (OASIS3_UDSb4_cdr.csv)")
    visits = _visits(table, options.label_column)
    people = _demographics(table)
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    images = 0
    for path in sorted(root.rglob("*.nii*")):
        relative = path.relative_to(root).as_posix()
        match = _SESSION.search(relative) or _SESSION.search(f"{root.name}/{relative}")
        if match is None:
            rejected.append(Rejection(relative, "unknown session of OASIS-3"))
            continue
        images += 1
        finding = file_sequence(path)
        if finding.sequence not in options.sequences:
            named = f"{finding.sequence} was not requested (--sequences {','.join(options.sequences)})"
            reason = finding.reason or (named if finding.sequence else "no known sequence in its name")
            rejected.append(Rejection(relative, reason, by_rule=True))
            continue
        subject, day = match["subject"], int(match["day"])
        visit, reason = _nearest(visits.get(subject, []), day)
        label, row = "", people.get(subject, {})
        if visit is not None:
            label, reason = _label(visit, options.label_column)
            row = {**participant_row(visit.cells, (*_SKIPPED, options.label_column or "")), "CDR": visit.rating, **row}
        row = _with_age(row, day)
        if reason := reason or implausibility(row):
            rejected.append(Rejection(relative, reason, by_rule=reason.startswith("CDR is blank")))
            continue
        scan = Scan(
            id=re.sub(r"\.nii(\.gz)?$", "", path.name),
            subject=subject,
            session=f"d{match['day']}",
            label=label,
            sequence=str(finding.sequence),
            paths=(relative,),
        )
        candidates.append(Candidate(scan=scan, row=row, source=relative))
    if not images:
        raise InputError(f"{source}: no image of OASIS-3 in it; expected {EXPECTED}")
    labels = f"column {options.label_column}" if options.label_column else "CN where CDR is 0, AD where it is above 0"
    return ReaderResult(
        title="OASIS-3",
        citation=CITATION,
        root=root,
        candidates=candidates,
        rejected=rejected,
        warnings=[f"labels: {labels}, of the clinical visit nearest to the MR session, {NEAREST_DAYS} days at most"],
    )


def _visits(table: Path, label_column: str | None) -> dict[str, list[_Visit]]:
    """Person -> clinical visits."""
    visits: dict[str, list[_Visit]] = defaultdict(list)
    for line, cells in read_rows(table, ()):
        rating = next((name for name in RATINGS if name in cells), None)
        if rating is None:
            raise InputError(f"{table}: line 1: none of {', '.join(RATINGS)} is a column: expected OASIS-3's CDRs")
        if label_column is not None and label_column not in cells:
            raise InputError(f"{table}: --label-column: {unknown('column', label_column, cells)}")
        match = next((matched for name in VISITS if (matched := _VISIT.fullmatch(cells.get(name, "")))), None)
        subject = next((cells[name] for name in PEOPLE if cells.get(name)), match["subject"] if match else "")
        days = cells.get("days_to_visit") or (match["day"] if match else "")
        if not re.fullmatch(r"OAS3\d{4}", subject) or not is_number(days):
            raise InputError(
                f"{table}: line {line}: no visit of OASIS-3 (OAS30001_UDSb4_d0339, or OASISID and days_to_visit)"
            )
        visits[subject].append(_Visit(int(float(days)), cells, cells[rating]))
    return visits


def _nearest(visits: list[_Visit], day: int) -> tuple[_Visit | None, str]:
    """(visit, reason): the visit nearest to a day, or why there is none."""
    if not visits:
        return None, "has no row in the table of CDRs"
    least = min(abs(visit.day - day) for visit in visits)
    if least > NEAREST_DAYS:
        return None, f"the nearest clinical visit is {least} days away ({NEAREST_DAYS} at most)"
    nearest = [visit for visit in visits if abs(visit.day - day) == least]
    if any(
        visit.cells.get("dx1") != nearest[0].cells.get("dx1") or visit.rating != nearest[0].rating for visit in nearest
    ):
        return None, "clinical visits as near as each other contradict each other"
    return nearest[0], ""


def _label(visit: _Visit, column: str | None) -> tuple[str, str]:
    """(label, reason) of a visit; a dementia of another cause in ``dx1`` is not AD."""
    if column is not None:
        return visit.cells[column], "" if visit.cells[column] else f"{column} is blank"
    label, reason = oasis_label(visit.rating)
    cause = visit.cells.get("dx1", "")
    if label == "AD" and "dx1" in visit.cells and not re.match(r"(AD\b|DAT\b|Alzheimer)", cause, re.IGNORECASE):
        return "", "CDR is above 0, and dx1 is not Alzheimer's disease"
    return label, reason


def _demographics(table: Path) -> dict[str, dict[str, str]]:
    """Person -> variables, of a table of demographics beside that of CDRs; ``entry`` is the age at entry."""
    people: dict[str, dict[str, str]] = {}
    for path in sorted(table.parent.glob("*emographics*.csv")):
        for _, cells in read_rows(path, ("OASISID",)):
            row = oasis_row(cells)
            selected = {name: row[name] for name in ("sex", "education", "handedness") if row.get(name)}
            entry = next((cells[name] for name in cells if name.lower() == "ageatentry"), "")
            people[cells["OASISID"]] = {**selected, "entry": entry}
    return people


def _with_age(row: dict[str, str], day: int) -> dict[str, str]:
    """A row with the age at the scan in place of that at entry."""
    entry = row.get("entry", "")
    age = {"age": f"{float(entry) + day / DAYS_A_YEAR:.4g}"} if is_number(entry) else {}
    return {**{name: text for name, text in row.items() if name not in ("entry", "age")}, **age}
