"""Rendered motions: animated GIF, MP4, and contact sheets for pages and reports."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image

from icube_common.errors import InputError
from motiondiff.export.images.drawing import PALETTE, Scene, tile, write_text
from motiondiff.export.output import output_file
from motiondiff.skeleton.motion import Motion

_GIF_FPS = 34.0  # viewers slow down GIFs with frames below 0.02 s; 0.03 s is safe and small


def write_gif(
    motion: Motion, path: str | Path, *, size: tuple[int, int] = (320, 320), caption: str | None = None
) -> Path:
    """Write an animated GIF in real time, in a loop.

    GIF has a time step of 0.01 s: frame times are rounded, and their sum is exact to one step. Above 34 fps every
    second, third ... frame is drawn.

    Args:
        motion: the clip, y-up, floor at y = 0.
        path: the file to write, and the result; replaced where it exists.
        size: (width, height) pixels.
        caption: text in the corner; by default the motion's action, ``""`` for none.

    Raises:
        InputError: a size below 32 pixels, or a file that cannot be written.
    """
    scene = _scene(motion, size, caption)
    stride = math.ceil(motion.fps / _GIF_FPS)
    frames = range(0, len(motion), stride)

    def picture(index: int) -> Image.Image:
        return scene.draw(frames[index], progress=True)

    return _save_gif(path, len(frames), motion.fps / stride, motion.seconds, picture)


def write_mp4(
    motion: Motion, path: str | Path, *, size: tuple[int, int] = (480, 480), caption: str | None = None
) -> Path:
    """Write an MP4 in real time: H.264 where PyAV's ffmpeg has libx264, else MPEG-4 part 2; yuv420p, which all play.

    Args:
        motion: the clip, y-up, floor at y = 0.
        path: the file to write, and the result; replaced where it exists.
        size: (width, height) pixels; odd numbers are increased by one, since the pixel format requires even ones.
        caption: text in the corner; by default the motion's action, ``""`` for none.

    Raises:
        InputError: a size below 32 pixels, or a file that cannot be written.
    """
    import av

    scene = _scene(motion, (size[0] + size[0] % 2, size[1] + size[1] % 2), caption)
    h264 = "libx264" in av.codecs_available
    with (
        output_file(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        rate = Fraction(motion.fps).limit_denominator(1001)
        stream = container.add_stream(
            "libx264" if h264 else "mpeg4", rate=rate, options={"crf": "20"} if h264 else {"qscale": "3"}
        )
        stream.width, stream.height = scene.size
        stream.pix_fmt = "yuv420p"
        for frame in range(len(motion)):
            picture = av.VideoFrame.from_image(scene.draw(frame, progress=True))
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return Path(path)


def write_contact_sheet(
    motions: Sequence[Motion],
    captions: Sequence[str] | None,
    path: str | Path,
    *,
    frames: int = 8,
    cell: tuple[int, int] = (150, 180),
) -> Path:
    """Write a PNG with one row for each motion: frames spread evenly over its time, first and last included.

    The camera follows the root, so that all bodies have the same size; the floor's grid moves below.

    Args:
        motions: the clips, y-up, floor at y = 0.
        captions: a text above each row; by default the motions' actions.
        path: the file to write, and the result; replaced where it exists.
        frames: images in a row.
        cell: (width, height) pixels of one image.

    Raises:
        InputError: no motions, another number of captions than motions, fewer than one frame, a cell below 32 pixels,
            or a file that cannot be written.
    """
    texts = _captions(motions, captions)
    if frames < 1:
        raise InputError(f"frames {frames}: a contact sheet needs at least 1")
    letters = max(12, round(cell[1] / 11))
    rows = []
    for motion, text in zip(motions, texts, strict=True):
        scene = _scene(motion, cell, "", follow=True)
        chosen = np.linspace(0, len(motion) - 1, frames).round().astype(int)
        strip = tile([scene.draw(int(frame), note=f"{frame / motion.fps:.1f} s") for frame in chosen], frames)
        row = Image.new("RGB", (strip.width, strip.height + round(1.8 * letters)), "#ffffff")
        write_text(row, text, (round(0.5 * letters), round(0.4 * letters)), letters)
        row.paste(strip, (0, row.height - strip.height))
        rows.append(row)
    with output_file(path) as temporary:
        tile(rows, columns=1, gap=8).save(temporary, format="PNG", optimize=True)
    return Path(path)


def write_gif_grid(
    motions: Sequence[Motion],
    captions: Sequence[str] | None,
    path: str | Path,
    *,
    columns: int | None = None,
    cell: tuple[int, int] = (220, 220),
) -> Path:
    """Write several motions side by side into one animated GIF, in real time; a shorter one ends with its last pose.

    Args:
        motions: the clips, y-up, floor at y = 0; their fps may differ.
        captions: a text on each; by default the motions' actions.
        path: the file to write, and the result; replaced where it exists.
        columns: motions in a row; by default about as many as there are rows.
        cell: (width, height) pixels of one motion.

    Raises:
        InputError: no motions, another number of captions than motions, fewer than one column, a cell below 32
            pixels, or a file that cannot be written.
    """
    texts = _captions(motions, captions)
    wide = math.ceil(math.sqrt(len(motions))) if columns is None else columns
    if wide < 1:
        raise InputError(f"columns {columns}: a grid needs at least 1")
    scenes = [_scene(motion, cell, text) for motion, text in zip(motions, texts, strict=True)]
    fastest = max(motion.fps for motion in motions)
    fps = fastest / math.ceil(fastest / _GIF_FPS)
    seconds = max(motion.seconds for motion in motions)

    def picture(index: int) -> Image.Image:
        shown = (min(int(index / fps * motion.fps + 1e-6), len(motion) - 1) for motion in motions)
        cells = [scene.draw(frame, progress=True) for scene, frame in zip(scenes, shown, strict=True)]
        return tile(cells, min(wide, len(cells)))

    return _save_gif(path, max(1, math.ceil(seconds * fps - 1e-6)), fps, seconds, picture)


def _scene(motion: Motion, size: tuple[int, int], caption: str | None, *, follow: bool = False) -> Scene:
    if min(size) < 32:
        raise InputError(f"size {size[0]}x{size[1]}: an image needs at least 32x32 pixels")
    return Scene(motion, size, caption=(motion.action or "") if caption is None else caption, follow=follow)


def _captions(motions: Sequence[Motion], captions: Sequence[str] | None) -> Sequence[str]:
    if not motions:
        raise InputError("no motions to draw")
    defaults = (motion.action or " ".join(motion.texts[:1]) for motion in motions)
    texts = list(defaults) if captions is None else captions
    if len(texts) != len(motions):
        raise InputError(f"{len(texts)} captions for {len(motions)} motions: give one for each")
    return texts


def _save_gif(path: str | Path, count: int, fps: float, seconds: float, picture: Callable[[int], Image.Image]) -> Path:
    """Write ``count`` images, one every ``1 / fps`` s and the last until ``seconds``, with one palette."""
    starts = [round(100 * index / fps) for index in range(count)] + [round(100 * seconds)]
    # the last frame of an uneven stride may be short: no frame goes below what viewers play
    durations = [10 * max(stop - start, 2) for start, stop in itertools.pairwise(starts)]
    palette = _palette([picture(index) for index in sorted({0, count // 2, count - 1})])
    pictures = (picture(index).quantize(palette=palette, dither=Image.Dither.NONE) for index in range(count))
    with output_file(path) as temporary:
        next(pictures).save(
            temporary, format="GIF", save_all=True, append_images=pictures, duration=durations, loop=0, disposal=1
        )
    return Path(path)


def _palette(samples: Sequence[Image.Image]) -> Image.Image:
    """128 colours of the samples, among them the exact colours of the drawing: the background must be white."""
    palette = tile(samples, columns=1).quantize(128, dither=Image.Dither.NONE)
    colours = rearrange(np.array(palette.getpalette()), "(colour channel) -> colour channel", channel=3)
    for colour in PALETTE:
        distance = np.abs(colours - colour).max(axis=-1)
        # all near ones: Pillow looks colours up in steps of four, and an almost-white beside white would win
        colours[distance <= max(6, distance.min())] = colour
    palette.putpalette(colours.flatten().tolist())
    return palette
