"""Atlases for regional volumes: a label map, the names of its regions, and the template that it lies on.

An atlas is the user's own: label map and table of names by file, or one published atlas by `fetch_atlas`. None is part
of this library. Labels are placed by the affine of the map, whatever the direction of its axes; left and right follow
from its coordinates where a name has no side.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Integer

from debian_mri.biomarkers.volumes.structures import STRUCTURES, plain_name, region_columns, segmentation_columns
from debian_mri.imaging.template import Grid, load_template, resample
from icube_common.errors import InputError, unknown
from icube_common.io.csv import read_text
from icube_common.io.runs import user_cache
from icube_common.io.wheels import check_digest, fetch_from_wheel

ID_COLUMNS = ("roiid", "id", "index", "label", "number", "value")
NAME_COLUMNS = ("roiname", "name", "region", "structure", "labelname")
# distance from the midline at which a region is on one side, mm
_MIN_SIDE_MM = 3.0
# voxels of the label map around a region, for its smoothing
_MARGIN = 8
_SIDES = {"left": "left", "right": "right", "l": "left", "r": "right", "lh": "left", "rh": "right"}


@dataclass(frozen=True)
class AtlasFiles:
    """Published atlas inside a wheel.

    Attributes:
        requirement: of pip.
        members: file -> path in the wheel.
        digests: file -> SHA-256.
        labels: file of the label map.
        table: file of the names.
        template: file of the template, tissue maps along the fourth axis (grey, white, ...).
        citations: publications and licence, printed and kept in every output.
    """

    requirement: str
    members: Mapping[str, str]
    digests: Mapping[str, str]
    labels: str
    table: str
    template: str
    citations: tuple[str, ...]


ATLASES: Mapping[str, AtlasFiles] = {
    "neuromorphometrics": AtlasFiles(
        requirement="deepmriprep==0.3.0",
        members={
            name: f"deepmriprep/data/templates/{name}"
            for name in ("neuromorphometrics.nii.gz", "neuromorphometrics.csv", "Template_4_GS.nii.gz")
        },
        digests={
            "neuromorphometrics.nii.gz": "0abcb25b0f06c9d0e9229b2be4215a340ba08ad068f1cf29796f1c003c79c189",
            "neuromorphometrics.csv": "f877ce21fdbbe81b3e4027fc268fcf1f510605b77ba2484d9f615f3366acd87b",
            "Template_4_GS.nii.gz": "9932604e631352f5e3dd2146b7059c5e2176610e4ae5efd3c3e4759b4c2cc12f",
        },
        labels="neuromorphometrics.nii.gz",
        table="neuromorphometrics.csv",
        template="Template_4_GS.nii.gz",
        citations=(
            "Atlas: Neuromorphometrics, Inc. (http://www.neuromorphometrics.com), under academic subscription; licence "
            "CC BY-NC: not for commercial use.",
            "The atlas's scans: OASIS project (Marcus et al., Journal of Cognitive Neuroscience 19, 2007).",
            "Template: Geodesic Shooting template of CAT12 (Gaser et al., GigaScience 13, 2024), as distributed by "
            "deepmriprep 0.3.0 (Fisch et al., 2024, arXiv:2408.10656; MIT licence of its code).",
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Region:
    """Region of an atlas.

    Attributes:
        number: in the label map.
        name: as the atlas has it.
        side: "left", "right", or "" for one without a side.
    """

    number: int
    name: str
    side: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Atlas:
    """Label map with names and template.

    Attributes:
        name: for reports.
        labels: (X, Y, Z) numbers, 0 for no region.
        affine: of the labels.
        regions: those of the table that the map has.
        template: (A, B, C) T1-weighted image that brains are registered to, 0 outside the brain.
        template_affine: of the template; diagonal but for its origin.
        citations: publications and licences, kept in every output.
    """

    name: str
    labels: Integer[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]
    regions: tuple[Region, ...]
    template: Float32[np.ndarray, "a b c"]
    template_affine: Float64[np.ndarray, "4 4"]
    citations: tuple[str, ...]

    def template_on(self, grid: Grid) -> Float32[np.ndarray, "x y z"]:
        """The template on another grid."""
        return resample(self.template, self.template_affine, grid)

    def share(self, region: Region, grid: Grid) -> Float32[np.ndarray, "x y z"]:
        """Share of each voxel of a grid that belongs to a region, 0 to 1."""
        box = self._boxes[region.number - 1]
        if box is None:
            return np.zeros(grid.shape, dtype=np.float32)
        # a margin for the smoothing; the rest of the map is 0
        inner = tuple(slice(max(0, part.start - _MARGIN), part.stop + _MARGIN) for part in box)
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [part.start for part in inner]
        return resample((self.labels[inner] == region.number).astype(np.float32), affine, grid)

    @cached_property
    def _boxes(self) -> list[tuple[slice, ...] | None]:
        """Bounding box of each number of the map, from 1 on."""
        from scipy.ndimage import find_objects

        return list(find_objects(self.labels))


def load_atlas(labels: str | Path, table: str | Path, template: str | Path | None = None) -> Atlas:
    """Read an atlas of files.

    Args:
        labels: NIfTI label map in MNI space.
        table: CSV file with a column of numbers (`ID_COLUMNS`) and one of names (`NAME_COLUMNS`), with comma, semicolon
            or tab; a column ``hemisphere`` or ``side`` is read, else the side is taken from the name.
        template: T1-weighted brain without skull, or tissue maps (grey, white, ...) along a fourth axis; by default the
            ICBM152 template.

    Raises:
        InputError: a file is missing or malformed, or the map has none of the table's numbers.
    """
    labels = Path(labels)
    data, affine = _read_axis_aligned(labels)
    if data.ndim != 3 or not np.array_equal(data, np.round(data)):
        raise InputError(f"{labels}: is no label map: {data.ndim} axes, values that are no whole numbers")
    numbers = data.astype(np.int32)
    there = set(np.unique(numbers).tolist())
    regions = tuple(region for region in read_regions(table) if region.number in there)
    if not regions:
        raise InputError(f"{table}: none of its numbers is in {labels}")
    published = [files for files in ATLASES.values() if labels.name == files.labels and _is_published(labels, files)]
    citations = (
        published[0].citations
        if published
        else (f"Atlas: {labels.name}; its licence and citations are those of its authors.",)
    )
    if template is None:
        full = load_template()
        image, image_affine = np.where(full.brain, full.t1, 0).astype(np.float32), full.affine
        citations = (*citations, "Template: ICBM152 2009a (Fonov et al., NeuroImage 54, 2011).")
    else:
        image, image_affine = _as_t1(*_read_axis_aligned(Path(template)), Path(template))
    _check_sides(numbers, affine, regions, labels)
    return Atlas(
        name=labels.name.removesuffix(".gz").removesuffix(".nii"),
        labels=numbers,
        affine=affine,
        regions=regions,
        template=image,
        template_affine=image_affine,
        citations=citations,
    )


def _check_sides(numbers: Any, affine: Float64[np.ndarray, "4 4"], regions: Sequence[Region], path: Path) -> None:
    """Check that regions named left lie at negative x.

    Raises:
        InputError: a region lies on the other side.
    """
    from scipy.ndimage import center_of_mass

    sided = [region for region in regions if region.side]
    centres = center_of_mass(numbers > 0, numbers, [region.number for region in sided])
    for region, centre in zip(sided, centres, strict=True):
        x = float(affine[0, 3] + affine[0, 0] * centre[0])
        if abs(x) > _MIN_SIDE_MM and (x < 0) != (region.side == "left"):
            raise InputError(
                f"{path}: {region.name} ({region.number}), of the {region.side}, lies at x = {x:.0f} mm (left is "
                "negative): label map and table do not belong together, or the map is mirrored"
            )


def read_regions(table: str | Path) -> list[Region]:
    """Regions of a table of names; see `load_atlas`.

    Raises:
        InputError: no such file, a missing column, or a number that is none.
    """
    table = Path(table)
    lines = read_text(table, expected="a table of regions").splitlines()
    head = lines[0] if lines else ""
    delimiter = max(";,\t", key=head.count)
    rows = list(csv.DictReader(lines, delimiter=delimiter))
    columns = {name.strip().lower(): name for name in (rows[0] if rows else {}) if name}
    chosen = []
    for kind, candidates in (("numbers", ID_COLUMNS), ("names", NAME_COLUMNS)):
        column = next((columns[name] for name in candidates if name in columns), None)
        if column is None:
            raise InputError(f"{table}: no column of {kind} ({', '.join(candidates)}) in {head[:80]!r}")
        chosen.append(column)
    side = next((columns[name] for name in ("hemisphere", "side") if name in columns), None)
    regions = []
    for line, row in enumerate(rows, 2):
        text, name = (row[column] or "" for column in chosen)
        if not re.fullmatch(r"\d+(\.0+)?", text.strip()):
            raise InputError(f"{table}: line {line}: {text!r} is no number of a region")
        regions.append(Region(number=int(float(text)), name=name.strip(), side=_side(name, row[side] if side else "")))
    return regions


def column_of(region: Region) -> str:
    """Column of a table of volumes that a region belongs to, without a side where it has none; empty for no column."""
    name = plain_name(region.name)
    direct = name.replace(" ", "_")
    if direct in STRUCTURES:
        return direct if not region.side or not STRUCTURES[direct].bilateral else f"{direct}_{region.side}"
    for column, _, names in region_columns():
        if names == (name,) or (region.side and names == (f"{region.side} {name}",)):
            return column
    return segmentation_columns().get(name, "")


def find_atlas(name: str, folder: str | Path | None = None) -> tuple[Path, Path, Path]:
    """Label map, table and template of a fetched atlas, checked by their hashes.

    Raises:
        InputError: no such atlas, or a file is missing or has another content.
    """
    files = _published(name)
    place = default_folder(name) if folder is None else Path(folder)
    for file, digest in files.digests.items():
        if not (place / file).is_file():
            raise InputError(f"{place / file}: no such file; fetch it: debian-mri atlas --fetch {name}")
        check_digest(place / file, digest, f"{file} of {files.requirement}")
    return place / files.labels, place / files.table, place / files.template


def fetch_atlas(name: str, folder: str | Path | None = None) -> tuple[Path, Path, Path]:
    """Take a published atlas out of its wheel by the user's own pip; files that are there are not fetched again.

    Raises:
        InputError: no such atlas, no wheel in reach, or a file of another hash.
    """
    files = _published(name)
    place = default_folder(name) if folder is None else Path(folder)
    try:
        return find_atlas(name, place)
    except InputError:
        pass  # incomplete or damaged: fetched anew
    fetch_from_wheel(
        files.requirement,
        files.members,
        files.digests,
        place,
        remedy=f"take {', '.join(files.members)} out of that wheel by hand and give them with --atlas, --labels and "
        "--template",
    )
    return find_atlas(name, place)


def default_folder(name: str) -> Path:
    """Folder of a fetched atlas in the user's cache."""
    return user_cache() / "atlas" / name


def _published(name: str) -> AtlasFiles:
    if name not in ATLASES:
        raise unknown("published atlas", name, ATLASES)
    return ATLASES[name]


def _is_published(path: Path, files: AtlasFiles) -> bool:
    try:
        check_digest(path, files.digests[files.labels], files.labels)
    except InputError:
        return False
    return True


def _side(name: str, hemisphere: str) -> str:
    words = plain_name(name).split()
    # the name before the column: published tables contradict themselves
    for word in (*words[:1], *words[-1:], hemisphere.strip().lower()):
        if word in _SIDES:
            return _SIDES[word]
    return ""


def _read_axis_aligned(path: Path) -> tuple[Any, Float64[np.ndarray, "4 4"]]:
    """Voxels and affine of a NIfTI file, axes in the order x, y, z and rising.

    Raises:
        InputError: unreadable, or oblique.
    """
    import nibabel

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        image: Any = nibabel.as_closest_canonical(nibabel.load(path))
        data, affine = np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # a damaged file may bring up any error of a decoder
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: cannot be read ({reason})") from error
    turned = affine[:3, :3] - np.diag(np.diag(affine)[:3])
    if np.abs(turned).max() > 1e-3:
        raise InputError(f"{path}: its axes are oblique; resample it along MNI space")
    affine[:3, :3] = np.diag(np.diag(affine)[:3])
    return data, affine


def _as_t1(
    data: Any, affine: Float64[np.ndarray, "4 4"], path: Path
) -> tuple[Float32[np.ndarray, "x y z"], Float64[np.ndarray, "4 4"]]:
    """A T1-weighted image as it is, or tissue maps with the ICBM152 template's levels of tissue."""
    if data.ndim == 3:
        return data.astype(np.float32), affine
    if data.ndim != 4 or data.shape[3] < 2:
        raise InputError(f"{path}: {data.ndim} axes: a T1-weighted image, or maps of grey and white matter, are needed")
    grey, white = (np.clip(data[..., part], 0, 1).astype(np.float32) for part in (0, 1))
    return _t1_of_tissue(grey, white), affine


def _t1_of_tissue(grey: Float32[np.ndarray, "x y z"], white: Float32[np.ndarray, "x y z"]) -> Any:
    """T1-like image of tissue maps: fluid inside the brain's closed hull, grey and white matter by their shares."""
    from scipy.ndimage import binary_closing, binary_fill_holes, generate_binary_structure

    tissue = np.clip(grey + white, 0, 1)
    hull = binary_fill_holes(binary_closing(tissue > 0.3, generate_binary_structure(3, 1), iterations=4))
    fluid, grey_level, white_level = _LEVELS
    image = fluid * (1 - tissue) + grey_level * grey + white_level * white
    return np.where(hull | (tissue > 0.3), image, 0).astype(np.float32)


# of the ICBM152 template: fluid, grey and white matter
_LEVELS: Sequence[float] = (0.4, 0.66, 0.83)
