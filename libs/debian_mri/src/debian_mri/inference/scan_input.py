"""Model inputs of one scan: its slices, biomarkers plane by plane, and the person's clinical variables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from debian_mri.biomarkers.measure import slice_geometries
from debian_mri.cohorts.mri_sequence.description import SequenceFinding
from debian_mri.data.clinical_variables import (
    RANGES,
    VARIABLES,
    Column,
    canonical_name,
    is_missing,
    is_number,
    normalise_value,
)
from debian_mri.data.dataset import ScanInput
from debian_mri.data.feature_store import (
    Item,
    ScanFeatures,
    ScanImages,
    encode_scans,
    features_folder,
    open_folder,
    read_pixels,
)
from debian_mri.data.inputs import Inputs, scan_pixels
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.data.participants import Participants
from debian_mri.imaging.orientation import MAX_HEAD_ROTATION
from debian_mri.imaging.preprocess import Volume, mask_warnings
from debian_mri.imaging.regions import regions_on_plane
from debian_mri.imaging.slices import SliceImage, SliceInfo
from debian_mri.inference.sequence_check import resolve_sequence, trained_sequences
from debian_mri.models.mri_model import MriModel
from icube_common.errors import InputError, unknown
from icube_common.tabular import TabularData
from icube_common.vlm import FinetunedTower


@dataclass(frozen=True, eq=False)
class ScanSource:
    """A scan to predict, before its images are read.

    Attributes:
        images: of the scan.
        simulated: True for a simulated image.
        warnings: warnings about the input.
        manifest: the prepared set of the scan, None for a single image.
    """

    images: ScanImages
    simulated: bool
    warnings: tuple[str, ...] = ()
    manifest: Manifest | None = None

    @property
    def volume(self) -> Volume | None:
        """The preprocessed volume; None for slice images."""
        return self.images.volume if self.scan.kind == "volume" else None

    @property
    def scan(self) -> Scan:
        """The scan's row."""
        return self.images.scan


def scan_of_set(model: MriModel, manifest: Manifest, scan: Scan, sequence: str | None = None) -> ScanSource:
    """A scan of a prepared set, for a model.

    Args:
        model: a trained model.
        manifest: the set.
        scan: one of it.
        sequence: MRI sequence of the scan, in place of the set's.

    Raises:
        InputError: as `resolve_sequence`.
    """
    name, warnings = resolve_sequence(
        SequenceFinding(scan.sequence), trained_sequences(model.description), image=f"scan {scan.id}", sequence=sequence
    )
    images = ScanImages(manifest, replace(scan, sequence=name), model.config)
    return ScanSource(images, manifest.simulated, tuple(warnings), manifest)


def load_scan_input(
    model: MriModel,
    source: ScanSource,
    *,
    values: Mapping[str, str] | None = None,
    encoded: ScanFeatures[Any] | None = None,
) -> ScanInput:
    """Read the model inputs of a scan.

    Args:
        model: a trained model.
        source: the scan.
        values: variables as text, in place of those of the set.
        encoded: the scan's features, where `encode_for_model` has computed them already.

    Raises:
        InputError: an image cannot be used, a value is none of its variable, no biomarker of the model can be measured
            on a scan of this kind, or a variable is missing and the model has ``demographics.missing=refuse``.
    """
    config, images, scan = model.config, source.images, source.scan
    slices = images.slices
    geometries = slice_geometries(config.concepts.slice_geometry, images.format) if scan.kind == "slices" else ()
    regions = {geometry.plane: regions_on_plane(geometry.plane, geometry.position) for geometry in geometries}
    infos = tuple(_info(image, regions) for image in slices)
    measured, table = None, None
    if model.biomarkers is not None:
        measured = images.biomarkers(model.biomarkers.names)
        if np.isnan(measured.values).all() and config.concepts.volumes:
            raise InputError(f"{scan.id}: {config.concepts.volumes} has no volume for the biomarkers of the model")
        if np.isnan(measured.values).all():
            raise InputError(
                f"{scan.id}: none of the biomarkers of the model can be measured on it: it takes T1w volumes in MNI "
                "space (preprocess.registration=affine brings them there), or slices of a known geometry"
            )
        units = ("log share",) * len(model.biomarkers.names)
        table = TabularData(ids=(scan.id,), names=model.biomarkers.names, values=measured.values[None], units=units)
    features_by_id: dict[str, Tensor] | None = None
    if model.image_branch is not None:
        if encoded is None or encoded.features is None:
            folder = None if source.manifest is None else source.manifest.folder
            (encoded,) = encode_for_model(model, [(scan, images)], folder)
        if encoded.error is not None:
            raise encoded.error
        assert encoded.features is not None
        features_by_id = {scan.id: encoded.features}
    people = _person(model, source, values or {})
    located = ["Where slices lie is known of this set to about 3 mm; the regions they pass follow from that."]
    warnings = [
        *source.warnings,
        *rotation_warnings(images.rotation),
        *mask_warnings([images.mask_source]),
        *(located if geometries else []),
        *_unused(model, values or {}),
        *_seen(model, source),
    ]
    inputs = Inputs((scan.id,), features_by_id, {scan.id: infos}, table, people, model.columns)
    pixels = tuple(image.image for image in slices)
    return ScanInput(scan, inputs, infos, pixels, measured, source.simulated, tuple(warnings))


def encode_for_model(
    model: MriModel,
    scans: Iterable[tuple[Item, ScanImages | None]],
    data: Path | None,
    *,
    features: str | Path | None = None,
) -> Iterator[ScanFeatures[Item]]:
    """Scans with their slice features; without features for a model without image branch.

    Args:
        model: a trained model.
        scans: as `debian_mri.data.feature_store.encode_scans` takes them.
        data: folder of the prepared set; None for scans of several sources, whose features are not stored.
        features: folder of slice features; by default below the set.

    Raises:
        InputError: the folder holds features of another backbone or of other slices.
    """
    if model.image_branch is None:
        return (ScanFeatures(item, images) for item, images in scans)
    config, vlm = model.config, model.image_branch.vlm
    if model.image_branch.tower is not None:
        return _encode_by_tower(model.image_branch.tower, scans)
    if model.image_branch.pixels:
        return read_pixels(scans)
    folder = None if data is None else features_folder(data, features, config, vlm)
    return encode_scans(scans, vlm, None if folder is None else open_folder(folder, config, vlm))


def _encode_by_tower(
    tower: FinetunedTower, scans: Iterable[tuple[Item, ScanImages | None]]
) -> Iterator[ScanFeatures[Item]]:
    """Scans with the features of a tower that was trained in part, which are not stored."""
    for item, images in scans:
        result = ScanFeatures(item, images)
        if images is not None:
            try:
                result.features = tower.encode(scan_pixels(images, tower.vlm)[None])[0].cpu()
            except InputError as error:
                result.error = error
        yield result


def rotation_warnings(rotation: float) -> list[str]:
    """A warning where registration rotated a head by more than `MAX_HEAD_ROTATION` degrees against its affine."""
    if rotation <= MAX_HEAD_ROTATION:
        return []
    return [f"The head lies {rotation:.0f} degrees from the file's affine; registration turned it upright."]


def _info(image: SliceImage, regions: Mapping[str, tuple[str, ...]]) -> SliceInfo:
    names = image.regions or regions.get(image.plane, ())
    return SliceInfo(image.plane, image.position_mm, without_sides(names))


def without_sides(names: Sequence[str]) -> tuple[str, ...]:
    """Regions without ``_left`` and ``_right`` where a slice passes both sides, and with the side where one.

    >>> without_sides(("hippocampus", "hippocampus_left", "hippocampus_right", "midbrain"))
    ('hippocampus', 'midbrain')
    >>> without_sides(("hippocampus", "hippocampus_left"))
    ('hippocampus_left',)
    """
    sides = {name: {f"{name}_left", f"{name}_right"} & set(names) for name in names}
    sided = {side for pair in sides.values() for side in pair}
    whole = {name for name, pair in sides.items() if len(pair) != 1 and name not in sided}
    alone = {side for pair in sides.values() if len(pair) == 1 for side in pair}
    return tuple(name for name in names if name in whole | alone)


def _person(model: MriModel, source: ScanSource, stated: Mapping[str, str]) -> TabularData | None:
    """The clinical variables of the model, NaN where missing."""
    if model.variables is None:
        return None
    scan_id = source.scan.id
    table = None if source.manifest is None else source.manifest.participants()
    cells = []
    for column in model.columns:
        text = stated.get(column.name)
        if text is None and table is not None and column.name in table.names:
            training_column = table.column(column.name)
            value = float(table.values[table.ids.index(scan_id), table.names.index(column.name)])
            if not math.isnan(value):
                text = training_column.values[int(value)] if training_column.kind == "category" else repr(value)
        cells.append(parse_value(column, text or ""))
    values = np.array([cells], dtype=np.float64)
    if model.config.demographics.missing == "refuse" and np.isnan(values).any():
        name = model.columns[int(np.isnan(values[0]).argmax())].name
        raise InputError(
            f"{scan_id}: {name} is missing, and the model has missing=refuse; give --variable {name}=VALUE"
        )
    people = Participants(ids=(scan_id,), columns=model.columns, values=values)
    return people.select([column.name for column in model.columns], allow_diagnostic=True)


def parse_value(column: Column, text: str) -> float:
    """A variable's value as a number, NaN where it is missing.

    Raises:
        InputError: no number, out of reach, or none of a category's words.
    """
    tidied = normalise_value(column.name, text)
    if not tidied:
        if column.kind == "category" and not is_missing(text):
            raise InputError(f"{column.name}={text}: must be one of {', '.join(column.values)}")
        return math.nan
    if column.kind == "category":
        if tidied not in column.values:
            raise InputError(f"{column.name}={text}: must be one of {', '.join(column.values)}")
        return float(column.values.index(tidied))
    if not is_number(tidied):
        raise InputError(f"{column.name}={text}: must be a number{f' of {column.unit}' if column.unit else ''}")
    low, high = RANGES.get(column.name, (-math.inf, math.inf))
    if not low <= float(tidied) <= high:
        raise InputError(f"{column.name}={text}: must be between {low:g} and {high:g} {column.unit}")
    return float(tidied)


def check_values(model: MriModel, values: Mapping[str, str]) -> dict[str, str]:
    """Variables under our names, each a possible value.

    Raises:
        InputError: an unknown variable, or as `parse_value`.
    """
    columns = {**VARIABLES, **{column.name: column for column in model.columns}}
    checked: dict[str, str] = {}
    for name, text in values.items():
        ours = name if name in columns else canonical_name(name)
        if ours not in columns:
            raise unknown("variable of --variable", name, columns)
        if not text.strip():
            raise InputError(f"{name}=: is empty; leave it out where it is not known")
        parse_value(columns[ours], text)
        checked[ours] = text
    return checked


def _unused(model: MriModel, values: Mapping[str, str]) -> list[str]:
    used = {column.name for column in model.columns}
    return [f"{name} was given, and the model does not use it." for name in values if name not in used]


def _seen(model: MriModel, source: ScanSource) -> list[str]:
    """Warnings where the scan, or its person, was part of the training."""
    trained, scan = model.description["trained_on"], source.scan
    manifest = source.manifest
    same_set = manifest is not None and all(manifest.description[key] == trained[key] for key in ("format", "title"))
    if (scan.sha256 and scan.sha256 in trained["images"]) or (same_set and scan.id in trained["ids"]):
        return ["The model was trained on this image: its prediction is no evidence about new ones."]
    if same_set and scan.subject in trained["subjects"]:
        return ["The model was trained on another image of this person."]
    return []
