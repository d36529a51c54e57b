"""Conversion of a folder of DICOM files to NIfTI files: ``debian-mri convert``."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from einops import rearrange
from pydicom import Dataset

from debian_mri.dicom.files.damage import ARCHIVE
from debian_mri.dicom.files.dicom_io import optional, text
from debian_mri.dicom.files.pixels import pixels
from debian_mri.dicom.frames import Frame, Refusal
from debian_mri.dicom.privacy import vocabulary
from debian_mri.dicom.privacy.sidecar import repetition_time, sidecar
from debian_mri.dicom.stacks.geometry import VolumeGeometry, volume_geometry
from debian_mri.dicom.stacks.series import Series, SeriesPart, find_series, split_series
from debian_mri.dicom.stacks.volume_order import BY_NUMBER
from debian_mri.imaging.nifti import nifti_image
from icube_common.data.processes import WORKER_DIED, InlineExecutor, map_items, take_shard
from icube_common.errors import InputError
from icube_common.io.runs import atomic_folder, read_json, write_json

logger = logging.getLogger(__name__)

REJECTED = "rejected.csv"
_SHARD = "shard.json"


@dataclass(frozen=True)
class DicomVolume:
    """Voxels and their affine.

    Attributes:
        data: (columns, rows, slices) or (columns, rows, slices, volumes), as scaled by the headers.
        affine: (4, 4), voxel index to RAS, mm.
        repetition_time: s between volumes, None where unknown or there is but one.
    """

    data: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    repetition_time: float | None


def convert_folder(
    folder: str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    strict: bool = False,
    salt: bytes | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """Convert all series below a folder; each refused one has a reason.

    Writes ``NNNN[_words].nii.gz`` and ``.json`` for each volume, and ``rejected.csv``. Nothing written holds a name,
    id, date or UID of the headers, nor a name of the input's folders and files. A volume whose worker process was
    killed twice is refused. The files are the same bytes wherever they are converted.

    Args:
        folder: folder to search with its subfolders; files may be gzipped and need no extension.
        out: output folder.
        overwrite: replace ``out``.
        strict: stop at the first refused series.
        salt: salt of the project (`debian_mri.dicom.privacy.pseudonyms.project_salt`): the JSON files then carry hashed
            keys of subject, study, series and space.
        executor: where pixels are read and written, with both folders on a disk that every worker reaches; by default
            here.
        workers: volumes at the same time; by default as many as the executor has.
        shard: ``(i, n)``: only each n-th volume, from the i-th on (from 0), into ``<out>.shards/i-of-n``. A run without
            a shard moves these into ``out``, and converts those that are missing there.

    Returns:
        ``{"series": [...], "converted": n, "refused": n}``. Each series has ``status`` ("converted" or "refused"),
        ``path`` of the NIfTI file or None, ``reason`` or None, ``source`` (the input folder, which may identify
        the subject and is in this result only), ``n_files``, ``description`` (known words only), ``number``.

    Raises:
        InputError: no such folder, no DICOM file in it, ``out`` exists, or ``strict`` and a series was refused.
    """
    all_series = find_series(folder)
    if not any(series.uid or (series.refusal and series.refusal.kind != "not DICOM") for series in all_series):
        packed = any(series.refusal and series.refusal.detail == ARCHIVE for series in all_series)
        raise InputError(f"{folder}: holds no DICOM file{' but archives: unpack them first' if packed else ''}")
    volumes = [
        _Volume.of(series, part, number)
        for number, (series, part) in enumerate(
            ((series, part) for series in all_series for part in split_series(series)), start=1
        )
    ]
    chosen = take_shard(volumes, shard)
    shards = Path(f"{out}.shards")
    target = Path(out) if shard[1] == 1 else shards / f"{shard[0]}-of-{shard[1]}"
    digests = {volume.number: _digest(volume, salt, len(volumes)) for volume in chosen}
    earlier = _shard_results(shards) if shard[1] == 1 else {}
    results: list[dict[str, Any]] = []
    with atomic_folder(target, overwrite=overwrite) as temporary:
        for volume in chosen:
            if digests[volume.number] in earlier:
                folder_of, stem = earlier[digests[volume.number]]
                for suffix in (".nii.gz", ".json"):
                    shutil.copy2(folder_of / f"{stem}{suffix}", temporary / f"{stem}{suffix}")
                volume.result = {**volume.result, "status": "converted", "path": f"{stem}.nii.gz"}
        todo = [volume for volume in chosen if volume.part is not None and volume.result["path"] is None]
        work = partial(_convert_volume, temporary=temporary, salt=salt)
        made = map_items(
            work,
            todo,
            executor=executor or InlineExecutor(),
            workers=workers,
            chunksize=1,
            lost=lambda volume: {**volume.result, "reason": WORKER_DIED},
        )
        for volume in chosen:
            converts = volume.part is not None and volume.result["path"] is None
            result = next(made) if converts else volume.result
            results.append({**result, "path": None if result["path"] is None else str(target / result["path"])})
            if strict and result["status"] == "refused":
                raise InputError(f"{result['source']}: {result['reason']} (without --strict the others are converted)")
        _write_rejected(temporary / REJECTED, [result for result in results if result["status"] == "refused"])
        if shard[1] > 1:
            stems = {
                digests[result["number"]]: Path(result["path"]).name.removesuffix(".nii.gz")
                for result in results
                if result["path"] is not None
            }
            write_json(temporary / _SHARD, stems)
    if shard[1] == 1 and shards.is_dir():
        shutil.rmtree(shards)
    converted = sum(result["status"] == "converted" for result in results)
    logger.info("%d series converted, %d refused", converted, len(results) - converted)
    return {"series": results, "converted": converted, "refused": len(results) - converted}


@dataclass
class _Volume:
    """A volume to convert: header and frames, or the reason of a refusal in its result (``part`` is None then)."""

    number: int
    header: Dataset
    part: SeriesPart | None
    result: dict[str, Any]

    @classmethod
    def of(cls, series: Series, part: SeriesPart, number: int) -> _Volume:
        n_files = series.n_files if series.refusal else len({frame.path for frame in part.frames}) or series.n_files
        result: dict[str, Any] = {
            "status": "refused",
            "path": None,
            "reason": None if part.refusal is None else str(part.refusal),
            "source": str(series.source),
            "n_files": n_files,
            "description": vocabulary.description(optional(text, series.header, "SeriesDescription") or ""),
            "number": number,
        }
        return cls(number, series.header, part if part.refusal is None else None, result)


def _convert_volume(volume: _Volume, *, temporary: Path, salt: bytes | None) -> dict[str, Any]:
    assert volume.part is not None
    result = volume.result
    try:
        geometry = volume_geometry(volume.part.frames)
        voxels = read_dicom_volume(geometry, repetition_time=repetition_time(volume.header))
        stem = "_".join([f"{volume.number:04d}", *result["description"].split()[:6]])
        write_nifti(temporary / f"{stem}.nii.gz", voxels)
        spacing = float(np.linalg.norm(geometry.affine[:3, 2])) if geometry.shape[2] > 1 else None
        metadata = sidecar(volume.header, geometry.frames[0][0], salt=salt, slice_spacing=spacing)
        write_json(temporary / f"{stem}.json", metadata)
    except Refusal as refusal:
        return {**result, "reason": str(refusal)}
    return {**result, "status": "converted", "path": f"{stem}.nii.gz"}


def _digest(volume: _Volume, salt: bytes | None, count: int) -> str:
    """Identity of a volume for joining shards: sizes and dates of its files, nothing of the headers or names."""
    frames = () if volume.part is None else volume.part.frames
    files = [(status.st_size, status.st_mtime_ns) for status in (path.stat() for path in {f.path: 0 for f in frames})]
    parts = [volume.number, count, files, [frame.index for frame in frames]]
    return hashlib.sha256(json.dumps(parts).encode() + (salt or b"")).hexdigest()


def _shard_results(shards: Path) -> dict[str, tuple[Path, str]]:
    """Digest of each volume that shards have converted -> its folder and the stem of its files."""
    return {
        digest: (path.parent, stem)
        for path in sorted(shards.glob(f"*-of-*/{_SHARD}"))
        for digest, stem in read_json(path).items()
    }


def read_dicom_volume(geometry: VolumeGeometry, *, repetition_time: float | None = None) -> DicomVolume:
    """Read the pixels of a voxel grid.

    Returns:
        Whole numbers where stored values and scaling are whole, float32 otherwise.

    Raises:
        Refusal: pixels are missing, damaged or compressed in an unknown way, or volumes repeat each other.
    """
    volumes = geometry.frames
    by_file: dict[Path, list[tuple[int, int, Frame]]] = {}
    for t, volume in enumerate(volumes):
        for k, frame in enumerate(volume):
            by_file.setdefault(frame.path, []).append((t, k, frame))
    stacked: npt.NDArray[Any] | None = None
    for path, members in by_file.items():
        stored = pixels(path)
        for t, k, frame in members:
            plane = _scaled(_plane(stored, frame), frame.scale)
            if stacked is None:
                stacked = np.zeros((len(volumes), len(volumes[0]), *plane.shape), plane.dtype)
            elif not np.can_cast(plane.dtype, stacked.dtype):
                stacked = stacked.astype(np.promote_types(stacked.dtype, plane.dtype))
            stacked[t, k] = plane
    assert stacked is not None
    if geometry.volume_order_source == BY_NUMBER:
        _check_distinct(stacked)
    data = rearrange(_smallest_dtype(stacked), "volume slice row column -> column row slice volume")
    return DicomVolume(
        data=data[..., 0] if len(volumes) == 1 else data,
        affine=geometry.affine,
        repetition_time=repetition_time if len(volumes) > 1 else None,
    )


def _plane(stored: npt.NDArray[Any], frame: Frame) -> npt.NDArray[Any]:
    if frame.index >= len(stored):
        raise Refusal("damaged pixels", "fewer frames than the header announces")
    row, column = frame.tile or (0, 0)
    return stored[frame.index, row : row + frame.rows, column : column + frame.columns]


def _scaled(plane: npt.NDArray[Any], scale: tuple[float, float]) -> npt.NDArray[Any]:
    """Stored values times slope plus intercept; whole numbers stay whole."""
    slope, intercept = scale
    if scale == (1.0, 0.0):
        return plane
    if plane.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        widest = max(abs(slope), 1) * 2.0 ** (8 * plane.itemsize) + abs(intercept)
        if widest < 2**62:
            return plane.astype(np.int64) * int(slope) + int(intercept)
    return (plane.astype(np.float64) * slope + intercept).astype(np.float32)


def _smallest_dtype(stacked: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Array in the smallest common type of NIfTI: uint8, int16, uint16, int32, float32.

    Raises:
        Refusal: values outside all of them.
    """
    if stacked.dtype.kind == "f":
        if not np.isfinite(stacked).all():
            raise Refusal("damaged pixels", "values that are no numbers")
        return stacked.astype(np.float32)
    low, high = int(stacked.min()), int(stacked.max())
    dtypes = (np.uint8, np.int16, np.uint16, np.int32) if stacked.dtype == np.uint8 else (np.int16, np.uint16, np.int32)
    for dtype in dtypes:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return stacked.astype(dtype)
    raise Refusal("damaged pixels", "values beyond 32 bits")


def _check_distinct(stacked: npt.NDArray[Any]) -> None:
    """Check that no two volumes are identical: noise makes those of a real series different.

    Raises:
        Refusal: identical volumes, that is copies of files under new instance numbers.
    """
    first_index: dict[bytes, int] = {}
    for t, volume in enumerate(stacked):
        first = first_index.setdefault(volume.tobytes(), t)
        if first != t:
            raise Refusal("duplicate slices", f"volumes {first + 1} and {t + 1} are the same image")


def write_nifti(path: Path, volume: DicomVolume) -> None:
    """Write a NIfTI-1 file: qform and sform with code 1 (scanner), units mm and s."""
    image = nifti_image(volume.data, volume.affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    if volume.data.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], volume.repetition_time or 0.0))
    image.to_filename(path)


def _write_rejected(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write the refused series and reasons, without the folders' names."""
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["number", "reason", "n_files", "description"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(results)
