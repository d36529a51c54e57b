"""Imaging biomarkers from volumes of structures: ``±log(volume / reference)``, the reference the intracranial volume.

The sign is that of the concept: a biomarker grows with atrophy. Differences of head size cancel by the ratio; scores
relative to the user's own controls, given age, sex and intracranial volume, are the w-scores of
`debian_mri.biomarkers.head` (``concepts.covariate_adjusted``). A table has a volume a structure, no planes: the
biomarkers have one value, which belongs to no slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from debian_mri.biomarkers.measure import BiomarkerMeasurement
from debian_mri.biomarkers.volumes.structures import INTRACRANIAL
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
    numerator = next((names for names in biomarker.structures if all(_has(table, name) for name in names)), None)
    reference = next((name for name in biomarker.reference if _has(table, name)), None)
    if numerator is None or reference is None:
        return math.nan
    volume = float(sum(table.column(name)[row] for name in numerator))
    share = volume / float(table.column(reference)[row])
    if not (math.isfinite(share) and share > 0):
        return math.nan
    return -math.log(share) if biomarker.loss else math.log(share)


def _has(table: VolumeTable, name: str) -> bool:
    try:
        return bool(np.isfinite(table.column(name)).any())
    except InputError:
        return False


def measure_table(table: VolumeTable, scan: str, names: Sequence[str]) -> BiomarkerMeasurement:
    """Biomarkers of a scan from a table of volumes, as of one plane that belongs to no slice.

    Args:
        table: volumes.
        scan: id in the table; of a table with one scan, any.
        names: K biomarkers of `VOLUME_BIOMARKERS`.

    Raises:
        InputError: the scan is not in the table, or an unknown biomarker.
    """
    if scan not in table.ids and len(table.ids) > 1:
        raise InputError(f"{table.path}: has no row of the scan {scan}; name another table (--volumes TABLE)")
    row = table.ids.index(scan) if scan in table.ids else 0
    for name in names:
        if name not in VOLUME_BIOMARKERS:
            raise unknown("biomarker of volumes", name, VOLUME_BIOMARKERS)
    planes = np.array([[volume_score(table, row, VOLUME_BIOMARKERS[name])] for name in names])
    return BiomarkerMeasurement(planes.reshape(len(names), 1), np.array([np.nan]), np.array([-1]))


def read_volumes(path: str | Path) -> VolumeTable:
    """A table of volumes, read once while the file does not change; raises as `VolumeTable.read`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such table of volumes")
    return _read(path.resolve(), path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, modified: int) -> VolumeTable:
    return VolumeTable.read(path)
