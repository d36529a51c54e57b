"""Regional volumes by registration to an atlas: of a prepared set or of files as one table, of a scan to predict."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.volumes.atlas import Atlas
from debian_mri.biomarkers.volumes.planes import planes_path
from debian_mri.biomarkers.volumes.regional import (
    AtlasGrid,
    RegionVolume,
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
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.imaging.nifti import SUFFIXES
from debian_mri.imaging.preprocess import PreprocessConfig, Volume, preprocess
from debian_mri.imaging.template import Grid
from debian_mri.imaging.volume_cache import cached_volume, load_volume
from debian_mri.inference.scan_input import ScanSource
from debian_mri.models.mri_model import MriModel
from icube_common.data.manifest import write_rows
from icube_common.data.processes import WORKER_DIED, InlineExecutor, map_items, take_shard
from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from icube_common.io.runs import atomic_file, check_output_path, read_json, write_json

logger = logging.getLogger(__name__)

SPACING = 2.0
"""Spacing of the registration, mm, unless the volumes are coarser."""
MEASURE_VERSION = 1
"""Number of the measurements' algorithm: other numbers are measured again."""


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
    executor: Executor | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """Measure regional volumes and write ``out``, its JSON file, its planes and ``<out>.regions.csv``.

    Scans that cannot be measured, or whose worker process was killed twice, are in ``<out>.rejected.csv``. The
    measurements of each scan of a prepared folder are stored beside its preprocessed volume: started again, also after
    a kill or with another ``out``, only what is missing is measured. Several shards may run at once, on several
    machines; they store measurements, and a run without a shard writes the table.

    Args:
        source: a prepared folder, whose preprocessed volumes are cached; or a NIfTI file.
        atlas: label map, names and template.
        out: the table, a CSV file.
        config: preprocessing; by default affine registration at 2 mm, or none for a set in MNI space.
        root: folder of the images, where they have moved.
        strict: stop at the first scan that cannot be measured; else it is named and left out.
        overwrite: replace existing files.
        executor: where scans are measured, with the prepared folder on a disk that every worker reads; by default here.
        workers: scans at the same time; by default as many as the executor has.
        shard: ``(i, n)``: only each n-th scan, from the i-th on (from 0), and no table.

    Returns:
        Paths, counts, marked rows, disclaimers and citations; of a shard the counts alone.

    Raises:
        InputError: ``out`` exists, no scan can be measured, or (strict) one cannot.
    """
    out = Path(out)
    regions_out = out.with_suffix(".regions.csv")
    for path in (out, regions_out, planes_path(out)):
        check_output_path(path, overwrite=overwrite)
    ids: list[str] = []
    results: list[ScanVolumes] = []
    failed: dict[str, str] = {}
    for scan, result in _measured(Path(source), atlas, config, root, executor, workers, shard):
        if isinstance(result, ScanVolumes):
            results.append(result)
            ids.append(scan)
        elif strict:
            raise InputError(f"scan {scan}: {result}")
        else:
            failed[scan] = result
            logger.warning("%s is left out: %s", scan, result)
    if shard[1] > 1:
        return {"shard": f"{shard[0]}/{shard[1]}", "scans": len(ids), "failed": failed, "notice": RESEARCH_ONLY}
    if not results:
        raise InputError(f"{source}: no scan could be measured; the first: {next(iter(failed.values()), 'none there')}")
    table = table_of(ids, results, atlas)
    table.write(out, overwrite=overwrite)
    write_regions(regions_out, ids, results, overwrite=overwrite)
    rejected = out.with_suffix(".rejected.csv")
    rejected.unlink(missing_ok=True)
    if failed:
        with atomic_file(rejected) as temporary:
            write_rows(temporary, ("id", "reason"), sorted(failed.items()))
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


def _measured(
    source: Path,
    atlas: Atlas,
    config: PreprocessConfig | None,
    root: str | Path | None,
    executor: Executor | None,
    workers: int | None,
    shard: tuple[int, int],
) -> Iterator[tuple[str, ScanVolumes | str]]:
    """Ids and measurements; the reason in place of those of a scan that cannot be measured."""
    if source.is_file() and source.name.endswith(SUFFIXES):
        config = config or PreprocessConfig(registration="affine", spacing=2.0)
        volume = preprocess(source, config)
        name = source.name.removesuffix(".gz").rpartition(".")[0]
        yield name, measure_regions(volume, AtlasGrids(atlas).grid_of(volume), scale=affine_scale(volume))
        return
    manifest = Manifest.load(source, root=root)
    scans = [scan for scan in manifest.scans if scan.kind == "volume"]
    if not scans:
        raise InputError(f"{source}: holds no volumes")
    if config is None:
        registration = "none" if manifest.description["space"] == "mni" else "affine"
        config = PreprocessConfig(registration=registration, spacing=2.0)
    scans = take_shard(scans, shard)
    results = map_items(
        partial(_measure_scan, manifest, config, atlas),
        scans,
        executor=executor or InlineExecutor(),
        workers=workers,
        chunksize=1,
        lost=lambda _: WORKER_DIED,
    )
    with progress_bar(results, desc="volumes", unit="scan", total=len(scans), leave=False) as bar:
        yield from zip((scan.id for scan in scans), bar, strict=True)


# a worker puts the atlas on a grid once
_grids: dict[str, AtlasGrids] = {}


def _measure_scan(manifest: Manifest, config: PreprocessConfig, atlas: Atlas, scan: Scan) -> ScanVolumes | str:
    """Measurements of a scan, stored ones where they are there, or the reason of their absence."""
    digest = atlas_digest(atlas)
    try:
        path = cached_volume(manifest, scan, config)
        stored = path.with_name(path.name.removesuffix(".nii.gz") + f".regions-{digest[:16]}.json")
        if stored.is_file():
            return scan_volumes_from_dict(read_json(stored))
        if digest not in _grids:
            _grids.clear()
            _grids[digest] = AtlasGrids(atlas)
        volume = load_volume(path)
        result = measure_regions(volume, _grids[digest].grid_of(volume), scale=affine_scale(volume))
    except InputError as error:
        return str(error)
    write_json(stored, scan_volumes_to_dict(result))
    return result


def atlas_digest(atlas: Atlas) -> str:
    """SHA-256 of an atlas, of the version of its measurements and of the packages that make them."""
    digest = hashlib.sha256()
    parts = {
        "version": MEASURE_VERSION,
        "packages": {name: importlib.metadata.version(name) for name in ("SimpleITK", "scipy")},
        "name": atlas.name,
        "regions": [(region.number, region.name, region.side) for region in atlas.regions],
    }
    digest.update(json.dumps(parts, sort_keys=True).encode())
    for array in (atlas.labels, atlas.affine, atlas.template, atlas.template_affine):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def scan_volumes_to_dict(result: ScanVolumes) -> dict[str, Any]:
    """JSON-ready values of measurements, every number to its last bit; a NaN is None."""
    evans = result.evans_like_index
    return {
        "regions": [list(region) for region in result.regions],
        "columns": dict(result.columns),
        "planes": {name: values.tolist() for name, values in result.planes.items()},
        "positions_mm": result.positions_mm.tolist(),
        "evans_like_index": None if math.isnan(evans) else evans,
        "quality": dict(result.quality),
    }


def scan_volumes_from_dict(values: Mapping[str, Any]) -> ScanVolumes:
    """The inverse of `scan_volumes_to_dict`."""
    evans = values["evans_like_index"]
    return ScanVolumes(
        regions=tuple(RegionVolume(*region) for region in values["regions"]),
        columns=values["columns"],
        planes={name: np.array(planes) for name, planes in values["planes"].items()},
        positions_mm=np.array(values["positions_mm"]),
        evans_like_index=math.nan if evans is None else evans,
        quality=values["quality"],
    )
