"""OASIS-1 (cross-sectional) and OASIS-2 (longitudinal): session folders as downloaded, or NIfTI files, and the table.

Downloaded: ``disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_masked_gfc.hdr`` and
``.img``, Analyze 7.5; OASIS-2: ``OAS2_0001_MR1/RAW/mpr-1.nifti.hdr``. NIfTI files carry the session
(``OAS1_0001_MR1...nii.gz``) or the person (``sub-0001...``, then the first session) in their name, or are listed in an
``index.csv`` (``file``, ``ID``) beside them.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

from debian_mri.cohorts.base import Candidate, ReaderOptions, ReaderResult, implausibility, read_rows
from debian_mri.cohorts.oasis.ratings import CITATION, CITATION_2, NOTES, SESSION, oasis_label, oasis_row
from debian_mri.data.manifest import Rejection, Scan
from icube_common.data.reader import require_file, require_folder
from icube_common.errors import InputError

EXPECTED = "OASIS session folders (OAS1_0001_MR1/...) or NIfTI files"
TABLE_NAMES = ("oasis_cross-sectional.csv", "oasis_longitudinal.csv")
# of a session's many files: in the atlas' space, skull-stripped, gain field corrected; OASIS-2 has raw ones only
DOWNLOADED = re.compile(r".*_t88_masked_gfc\.(hdr|img|nii|nii\.gz)|mpr-1\.nifti\.(hdr|img)")
NIFTI = re.compile(r".*\.nii(\.gz)?")
PERSON = re.compile(r"sub-(?:OAS1)?(?P<number>\d{4})(?!\d)")


def find(source: Path, options: ReaderOptions) -> ReaderResult:
    """One scan an image whose session has a CDR.

    Raises:
        InputError: no such folder, no image of OASIS in it, no table, or one without the set's columns.
    """
    root = require_folder(source, EXPECTED)
    listed = _listed(root / "index.csv")
    images = _images(root, listed)
    if not images:
        raise InputError(f"{source}: no image of OASIS in it; expected {EXPECTED}")
    table, rows = _table(root, options.participants)
    differ = _add_listed(rows, root / "index.csv")
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    for session, paths in sorted(images.items()):
        match = SESSION.fullmatch(session)
        if match is None:
            rejected += [Rejection(path, "unknown session of OASIS") for path in paths]
            continue
        path = paths[0]
        cells = rows.get(session)
        label, reason = ("", f"has no row in {table.name}") if cells is None else oasis_label(cells["CDR"])
        unrated = cells is not None and not cells["CDR"]
        row = oasis_row(cells or {})
        reason = reason or implausibility(row)
        if session in differ:
            reason = f"{table.name} and index.csv give it different CDRs"
        if len(paths) > 1:
            reason = reason or f"{len(paths)} images of one session: ambiguous"
        if reason:
            rejected.append(Rejection(session, reason, by_rule=unrated))
            continue
        scan = Scan(id=session, subject=match["subject"], session=match["session"], label=label, paths=(path,))
        handling = "analyze" if path.endswith((".hdr", ".img")) else "as is"
        candidates.append(Candidate(scan=scan, row=row, source=session, handling=handling))
    warnings = list(NOTES)
    if without := len(set(rows) - set(images)):
        warnings.append(f"{without} rows of {table.name} have no image here")
    if any(one.handling == "analyze" for one in candidates):
        warnings.append(
            "Analyze files have no orientation: the format's convention is assumed (first axis to the left); "
            "a left-right flip cannot be detected"
        )
    longitudinal = any(session.startswith("OAS2") for session in images)
    title, citation = ("OASIS-2", CITATION_2) if longitudinal else ("OASIS-1", CITATION)
    return ReaderResult(
        title=title, citation=citation, root=root, candidates=candidates, rejected=rejected, warnings=warnings
    )


def _listed(index: Path) -> dict[str, str]:
    """Start of a file's name -> session, of an ``index.csv`` where there is one."""
    if not index.is_file():
        return {}
    rows = list(read_rows(index, ("file", "ID")))
    return {re.sub(r"\.nii(\.gz)?$", "", row["file"]): row["ID"] for _, row in rows if row["file"]}


def _add_listed(rows: dict[str, dict[str, str]], index: Path) -> set[str]:
    """Add those rows of an ``index.csv`` that the table lacks; the sessions of which both know another CDR."""
    differ = set()
    for _, cells in read_rows(index, ("ID",)) if index.is_file() else ():
        if "CDR" in cells and rows.setdefault(cells["ID"], cells)["CDR"] != cells["CDR"]:
            differ.add(cells["ID"])
    return differ


def _images(root: Path, listed: dict[str, str]) -> dict[str, list[str]]:
    """Session -> its images below the root (the header of a pair); what names no session is its own key."""
    images: dict[str, list[str]] = defaultdict(list)
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        inside = SESSION.search(Path(folder).relative_to(root).as_posix()) or SESSION.search(root.name)
        for name in sorted(names):
            if name.startswith(".") or not (NIFTI.fullmatch(name) or (inside and DOWNLOADED.fullmatch(name))):
                continue
            if name.endswith(".img") and name[:-4] + ".hdr" in names:
                continue
            path = (Path(folder) / name).relative_to(root).as_posix()
            images[_session(name, inside[0] if inside else "", listed) or path].append(path)
    return images


def _session(name: str, folder: str, listed: dict[str, str]) -> str:
    """Session of a file, empty if unknown."""
    for start, session in listed.items():
        if name.startswith(start):
            return session
    if match := SESSION.search(name):
        return match[0]
    if folder:
        return folder
    if match := PERSON.match(name):
        return f"OAS1_{match['number']}_MR1"
    return ""


def _table(root: Path, participants: Path | None) -> tuple[Path, dict[str, dict[str, str]]]:
    """The table's path, and session -> its cells."""
    if participants is not None:
        path = require_file(participants, "--participants", "the set's CSV")
    else:
        paths = [folder / name for folder in (root, root.parent) for name in TABLE_NAMES] + [root / "index.csv"]
        existing = [file for file in paths if file.is_file()]
        if not existing:
            raise InputError(
                f"{root}: no {TABLE_NAMES[0]} in it or beside it: name the set's table with --participants"
            )
        path = existing[0]
    rows: dict[str, dict[str, str]] = {}
    for line, cells in read_rows(path, ("CDR",)):
        session = cells.get("MRI ID") or cells.get("ID") or ""
        if not SESSION.fullmatch(session):
            raise InputError(f"{path}: line {line}: {session!r} is no session of OASIS (OAS1_0001_MR1, OAS2_0001_MR1)")
        if session in rows and rows[session] != cells:
            raise InputError(f"{path}: line {line}: session {session} is there twice, with other values")
        rows[session] = cells
    return path, rows
