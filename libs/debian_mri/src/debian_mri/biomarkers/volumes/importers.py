"""Import of volumes from other programs into one table, with the scans of a prepared set.

Formats: ``freesurfer`` (also FastSurfer): a folder of subjects, a ``stats`` folder, a ``.stats`` file, or a table of
``asegstats2table``; ``synthseg``: a CSV file or a folder of them; ``cat12``: a folder with ``label/`` and ``report/``,
XML files, or tables of regions.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from debian_mri.biomarkers.volumes import cat12, freesurfer, synthseg
from debian_mri.biomarkers.volumes.table import VolumeTable, column_names
from icube_common.errors import InputError, unknown
from icube_common.io.csv import read_text

FORMATS: Mapping[str, str] = {"freesurfer": "FreeSurfer", "synthseg": "SynthSeg", "cat12": "CAT12"}
_TABLES = (".csv", ".tsv", ".txt", ".dat", ".table")
_SUFFIX = re.compile(r"(\.nii|\.mgz)?(\.gz)?$|_(synthseg|seg)$", re.IGNORECASE)


class ScanName(Protocol):
    """Names of a scan, as `debian_mri.Scan` has them."""

    @property
    def id(self) -> str:
        """Unique in the set."""

    @property
    def subject(self) -> str:
        """Subject."""

    @property
    def session(self) -> str | None:
        """Visit, None if unknown."""


@dataclass(frozen=True)
class ImportSummary:
    """Summary of an import.

    Attributes:
        table: the volumes.
        unmatched: names in the source without a scan in the set.
        missing: scans of the set without volumes.
    """

    table: VolumeTable
    unmatched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Counts and names for ``--json``."""
        return {
            "scans": len(self.table.ids),
            "structures": list(self.table.names),
            "sources": sorted(set(self.table.sources)),
            "unmatched": list(self.unmatched),
            "missing": list(self.missing),
        }


def import_volumes(
    sources: str | Path | Sequence[str | Path], *, format: str = "auto", scans: Sequence[ScanName] | None = None
) -> ImportSummary:
    """Read volumes of other programs.

    Args:
        sources: files or folders of one program; volumes of a scan in several of them are joined.
        format: one of `FORMATS`, or "auto".
        scans: of a prepared set (``Manifest.load(DATA).scans``), whose ids replace the program's names. A name matches
            a scan's id, its subject and session (``sub-01_ses-02``), or a subject with one scan.

    Returns:
        The table, and the names without a partner.

    Raises:
        InputError: a file is missing, malformed or of another program; nothing matches; a name matches two scans; or
            two sources disagree on a volume.
    """
    paths = [Path(source) for source in ([sources] if isinstance(sources, (str, Path)) else sources)]
    volumes: dict[str, dict[str, float]] = {}
    kinds: set[str] = set()
    for path in paths:
        kind = detect_format(path) if format == "auto" else format
        if kind not in FORMATS:
            raise unknown("format", kind, ("auto", *FORMATS))
        kinds.add(kind)
        for name, row in _READERS[kind](path):
            scan = _SUFFIX.sub("", Path(name).name)
            _merge(volumes.setdefault(scan, {}), row, scan, path)
    if len(kinds) > 1:
        raise InputError(f"volumes of {' and '.join(sorted(kinds))}: programs must not be mixed in one table")
    if not volumes:
        raise InputError(f"{paths[0]}: holds no volumes")
    kind = next(iter(kinds))
    unmatched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    if scans is not None:
        places = match_names(list(volumes), scans)
        unmatched = tuple(name for name in volumes if name not in places)
        if not places:
            raise InputError(
                f"{paths[0]}: none of its {len(volumes)} names ({next(iter(volumes))!r}, ...) is a scan of "
                f"the set ({scans[0].id!r}, ...)"
            )
        by_scan = {places[name]: row for name, row in volumes.items() if name in places}
        missing = tuple(scan.id for scan in scans if scan.id not in by_scan)
        volumes = {scan.id: by_scan[scan.id] for scan in scans if scan.id in by_scan}
    names = tuple(name for name in column_names() if any(name in row for row in volumes.values()))
    table = VolumeTable(
        ids=tuple(volumes),
        names=names,
        values=np.array([[row.get(name, np.nan) for name in names] for row in volumes.values()]),
        sources=(FORMATS[kind],) * len(volumes),
        citations=_CITATIONS[kind],
    )
    return ImportSummary(table, unmatched, missing)


def detect_format(path: Path) -> str:
    """Format of a file or folder.

    Raises:
        InputError: missing, or of none of the programs.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        if freesurfer.stats_folders(path):
            return "freesurfer"
        files = sorted(file for file in path.rglob("*") if file.is_file())
        if any(cat12.is_cat12(file) for file in files):
            return "cat12"
        if any(_is_synthseg(file) for file in files):
            return "synthseg"
    elif freesurfer.is_stats(path):
        return "freesurfer"
    elif cat12.is_cat12(path):
        return "cat12"
    elif path.suffix.lower() in _TABLES:
        head = _head_line(path)
        if freesurfer.is_table_head(re.split(r"[\t,;]", head)[0].strip().strip('"')):
            return "freesurfer"
        if _is_synthseg(path):
            return "synthseg"
    raise InputError(f"{path}: no volumes of FreeSurfer, FastSurfer, SynthSeg or CAT12")


def match_names(names: Sequence[str], scans: Sequence[ScanName]) -> dict[str, str]:
    """Program's name -> scan id, for the names that match one.

    Raises:
        InputError: a name matches two scans, or two names the same scan.
    """
    keys: dict[str, set[str]] = defaultdict(set)
    of_subject: dict[str, list[str]] = defaultdict(list)
    for scan in scans:
        of_subject[scan.subject].append(scan.id)
        keys[_key(scan.id)].add(scan.id)
        if scan.session:
            keys[_key(f"{scan.subject}_{scan.session}")].add(scan.id)
            keys[_key(f"sub-{scan.subject}_ses-{scan.session}")].add(scan.id)
    for subject, ids in of_subject.items():
        if len(ids) == 1:
            for name in (subject, f"sub-{subject}"):
                keys[_key(name)].add(ids[0])
    places: dict[str, str] = {}
    for name in names:
        candidates = keys.get(_key(name), set())
        if len(candidates) > 1:
            raise InputError(f"{name}: matches the scans {' and '.join(sorted(candidates)[:2])}")
        if candidates:
            places[name] = next(iter(candidates))
    for scan_id in set(places.values()):
        matching = [name for name, place in places.items() if place == scan_id]
        if len(matching) > 1:
            raise InputError(f"{matching[0]} and {matching[1]}: both match the scan {scan_id}")
    return places


def _key(name: str) -> str:
    """Name for comparison: without case, the sequence's suffix and what BIDS puts between subject and session."""
    return re.sub(r"_(t1w?|mprage)$", "", name.lower()).replace("sub-", "").replace("_ses-", "_")


def _merge(volumes: dict[str, float], row: Mapping[str, float], scan: str, path: Path) -> None:
    for name, value in row.items():
        # tables are rounded: CAT12's to four digits
        if name in volumes and not math.isclose(volumes[name], value, rel_tol=1e-3, abs_tol=1e-3):
            raise InputError(f"{path}: {scan}: {name} is {value:g} mL here and {volumes[name]:g} mL in another source")
        volumes.setdefault(name, value)


def _read_freesurfer(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    if path.is_dir():
        yield from map(freesurfer.read_subject, freesurfer.stats_folders(path))
    elif freesurfer.is_stats(path):
        subject, volumes = freesurfer.read_stats(path)
        yield (path.parent.parent.name if path.parent.name == "stats" else subject), volumes
    else:
        yield from freesurfer.read_stats_table(path)


def _read_synthseg(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    files = [file for file in sorted(path.rglob("*.csv")) if _is_synthseg(file)] if path.is_dir() else [path]
    for file in files:
        yield from synthseg.read_table(file)


def _read_cat12(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    files = sorted(file for file in path.rglob("*") if cat12.is_cat12(file)) if path.is_dir() else [path]
    for file in files:
        if file.suffix == ".xml":
            yield cat12.read_xml(file)
        else:
            yield from cat12.read_region_table(file)


def _is_synthseg(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and synthseg.is_table(_head_line(path).split(","))


def _head_line(path: Path) -> str:
    return next(iter(read_text(path, expected="a table of volumes").splitlines()), "")


_READERS = {"freesurfer": _read_freesurfer, "synthseg": _read_synthseg, "cat12": _read_cat12}
_CITATIONS: Mapping[str, tuple[str, ...]] = {
    "freesurfer": (*freesurfer.CITATIONS, freesurfer.FASTSURFER),
    "synthseg": synthseg.CITATIONS,
    "cat12": cat12.CITATIONS,
}
