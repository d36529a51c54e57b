"""Display geometry: a decoded frame as a player shows it, upright and with square pixels.

A frame H x W becomes an array (H', W', 3) of uint8 RGB. First the pixel aspect ratio stretches the width, then the
display matrix mirrors and turns: the eight symmetries of a rectangle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type

# 1 in a display matrix
_ONE = 1 << 16
# a display matrix this many degrees off a quarter turn still is one
_SLANT = 5
# pixels more oblong than this are taken for an error of the file, as 1:1
_OBLONG = 8


@dataclass(frozen=True)
class Display:
    """Geometry of a decoded frame on display.

    Attributes:
        width: pixels of the decoded frame after the pixel aspect ratio.
        height: pixels of the decoded frame.
        mirrored: exchange of left and right, before the turn.
        rotation: degrees of the turn, counter-clockwise: 0, 90, 180 or 270.
    """

    width: int
    height: int
    mirrored: bool = False
    rotation: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(H', W') on display."""
        return (self.height, self.width) if self.rotation % 180 == 0 else (self.width, self.height)

    @classmethod
    def of(cls, frame: Any, stream: Any) -> Display:
        """The display geometry of a track by its first frame.

        Raises:
            ValueError: a turn that is no quarter turn.
        """
        aspect = float(stream.sample_aspect_ratio or 1)
        if not 1 / _OBLONG <= aspect <= _OBLONG:
            aspect = 1.0
        mirrored, rotation = orientation(_display_matrix(frame))
        return cls(max(round(frame.width * aspect), 1), frame.height, mirrored, rotation)

    def picture(self, frame: Any) -> npt.NDArray[np.uint8]:
        """(H', W', 3) a frame as shown; one of another size is brought to that of the first."""
        if (frame.width, frame.height) == (self.width, self.height):
            pixels = frame.to_ndarray(format="rgb24")
        else:
            pixels = frame.to_ndarray(format="rgb24", width=self.width, height=self.height, interpolation="BICUBIC")
        if self.mirrored:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(np.rot90(pixels, self.rotation // 90))


def orientation(matrix: npt.NDArray[np.int32]) -> tuple[bool, int]:
    """A display matrix (9,) as mirroring and the turn after it, in degrees counter-clockwise.

    FFmpeg's matrix takes a point (x, y), y down, to (a x + c y, b x + d y), with a, b, c, d = elements 0, 1, 3, 4.

    Raises:
        ValueError: no multiple of a quarter turn.
    """
    a, b, c, d = (float(matrix[place]) for place in (0, 1, 3, 4))
    if a * d - b * c == 0:
        return False, 0
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    degrees = -math.degrees(math.atan2(b, a))
    quarters = round(degrees / 90)
    if abs(degrees - 90 * quarters) > _SLANT:
        raise ValueError(f"turned by {degrees % 360:.0f} degrees, only quarter turns are understood")
    return mirrored, 90 * (quarters % 4)


def _display_matrix(frame: Any) -> npt.NDArray[np.int32]:
    """(9,) the display matrix of a frame; that of the identity where it has none."""
    try:
        data = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:
        # PyAV stumbles over other side data that are newer than it (EXIF), and then gives the turn alone
        angle = math.radians(-frame.rotation)
        a, b = round(math.cos(angle) * _ONE), round(math.sin(angle) * _ONE)
        return np.array([a, b, 0, -b, a, 0, 0, 0, _ONE], dtype=np.int32)
    return (
        np.array([_ONE, 0, 0, 0, _ONE, 0, 0, 0, _ONE], dtype=np.int32)
        if data is None
        else np.frombuffer(bytes(data), dtype=np.int32)
    )
