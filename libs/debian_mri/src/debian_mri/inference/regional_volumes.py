"""Regional volumes of a prepared set or of files by registration to an atlas, as one table."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.volumes.atlas import Atlas
from debian_mri.biomarkers.volumes.regional import (
    AtlasGrid,
    ScanVolumes,
    affine_scale,
    measure_regions,
    table_of,
    write_regions,
)
from debian_mri.data.manifest import Manifest
from debian_mri.imaging.nifti import SUFFIXES
from debian_mri.imaging.preprocess import PreprocessConfig, Volume, preprocess
from debian_mri.imaging.template import Grid
from debian_mri.imaging.volume_cache import cached_volume, load_volume
from icube_common.errors import InputError
from icube_common.io.runs import check_output_path

logger = logging.getLogger(__name__)


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
    """Measure regional volumes and write ``out``, its JSON file and ``<out>.regions.csv``.

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
    for path in (out, regions_out):
        check_output_path(path, overwrite=overwrite)
    grids: dict[tuple[Any, ...], AtlasGrid] = {}
    ids: list[str] = []
    results: list[ScanVolumes] = []
    failed: dict[str, str] = {}
    for scan, volume in _volumes(source, config, root):
        try:
            if isinstance(volume, InputError):
                raise volume
            key = (volume.data.shape, tuple(np.round(volume.affine, 4).ravel().tolist()))
            if key not in grids:
                grids[key] = AtlasGrid(atlas, Grid(volume.data.shape, volume.affine))
            results.append(measure_regions(volume, grids[key], scale=affine_scale(volume)))
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
    for scan in tqdm(scans, desc="volumes", unit="scan", leave=False):
        try:
            yield scan.id, load_volume(cached_volume(manifest, scan, config))
        except InputError as error:
            yield scan.id, error
