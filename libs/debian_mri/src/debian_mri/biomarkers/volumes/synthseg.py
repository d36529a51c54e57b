"""Importer of SynthSeg: the table of ``mri_synthseg --vol``, mm3, a row a scan.

Billot et al., "SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without retraining", Medical
Image Analysis 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from debian_mri.biomarkers.volumes.freesurfer import MM3_PER_ML
from debian_mri.biomarkers.volumes.structures import plain_name, segmentation_columns
from icube_common.errors import InputError
from icube_common.io.csv import read_text

CITATIONS = ("Billot B et al. SynthSeg. Medical Image Analysis 2023;86:102789",)
_TOTAL = "total intracranial"


def is_table(heads: list[str]) -> bool:
    """True for the head line of a table of SynthSeg."""
    return _TOTAL in {plain_name(head) for head in heads} or "left cerebral cortex" in map(plain_name, heads)


def read_table(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Scans and volumes, column -> mL, of a table; structures without a column are passed over.

    Raises:
        InputError: another table, a row of another length, or a volume that is no number; the line is named.
    """
    lines = read_text(path, expected="a table of SynthSeg").splitlines()
    heads = [cell.strip() for cell in lines[0].split(",")] if lines else []
    if not is_table(heads):
        raise InputError(f"{path}: line 1: is not the head of SynthSeg's table of volumes")
    columns = [segmentation_columns().get(plain_name(head)) for head in heads]
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split(",")]
        if not any(cells):
            continue
        if len(cells) != len(heads):
            raise InputError(f"{path}: line {number}: {len(cells)} fields, {len(heads)} expected")
        volumes = {}
        for head, column, cell in zip(heads[1:], columns[1:], cells[1:], strict=True):
            if column is None or not cell:
                continue
            try:
                value = float(cell)
            except ValueError:
                value = -1.0
            # no comparison is true of NaN
            if not 0 <= value < float("inf"):
                raise InputError(f"{path}: line {number}: {head}: {cell!r} is no volume in mm3")
            volumes[column] = value / MM3_PER_ML
        yield cells[0], volumes
