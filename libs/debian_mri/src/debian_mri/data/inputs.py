"""Model inputs of scans: slice features, biomarkers and clinical variables, without labels.

Tables are read through the views of a fold (`Inputs.part`), so that a training never reads a test row.

Shapes: S slices, D width of the features, K signs, P variables.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from debian_mri.biomarkers.measure import BIOMARKERS
from debian_mri.biomarkers.volumes.scores import VOLUME_BIOMARKERS, read_volumes
from debian_mri.biomarkers.volumes.table import VolumeTable
from debian_mri.config import MriConfig
from debian_mri.data.clinical_variables import Column
from debian_mri.data.feature_store import (
    ScanFeatures,
    ScanImages,
    check_encoder,
    encode_scans,
    encoder_inputs,
    features_folder,
    open_folder,
    read_pixels,
    scan_signs,
    uses_pixels,
)
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.data.participants import Participants
from debian_mri.imaging.preprocess import mask_warnings
from debian_mri.imaging.slices import SliceInfo, pixel_features
from icube_common.errors import InputError, unknown
from icube_common.io.progress import progress_bar
from icube_common.tabular import TabularData
from icube_common.vlm import FeatureCache, FrozenVLM

logger = logging.getLogger(__name__)

VOLUMES_BY = "Volumes of structures by "
UNMEASURED = "Not measured on these images: "

View = Callable[[Any], Mapping[str, Any]]


def scan_pixels(images: ScanImages, vlm: FrozenVLM) -> Float[Tensor, "s ..."]:
    """Preprocessed slices (S, 3, H, W) of a scan, or its volume (1, 1, X, Y, Z), in half precision.

    Raises:
        InputError: an image cannot be used.
    """
    return torch.stack(list(encoder_inputs(images, vlm))).half()


class ScanPixels(Mapping[str, Tensor]):
    """Pixels of a set's scans by id, kept in half precision once they are read.

    Args:
        manifest: the set.
        config: preprocessing and slices.
        vlm: gives the preprocessing of the image tower.

    Raises:
        InputError: (on access) an image cannot be used.
    """

    def __init__(self, manifest: Manifest, config: MriConfig, vlm: FrozenVLM) -> None:
        self._manifest, self._config, self._vlm = manifest, config, vlm
        self._scans = {scan.id: scan for scan in manifest.scans}
        self._cached: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Float[Tensor, "s ..."]:
        if name not in self._cached:
            images = ScanImages(self._manifest, self._scans[name], self._config)
            try:
                self._cached[name] = scan_pixels(images, self._vlm)
            except InputError as error:
                raise InputError(f"scan {name}: {error}") from error
        return self._cached[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scans)

    def __len__(self) -> int:
        return len(self._scans)


class PixelRows:
    """Pixels of some scans in their order, by number as a tensor (N, S, ...) has them; NaN for missing slices.

    Args:
        pixels: by id.
        ids: the scans.
    """

    def __init__(self, pixels: Mapping[str, Tensor], ids: Sequence[str]) -> None:
        self._pixels, self._ids = pixels, tuple(ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        if isinstance(index, int):
            return self._pixels[self._ids[index]]
        ids = self._ids[index] if isinstance(index, slice) else [self._ids[place] for place in index.tolist()]
        rows = [self._pixels[name] for name in ids]
        longest = max(len(row) for row in rows)
        padded = rows[0].new_full((len(rows), longest, *rows[0].shape[1:]), torch.nan)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row
        return padded


@dataclass(frozen=True, eq=False)
class Inputs:
    """The tables of a set's scans; what a configuration does not use is None.

    Attributes:
        ids: in the manifest's order.
        features: scan id -> ``(S, W)`` of the image branch: of the frozen image encoder, or pixels.
        slices: scan id -> what its slices are.
        signs: measured signs, NaN where a structure is not shown.
        demographics: the people's variables, NaN where missing.
        columns: descriptions of the variables.
        disclaimers: lines for every report: variables of tier C, and `volume_disclaimers`.
        warnings: warnings about the tables.
        joint: scan id -> ``(S, D)`` in the space of the texts, where the encoder has separate features.
        volume_disclaimers: program, disclaimers and citations of a table of volumes.
        encoded: scan id -> ``(S, E)`` of the frozen image encoder for baselines, where ``features`` are pixels.
        tower_inputs: scan id -> preprocessed slices ``(S, 3, H, W)`` or volume ``(1, 1, X, Y, Z)``, for fine-tuning.
    """

    ids: tuple[str, ...]
    features: Mapping[str, Float[Tensor, "s w"]] | None = None
    slices: Mapping[str, tuple[SliceInfo, ...]] = field(default_factory=dict)
    biomarkers: TabularData | None = None
    demographics: TabularData | None = None
    columns: tuple[Column, ...] = ()
    disclaimers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    joint: Mapping[str, Float[Tensor, "s d"]] | None = None
    volume_disclaimers: tuple[str, ...] = ()
    encoded: Mapping[str, Float[Tensor, "s e"]] | None = None
    tower_inputs: Mapping[str, Float[Tensor, "s ..."]] | None = None

    def part(self, view: View) -> Inputs:
        """The tables through a view of a fold (``fold.side_table``, ``fold.test_inputs``): only its rows are read."""
        features, pixels = (None if images is None else view(images) for images in (self.features, self.tower_inputs))
        biomarkers, demographics = _through(self.biomarkers, view), _through(self.demographics, view)
        images = features if features is not None else pixels
        table = images if images is not None else biomarkers or demographics
        assert table is not None
        ids = table.ids if isinstance(table, TabularData) else tuple(table)
        tables: dict[str, Any] = {"features": features, "tower_inputs": pixels, "joint": None, "encoded": None}
        return replace(self, ids=ids, biomarkers=biomarkers, demographics=demographics, **tables)


def _through(table: TabularData | None, view: View) -> TabularData | None:
    if table is None:
        return None
    rows = view(dict(zip(table.ids, table.values, strict=True)))
    values = np.stack([rows[name] for name in rows]) if len(rows) else np.zeros((0, len(table.names)))
    return replace(table, ids=tuple(rows), values=values)


def used_by(inputs: Inputs, config: MriConfig, *, encoded: bool = False) -> Inputs:
    """The inputs without what a configuration does not use; for other settings of the same data.

    Args:
        inputs: the tables.
        config: the settings.
        encoded: the features are those of the trained image tower, so that no pixels are needed.

    Raises:
        InputError: the configuration uses a table that was not loaded.
    """
    required = {
        "features": config.visual.enabled and (encoded or not config.finetune.enabled),
        "tower_inputs": config.finetune.enabled and not encoded,
        "biomarkers": config.concepts.enabled,
        "demographics": config.demographics.mode != "none",
    }
    for name, wants in required.items():
        if wants and getattr(inputs, name) is None:
            raise InputError(f"{name}: the settings use them, and they were not loaded for this set")
    tables: dict[str, Any] = {name: getattr(inputs, name) if wants else None for name, wants in required.items()}
    biomarkers = tables["biomarkers"]
    if biomarkers is not None and config.concepts.biomarkers:
        places = [_place(name, biomarkers.names) for name in config.concepts.biomarkers]
        tables["biomarkers"] = TabularData(
            ids=biomarkers.ids,
            names=tuple(config.concepts.biomarkers),
            values=biomarkers.values[:, places],
            units=tuple(biomarkers.units[place] for place in places),
        )
    if not required["demographics"]:
        tables |= {"columns": (), "disclaimers": inputs.volume_disclaimers if required["biomarkers"] else ()}
    return replace(inputs, **tables)


def load_inputs(
    manifest: Manifest,
    config: MriConfig,
    vlm: FrozenVLM | None = None,
    *,
    features: str | Path | None = None,
    encode: bool = False,
) -> Inputs:
    """Load the inputs of a configuration for a set's scans.

    Args:
        manifest: the set.
        config: all settings.
        vlm: the backbone of slice features; None where ``config.visual.enabled`` is false.
        features: folder of slice features; what is missing in it is computed and stored. None: below the set.
        encode: load features of the frozen image encoder also where the image branch takes pixels, or trains a part of
            the image tower.

    Raises:
        InputError: an image cannot be used, features are of another backbone or other slices, a variable is of tier C
            without the flag, or none of the variables or signs is there.
    """
    ids = tuple(scan.id for scan in manifest.scans)
    features_by_id: dict[str, Tensor] = {}
    joint: dict[str, Tensor] = {}
    slices: dict[str, tuple[SliceInfo, ...]] = {}
    rows: list[Any] = []
    masks: list[str] = []
    volumes = read_volumes(config.concepts.volumes) if config.concepts.enabled and config.concepts.volumes else None
    candidates = tuple(BIOMARKERS if volumes is None else VOLUME_BIOMARKERS)
    names = tuple(config.concepts.biomarkers or candidates)
    for name in names:
        _place(name, candidates)
    encoded: dict[str, Tensor] = {}
    cache, tower_inputs, pixels = None, None, False
    if config.visual.enabled:
        assert vlm is not None, "visual.enabled needs a backbone"
        pixels = uses_pixels(config, vlm)
    if config.finetune.enabled:
        assert vlm is not None
        check_encoder(vlm, {scan.kind for scan in manifest.scans})
        logger.info("Scans enter as pixels, and no features are cached: the image tower is trained in part")
        tower_inputs = ScanPixels(manifest, config, vlm)
    featured = config.visual.enabled and (encode or not config.finetune.enabled)
    if featured and (encode or not pixels):
        assert vlm is not None
        check_encoder(vlm, {scan.kind for scan in manifest.scans})
        folder = features_folder(manifest.folder, features, config, vlm)
        cache = None if folder is None else open_folder(folder, config, vlm)
    sign_cache = FeatureCache(manifest.folder / "features" / "biomarkers") if cache is not None else None
    if featured or config.concepts.enabled:
        scans = ((scan, ScanImages(manifest, scan, config)) for scan in manifest.scans)
        read: Iterable[ScanFeatures[Scan]] = (ScanFeatures(scan, images) for scan, images in scans)
        if featured:
            assert vlm is not None
            read = encode_scans(scans, vlm, cache) if encode or not pixels else read_pixels(scans)
        for one in progress_bar(read, desc="images", unit="scan", leave=False, total=len(manifest.scans)):
            try:
                if one.error is not None:
                    raise one.error
                if one.images is not None:
                    masks.append(one.images.mask_source)
                if one.features is not None:
                    features_by_id[one.item.id], slices[one.item.id] = one.features, one.slices
                    if encode and pixels:
                        assert one.images is not None
                        encoded[one.item.id] = one.features
                        features_by_id[one.item.id] = torch.from_numpy(
                            pixel_features(one.images.slices, config.slices.planes)
                        )
                if one.joint is not None:
                    joint[one.item.id] = one.joint
                if config.concepts.enabled:
                    assert one.images is not None
                    rows.append(scan_signs(one.images, names, sign_cache))
            except InputError as error:
                raise InputError(f"scan {one.item.id}: {error}") from error
    warnings: list[str] = []
    biomarkers = None
    if config.concepts.enabled:
        biomarkers, warnings = _biomarker_table(manifest, config, names, np.stack(rows), volumes)
    demographics: TabularData | None = None
    columns: tuple[Column, ...] = ()
    disclaimers: tuple[str, ...] = ()
    if config.demographics.mode != "none":
        demographics, columns, disclaimers, said = demographic_table(manifest.participants(), config)
        warnings += said
    volume_lines = () if volumes is None else volume_disclaimers(volumes)
    disclaimers = (*disclaimers, *volume_lines)
    warnings += mask_warnings(masks)
    if config.visual.enabled and vlm is not None and vlm.weights_warning:
        warnings.append(f"Backbone: {vlm.weights_warning}.")
    return Inputs(
        ids,
        features_by_id if featured else None,
        slices,
        biomarkers,
        demographics,
        columns,
        disclaimers,
        (*disclaimers, *warnings),
        joint or None,
        volume_lines,
        encoded or None,
        tower_inputs,
    )


def _biomarker_table(
    manifest: Manifest,
    config: MriConfig,
    names: tuple[str, ...],
    values: Float[np.ndarray, "n k"],
    volumes: VolumeTable | None,
) -> tuple[TabularData | None, list[str]]:
    """The signs that can be measured on this set, and which not and why."""
    for row, scan in enumerate(manifest.scans):
        if volumes is None and scan.sequence != "T1w":
            values[row] = np.nan
    there = ~np.isnan(values).all(axis=0)
    if volumes is not None and not there.any():
        raise InputError(f"{config.concepts.volumes}: no biomarker: it lacks the structures or the intracranial volume")
    if not there.any():
        raise InputError(
            f"{manifest.folder}: no sign can be measured: it takes T1w volumes in MNI space, or slice images of a "
            "known frame (concepts.slice_geometry); set concepts.enabled=false"
        )
    warnings = [f"{UNMEASURED}{name}." for name, measured in zip(names, there, strict=True) if not measured]
    if config.concepts.biomarkers and warnings:
        raise InputError(f"{manifest.folder}: concepts.biomarkers: {warnings[0]}")
    names_measured = tuple(name for name, measured in zip(names, there, strict=True) if measured)
    ids = tuple(scan.id for scan in manifest.scans)
    unit = "log share of fluid" if volumes is None else "log share of volume"
    table = TabularData(ids=ids, names=names_measured, values=values[:, there], units=(unit,) * len(names_measured))
    return table, warnings


def volume_disclaimers(volumes: VolumeTable) -> tuple[str, ...]:
    """Program, disclaimers and citations of a table of volumes, for every output."""
    programs = ", ".join(sorted(set(filter(None, volumes.sources))))
    return (f"{VOLUMES_BY}{programs}.", *volumes.disclaimers, *volumes.citations)


def demographic_table(
    participants: Participants, config: MriConfig
) -> tuple[TabularData, tuple[Column, ...], tuple[str, ...], list[str]]:
    """The configured variables, their descriptions, disclaimers for those of tier C, and warnings about absent ones.

    Raises:
        InputError: none of them is there, one is of tier C without the flag, or a value is missing and
            ``demographics.missing=refuse``.
    """
    settings = config.demographics
    missing = participants.missing()
    empty = [name for name in settings.columns if missing.get(name) == len(participants.ids)]
    defaults = type(settings)().columns
    # of the variables that are wanted anyhow a set may lack some; what a user names has to be there
    absent = [
        name for name in settings.columns if name not in participants.names and list(settings.columns) == defaults
    ]
    names = [name for name in settings.columns if name not in absent and name not in empty]
    table = participants.select(names, allow_diagnostic=settings.allow_diagnostic)
    if not names:
        raise InputError(f"demographics.columns={','.join(settings.columns)}: none of them has a value in this set")
    gaps = np.isnan(table.values).any(axis=1)
    if settings.missing == "refuse" and gaps.any():
        row = int(np.argmax(gaps))
        name = table.names[int(np.argmax(np.isnan(table.values[row])))]
        raise InputError(
            f"{name} of scan {table.ids[row]} is missing ({int(gaps.sum())} scans lack a value): fill it in, leave the "
            "variable out, or set demographics.missing=mean_impute"
        )
    close = [name for name in names if participants.column(name).leakage_tier == "C"]
    disclaimers = tuple(
        f"Uses {name}, of tier C: it is close to the diagnosis by construction, "
        "so the figures are little evidence about images."
        for name in close
    )
    warnings = [f"Not in this set: {name}." for name in (*absent, *empty)]
    return table, tuple(map(participants.column, names)), disclaimers, warnings


def _place(name: str, candidates: tuple[str, ...]) -> int:
    if name not in candidates:
        raise unknown("sign in concepts.biomarkers", name, candidates)
    return candidates.index(name)
