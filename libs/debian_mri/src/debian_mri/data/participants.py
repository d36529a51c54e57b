"""The people's variables: one row a scan, missing values as NaN, tiers that guard what a model is given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from debian_mri.data.clinical_variables import KINDS, LEAKAGE_TIERS, Column
from icube_common.errors import InputError, unknown
from icube_common.tables import read_table

if TYPE_CHECKING:
    from icube_common.numeric import NumericTable


@dataclass(frozen=True, eq=False, kw_only=True)
class Participants:
    """Variables of scans.

    Attributes:
        ids: of the scans, N of them.
        columns: P variables.
        values: (N, P) float64, NaN where missing; a category as its place in ``column.values``.
    """

    ids: tuple[str, ...]
    columns: tuple[Column, ...]
    values: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        assert self.values.shape == (len(self.ids), len(self.columns))

    @property
    def names(self) -> tuple[str, ...]:
        """The variables' names."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """A variable by name.

        Raises:
            InputError: there is none of that name; the nearest is given.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise unknown("column of participants", name, self.names)

    def with_leakage_tier(self, leakage_tier: str) -> tuple[str, ...]:
        """Names of the variables of a tier, without those that are missing everywhere."""
        missing = self.missing()
        return tuple(
            column.name
            for column in self.columns
            if column.leakage_tier == leakage_tier and missing[column.name] < len(self.ids)
        )

    def missing(self) -> dict[str, int]:
        """Name -> in how many scans it is missing."""
        counts = np.isnan(self.values).sum(axis=0)
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}

    def cell(self, scan_id: str, name: str) -> str:
        """A value in words with its unit (``"74 years"``, ``"F"``); empty where missing."""
        column = self.column(name)
        if scan_id not in self.ids:
            raise unknown("scan of participants", scan_id, self.ids)
        value = float(self.values[self.ids.index(scan_id), self.names.index(name)])
        if math.isnan(value):
            return ""
        if column.kind == "category":
            return column.values[int(value)]
        return f"{value:g} {column.unit}".strip()

    def select(self, names: Sequence[str], *, allow_diagnostic: bool = False) -> NumericTable:
        """Variables as numbers, NaN where missing: nothing is filled in here.

        A category of two values is one column of 0 and 1, one of more is an indicator for each (``"race = A"``): their
        order means nothing.

        Args:
            names: in this order.
            allow_diagnostic: take variables that are close to the diagnosis by construction.

        Raises:
            InputError: an unknown name, one that comes twice, or one of tier C without the flag.
        """
        from icube_common.numeric import NumericTable

        titles: list[str] = []
        units: list[str] = []
        parts: list[npt.NDArray[np.float64]] = []
        for name in names:
            column = self.column(name)
            if column.leakage_tier == "C" and not allow_diagnostic:
                raise InputError(
                    f"{name}: is of tier C ({column.meaning or 'not described, so taken for close to the diagnosis'}): "
                    "leave it out, or set demographics.allow_diagnostic=true, which stamps the report"
                )
            values = self.values[:, self.names.index(name)]
            if column.kind == "category" and len(column.values) > 2:
                for place, word in enumerate(column.values):
                    titles.append(f"{name} = {word}")
                    units.append("")
                    parts.append(np.where(np.isnan(values), np.nan, (values == place).astype(np.float64)))
            else:
                titles.append(name)
                units.append(column.unit)
                parts.append(values)
        stacked = np.stack(parts, axis=1) if parts else np.zeros((len(self.ids), 0))
        return NumericTable(ids=self.ids, names=tuple(titles), values=stacked, units=tuple(units))

    @classmethod
    def read(cls, path: Path, ids: Sequence[str], columns: Mapping[str, Mapping[str, Any]]) -> Participants:
        """Read ``participants.csv``.

        Args:
            path: the file.
            ids: the manifest's scans; a scan without a row has no values.
            columns: of ``dataset.json``, see `read_columns`.

        Raises:
            InputError: a column without a description, an unknown or repeated id, a value that is no number or none of
                the category's words; the line is named.
        """
        described = read_columns(columns, path)
        place = {scan_id: row for row, scan_id in enumerate(ids)}
        values = np.full((len(ids), len(described)), np.nan)
        seen: set[str] = set()
        for line, row in read_table(path, ("id", *(column.name for column in described))):
            where = f"{path}: line {line}"
            if extra := set(row) - {"id"} - {column.name for column in described}:
                raise InputError(f"{path}: line 1: column {sorted(extra)[0]!r} is not described in dataset.json")
            if row["id"] not in place or row["id"] in seen:
                problem = "is there twice" if row["id"] in seen else "is not in the manifest"
                raise InputError(f"{where}: id {row['id']!r} {problem}")
            seen.add(row["id"])
            for at, column in enumerate(described):
                values[place[row["id"]], at] = _number(column, row[column.name], where)
        return cls(ids=tuple(ids), columns=described, values=values)


def read_columns(columns: Mapping[str, Mapping[str, Any]], path: Path) -> tuple[Column, ...]:
    """The descriptions of ``dataset.json``, checked.

    Raises:
        InputError: one lacks a key, or has an unknown tier or kind.
    """
    wanted = {"leakage_tier", "unit", "kind", "values", "meaning"}
    answer = []
    for name, about in columns.items():
        where = f"{path.parent / 'dataset.json'}: columns: {name}"
        if not isinstance(about, Mapping) or set(about) != wanted:
            raise InputError(f"{where}: must have exactly the keys {', '.join(sorted(wanted))}: prepare the set again")
        for key, known in (("leakage_tier", LEAKAGE_TIERS), ("kind", KINDS)):
            if about[key] not in known:
                raise InputError(f"{where}: {key}: {about[key]!r} is none of {', '.join(known)}")
        answer.append(Column(name=name, **{**about, "values": tuple(about["values"])}))
    return tuple(answer)


def _number(column: Column, text: str, where: str) -> float:
    if not text:
        return math.nan
    if column.kind == "category":
        if text not in column.values:
            raise InputError(f"{where}: {column.name}: {unknown('value', text, column.values)}")
        return float(column.values.index(text))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {column.name}: {text!r} is no finite number (empty where missing)")
    return value
