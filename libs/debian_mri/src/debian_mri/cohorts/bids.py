"""BIDS: ``participants.tsv``, ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]``, ``sub-*/sub-*_sessions.tsv`` where there is one.

https://bids-specification.readthedocs.io; ``n/a`` is its word for a missing value. Times of acquisition
(``scans.tsv``, columns ``acq_time``) are not read.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from debian_mri.cohorts.base import Candidate, Found, Options, implausible, person_row, require_folder
from debian_mri.manifest import Scan
from debian_mri.manifest_writer import Rejection
from icube_common.errors import InputError, unknown

EXPECTED = "a BIDS folder with participants.tsv and sub-*/"
LABEL_COLUMNS = ("diagnosis", "dx", "group")
SITE_COLUMNS = ("site", "site_id", "center", "centre", "scanner")
IMAGE = re.compile(
    r"(?P<name>(?P<subject>sub-[A-Za-z0-9]+)(?:_[a-z]+-[A-Za-z0-9]+)*_(?P<suffix>[A-Za-z0-9]+))\.nii(\.gz)?"
)
Row = dict[str, str]


def find(source: Path, options: Options) -> Found:
    """One scan an image of the sequences asked for; of a variable the session's row counts before the person's.

    Raises:
        InputError: no such folder, no ``participants.tsv``, no label column in it, or no image.
    """
    root = require_folder(source, EXPECTED)
    table = root / "participants.tsv"
    if not table.is_file():
        raise InputError(f"{source}: no participants.tsv in it; expected {EXPECTED}")
    people, repeated = _people(table)
    sessions = {person: _sessions(root / person, person) for person in people}
    heads = {name for row in people.values() for name in row}
    heads |= {name for rows in sessions.values() for row in rows.values() for name in row}
    label_column = _label_column(table, heads, options.label_column)
    site_column = next((name for name in SITE_COLUMNS if name in {head.lower() for head in heads}), "")
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    seen: set[str] = set()
    for path in sorted(root.glob("sub-*/**/anat/*.nii*")):
        relative = path.relative_to(root).as_posix()
        match = IMAGE.fullmatch(path.name)
        person = path.relative_to(root).parts[0]
        seen.add(person)
        if match is None or match["subject"] != person:
            rejected.append(Rejection(relative, "the name is none of BIDS for this folder"))
            continue
        if match["suffix"] not in options.sequences:
            asked = f"{match['suffix']} was not asked for (--sequences {','.join(options.sequences)})"
            rejected.append(Rejection(relative, asked, by_rule=True))
            continue
        session = next((part for part in path.relative_to(root).parts if part.startswith("ses-")), None)
        cells = {
            **people.get(person, {}),
            **{k: v for k, v in sessions.get(person, {}).get(session or "", {}).items() if v},
        }
        label = cells.get(label_column, "")
        row = person_row(cells, ("participant_id", "session_id", "acq_time", label_column, *SITE_COLUMNS))
        if person in repeated:
            reason = "has several rows in participants.tsv that differ"
        elif person not in people:
            reason = "has no row in participants.tsv"
        elif not label:
            reason = f"{label_column} is n/a"
        else:
            reason = implausible(row)
        if reason:
            rejected.append(Rejection(relative, reason))
            continue
        scan = Scan(
            id=match["name"],
            subject=person,
            session=session,
            label=label,
            site={name.lower(): text for name, text in cells.items()}.get(site_column) or None,
            sequence=match["suffix"],
            paths=(relative,),
        )
        candidates.append(Candidate(scan=scan, row=row, source=relative))
    rejected += [
        Rejection(person, "has a row in participants.tsv and no image in anat/")
        for person in people
        if person not in seen
    ]
    if not candidates and not seen:
        raise InputError(f"{source}: no image in sub-*/[ses-*/]anat/; expected {EXPECTED}")
    kept, doubled = _one_of_each(candidates)
    title, citation, notes = _description(root / "dataset_description.json")
    return Found(
        title=title or root.name,
        citation=citation,
        root=root,
        candidates=kept,
        rejected=[*rejected, *doubled],
        notes=[*notes, f"labels: column {label_column}"],
    )


def _one_of_each(candidates: list[Candidate]) -> tuple[list[Candidate], list[Rejection]]:
    """``.nii`` and ``.nii.gz`` of one name are one image, if both are there the first is taken."""
    kept: dict[str, Candidate] = {}
    rejected = []
    for one in candidates:
        if one.scan.id in kept:
            rejected.append(Rejection(one.source, f"the same name as {kept[one.scan.id].source}"))
        else:
            kept[one.scan.id] = one
    return list(kept.values()), rejected


def _people(table: Path) -> tuple[dict[str, Row], set[str]]:
    """Person -> cells, and people whose rows differ."""
    people: dict[str, Row] = {}
    repeated: set[str] = set()
    for line, cells in _read_tsv(table, "participant_id"):
        person = cells["participant_id"]
        if not re.fullmatch("sub-[A-Za-z0-9]+", person):
            raise InputError(f"{table}: line {line}: participant_id {person!r} is not of the form sub-LABEL")
        if person in people and people[person] != cells:
            repeated.add(person)
        people[person] = cells
    if not people:
        raise InputError(f"{table}: no row below the head line")
    return people, repeated


def _sessions(folder: Path, person: str) -> dict[str, Row]:
    table = folder / f"{person}_sessions.tsv"
    if not table.is_file():
        return {}
    return {cells["session_id"]: cells for _, cells in _read_tsv(table, "session_id")}


def _label_column(table: Path, heads: set[str], asked: str | None) -> str:
    if asked is not None:
        if asked not in heads:
            raise InputError(f"{table}: --label-column: {unknown('column', asked, heads)}")
        return asked
    by_lower = {name.lower(): name for name in heads}
    found = [by_lower[name] for name in LABEL_COLUMNS if name in by_lower]
    if not found:
        columns = ", ".join(sorted(heads))
        raise InputError(
            f"{table}: none of {', '.join(LABEL_COLUMNS)} is a column ({columns}): name it with --label-column"
        )
    return found[0]


def _description(path: Path) -> tuple[str, str, list[str]]:
    """Title, citation and notes of ``dataset_description.json``."""
    if not path.is_file():
        return "", "", ["no dataset_description.json, which BIDS demands"]
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not JSON ({type(error).__name__})") from error
    if not isinstance(about, Mapping):
        raise InputError(f"{path}: must hold an object")
    citation = about.get("HowToAcknowledge") or about.get("DatasetDOI") or ""
    return str(about.get("Name") or ""), str(citation), []


def _read_tsv(path: Path, required: str) -> Iterator[tuple[int, Row]]:
    """Rows of a table of BIDS, ``n/a`` as empty.

    Raises:
        InputError: not readable, the first column is not the required one, or a row is too short or too long.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
            head = [name.strip() for name in next(reader, [])]
            if required not in head or len(set(head)) < len(head):
                problem = f"no column {required!r}" if required not in head else "a column is there twice"
                raise InputError(f"{path}: line 1: {problem} in the head line {' '.join(head)!r}")
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(head):
                    raise InputError(f"{path}: line {reader.line_num}: {len(row)} fields, {len(head)} expected")
                texts = ("" if cell.strip().lower() == "n/a" else cell.strip() for cell in row)
                yield reader.line_num, dict(zip(head, texts, strict=True))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
