"""Decoding in order: the video track of a file, its frames one after the other, and evidence of damage."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from actprompt.data.video.truncation import missing_table
from icube_common.errors import InputError

# FFmpeg's names of demuxers; a file whose name ends in .nfo or .asc is drawn as a terminal's screen by "tty"
_TEXT = ("tty", "bin", "xbin", "adf", "idf")
# these open other files or addresses, which are not the clip that was named
_PLAYLISTS = ("concat", "hls", "applehttp", "dash", "imf", "sdp", "rtsp", "lavfi")


def not_a_video(container: str) -> str | None:
    """The reason why a container is no video, or None where it may be one.

    Args:
        container: FFmpeg's name of the container, several separated by commas (``"mov,mp4,m4a,3gp,3g2,mj2"``).
    """
    names = container.split(",")
    if any(name.startswith("image2") or name.endswith("_pipe") for name in names):
        return "a still image"
    if any(name in _TEXT for name in names):
        return "text"
    if any(name in _PLAYLISTS for name in names):
        return "a playlist"
    return None


# streams of packets that may be joined: a jump of their counters marks a packet as corrupt, and every picture is there
JOINABLE = frozenset({"mpegts", "mpeg"})
# containers whose own sizes and tables tell whether data are missing at the end (see `actprompt.data.video.truncation`)
_SIZED = ("mov", "avi", "matroska")
# of the last frames that come out, the data of the last one in the file is among so many
_TAIL = 4
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails


class VideoError(InputError):
    """A video cannot be used; the message names the file and the reason in one line."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video track; errors of PyAV become a `VideoError`."""
    # os.path: a name that is too long for the system is no file, and no error
    if not os.path.isfile(path):
        raise VideoError(f"{path}: no such file")
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: empty (0 bytes)")
        with _open(path) as container:
            if other := not_a_video(container.format.name):
                raise VideoError(f"{path}: not a video: {other}")
            yield container, picture_track(path, container)
    except av.FFmpegError as error:
        reason = missing_table(path) or error.strerror or error
        raise VideoError(f"{path}: cannot be decoded: {reason}") from error
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror or error}") from error


def _open(path: Path) -> Any:
    # absolute: FFmpeg takes what stands before a colon of a relative path ("12:30.mp4") for a protocol
    name = str(path.absolute())
    try:
        return av.open(name)
    except UnicodeDecodeError:  # a title or comment in another encoding
        return av.open(name, metadata_errors="replace")


def picture_track(path: Path, container: Any) -> Any:
    """The video stream a player shows: no cover and no still; the default one, else the largest, else the first.

    Raises:
        VideoError: there is none, or none with a decoder.
    """
    tracks = [stream for stream in container.streams.video if not stream.disposition & _PICTURES]
    decodable = [stream for stream in tracks if stream.codec_context is not None]
    if decodable:
        return max(decodable, key=_rank)
    if reason := missing_table(path):
        raise VideoError(f"{path}: cannot be decoded: {reason}")
    if tracks:
        raise VideoError(f"{path}: no decoder for its video track in FFmpeg {av.ffmpeg_version_info}")
    content = "only sound" if container.streams.audio else "no picture track"
    content = "only a cover image" if container.streams.video else content
    raise VideoError(f"{path}: not a video: {content} in it")


def _rank(stream: Any) -> tuple[bool, bool, int, int]:
    """The key by which the best of several video tracks is the largest."""
    seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
    if tag := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", "")):  # Matroska, WebM
        seconds = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    still = stream.frames == 1 or (seconds is not None and seconds * rate < 1.5)
    return not still, bool(stream.disposition & Disposition.default), stream.width * stream.height, -stream.index


def decoded(path: Path, container: Any, stream: Any, damage: list[str] | None = None) -> Iterator[Any]:
    """The frames of a track in order, as a player gets them.

    Frames before the first one that can be decoded (a recording that starts between two key frames) are left
    out, as players do.

    Args:
        path: the file, for messages.
        container: opened by `opened`, at its start.
        stream: of the container.
        damage: takes the reasons why the file is not whole, and decoding continues behind each; None: the first one is
            an error.

    Raises:
        VideoError: the file is not whole, and ``damage`` is None.
    """

    def report(reason: str) -> None:
        if damage is None:
            raise VideoError(f"{path}: {reason}; {count} frames decode")
        damage.append(reason)

    names = set(container.format.name.split(","))
    tail: deque[bool] = deque(maxlen=_TAIL)
    count, cut = 0, False
    for packet in _packets(container, stream, report):
        if packet.is_corrupt and not names & JOINABLE:
            report(f"truncated: the data end inside frame {count}")
        cut = packet.is_corrupt if packet.size else cut
        try:
            frames = _frames_of(packet, stream)
        except av.FFmpegError as error:
            if count:
                report(f"damaged: the data behind frame {count - 1} cannot be decoded ({error.strerror or error})")
            continue
        for frame in frames:
            tail.append(frame.is_corrupt)
            count += 1
            yield frame
    if (cut and names & JOINABLE) or (any(tail) and not names.intersection(_SIZED)):
        report(f"truncated: the data end inside one of the last {len(tail)} frames")


def _packets(container: Any, stream: Any, report: Any) -> Iterator[Any]:
    """The coded frames of a track, and an empty packet at the end, for what the decoder still holds."""
    try:
        for packet in container.demux(stream):
            # a dropped frame of a variable rate is an empty packet, which a decoder takes for the end
            if packet.size:
                yield packet
    except av.FFmpegError as error:
        report(f"truncated: the file cannot be read to its end ({error.strerror or error})")
    last = av.Packet()
    last.stream, last.time_base = stream, stream.time_base
    yield last


def _frames_of(packet: Any, stream: Any) -> list[Any]:
    """The frames that a decoder gives on a packet."""
    try:
        return list(packet.decode())
    except av.BlockingIOError:
        # it still holds data that it could not decode, and takes no more
        stream.codec_context.flush_buffers()
        return list(packet.decode())
