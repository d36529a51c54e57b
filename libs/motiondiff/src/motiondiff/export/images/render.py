"""Rendered motions: animated GIF, MP4, and contact sheets for pages and reports."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
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
_NO_DITHER = Image.Dither.NONE


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
    starts = [round(100 * frame / motion.fps) for frame in frames] + [round(100 * motion.seconds)]
    # the last frame of an uneven stride may be short: no frame goes below what viewers play
    durations = [10 * max(stop - start, 2) for start, stop in itertools.pairwise(starts)]
    samples = sorted({0, len(frames) // 2, len(frames) - 1})
    palette = _palette([scene.draw(frames[index], progress=True) for index in samples])
    pictures = (scene.draw(frame, progress=True).quantize(palette=palette, dither=_NO_DITHER) for frame in frames)
    with output_file(path) as temporary:
        next(pictures).save(
            temporary, format="GIF", save_all=True, append_images=pictures, duration=durations, loop=0, disposal=1
        )
    return Path(path)


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
    if not motions:
        raise InputError("no motions to draw")
    texts = [motion.action or " ".join(motion.texts[:1]) for motion in motions] if captions is None else captions
    if len(texts) != len(motions):
        raise InputError(f"{len(texts)} captions for {len(motions)} motions: give one for each")
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


def _scene(motion: Motion, size: tuple[int, int], caption: str | None, *, follow: bool = False) -> Scene:
    if min(size) < 32:
        raise InputError(f"size {size[0]}x{size[1]}: an image needs at least 32x32 pixels")
    return Scene(motion, size, caption=(motion.action or "") if caption is None else caption, follow=follow)


def _palette(samples: Sequence[Image.Image]) -> Image.Image:
    """128 colours of the samples, among them the exact colours of the drawing: the background must be white."""
    palette = tile(samples, columns=1).quantize(128, dither=_NO_DITHER)
    colours = rearrange(np.array(palette.getpalette()), "(colour channel) -> colour channel", channel=3)
    for colour in PALETTE:
        distance = np.abs(colours - colour).max(axis=-1)
        # all near ones: Pillow looks colours up in steps of four, and an almost-white beside white would win
        colours[distance <= max(6, distance.min())] = colour
    palette.putpalette(colours.flatten().tolist())
    return palette
