"""Siemens mosaics: the slices of a volume side by side in one image, its geometry in the private CSA header.

As described at https://nipy.org/nibabel/dicom/dicom_mosaic.html, with nibabel's reader of the CSA header.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from debian_mri.dicom.files.dicom_io import quiet
from debian_mri.dicom.frames import Frame, Refusal

SLICE_TOLERANCE_MM = 0.05
POSITION = re.compile(r"^\s*sSliceArray\.asSlice\[(\d+)\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*(\S+)", re.MULTILINE)
SLICES = re.compile(r"^\s*sSliceArray\.lSize\s*=\s*(\d+)", re.MULTILINE)
AXES = {"Sag": 0, "Cor": 1, "Tra": 2}  # of LPS


def is_mosaic(frame: Frame) -> bool:
    """True for a mosaic image."""
    return "MOSAIC" in frame.image_type


def split_mosaic(dataset: Dataset, whole: Frame) -> list[Frame]:
    """Split a mosaic into its slices.

    Returns:
        One frame for each slice, in the mosaic's order (row by row of tiles).

    Raises:
        Refusal: the CSA header is missing, damaged or contradicts the image, or slices are not evenly spaced.
    """
    header = _csa(dataset, "image")
    count, normal = _count(header), _normal(header)
    across = math.ceil(math.sqrt(count))
    if whole.rows % across or whole.columns % across:
        raise Refusal("damaged mosaic", f"{whole.rows} x {whole.columns} pixels for {count} slices")
    rows, columns = whole.rows // across, whole.columns // across
    if not whole.slice_spacing or whole.slice_spacing <= 0:
        raise Refusal("missing geometry", "a mosaic without spacing between slices")
    row, column = np.array(whole.orientation[:3]), np.array(whole.orientation[3:])
    if abs(abs(normal @ np.cross(row, column)) - 1) > 1e-3:
        raise Refusal("gantry tilt", "the slices of a mosaic are not stacked along their normal")
    normal = math.copysign(1.0, normal @ np.cross(row, column)) * np.cross(row, column)
    # the header's position is that of an image of the mosaic's size around the first slice's centre
    first = (
        np.array(whole.position)
        + row * whole.spacing[1] * (whole.columns - columns) / 2
        + column * whole.spacing[0] * (whole.rows - rows) / 2
    )
    centre = first + row * whole.spacing[1] * (columns / 2) + column * whole.spacing[0] * (rows / 2)
    step = whole.slice_spacing * normal
    _check_protocol(_protocol(dataset), count, centre, step)
    return [
        replace(
            whole,
            rows=rows,
            columns=columns,
            tile=(slice_index // across * rows, slice_index % across * columns),
            position=tuple(float(item) for item in first + slice_index * step),
        )
        for slice_index in range(count)
    ]


def _csa(dataset: Dataset, kind: str) -> dict[str, Any]:
    """The CSA header of the image or of its series."""
    with quiet():
        from nibabel.nicom import csareader

        try:
            header = csareader.get_csa_header(dataset, kind)
        except Exception as error:  # a damaged header fails anywhere in the reader
            raise Refusal("damaged mosaic", f"its CSA header cannot be read ({type(error).__name__})") from None
    if header is None:
        raise Refusal("missing geometry", "a mosaic without its CSA header")
    tags: dict[str, Any] = header["tags"]
    return tags


def _items(header: dict[str, Any], name: str) -> list[Any]:
    return list(header.get(name, {}).get("items", []))


def _count(header: dict[str, Any]) -> int:
    items = _items(header, "NumberOfImagesInMosaic")
    if not items or not isinstance(items[0], int) or not 1 <= items[0] <= 4096:
        raise Refusal("missing geometry", "the CSA header lacks the number of slices of a mosaic")
    return items[0]


def _normal(header: dict[str, Any]) -> npt.NDArray[np.float64]:
    items = _items(header, "SliceNormalVector")
    if len(items) != 3 or not all(isinstance(item, float) and math.isfinite(item) for item in items):
        raise Refusal("missing geometry", "the CSA header lacks the slice normal of a mosaic")
    normal = np.array(items)
    if abs(np.linalg.norm(normal) - 1) > 1e-3:
        raise Refusal("missing geometry", "the slice normal of a mosaic is no unit vector")
    return normal


def _protocol(dataset: Dataset) -> str:
    """Scanner protocol as text, empty if absent."""
    try:
        header = _csa(dataset, "series")
    except Refusal:
        return ""
    return "\n".join(str(item) for name in ("MrPhoenixProtocol", "MrProtocol") for item in _items(header, name)[:1])


def _check_protocol(protocol: str, count: int, centre: npt.NDArray[np.float64], step: npt.NDArray[np.float64]) -> None:
    """Compare the mosaic's geometry with the slice positions of the protocol, if it has one for each slice.

    Raises:
        Refusal: unevenly spaced slices in the protocol, or positions that contradict those of the mosaic.
    """
    size = SLICES.search(protocol)
    if size is None or int(size[1]) != count or count < 2:
        return
    positions = np.zeros((count, 3))
    for index, axis, number in POSITION.findall(protocol):
        try:
            if int(index) < count:
                positions[int(index), AXES[axis]] = float(number)
        except ValueError:
            return
    direction = step / np.linalg.norm(step)
    heights = np.sort(positions @ direction)
    spacing = float(np.linalg.norm(step))
    gaps = np.diff(heights)
    if np.abs(gaps - spacing).max() > max(SLICE_TOLERANCE_MM, 0.01 * spacing):
        raise Refusal(
            "missing slices",
            f"the protocol has slices {gaps.min():.4g} to {gaps.max():.4g} mm apart, the mosaic {spacing:.4g} mm",
        )
    # positions of the protocol are those before the table moved, so only a clear contradiction counts
    first, last = abs(heights[0] - centre @ direction), abs(heights[-1] - centre @ direction)
    if last <= SLICE_TOLERANCE_MM < first:
        raise Refusal("contradicting geometry", "protocol and CSA header disagree about the order of slices")
