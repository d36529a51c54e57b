"""BIDS: ``participants.tsv``, ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]``, ``sub-*/sub-*_sessions.tsv`` where there is one.

https://bids-specification.readthedocs.io; ``n/a`` is its word for a missing value. Times of acquisition
(``scans.tsv``, columns ``acq_time``) are not read.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from debian_mri.biomarkers.knowledge import SEQUENCES
from debian_mri.cohorts.base import Candidate, ReaderOptions, ReaderResult, implausibility, participant_row, read_rows
from debian_mri.cohorts.bids.sessions import SESSION_COLUMNS, Row, Sessions, merge_rows
from debian_mri.cohorts.mri_sequence.image import file_sequence
from debian_mri.data.manifest import Rejection, Scan
from icube_common.data.reader import require_folder
from icube_common.errors import InputError, unknown

EXPECTED = "a BIDS folder with participants.tsv and sub-*/"
LABEL_COLUMNS = ("diagnosis", "dx", "group")
SITE_COLUMNS = ("site", "site_id", "center", "centre", "scanner")
IMAGE = re.compile(
    r"(?P<name>(?P<subject>sub-[A-Za-z0-9]+)(?:_[a-z]+-[A-Za-z0-9]+)*_(?P<suffix>[A-Za-z0-9]+))\.nii(\.gz)?"
)


def find(source: Path, options: ReaderOptions) -> ReaderResult:
    """One scan an image of the sequences asked for, with the label of its session.

    Raises:
        InputError: no such folder, no ``participants.tsv``, no label column in it, or no image.
    """
    root = require_folder(source, EXPECTED)
    table = root / "participants.tsv"
    if not table.is_file():
        raise InputError(f"{source}: no participants.tsv in it; expected {EXPECTED}")
    people, repeated, sessions = _people(table)
    for person in people:
        _add_sessions(root / person, person, sessions)
    heads = {name for row in people.values() for name in row}
    by_session = {name for one in sessions.values() for name in one.columns}
    label_column = _label_column(table, heads | by_session, options.label_column)
    cohort = _Cohort(people, repeated, sessions, label_column, label_column in by_session)
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    images = sorted(root.glob("sub-*/**/anat/*.nii*"))
    folders: dict[str, set[str]] = defaultdict(set)
    for path in images:
        folders[_place(path, root)[0]].add(_place(path, root)[1])
    for path in images:
        relative = path.relative_to(root).as_posix()
        match = IMAGE.fullmatch(path.name)
        person, session = _place(path, root)
        if match is None or match["subject"] != person:
            rejected.append(Rejection(relative, "the name is none of BIDS for this folder"))
            continue
        finding = file_sequence(path)
        if finding.reason and match["suffix"] in set(options.sequences) & set(SEQUENCES):
            rejected.append(Rejection(relative, finding.reason))
            continue
        if match["suffix"] not in options.sequences:
            requested = f"{match['suffix']} was not requested (--sequences {','.join(options.sequences)})"
            rejected.append(Rejection(relative, requested, by_rule=True))
            continue
        cells, reason = cohort.cells(person, session, folders[person])
        label = cells.get(label_column, "")
        site = next((text for name, text in cells.items() if name.lower() in SITE_COLUMNS and text), None)
        skipped = [name for name in cells if name.lower() in SITE_COLUMNS]
        row = participant_row(cells, ("participant_id", *SESSION_COLUMNS, "acq_time", label_column, *skipped))
        reason = reason or ("" if label else f"{label_column} is n/a") or implausibility(row)
        if reason:
            rejected.append(Rejection(relative, reason))
            continue
        scan = Scan(
            id=match["name"],
            subject=person,
            session=session or None,
            label=label,
            site=site,
            sequence=match["suffix"],
            paths=(relative,),
        )
        candidates.append(Candidate(scan=scan, row=row, source=relative))
    rejected += [
        Rejection(person, "has a row in participants.tsv and no image in anat/")
        for person in people
        if person not in folders
    ]
    if not candidates and not folders:
        raise InputError(f"{source}: no image in sub-*/[ses-*/]anat/; expected {EXPECTED}")
    unique, doubled = _one_of_each(candidates)
    title, citation, warnings = _description(root / "dataset_description.json")
    return ReaderResult(
        title=title or root.name,
        citation=citation,
        root=root,
        candidates=unique,
        rejected=[*rejected, *doubled],
        warnings=[*warnings, f"labels: column {label_column}" + " of the session" * cohort.label_by_session],
    )


@dataclass(frozen=True)
class _Cohort:
    """Tables of participants and sessions.

    Attributes:
        people: person -> cells.
        repeated: people whose rows differ.
        sessions: person -> rows of their sessions.
        label_column: the label.
        label_by_session: whether the label is a column of sessions.
    """

    people: Mapping[str, Row]
    repeated: set[str]
    sessions: Mapping[str, Sessions]
    label_column: str
    label_by_session: bool

    def cells(self, person: str, session: str, folders: set[str]) -> tuple[Row, str]:
        """Cells of a scan, and the reason for a missing label."""
        if person in self.repeated:
            return {}, "has several rows in participants.tsv that differ"
        if person not in self.people:
            return {}, "has no row in participants.tsv"
        sessions = self.sessions.get(person)
        if sessions is None:
            if self.label_by_session and len(folders) > 1:
                return {}, f"{self.label_column} is given a session, and this person has no sessions.tsv"
            return dict(self.people[person]), ""
        if not session and len(sessions.rows) == 1:
            # one visit and no folder for it
            return merge_rows(self.people[person], next(iter(sessions.rows.values())), sessions.columns), ""
        row, reason = (
            sessions.row(session, folders) if session else (None, f"is in no session, as {sessions.table} wants it")
        )
        cells = merge_rows(self.people[person], row, sessions.columns)
        return cells, reason if self.label_column in sessions.columns else ""


def _place(path: Path, root: Path) -> tuple[str, str]:
    """Person and session of an image by its folders; the session is empty where there is none."""
    parts = path.relative_to(root).parts
    return parts[0], next((part for part in parts if part.startswith("ses-")), "")


def _one_of_each(candidates: list[Candidate]) -> tuple[list[Candidate], list[Rejection]]:
    """``.nii`` and ``.nii.gz`` of one name are one image, if both are there the first is taken."""
    unique: dict[str, Candidate] = {}
    rejected = []
    for one in candidates:
        if one.scan.id in unique:
            rejected.append(Rejection(one.source, f"the same name as {unique[one.scan.id].source}"))
        else:
            unique[one.scan.id] = one
    return list(unique.values()), rejected


def _people(table: Path) -> tuple[dict[str, Row], set[str], dict[str, Sessions]]:
    """Person -> cells, people whose rows differ, and rows by session where the table has such a column."""
    people: dict[str, Row] = {}
    repeated: set[str] = set()
    sessions: dict[str, Sessions] = {}
    for line, cells in read_rows(table, ("participant_id",)):
        person = cells["participant_id"]
        if not re.fullmatch("sub-[A-Za-z0-9]+", person):
            raise InputError(f"{table}: line {line}: participant_id {person!r} is not of the form sub-LABEL")
        column = next((name for name in cells if name.lower() in SESSION_COLUMNS), None)
        if column is not None and cells[column]:
            sessions.setdefault(person, Sessions(table.name)).add(cells[column], cells)
            # what all sessions agree on is the person's
            shared = people.setdefault(person, cells)
            people[person] = {name: text for name, text in shared.items() if cells.get(name) == text}
            continue
        if person in people and people[person] != cells:
            repeated.add(person)
        people[person] = cells
    if not people:
        raise InputError(f"{table}: no row below the head line")
    return people, repeated, sessions


def _add_sessions(folder: Path, person: str, sessions: dict[str, Sessions]) -> None:
    """Add the rows of a person's ``sessions.tsv``; columns of both tables are read from it."""
    table = folder / f"{person}_sessions.tsv"
    if not table.is_file():
        return
    earlier = sessions.get(person)
    sessions[person] = Sessions(table.name)
    for _, cells in read_rows(table, ("session_id",)):
        shared, _ = earlier.row(cells["session_id"], ()) if earlier else (None, "")
        sessions[person].add(
            cells["session_id"], {**(shared or {}), **{k: v for k, v in cells.items() if v or not shared}}
        )


def _label_column(table: Path, heads: set[str], requested: str | None) -> str:
    if requested is not None:
        if requested not in heads:
            raise InputError(f"{table}: --label-column: {unknown('column', requested, heads)}")
        return requested
    by_lower = {name.lower(): name for name in heads}
    matches = [by_lower[name] for name in LABEL_COLUMNS if name in by_lower]
    if not matches:
        columns = ", ".join(sorted(heads))
        raise InputError(
            f"{table}: none of {', '.join(LABEL_COLUMNS)} is a column ({columns}): name it with --label-column"
        )
    return matches[0]


def _description(path: Path) -> tuple[str, str, list[str]]:
    """Title, citation and warnings of ``dataset_description.json``."""
    if not path.is_file():
        return "", "", ["no dataset_description.json, which BIDS demands"]
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not JSON ({type(error).__name__})") from error
    if not isinstance(description, Mapping):
        raise InputError(f"{path}: must hold an object")
    citation = description.get("HowToAcknowledge") or description.get("DatasetDOI") or ""
    return str(description.get("Name") or ""), str(citation), []
