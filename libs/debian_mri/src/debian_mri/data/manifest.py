"""Manifest of a prepared data set: one row per scan with diagnosis, subject and image files.

A prepared folder holds

- ``manifest.csv``: id, subject, session, label, site, sequence, kind, paths, planes, sha256 (of voxels, not of files);
- ``participants.csv``: id and clinical variables, empty if missing;
- ``dataset.json``: format, title, root, class names, columns with leakage tier, unit and meaning, counts, source;
- ``rejected.csv``: rejected scans with reasons;
- ``nifti/``: converted volumes.

Written by `debian_mri.data.prepare` and `debian_mri.simulation`; reading needs neither torch nor pandas nor nibabel.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debian_mri import RESEARCH_ONLY
from debian_mri.data.clinical_variables import Column, is_missing_name
from debian_mri.data.participants import Participants, read_columns
from icube_common.data.manifest import PreparedSet, read_description, read_manifest_rows, write_description, write_rows
from icube_common.errors import InputError

if TYPE_CHECKING:
    from icube_common.evaluation import Samples

COLUMNS = ("id", "subject", "session", "label", "site", "sequence", "kind", "paths", "planes", "sha256")
KINDS = ("volume", "slices")
PLANES = ("axial", "coronal", "sagittal")
SPACES = ("native", "mni")
SEPARATOR = ";"
# site of scans without one, in a set with sites
UNKNOWN_SITE = "unknown"


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Scan of a subject.

    Attributes:
        id: unique in the manifest.
        subject: subject.
        label: class, as spelled by the set.
        session: visit, None if unknown.
        site: scanner or centre, None if unknown.
        sequence: BIDS suffix: "T1w", "T2w", "FLAIR", "PDw", ...
        kind: "volume" (one NIfTI file) or "slices" (2-D images).
        paths: relative to the manifest's root, or absolute.
        planes: of slices: "axial", "coronal" or "sagittal", one a path.
        sha256: digest of the voxels, equal for duplicates of an image.
    """

    id: str
    subject: str
    label: str
    session: str | None = None
    site: str | None = None
    sequence: str = "T1w"
    kind: str = "volume"
    paths: tuple[str, ...]
    planes: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True)
class Rejection:
    """Rejected scan with the reason.

    Attributes:
        source: name of the scan; a line or a hashed key where paths may identify the subject.
        reason: one line.
        by_rule: excluded by a rule of the cohort or an option, not by an error; ignored by ``--strict``.
    """

    source: str
    reason: str
    by_rule: bool = False


class Manifest(PreparedSet[Scan]):
    """Prepared set of scans; see `icube_common.data.manifest.PreparedSet` for its arguments."""

    @property
    def scans(self) -> tuple[Scan, ...]:
        """Scans, one per row."""
        return self.rows

    @classmethod
    def load(cls, folder: str | Path, *, root: str | Path | None = None) -> Manifest:
        """Read and check a prepared folder.

        Raises:
            InputError: a file is missing or damaged; the file, the line and the value are named.
        """
        description = read_about(folder)
        scans = list(_read_rows(folder, description["class_names"]))
        if not scans:
            raise InputError(f"{Path(folder) / 'manifest.csv'}: holds no scan: prepare the set again")
        return cls(folder, description, scans, root=root)

    def paths_of(self, scan: Scan) -> tuple[Path, ...]:
        """Paths of a scan's images."""
        return tuple(self.root / path for path in scan.paths)

    @property
    def sites(self) -> tuple[str, ...] | None:
        """Sites of the scans, `UNKNOWN_SITE` if missing; None for a set without sites."""
        if not any(scan.site for scan in self.scans):
            return None
        return tuple(scan.site or UNKNOWN_SITE for scan in self.scans)

    def samples(self) -> Samples:
        """Samples of an evaluation: groups are subjects; for sites see `sites`."""
        return self.make_samples([scan.subject for scan in self.scans], self.sites)

    def participants(self) -> Participants:
        """Clinical variables, one row per scan in the manifest's order.

        Raises:
            InputError: ``participants.csv`` is damaged.
        """
        return Participants.read(
            self.folder / "participants.csv", [scan.id for scan in self.scans], self.description["columns"]
        )


def read_about(folder: str | Path) -> dict[str, Any]:
    """Read and check ``dataset.json`` of a prepared folder.

    Raises:
        InputError: no such folder, or missing or invalid keys.
    """
    kinds: dict[str, type] = {
        "format": str,
        "title": str,
        "root": str,
        "class_names": list,
        "columns": dict,
        "counts": dict,
    }
    kinds |= {"simulated": bool, "citation": str, "manifest_sha256": str, "space": str}
    description = read_description(folder, kinds, command="debian-mri prepare")
    path = Path(folder) / "dataset.json"
    if description["space"] not in SPACES:
        raise InputError(f"{path}: space: {description['space']!r} is none of {', '.join(SPACES)}")
    names = description["class_names"]
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise InputError(f"{path}: class_names: {names!r} must be different names, at least one")
    read_columns(description["columns"], path)
    return description


def _read_rows(folder: str | Path, classes: Sequence[str]) -> Iterator[Scan]:
    """Scans of a ``manifest.csv``; InputError names the line of the first invalid value."""
    filled = ("id", "subject", "label", "sequence", "kind", "paths")
    for location, row in read_manifest_rows(folder, COLUMNS, filled=filled, classes=classes):
        if row["kind"] not in KINDS:
            raise InputError(f"{location}: kind: {row['kind']!r} is none of {', '.join(KINDS)}")
        if row["sha256"] and not re.fullmatch("[0-9a-f]{64}", row["sha256"]):
            raise InputError(f"{location}: sha256: {row['sha256']!r} is no SHA-256")
        paths = tuple(row["paths"].split(SEPARATOR))
        planes = tuple(row["planes"].split(SEPARATOR)) if row["planes"] else ()
        if not all(paths):
            raise InputError(f"{location}: paths: {row['paths']!r} has an empty path")
        if invalid := [plane for plane in planes if plane not in PLANES]:
            raise InputError(f"{location}: planes: {invalid[0]!r} is none of {', '.join(PLANES)}")
        if row["kind"] == "volume" and (len(paths) > 1 or planes):
            raise InputError(f"{location}: a volume has one path and no planes")
        if row["kind"] == "slices" and len(planes) != len(paths):
            raise InputError(f"{location}: {len(paths)} paths and {len(planes)} planes, one for each is needed")
        yield Scan(
            id=row["id"],
            subject=row["subject"],
            label=row["label"],
            session=None if is_missing_name(row["session"]) else row["session"],
            site=None if is_missing_name(row["site"]) else row["site"],
            sequence=row["sequence"],
            kind=row["kind"],
            paths=paths,
            planes=planes,
            sha256=row["sha256"],
        )


def write_manifest(
    folder: str | Path,
    description: Mapping[str, Any],
    scans: Sequence[Scan],
    participants_rows: Mapping[str, Mapping[str, str]],
    rejected: Iterable[Rejection] = (),
    *,
    columns: Sequence[Column] = (),
) -> None:
    """Write the four tables into a temporary folder (`icube_common.io.runs.atomic_folder`).

    Args:
        folder: existing folder.
        description: format, title, root, class_names and further entries of ``dataset.json``. Counts, the manifest's
            digest and the defaults of ``simulated`` (false), ``citation`` (empty), ``space`` ("native") are added.
        scans: the rows; ids are unique.
        participants_rows: scan id -> variable -> text, empty or left out where missing; categories as words.
        rejected: rejections.
        columns: variables, in the order of the table.

    Raises:
        InputError: a path with the separator of paths in it.
    """
    folder = Path(folder)
    assert len({scan.id for scan in scans}) == len(scans), "scan ids are unique"
    if invalid := [path for scan in scans for path in scan.paths if SEPARATOR in path]:
        raise InputError(f"{invalid[0]}: a path may not hold {SEPARATOR!r}: rename the file")
    rejected = list(rejected)
    write_rows(
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
    write_rows(
        folder / "participants.csv",
        ("id", *names),
        ((scan.id, *(participants_rows.get(scan.id, {}).get(name, "") for name in names)) for scan in scans),
    )
    write_rows(folder / "rejected.csv", ("source", "reason"), ((row.source, row.reason) for row in rejected))
    whole = {
        "simulated": False,
        "citation": "",
        "space": "native",
        **description,
        "columns": {column.name: column.to_dict() for column in columns},
        "counts": count_scans(scans) | {"rejected": len(rejected)},
        "notice": RESEARCH_ONLY,
    }
    write_description(folder, whole)


def count_scans(scans: Sequence[Scan]) -> dict[str, Any]:
    """Numbers of scans, subjects, and of scans of each class, site and sequence."""
    return {
        "scans": len(scans),
        "subjects": len({scan.subject for scan in scans}),
        "classes": dict(Counter(scan.label for scan in scans)),
        "sites": dict(Counter(scan.site for scan in scans if scan.site)),
        "sequences": dict(Counter(scan.sequence for scan in scans)),
    }
