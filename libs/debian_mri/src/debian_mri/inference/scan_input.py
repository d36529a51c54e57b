"""One scan as a trained model takes it: its slices, its signs plane by plane, the person's variables.

A scan of a prepared set goes through the set's caches; an image that is in none becomes a set of one scan first
(`debian_mri.inference.single_image`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from debian_mri.biomarkers.measure import BiomarkerMeasurement, slice_geometries
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
from debian_mri.data.feature_store import (
    Item,
    ScanFeatures,
    ScanImages,
    SliceInfo,
    encode_scans,
    features_folder,
    open_folder,
)
from debian_mri.data.inputs import Inputs
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.data.participants import Participants
from debian_mri.imaging.orientation import MAX_HEAD_ROTATION
from debian_mri.imaging.regions import regions_on_plane
from debian_mri.imaging.slices import SliceImage
from debian_mri.inference.sequence_check import resolve_sequence, trained_sequences
from debian_mri.models.checkpoint import SavedModel
from icube_common.errors import InputError, unknown
from icube_common.numeric import NumericTable


@dataclass(frozen=True, eq=False)
class OneScan:
    """A scan, read.

    Attributes:
        scan: its row.
        inputs: the tables that the model takes, of this scan alone.
        infos: its slices.
        pictures: their pixels (H, W), 0 to 1.
        measured: its signs in the model's order; None for a model without signs.
        simulated: whether a program made the image.
        notes: what a reader has to know about the input.
    """

    scan: Scan
    inputs: Inputs
    infos: tuple[SliceInfo, ...]
    pictures: tuple[Any, ...]
    measured: BiomarkerMeasurement | None
    simulated: bool
    notes: tuple[str, ...]


def read_scan(
    saved: SavedModel,
    manifest: Manifest,
    scan: Scan,
    *,
    values: Mapping[str, str] | None = None,
    features: str | Path | None = None,
    encoded: ScanFeatures[Any] | None = None,
    notes: Sequence[str] = (),
) -> OneScan:
    """Read what a model takes of a scan of a prepared set.

    Args:
        saved: the model.
        manifest: the set.
        scan: one of it.
        values: variables as text, in place of those of the set.
        features: folder of slice features; by default below the set.
        encoded: the scan's images with their features, where `encoded_for` has computed them already.
        notes: about the input, to be said.

    Raises:
        InputError: an image cannot be used, a value is none of its variable, a sign that the model takes cannot be
            measured on any scan of this kind, or a variable is missing and the model was told to refuse that.
    """
    model, config = saved.model, saved.model.config
    images = encoded.images if encoded is not None else None
    images = images or ScanImages(manifest, scan, config)
    pictures = images.slices
    frames = (
        slice_geometries(config.concepts.slice_geometry, str(manifest.about["format"])) if scan.kind == "slices" else ()
    )
    known = {frame.plane: regions_on_plane(frame.plane, frame.position) for frame in frames}
    infos = tuple(_info(picture, known) for picture in pictures)
    measured, table = None, None
    if model.signs is not None:
        measured = images.signs(model.signs.names)
        if np.isnan(measured.values).all():
            raise InputError(
                f"{scan.id}: none of the signs that the model was trained on can be measured on it: it takes T1w "
                "volumes in MNI space (preprocess.registration=affine brings them there), or slices of a known frame"
            )
        units = ("log share",) * len(model.signs.names)
        table = NumericTable(ids=(scan.id,), names=model.signs.names, values=measured.values[None], units=units)
    found: dict[str, Tensor] | None = None
    if model.picture is not None:
        if encoded is None or encoded.features is None:
            (encoded,) = encoded_for(saved, [(scan, images)], manifest.folder, features=features)
        if encoded.error is not None:
            raise encoded.error
        assert encoded.features is not None
        found = {scan.id: encoded.features}
    people = _person(saved, manifest, scan, values or {})
    placed = ["Where slices lie is known of this set to about 3 mm; the regions they pass follow from that."]
    said = [
        *notes,
        *turned_notes(images.turned),
        *(placed if frames else []),
        *_unused(saved, values or {}),
        *_seen(saved, manifest, scan),
    ]
    inputs = Inputs((scan.id,), found, {scan.id: infos}, table, people, saved.columns)
    shown = tuple(picture.image for picture in pictures)
    return OneScan(scan, inputs, infos, shown, measured, manifest.simulated, tuple(said))


def encoded_for(
    saved: SavedModel,
    scans: Iterable[tuple[Item, ScanImages | None]],
    data: Path | None,
    *,
    features: str | Path | None = None,
) -> Iterator[ScanFeatures[Item]]:
    """Scans with the features that a model takes; none where the picture does not enter.

    Args:
        saved: the model.
        scans: as `debian_mri.data.feature_store.encode_scans` takes them.
        data: folder of the prepared set; None where scans are of different ones: nothing is stored.
        features: folder of slice features; by default below the set.

    Raises:
        InputError: the folder holds features of another backbone or of other slices.
    """
    picture, config = saved.model.picture, saved.model.config
    if picture is None:
        return (ScanFeatures(item, images) for item, images in scans)
    folder = None if data is None else features_folder(data, features, config, picture.vlm)
    return encode_scans(scans, picture.vlm, None if folder is None else open_folder(folder, config, picture.vlm))


def turned_notes(turned: float) -> list[str]:
    """A note about a head whose affine contradicts what the image shows, degrees; none up to `MAX_HEAD_ROTATION`."""
    if turned <= MAX_HEAD_ROTATION:
        return []
    return [f"The head lies {turned:.0f} degrees from what the file's affine says; registration turned it upright."]


def _info(picture: SliceImage, known: Mapping[str, tuple[str, ...]]) -> SliceInfo:
    names = picture.regions or known.get(picture.plane, ())
    return SliceInfo(picture.plane, picture.position_mm, without_sides(names))


def without_sides(names: Sequence[str]) -> tuple[str, ...]:
    """Regions without ``_left`` and ``_right`` where a slice passes both sides, and with the side where one.

    >>> without_sides(("hippocampus", "hippocampus_left", "hippocampus_right", "midbrain"))
    ('hippocampus', 'midbrain')
    >>> without_sides(("hippocampus", "hippocampus_left"))
    ('hippocampus_left',)
    """
    sides = {name: {f"{name}_left", f"{name}_right"} & set(names) for name in names}
    sided = {side for found in sides.values() for side in found}
    whole = {name for name, found in sides.items() if len(found) != 1 and name not in sided}
    alone = {side for found in sides.values() if len(found) == 1 for side in found}
    return tuple(name for name in names if name in whole | alone)


def _person(saved: SavedModel, manifest: Manifest, scan: Scan, given: Mapping[str, str]) -> NumericTable | None:
    """The variables that the model takes, NaN where missing."""
    if saved.model.variables is None:
        return None
    there = manifest.participants()
    cells = []
    for column in saved.columns:
        text = given.get(column.name)
        if text is None and column.name in there.names:
            own = there.column(column.name)
            value = float(there.values[there.ids.index(scan.id), there.names.index(column.name)])
            if not math.isnan(value):
                text = own.values[int(value)] if own.kind == "category" else repr(value)
        cells.append(parse_value(column, text or ""))
    values = np.array([cells], dtype=np.float64)
    if saved.model.config.demographics.missing == "refuse" and np.isnan(values).any():
        name = saved.columns[int(np.isnan(values[0]).argmax())].name
        raise InputError(
            f"{scan.id}: {name} is missing, and the model was trained to refuse that; give --variable {name}="
        )
    people = Participants(ids=(scan.id,), columns=saved.columns, values=values)
    return people.select([column.name for column in saved.columns], allow_diagnostic=True)


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


def check_values(saved: SavedModel, given: Mapping[str, str]) -> dict[str, str]:
    """Variables under our names, each a possible value.

    Raises:
        InputError: an unknown variable, or as `parse_value`.
    """
    columns = {**VARIABLES, **{column.name: column for column in saved.columns}}
    found: dict[str, str] = {}
    for name, text in given.items():
        ours = name if name in columns else canonical_name(name)
        if ours not in columns:
            raise unknown("variable of --variable", name, columns)
        if not text.strip():
            raise InputError(f"{name}=: is empty; leave it out where it is not known")
        parse_value(columns[ours], text)
        found[ours] = text
    return found


def _unused(saved: SavedModel, given: Mapping[str, str]) -> list[str]:
    used = {column.name for column in saved.columns}
    return [f"{name} was given, and the model does not use it." for name in given if name not in used]


def _seen(saved: SavedModel, manifest: Manifest, scan: Scan) -> list[str]:
    """Whether the scan, or its person, was trained on."""
    trained = saved.about["trained_on"]
    same_set = all(manifest.about[key] == trained[key] for key in ("format", "title"))
    if (scan.sha256 and scan.sha256 in trained["images"]) or (same_set and scan.id in trained["ids"]):
        return ["The model was trained on this image: its answer says nothing about new ones."]
    if same_set and scan.subject in trained["subjects"]:
        return ["The model was trained on another image of this person."]
    return []


def of_sequence(saved: SavedModel, scan: Scan, given: str | None) -> tuple[Scan, list[str]]:
    """A scan of a prepared set with the sequence to take it for, and notes; InputError as `resolve_sequence`."""
    sequence, notes = resolve_sequence(
        SequenceFinding(scan.sequence), trained_sequences(saved.about), image=f"scan {scan.id}", given=given
    )
    return replace(scan, sequence=sequence), notes
