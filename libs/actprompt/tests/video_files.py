"""Videos whose frames are known by content: each frame shows its own number in stripes, as bits."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

SIZE = (96, 64)
BITS = 10

# name -> encoder and its options; all but vp9 and mjpeg with B-frames
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"bf": "3", "g": "40"}),
    "hevc": ("libx265", {"x265-params": "bframes=3:keyint=40:log-level=none:pools=1"}),
    "mpeg4": ("mpeg4", {"bf": "2", "g": "40"}),
    "mpeg2": ("mpeg2video", {"bf": "2", "g": "40"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "40"}),
    "mjpeg": ("mjpeg", {}),
}
# what FFmpeg's muxers write and its demuxers read back
PAIRS = [
    *(("avi", codec) for codec in ("h264", "mpeg4", "mpeg2", "vp9", "mjpeg")),
    *(("mp4", codec) for codec in CODECS),
    *(("mkv", codec) for codec in CODECS),
    *(("mov", codec) for codec in ("h264", "hevc", "mpeg4", "mpeg2", "mjpeg")),
    ("webm", "vp9"),
    *(("ts", codec) for codec in ("h264", "hevc", "mpeg4", "mpeg2")),
]


def picture(number: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    """(H, W, 3): the bits of a number as stripes from left to right, the lowest first."""
    width, height = size
    pixels = np.full((height, width, 3), 20, dtype=np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            pixels[:, bit * width // BITS : (bit + 1) * width // BITS] = 235
    return pixels


def numbers(frames: Iterable[npt.NDArray[np.uint8]]) -> list[int]:
    """The numbers that frames show, after lossy coding and at any size."""
    found = []
    for frame in frames:
        height, width = frame.shape[:2]
        edges = [bit * width // BITS for bit in range(BITS + 1)]
        rows = frame[height // 4 : height - height // 4]
        means = [rows[:, left + 1 : right - 1].mean() for left, right in pairwise(edges)]
        found.append(sum(1 << bit for bit, mean in enumerate(means) if mean > 128))
    return found


def write_video(
    path: Path,
    codec: str = "h264",
    shown: Sequence[int] = range(300),
    *,
    fps: int = 25,
    pts: Sequence[int] | None = None,
    size: tuple[int, int] = SIZE,
    pix_fmt: str | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    **encoder: Any,
) -> Path:
    """A video of `picture`s.

    Args:
        path: the file; its suffix decides the container.
        codec: a key of `CODECS`.
        shown: the number of each frame.
        fps: frames per second.
        pts: the time of each frame in 1 / fps s, instead of 0, 1, 2, ...
        size: width and height.
        pix_fmt: of the encoder.
        options: of the encoder, beside those of `CODECS`.
        container_options: of the muxer.
        matrix: display matrix, nine numbers as FFmpeg has them.
        aspect: width / height of a pixel.
        encoder: attributes of the encoder's context.
    """
    name, preset = CODECS[codec]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", container_options=dict(container_options or {})) as container:
        stream: Any = container.add_stream(name, rate=fps, options={**preset, **(options or {})})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        stream.bit_rate = 2_000_000
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.set_display_matrix(list(matrix))
        for key, value in encoder.items():
            setattr(stream.codec_context, key, value)
        for at, number in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            frame.pts, frame.time_base = (pts[at] if pts is not None else at), Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source: Path, path: Path, *, skip: Iterable[int] = (), options: Mapping[str, str] | None = None) -> Path:
    """A copy of the coded frames into another file, without those packets of ``skip``."""
    skipped = set(skip)
    with av.open(str(source)) as read, av.open(str(path), "w", container_options=dict(options or {})) as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(read.demux(read.streams.video[0])):
            if packet.size and number not in skipped:
                packet.stream = stream
                write.mux(packet)
    return path


def cut(path: Path, size: int | float) -> Path:
    """The file cut to so many bytes, or to a share of what it had."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * size) if isinstance(size, float) else size])
    return path


def patch(path: Path, old: bytes, new: bytes, *, behind: bytes = b"") -> Path:
    """The file with the first ``old`` behind a mark replaced."""
    assert len(old) == len(new)
    data = path.read_bytes()
    at = data.index(old, data.index(behind))
    path.write_bytes(data[:at] + new + data[at + len(old) :])
    return path


def big_endian(*values: int) -> bytes:
    """Numbers of 32 bits as MP4 keeps them."""
    return struct.pack(f">{len(values)}i", *values)
