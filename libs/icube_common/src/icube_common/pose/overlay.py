"""Overlay of landmarks on a frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from icube_common.pose.landmarks import CONNECTIONS

LEFT, RIGHT, MIDDLE = (66, 135, 245), (245, 147, 66), (230, 230, 230)
"""Colours of the left side, the right side, and lines between them."""
MIN_VISIBILITY = 0.3
"""Landmarks below it are not drawn."""


def overlay_pose(
    frame: npt.NDArray[np.uint8], pixels: npt.ArrayLike, visibility: npt.ArrayLike, *, width: int | None = None
) -> npt.NDArray[np.uint8]:
    """A copy of an RGB frame (H, W, 3) with the connections of the 33 landmarks.

    Args:
        frame: (H, W, 3).
        pixels: (33, 2 or 3), as of `PoseSequence.pixels`; NaN draws nothing.
        visibility: (33,).
        width: of a line in pixels; by default 1/120 of the frame's shorter side.
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(np.ascontiguousarray(frame))
    pen = ImageDraw.Draw(image)
    points, visible = np.asarray(pixels, dtype=np.float64)[:, :2], np.asarray(visibility)
    stroke = width or max(1, round(min(image.size) / 120))
    for start, end in CONNECTIONS:
        if np.isfinite(points[[start, end]]).all() and min(visible[start], visible[end]) >= MIN_VISIBILITY:
            sides = {index % 2 for index in (start, end) if index}  # odd numbers are on the left
            colour = MIDDLE if len(sides) != 1 else LEFT if sides == {1} else RIGHT
            pen.line([tuple(points[start]), tuple(points[end])], fill=colour, width=stroke)
    return np.asarray(image)
