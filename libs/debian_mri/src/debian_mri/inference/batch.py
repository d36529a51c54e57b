"""Predictions for many scans: of a prepared set, of a list of volumes, of a folder of them.

A scan that cannot be used gets a line in ``rejected.csv`` and the others go on. PRED holds ``predictions.tsv`` (a line
a scan), ``predictions.json``, ``reports/<id>.json`` for ``debian-mri verify``, ``rejected.csv``, and ``pages/`` where
asked for.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from debian_mri import RESEARCH_ONLY
from debian_mri.data.feature_store import ScanFeatures, ScanImages
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.inference.pipeline import Prediction, predict_scan
from debian_mri.inference.scan_input import check_values, encoded_for, of_sequence, read_scan
from debian_mri.inference.single_image import is_volume, single, stem
from debian_mri.models.checkpoint import SavedModel, load_model
from icube_common.errors import InputError
from icube_common.runs import atomic_folder, refuse_existing, write_json

logger = logging.getLogger(__name__)


def predict_set(
    run: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    values: Mapping[str, str] | None = None,
    features: str | Path | None = None,
    root: str | Path | None = None,
    sequence: str | None = None,
    pages: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Predict for all scans of a prepared set.

    Args:
        run: a run folder, or its ``model``.
        data: a prepared set.
        out: the folder to make.
        values: variables that are the same for all, in place of those of the set.
        features: folder of slice features; by default below ``data``.
        root: where the images lie now, if they moved.
        sequence: MRI sequence of all scans, in place of the set's.
        pages: write a page of each scan.
        overwrite: replace an existing ``out``.

    Returns:
        ``scans``, ``rejected``, ``abstained``, ``predicted`` (class -> number), paths.

    Raises:
        InputError: no such run or set, ``out`` exists, or no scan can be used.
    """
    refuse_existing(out, overwrite=overwrite)
    saved = load_model(run)
    given = check_values(saved, values or {})
    manifest = Manifest.load(data, root=root)

    def job(scan: Scan) -> _Job:
        return _Job(
            scan.id,
            {"subject": scan.subject, "label": scan.label},
            lambda _: (manifest, *of_sequence(saved, scan, sequence)),
        )

    found = _predictions(saved, list(map(job, manifest.scans)), given, manifest.folder, features)
    return _write(saved, found, len(manifest.scans), out, pages=pages, overwrite=overwrite)


def predict_files(
    run: str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    values: Mapping[str, str] | None = None,
    fill_nan: bool = False,
    sequence: str | None = None,
    pages: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Predict for several volumes, or for those in folders; DICOM folders are converted first.

    Args:
        run: a run folder, or its ``model``.
        paths: NIfTI files, folders that hold some (with all folders below), DICOM folders.
        out: the folder to make.
        values: variables that all of them share; what differs is missing.
        fill_nan: NaN voxels outside the head become background.
        sequence: MRI sequence of all images, in place of what their names and headers say.
        pages: write a page of each.
        overwrite: replace an existing ``out``.

    Returns:
        As `predict_set`.

    Raises:
        InputError: as `predict_set`.
    """
    refuse_existing(out, overwrite=overwrite)
    saved = load_model(run)
    given = check_values(saved, values or {})
    files = list(images_in(paths))

    def job(name: str, file: Path) -> _Job:
        return _Job(
            name,
            {"source": str(file)},
            lambda stack: stack.enter_context(single(saved, [file], fill_nan=fill_nan, sequence=sequence)),
        )

    names = [stem(file) for file in files]
    # files of one name in several folders get a number
    ids = [name if names.count(name) == 1 else f"{name}-{at}" for at, name in enumerate(names, 1)]
    found = _predictions(saved, list(map(job, ids, files)), given, None)
    return _write(saved, found, len(files), out, pages=pages, overwrite=overwrite)


def images_in(paths: Sequence[str | Path]) -> Iterator[Path]:
    """Volumes as given and in folders, in order of their names; a folder without any is taken for one of DICOM files.

    Raises:
        InputError: no such file or folder.
    """
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if not path.is_dir():
            yield path
            continue
        found = volumes_below(path)
        yield from found or [path]


def volumes_below(folder: Path) -> list[Path]:
    """NIfTI and MGH files of a folder and those below it; of a pair of header and voxels the header."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and is_volume(file)
        and not (file.suffix.lower() == ".img" and file.with_suffix(".hdr").is_file())
    )


@dataclass(eq=False)
class _Job:
    """A scan to predict.

    Attributes:
        name: its id.
        known: cells of its row in the table.
        open: its set, its row in there, and notes; what is to be closed after the prediction goes on the stack.
    """

    name: str
    known: Mapping[str, str]
    open: Callable[[ExitStack], tuple[Manifest, Scan, Sequence[str]]]
    stack: ExitStack = field(default_factory=ExitStack)
    error: InputError | None = None
    opened: tuple[Manifest, Scan, Sequence[str]] | None = None


def _predictions(
    saved: SavedModel,
    jobs: Sequence[_Job],
    values: Mapping[str, str],
    data: Path | None,
    features: str | Path | None = None,
) -> Iterator[tuple[_Job, Prediction | InputError]]:
    """Each scan's prediction or what is wrong with it, in order; scans are joined in the tower's batches."""

    def scans() -> Iterator[tuple[_Job, ScanImages | None]]:
        for job in jobs:
            images = None
            try:
                every.callback(job.stack.close)
                manifest, scan, _ = job.opened = job.open(job.stack)
                images = ScanImages(manifest, scan, saved.model.config)
            except InputError as error:
                job.error = error
            yield job, images

    with ExitStack() as every:
        for encoded in encoded_for(saved, scans(), data, features=features):
            job = encoded.item
            with job.stack:
                yield job, job.error or encoded.error or _predicted(saved, job, encoded, values)


def _predicted(
    saved: SavedModel, job: _Job, encoded: ScanFeatures[_Job], values: Mapping[str, str]
) -> Prediction | InputError:
    assert job.opened is not None
    manifest, scan, notes = job.opened
    # the second reading, which checks the first, opens the image anew
    readings = iter((encoded, replace(encoded, images=None)))
    try:
        return predict_scan(
            saved, lambda: read_scan(saved, manifest, scan, values=values, notes=notes, encoded=next(readings))
        )
    except InputError as error:
        return error


def _write(
    saved: SavedModel,
    predictions: Iterable[tuple[_Job, Prediction | InputError]],
    count: int,
    out: str | Path,
    *,
    pages: bool,
    overwrite: bool,
) -> dict[str, Any]:
    classes = saved.model.labels
    rows: list[dict[str, Any]] = []
    rejected: list[tuple[str, str]] = []
    with atomic_folder(out, overwrite=overwrite) as temporary:
        for job, found in tqdm(predictions, desc="scans", unit="scan", leave=False, total=count):
            name, known = job.name, job.known
            if isinstance(found, InputError):
                rejected.append((known.get("source", name), str(found)))
                logger.warning("%s: %s", name, found)
                continue
            file = _file_name(name)
            found.write(report=temporary / "reports" / f"{file}.json")
            if pages:
                found.write(html=temporary / "pages" / f"{file}.html")
            rows.append({"id": name, **known, **_row(found, classes)})
        if not rows:
            raise InputError(f"none of {count} scans can be used: {rejected[0][1] if rejected else 'there is none'}")
        _table(temporary / "predictions.tsv", rows)
        write_json(temporary / "predictions.json", {"notice": RESEARCH_ONLY, "classes": list(classes), "scans": rows})
        with (temporary / "rejected.csv").open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle, lineterminator="\n").writerows([("source", "reason"), *rejected])
    counts = {name: sum(row["predicted"] == name for row in rows) for name in classes}
    return {
        "notice": RESEARCH_ONLY,
        "out": str(out),
        "scans": len(rows),
        "rejected": len(rejected),
        "abstained": sum(row["abstained"] for row in rows),
        "predicted": counts,
        "table": str(Path(out) / "predictions.tsv"),
        "reports": str(Path(out) / "reports"),
        **({"pages": str(Path(out) / "pages")} if pages else {}),
        "first_rejected": ": ".join(rejected[0]) if rejected else None,
    }


def _row(found: Prediction, classes: Sequence[str]) -> dict[str, Any]:
    explanation = found.explanation
    return {
        "predicted": explanation.predicted,
        **{f"probability_{name}": explanation.probability(name) for name in classes},
        "abstained": explanation.abstained,
        "simulated": explanation.simulated,
        "notes": " ".join(explanation.notes),
    }


def _table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Tabs between cells; the notice stands in each row, so that no part of the table is without it."""
    lines = [[*rows[0], "notice"]]
    lines += [[*(str(value) for value in row.values()), RESEARCH_ONLY] for row in rows]
    text = "\n".join("\t".join(re.sub(r"\s", " ", cell) for cell in line) for line in lines)
    path.write_text(text + "\n", encoding="utf-8")


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
