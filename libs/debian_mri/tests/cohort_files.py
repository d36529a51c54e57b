"""Small simulated volumes and tables in the layouts of cohorts, for tests."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from debian_mri.data.participants import Participants

SHAPE = (10, 12, 9)
COLLECTION = (
    *("Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality", "Description", "Type", "Acq Date"),
    *("Format", "Downloaded"),
)


def voxels(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16)


def write_volume(path: Path, seed: int = 0, **edit: Any) -> Path:
    """A NIfTI file of noise, voxels of 2 mm, with a name and a date in its free text; ``edit``: data, affine, codes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = edit.get("affine", np.array([[2.0, 0, 0, -9], [0, 2, 0, -11], [0, 0, 2, -8], [0, 0, 0, 1]]))
    code = edit.get("code", 1)
    # with an affine nibabel writes one of its own codes over 0
    image = nibabel.Nifti1Image(edit.get("data", voxels(seed)), affine if code else None)
    image.header["descrip"] = b"Simulated^Person 19500317"
    if code:
        image.header.set_sform(affine, code=code)
        image.header.set_qform(affine, code=code)
    nibabel.save(image, path)
    return path


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    quoting = csv.QUOTE_ALL if delimiter == "," else csv.QUOTE_NONE
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, delimiter=delimiter, quoting=quoting)
        writer.writerow(head)
        writer.writerows(rows)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def rejected(data: Path) -> dict[str, str]:
    return {row["source"]: row["reason"] for row in rows_of(data / "rejected.csv")}


def cell(people: Participants, scan_id: str, name: str) -> str:
    """Value as text with its unit (``"74 years"``, ``"F"``); empty if missing."""
    column = people.column(name)
    value = float(people.values[people.ids.index(scan_id), people.names.index(name)])
    if np.isnan(value):
        return ""
    return column.values[int(value)] if column.kind == "category" else f"{value:g} {column.unit}".strip()
