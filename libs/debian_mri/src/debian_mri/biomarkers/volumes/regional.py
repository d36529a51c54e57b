"""Regional volumes by registration to one atlas: no segmentation of the brain itself.

A brain in MNI space is registered to the atlas's template. The volume of a region is the sum over its voxels in
the template of the Jacobian determinant, which is the voxel's volume in the brain, over the scale of the affine
registration. It is divided into tissue and fluid by the intensities at the corresponding places of the brain, linearly
between the levels of fluid and grey matter. Modulated volumes of this kind are those of voxel-based morphometry (Good
et al., NeuroImage 14, 2001). A column of a ventricle is its fluid, that of any other structure the whole region. By the
deformation each voxel lies in a coronal plane of the scan, and a volume is the sum of its planes.

A single-atlas registration smooths over what differs in kind between brain and template, such as sulci, and shrinks
differences: a small structure's differences come out at about half their size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from debian_mri.biomarkers.volumes.atlas import Atlas, Region, column_of
from debian_mri.biomarkers.volumes.planes import VolumePlanes
from debian_mri.biomarkers.volumes.structures import INTRACRANIAL, SIDES, STRUCTURES
from debian_mri.biomarkers.volumes.table import VolumeTable, column_names
from debian_mri.imaging.brain_extraction import CITATION as DEEPBET_CITATION
from debian_mri.imaging.masks import MARGIN_MM
from debian_mri.imaging.preprocess import OTSU, Volume
from debian_mri.imaging.registration import Deformation, invert_deformation, register_deformable, tissue_levels
from debian_mri.imaging.template import Grid, load_template, resample, world_axes
from icube_common.data.manifest import write_rows
from icube_common.errors import InputError
from icube_common.io.runs import atomic_file

DISCLAIMERS = (
    "Volumes by single-atlas registration, not FreeSurfer: no segmentation, and no norm of another program applies.",
    "Hippocampus: exploratory.",
)
REGISTRATION_CITATION = "Registration: diffeomorphic demons (Vercauteren et al., NeuroImage 45, 2009), SimpleITK."
# correlation of the registered brain with the template, below which a row is marked: 0.76 to 0.88 for 13 real heads
MIN_CORRELATION = 0.6
# y of the frontal horns, mm
_FRONTAL_MM = 5.0
# a region on both sides of the midline has at least this share on each
_MIN_SIDE = 0.2


class RegionVolume(NamedTuple):
    """Volumes of a region in the head's own size, mL."""

    region: str
    side: str
    tissue_ml: float
    fluid_ml: float


@dataclass(frozen=True, eq=False, kw_only=True)
class ScanVolumes:
    """Regional volumes of a scan.

    Attributes:
        regions: each region of the atlas, one that lies on both sides once a side.
        columns: columns of a `VolumeTable`, mL.
        planes: column -> (2, P) mL by coronal plane: of the scan, and of the atlas's own region in the same planes.
        positions_mm: (P,) y of the planes.
        evans_like_index: `evans_like_index` of the fluid in the lateral ventricles; NaN without them.
        quality: correlation, range of the Jacobian, source of the mask, marks.
    """

    regions: tuple[RegionVolume, ...]
    columns: Mapping[str, float]
    planes: Mapping[str, Float64[np.ndarray, "2 p"]]
    positions_mm: Float64[np.ndarray, " p"]
    evans_like_index: float
    quality: Mapping[str, str]


@dataclass(frozen=True, eq=False, kw_only=True)
class StructureLabels:
    """Structures of an atlas on the grid of a scan, for pages.

    Attributes:
        labels: (X, Y, Z), 0 for none, else 1 + index of the structure in ``names``.
        affine: of the labels, axis-aligned.
        names: columns of a `VolumeTable`, at most 255.
        citations: publications and licences of the atlas, printed wherever the labels are shown.

    Raises:
        InputError: no citation.
    """

    labels: UInt8[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]
    names: tuple[str, ...]
    citations: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.names) < 256
        if not self.citations:
            raise InputError("labels of an atlas without its licence and citations cannot be shown")


class AtlasGrid:
    """An atlas on the grid of preprocessed volumes: template, levels of tissue, and the shares of all regions.

    Args:
        atlas: label map, names, template.
        grid: of the volumes, axis-aligned in MNI space.

    Raises:
        InputError: the template has no contrast, or no region lies on the grid.
    """

    def __init__(self, atlas: Atlas, grid: Grid) -> None:
        from scipy.ndimage import distance_transform_edt

        self.atlas, self.grid = atlas, grid
        self.template = atlas.template_on(grid)
        self.brain = self.template > 0.2 * float(self.template.max())
        self.levels = tissue_levels(self.template[self.brain])
        self.fluid = fluid_share(self.template, self.levels)
        inside = resample(load_template().brain.astype(np.float32), load_template().affine, grid) > 0.5
        self.near = distance_transform_edt(~inside) * float(abs(grid.affine[0, 0])) <= MARGIN_MM
        right = np.broadcast_to(world_axes(grid.shape, grid.affine)[0] > 0, grid.shape)
        self.parts: list[tuple[Region, str, tuple[Any, ...], Float32[np.ndarray, " v"]]] = []
        for region in atlas.regions:
            share = atlas.share(region, grid)
            for side, part in _sides(region, share, right):
                where = np.nonzero(part > 0)
                if len(where[0]):
                    self.parts.append((region, side, where, part[where]))
        if not self.parts:
            raise InputError(f"{atlas.name}: none of its regions lies in the volumes' field of view")


def fluid_share(image: Float32[np.ndarray, "x y z"], levels: Float64[np.ndarray, " 3"]) -> Any:
    """Share of fluid in each voxel of an image with the given levels of tissue, linear from grey matter to fluid."""
    low, grey, _ = levels
    return np.clip((grey - image) / (grey - low), 0, 1)


def register_to_atlas(volume: Volume, atlas: AtlasGrid) -> Deformation:
    """Deformable registration of a preprocessed brain to the atlas's template.

    The mask by thresholds (`debian_mri.imaging.preprocess.OTSU`) loses the fluid around the brain, and the levels of
    tissue inside it are wrong. They are then those of the voxels up to `MARGIN_MM` from the ICBM152 template's brain,
    which the affine registration has laid over the head, and such voxels nearer to fluid than to grey matter count as
    brain.

    Raises:
        InputError: no contrast between tissues, or the registration fails.
    """
    mask, tissue = volume.mask, None
    if volume.mask_source == OTSU:
        tissue = volume.mask | atlas.near
        fluid, grey, _ = tissue_levels(volume.data[tissue])
        mask = volume.mask | (atlas.near & (volume.data < (fluid + grey) / 2))
    return register_deformable(volume.data, mask, atlas.template, atlas.brain, volume.affine, tissue=tissue)


def measure_regions(
    volume: Volume, atlas: AtlasGrid, *, scale: float, deformation: Deformation | None = None
) -> ScanVolumes:
    """Regional volumes of a preprocessed brain in MNI space.

    Args:
        volume: on the atlas's grid.
        atlas: on the same grid.
        scale: volume in MNI space over volume in the head's own size, of the affine registration.
        deformation: of `register_to_atlas`; by default computed.

    Raises:
        InputError: as `register_to_atlas`.
    """
    deformation = deformation or register_to_atlas(volume, atlas)
    fluid = fluid_share(deformation.warped, atlas.levels)
    voxel = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000 / scale
    count, step = volume.data.shape[1], float(volume.affine[1, 1])
    # plane of the scan that a voxel of the atlas lies in
    index = np.arange(count, dtype=np.float32)[:, None]
    plane = np.clip(np.rint(index + deformation.displacement[1] / step), 0, count - 1).astype(np.int64)
    regions, columns, planes = [], dict[str, float](), dict[str, Any]()
    for region, side, where, share in atlas.parts:
        size = share * deformation.jacobian[where] * voxel
        in_fluid = float((size * fluid[where]).sum(dtype=np.float64))
        in_tissue = float(size.sum(dtype=np.float64)) - in_fluid
        regions.append(RegionVolume(region.name, side, in_tissue, in_fluid))
        for column in _columns(region, side):
            is_fluid = STRUCTURES[column.removesuffix(f"_{side}") if side else column].tissue == "fluid"
            value = in_fluid if is_fluid else in_fluid + in_tissue
            columns[column] = columns.get(column, 0.0) + value
            atlas_size = share * voxel
            if is_fluid and (atlas_fluid := atlas_size * atlas.fluid[where]).any():
                atlas_size = atlas_fluid
            sizes = (size * fluid[where] if is_fluid else size, atlas_size)
            by_plane = np.stack([np.bincount(plane[where], each, minlength=count) for each in sizes])
            planes[column] = planes.get(column, 0.0) + by_plane
    columns[INTRACRANIAL] = volume.intracranial_ml
    low, high = deformation.jacobian_range
    marks = [
        *([] if deformation.correlation >= MIN_CORRELATION else [f"correlation below {MIN_CORRELATION}"]),
        *([] if low > 0 else ["folds"]),
    ]
    quality = {
        "registration_correlation": f"{deformation.correlation:.4f}",
        "jacobian_min": f"{low:.3f}",
        "jacobian_max": f"{high:.3f}",
        "mask": volume.mask_source,
        "quality": "; ".join(marks) or "ok",
    }
    return ScanVolumes(
        regions=tuple(regions),
        columns=columns,
        planes=planes,
        positions_mm=float(volume.affine[1, 3]) + step * np.arange(count),
        evans_like_index=evans_like_index(atlas, deformation, fluid),
        quality=quality,
    )


def label_structures(
    volume: Volume, atlas: AtlasGrid, deformation: Deformation, names: Sequence[str]
) -> StructureLabels:
    """Structures on the scan's own grid: voxels whose point in the atlas belongs to one by more than half.

    Of a ventricle they are those of its fluid. Points whose inverse lies further than a voxel away have no label.

    Args:
        volume: on the atlas's grid.
        atlas: on the same grid.
        deformation: of `register_to_atlas`.
        names: columns of a `VolumeTable`; those that the atlas has not are left out.
    """
    from scipy.ndimage import map_coordinates

    spacing = abs(float(volume.affine[0, 0]))
    points, error = invert_deformation(deformation.displacement, spacing, volume.mask)
    fluid = fluid_share(deformation.warped, atlas.levels)
    shares: dict[str, Any] = {}
    for region, side, where, share in atlas.parts:
        for column in set(_columns(region, side)) & set(names):
            is_fluid = STRUCTURES[column.removesuffix(f"_{side}") if side else column].tissue == "fluid"
            shares.setdefault(column, np.zeros(volume.data.shape, dtype=np.float32))
            shares[column][where] += share * fluid[where] if is_fluid else share
    columns = tuple(name for name in names if name in shares)
    best, chosen = np.full(len(error), 0.5, dtype=np.float32), np.zeros(len(error), dtype=np.uint8)
    for number, column in enumerate(columns, 1):
        value = map_coordinates(shares[column], points, order=1)
        better = (value > best) & (error <= spacing)
        best[better], chosen[better] = value[better], number
    labels = np.zeros(volume.data.shape, dtype=np.uint8)
    labels[volume.mask] = chosen
    return StructureLabels(
        labels=labels,
        affine=volume.affine,
        names=columns,
        citations=(*atlas.atlas.citations, REGISTRATION_CITATION),
    )


def evans_like_index(atlas: AtlasGrid, deformation: Deformation, fluid: Float32[np.ndarray, "x y z"]) -> float:
    """Largest width of the frontal horns over the largest width of the brain, in axial planes of the brain.

    Like Evans's index (Arch Neurol Psychiatry 1942), which takes the skull in place of the brain. The frontal horns are
    the voxels of the lateral ventricles with more than half fluid in front of y = 5 mm; their places in the brain are
    by the deformation.
    NaN for an atlas without lateral ventricles.
    """
    x, z = (
        axis + deformation.displacement[at]
        for at, axis in ((0, _broadcast_axis(atlas, 0)), (2, _broadcast_axis(atlas, 2)))
    )
    inside = np.zeros(fluid.shape, dtype=bool)
    for region, _, where, share in atlas.parts:
        if column_of(region).startswith("lateral_ventricle"):
            inside[where] |= share > 0.5
    inside &= (fluid > 0.5) & (_broadcast_axis(atlas, 1) > _FRONTAL_MM)
    if not inside.any():
        return math.nan
    step = float(atlas.grid.affine[2, 2])
    planes = np.round(z[inside] / step).astype(np.int64)
    widths = [np.ptp(x[inside][planes == plane]) + step for plane in np.unique(planes)]
    brain_planes = np.round(z[atlas.brain] / step).astype(np.int64)
    brain_x = x[atlas.brain]
    whole = max(float(np.ptp(brain_x[brain_planes == plane])) for plane in np.unique(planes) if plane in brain_planes)
    return float(max(widths)) / (whole + step)


def table_of(ids: Sequence[str], results: Sequence[ScanVolumes], atlas: Atlas) -> VolumeTable:
    """Table of volumes of several scans; regions without a column of their own are in `write_regions` only."""
    names = tuple(name for name in column_names() if any(name in result.columns for result in results))
    extra = []
    for result in results:
        row = dict(result.quality)
        row["evans_like_index"] = "" if math.isnan(result.evans_like_index) else f"{result.evans_like_index:.4f}"
        icv = result.columns[INTRACRANIAL]
        row |= {f"{name}_per_icv": f"{result.columns[name] / icv:.6g}" for name in names if name != INTRACRANIAL}
        extra.append(row)
    deepbet = any(result.quality["mask"].startswith("deepbet") for result in results)
    return VolumeTable(
        ids=tuple(ids),
        names=names,
        values=np.array([[result.columns.get(name, math.nan) for name in names] for result in results]),
        sources=(f"debian_mri single-atlas registration, {atlas.name}",) * len(ids),
        quality=tuple(extra),
        planes=_planes_of(ids, results, names),
        disclaimers=DISCLAIMERS,
        citations=(*atlas.citations, REGISTRATION_CITATION, *((DEEPBET_CITATION,) if deepbet else ())),
    )


def _planes_of(ids: Sequence[str], results: Sequence[ScanVolumes], names: Sequence[str]) -> VolumePlanes | None:
    """Volumes by plane of several scans; None where their planes differ."""
    positions = results[0].positions_mm
    if any(not np.array_equal(result.positions_mm, positions) for result in results):
        return None
    sized = tuple(name for name in names if name != INTRACRANIAL)
    absent = np.full((2, len(positions)), math.nan)
    values = np.array([[result.planes.get(name, absent) for name in sized] for result in results])
    return VolumePlanes(
        ids=tuple(ids), names=sized, positions_mm=positions, ml=values[:, :, 0], atlas_ml=values[:, :, 1]
    )


def write_regions(path: str | Path, ids: Sequence[str], results: Sequence[ScanVolumes], *, overwrite: bool) -> Path:
    """Write all regions of all scans: a row for each scan, region and side, tissue and fluid in mL and per ICV."""
    path = Path(path)
    head = ("id", "region", "side", "tissue_ml", "fluid_ml", "tissue_per_icv", "fluid_per_icv")
    rows = []
    for scan, result in zip(ids, results, strict=True):
        icv = result.columns[INTRACRANIAL]
        for one in result.regions:
            sizes = (one.tissue_ml, one.fluid_ml)
            cells = (*(f"{size:.4f}" for size in sizes), *(f"{size / icv:.6g}" for size in sizes))
            rows.append((scan, one.region, one.side, *cells))
    with atomic_file(path, overwrite=overwrite) as temporary:
        write_rows(temporary, head, rows)
    return path


def affine_scale(volume: Volume) -> float:
    """Volume in MNI space over volume in the head's own size, from the mask's two volumes."""
    inside = float(volume.mask.sum()) * abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000
    return inside / volume.intracranial_ml


def _sides(
    region: Region, share: Float32[np.ndarray, "x y z"], right: Any
) -> list[tuple[str, Float32[np.ndarray, "x y z"]]]:
    """Parts of a region: itself where it has a side or lies on the midline as one, else its left and right."""
    if region.side:
        return [(region.side, share)]
    column = column_of(region)
    name = column if column in STRUCTURES else ""
    on_right = float((share * right).sum()) / max(float(share.sum()), 1e-9)
    bilateral = STRUCTURES[name].bilateral if name else _MIN_SIDE < on_right < 1 - _MIN_SIDE and not column
    if not bilateral:
        return [("", share)]
    return [(side, (share * (right == (side == "right"))).astype(np.float32)) for side in SIDES]


def _columns(region: Region, side: str) -> list[str]:
    column = column_of(region)
    if not column:
        return []
    if column in STRUCTURES and STRUCTURES[column].bilateral:
        return [f"{column}_{side}"] if side else []
    return [column]


def _broadcast_axis(atlas: AtlasGrid, axis: int) -> Float64[np.ndarray, "x y z"]:
    return np.broadcast_to(world_axes(atlas.grid.shape, atlas.grid.affine)[axis], atlas.grid.shape)
