"""A CSV file with ``path`` (or ``paths``), ``label``, ``subject`` and any more columns.

Known further columns: ``id``, ``session``, ``site``, ``cohort`` (of a pool: scans without a site are of
an unknown one of their cohort), ``sequence`` (else by the file's name or its JSON sidecar), ``planes`` (of 2-D images,
one a path); every other one is a variable of the person. Several paths in one cell are separated by ``;``. Paths
are relative to the file's folder, or absolute.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from debian_mri.biomarkers.knowledge import SEQUENCES
from debian_mri.cohorts.base import (
    Candidate,
    ReaderOptions,
    ReaderResult,
    implausibility,
    participant_row,
    read_rows,
    reject_duplicate_ids,
)
from debian_mri.cohorts.mri_sequence.description import SequenceFinding, sequence_of
from debian_mri.cohorts.mri_sequence.image import file_sequence
from debian_mri.data.clinical_variables import is_missing_name
from debian_mri.data.manifest import PLANES, SEPARATOR, UNKNOWN_SITE, Rejection, Scan
from debian_mri.imaging.nifti import SUFFIXES
from icube_common.data.reader import require_file
from icube_common.errors import InputError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
OWN = ("id", "path", "paths", "label", "subject", "session", "site", "cohort", "sequence", "planes")


def find(source: Path, options: ReaderOptions) -> ReaderResult:
    """One scan a row; a row without label, subject or file is rejected.

    Raises:
        InputError: no such file, a column is missing, or no row.
    """
    path = require_file(source, "SOURCE", "a CSV file with the head line path,label,subject,...")
    root = path.resolve().parent
    rows = list(read_rows(path, ("label", "subject")))
    if not rows:
        raise InputError(f"{path}: no row below the head line")
    column = next((name for name in ("path", "paths") if name in rows[0][1]), None)
    if column is None:
        raise InputError(f"{path}: line 1: no column 'path' in the head line {','.join(rows[0][1])!r}")
    stems = Counter(_stem(cells[column]) for _, cells in rows)
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    assumed = 0
    for line, cells in rows:
        location = f"line {line}"
        paths = tuple(part.strip() for part in cells[column].split(SEPARATOR))
        planes = tuple(part.strip() for part in cells.get("planes", "").split(SEPARATOR) if part.strip())
        row = participant_row(cells, OWN)
        kind, reason = _kind(paths, planes)
        sequence, sequence_problem = _sequence(cells.get("sequence", ""), [root / part for part in paths])
        reason = reason or implausibility(row) or sequence_problem
        for name in (column, "label", "subject"):
            if not cells[name]:
                reason = f"{name} is empty"
        if not reason and not all((root / part).is_file() for part in paths):
            reason = f"{column} names a file that is not there"
        if reason:
            rejected.append(Rejection(location, reason))
            continue
        stem = _stem(cells[column])
        scan = Scan(
            id=cells.get("id") or (stem if stems[stem] == 1 else f"{cells['subject']}_{stem}"),
            subject=cells["subject"],
            label=cells["label"],
            session=cells.get("session") or None,
            site=_site(cells),
            sequence=sequence or "T1w",
            kind=kind,
            paths=paths,
            planes=planes,
        )
        assumed += not sequence
        candidates.append(Candidate(scan=scan, row=row, source=location))
    unique, repeated = reject_duplicate_ids(candidates)
    warnings = [f"sequence: unknown for {assumed} scans, assumed T1w"] if assumed else []
    return ReaderResult(
        title=path.stem, root=root, candidates=unique, rejected=[*rejected, *repeated], warnings=warnings
    )


def _sequence(stated: str, files: list[Path]) -> tuple[str, str]:
    """Sequence of a scan by its row, else by its files, and the reason for a rejection; empty if unknown."""
    findings = [finding for finding in map(file_sequence, files) if finding != SequenceFinding()]
    by_file = findings[0] if findings else SequenceFinding()
    if not stated:
        return by_file.sequence or "", by_file.reason
    sequence = next((name for name in SEQUENCES if name.lower() == stated.lower()), None) or sequence_of(stated)
    if sequence is None:
        return "", f"sequence {stated!r} is none of {', '.join(SEQUENCES)}"
    if by_file.sequence and by_file.sequence != sequence:
        return "", f"sequence {sequence} in the table, {by_file.sequence} by the file"
    return sequence, ""


def _site(cells: Mapping[str, str]) -> str | None:
    """Site; a missing site of a pooled cohort is the cohort's unknown site."""
    site, cohort = (cells.get(name, "") for name in ("site", "cohort"))
    if not is_missing_name(site):
        return site
    return None if is_missing_name(cohort) else f"{UNKNOWN_SITE} ({cohort})"


def _stem(paths: str) -> str:
    """The first file's name without its suffixes."""
    return re.sub(r"\.(nii\.gz|[a-z]+)$", "", Path(paths.split(SEPARATOR)[0].strip()).name)


def _kind(paths: tuple[str, ...], planes: tuple[str, ...]) -> tuple[str, str]:
    """Kind of the paths, and the reason for a rejection."""
    if all(path.lower().endswith(IMAGE_SUFFIXES) for path in paths):
        if len(planes) != len(paths):
            return "", f"{len(paths)} images and {len(planes)} planes: the column 'planes' names one for each"
        if unknown_planes := [plane for plane in planes if plane not in PLANES]:
            return "", f"plane {unknown_planes[0]!r} is none of {', '.join(PLANES)}"
        return "slices", ""
    if len(paths) == 1 and paths[0].lower().endswith(SUFFIXES):
        return "volume", "a volume has no planes" if planes else ""
    return "", f"paths are neither one volume ({', '.join(SUFFIXES)}) nor images ({', '.join(IMAGE_SUFFIXES)})"
