"""Clinical variables as a table: one row per scan, missing values as NaN, leakage tiers for the choice of inputs."""

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
from icube_common.io.csv import read_table

if TYPE_CHECKING:
    from icube_common.tabular import TabularData


@dataclass(frozen=True, eq=False, kw_only=True)
class Participants:
    """Clinical variables of scans.

    Attributes:
        ids: N scans.
        columns: P variables.
        values: (N, P) float64, NaN if missing; a category as its index in ``column.values``.
    """

    ids: tuple[str, ...]
    columns: tuple[Column, ...]
    values: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        assert self.values.shape == (len(self.ids), len(self.columns))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Variable by name.

        Raises:
            InputError: unknown name; the nearest is given.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise unknown("column of participants", name, self.names)

    def missing(self) -> dict[str, int]:
        """Name -> number of scans without a value."""
        counts = np.isnan(self.values).sum(axis=0)
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}

    def select(self, names: Sequence[str], *, allow_diagnostic: bool = False) -> TabularData:
        """Variables as numbers, NaN if missing (no imputation).

        A category of two values is one column of 0 and 1, one of more values an indicator for each (``"race = A"``).

        Raises:
            InputError: unknown or repeated name, or one of tier C without the flag.
        """
        from icube_common.tabular import TabularData

        titles: list[str] = []
        units: list[str] = []
        parts: list[npt.NDArray[np.float64]] = []
        for name in names:
            column = self.column(name)
            if column.leakage_tier == "C" and not allow_diagnostic:
                raise InputError(
                    f"{name}: is of tier C ({column.meaning or 'not described, so taken for close to the diagnosis'}): "
                    "leave it out, or set demographics.allow_diagnostic=true, which adds a disclaimer to the report"
                )
            values = self.values[:, self.names.index(name)]
            if column.kind == "category" and len(column.values) > 2:
                for index, word in enumerate(column.values):
                    titles.append(f"{name} = {word}")
                    units.append("")
                    parts.append(np.where(np.isnan(values), np.nan, (values == index).astype(np.float64)))
            else:
                titles.append(name)
                units.append(column.unit)
                parts.append(values)
        stacked = np.stack(parts, axis=1) if parts else np.zeros((len(self.ids), 0))
        return TabularData(ids=self.ids, names=tuple(titles), values=stacked, units=tuple(units))

    @classmethod
    def read(cls, path: Path, ids: Sequence[str], columns: Mapping[str, Mapping[str, Any]]) -> Participants:
        """Read ``participants.csv``.

        Raises:
            InputError: a column without a description, an unknown or repeated id, a value that is no number or none of
                the category's words; the line is named.
        """
        described = read_columns(columns, path)
        rows = {scan_id: row for row, scan_id in enumerate(ids)}
        values = np.full((len(ids), len(described)), np.nan)
        seen_ids: set[str] = set()
        try:
            table = list(read_table(path, ("id", *(column.name for column in described))))
        except InputError as error:
            raise InputError(f"{error}; dataset.json describes the columns") from None
        for line, row in table:
            location = f"{path}: line {line}"
            if extra := set(row) - {"id"} - {column.name for column in described}:
                raise InputError(f"{path}: line 1: column {sorted(extra)[0]!r} is not described in dataset.json")
            if row["id"] not in rows or row["id"] in seen_ids:
                problem = "occurs twice" if row["id"] in seen_ids else "is not in the manifest"
                raise InputError(f"{location}: id {row['id']!r} {problem}")
            seen_ids.add(row["id"])
            for index, column in enumerate(described):
                values[rows[row["id"]], index] = _number(column, row[column.name], location)
        return cls(ids=tuple(ids), columns=described, values=values)


def read_columns(columns: Mapping[str, Mapping[str, Any]], path: Path) -> tuple[Column, ...]:
    """Read the columns of ``dataset.json``.

    Raises:
        InputError: missing key, unknown tier or kind.
    """
    keys = {"leakage_tier", "unit", "kind", "values", "meaning"}
    described = []
    for name, entry in columns.items():
        location = f"{path.parent / 'dataset.json'}: columns: {name}"
        if not isinstance(entry, Mapping) or set(entry) != keys:
            raise InputError(f"{location}: must have exactly the keys {', '.join(sorted(keys))}: prepare the set again")
        for key, choices in (("leakage_tier", LEAKAGE_TIERS), ("kind", KINDS)):
            if entry[key] not in choices:
                raise InputError(f"{location}: {key}: {entry[key]!r} is none of {', '.join(choices)}")
        described.append(Column(name=name, **{**entry, "values": tuple(entry["values"])}))
    return tuple(described)


def _number(column: Column, text: str, location: str) -> float:
    if not text:
        return math.nan
    if column.kind == "category":
        if text not in column.values:
            raise InputError(f"{location}: {column.name}: {unknown('value', text, column.values)}")
        return float(column.values.index(text))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{location}: {column.name}: {text!r} is no finite number (empty where missing)")
    return value
