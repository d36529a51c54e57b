"""Imaging biomarkers from volumes of structures: ``±log(volume / reference)``, the reference the intracranial volume.

The sign is that of the concept: a biomarker grows with atrophy. Differences of head size cancel by the ratio; scores
relative to the user's own controls, given age, sex and intracranial volume, are the w-scores of
`debian_mri.biomarkers.head` (``concepts.covariate_adjusted``).

Volumes by registration are sums over planes, and so are their biomarkers. With the volume ``v_p`` of a plane of V, its
share ``e_p`` in the atlas's own region, and the expected value b0 of a biomarker b = log(V / reference),

    b - b0 = sum_p [ e_p (b - b0) + (v_p / V - e_p) ],

the first order of the difference of ``v_p`` to the volume that the plane would have at the expected value. A plane
has evidence where its volume differs from the expected one. The reference is one number. Tables of other programs have
a volume a structure, no planes: their biomarkers have one value, which belongs to no slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from debian_mri.biomarkers.measurement import BiomarkerMeasurement
from debian_mri.biomarkers.volumes.structures import INTRACRANIAL, STRUCTURES
from debian_mri.biomarkers.volumes.table import VolumeTable
from icube_common.errors import InputError, unknown


@dataclass(frozen=True, kw_only=True)
class VolumeBiomarker:
    """Biomarker of volumes.

    Attributes:
        name: concept of ``concepts.yaml`` that gives its direction.
        structures: alternatives in order of preference, each a sum of structures; both sides of bilateral ones.
        reference: denominators in order of preference.
        loss: True where a small volume is the finding.
    """

    name: str
    structures: tuple[tuple[str, ...], ...]
    reference: tuple[str, ...] = (INTRACRANIAL,)
    loss: bool = True


_CORTEX = ("cerebral_cortex", "grey_matter")
VOLUME_BIOMARKERS: Mapping[str, VolumeBiomarker] = {
    biomarker.name: biomarker
    for biomarker in (
        VolumeBiomarker(name="hippocampal_volume_loss", structures=(("hippocampus",),)),
        VolumeBiomarker(
            name="medial_temporal_atrophy",
            structures=(
                ("hippocampus", "amygdala", "entorhinal_cortex", "parahippocampal_gyrus"),
                ("hippocampus", "amygdala", "parahippocampal_gyrus"),
                ("hippocampus", "amygdala"),
            ),
        ),
        # the hippocampus beside the whole cortex: spared where the rest has lost more
        VolumeBiomarker(name="medial_temporal_sparing", structures=(("hippocampus",),), reference=_CORTEX, loss=False),
        VolumeBiomarker(
            name="ventricular_enlargement",
            structures=(("lateral_ventricle", "inferior_lateral_ventricle"), ("lateral_ventricle",)),
            loss=False,
        ),
        VolumeBiomarker(name="third_ventricle_enlargement", structures=(("third_ventricle",),), loss=False),
        VolumeBiomarker(name="sylvian_widening", structures=(("insula",),)),
        VolumeBiomarker(
            name="parietal_atrophy",
            structures=(
                ("precuneus", "superior_parietal_lobule", "inferior_parietal_lobule", "supramarginal_gyrus"),
                ("precuneus", "superior_parietal_lobule", "supramarginal_gyrus"),
            ),
        ),
        VolumeBiomarker(name="global_cortical_atrophy", structures=tuple((name,) for name in _CORTEX)),
        VolumeBiomarker(name="volume_normal_for_age", structures=(("brain",),), loss=False),
    )
}


def volume_score(table: VolumeTable, row: int, biomarker: VolumeBiomarker) -> float:
    """Value of a biomarker for a scan, NaN where the table lacks a structure; of the first alternative that it has.

    The alternative is that of the table, not of the scan: scans of one table stay comparable.
    """
    numerator = structures_of(table, biomarker)
    reference = next((name for name in biomarker.reference if _has(table, name)), None)
    if not numerator or reference is None:
        return math.nan
    volume = float(sum(table.column(name)[row] for name in numerator))
    share = volume / float(table.column(reference)[row])
    if not (math.isfinite(share) and share > 0):
        return math.nan
    return -math.log(share) if biomarker.loss else math.log(share)


def structures_of(table: VolumeTable, biomarker: VolumeBiomarker) -> tuple[str, ...]:
    """Structures whose sum a biomarker takes from a table: the first alternative that it has; empty for none."""
    return next((names for names in biomarker.structures if all(_has(table, name) for name in names)), ())


def _has(table: VolumeTable, name: str) -> bool:
    try:
        return bool(np.isfinite(table.column(name)).any())
    except InputError:
        return False


def measure_table(
    table: VolumeTable, scan: str, names: Sequence[str], *, by_plane: bool = True
) -> BiomarkerMeasurement:
    """Biomarkers of a scan from a table of volumes: by plane where the table has planes, else as of one plane.

    Args:
        table: volumes.
        scan: id in the table; of a table with one scan, any.
        names: K biomarkers of `VOLUME_BIOMARKERS`.
        by_plane: false for slices that do not lie in MNI space: no plane of the table belongs to them.

    Raises:
        InputError: the scan is not in the table, or an unknown biomarker.
    """
    if scan not in table.ids and len(table.ids) > 1:
        raise InputError(f"{table.path}: has no row of the scan {scan}; name another table (--volumes TABLE)")
    row = table.ids.index(scan) if scan in table.ids else 0
    for name in names:
        if name not in VOLUME_BIOMARKERS:
            raise unknown("biomarker of volumes", name, VOLUME_BIOMARKERS)
    values = np.array([volume_score(table, row, VOLUME_BIOMARKERS[name]) for name in names])
    profiles = [_profile(table, row, VOLUME_BIOMARKERS[name]) for name in names] if by_plane else []
    if table.planes is None or not any(profile is not None for profile in profiles):
        return BiomarkerMeasurement(values.reshape(len(names), 1), np.array([np.nan]), np.array([-1]))
    positions = table.planes.positions_mm
    # a last plane without a place for biomarkers whose structures have no planes
    planes, weights = (np.full((len(names), len(positions) + 1), math.nan) for _ in range(2))
    for at, profile in enumerate(profiles):
        if profile is None:
            planes[at, -1], weights[at, -1] = values[at], 1.0
            continue
        ml, atlas_ml = profile
        inside = (ml > 0) | (atlas_ml > 0)
        share, expected = ml / ml.sum(), atlas_ml / atlas_ml.sum()
        sign = -1.0 if VOLUME_BIOMARKERS[names[at]].loss else 1.0
        summands = expected * values[at] + sign * (share - expected)
        planes[at, :-1] = np.where(inside, summands, math.nan)
        weights[at, :-1] = np.where(inside, expected, math.nan)
    return BiomarkerMeasurement(planes, np.append(positions, math.nan), np.full(len(positions) + 1, -1), weights)


def _profile(
    table: VolumeTable, row: int, biomarker: VolumeBiomarker
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]] | None:
    """Volume and atlas's volume of a biomarker's structures by plane, mL; None without planes."""
    if table.planes is None:
        return None
    columns = [column for name in structures_of(table, biomarker) for column in STRUCTURES[name].columns]
    profile = table.planes.of(table.ids[row], columns) if columns else None
    return profile if profile is not None and profile[0].sum() > 0 and profile[1].sum() > 0 else None


def read_volumes(path: str | Path) -> VolumeTable:
    """A table of volumes, read once while the file does not change; raises as `VolumeTable.read`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such table of volumes")
    return _read(path.resolve(), path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, modified: int) -> VolumeTable:
    return VolumeTable.read(path)
