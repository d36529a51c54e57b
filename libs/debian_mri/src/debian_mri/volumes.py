"""Reading a NIfTI volume, with a refusal for what would have to be guessed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from icube_common.errors import InputError


class RawVolume(NamedTuple):
    """A volume as the file has it.

    Attributes:
        data: (X, Y, Z) with the file's scaling applied.
        affine: voxel indices to RAS, mm.
    """

    data: Float32[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]


def read_volume(path: str | Path) -> RawVolume:
    """Read a 3-D volume.

    Raises:
        InputError: the file is missing, damaged or no NIfTI; it is not 3-D; it has no orientation (both form codes 0),
            or an invented one (the identity); voxels are not finite, or all the same.
    """
    import nibabel

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        image = nibabel.load(path)
        # what is no NIfTI (MINC, Analyze without orientation) lacks the codes
        if not isinstance(image, (nibabel.Nifti1Image, nibabel.Nifti1Pair)):
            raise InputError(f"{path}: is {type(image).__name__}, not NIfTI: convert it")
        data = np.asarray(image.dataobj)
    except InputError:
        raise
    except Exception as error:  # a damaged file may bring up any error of gzip, zlib, nibabel and numpy
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: damaged, or no NIfTI file ({reason})") from error
    return RawVolume(_checked_data(path, data), read_affine(path))


def read_affine(path: str | Path) -> Float64[np.ndarray, "4 4"]:
    """The RAS affine of a NIfTI file, mm; of a compressed one only the head is read.

    Raises:
        InputError: the file is missing or damaged, or its orientation is missing, invented or singular.
    """
    import nibabel

    try:
        header: Any = nibabel.load(path).header
        qform, sform = int(header["qform_code"]), int(header["sform_code"])
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        units = header.get_xyzt_units()[0]
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: damaged, or no NIfTI file ({reason})") from error
    remedy = "convert it from DICOM again (debian-mri convert), nothing here guesses where left is"
    if qform <= 0 and sform <= 0:
        raise InputError(f"{path}: has no orientation (qform and sform codes are 0): {remedy}")
    if np.array_equal(affine, np.eye(4)):
        raise InputError(f"{path}: its affine is the identity, which programs write that know no orientation: {remedy}")
    if units not in ("mm", "unknown"):
        raise InputError(f"{path}: its unit is {units!r}, mm are needed")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise InputError(f"{path}: its affine is singular or not finite: {remedy}")
    return affine


def _checked_data(path: Path, data: np.ndarray[Any, Any]) -> Float32[np.ndarray, "x y z"]:
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim != 3 or min(data.shape) < 2:
        shape = " x ".join(map(str, data.shape))
        raise InputError(f"{path}: {shape} voxels, one 3-D volume is needed (of a 4-D file, choose one volume)")
    if data.dtype.kind not in "iuf":
        raise InputError(f"{path}: voxels of type {data.dtype}, one number each is needed")
    if wrong := int(np.count_nonzero(~np.isfinite(data))):
        raise InputError(f"{path}: {wrong} voxels are not finite (NaN or infinite): fill or convert it again")
    data = np.ascontiguousarray(data, dtype=np.float32)
    if data.min() == data.max():
        raise InputError(f"{path}: empty: all voxels are {data.min():g}")
    return data


def voxel_digest(volume: RawVolume) -> str:
    """SHA-256 of voxels and affine."""
    digest = hashlib.sha256(repr((volume.data.shape, np.round(volume.affine, 6).tolist())).encode())
    digest.update(np.ascontiguousarray(volume.data).tobytes())
    return digest.hexdigest()
