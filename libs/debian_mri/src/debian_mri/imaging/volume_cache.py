"""Preprocessed volumes of a prepared set, computed once: ``volumes/<key>.nii.gz`` in its folder.

The key is a SHA-256 over the voxels' digest, the affine, the configuration and the versions of what computes. Beside
each volume lie its mask and a record of the source; the volume is written last, so that where it is all is there. Any
number of processes may work at once, and one that was killed is gone on with.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from debian_mri.data.manifest import Manifest, Scan
from debian_mri.imaging.nifti import RawVolume, read_affine, read_volume, voxel_digest
from debian_mri.imaging.preprocess import STEP, VERSION, PreprocessConfig, Volume, preprocess_volume
from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.experiments.executors import open_executor, run_each
from icube_common.runs import atomic_file, read_json, write_json

logger = logging.getLogger(__name__)

_PACKAGES = ("torchio", "SimpleITK", "nilearn", "scipy")


def cached_volume(manifest: Manifest, scan: Scan, config: PreprocessConfig) -> Path:
    """The preprocessed volume of a scan, from the cache where it is there.

    Returns:
        A NIfTI file; `load_volume` reads it with its mask.

    Raises:
        InputError: the scan is of slices, `debian_mri.imaging.preprocess.preprocess` refuses it, or its voxels are no
            longer those that the cache has seen.
    """
    source = _source(manifest, scan)
    fill_nan = bool(manifest.about.get("fill_nan"))
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
        volume = preprocess_volume(raw, config)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    record = {
        "voxels": voxel_digest(raw),
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        "turned": round(volume.rotation, 1),
    }
    _store(path, volume, config, record)
    return path


def preprocess_all(
    manifest: Manifest,
    config: PreprocessConfig,
    *,
    scans: Sequence[Scan] | None = None,
    workers: int = 1,
    strict: bool = False,
) -> dict[str, Path]:
    """Preprocess the volumes of a set, several at once where ``workers`` says so.

    What cannot be used is left out, with a warning, and listed in ``volumes/rejected.csv``.

    Args:
        manifest: the set.
        config: how.
        scans: which; by default all.
        workers: local processes.
        strict: stop at the first scan that cannot be used.

    Returns:
        Scan id -> its file, in the order of ``scans``.

    Raises:
        InputError: no scan can be used, or (strict) one cannot.
    """
    wanted = list(manifest.scans if scans is None else scans)
    found: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    calls = ((scan.id, (manifest, scan, config)) for scan in wanted)
    with open_executor(workers) as (executor, count), tqdm(desc="volumes", unit="scan", total=len(wanted)) as bar:
        for scan_id, result in run_each(_attempt, calls, executor, count):
            bar.update()
            if isinstance(result, Path):
                found[scan_id] = result
            elif strict:
                raise InputError(result)
            else:
                # paths may hold people's names; the id has a column of its own
                reasons[scan_id] = result.removeprefix(f"{manifest.paths_of(manifest.scan(scan_id))[0]}: ")
    rejected = manifest.folder / "volumes" / "rejected.csv"
    with atomic_file(rejected) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("source", "reason"))
        writer.writerows(sorted(reasons.items()))
    if reasons:
        first = next(iter(reasons.values()))
        if not found:
            raise InputError(f"{manifest.folder}: none of {len(wanted)} scans can be used; the first, {first}")
        logger.warning("%d scans could not be preprocessed: see %s", len(reasons), rejected)
    return {scan.id: found[scan.id] for scan in wanted if scan.id in found}


def load_volume(path: str | Path) -> Volume:
    """A volume of the cache with its mask.

    Raises:
        InputError: a file is missing or damaged: delete it.
    """
    import nibabel

    path = Path(path)
    try:
        image: Any = nibabel.load(path)
        mask: Any = nibabel.load(_beside(path, ".mask.nii.gz"))
        data = np.asarray(image.dataobj, dtype=np.float32)
        return Volume(data, np.asarray(image.affine, dtype=np.float64), np.asarray(mask.dataobj) > 0)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: damaged, delete it and it is computed again ({reason})") from error


def cached_head_rotation(path: str | Path) -> float:
    """Degrees by which the head of a volume of the cache was turned against what its source's affine says."""
    return float(read_json(_beside(Path(path), ".json")).get("turned", 0.0))


def volume_key(content: str, source: Path, config: PreprocessConfig) -> str:
    """What names a preprocessed volume.

    Args:
        content: a digest of the voxels.
        source: the file, for its affine.
        config: how it is preprocessed.
    """
    parts = {
        "content": content,
        "affine": np.round(read_affine(source), 6).tolist(),
        "config": config_to_dict(config),
        "version": VERSION,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _source(manifest: Manifest, scan: Scan) -> Path:
    if scan.kind != "volume":
        raise InputError(f"{scan.id}: is a set of slice images, only volumes are preprocessed")
    source = manifest.paths_of(scan)[0]
    if not source.is_file():
        raise InputError(f"{source}: no such file (did the images move? give the root where they lie now)")
    return source


def _attempt(manifest: Manifest, scan: Scan, config: PreprocessConfig) -> Path | str:
    """The file, or why there is none."""
    try:
        return cached_volume(manifest, scan, config)
    except InputError as error:
        return str(error)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name.removesuffix(".nii.gz") + suffix)


def _still_the_same(source: Path, path: Path, fill_nan: bool) -> bool:
    """Whether the source has the voxels that the stored volume was made of; False: make it again.

    A source of the same size and date is taken for the same; another one is read.
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
    import nibabel

    def save(target: Path, image: Any) -> None:
        image.header.set_xyzt_units("mm")
        code = 4 if config.space == "mni" else 1  # NIfTI's codes: MNI, scanner
        image.set_sform(volume.affine, code)
        image.set_qform(volume.affine, code)
        with atomic_file(target) as temporary:
            # the fast level: one tenth more of disk, a fifth of the time
            temporary.write_bytes(gzip.compress(image.to_bytes(), 1, mtime=0))

    save(_beside(path, ".mask.nii.gz"), nibabel.Nifti1Image(volume.mask.astype(np.uint8), volume.affine))
    write_json(_beside(path, ".json"), record)
    if config.normalise == "zscore":
        # half the size of float32; exact, since values are multiples of the step
        image = nibabel.Nifti1Image(np.round(volume.data / STEP).astype(np.int16), volume.affine)
        image.header.set_slope_inter(STEP, 0)
    else:
        image = nibabel.Nifti1Image(volume.data, volume.affine)
    save(path, image)
