"""Slices of OASIS-1: ``index.csv`` (one row a session, the set's variables, names of 3 images) and ``images/``.

Marcus et al., Open Access Series of Imaging Studies (OASIS), J Cogn Neurosci 19(9), 2007. Ids are the published ones.
"""

from __future__ import annotations

from pathlib import Path

from debian_mri.cohorts.base import Candidate, ReaderOptions, ReaderResult, read_rows, reject_duplicate_ids
from debian_mri.cohorts.oasis.ratings import CITATION, NOTES, SESSION, oasis_label, oasis_row
from debian_mri.data.manifest import PLANES, Rejection, Scan
from icube_common.data.reader import require_file, require_folder
from icube_common.errors import InputError


def find(source: Path, options: ReaderOptions) -> ReaderResult:
    """One scan of kind "slices" a row.

    Raises:
        InputError: no such folder, no index, a column is missing, or no row.
    """
    root = require_folder(source, "a folder with index.csv and images/")
    index = require_file(root / "index.csv", "index.csv", "one row a session")
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    for line, cells in read_rows(index, ("ID", "label", "CDR", *PLANES)):
        source_name = cells["ID"] or f"line {line} of index.csv"
        match = SESSION.fullmatch(cells["ID"])
        label, reason = oasis_label(cells["CDR"])
        if match is None:
            reason = "ID is none of OASIS-1 (OAS1_0001_MR1)"
        elif not reason and cells["label"] != label:
            reason = f"label {cells['label']!r} contradicts CDR {cells['CDR']}"
        planes = tuple(plane for plane in PLANES if cells[plane])
        if not reason and not planes:
            reason = "names no image"
        if reason or match is None:
            rejected.append(Rejection(source_name, reason, by_rule=not cells["CDR"]))
            continue
        scan = Scan(
            id=cells["ID"],
            subject=match["subject"],
            session=match["session"],
            label=label,
            kind="slices",
            paths=tuple(f"images/{cells[plane]}" for plane in planes),
            planes=planes,
        )
        row = oasis_row({name: text for name, text in cells.items() if name not in PLANES})
        candidates.append(Candidate(scan=scan, row=row, source=source_name))
    if not candidates and not rejected:
        raise InputError(f"{index}: no row below the head line")
    unique, repeated = reject_duplicate_ids(candidates)
    return ReaderResult(
        title="OASIS-1, slices",
        citation=CITATION,
        root=root,
        candidates=unique,
        rejected=[*rejected, *repeated],
        warnings=list(NOTES),
    )
