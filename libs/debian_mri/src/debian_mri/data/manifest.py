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

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from debian_mri import RESEARCH_ONLY
from debian_mri.data.clinical_variables import Column, is_missing_name
from debian_mri.data.participants import Participants, read_columns
from icube_common.errors import InputError, unknown
from icube_common.io.csv import file_digest, read_table
from icube_common.io.runs import read_json

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


class Manifest:
    """Prepared set of scans.

    Args:
        folder: prepared folder.
        about: content of ``dataset.json``.
        scans: rows.
        root: root of relative paths; by default that of ``dataset.json``, itself relative to the folder.
    """

    def __init__(
        self, folder: str | Path, about: Mapping[str, Any], scans: Sequence[Scan], *, root: str | Path | None = None
    ) -> None:
        self.folder = Path(folder)
        self.about = dict(about)
        self.scans = tuple(scans)
        self.root = Path(root) if root is not None else self.folder / str(about["root"])

    @classmethod
    def load(cls, folder: str | Path, *, root: str | Path | None = None) -> Manifest:
        """Read and check a prepared folder.

        Args:
            folder: output of ``debian-mri prepare`` or ``simulate``.
            root: new root of moved images.

        Raises:
            InputError: a file is missing or damaged; the file, the line and the value are named.
        """
        about = read_about(folder)
        scans = list(_read_rows(Path(folder) / "manifest.csv", set(about["class_names"])))
        if not scans:
            raise InputError(f"{Path(folder) / 'manifest.csv'}: holds no scan: prepare the set again")
        return cls(folder, about, scans, root=root)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the set's own order."""
        return tuple(self.about["class_names"])

    @property
    def simulated(self) -> bool:
        """True for simulated scans."""
        return bool(self.about["simulated"])

    @cached_property
    def index(self) -> dict[str, int]:
        """Scan id -> row."""
        return {scan.id: row for row, scan in enumerate(self.scans)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ``manifest.csv``: names the data in a run's records."""
        return file_digest(self.folder / "manifest.csv")

    def paths_of(self, scan: Scan) -> tuple[Path, ...]:
        """Paths of a scan's images."""
        return tuple(self.root / path for path in scan.paths)

    def scan(self, scan_id: str) -> Scan:
        """Scan by id.

        Raises:
            InputError: unknown id; the nearest is given.
        """
        if scan_id not in self.index:
            raise unknown("scan", scan_id, self.index)
        return self.scans[self.index[scan_id]]

    def targets(self) -> npt.NDArray[np.int64]:
        """(scans,) class index of each scan, in the order of `class_names`."""
        number = {name: index for index, name in enumerate(self.class_names)}
        return np.array([number[scan.label] for scan in self.scans], dtype=np.int64)

    @property
    def sites(self) -> tuple[str, ...] | None:
        """Sites of the scans, `UNKNOWN_SITE` if missing; None for a set without sites."""
        if not any(scan.site for scan in self.scans):
            return None
        return tuple(scan.site or UNKNOWN_SITE for scan in self.scans)

    def samples(self) -> Samples:
        """Samples of an evaluation: groups are subjects; for sites see `sites`."""
        from icube_common.evaluation import Samples

        return Samples(
            ids=[scan.id for scan in self.scans],
            labels=self.targets(),
            class_names=self.class_names,
            groups=[scan.subject for scan in self.scans],
            sites=self.sites,
        )

    def participants(self) -> Participants:
        """Clinical variables, one row per scan in the manifest's order.

        Raises:
            InputError: ``participants.csv`` is damaged.
        """
        return Participants.read(
            self.folder / "participants.csv", [scan.id for scan in self.scans], self.about["columns"]
        )


def read_about(folder: str | Path) -> dict[str, Any]:
    """Read and check ``dataset.json`` of a prepared folder.

    Raises:
        InputError: no such folder, or missing or invalid keys.
    """
    path = Path(folder) / "dataset.json"
    if not path.is_file():
        raise InputError(f"{folder}: not a prepared set (no dataset.json in it): make one with debian-mri prepare")
    about = read_json(path)
    if not isinstance(about, dict):
        raise InputError(f"{path}: must hold an object")
    kinds: dict[str, type] = {
        "format": str,
        "title": str,
        "root": str,
        "class_names": list,
        "columns": dict,
        "counts": dict,
    }
    kinds |= {"simulated": bool, "citation": str, "manifest_sha256": str, "space": str}
    for key, kind in kinds.items():
        if not isinstance(about.get(key), kind):
            raise InputError(f"{path}: {key}: {about.get(key)!r} is not a {kind.__name__}: prepare the set again")
    if about["space"] not in SPACES:
        raise InputError(f"{path}: space: {about['space']!r} is none of {', '.join(SPACES)}")
    names = about["class_names"]
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise InputError(f"{path}: class_names: {names!r} must be different names, at least one")
    read_columns(about["columns"], path)
    return about


def _read_rows(path: Path, classes: set[str]) -> Iterator[Scan]:
    """Scans of a ``manifest.csv``; InputError names the line of the first invalid value."""
    seen: set[str] = set()
    for line, row in read_table(path, COLUMNS):
        location = f"{path}: line {line}"
        for name in ("id", "subject", "label", "sequence", "kind", "paths"):
            if not row[name]:
                raise InputError(f"{location}: {name} is empty")
        if row["id"] in seen:
            raise InputError(f"{location}: id {row['id']!r} occurs twice")
        seen.add(row["id"])
        if row["label"] not in classes:
            raise InputError(f"{location}: label: {unknown('class', row['label'], classes)}")
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
    about: Mapping[str, Any],
    scans: Sequence[Scan],
    participants_rows: Mapping[str, Mapping[str, str]],
    rejected: Iterable[Rejection] = (),
    *,
    columns: Sequence[Column] = (),
) -> None:
    """Write the four tables into a temporary folder (`icube_common.io.runs.atomic_folder`).

    Args:
        folder: existing folder.
        about: format, title, root, class_names and further entries of ``dataset.json``. Counts, the manifest's digest
            and the defaults of ``simulated`` (false), ``citation`` (empty), ``space`` ("native") are added.
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
        "columns": {column.name: column.to_dict() for column in columns},
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
