"""Videos: what is in a file, and chosen frames of it, with PyAV and pytorchvideo's `EncodedVideo`.

A file is decoded from its start and only the chosen frames are kept, whatever its length; a window that is small
beside a long video is fetched by `EncodedVideo`, which seeks. Both give the same pixels.

Shapes: T frames, H height, W width; pixels are uint8 RGB, upright (a recorded rotation is applied).
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from einops import rearrange

from actprompt import frame_folder
from actprompt.containers import not_a_video
from actprompt.sampling import Sampling, sample_indices
from icube_common.errors import InputError

UNEVEN = 0.25
"""Frames are called uneven in time when an interval differs by more than this share from the mean one."""
WORTH_SEEKING = 256
"""Frames before a window from which on seeking beats decoding from the start."""
WINDOW_BYTES = 512 * 2**20
"""Largest window that is left to `EncodedVideo`, which holds all of its frames as float32."""


class VideoError(InputError):
    """A video cannot be used; the message names the file and the reason in one line."""


@dataclass(frozen=True)
class VideoInfo:
    """What decoding a whole file has shown.

    Attributes:
        times: (n_frames,) seconds from the first frame, ascending.
        fps: mean frames per second; the header's where there is but one frame.
        duration: seconds that the frames are shown, the last one as long as the mean.
        height: pixels, upright.
        width: pixels, upright.
        rotation: degrees, counter-clockwise, by which decoded frames are turned to stand upright: 0, 90, 180 or 270.
    """

    times: npt.NDArray[np.float64]
    fps: float
    duration: float
    height: int
    width: int
    rotation: int

    @property
    def n_frames(self) -> int:
        """Frames that decode."""
        return len(self.times)

    @property
    def variable_rate(self) -> bool:
        """Whether frames are unevenly spaced in time."""
        steps = np.diff(self.times)
        return bool(len(steps) and np.abs(steps * self.fps - 1).max() > UNEVEN)


@dataclass(frozen=True)
class VideoClip:
    """Frames of a video.

    Attributes:
        frames: (views, T, H, W, 3) uint8 RGB, upright.
        indices: (views, T) which frames of the file they are.
    """

    frames: npt.NDArray[np.uint8]
    indices: npt.NDArray[np.int64]


def probe(path: str | Path, *, frame_rate: float | None = None) -> VideoInfo:
    """Decode a file once, keeping no picture: how many frames there are, when, and whether it is whole.

    Args:
        path: the file, or a folder of frames.
        frame_rate: frames per second of a folder of frames, which has no rate of its own; a file keeps its own.

    Raises:
        VideoError: missing, empty, not a video, without a picture track, truncated, or damaged; a folder of frames
            without ``frame_rate``.
    """
    path = Path(path)
    # os.path: a name that is too long for the system is no folder, and no error
    if os.path.isdir(path):
        return _probe_folder(path, frame_rate)
    times: list[float | None] = []
    packets, rotation, size = 0, 0, (0, 0)
    with _opened(path) as (container, stream):
        start = None
        for packet in container.demux(stream):
            packets += packet.size > 0
            if packet.is_corrupt:
                raise VideoError(f"{path}: truncated: the data end inside frame {packets}")
            for frame in packet.decode():
                if not times:
                    rotation, size = int(frame.rotation) % 360, (frame.height, frame.width)
                    start = frame.time
                elif (frame.height, frame.width) != size:
                    raise VideoError(f"{path}: frame {len(times)} is {frame.width}x{frame.height}, others {size[::-1]}")
                times.append(frame.time - start if frame.time is not None and start is not None else None)
        if not times:
            raise VideoError(f"{path}: no frame of it can be decoded")
        if packets < stream.frames:
            raise VideoError(f"{path}: truncated: the header announces {stream.frames} frames, {packets} are there")
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        stated = _stated_seconds(container, stream)
    if rotation % 90:
        raise VideoError(f"{path}: turned by {rotation} degrees, only quarter turns are understood")
    seconds = _even_out(path, times, rate)
    fps = (len(seconds) - 1) / float(seconds[-1]) if len(seconds) > 1 else rate
    if not fps > 0:
        raise VideoError(f"{path}: one frame and no frame rate in the header: its duration is unknown")
    duration = len(seconds) / fps
    if stated is not None and duration < stated - max(1.0, 0.1 * stated):
        raise VideoError(f"{path}: truncated: the header announces {stated:.2f} s, {duration:.2f} s are there")
    height, width = size if rotation % 180 == 0 else size[::-1]
    return VideoInfo(seconds, fps, duration, height, width, rotation)


def read_clip(
    path: str | Path,
    sampling: Sampling,
    *,
    n_frames: int | None = None,
    variable_rate: bool = False,
    seed: int | None = None,
) -> VideoClip:
    """Sample a video and decode the chosen frames.

    Args:
        path: the file.
        sampling: how frames are chosen.
        n_frames: frames in the file, where known (the manifest's): saves one pass over it.
        variable_rate: the frames are uneven in time (the manifest's): samples are then taken evenly in time, each the
            frame shown at its moment, which needs their times and so a pass over the file.
        seed: what the mode "random" draws from.

    Raises:
        VideoError: as `probe`, or fewer frames decode than ``n_frames``.
    """
    info = probe(path) if n_frames is None or variable_rate else None
    count = info.n_frames if info else n_frames
    assert count is not None
    indices = sample_indices(count, sampling, seed=seed)
    if info is not None and info.variable_rate:
        indices = indices_at(info, indices)
    wanted, place = np.unique(indices, return_inverse=True)
    frames = read_frames(path, wanted.tolist())
    return VideoClip(frames[place.reshape(indices.shape)], indices)


def indices_at(info: VideoInfo, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices on an even time line as indices of the frames shown at those moments; any shape."""
    moments = indices / info.fps
    return np.searchsorted(info.times, moments + 1e-6, side="right") - 1


def read_frames(path: str | Path, indices: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The frames (T, H, W, 3) of ascending ``indices``; memory grows with T, never with the file.

    Raises:
        VideoError: the file cannot be read, or holds fewer frames.
    """
    path, wanted = Path(path), list(indices)
    assert wanted == sorted(set(wanted)) and wanted[0] >= 0
    if os.path.isdir(path):
        with _as_video_error():
            return frame_folder.read_frames(path, wanted)
    runs = _runs(wanted)
    with _opened(path) as (container, stream):
        step = _even_step(stream)
        longest = max(run[-1] - run[0] + 1 for run in runs)
        held = longest * stream.width * stream.height * 3 * 4
        if step is None or held > WINDOW_BYTES or (len(runs) == 1 and wanted[0] < WORTH_SEEKING):
            return _read_in_order(path, container, stream, wanted)
        first = next(container.decode(stream), None)
        if first is None:
            raise VideoError(f"{path}: no frame of it can be decoded")
        rotation = int(first.rotation) % 360
    return _read_windows(path, runs, step, rotation)


def decoder_key() -> dict[str, str]:
    """What decides a frame's pixels besides file and index: the decoders and their versions, for the key of a cache."""
    return {
        "decoder": "pyav",
        "av": av.__version__,
        "ffmpeg": str(av.ffmpeg_version_info),
        "pytorchvideo": importlib.metadata.version("pytorchvideo"),
        "pixels": "rgb24",
    }


@contextmanager
def _as_video_error() -> Iterator[None]:
    """Raise what is wrong with a folder of frames as a `VideoError`."""
    try:
        yield
    except InputError as error:
        raise VideoError(str(error)) from error


def _probe_folder(folder: Path, frame_rate: float | None) -> VideoInfo:
    """A folder of frames as `probe` describes a file."""
    if frame_rate is None:
        raise VideoError(f"{folder}: a folder of frames has no frame rate: give it with --frame-rate FPS")
    with _as_video_error():
        count, height, width = frame_folder.measure_frames(folder)
    return VideoInfo(np.arange(count) / frame_rate, frame_rate, count / frame_rate, height, width, 0)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its picture track; whatever PyAV finds wrong with the file becomes a `VideoError`."""
    if not os.path.isfile(path):
        raise VideoError(f"{path}: no such file")
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: empty (0 bytes)")
        # absolute: FFmpeg takes what stands before a colon of a relative path ("12:30.mp4") for a protocol
        with av.open(str(path.absolute())) as container:
            if reason := not_a_video(container.format.name):
                raise VideoError(f"{path}: not a video: {reason}")
            if not container.streams.video:
                held = "only sound" if container.streams.audio else "no picture track"
                raise VideoError(f"{path}: not a video: {held} in it")
            yield container, container.streams.video[0]
    except av.FFmpegError as error:
        raise VideoError(f"{path}: cannot be decoded: {error.strerror or error}") from error
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror or error}") from error


def _stated_seconds(container: Any, stream: Any) -> float | None:
    """The picture track's duration by the header; the container's only where no sound could be the longer one."""
    if tag := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", "")):  # Matroska, WebM
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and not container.streams.audio:
        return float(container.duration / av.time_base)
    return None


def _even_out(path: Path, times: Sequence[float | None], rate: float) -> npt.NDArray[np.float64]:
    """Times of the frames; evenly spaced by the header's rate where the container (raw streams) keeps none."""
    known = np.array([np.nan if time is None else time for time in times], dtype=np.float64)
    if np.isnan(known).any():
        if not rate > 0:
            raise VideoError(f"{path}: neither frame times nor a frame rate in it")
        return np.arange(len(times)) / rate
    if (np.diff(known) < 0).any():
        at = int(np.argmax(np.diff(known) < 0)) + 1
        raise VideoError(f"{path}: frame {at} comes at {known[at]:.3f} s, before the one before it")
    if len(known) > 1 and known[-1] == known[0]:
        raise VideoError(f"{path}: all {len(known)} frames come at the same time")
    return known


def _upright(picture: npt.NDArray[np.uint8], rotation: int) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(np.rot90(picture, rotation // 90)) if rotation else picture


def _read_in_order(path: Path, container: Any, stream: Any, wanted: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Decode from the start and keep what is wanted."""
    kept: list[npt.NDArray[np.uint8]] = []
    count = 0
    for frame in container.decode(stream):
        if count == wanted[len(kept)]:
            kept.append(_upright(frame.to_ndarray(format="rgb24"), int(frame.rotation) % 360))
            if len(kept) == len(wanted):
                return np.stack(kept)
        count += 1
    raise VideoError(f"{path}: frame {wanted[-1]} is wanted and {count} decode: prepare the set again")


def _runs(wanted: Sequence[int]) -> list[list[int]]:
    """Ascending indices, parted where so many frames lie between two that seeking is worth it."""
    runs = [[wanted[0]]]
    for index in wanted[1:]:
        if index - runs[-1][-1] > WORTH_SEEKING:
            runs.append([])
        runs[-1].append(index)
    return runs


def _even_step(stream: Any) -> Fraction | None:
    """Seconds per frame, where the header says enough to find a frame by its time (count, duration, exact rate)."""
    if not (stream.frames and stream.duration and stream.average_rate and stream.time_base):
        return None
    # were the rate rounded, the time of a late frame would be its neighbour's
    if Fraction(stream.frames) / stream.average_rate != stream.duration * stream.time_base:
        return None
    return Fraction(1) / stream.average_rate


def _read_windows(path: Path, runs: Sequence[Sequence[int]], step: Fraction, rotation: int) -> npt.NDArray[np.uint8]:
    """The wanted frames through pytorchvideo, which seeks to the key frame before each run."""
    from pytorchvideo.data.encoded_video import select_video_class

    kept = []
    with path.open("rb") as handle:
        video = select_video_class("pyav")(handle, path.name, decode_audio=False)
        try:
            for run in runs:
                span = run[-1] - run[0] + 1
                # half a frame early: times are rounded up to the stream's ticks
                start = (run[0] - Fraction(1, 2)) * step
                clip = video.get_clip(start, start + span * step)["video"]
                # it answers a damaged stretch with fewer frames, or none, and says nothing
                found = 0 if clip is None else clip.shape[1]
                if found != span:
                    raise VideoError(
                        f"{path}: frames {run[0]} to {run[-1]}: {found} of {span} decode: prepare the set again"
                    )
                chosen = clip[:, [index - run[0] for index in run]].numpy().astype(np.uint8)
                pictures = rearrange(chosen, "colour time height width -> time height width colour")
                kept += [_upright(picture, rotation) for picture in pictures]
        finally:
            video.close()
    return np.stack(kept)
