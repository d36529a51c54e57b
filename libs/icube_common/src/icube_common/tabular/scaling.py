"""Centre and spread of each column, from the training rows of a fold and from nothing else."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from icube_common.errors import InputError
from icube_common.evaluation.folds import Fold
from icube_common.tabular.table import TabularData, training_values

logger = logging.getLogger(__name__)

# quartile distance of a normal distribution of deviation 1
_NORMAL_IQR = 1.3489795003921634


@dataclass(frozen=True)
class Scaler:
    """``(value - center) / scale`` per column; made by `fit` or from a saved record.

    Attributes:
        names: the columns, in order.
        center: median or mean of the training rows.
        scale: quartile distance / 1.349 or standard deviation of the training rows: for normal numbers both are their
            deviation. 1 for a constant column.
        constant: columns that have one value only in the training rows; their scaled values mean little.
        coarse: columns whose quartiles coincide though they vary: their scale is the standard deviation.
    """

    names: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    constant: tuple[str, ...] = ()
    coarse: tuple[str, ...] = ()

    @classmethod
    def fit(cls, table: TabularData, fold: Fold, *, method: str = "robust") -> Scaler:
        """Centre and spread of a fold's training rows; there is no way in for others.

        Args:
            table: all samples.
            fold: the only source of training rows.
            method: ``"robust"`` (median, quartiles) or ``"standard"`` (mean, deviation with N in the denominator).

        Raises:
            InputError: a column has no value in any training row.
        """
        values = training_values(table, fold)
        absent = np.isnan(values).all(axis=0)
        if absent.any():
            name = table.names[int(np.argmax(absent))]
            raise InputError(f"column {name!r}: has no value in any of the {len(values)} training rows; leave it out")
        deviation = np.nanstd(values, axis=0)
        constant = np.nanmax(values, axis=0) == np.nanmin(values, axis=0)
        coarse = np.zeros_like(constant)
        if method == "robust":
            low, center, high = np.nanpercentile(values, (25, 50, 75), axis=0)
            coarse = (high == low) & ~constant
            scale = np.where(coarse, deviation, (high - low) / _NORMAL_IQR)
        else:
            center, scale = np.nanmean(values, axis=0), deviation
        result = cls(
            names=table.names,
            center=tuple(center.tolist()),
            scale=tuple(np.where(constant, 1.0, scale).tolist()),
            constant=tuple(name for name, flag in zip(table.names, constant, strict=True) if flag),
            coarse=tuple(name for name, flag in zip(table.names, coarse, strict=True) if flag),
        )
        if result.constant:
            logger.warning("columns with a single value in training: %s", ", ".join(result.constant))
        return result

    def transform(self, values: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
        """Scaled values, NaN where they are missing.

        Raises:
            InputError: there is another number of columns.
        """
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise InputError(f"values of shape {values.shape}: {len(self.names)} columns were fitted: {self.names}")
        return (values - np.array(self.center)) / np.array(self.scale)

    def to_dict(self) -> dict[str, list[Any]]:
        """For JSON."""
        fields = ("names", "center", "scale", "constant", "coarse")
        return {name: list(getattr(self, name)) for name in fields}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Scaler:
        """The inverse of `to_dict`."""
        return cls(**{name: tuple(value) for name, value in record.items()})
