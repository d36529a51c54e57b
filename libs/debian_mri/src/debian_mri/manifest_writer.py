"""Writing a prepared folder's tables, for `debian_mri.prepare` and `debian_mri.simulate`."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from debian_mri.manifest import COLUMNS, SEPARATOR, Scan
from debian_mri.notice import RESEARCH_ONLY
from debian_mri.variables import Column
from icube_common.errors import InputError
from icube_common.io.csv import file_digest


@dataclass(frozen=True)
class Rejection:
    """What is not used, and why.

    Attributes:
        source: which one; where paths may tell who was scanned, a line or a hashed key.
        reason: in one line.
        by_rule: nothing is wrong with it, a rule of the cohort or an option leaves it out; ``--strict`` goes on.
    """

    source: str
    reason: str
    by_rule: bool = False


def write_manifest(
    folder: str | Path,
    about: Mapping[str, Any],
    scans: Sequence[Scan],
    participants_rows: Mapping[str, Mapping[str, str]],
    rejected: Iterable[Rejection] = (),
    *,
    columns: Sequence[Column] = (),
) -> None:
    """Write the four tables into a folder that is still being made (`icube_common.io.runs.atomic_folder`).

    Args:
        folder: the (temporary) folder; it exists.
        about: format, title, root, class_names and whatever else belongs into ``dataset.json``. Counts, the manifest's
            digest, and ``simulated`` (false), ``citation`` (empty), ``space`` ("native") where not given, are added.
        scans: the rows; ids are unique.
        participants_rows: scan id -> variable -> text, empty or left out where missing; categories as words.
        rejected: what could not be used.
        columns: the variables, in the order of the table.

    Raises:
        InputError: a path holds the character that separates paths.
    """
    folder = Path(folder)
    assert len({scan.id for scan in scans}) == len(scans), "scan ids are unique"
    if bad := [path for scan in scans for path in scan.paths if SEPARATOR in path]:
        raise InputError(f"{bad[0]}: a path may not hold {SEPARATOR!r}: rename the file")
    rejected = list(rejected)
    _write_rows(
        folder / "manifest.csv",
        COLUMNS,
        (
            (
                *(scan.id, scan.subject, scan.session or "", scan.label, scan.site or "", scan.sequence, scan.kind),
                *(SEPARATOR.join(scan.paths), SEPARATOR.join(scan.planes), scan.sha256),
            )
            for scan in scans
        ),
    )
    names = [column.name for column in columns]
    _write_rows(
        folder / "participants.csv",
        ("id", *names),
        ((scan.id, *(participants_rows.get(scan.id, {}).get(name, "") for name in names)) for scan in scans),
    )
    _write_rows(folder / "rejected.csv", ("source", "reason"), ((row.source, row.reason) for row in rejected))
    whole = {
        "simulated": False,
        "citation": "",
        "space": "native",
        **about,
        "columns": {column.name: column.about() for column in columns},
        "counts": count_scans(scans) | {"rejected": len(rejected)},
        "manifest_sha256": file_digest(folder / "manifest.csv"),
        "notice": RESEARCH_ONLY,
    }
    (folder / "dataset.json").write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def count_scans(scans: Sequence[Scan]) -> dict[str, Any]:
    """Numbers of scans, subjects, and of scans of each class, site and sequence."""
    return {
        "scans": len(scans),
        "subjects": len({scan.subject for scan in scans}),
        "classes": dict(Counter(scan.label for scan in scans)),
        "sites": dict(Counter(scan.site for scan in scans if scan.site)),
        "sequences": dict(Counter(scan.sequence for scan in scans)),
    }


def _write_rows(path: Path, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
