"""Predictions of many scans: of a prepared set, of a list of volumes, of a folder of them.

A scan that cannot be used is listed in ``rejected.csv``, and the others are predicted. PRED holds ``predictions.tsv``
(a line a scan), ``predictions.json``, ``reports/<id>.json`` for ``debian-mri verify``, ``rejected.csv``, and ``pages/``
on request.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.volumes.atlas import Atlas
from debian_mri.biomarkers.volumes.regional import StructureLabels
from debian_mri.data.dataset import ScanDataset
from debian_mri.data.feature_store import ScanImages
from debian_mri.data.manifest import Scan
from debian_mri.inference.pipeline import MriPrediction
from debian_mri.inference.regional_volumes import AtlasGrids, register_structures
from debian_mri.inference.scan_input import (
    ScanSource,
    check_values,
    encode_for_model,
    load_scan_input,
    scan_of_set,
)
from debian_mri.inference.single_image import is_volume, open_image, stem
from debian_mri.models.mri_model import MriModel
from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from icube_common.io.runs import atomic_folder, check_output_path, write_json

logger = logging.getLogger(__name__)


def predict_set(
    run: str | Path | MriModel,
    data: ScanDataset | str | Path,
    out: str | Path,
    *,
    values: Mapping[str, str] | None = None,
    features: str | Path | None = None,
    sequence: str | None = None,
    volumes: str | Path | None = None,
    atlas: Atlas | None = None,
    pages: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Predict for all scans of a prepared set.

    Args:
        run: a trained model, or what `MriModel.from_pretrained` takes.
        data: a prepared set.
        out: the folder to make.
        values: variables that are the same for all, in place of those of the set.
        features: folder of slice features; by default below ``data``.
        sequence: MRI sequence of all scans, in place of the set's.
        volumes: table of volumes of the scans, for a model of volumes; by default that of the training.
        atlas: registered to each scan, as for `debian_mri.inference.pipeline.MriPipeline`.
        pages: write a page of each scan.
        overwrite: replace an existing ``out``.

    Returns:
        ``scans``, ``rejected``, ``abstained``, ``predicted`` (class -> number), paths.

    Raises:
        InputError: no such run or set, ``out`` exists, or no scan can be used.
    """
    check_output_path(out, overwrite=overwrite)
    model = run if isinstance(run, MriModel) else MriModel.from_pretrained(run)
    if volumes is not None:
        model.use_volumes(volumes)
    variables = check_values(model, values or {})
    manifest = ScanDataset.open(data).manifest

    def job(scan: Scan) -> _Job:
        return _Job(
            scan.id,
            {"subject": scan.subject, "label": scan.label},
            lambda: scan_of_set(model, manifest, scan, sequence),
        )

    register = _registration(model, atlas, volumes)
    predictions = _predictions(
        model, list(map(job, manifest.scans)), variables, manifest.folder, features, register=register
    )
    return _write(model, predictions, len(manifest.scans), out, pages=pages, overwrite=overwrite)


def predict_files(
    run: str | Path | MriModel,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    values: Mapping[str, str] | None = None,
    fill_nan: bool = False,
    sequence: str | None = None,
    volumes: str | Path | None = None,
    atlas: Atlas | None = None,
    pages: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Predict for several volumes, or for those in folders; DICOM folders are converted first.

    Args:
        run: a trained model, or what `MriModel.from_pretrained` takes.
        paths: NIfTI files, folders that hold some (with all folders below), DICOM folders.
        out: the folder to make.
        values: variables that all of them share; what differs is missing.
        fill_nan: NaN voxels outside the head become background.
        sequence: MRI sequence of all images, in place of those of their names and headers.
        volumes: table of volumes of the scans, for a model of volumes; by default that of the training.
        atlas: registered to each scan, as for `debian_mri.inference.pipeline.MriPipeline`.
        pages: write a page of each.
        overwrite: replace an existing ``out``.

    Returns:
        As `predict_set`.

    Raises:
        InputError: as `predict_set`.
    """
    check_output_path(out, overwrite=overwrite)
    model = run if isinstance(run, MriModel) else MriModel.from_pretrained(run)
    if volumes is not None:
        model.use_volumes(volumes)
    variables = check_values(model, values or {})
    files = list(images_in(paths))

    def job(name: str, file: Path) -> _Job:
        return _Job(
            name, {"source": str(file)}, lambda: open_image(model, [file], fill_nan=fill_nan, sequence=sequence)
        )

    names = [stem(file) for file in files]
    # files of one name in several folders get a number
    ids = [name if names.count(name) == 1 else f"{name}-{at}" for at, name in enumerate(names, 1)]
    register = _registration(model, atlas, volumes)
    predictions = _predictions(model, list(map(job, ids, files)), variables, None, register=register)
    return _write(model, predictions, len(files), out, pages=pages, overwrite=overwrite)


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
        volumes = volumes_below(path)
        yield from volumes or [path]


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
        open: opens the scan.
    """

    name: str
    known: Mapping[str, str]
    open: Callable[[], ScanSource]


def _registration(
    model: MriModel, atlas: Atlas | None, volumes: str | Path | None
) -> Callable[[ScanSource], StructureLabels | None]:
    """Structures of each scan by registration of an atlas; of a user's table of volumes the atlas changes nothing."""
    if atlas is None:
        return lambda _: None
    grids = AtlasGrids(atlas)
    return lambda source: register_structures(model, source, grids, measure=volumes is None)


def _predictions(
    model: MriModel,
    jobs: Sequence[_Job],
    values: Mapping[str, str],
    data: Path | None,
    features: str | Path | None = None,
    *,
    register: Callable[[ScanSource], StructureLabels | None],
) -> Iterator[tuple[_Job, MriPrediction | InputError]]:
    """Each scan's prediction or error, in order; scans are joined in batches of the image encoder."""

    def scans() -> Iterator[tuple[tuple[_Job, ScanSource | InputError], ScanImages | None]]:
        for job in jobs:
            try:
                source = job.open()
            except InputError as error:
                yield (job, error), None
            else:
                yield (job, source), source.images

    for encoded in encode_for_model(model, scans(), data, features=features):
        job, source = encoded.item
        if isinstance(source, InputError) or encoded.error is not None:
            yield job, source if isinstance(source, InputError) else encoded.error or InputError(job.name)
            continue
        try:
            structures = register(source)
            scan_input = load_scan_input(model, source, values=values, encoded=encoded)
            yield job, MriPrediction.of(model, scan_input, source.volume, structures)
        except InputError as error:
            yield job, error


def _write(
    model: MriModel,
    predictions: Iterable[tuple[_Job, MriPrediction | InputError]],
    count: int,
    out: str | Path,
    *,
    pages: bool,
    overwrite: bool,
) -> dict[str, Any]:
    classes = model.labels
    rows: list[dict[str, Any]] = []
    rejected: list[tuple[str, str]] = []
    with atomic_folder(out, overwrite=overwrite) as temporary:
        for job, prediction in progress_bar(predictions, desc="scans", unit="scan", leave=False, total=count):
            name, identity = job.name, job.known
            if isinstance(prediction, InputError):
                rejected.append((identity.get("source", name), str(prediction)))
                logger.warning("%s: %s", name, prediction)
                continue
            file = _file_name(name)
            prediction.save_report(temporary / "reports" / f"{file}.json")
            if pages:
                prediction.save_html(temporary / "pages" / f"{file}.html")
            rows.append({"id": name, **identity, **_row(prediction, classes)})
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


def _row(prediction: MriPrediction, classes: Sequence[str]) -> dict[str, Any]:
    explanation = prediction.explanation
    return {
        "predicted": explanation.predicted,
        **{f"probability_{name}": explanation.probability(name) for name in classes},
        "abstained": explanation.abstained,
        "simulated": explanation.simulated,
        "warnings": " ".join(explanation.warnings),
    }


def _table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Tabs between cells; the notice stands in each row, so that no part of the table is without it."""
    lines = [[*rows[0], "notice"]]
    lines += [[*(str(value) for value in row.values()), RESEARCH_ONLY] for row in rows]
    text = "\n".join("\t".join(re.sub(r"\s", " ", cell) for cell in line) for line in lines)
    path.write_text(text + "\n", encoding="utf-8")


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
