"""Volumes of structures by coronal plane of the scan, in mL: the file ``<table>.planes.npz`` beside a table.

A volume by registration is a sum over the voxels of a region in the atlas. Each voxel lies in a plane of the scan, by
the deformation; so the volume is a sum over the scan's planes, and the atlas's own volume of the region, of the same
voxels without deformation, is a profile over the same planes. Programs that give one number a structure have no
planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from icube_common.errors import InputError
from icube_common.io.arrays import open_arrays
from icube_common.io.runs import atomic_file

# mL between a volume and the sum of its planes, relative
AGREE = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class VolumePlanes:
    """Volumes by plane.

    Attributes:
        ids: scans.
        names: columns of the table; without the intracranial volume, which is the mask's.
        positions_mm: (P,) y of the planes, MNI space.
        ml: (scans, columns, P) mL, NaN for a structure that was not measured; the sum over planes is the volume.
        atlas_ml: likewise, of the atlas's own region in the same planes.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    positions_mm: Float64[np.ndarray, " p"]
    ml: Float64[np.ndarray, "n s p"]
    atlas_ml: Float64[np.ndarray, "n s p"]

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.names), len(self.positions_mm))
        assert self.ml.shape == shape and self.atlas_ml.shape == shape

    def of(self, scan: str, names: Sequence[str]) -> tuple[Float64[np.ndarray, " p"], Float64[np.ndarray, " p"]] | None:
        """Volume and atlas's volume of the sum of some columns by plane; None where one is missing."""
        if scan not in self.ids or any(name not in self.names for name in names):
            return None
        row, columns = self.ids.index(scan), [self.names.index(name) for name in names]
        ml, atlas_ml = self.ml[row, columns].sum(0), self.atlas_ml[row, columns].sum(0)
        return None if np.isnan(ml).any() else (ml, atlas_ml)

    def check(self, ids: Sequence[str], names: Sequence[str], values: Float64[np.ndarray, "n c"]) -> None:
        """Check that the planes sum to the volumes of a table.

        Raises:
            InputError: other scans, or a sum that differs; scan and column are named.
        """
        if tuple(ids) != self.ids:
            raise InputError("its planes are of other scans")
        for at, name in enumerate(self.names):
            if name not in names:
                raise InputError(f"its planes have {name}, which the table has not")
            volumes, sums = values[:, list(names).index(name)], self.ml[:, at].sum(1)
            unequal = np.isnan(volumes) != np.isnan(sums)
            apart = np.abs(volumes - sums) > AGREE * np.maximum(1.0, np.abs(volumes))
            if (wrong := np.flatnonzero(unequal | apart)).size:
                row = int(wrong[0])
                raise InputError(
                    f"{self.ids[row]}: {name} is {volumes[row]:.6g} mL, the sum of its planes {sums[row]:.6g}: table "
                    "or planes were changed; measure the volumes again"
                )

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the file atomically.

        Raises:
            InputError: it exists and ``overwrite`` is false, or cannot be written.
        """
        with atomic_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(
                handle,
                ids=np.array(self.ids),
                names=np.array(self.names),
                positions_mm=self.positions_mm,
                ml=self.ml,
                atlas_ml=self.atlas_ml,
            )

    @classmethod
    def read(cls, path: Path) -> VolumePlanes:
        """Read a file of `write`.

        Raises:
            InputError: missing or damaged.
        """
        with open_arrays(path, "no volumes by plane", remedy=": measure the volumes again") as arrays:
            ids, names = (tuple(map(str, arrays[name].tolist())) for name in ("ids", "names"))
            positions, ml, atlas_ml = (
                np.asarray(arrays[name], dtype=np.float64) for name in ("positions_mm", "ml", "atlas_ml")
            )
            shape = (len(ids), len(names), len(positions))
            if ml.shape != shape or atlas_ml.shape != shape:
                raise ValueError(f"arrays of {ml.shape} and {atlas_ml.shape}, {shape} expected")
        return cls(ids=ids, names=names, positions_mm=positions, ml=ml, atlas_ml=atlas_ml)


def planes_path(table: Path) -> Path:
    """File of the planes of a table.

    >>> planes_path(Path("volumes.csv")).name
    'volumes.planes.npz'
    """
    return table.with_suffix(".planes.npz")
