"""Measured biomarkers of a scan plane by plane: values of slice signs, or volumes as sums over planes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class BiomarkerMeasurement(NamedTuple):
    """Biomarkers measured plane by plane.

    Attributes:
        planes: (K, P) value of each biomarker on each plane, NaN where the plane does not pass its box; the mean over
            planes is the biomarker. With ``weights`` summands, whose sum is the biomarker.
        positions_mm: (P,) along y; of slice images the position of their geometry; NaN for a plane without a place.
        images: (P,) index of the slice image; -1 for a plane of a volume.
        weights: (K, P) share of each plane in an expected value of the biomarker, sum 1; None for equal weights.
    """

    planes: Array
    positions_mm: Array
    images: npt.NDArray[np.int64]
    weights: Array | None = None

    @property
    def values(self) -> Array:
        """(K,) biomarkers, NaN for structures outside all planes."""
        measured = ~np.isnan(self.planes)
        count = measured.sum(1)
        total = np.where(measured, self.planes, 0.0).sum(1)
        if self.weights is not None:
            return np.where(count > 0, total, math.nan)
        return np.where(count > 0, total / np.maximum(count, 1), math.nan)

    @property
    def has_places(self) -> bool:
        """True where the planes have places, or belong to slice images."""
        return bool((self.images >= 0).any() or np.isfinite(self.positions_mm).any())

    def deviations(self, expected: npt.NDArray[np.floating[Any]]) -> Array:
        """(K, P) each plane's part of the difference of a biomarker to its expected value, NaN for no part.

        Of planes of equal weight it is the plane's own difference, of which the biomarker's is the mean; with
        ``weights`` the differences sum to the biomarker's.

        Args:
            expected: (K,) values.
        """
        shares = 1.0 if self.weights is None else self.weights
        deviations: Array = self.planes - shares * expected[:, None]
        return deviations

    def without(self, removed: npt.NDArray[np.bool_], expected: npt.NDArray[np.floating[Any]]) -> Array:
        """(K,) biomarkers without some planes, NaN where none is left.

        Planes of equal weight: the mean over the others. With ``weights`` a removed plane becomes the expected one, so
        that the difference to the expected value falls by the plane's part of it.

        Args:
            removed: (P,) planes.
            expected: (K,) values.
        """
        left = self._replace(planes=np.where(removed, math.nan, self.planes))
        if self.weights is None:
            return left.values
        apart = left.deviations(expected)
        measured = ~np.isnan(apart)
        return np.where(measured.any(1), expected + np.where(measured, apart, 0.0).sum(1), math.nan)
