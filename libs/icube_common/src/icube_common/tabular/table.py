"""A table of measurements: rows are samples, columns are numbers with a name and a unit, NaN is a missing value."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from icube_common.errors import InputError, unknown

if TYPE_CHECKING:
    from icube_common.evaluation.folds import Fold

# how tables in the field write "not measured"
_MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "."})


@dataclass(frozen=True, eq=False)
class TabularData:
    """Numbers of samples.

    Attributes:
        ids: the source's own name of each row, N of them, all different.
        names: what each column measures, in words: ``"walking speed"``. P of them, all different.
        values: ``(N, P)`` float64, NaN where a value is missing.
        units: of each column, ``"m/s"``; empty text for none.

    Raises:
        InputError: sizes do not match, a name or id comes twice, or a value is infinite.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    values: Float[np.ndarray, "n p"]
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.ids), len(self.names)) or len(self.units) != len(self.names):
            raise InputError(
                f"tabular data: values of shape {self.values.shape} for {len(self.ids)} ids, {len(self.names)} names "
                f"and {len(self.units)} units"
            )
        for what, words in (("id", self.ids), ("column", self.names)):
            word, count = next(iter(Counter(words).most_common(1)), ("", 0))
            if count > 1:
                raise InputError(f"tabular data: {what} {word!r} comes {count} times")
        if np.isinf(self.values).any():
            row, column = np.argwhere(np.isinf(self.values))[0]
            raise InputError(f"tabular data: {self.names[column]!r} of {self.ids[row]!r} is infinite")

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str]) -> Float[np.ndarray, "m p"]:
        """The values of these ids, in their order.

        Raises:
            InputError: an id has no row.
        """
        position = {name: row for row, name in enumerate(self.ids)}
        for name in ids:
            if name not in position:
                raise unknown("id of the tabular data", name, self.ids)
        return self.values[[position[name] for name in ids]]

    @classmethod
    def read_csv(
        cls, path: str | Path, *, id_column: str, columns: Sequence[str], units: Mapping[str, str] | None = None
    ) -> TabularData:
        """Read a table with one header line.

        Args:
            path: comma-separated text in UTF-8.
            id_column: column of the rows' ids.
            columns: columns to take, in this order; underscores in their names are written as spaces.
            units: column -> unit, for those that have one.

        Raises:
            InputError: the file cannot be read, a column is not there, or a cell is neither a finite number nor empty
                (``NA``, ``nan``, ``None``, ``null`` and ``.`` count as empty).
        """
        units = units or {}
        if strange := sorted(set(units) - set(columns)):
            raise unknown("column with a unit", strange[0], columns)
        try:
            with Path(path).open(newline="", encoding="utf-8-sig") as handle:
                reader = csv.DictReader(handle)
                for column in (id_column, *columns):
                    if column not in (reader.fieldnames or ()):
                        raise InputError(f"{path}: {unknown('column', column, reader.fieldnames or ())}")
                ids, values = [], []
                for row in reader:
                    ids.append(row[id_column] or "")
                    values.append([_number(row[column], f"{path}:{reader.line_num}: {column}") for column in columns])
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: cannot be read as a table ({error})") from error
        return cls(
            ids=tuple(ids),
            names=tuple(column.replace("_", " ") for column in columns),
            values=np.array(values, dtype=np.float64).reshape(len(ids), len(columns)),
            units=tuple(units.get(column, "") for column in columns),
        )


def training_values(table: TabularData, fold: Fold) -> Float[np.ndarray, "m p"]:
    """The training rows' values, in the fold's order.

    Raises:
        InputError: the fold has no training row, or one that the table does not have.
    """
    view = fold.training_rows(dict(zip(table.ids, table.values, strict=True)))
    if not view:
        raise InputError(f"tabular data of {len(table)} rows: the fold has no training row")
    return np.stack([view[name] for name in view])


def _number(text: str | None, where: str) -> float:
    if (text or "").strip().lower() in _MISSING:
        return math.nan
    try:
        value = float(text or "")
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise InputError(f"{where}={text}: must be a finite number, or empty where it was not measured")
    return value
