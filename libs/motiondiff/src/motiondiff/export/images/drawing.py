"""Images of a moving skeleton: a fixed perspective camera, limbs coloured by side, a floor with shadow and trail.

Own drawing (NumPy projects, Pillow paints) and not pybvh's renderer, for what that one (0.9.0) does not do: MP4 without
OpenCV or a system ffmpeg (it writes a GIF instead), a view that fits the whole trajectory closely, captions, contact
sheets of several motions. It also takes about five times as long, drawing with matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from einops import rearrange
from PIL import Image, ImageColor, ImageDraw, ImageFont

from motiondiff.export.body import LEFT, RIGHT, TORSO, body_height, head_centre, head_joint, side_colour
from motiondiff.skeleton.motion import Motion, headings

Points = npt.NDArray[np.float64]

_PAPER, _FLOOR, _GRID, _SHADOW, _TRAIL, _INK, _FAINT = (
    "#ffffff", "#f0f2f5", "#d5dae1", "#c3cad4", "#8f9bab", "#222833", "#7b8492",
)  # fmt: skip
PALETTE = [ImageColor.getrgb(colour) for colour in (LEFT, RIGHT, TORSO, _PAPER, _FLOOR, _GRID, _SHADOW, _TRAIL, _INK)]
_SUPERSAMPLE = 3  # drawn this many times larger, then averaged: Pillow's own lines have hard edges
_AZIMUTH, _ELEVATION = np.radians(-38.0), np.radians(13.0)  # seen from the right front, slightly from above
_GRID_STEP = 0.5  # metres


@dataclass(frozen=True)
class Camera:
    """A perspective camera.

    Attributes:
        target: (3,) metres: point at the centre of the view.
        axes: (3, 3) rows: right, up and backwards (towards the viewer) in the world.
        distance: metres from the target.
        focal: pixels.
        centre: (2,) pixels: where the target appears.
    """

    target: Points
    axes: Points
    distance: float
    focal: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def framing(cls, points: Points, box: tuple[float, float, float, float], yaw: float) -> Camera:
        """The three-quarter view of a body facing ``yaw`` that fits ``points`` into ``box``.

        Args:
            points: (N, 3) metres: points to be visible.
            box: left, top, right, bottom in pixels.
            yaw: facing direction from +z about +y, rad.
        """
        azimuth = yaw + _AZIMUTH
        back = np.array(
            [np.sin(azimuth) * np.cos(_ELEVATION), np.sin(_ELEVATION), np.cos(azimuth) * np.cos(_ELEVATION)]
        )
        right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
        low, high = points.min(0), points.max(0)
        # far enough for a calm perspective, near enough that coming closer shows
        distance = 2.2 * max(float(np.linalg.norm(high - low)), 1e-3)
        camera = cls((low + high) / 2, np.stack((right, np.cross(back, right), back)), distance)
        projected, _ = camera.project(points)
        span = np.maximum(np.ptp(projected, axis=0), 1e-9)
        left, top, box_right, bottom = box
        focal = float(min((box_right - left) / span[0], (bottom - top) / span[1]))
        middle = (projected.min(0) + projected.max(0)) / 2 * focal
        centre = ((left + box_right) / 2 - float(middle[0]), (top + bottom) / 2 - float(middle[1]))
        return replace(camera, focal=focal, centre=centre)

    def project(self, points: Points) -> tuple[Points, Points]:
        """(..., 3) metres to (..., 2) pixels (y down), and pixels per metre there (...,)."""
        local = (points - self.target) @ self.axes.T
        scale = self.focal / np.maximum(self.distance - local[..., 2], 1e-3 * self.distance)
        return np.stack((local[..., 0], -local[..., 1]), axis=-1) * scale[..., None] + self.centre, scale


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own scalable font: the same letters on every machine."""
    return ImageFont.load_default(size)


def write_text(image: Image.Image, text: str, corner: tuple[int, int], size: int, *, faint: bool = False) -> None:
    """One line of text from its upper left corner, shortened with dots to fit the image."""
    draw, letters = ImageDraw.Draw(image), font(size)
    room = image.width - 2 * corner[0]
    shown = text
    while shown and draw.textlength(shown, font=letters) > room:
        shown = shown.removesuffix("...")[:-1].rstrip()
        shown += "..." if shown else ""
    draw.text(corner, shown, font=letters, fill=_FAINT if faint else _INK)


class Scene:
    """One motion on its floor, ready to be drawn at any frame.

    Args:
        motion: the clip, y-up, floor at y = 0.
        size: (width, height) pixels.
        caption: text in the upper left corner.
        follow: centre the root in each frame instead of framing the whole trajectory.
    """

    def __init__(self, motion: Motion, size: tuple[int, int], *, caption: str = "", follow: bool = False) -> None:
        self.motion, self.size, self.caption, self.follow = motion, size, caption, follow
        self._body = body_height(motion.skeleton)
        self._positions = motion.positions.astype(np.float64)
        self._ground = self._positions * (1, 0, 1)
        self._colours = [side_colour(name) for name in motion.skeleton.names]
        self._head = head_joint(motion.skeleton)
        self._letters = max(11, round(min(size) / 17))
        # centre of the view on the floor: fixed, or below the root of each frame
        self._middle = self._ground[:, :1] if follow else np.zeros((1, 1, 3))
        points = np.concatenate((self._positions, self._ground), axis=1) - self._middle
        flesh = 0.06 * self._body  # joints have thickness, and the head rises above its joint
        around = np.array([(1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1), (0, 2, 0)]) * flesh
        cloud = rearrange(points[:, :, None] + around, "t point side xyz -> (t point side) xyz")
        width, height = (_SUPERSAMPLE * side for side in size)
        margin, top = 0.03 * min(width, height), 1.7 * self._letters * _SUPERSAMPLE if caption else 0.0
        box = (margin, margin + top, width - margin, height - 2.5 * margin)
        self._camera = Camera.framing(cloud, box, float(headings(motion)[0]))
        self._floor_margin = 0.35 * self._body
        self._backdrop = None if follow else self._draw_floor(np.zeros(3))

    def draw(self, frame: int, *, progress: bool = False, note: str = "") -> Image.Image:
        """Image of one frame.

        Args:
            frame: index of the frame.
            progress: a progress bar along the lower edge.
            note: small text in the lower left corner.
        """
        middle = self._middle[frame if self.follow else 0, 0]
        large = self._backdrop.copy() if self._backdrop is not None else self._draw_floor(middle)
        draw = ImageDraw.Draw(large)
        self._draw_ground_marks(draw, frame, middle)
        self._draw_body(draw, frame, middle)
        image = large.reduce(_SUPERSAMPLE)
        if self.caption:
            write_text(image, self.caption, (round(0.6 * self._letters), round(0.5 * self._letters)), self._letters)
        if note:
            size = max(10, round(0.8 * self._letters))
            write_text(image, note, (round(0.6 * size), image.height - round(1.6 * size)), size, faint=True)
        if progress:
            done = image.width * (frame + 1) / len(self.motion)
            ImageDraw.Draw(image).rectangle((0, image.height - 3, done, image.height), fill=_TRAIL)
        return image

    def _draw_floor(self, middle: Points) -> Image.Image:
        """Paper, floor and its grid of half metres (wider where the clip travels far)."""
        image = Image.new("RGB", (self.size[0] * _SUPERSAMPLE, self.size[1] * _SUPERSAMPLE), _PAPER)
        draw = ImageDraw.Draw(image)
        ground = self._ground - self._middle
        low = ground.min((0, 1)) + middle - self._floor_margin
        high = ground.max((0, 1)) + middle + self._floor_margin
        step = _GRID_STEP
        while max(high[0] - low[0], high[2] - low[2]) / step > 40:
            step *= 2
        if not self.follow:
            low, high = np.floor(low / step) * step, np.ceil(high / step) * step
        corners = np.array([(low[0], 0, low[2]), (high[0], 0, low[2]), (high[0], 0, high[2]), (low[0], 0, high[2])])
        draw.polygon(self._pixels(corners - middle), fill=_FLOOR)
        for axis, other in ((0, 2), (2, 0)):
            for value in np.arange(np.ceil(low[axis] / step - 1e-6), np.floor(high[axis] / step + 1e-6) + 1) * step:
                ends = np.zeros((2, 3))
                ends[:, axis], ends[:, other] = value, (low[other], high[other])
                draw.line(self._pixels(ends - middle), fill=_GRID, width=_SUPERSAMPLE)
        return image

    def _draw_ground_marks(self, draw: ImageDraw.ImageDraw, frame: int, middle: Points) -> None:
        """The shadow below the body, and the trail of the root."""
        pixels, scale = self._camera.project(self._ground[frame] - middle)
        for joint, parent in enumerate(self.motion.skeleton.parents[1:], start=1):
            width = 0.035 * self._body * float(scale[joint])
            _capsule(draw, pixels[parent], pixels[joint], width, _SHADOW)
        if frame > 0:
            way = self._ground[: frame + 1, 0] - middle
            draw.line(self._pixels(way), fill=_TRAIL, width=round(1.2 * _SUPERSAMPLE), joint="curve")

    def _draw_body(self, draw: ImageDraw.ImageDraw, frame: int, middle: Points) -> None:
        """Bones from far to near, each with a light rim, so that an arm is visible in front of the chest."""
        points = self._positions[frame] - middle
        pixels, scale = self._camera.project(points)
        parents = self.motion.skeleton.parents
        bones = sorted(range(1, len(parents)), key=lambda joint: scale[joint] + scale[parents[joint]])
        for joint in bones:
            thickness = (0.036 if self._colours[joint] == TORSO else 0.029) * self._body
            width = max(thickness * float(scale[joint] + scale[parents[joint]]) / 2, 1.6 * _SUPERSAMPLE)
            start, end = pixels[parents[joint]], pixels[joint]
            rim = width + 2 * max(0.12 * width, 0.6 * _SUPERSAMPLE)
            # the rim has no round ends: those would cut into the neighbouring bones
            draw.line((*start, *end), fill=_PAPER, width=round(rim))
            _capsule(draw, start, end, width, self._colours[joint])
            if joint == self._head:
                above = head_centre(points[joint] - points[parents[joint]], self._body)
                centre, grown = self._camera.project(points[joint] + above)
                _ball(draw, centre, 0.06 * self._body * float(grown), _PAPER)
                _ball(draw, centre, 0.052 * self._body * float(grown), TORSO)
        if len(parents) == 1:
            _ball(draw, pixels[0], max(0.02 * self._body * float(scale[0]), 2.0 * _SUPERSAMPLE), TORSO)

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        pixels, _ = self._camera.project(points)
        return [(float(x), float(y)) for x, y in pixels]


def _ball(draw: ImageDraw.ImageDraw, centre: Points, radius: float, colour: str) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _capsule(draw: ImageDraw.ImageDraw, start: Points, end: Points, width: float, colour: str) -> None:
    """A thick line with round ends."""
    draw.line((*start, *end), fill=colour, width=max(round(width), 1))
    for point in (start, end):
        _ball(draw, point, width / 2, colour)


def tile(images: Sequence[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Images of one size in rows of ``columns``, on a white background."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), _PAPER)
    for index, image in enumerate(images):
        sheet.paste(image, ((index % columns) * (width + gap), (index // columns) * (height + gap)))
    return sheet
