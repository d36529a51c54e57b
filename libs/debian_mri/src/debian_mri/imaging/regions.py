"""Regions of the brain in MNI space, as ellipsoids and boxes, for the choice of planes through them.

No atlas: shapes were drawn by hand on the ICBM152 template (2009a, symmetric) around each structure, and their
centres were compared with centroids of the AAL atlas (Tzourio-Mazoyer et al., NeuroImage 2002: hippocampus (-25, -21,
-10) and (29, -20, -10), calcarine (-7, -79, 6), precuneus (-7, -56, 48), inferior parietal (-43, -46, 47)). The lateral
ventricles were measured: their CSF is one piece on each side, x 1 to 34, y -57 to 30, z -2 to 28, of which the
ellipsoids cover 94 %. They are too coarse for volumetry.

All coordinates are mm, RAS: x to the right, y to the front, z up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64

from debian_mri.imaging.template import world_axes
from icube_common.errors import unknown

# normal axis of a plane
PLANES: Mapping[str, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
# minimum section of a shape on a plane, relative to its largest section
MIN_SECTION_SHARE = 0.25

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Ellipsoid:
    """Ellipsoid: points p with ``|R^T (p - middle) / radii| <= 1``.

    Attributes:
        middle: mm.
        radii: mm; the first lies along ``along``.
        along: direction of the first axis; the second is the horizontal one at right angles to it, the third the rest.
    """

    middle: Point
    radii: Point
    along: Point = (0.0, 1.0, 0.0)

    @property
    def matrix(self) -> Float64[np.ndarray, "3 3"]:
        """Transform of ``p - middle`` into the unit ball."""
        first = np.array(self.along) / np.linalg.norm(self.along)
        second = np.cross(first, [0.0, 0.0, 1.0])
        second /= np.linalg.norm(second)
        axes = np.stack([first, second, np.cross(first, second)])
        return axes / np.array(self.radii)[:, None]

    def level(self, points: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Distance from the middle, 1 on the surface; ``points`` are x, y and z that broadcast."""
        rows = self.matrix
        offsets = [point - middle for point, middle in zip(points, self.middle, strict=True)]
        squares = [sum(row[axis] * offsets[axis] for axis in range(3)) ** 2 for row in rows]
        return np.sqrt(sum(squares))

    def half_extent(self, axis: int) -> float:
        """Half of the extent along a world axis."""
        return float(np.linalg.norm(np.linalg.inv(self.matrix)[axis]))

    def section(self, axis: int, position: float) -> float:
        """Area of the section of the plane at ``position``, relative to the largest parallel one."""
        return max(0.0, 1 - ((position - self.middle[axis]) / self.half_extent(axis)) ** 2)


@dataclass(frozen=True)
class Box:
    """Box between two corners."""

    low: Point
    high: Point

    @property
    def middle(self) -> Point:
        """Centre, mm."""
        x, y, z = ((a + b) / 2 for a, b in zip(self.low, self.high, strict=True))
        return x, y, z

    def level(self, points: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Distance from the middle in the largest of the three half widths, 1 on the surface."""
        parts = [
            abs(point - middle) / self.half_extent(axis)
            for axis, (point, middle) in enumerate(zip(points, self.middle, strict=True))
        ]
        return np.maximum(np.maximum(parts[0], parts[1]), parts[2])

    def half_extent(self, axis: int) -> float:
        """Half of the extent along a world axis."""
        return (self.high[axis] - self.low[axis]) / 2

    def section(self, axis: int, position: float) -> float:
        """1 for a plane through the box, else 0."""
        return float(self.low[axis] <= position <= self.high[axis])


Shape = Ellipsoid | Box


def _both_sides(middle: Point, radii: Point, along: Point = (0.0, 1.0, 0.0)) -> tuple[Ellipsoid, Ellipsoid]:
    """Ellipsoid on the right and its mirror image on the left, left first."""
    mirrored = ((-middle[0], middle[1], middle[2]), radii, (-along[0], along[1], along[2]))
    return Ellipsoid(*mirrored), Ellipsoid(middle, radii, along)


@dataclass(frozen=True)
class Region:
    """Named region of the brain.

    Attributes:
        name: name in configurations and slices.
        words: name in texts.
        shapes: shapes whose union is the region.
    """

    name: str
    words: str
    shapes: tuple[Shape, ...]

    def mask(self, shape: Sequence[int], affine: Float64[np.ndarray, "4 4"]) -> Bool[np.ndarray, "x y z"]:
        """Mask of the voxels of an axis-aligned grid with their centre in the region."""
        grids = world_axes(shape, affine)
        inside = np.zeros(tuple(shape), dtype=bool)
        for part in self.shapes:
            inside |= part.level(grids) <= 1
        return inside

    def is_on_plane(self, plane: str, position: float) -> bool:
        """True for a plane at ``position`` (mm) with at least `MIN_SECTION_SHARE` of the largest section of a shape."""
        return any(shape.section(PLANES[plane], position) >= MIN_SECTION_SHARE for shape in self.shapes)

    def slice_positions(self, plane: str, count: int) -> tuple[float, ...]:
        """Positions of ``count`` planes through the region, mm, evenly in its middle half.

        Sagittal planes pass a paired region twice: ``count`` for each side.
        """
        axis = PLANES[plane]
        positions: list[float] = []
        for low, high in self._spans(axis):
            middle, half = (low + high) / 2, (high - low) / 4
            steps = np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
            positions += [round(float(middle + half * step), 2) for step in steps]
        return tuple(positions)

    def _spans(self, axis: int) -> list[tuple[float, float]]:
        """Extents along an axis, with overlapping ones merged."""
        spans = sorted(
            (s.middle[axis] - s.half_extent(axis), s.middle[axis] + s.half_extent(axis)) for s in self.shapes
        )
        merged = [spans[0]]
        for low, high in spans[1:]:
            if low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        return merged


_HIPPOCAMPUS = _both_sides((27.0, -23.0, -13.0), (19.0, 7.5, 6.5), (0.08, -0.87, 0.48))
REGIONS: Mapping[str, Region] = {
    region.name: region
    for region in (
        Region("hippocampus", "hippocampus", _HIPPOCAMPUS),
        Region("hippocampus_left", "left hippocampus", _HIPPOCAMPUS[:1]),
        Region("hippocampus_right", "right hippocampus", _HIPPOCAMPUS[1:]),
        Region(
            "medial_temporal",
            "medial temporal lobe",
            _both_sides((26.0, -17.0, -19.0), (25.0, 12.0, 13.0), (0.05, -0.92, 0.38)),
        ),
        Region(
            "lateral_ventricles",
            "lateral ventricles",
            (
                # frontal horn, body, and where body and horns of the temporal and occipital lobes meet
                *_both_sides((8.0, 10.0, 11.5), (22.0, 8.5, 13.0), (0.2, 0.85, -0.5)),
                *_both_sides((12.5, -18.0, 22.0), (20.0, 8.5, 7.0), (-0.28, 0.95, 0.07)),
                *_both_sides((25.0, -43.0, 10.0), (18.0, 8.5, 14.0), (-0.45, 0.8, 0.45)),
            ),
        ),
        Region("midbrain", "midbrain", (Ellipsoid((0.0, -23.0, -12.0), (13.0, 18.0, 11.0)),)),
        Region("substantia_nigra", "substantia nigra", _both_sides((10.0, -18.0, -12.0), (7.0, 5.0, 4.5))),
        Region("occipital", "occipital lobe", (Box((-46.0, -106.0, -12.0), (46.0, -68.0, 36.0)),)),
        Region("parietal", "parietal lobe", (Box((-60.0, -76.0, 28.0), (60.0, -30.0, 72.0)),)),
        Region("brain", "whole brain", (Box((-72.0, -107.0, -72.0), (72.0, 73.0, 82.0)),)),
    )
}


def get_region(name: str) -> Region:
    """Region by name.

    Raises:
        InputError: unknown name; the nearest is given.
    """
    if name not in REGIONS:
        raise unknown("region", name, REGIONS)
    return REGIONS[name]


def regions_on_plane(plane: str, position: float) -> tuple[str, ...]:
    """Names of the regions on the plane at ``position`` (mm), in the order of `REGIONS`, without the whole brain."""
    return tuple(name for name, region in REGIONS.items() if name != "brain" and region.is_on_plane(plane, position))
