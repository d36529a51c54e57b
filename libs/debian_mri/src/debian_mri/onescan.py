"""One scan as a trained model takes it: its slices, its signs plane by plane, the person's variables.

A scan of a prepared set goes through the set's caches. An image that is in none, a NIfTI volume, a DICOM folder or
slice images, becomes a set of one scan in a temporary folder, so that everything after it is the same.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from debian_mri.cohorts.images import Unusable, slices_digest, volume_digest
from debian_mri.cohorts.sequences import sequence_of
from debian_mri.features import (
    Item,
    ScanFeatures,
    ScanImages,
    SliceInfo,
    encode_scans,
    features_folder,
    open_folder,
)
from debian_mri.inputs import Inputs
from debian_mri.manifest import PLANES, Manifest, Scan
from debian_mri.manifest_writer import write_manifest
from debian_mri.orientation import MOST_TURNED
from debian_mri.participants import Participants
from debian_mri.regions import regions_cut
from debian_mri.saved import SavedModel
from debian_mri.signs import Measured, frames_of
from debian_mri.slices import SliceImage
from debian_mri.variables import VARIABLES, Column, canonical, is_number, tidy
from debian_mri.volumes import SUFFIXES, read_volume
from icube_common.errors import InputError, unknown
from icube_common.numeric import NumericTable

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
# what a person can be, in the variable's unit
_BOUNDS = {"age": (0.0, 120.0), "education": (0.0, 40.0)}


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
    measured: Measured | None
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
    frames = frames_of(config.concepts.geometry, str(manifest.about["format"])) if scan.kind == "slices" else ()
    known = {frame.plane: regions_cut(frame.plane, frame.position) for frame in frames}
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
        scans: as `debian_mri.features.encode_scans` takes them.
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
    """A note about a head whose affine contradicts what the image shows, degrees; none up to `MOST_TURNED`."""
    if turned <= MOST_TURNED:
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
        raise InputError(f"{scan.id}: {name} is missing, and the model was trained to refuse that; give --set {name}=")
    people = Participants(ids=(scan.id,), columns=saved.columns, values=values)
    return people.select([column.name for column in saved.columns], allow_tier_c=True)


def parse_value(column: Column, text: str) -> float:
    """A variable's value as a number, NaN where it is missing.

    Raises:
        InputError: no number, out of reach, or none of a category's words.
    """
    tidied = tidy(column.name, text)
    if not tidied:
        if text.strip() and column.kind == "category" and text.strip().lower() not in ("na", "n/a", "nan", "unknown"):
            raise InputError(f"{column.name}={text}: must be one of {', '.join(column.values)}")
        return math.nan
    if column.kind == "category":
        if tidied not in column.values:
            raise InputError(f"{column.name}={text}: must be one of {', '.join(column.values)}")
        return float(column.values.index(tidied))
    if not is_number(tidied):
        raise InputError(f"{column.name}={text}: must be a number{f' of {column.unit}' if column.unit else ''}")
    low, high = _BOUNDS.get(column.name, (-math.inf, math.inf))
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
        ours = name if name in columns else canonical(name)
        if ours not in columns:
            raise unknown("variable of --set", name, columns)
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


@contextmanager
def single(
    saved: SavedModel, paths: Sequence[str | Path], *, planes: Sequence[str] = (), fill_nan: bool = False
) -> Iterator[Any]:
    """A prepared set of one scan around images, for as long as the block lasts: manifest, scan and notes.

    Args:
        saved: the model, which says how the frames of slice images are known.
        paths: one NIfTI volume, one DICOM folder, or slice images.
        planes: of the slice images, in their order.
        fill_nan: NaN voxels of a volume that lie outside the head become background.

    Raises:
        InputError: no such file, of an unknown kind, planes that do not fit, or a folder without one usable volume.
    """
    files = [Path(path) for path in paths]
    for file in files:
        if not file.exists():
            raise InputError(f"{file}: no such file or folder")
    with tempfile.TemporaryDirectory(prefix="debian-mri-") as name:
        folder = Path(name)
        scan, notes = _scan_of(files, planes, folder, fill_nan)
        about = {
            "format": saved.about["data"]["format"] if scan.kind == "slices" else "one image",
            "title": "One image",
            "root": str(folder),
            "class_names": list(saved.model.labels),
            "simulated": _is_simulated(files[0]),
            "fill_nan": fill_nan,
        }
        scan = replace(scan, label=saved.model.labels[0])
        write_manifest(folder, about, [scan], {})
        yield Manifest.load(folder), scan, notes


def _scan_of(files: Sequence[Path], planes: Sequence[str], folder: Path, fill_nan: bool) -> tuple[Scan, list[str]]:
    first = files[0]
    assumed = "Nothing in the file says which sequence it is: it was taken for a T1-weighted image."
    if first.is_dir():
        path, sequence = _converted(first, folder / "nifti")
        notes = [] if sequence else [assumed]
        found = Scan(id=first.name or "scan", subject="", label="", sequence=sequence or "T1w", paths=(str(path),))
    elif is_volume(first):
        if planes:
            raise InputError(f"--planes {','.join(planes)}: {first} is a volume; planes are those of slice images")
        found = Scan(id=stem(first), subject="", label="", paths=(str(first.resolve()),))
        notes = [] if "T1w" in first.name else [assumed]
    else:
        for file in files:
            if file.suffix.lower() not in PICTURES:
                kinds = ", ".join((*SUFFIXES, *PICTURES))
                raise InputError(f"{file}: neither a volume nor a slice image ({kinds}), nor a DICOM folder")
        check_planes(planes, len(files), str(first))
        resolved = [file.resolve() for file in files]
        try:
            digest = slices_digest(resolved)
        except Unusable as error:
            raise InputError(f"{first}: {error}") from None
        paths = tuple(map(str, resolved))
        slices = Scan(
            id=stem(first), subject="one", label="", kind="slices", paths=paths, planes=tuple(planes), sha256=digest
        )
        return slices, [assumed]
    # the digest of prepared sets: by it an image is known again that was trained on
    volume = read_volume(found.paths[0], fill_nan=fill_nan)
    return replace(found, subject="one", sha256=volume_digest(volume.data, volume.affine)), notes


def check_planes(planes: Sequence[str], images: int, first: str) -> None:
    """Whether each slice image has its plane.

    Raises:
        InputError: another number of them, or an unknown one.
    """
    if len(planes) != images:
        raise InputError(
            f"{first}: {images} slice image{'s' * (images > 1)} and {len(planes)} planes: name the plane of each, such "
            "as --planes coronal,axial"
        )
    for plane in planes:
        if plane not in PLANES:
            raise unknown("plane of --planes", plane, PLANES)


def _converted(source: Path, out: Path) -> tuple[Path, str | None]:
    """The one T1w volume of a DICOM folder, and its sequence where the headers tell it."""
    from debian_mri.dicom import convert_folder

    answer = convert_folder(source, out)
    found = [
        (out / Path(series["path"]).name, sequence_of(series["description"] or ""))
        for series in answer["series"]
        if series["path"]
    ]
    if not found:
        reasons = [series["reason"] for series in answer["series"] if series["reason"]]
        raise InputError(f"{source}: no series can be used ({reasons[0] if reasons else 'it holds none'})")
    t1 = [pair for pair in found if pair[1] == "T1w"]
    chosen = t1 or [pair for pair in found if pair[1] is None]
    if len(chosen) != 1:
        raise InputError(
            f"{source}: {len(found)} volumes, of which {len(t1)} are T1w by their description: convert it (debian-mri "
            "convert) and give the volume that is meant"
        )
    return chosen[0]


def is_volume(path: Path) -> bool:
    """Whether a file is called as volumes are."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """A file's name without its endings.

    >>> [stem(Path(name)) for name in ("a.b.nii.gz", "a.hdr", "a.mgz")]
    ['a.b', 'a', 'a']
    """
    return path.name.removesuffix(".gz").rsplit(".", 1)[0] or path.name


def _is_simulated(path: Path) -> bool:
    """Whether a file lies in a prepared set that says so."""
    import json

    for folder in path.resolve().parents[:3]:
        about = folder / "dataset.json"
        if about.is_file():
            try:
                return bool(json.loads(about.read_text(encoding="utf-8")).get("simulated"))
            except (ValueError, AttributeError, OSError):
                return False
    return False
