"""Frame: image plane of any kind of DICOM file; and the refusal of what cannot be converted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

Vector = tuple[float, ...]
FloatArray = npt.NDArray[np.float64]

COSINE_TOLERANCE = 1e-3  # of unit length and right angle: headers have three digits at the least


class Refusal(Exception):
    """Refusal of a series.

    The message has kinds and numbers of the geometry, never a value that may identify a subject.

    Args:
        kind: a few fixed words ("missing slices"), for tables.
        detail: evidence and location.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One plane of one file.

    Attributes:
        path: the file.
        index: index of the plane in the file.
        tile: first row and column inside the file's image, for mosaics.
        rows: of the plane, in pixels.
        columns: of the plane, in pixels.
        orientation: direction cosines of a row and of a column, LPS, 6 numbers of unit length.
        position: centre of the first pixel, LPS, mm.
        spacing: between rows and between columns, mm.
        thickness: of the slice, mm.
        slice_spacing: between slice centres as the header has it, mm.
        image_type: the header's words; of multi-frame files, of this frame.
        component: number that some scanners give magnitude, phase, real, imaginary (GE).
        echo: time in ms and number.
        times: numbers that may distinguish volumes of a 4-D series, by the name of their source.
        instance: number of the image in its series.
        uid: UID of the image, empty if absent.
        stack: name of the stack in an enhanced file, else empty.
        scale: slope and intercept from stored to written values.
        description: words of the series in lower case, for the detection of localisers.
    """

    path: Path
    index: int = 0
    tile: tuple[int, int] | None = None
    rows: int
    columns: int
    orientation: Vector
    position: Vector
    spacing: Vector
    thickness: float | None = None
    slice_spacing: float | None = None
    image_type: tuple[str, ...] = ()
    component: int | None = None
    echo: tuple[float | None, str | None] = (None, None)
    times: dict[str, Vector] = field(default_factory=dict)
    instance: int | None = None
    uid: str = ""
    stack: str = ""
    scale: tuple[float, float] = (1.0, 0.0)
    description: str = ""

    @property
    def order(self) -> tuple[int, int]:
        """Sort key in the series: instance number, then frame of the file."""
        return (self.instance if self.instance is not None else -1, self.index)


def check_orientation(cosines: Vector) -> Vector:
    """Normalise direction cosines, which are rounded in headers.

    Raises:
        Refusal: not a pair of orthogonal unit vectors.
    """
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.abs(lengths - 1).max() > COSINE_TOLERANCE or abs(row @ column) > COSINE_TOLERANCE:
        raise Refusal("missing geometry", "the image orientation is no pair of orthogonal unit vectors")
    return tuple(float(item) for item in (*(row / lengths[0]), *(column / lengths[1])))


def plane_normal(orientation: Vector) -> FloatArray:
    """Unit normal of a plane, LPS, right-handed: row x column."""
    normal = np.cross(np.array(orientation[:3]), np.array(orientation[3:]))
    return normal / np.linalg.norm(normal)
