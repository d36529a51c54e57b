"""Viewer of a volume on the prediction page: three planes with sliders, boxes of biomarkers, structures, evidence.

The page holds the volume as compressed 8-bit grey values and one script, allowed by its SHA-256 in the page's content
security policy; nothing is loaded. Without a script, or in a browser without ``DecompressionStream``, the page shows
the still slices alone. Structures are those of a registered atlas; its licence and citations stand on every page that
holds them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from debian_mri.biomarkers.measure import BIOMARKERS
from debian_mri.biomarkers.volumes.regional import StructureLabels
from debian_mri.biomarkers.volumes.structures import SIDES, STRUCTURES
from debian_mri.explanation.record import Explanation
from debian_mri.imaging.preprocess import Volume

MAX_VOXELS = 2_500_000
"""Voxels of a viewer, at most; finer volumes are averaged over blocks."""
_WINDOW = (0.5, 99.8)


def viewer_values(
    volume: Volume, explanation: Explanation, structures: StructureLabels | None = None, *, boxes: bool = True
) -> dict[str, Any]:
    """Script, its hash and its data, for the template of the page.

    Args:
        volume: preprocessed; axes of any order and direction.
        explanation: of the prediction: its biomarkers and the evidence of its slices.
        structures: of an atlas that was registered to the scan; None for none.
        boxes: draw the boxes of the biomarkers; false where they were not measured in boxes.

    Returns:
        ``script``, ``hash`` (SHA-256 in base64, for the policy), ``data`` (JSON) and ``citations`` of the atlas.
    """
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # "</" would end the element that holds it
    values = viewer_data(volume, explanation, structures, boxes=boxes)
    data = json.dumps(values, separators=(",", ":")).replace("</", "<\\/")
    citations = () if structures is None else structures.citations
    return {"script": script, "hash": digest, "data": data, "citations": citations}


def viewer_data(
    volume: Volume, explanation: Explanation, structures: StructureLabels | None = None, *, boxes: bool = True
) -> dict[str, Any]:
    """Volume and marks; arguments as of `viewer_values`.

    Returns:
        ``shape`` (X, Y, Z), ``origin`` and ``step`` (mm of the voxel centres along x, y, z, RAS, steps positive),
        ``voxels`` (gzip in base64 of X * Y * Z bytes, z fastest), ``boxes`` (biomarkers measured in the volume, with
        |x|, y and z in mm), ``evidence`` (plane, mm and weight of the slices of the explanation), ``structures`` (name,
        side -> number in ``labels``) and ``labels`` (as ``voxels``, 0 for none), where there are structures.
    """
    data, affine = _as_ras(volume)
    while data.size > MAX_VOXELS:
        data, affine = _halved(data, affine)
    low, high = np.percentile(data, _WINDOW)
    grey = np.clip((data - low) / max(high - low, 1e-6) * 255, 0, 255).round().astype(np.uint8)
    step = np.abs(np.diag(affine)[:3])
    return {
        "shape": list(grey.shape),
        "origin": [round(float(value), 3) for value in affine[:3, 3]],
        "step": [round(float(value), 4) for value in step],
        "voxels": _packed(grey),
        "boxes": _boxes(explanation) if boxes else [],
        "evidence": [
            {"plane": part.plane, "mm": part.position_mm, "weight": round(part.weight, 4)}
            for part in explanation.slices
            if part.position_mm is not None and part.weight > 0
        ],
        **({} if structures is None else _structures(structures, grey.shape, affine)),
    }


def _packed(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(gzip.compress(values.tobytes(), 6, mtime=0)).decode()


def _structures(structures: StructureLabels, shape: Sequence[int], affine: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Structures with their numbers, and the labels at the nearest voxels of the viewer's grid."""
    nearest, inside = [], []
    for axis, count in enumerate(shape):
        mm = affine[axis, 3] + affine[axis, axis] * np.arange(count)
        index = np.rint((mm - structures.affine[axis, 3]) / structures.affine[axis, axis]).astype(np.int64)
        inside.append((index >= 0) & (index < structures.labels.shape[axis]))
        nearest.append(np.clip(index, 0, structures.labels.shape[axis] - 1))
    x, y, z = inside
    labels = np.where(x[:, None, None] & y[:, None] & z, structures.labels[np.ix_(*nearest)], 0)
    numbers: dict[str, dict[str, int]] = {}
    for number, column in enumerate(structures.names, 1):
        name, side = _name_and_side(column)
        numbers.setdefault(name, {})[side] = number
    return {
        "structures": [{"label": name.replace("_", " "), "numbers": dict(sides)} for name, sides in numbers.items()],
        "labels": _packed(labels.astype(np.uint8)),
    }


def _name_and_side(column: str) -> tuple[str, str]:
    """Structure of a column, and its side, empty for one without.

    >>> _name_and_side("hippocampus_left"), _name_and_side("third_ventricle")
    (('hippocampus', 'left'), ('third_ventricle', ''))
    """
    for side in SIDES:
        name = column.removesuffix(f"_{side}")
        if name != column and name in STRUCTURES:
            return name, side
    return column, ""


def _boxes(explanation: Explanation) -> list[dict[str, Any]]:
    if explanation.space != "mni":
        return []
    shown = []
    for concept in explanation.concepts:
        biomarker = BIOMARKERS.get(concept.name)
        if biomarker is not None:
            shown.append({"label": concept.label, "mm": [list(bounds) for bounds in biomarker.volume_box_mm]})
    return shown


def _as_ras(volume: Volume) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Array with axes x, y, z in ascending mm, and its affine."""
    import nibabel as nib

    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(volume.data, dtype=np.float32), volume.affine))
    return np.asarray(image.dataobj), np.asarray(image.affine)


def _halved(
    data: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Means over blocks of 2 x 2 x 2 voxels; a last odd plane is cut off."""
    x, y, z = (size // 2 for size in data.shape)
    blocks = data[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5))
    scaled = affine.copy()
    scaled[:3, 3] += affine[:3, :3] @ np.full(3, 0.5)
    scaled[:3, :3] *= 2
    return blocks, scaled


@lru_cache(maxsize=1)
def _script() -> str:
    return (files("debian_mri.explanation") / "templates" / "volume_viewer.js").read_text(encoding="utf-8")


def plane_sides(plane: str, position_mm: float | None) -> tuple[str, str]:
    """Letters at the left and right edge of a slice in radiological convention; empty where the sides are unknown."""
    if position_mm is None:
        return "", ""
    return ("P", "A") if plane == "sagittal" else ("R", "L")


def turns(plane: str, position_mm: float | None) -> bool:
    """True for slices whose left and right depend on the convention."""
    return position_mm is not None and plane != "sagittal"


def known_sides(parts: Sequence[tuple[str, float | None]]) -> bool:
    """True where a switch of the convention changes at least one slice."""
    return any(turns(plane, position) for plane, position in parts)
