"""Preparation of a cohort: list scans, read each image, write the manifest and the rejections."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri.cohorts import FORMATS, get_reader
from debian_mri.cohorts.base import Candidate, ReaderOptions
from debian_mri.cohorts.consistency import check_spelling, reject_contradictions, reject_missing
from debian_mri.data.clinical_variables import check_leakage_tiers, describe_columns
from debian_mri.data.leakage import drop_duplicates
from debian_mri.data.manifest import Manifest, Rejection, Scan, write_manifest
from debian_mri.dicom.frames import Refusal
from debian_mri.imaging.masks import label_image_reason
from debian_mri.imaging.nifti import UnusableImage, check_voxels, open_volume, slices_digest, volume_digest
from icube_common.data.processes import map_items
from icube_common.errors import InputError
from icube_common.io.csv import read_spreadsheet
from icube_common.io.progress import progress_bar
from icube_common.io.runs import atomic_folder, check_output_path

logger = logging.getLogger(__name__)

# below this many, starting processes takes about as long as reading voxels
SCANS_WORTH_A_POOL = 128
NIFTI_FOLDER = "nifti"
# usual order of classes; others follow by name
CLASS_ORDER = ("CN", "SMC", "EMCI", "MCI", "LMCI", "AD", "PD", "DLB")


def prepare(
    format: str,
    source: str | Path,
    out: str | Path,
    *,
    options: ReaderOptions | None = None,
    labels: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    leakage_tiers: Mapping[str, str] | None = None,
    space: str = "native",
    fill_nan: bool = False,
    strict: bool = False,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> Manifest:
    """Make a prepared folder (see `debian_mri.data.manifest`) of a cohort.

    Every image is opened once. Rejected scans are listed in ``rejected.csv`` with the reason. Images whose paths or
    headers may identify a subject are written again below ``nifti/``; others stay in place.

    Args:
        format: a key of `debian_mri.cohorts.FORMATS`.
        source: the cohort's folder; for "csv", the file.
        out: the folder to make.
        options: options of the format's reader.
        labels: label of the cohort -> class in its place.
        classes: classes to include, in this order; by default all.
        leakage_tiers: variable -> tier, for variables without a description (`debian_mri.data.clinical_variables`).
        space: "mni" where the volumes are in the space of the MNI template already, "native" otherwise.
        fill_nan: NaN voxels outside the head become background, here and wherever the set's volumes are read.
        strict: stop at the first error; an exclusion by a rule is none.
        overwrite: replace an existing ``out``.
        executor: executor of the image reading; by default a local process pool.

    Raises:
        InputError: unknown format, nothing of it in the source, a damaged table, no usable scan, ``out`` exists, or
            (strict) a fault; nothing is written then.
    """
    reader = get_reader(format)
    options = options or ReaderOptions()
    check_output_path(out, overwrite=overwrite)
    cohort = reader.find(Path(source), options)
    candidates, rejected = _usable(cohort.candidates, labels or {}, classes)
    rejected = [*cohort.rejected, *rejected]
    _check_strict(rejected, strict)
    if not candidates:
        raise InputError(f"{source}: no scan can be used{_most_frequent(rejected)}")
    check_leakage_tiers(leakage_tiers or {}, {name for one in candidates for name in one.row})
    with atomic_folder(out, overwrite=overwrite) as folder:
        scans: list[Scan] = []
        work = partial(examine, cohort.root, folder, fill_nan=fill_nan)
        results = map_items(work, candidates, executor=executor, worth_a_pool=SCANS_WORTH_A_POOL, chunksize=2)
        for result in progress_bar(results, desc="images", unit="scan", total=len(candidates)):
            if isinstance(result, Scan):
                scans.append(result)
            else:
                rejected.append(result)
                _check_strict([result], strict)
        scans, copies = drop_duplicates(scans, {one.scan.id: one.source for one in candidates})
        _check_strict(copies, strict)
        rejected += copies
        if not scans:
            raise InputError(f"{source}: no scan can be used{_most_frequent(rejected)}")
        _remove_unused(folder, scans)
        rows = {one.scan.id: one.row for one in candidates}
        columns, table, column_warnings = describe_columns(
            {scan.id: rows[scan.id] for scan in scans}, leakage_tiers or {}
        )
        if options.salt and not options.salt_is_stored:
            column_warnings.append("no --salt-file: the keys of subjects cannot be reproduced by another preparation")
        converted = any(one.handling != "as is" for one in candidates)
        description = {
            "format": format,
            "title": cohort.title,
            # where every image is in the folder itself, it can be moved as a whole
            "root": "." if converted else str(cohort.root),
            "class_names": list(classes) if classes else _in_order(scan.label for scan in scans),
            "citation": cohort.citation,
            "space": space,
            "fill_nan": fill_nan,
            "labels": dict(labels or {}),
            "warnings": [*cohort.warnings, *column_warnings],
            **cohort.description,
        }
        write_manifest(folder, description, scans, table, rejected, columns=columns)
    if rejected:
        logger.warning("%d scans are not used: see %s", len(rejected), Path(out) / "rejected.csv")
    return Manifest.load(out)


def _usable(
    candidates: Sequence[Candidate], labels: Mapping[str, str], classes: Sequence[str]
) -> tuple[list[Candidate], list[Rejection]]:
    """Candidates of the requested classes, and rejections of the others.

    Raises:
        InputError: one class in two spellings.
    """
    if unused := sorted(set(labels) - {one.scan.label for one in candidates}):
        logger.warning("--labels: no scan is %r", unused[0])
    candidates, rejected = reject_missing(candidates)
    named = [
        replace(one, scan=replace(one.scan, label=labels.get(one.scan.label, one.scan.label))) for one in candidates
    ]
    check_spelling(one.scan.label for one in named)
    named, contradictory = reject_contradictions(named)
    rejected += contradictory
    usable = []
    for one in named:
        if classes and one.scan.label not in classes:
            reason = f"class {one.scan.label!r} is none of --classes {','.join(classes)}"
            rejected.append(Rejection(one.source, reason, by_rule=True))
        else:
            usable.append(one)
    return usable, rejected


def _check_strict(rejected: Iterable[Rejection], strict: bool) -> None:
    for one in rejected:
        if strict and not one.by_rule:
            raise InputError(f"{one.source}: {one.reason} (without --strict the others are processed)")


def _remove_unused(folder: Path, scans: Sequence[Scan]) -> None:
    """Remove converted images of scans that turned out to be copies."""
    used = {path for scan in scans for path in scan.paths}
    for path in folder.glob("nifti/*"):
        if path.relative_to(folder).as_posix() not in used:
            path.unlink()


def _in_order(labels: Iterable[str]) -> list[str]:
    present = set(labels)
    return [name for name in CLASS_ORDER if name in present] + sorted(present - set(CLASS_ORDER))


def _most_frequent(rejected: Sequence[Rejection]) -> str:
    if not rejected:
        return ""
    (reason, count), *_ = Counter(one.reason for one in rejected).most_common(1)
    return f" ({count} of {len(rejected)}: {reason})"


def examine(root: Path, out: Path, candidate: Candidate, *, fill_nan: bool = False) -> Scan | Rejection:
    """Read a candidate's images, convert them if required, and compute their digest.

    Args:
        root: root of its paths.
        out: output folder; conversions go to its ``nifti/``.
        candidate: candidate of a reader.
        fill_nan: NaN voxels outside the head become background; those inside are refused.
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
                path, analyze = root / scan.paths[0], candidate.handling == "analyze"
                data, affine = open_volume(path, analyze=analyze, fill_nan=fill_nan)
            if reason := label_image_reason(data):
                raise UnusableImage(reason)
            digest = volume_digest(data, affine)
            if candidate.handling == "as is":
                return replace(scan, sha256=digest)
            name = f"{NIFTI_FOLDER}/{scan.id}.nii.gz"
            _write(out / name, data, affine)
    except UnusableImage as error:
        return Rejection(candidate.source, error.reason)
    except Refusal as refusal:
        return Rejection(candidate.source, str(refusal))
    return replace(scan, paths=(name,), sha256=digest)


def _from_dicom(root: Path, candidate: Candidate) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Read a DICOM volume.

    Raises:
        Refusal: of `debian_mri.dicom`.
        UnusableImage: more than one volume.
    """
    from debian_mri.dicom.convert import read_dicom_volume
    from debian_mri.dicom.stacks.geometry import volume_geometry
    from debian_mri.dicom.stacks.series import find_series, split_series

    frames = candidate.frames
    if not frames:
        parts = []
        names = set(candidate.files)
        for series in find_series(root / candidate.scan.paths[0]):
            frames_of_scan = [frame for frame in series.frames if frame.path.name in names]
            if frames_of_scan or series.refusal is not None:
                parts += split_series(replace(series, frames=frames_of_scan))
        if refused := [part.refusal for part in parts if part.refusal is not None]:
            raise refused[0]
        if len(parts) != 1:
            raise UnusableImage(f"holds {len(parts)} volumes: ambiguous")
        frames = parts[0].frames
    volume = read_dicom_volume(volume_geometry(frames))
    if volume.data.ndim != 3:
        raise UnusableImage(f"4-D, {' x '.join(map(str, volume.data.shape))} voxels: one 3-D volume is needed")
    return volume.data, volume.affine


def _write(path: Path, data: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> None:
    """Write a NIfTI file with voxels and affine only, without description or extensions of the source."""
    from debian_mri.dicom.convert import DicomVolume, write_nifti

    if data.dtype.kind == "f" or data.dtype.itemsize > 4:
        data = data.astype(np.float32)
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir()
    write_nifti(path, DicomVolume(data=data, affine=affine, repetition_time=None))


def parse_pairs(text: str, option: str) -> dict[str, str]:
    """``"EMCI=MCI,LMCI=MCI"``, or a CSV file with the columns from and to, as a mapping.

    Raises:
        InputError: it is neither.
    """
    if not text:
        return {}
    if Path(text).suffix == ".csv":
        return {row["from"]: row["to"] for _, row in read_spreadsheet(Path(text), ("from", "to"))}
    pairs = [part.split("=") for part in text.split(",")]
    if not all(len(pair) == 2 and all(word.strip() for word in pair) for pair in pairs):
        raise InputError(f"{option} {text}: must be OLD=NEW,OLD=NEW or a CSV file with the columns from and to")
    return {old.strip(): new.strip() for old, new in pairs}


def project_or_random_salt(format: str, salt_file: str | Path | None) -> bytes:
    """Salt of the project, or for formats with hashed subjects a random one that is not stored."""
    from debian_mri.dicom.privacy.pseudonyms import project_salt

    if salt_file is not None:
        return project_salt(salt_file)
    get_reader(format)
    return secrets.token_bytes(32) if "salt_file" in FORMATS[format].options else b""


def check_format_options(format: str, options: Iterable[str]) -> None:
    """Check that the format's reader uses the given options.

    Raises:
        InputError: an option without effect.
    """
    get_reader(format)
    for name in options:
        if name not in FORMATS[format].options:
            option = "--" + re.sub("_", "-", name)
            takes = (
                ", ".join("--" + re.sub("_", "-", name_of_option) for name_of_option in FORMATS[format].options)
                or "none of the kind"
            )
            raise InputError(f"{option}: has no effect for --format {format} (it uses {takes})")
