"""Table of volumes: scans by structures, in mL, with the program that measured each scan.

The CSV file has the columns ``id``, ``source`` and those of the structures, empty where missing; the JSON file beside
it holds unit, source, disclaimers and citations, and names the file of the volumes by plane where there is one.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.volumes.planes import VolumePlanes, planes_path
from debian_mri.biomarkers.volumes.structures import INTRACRANIAL, SIDES, STRUCTURES
from icube_common.errors import InputError, unknown
from icube_common.io.csv import read_table
from icube_common.io.runs import atomic_file, read_json, write_json

UNIT = "mL"
_HEAD = ("id", "source")


@dataclass(frozen=True, eq=False, kw_only=True)
class VolumeTable:
    """Volumes of structures.

    Attributes:
        ids: scans.
        names: columns, each one of a structure of `debian_mri.biomarkers.volumes.structures.STRUCTURES`.
        values: (scans, columns) mL, NaN where missing.
        sources: program of each scan.
        quality: measures of quality control of each scan, name -> text; columns of the file after the volumes.
        disclaimers: one line each, for every output that uses the table.
        citations: publications and licences that an output has to name.
        planes: volumes by plane of the same scans; None for programs that give one number a structure.
        path: file that it was read from.

    Raises:
        InputError: an unknown structure, one that is there twice, or planes that do not sum to the volumes.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    values: Float[np.ndarray, "n s"]
    sources: tuple[str, ...]
    quality: tuple[Mapping[str, str], ...] = ()
    disclaimers: tuple[str, ...] = ()
    citations: tuple[str, ...] = ()
    planes: VolumePlanes | None = field(default=None, repr=False)
    path: Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        assert self.values.shape == (len(self.ids), len(self.names))
        assert len(self.sources) == len(self.ids) and len(self.quality) in (0, len(self.ids))
        for name in self.names:
            if name not in column_names():
                raise unknown("structure", name, column_names())
        for kind, listed in (("scan", self.ids), ("column", self.names)):
            if len(set(listed)) < len(listed):
                raise InputError(f"{kind} {next(one for one in listed if listed.count(one) > 1)!r} is there twice")
        if self.planes is not None:
            self.planes.check(self.ids, self.names, self.values)

    def column(self, name: str) -> Float[np.ndarray, " n"]:
        """Volumes of a column, mL; of a bilateral structure without a side, the sum of both sides.

        Raises:
            InputError: the table has no such column.
        """
        if name in STRUCTURES and STRUCTURES[name].bilateral:
            left, right = (self.column(f"{name}_{side}") for side in SIDES)
            return left + right
        if name not in self.names:
            raise unknown("structure", name, self.names)
        return self.values[:, self.names.index(name)]

    def relative(self, name: str) -> Float[np.ndarray, " n"]:
        """Volumes of `column` as a share of the intracranial volume.

        Raises:
            InputError: the table lacks the structure or the intracranial volume.
        """
        return self.column(name) / self.column(INTRACRANIAL)

    def select(self, ids: Sequence[str]) -> VolumeTable:
        """The rows of scans, in their order; a scan that is not in the table has NaN throughout."""
        places = {scan: row for row, scan in enumerate(self.ids)}
        values = np.full((len(ids), len(self.names)), np.nan)
        for row, scan in enumerate(ids):
            if scan in places:
                values[row] = self.values[places[scan]]
        return VolumeTable(
            ids=tuple(ids),
            names=self.names,
            values=values,
            sources=tuple(self.sources[places[scan]] if scan in places else "" for scan in ids),
            disclaimers=self.disclaimers,
            citations=self.citations,
            path=self.path,
        )

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the CSV file, the JSON file beside it, and the planes.

        Raises:
            InputError: a file exists and ``overwrite`` is false, or cannot be written.
        """
        path = Path(path)
        extra = sorted({name for row in self.quality for name in row})
        with (
            atomic_file(path, overwrite=overwrite) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as handle,
        ):
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow([*_HEAD, *self.names, *extra])
            for row, scan in enumerate(self.ids):
                cells = ["" if math.isnan(value) else repr(float(value)) for value in self.values[row]]
                quality = self.quality[row] if self.quality else {}
                writer.writerow([scan, self.sources[row], *cells, *(quality.get(name, "") for name in extra)])
        if self.planes is not None:
            self.planes.write(planes_path(path), overwrite=overwrite)
        write_json(path.with_suffix(".json"), self._description(path))
        return path

    def _description(self, path: Path) -> dict[str, Any]:
        return {
            "unit": UNIT,
            **({} if self.planes is None else {"planes": planes_path(path).name}),
            "sources": sorted(set(self.sources)),
            "disclaimers": list(self.disclaimers),
            "citations": list(self.citations),
            "notice": RESEARCH_ONLY,
        }

    @classmethod
    def read(cls, path: str | Path) -> VolumeTable:
        """Read a table of `write`; columns that are no structure are quality control.

        Raises:
            InputError: a file is missing or malformed; the line and the value are named.
        """
        path = Path(path)
        rows = list(read_table(path, _HEAD))
        if not rows:
            raise InputError(f"{path}: holds no scan")
        description = read_json(path.with_suffix(".json")) if path.with_suffix(".json").is_file() else {}
        if not isinstance(description, dict) or description.get("unit", UNIT) != UNIT:
            raise InputError(f"{path.with_suffix('.json')}: unit must be {UNIT}")
        planes = VolumePlanes.read(path.with_name(str(description["planes"]))) if "planes" in description else None
        names = tuple(name for name in rows[0][1] if name in column_names())
        extra = [name for name in rows[0][1] if name not in (*names, *_HEAD)]
        try:
            return cls(
                ids=tuple(row["id"] for _, row in rows),
                names=names,
                values=np.array([[_number(row[name], name, line) for name in names] for line, row in rows]),
                sources=tuple(row["source"] for _, row in rows),
                quality=tuple({name: row[name] for name in extra} for _, row in rows) if extra else (),
                disclaimers=tuple(description.get("disclaimers", ())),
                citations=tuple(description.get("citations", ())),
                planes=planes,
                path=path,
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def column_names() -> tuple[str, ...]:
    """Columns of all structures."""
    return tuple(name for structure in STRUCTURES.values() for name in structure.columns)


def _number(text: str, name: str, line: int) -> float:
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise InputError(f"line {line}: {name}: {text!r} is no volume in {UNIT}")
    return value
