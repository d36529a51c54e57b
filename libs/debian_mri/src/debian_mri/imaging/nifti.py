"""Reader of NIfTI and MGH volumes, with refusals of ambiguous orientation, and digests of volumes and slice images.

Preparation, preprocessing and prediction all read volumes by `open_volume`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64

from debian_mri.imaging.masks import signal_mask
from icube_common.errors import InputError

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh")
MIN_VOXELS = 8  # along an axis
MIN_VOXEL_MM, MAX_VOXEL_MM = 0.1, 20.0  # mm
# distance of a corner of the volume between sform and qform
MAX_FORM_DISTANCE_MM = 1.0  # mm
_MILLIMETRES = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
# bytes of the flag of a valid orientation in an MGH file
_GOOD_RAS = slice(28, 30)
_CONVERT = "convert it from DICOM again (debian-mri convert), the orientation is never guessed"


class RawVolume(NamedTuple):
    """Volume of a file.

    Attributes:
        data: (X, Y, Z), scaled by the header.
        affine: voxel indices to RAS, mm.
    """

    data: Float32[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]


class UnusableImage(InputError):
    """Image that cannot be used: ``reason`` is one line without the file's name, which may be a person's."""

    def __init__(self, reason: str, path: Path | None = None) -> None:
        super().__init__(reason if path is None else f"{path}: {reason}")
        self.reason = reason


def read_volume(path: str | Path, *, fill_nan: bool = False) -> RawVolume:
    """Read a 3-D volume; arguments and refusals of `open_volume`."""
    data, affine = open_volume(path, fill_nan=fill_nan)
    return RawVolume(np.ascontiguousarray(data, dtype=np.float32), affine)


def open_volume(
    path: str | Path, *, analyze: bool = False, fill_nan: bool = False
) -> tuple[npt.NDArray[Any], Float64[np.ndarray, "4 4"]]:
    """Voxels (X, Y, Z) in the file's type, scaled by its header, and the affine, voxel indices to RAS in mm.

    Args:
        path: NIfTI-1 or NIfTI-2, ``.nii``, ``.nii.gz`` or ``.hdr`` with ``.img``, or FreeSurfer's ``.mgh`` or ``.mgz``.
        analyze: accept Analyze 7.5, whose header has no orientation, by its convention: first axis to the left, second
            to the front, third upwards, origin in the middle.
        fill_nan: NaN voxels outside the head become background.

    Raises:
        UnusableImage: missing or damaged file, or another kind; not 3-D; orientation missing or contradictory; voxels
            not finite, or all the same.
    """
    with _path_in_errors(Path(path)):
        image = _load(Path(path))
        affine = _affine(image, analyze)
        shape = _shape(image)
        if (kind := np.dtype(image.get_data_dtype())).kind not in "iuf":
            raise UnusableImage(f"voxels of type {kind} are no real numbers (colour or complex)")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = np.asarray(image.dataobj).reshape(shape)
        except Exception as error:  # a damaged file may bring up any error of gzip, zlib, nibabel and numpy
            raise UnusableImage(_damaged(error)) from None
        return check_voxels(data, fill_nan=fill_nan), affine


def read_affine(path: str | Path) -> Float64[np.ndarray, "4 4"]:
    """RAS affine of a file, mm; of a compressed one only the header is read. Refusals of `open_volume`."""
    with _path_in_errors(Path(path)):
        return _affine(_load(Path(path)), analyze=False)


@contextlib.contextmanager
def _path_in_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UnusableImage as error:
        raise UnusableImage(error.reason, path) from None


def _load(path: Path) -> Any:
    import nibabel

    if not path.is_file():
        raise UnusableImage("no such file")
    if path.stat().st_size == 0:
        raise UnusableImage("the file is empty")
    if other := _missing_half(path):
        raise UnusableImage(f"its {other} is missing")
    try:
        if path.name.lower().endswith((".mgz", ".mgh")):
            return _load_mgh(path)
        return nibabel.load(path)
    except UnusableImage:
        raise
    except Exception as error:  # as above
        raise UnusableImage(_damaged(error)) from None


def _load_mgh(path: Path) -> Any:
    """A file of FreeSurfer; https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat.

    Raises:
        UnusableImage: header without orientation, where nibabel assumes a default.
    """
    import nibabel

    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if int.from_bytes(content[_GOOD_RAS], "big", signed=True) <= 0:
        raise UnusableImage(f"no orientation: its header has no good RAS flag: {_CONVERT}")
    return nibabel.MGHImage.from_bytes(content)


def _missing_half(path: Path) -> str:
    """Suffix of the missing file of a pair of header and voxels, empty if complete."""
    name = path.name.lower()
    for present, other in ((".hdr", ".img"), (".img", ".hdr")):
        if name.endswith((present, f"{present}.gz")):
            stem = path.name[: name.rindex(present)]
            existing = {file.name for file in path.parent.iterdir() if file.name.startswith(stem)}
            names = {f"{stem}{suffix}{gz}" for suffix in (other, other.upper()) for gz in ("", ".gz")}
            return "" if existing & names else other
    return ""


def _damaged(error: Exception) -> str:
    # texts of nibabel quote the path, which may hold a name
    return f"damaged, or no NIfTI or MGH file ({type(error).__name__})"


def _shape(image: Any) -> tuple[int, ...]:
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    words = " x ".join(map(str, shape))
    if len(shape) > 3:
        reason = f"{len(shape)}-D, {words} voxels: one 3-D volume is needed (of a 4-D file, choose one volume)"
        raise UnusableImage(reason)
    if len(shape) < 3 or min(shape) < MIN_VOXELS:
        raise UnusableImage(f"{words} voxels are no volume: {MIN_VOXELS} along each axis at least")
    return shape


def _affine(image: Any, analyze: bool) -> Float64[np.ndarray, "4 4"]:
    """Affine in mm, checked."""
    import nibabel

    header = image.header
    try:
        if isinstance(image, (nibabel.Nifti1Image, nibabel.Nifti1Pair)):
            affine = _nifti_affine(header)
        elif isinstance(image, nibabel.MGHImage):
            affine = np.asarray(image.affine, dtype=np.float64)
        elif isinstance(image, nibabel.AnalyzeImage):
            if not analyze:
                reason = f"no orientation: its header is that of Analyze 7.5, not of NIfTI: {_CONVERT}"
                raise UnusableImage(reason)
            affine = _analyze_affine(image)
        else:
            reason = f"is {type(image).__name__}, not NIfTI or MGH: convert it"
            raise UnusableImage(reason)
    except UnusableImage:
        raise
    except Exception as error:  # a damaged header
        raise UnusableImage(_damaged(error)) from None
    if not np.isfinite(affine).all():
        raise UnusableImage(f"no orientation: its affine has values that are not finite: {_CONVERT}")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not ((sizes >= MIN_VOXEL_MM) & (sizes <= MAX_VOXEL_MM)).all():
        shown = " x ".join(f"{size:.3g}" for size in sizes)
        limits = f"{MIN_VOXEL_MM:g} to {MAX_VOXEL_MM:g} mm are believed"
        raise UnusableImage(f"voxels of {shown} mm: {limits} (is its unit wrong?)")
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 0.1:
        raise UnusableImage(f"no orientation: its affine is singular, its axes span no space: {_CONVERT}")
    return affine


def _nifti_affine(header: Any) -> Float64[np.ndarray, "4 4"]:
    qcode, scode = int(header["qform_code"]), int(header["sform_code"])
    if qcode <= 0 and scode <= 0:
        raise UnusableImage(f"has no orientation (qform and sform codes are 0): {_CONVERT}")
    affine = np.asarray(header.get_sform() if scode > 0 else header.get_qform(), dtype=np.float64)
    # ITK's identity is in LPS
    if any(np.array_equal(affine, default) for default in (np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0]))):
        reason = f"its affine is the identity, the default of programs without an orientation: {_CONVERT}"
        raise UnusableImage(reason)
    unit = header.get_xyzt_units()[0]
    if unit not in _MILLIMETRES:
        raise UnusableImage(f"its unit {unit!r} is none of length")
    scale = np.diag([_MILLIMETRES[unit]] * 3 + [1.0])
    affine = scale @ affine
    if qcode > 0 and scode > 0:
        _check_forms(affine, scale @ np.asarray(header.get_qform(), dtype=np.float64), header.get_data_shape())
    return affine


def _check_forms(sform: Float64[np.ndarray, "4 4"], qform: Float64[np.ndarray, "4 4"], shape: tuple[int, ...]) -> None:
    """Check that sform and qform agree.

    Raises:
        UnusableImage: different handedness, or a corner more than `MAX_FORM_DISTANCE_MM` apart.
    """
    remedy = (
        "remove the one that is wrong (in nibabel, image.set_qform(None, 0) or image.set_sform(None, 0), then save), "
        "neither is chosen here"
    )
    both = f"sform {_words(sform)}, qform {_words(qform)}"
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        raise UnusableImage(f"sform and qform differ about left and right: {both}: {remedy}")
    corners = np.array([[*index, 1] for index in itertools.product(*((0, n - 1) for n in shape[:3]))])
    apart = np.linalg.norm(corners @ (sform - qform)[:3].T, axis=1).max()
    if not apart <= MAX_FORM_DISTANCE_MM:
        raise UnusableImage(f"sform and qform put a corner of the volume {apart:.3g} mm apart: {both}: {remedy}")


def _words(affine: Float64[np.ndarray, "4 4"]) -> str:
    """Directions of the axes and position of the first voxel.

    >>> _words(np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]))
    'LAS from (90, -126, -72)'
    """
    import nibabel

    codes = nibabel.orientations.aff2axcodes(affine)
    origin = ", ".join(f"{value:.4g}" for value in affine[:3, 3])
    return f"{''.join(code or '?' for code in codes)} from ({origin})"


def _analyze_affine(image: Any) -> Float64[np.ndarray, "4 4"]:
    header = image.header
    if header["orient"].item() not in (b"", b"\0"):
        raise UnusableImage("the Analyze header's orientation is not transverse")
    zooms = tuple(map(float, header.get_zooms()[:3]))
    step = np.array([-zooms[0], zooms[1], zooms[2]])
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = -step * (np.array(image.shape[:3]) - 1) / 2
    return affine


def check_voxels(data: npt.NDArray[Any], *, fill_nan: bool = False) -> npt.NDArray[Any]:
    """Check voxels, with NaN outside the head filled on request.

    Raises:
        UnusableImage: voxels not finite, or all the same.
    """
    with np.errstate(over="ignore"):
        single = data.astype(np.float32) if data.dtype.kind == "f" else data
    missing = np.isnan(single)
    if infinite := int(np.count_nonzero(~(np.isfinite(single) | missing))):
        raise UnusableImage(f"{infinite} of {data.size} voxels are infinite: convert it again")
    if count := int(missing.sum()):
        if not fill_nan:
            remedy = "--fill-nan makes those outside the head background"
            raise UnusableImage(f"{count} voxels are not finite (NaN): {remedy}")
        data = _fill(data, missing)
    if float(data.min()) == float(data.max()):
        raise UnusableImage(f"empty: all voxels are {float(data.min()):g}")
    return data


def _fill(data: npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Fill NaN with 0, or with the minimum if below 0.

    Raises:
        UnusableImage: NaN inside the head.
    """
    if missing.all():
        raise UnusableImage("empty: all voxels are NaN")
    filled: npt.NDArray[Any] = np.where(missing, min(0.0, float(np.nanmin(data))), data)
    if inside := int((signal_mask(filled.astype(np.float32)) & missing).sum()):
        raise UnusableImage(f"{inside} NaN voxels lie inside the head, which --fill-nan does not fill")
    return filled


def nifti_image(data: npt.NDArray[Any], affine: Float64[np.ndarray, "4 4"], code: int) -> Any:
    """NIfTI-1 image with one affine as sform and qform, mm; code 1 is scanner space, 4 MNI space."""
    import nibabel

    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    return image


def voxel_digest(volume: RawVolume) -> str:
    """SHA-256 of voxels and affine."""
    digest = hashlib.sha256(repr((volume.data.shape, np.round(volume.affine, 6).tolist())).encode())
    digest.update(np.ascontiguousarray(volume.data).tobytes())
    return digest.hexdigest()


def volume_digest(data: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> str:
    """SHA-256 of the voxels in the axis order nearest to RAS, the same for a copy of another type or axis order."""
    import nibabel

    reoriented = nibabel.orientations.apply_orientation(data, nibabel.orientations.io_orientation(affine))
    return _digest(reoriented.astype("<f4"))


def slices_digest(paths: list[Path]) -> str:
    """SHA-256 of the grey values of slice images, in their order.

    Raises:
        UnusableImage: missing or damaged image, or one of constant grey value.
    """
    from PIL import Image

    digests = []
    for number, path in enumerate(paths, 1):
        if not path.is_file():
            raise UnusableImage(f"image {number} is missing")
        try:
            with Image.open(path) as image:
                grey = np.asarray(image.convert("F"), dtype=np.float32)
        except Exception as error:  # a damaged file may bring up any error
            raise UnusableImage(f"image {number} cannot be read ({type(error).__name__})") from None
        if min(grey.shape) < MIN_VOXELS or grey.min() == grey.max():
            raise UnusableImage(f"image {number} is empty: every pixel is {float(grey.flat[0]):g}")
        digests.append(_digest(grey))
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _digest(values: npt.NDArray[Any]) -> str:
    # adding 0 makes -0 and 0 the same
    values = np.ascontiguousarray(values) + np.float32(0)
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()
