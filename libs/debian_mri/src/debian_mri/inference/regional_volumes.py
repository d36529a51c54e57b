"""Regional volumes by registration to an atlas: of a prepared set or of files as one table, of a scan to predict."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.volumes.atlas import Atlas
from debian_mri.biomarkers.volumes.planes import planes_path
from debian_mri.biomarkers.volumes.regional import (
    AtlasGrid,
    ScanVolumes,
    StructureLabels,
    affine_scale,
    label_structures,
    measure_regions,
    register_to_atlas,
    table_of,
    write_regions,
)
from debian_mri.biomarkers.volumes.scores import VOLUME_BIOMARKERS, structures_of
from debian_mri.biomarkers.volumes.structures import STRUCTURES
from debian_mri.biomarkers.volumes.table import VolumeTable
from debian_mri.data.manifest import Manifest
from debian_mri.imaging.nifti import SUFFIXES
from debian_mri.imaging.preprocess import PreprocessConfig, Volume, preprocess
from debian_mri.imaging.template import Grid
from debian_mri.imaging.volume_cache import cached_volume, load_volume
from debian_mri.inference.scan_input import ScanSource
from debian_mri.models.mri_model import MriModel
from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from icube_common.io.runs import check_output_path

logger = logging.getLogger(__name__)

SPACING = 2.0
"""Spacing of the registration, mm, unless the volumes are coarser."""


class AtlasGrids:
    """An atlas on the grids of the scans that it is registered to.

    Args:
        atlas: label map, names and template.
    """

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self._grids: dict[tuple[Any, ...], AtlasGrid] = {}

    def grid_of(self, volume: Volume) -> AtlasGrid:
        """The atlas on a volume's grid; raises as `AtlasGrid`."""
        key = (volume.data.shape, tuple(np.round(volume.affine, 4).ravel().tolist()))
        if key not in self._grids:
            self._grids[key] = AtlasGrid(self.atlas, Grid(volume.data.shape, volume.affine))
        return self._grids[key]


def register_structures(
    model: MriModel, source: ScanSource, grids: AtlasGrids, *, measure: bool = True
) -> StructureLabels:
    """Register an atlas to a scan: the structures of the model's biomarkers on its grid, for the page.

    For a model of volumes the scan's volumes are measured and take the place of a table's.

    Args:
        model: a trained model.
        source: the scan.
        grids: the atlas.
        measure: false for structures alone.

    Raises:
        InputError: slice images, a model of another space, an atlas without the model's structures, volumes of another
            program than the training's, or a registration that fails.
    """
    images, config = source.images, model.config.preprocess
    if source.scan.kind != "volume" or config.space != "mni":
        raise InputError(f"--atlas: {source.scan.id}: an atlas is registered to volumes in MNI space")
    spacing = max(SPACING, config.spacing)
    same = spacing == config.spacing
    volume = images.volume if same else images.volume_of(replace(config, spacing=spacing))
    grid = grids.grid_of(volume)
    deformation = register_to_atlas(volume, grid)
    result = measure_regions(volume, grid, scale=affine_scale(volume), deformation=deformation)
    table = table_of([source.scan.id], [result], grids.atlas)
    if measure and model.biomarkers is not None and model.config.concepts.volumes:
        model.check_volumes(table, f"--atlas {grids.atlas.name}")
        images.volumes = table
    names = [] if model.biomarkers is None else list(model.biomarkers.names)
    labels = label_structures(volume, grid, deformation, structure_columns(table, names))
    if not labels.names:
        raise InputError(f"--atlas {grids.atlas.name}: has no structure of the model's biomarkers")
    return labels


def structure_columns(table: VolumeTable, biomarkers: Sequence[str]) -> list[str]:
    """Columns of a table whose structures biomarkers are about, each once; none of the table's reference volumes."""
    names = [
        structure
        for biomarker in biomarkers
        if biomarker in VOLUME_BIOMARKERS
        for structure in structures_of(table, VOLUME_BIOMARKERS[biomarker])
    ]
    return [
        column
        for name in dict.fromkeys(names)
        if STRUCTURES[name].tissue != "total"
        for column in STRUCTURES[name].columns
    ]


def measure_volumes(
    source: str | Path,
    atlas: Atlas,
    out: str | Path,
    *,
    config: PreprocessConfig | None = None,
    root: str | Path | None = None,
    strict: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Measure regional volumes and write ``out``, its JSON file, its planes and ``<out>.regions.csv``.

    Args:
        source: a prepared folder, whose preprocessed volumes are cached; or a NIfTI file.
        atlas: label map, names and template.
        out: the table, a CSV file.
        config: preprocessing; by default affine registration at 2 mm, or none for a set in MNI space.
        root: folder of the images, where they have moved.
        strict: stop at the first scan that cannot be measured; else it is named and left out.
        overwrite: replace existing files.

    Returns:
        Paths, counts, marked rows, disclaimers and citations.

    Raises:
        InputError: ``out`` exists, no scan can be measured, or (strict) one cannot.
    """
    out = Path(out)
    regions_out = out.with_suffix(".regions.csv")
    for path in (out, regions_out, planes_path(out)):
        check_output_path(path, overwrite=overwrite)
    grids = AtlasGrids(atlas)
    ids: list[str] = []
    results: list[ScanVolumes] = []
    failed: dict[str, str] = {}
    for scan, volume in _volumes(source, config, root):
        try:
            if isinstance(volume, InputError):
                raise volume
            results.append(measure_regions(volume, grids.grid_of(volume), scale=affine_scale(volume)))
            ids.append(scan)
        except InputError as error:
            if strict:
                raise InputError(f"scan {scan}: {error}") from error
            failed[scan] = str(error)
            logger.warning("%s is left out: %s", scan, error)
    if not results:
        raise InputError(f"{source}: no scan could be measured; the first: {next(iter(failed.values()), 'none there')}")
    table = table_of(ids, results, atlas)
    table.write(out, overwrite=overwrite)
    write_regions(regions_out, ids, results, overwrite=overwrite)
    marked = [scan for scan, result in zip(ids, results, strict=True) if result.quality["quality"] != "ok"]
    return {
        "out": str(out),
        "regions": str(regions_out),
        "planes": "" if table.planes is None else str(planes_path(out)),
        "scans": len(ids),
        "columns": list(table.names),
        "masks": sorted({result.quality["mask"] for result in results}),
        "marked": marked,
        "failed": failed,
        "disclaimers": list(table.disclaimers),
        "citations": list(table.citations),
        "notice": RESEARCH_ONLY,
    }


def _volumes(
    source: str | Path, config: PreprocessConfig | None, root: str | Path | None
) -> Iterator[tuple[str, Volume | InputError]]:
    """Ids and preprocessed volumes; an error in place of one that cannot be used."""
    source = Path(source)
    if source.is_file() and source.name.endswith(SUFFIXES):
        config = config or PreprocessConfig(registration="affine", spacing=2.0)
        yield source.name.removesuffix(".gz").rpartition(".")[0], preprocess(source, config)
        return
    manifest = Manifest.load(source, root=root)
    scans = [scan for scan in manifest.scans if scan.kind == "volume"]
    if not scans:
        raise InputError(f"{source}: holds no volumes")
    if config is None:
        registration = "none" if manifest.description["space"] == "mni" else "affine"
        config = PreprocessConfig(registration=registration, spacing=2.0)
    for scan in progress_bar(scans, desc="volumes", unit="scan", leave=False):
        try:
            yield scan.id, load_volume(cached_volume(manifest, scan, config))
        except InputError as error:
            yield scan.id, error
