"""Opening a scan's images: what cannot be used, the digest of the voxels, and files that hold nothing but the image."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri.cohorts.base import Candidate
from debian_mri.cohorts.label_images import label_image_reason
from debian_mri.dicom.frames import Refusal
from debian_mri.manifest import Scan
from debian_mri.manifest_writer import Rejection
from debian_mri.volumes import FEWEST_VOXELS, UnusableVolume, open_volume

NIFTI_FOLDER = "nifti"


class Unusable(Exception):
    """Why an image cannot be used, in one line without names."""


def examine(root: Path, out: Path, candidate: Candidate, *, fill_nan: bool = False) -> Scan | Rejection:
    """Open a candidate's images, convert them where asked, and take their digest.

    Args:
        root: what its paths start from.
        out: the folder that is being made; conversions go to its ``nifti/``.
        candidate: of a reader.
        fill_nan: NaN voxels outside the head become background; those inside are refused as ever.
    """
    scan = candidate.scan
    try:
        with warnings.catch_warnings():
            # nibabel and pillow warn about odd headers; what matters is checked here
            warnings.simplefilter("ignore")
            if scan.kind == "slices":
                return replace(scan, sha256=slices_digest([root / path for path in scan.paths]))
            if candidate.handling == "dicom":
                data, affine = _from_dicom(root, candidate)
                check_voxels(data)
            else:
                data, affine = read_nifti(
                    root / scan.paths[0], analyze=candidate.handling == "analyze", fill_nan=fill_nan
                )
            if reason := label_image_reason(data):
                raise Unusable(reason)
            digest = volume_digest(data, affine)
            if candidate.handling == "as is":
                return replace(scan, sha256=digest)
            name = f"{NIFTI_FOLDER}/{scan.id}.nii.gz"
            _write(out / name, data, affine)
    except (Unusable, Refusal) as error:
        return Rejection(candidate.source, str(error))
    return replace(scan, paths=(name,), sha256=digest)


def read_nifti(
    path: Path, *, analyze: bool = False, fill_nan: bool = False
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Voxels (X, Y, Z) and affine (4, 4), by `debian_mri.volumes.open_volume`, with its arguments.

    Raises:
        Unusable: as there, without the file's name, which may be a person's.
    """
    try:
        return open_volume(path, analyze=analyze, fill_nan=fill_nan)
    except UnusableVolume as error:
        raise Unusable(error.reason) from None


def check_voxels(data: npt.NDArray[Any]) -> None:
    """Hold voxels against what any volume has.

    Raises:
        Unusable: they are no real numbers, some are NaN or infinite, or all are the same.
    """
    if data.ndim != 3:
        raise Unusable(f"{data.ndim}-D, {' x '.join(map(str, data.shape))} voxels: one 3-D volume is needed")
    if data.dtype.kind not in "iuf":
        raise Unusable("voxels are no real numbers (colour or complex)")
    if bad := int(data.size - np.isfinite(data).sum()):
        raise Unusable(f"{bad} of {data.size} voxels are NaN or infinite")
    if float(data.min()) == float(data.max()):
        raise Unusable(f"empty: every voxel is {float(data.min()):g}")


def volume_digest(data: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> str:
    """SHA-256 of the voxels in the order of axes nearest to RAS: a copy in another type or axis order has the same."""
    import nibabel

    turned = nibabel.orientations.apply_orientation(data, nibabel.orientations.io_orientation(affine))
    return _digest(turned.astype("<f4"))


def slices_digest(paths: list[Path]) -> str:
    """SHA-256 of grey values of images, in their order.

    Raises:
        Unusable: one is missing, damaged or of one grey value.
    """
    from PIL import Image

    digests = []
    for number, path in enumerate(paths, 1):
        if not path.is_file():
            raise Unusable(f"image {number} is not there")
        try:
            with Image.open(path) as image:
                grey = np.asarray(image.convert("F"), dtype=np.float32)
        except Exception as error:  # as above
            raise Unusable(f"image {number} cannot be read ({type(error).__name__})") from None
        if min(grey.shape) < FEWEST_VOXELS or grey.min() == grey.max():
            raise Unusable(f"image {number} is empty: every pixel is {float(grey.flat[0]):g}")
        digests.append(_digest(grey))
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _digest(values: npt.NDArray[Any]) -> str:
    # adding 0 makes -0 and 0 the same
    whole = np.ascontiguousarray(values) + np.float32(0)
    return hashlib.sha256(str(whole.shape).encode() + whole.tobytes()).hexdigest()


def _from_dicom(root: Path, candidate: Candidate) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """A DICOM volume.

    Raises:
        Refusal: of `debian_mri.dicom`.
        Unusable: the files hold more than one volume.
    """
    from debian_mri.dicom.convert import read_volume
    from debian_mri.dicom.geometry import volume_geometry
    from debian_mri.dicom.series import find_series, split

    frames = candidate.frames
    if not frames:
        parts = []
        wanted = set(candidate.files)
        for series in find_series(root / candidate.scan.paths[0]):
            kept = [frame for frame in series.frames if frame.path.name in wanted]
            if kept or series.refusal is not None:
                parts += split(replace(series, frames=kept))
        if refused := [part.refusal for part in parts if part.refusal is not None]:
            raise refused[0]
        if len(parts) != 1:
            raise Unusable(f"holds {len(parts)} volumes: which of them is meant is not said")
        frames = parts[0].frames
    volume = read_volume(volume_geometry(frames))
    if volume.data.ndim != 3:
        raise Unusable(f"4-D, {' x '.join(map(str, volume.data.shape))} voxels: one 3-D volume is needed")
    return volume.data, volume.affine


def _write(path: Path, data: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> None:
    """A NIfTI file with voxels and affine: no description, file name or extension of the source's header goes in."""
    from debian_mri.dicom.convert import Volume, write_nifti

    if data.dtype.kind == "f" or data.dtype.itemsize > 4:
        data = data.astype(np.float32)
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir()
    write_nifti(path, Volume(data=data, affine=affine, repetition_time=None))


def examiner(root: Path, out: Path, *, fill_nan: bool = False) -> partial[Scan | Rejection]:
    """`examine` for a process pool."""
    return partial(examine, root, out, fill_nan=fill_nan)
