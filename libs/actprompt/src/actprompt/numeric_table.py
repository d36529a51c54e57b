"""The table of named numeric parameters beside a manifest (``numeric.csv``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.io.csv import read_table


@dataclass(frozen=True)
class NumericTable:
    """Named numeric parameters of clips.

    Attributes:
        ids: the clips' ids.
        names: the parameters' names.
        units: the unit of each.
        values: (clips, parameters), NaN where missing.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    values: npt.NDArray[np.float64]


def read_numeric(path: Path, ids: Sequence[str], about: Mapping[str, Any]) -> NumericTable:
    """``numeric.csv`` in the order of ``ids``.

    Args:
        path: the file.
        ids: the clips of the manifest.
        about: of ``dataset.json``: the units by parameter.

    Raises:
        InputError: it cannot be read, names another clip, or a value is no finite number.
    """
    names = list(about["units"])
    known = {name: at for at, name in enumerate(ids)}
    values = np.full((len(ids), len(names)), np.nan)
    for line, row in read_table(path, ("id", *names), strip=False):
        if row["id"] not in known:
            raise InputError(f"{path}: line {line}: id {row['id']!r} is not in the manifest")
        for at, name in enumerate(names):
            try:
                value = float(row[name] or "nan")
            except ValueError as error:
                raise InputError(f"{path}: line {line}: {name}: {row[name]!r} is no number") from error
            if math.isinf(value):
                raise InputError(f"{path}: line {line}: {name}: must be finite, or empty where missing")
            values[known[row["id"]], at] = value
    return NumericTable(tuple(ids), tuple(names), tuple(about["units"].values()), values)
