"""Region of interest of an image: a rotated square, its crop, and coordinates from the crop to the image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[np.float64]


class Region(NamedTuple):
    """Rotated square of an image, in pixels.

    Attributes:
        x: centre, to the right.
        y: centre, down.
        size: length of a side.
        rotation: in radians, clockwise in the image; 0 for an upright person.
    """

    x: float
    y: float
    size: float
    rotation: float

    @classmethod
    def whole(cls, width: int, height: int) -> Region:
        """The smallest upright square that holds the whole image."""
        return cls(width / 2, height / 2, max(width, height), 0.0)

    @classmethod
    def around(cls, centre: npt.ArrayLike, outer: npt.ArrayLike, *, scale: float = 1.0) -> Region:
        """The square about a circle whose upright radius goes from ``centre`` to ``outer`` (both x, y in pixels)."""
        x, y = (float(value) for value in np.asarray(centre))
        right, down = (float(value) for value in np.asarray(outer) - np.asarray(centre))
        rotation = math.pi / 2 - math.atan2(-down, right)
        rotation -= 2 * math.pi * math.floor((rotation + math.pi) / (2 * math.pi))
        return cls(x, y, 2 * scale * math.hypot(right, down), rotation)

    def crop(self, image: Image, side: int) -> npt.NDArray[np.uint8]:
        """Resample the region to (side, side, 3), bilinear; black beyond the image's edge.

        Output pixel i samples the input at i / side of the region's side, as in MediaPipe; its own centre is half a
        pixel further.
        """
        from PIL import Image as images

        step = self.size / side
        right, down = step * math.cos(self.rotation), step * math.sin(self.rotation)
        left = self.x - (right - down) * side / 2
        top = self.y - (down + right) * side / 2
        # Pillow takes the centre of output pixel i as i + 1/2, and of an input pixel as well
        shift_x, shift_y = 0.5 - (right - down) / 2, 0.5 - (down + right) / 2
        matrix = (right, -down, left + shift_x, down, right, top + shift_y)
        cropped = image.transform(
            (side, side), images.Transform.AFFINE, matrix, resample=images.Resampling.BILINEAR, fillcolor=(0, 0, 0)
        )
        return np.asarray(cropped)

    def to_image(self, points: npt.ArrayLike) -> Array:
        """Points (..., 2 or 3) of the crop, 0 to 1 along its side, in pixels of the image; z in the same unit."""
        inside = np.asarray(points, dtype=np.float64)
        cosine, sine = math.cos(self.rotation), math.sin(self.rotation)
        x, y = inside[..., 0] - 0.5, inside[..., 1] - 0.5
        result = inside * self.size
        result[..., 0] = (cosine * x - sine * y) * self.size + self.x
        result[..., 1] = (sine * x + cosine * y) * self.size + self.y
        return result

    def rotate(self, vectors: npt.ArrayLike) -> Array:
        """Vectors (..., 3) of the crop, turned in the image plane to the image's axes."""
        result = np.array(vectors, dtype=np.float64)
        cosine, sine = math.cos(self.rotation), math.sin(self.rotation)
        x, y = result[..., 0].copy(), result[..., 1].copy()
        result[..., 0], result[..., 1] = cosine * x - sine * y, sine * x + cosine * y
        return result
