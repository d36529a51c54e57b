"""Preprocessed volumes of a prepared set, computed once: ``volumes/<key>.nii.gz`` in its folder.

The key is a SHA-256 of the voxels' digest, the affine, the configuration and the versions of the packages. The mask and
a record of the source are stored beside each volume, which is written last. Processes may run in parallel, and after an
interruption the cached volumes are reused.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri.data.manifest import Manifest, Scan
from debian_mri.imaging.nifti import RawVolume, nifti_image, read_affine, read_volume, voxel_digest
from debian_mri.imaging.preprocess import STEP, VERSION, PreprocessConfig, Volume, mask_identity, preprocess_volume
from icube_common.config import config_to_dict
from icube_common.data.manifest import write_rows
from icube_common.data.processes import WORKER_DIED, map_items
from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from icube_common.io.runs import atomic_file, read_json, write_json

logger = logging.getLogger(__name__)

_PACKAGES = ("torchio", "SimpleITK", "nilearn", "scipy")


def cached_volume(manifest: Manifest, scan: Scan, config: PreprocessConfig) -> Path:
    """Preprocessed volume of a scan, from the cache if present.

    Returns:
        A NIfTI file; `load_volume` reads it with its mask.

    Raises:
        InputError: the scan is of slices, `debian_mri.imaging.preprocess.preprocess` refuses it, or its voxels have
            changed since they were cached.
    """
    source = _source(manifest, scan)
    fill_nan = bool(manifest.description.get("fill_nan"))
    raw: RawVolume | None = None
    content = scan.sha256
    if not content:
        raw = read_volume(source, fill_nan=fill_nan)
        content = voxel_digest(raw)
    path = manifest.folder / "volumes" / f"{volume_key(content, source, config)}.nii.gz"
    if path.is_file() and _still_the_same(source, path, fill_nan):
        return path
    raw = read_volume(source, fill_nan=fill_nan) if raw is None else raw
    status = source.stat()
    try:
        volume = preprocess_volume(raw, config, source=source)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    record = {
        "voxels": voxel_digest(raw),
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        "turned": round(volume.rotation, 1),
        "mask": volume.mask_source,
        "intracranial_ml": round(volume.intracranial_ml, 3),
    }
    _store(path, volume, config, record)
    return path


def preprocess_all(
    manifest: Manifest,
    config: PreprocessConfig,
    *,
    scans: Sequence[Scan] | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    strict: bool = False,
) -> dict[str, Path]:
    """Preprocess the volumes of a set.

    Unusable scans are excluded with a warning and listed in ``volumes/rejected.csv``, and so is one whose worker
    process was killed twice.

    Args:
        manifest: the set.
        config: preprocessing.
        scans: of the set; by default all.
        executor: where, with the set's folder on a disk that every worker reads; by default local processes.
        workers: scans at the same time: local processes, 1 by default; with ``executor`` as many as it has.
        strict: stop at the first unusable scan.

    Returns:
        Scan id -> file, in the order of ``scans``.

    Raises:
        InputError: no usable scan, or (strict) an unusable one.
    """
    selected = list(manifest.scans if scans is None else scans)
    files: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    results = map_items(
        partial(_attempt, manifest, config),
        selected,
        executor=executor,
        workers=workers if executor is not None else workers or 1,
        chunksize=1,
        worth_a_pool=2,
        lost=lambda _: WORKER_DIED,
    )
    with progress_bar(results, desc="volumes", unit="scan", total=len(selected)) as bar:
        for scan_id, result in zip((scan.id for scan in selected), bar, strict=True):
            if isinstance(result, Path):
                files[scan_id] = result
            elif strict:
                raise InputError(result)
            else:
                # paths may hold people's names; the id has a column of its own
                reasons[scan_id] = result.removeprefix(f"{manifest.paths_of(manifest.row(scan_id))[0]}: ")
    rejected = manifest.folder / "volumes" / "rejected.csv"
    with atomic_file(rejected) as temporary:
        write_rows(temporary, ("source", "reason"), sorted(reasons.items()))
    if reasons:
        first = next(iter(reasons.values()))
        if not files:
            raise InputError(f"{manifest.folder}: none of {len(selected)} scans can be used; the first, {first}")
        logger.warning("%d scans could not be preprocessed: see %s", len(reasons), rejected)
    return {scan.id: files[scan.id] for scan in selected if scan.id in files}


def load_volume(path: str | Path) -> Volume:
    """Volume of the cache with its mask.

    Raises:
        InputError: missing or damaged file.
    """
    import nibabel

    path = Path(path)
    try:
        record = read_json(_beside(path, ".json"))
        image: Any = nibabel.load(path)
        mask: Any = nibabel.load(_beside(path, ".mask.nii.gz"))
        data = np.asarray(image.dataobj, dtype=np.float32)
        return Volume(
            data,
            np.asarray(image.affine, dtype=np.float64),
            np.asarray(mask.dataobj) > 0,
            float(record["turned"]),
            str(record["mask"]),
            float(record["intracranial_ml"]),
        )
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: damaged, delete it and it is computed again ({reason})") from error


def cached_head_rotation(path: str | Path) -> float:
    """Rotation of the head of a cached volume relative to its source's affine, degrees."""
    return float(read_json(_beside(Path(path), ".json")).get("turned", 0.0))


def cached_mask_source(path: str | Path) -> str:
    """Source of the brain mask of a cached volume; see `debian_mri.imaging.preprocess.Volume`."""
    return str(read_json(_beside(Path(path), ".json")).get("mask", ""))


def volume_key(content: str, source: Path, config: PreprocessConfig) -> str:
    """Cache key of a preprocessed volume."""
    parts = {
        "content": content,
        "affine": np.round(read_affine(source), 6).tolist(),
        "config": config_to_dict(config),
        "mask": mask_identity(config, source),
        "version": VERSION,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _source(manifest: Manifest, scan: Scan) -> Path:
    if scan.kind != "volume":
        raise InputError(f"{scan.id}: is a set of slice images, only volumes are preprocessed")
    source = manifest.paths_of(scan)[0]
    if not source.is_file():
        raise InputError(f"{source}: no such file (for moved images set --image-root)")
    return source


def _attempt(manifest: Manifest, config: PreprocessConfig, scan: Scan) -> Path | str:
    """File of a preprocessed volume, or the reason for a failure."""
    try:
        return cached_volume(manifest, scan, config)
    except InputError as error:
        return str(error)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name.removesuffix(".nii.gz") + suffix)


def _still_the_same(source: Path, path: Path, fill_nan: bool) -> bool:
    """True if the source still has the voxels of the cached volume; false to compute it again.

    A source of the same size and modification time is unchanged; any other is read.
    """
    beside = _beside(path, ".json")
    if not beside.is_file() or not _beside(path, ".mask.nii.gz").is_file():
        return False
    record, status = read_json(beside), source.stat()
    if (record["size"], record["modified"]) == (status.st_size, status.st_mtime_ns):
        return True
    if voxel_digest(read_volume(source, fill_nan=fill_nan)) != record["voxels"]:
        raise InputError(f"{source}: its voxels have changed since the set was prepared: prepare it again")
    write_json(beside, {**record, "size": status.st_size, "modified": status.st_mtime_ns})
    return True


def _store(path: Path, volume: Volume, config: PreprocessConfig, record: dict[str, Any]) -> None:
    def save(target: Path, data: npt.NDArray[Any], slope: float | None = None) -> None:
        image = nifti_image(data, volume.affine, 4 if config.space == "mni" else 1)
        if slope is not None:
            image.header.set_slope_inter(slope, 0)
        with atomic_file(target) as temporary:
            # the fast level: one tenth more of disk, a fifth of the time
            temporary.write_bytes(gzip.compress(image.to_bytes(), 1, mtime=0))

    save(_beside(path, ".mask.nii.gz"), volume.mask.astype(np.uint8))
    write_json(_beside(path, ".json"), record)
    if config.normalise == "zscore":
        # half the size of float32; exact, since values are multiples of the step
        steps = volume.data / np.float32(STEP)
        save(path, np.rint(steps, out=steps).astype(np.int16), STEP)
    else:
        save(path, volume.data)
