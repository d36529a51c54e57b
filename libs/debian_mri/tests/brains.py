"""Small brains for tests: the ICBM152 template on a coarse grid, as NIfTI files and prepared sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from debian_mri.data.manifest import Manifest, Scan, write_manifest
from debian_mri.imaging.template import mni_grid, template_on_grid

Array = np.ndarray[Any, Any]


def brain(spacing: float = 4.0, *, seed: int = 0) -> tuple[Array, Array]:
    """Voxels (X, Y, Z) float32 in scanner's units with a little noise, and the affine."""
    template = template_on_grid(spacing)
    noise = np.random.default_rng(seed).standard_normal(template.t1.shape)
    data = np.where(template.brain, 800 * template.t1 + 8 * noise, 0).astype(np.float32)
    return data, template.affine


def save(path: Path, data: Array, affine: Array, code: int = 4) -> Path:
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nibabel.save(image, path)
    return path


def prepared(folder: Path, scans: Sequence[Scan]) -> Manifest:
    """A prepared folder of files that lie in it."""
    folder.mkdir(exist_ok=True)
    labels = list(dict.fromkeys(scan.label for scan in scans))
    description = {"format": "test", "title": "Test", "root": ".", "class_names": labels, "space": "mni"}
    write_manifest(folder, description, scans, {})
    return Manifest.load(folder)


def one_scan(folder: Path, *, sha256: str = "a" * 64, spacing: float = 4.0) -> tuple[Manifest, Scan]:
    folder.mkdir(exist_ok=True)
    save(folder / "brain.nii.gz", *brain(spacing))
    scan = Scan(id="one", subject="one", label="CN", paths=("brain.nii.gz",), sha256=sha256)
    return prepared(folder, [scan]), scan


def index_of(place: Sequence[float], spacing: float) -> tuple[int, ...]:
    """The voxel of `mni_grid` that a point in mm lies in."""
    affine = mni_grid(spacing).affine
    return tuple(round((p - affine[a, 3]) / spacing) for a, p in enumerate(place))
