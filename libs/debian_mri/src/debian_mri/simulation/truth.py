"""Ground truth of a simulated cohort, for the evaluation of explanations: ``truth/`` of its folder.

- ``<id>.json``: effects and volumes of a person;
- ``structures.nii.gz``: label map of the structures in MNI space;
- ``classes.json``: numbers of the label map, bounding box of each structure (mm), changed structures of each class;
- ``<class>_mask.nii.gz``: mask of the changed structures of a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from debian_mri.imaging.nifti import nifti_image
from debian_mri.imaging.regions import PLANES
from debian_mri.imaging.template import template_on_grid
from debian_mri.simulation.deformation import structure_mask
from debian_mri.simulation.effects import CLASSES, MIN_LOG_CHANGE, STRUCTURES, Person
from icube_common.errors import InputError, unknown
from icube_common.io.runs import read_json, write_json

# minimum of the changed voxels on a plane, relative to the plane with most of them
_MIN_SHARE = 0.2


def changed_structures(label: str) -> tuple[str, ...]:
    """Structures with a relevant change in a class, without the cortex."""
    effects = CLASSES[label]
    return tuple(name for name in STRUCTURES if name != "cortex" and abs(effects.get(name, 0.0)) >= MIN_LOG_CHANGE)


def write_truth(folder: Path, classes: Sequence[str], spacing: float) -> None:
    """Write the label map, the masks and their description."""
    template = template_on_grid(spacing)
    labels = np.zeros(template.t1.shape, dtype=np.uint8)
    boxes: dict[str, Any] = {}
    for number, name in enumerate(STRUCTURES, 1):
        if name == "cortex":
            continue
        mask = structure_mask(name, template) > 0.5
        labels[mask] = number
        corners = np.argwhere(mask)
        low, high = (template.affine[:3, 3] + spacing * corner for corner in (corners.min(0), corners.max(0)))
        boxes[name] = {"number": number, "low_mm": low.tolist(), "high_mm": high.tolist()}
    folder.mkdir(exist_ok=True)
    nifti_image(labels, template.affine, 4).to_filename(folder / "structures.nii.gz")
    effects: dict[str, Any] = {}
    for label in classes:
        names = changed_structures(label)
        mask = np.isin(labels, [boxes[name]["number"] for name in names])
        nifti_image(mask.astype(np.uint8), template.affine, 4).to_filename(folder / f"{label}_mask.nii.gz")
        effects[label] = {"effects": dict(CLASSES[label]), "changed": list(names), "mask": f"{label}_mask.nii.gz"}
    write_json(folder / "classes.json", {"space": "mni", "structures": boxes, "classes": effects})


def person_truth(person: Person, measured: Mapping[str, float]) -> dict[str, Any]:
    """Content of ``<id>.json``."""
    return {
        "simulated": True,
        "label": person.label,
        "severity": person.severity,
        "head_length_factor": round(person.head, 5),
        "changed": list(changed_structures(person.label)),
        "log_volume_change": {name: round(value, 5) for name, value in person.changes.items()},
        "of_which_disease": {name: round(value, 5) for name, value in person.disease.items()},
        "volumes_ml": {name: round(value, 3) for name, value in measured.items()},
    }


def shows_change(folder: str | Path, label: str, plane: str, position_mm: float) -> bool:
    """True for a plane through a changed structure of the class.

    Raises:
        InputError: no ground truth of this class in the folder.
    """
    truth = Path(folder) / "truth"
    classes = _classes(truth, label)["classes"]
    return _shows(truth / classes[label]["mask"], None, plane, position_mm)


def shows_structure(folder: str | Path, label: str, structure: str, plane: str, position_mm: float) -> bool:
    """True for a plane through one changed structure of the class; see `shows_change`.

    Raises:
        InputError: no ground truth of this class in the folder.
    """
    truth = Path(folder) / "truth"
    structures = _classes(truth, label)["structures"]
    if structure not in structures:
        raise unknown("structure", structure, structures)
    return _shows(truth / "structures.nii.gz", int(structures[structure]["number"]), plane, position_mm)


def _classes(truth: Path, label: str) -> dict[str, Any]:
    if not (truth / "classes.json").is_file():
        raise InputError(f"{truth}: no ground truth: use a cohort of debian-mri simulate")
    content: dict[str, Any] = read_json(truth / "classes.json")
    if label not in content["classes"]:
        raise InputError(f"{truth}: no ground truth of class {label!r} (classes: {', '.join(content['classes'])})")
    return content


def _shows(path: Path, number: int | None, plane: str, position_mm: float) -> bool:
    axis = PLANES[plane]
    areas, start, step = _areas(path, path.stat().st_mtime_ns, number, axis)
    index = round((position_mm - start) / step)
    if not 0 <= index < len(areas) or not areas.any():
        return False
    return bool(areas[index] >= _MIN_SHARE * areas.max())


@lru_cache(maxsize=64)
def _areas(path: Path, modified: int, number: int | None, axis: int) -> tuple[Any, float, float]:
    """Number of voxels of a structure (None: of all) in each plane, position of the first plane and spacing, mm."""
    import nibabel

    image: Any = nibabel.load(path)
    values = np.asarray(image.dataobj)
    inside = values > 0 if number is None else values == number
    others = tuple(other for other in range(3) if other != axis)
    return inside.sum(axis=others, dtype=np.int64), float(image.affine[axis, 3]), float(image.affine[axis, axis])
