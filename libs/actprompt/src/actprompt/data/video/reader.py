"""Looking into a video and reading chosen frames of it; memory grows with the frames wanted, never with the file.

Shapes: T frames, H height, W width; pixels are uint8 RGB as shown: upright, and square.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from actprompt.data.frame_sampling import Sampling, sample_indices
from actprompt.data.video import frame_folder
from actprompt.data.video.decoding import JOINABLE, VideoError, decoded, opened
from actprompt.data.video.display import Display
from actprompt.data.video.seeking import packet_index, seek_frames
from actprompt.data.video.times import frame_times
from actprompt.data.video.truncation import missing_data
from icube_common.errors import InputError

UNEVEN = 0.25
"""Frames are called uneven in time when an interval differs by more than this share from the mean one."""
WORTH_SEEKING = 256
"""Number of a frame from which on seeking is tried: before, decoding in order is as fast."""
READER = "2"
"""Version of the frame numbering; part of a cache's key."""


@dataclass(frozen=True)
class VideoInfo:
    """Result of decoding a whole file.

    Attributes:
        times: (n_frames,) seconds from the first frame, never descending; sorted, joined or evenly spaced where the
            container's are not (see `actprompt.data.video.times`).
        fps: mean frames per second; the header's where there is but one frame.
        duration: seconds that the frames are shown, the last one as long as the mean.
        height: pixels, as shown.
        width: pixels, as shown.
        rotation: degrees, counter-clockwise, by which decoded frames are turned to stand upright: 0, 90, 180 or 270.
        mirrored: whether left and right are exchanged before that turn.
        damage: the reason why the file is not whole; "" where it is.
    """

    times: npt.NDArray[np.float64]
    fps: float
    duration: float
    height: int
    width: int
    rotation: int
    mirrored: bool = False
    damage: str = ""

    @property
    def n_frames(self) -> int:
        """Frames that decode."""
        return len(self.times)

    @property
    def variable_rate(self) -> bool:
        """True where frames are unevenly spaced in time."""
        steps = np.diff(self.times)
        return bool(len(steps) and np.abs(steps * self.fps - 1).max() > UNEVEN)

    def part(self, first: int, last: int) -> VideoInfo:
        """Frames ``first`` to ``last - 1`` as a video of their own."""
        times = self.times[first:last] - self.times[first]
        fps = (len(times) - 1) / float(times[-1]) if len(times) > 1 and times[-1] > 0 else self.fps
        return replace(self, times=times, fps=fps, duration=len(times) / fps)

    def measured(self) -> dict[str, Any]:
        """The columns of a manifest that decoding measures."""
        return {key: getattr(self, key) for key in ("n_frames", "fps", "duration", "variable_rate", "damage")}


@dataclass(frozen=True)
class VideoClip:
    """Frames of a video.

    Attributes:
        frames: (views, T, H, W, 3) uint8 RGB, as shown.
        indices: (views, T) which frames of the file they are.
    """

    frames: npt.NDArray[np.uint8]
    indices: npt.NDArray[np.int64]


def probe(path: str | Path, *, frame_rate: float | None = None, keep_damaged: bool = False) -> VideoInfo:
    """Decode a file once without keeping frames: their number and times, and damage of the file.

    Args:
        path: the file, or a folder of frames.
        frame_rate: frames per second of a folder of frames, which has no rate of its own; a file keeps its own.
        keep_damaged: a file that is truncated or damaged is no error where at least one frame decodes.

    Raises:
        VideoError: missing, empty, not a video, without a video track, truncated, or damaged; a folder of frames
            without ``frame_rate``.
    """
    path = Path(path)
    # os.path: a name that is too long for the system is no folder, and no error
    if os.path.isdir(path):
        return _probe_folder(path, frame_rate)
    times: list[float | None] = []
    damage: list[str] = []
    display = None
    with opened(path) as (container, stream):
        for frame in decoded(path, container, stream, damage):
            display = display or _display(path, frame, stream)
            times.append(frame.time)
        if display is None:
            raise VideoError(f"{path}: no frame of it can be decoded" + (f" ({damage[0]})" if damage else ""))
        missing = missing_data(path, container, stream)
        if missing:
            damage.insert(0, f"truncated: {missing}")
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        joinable = not JOINABLE.isdisjoint(container.format.name.split(","))
    reason = f"{damage[0]}; {len(times)} frames decode" if damage else ""
    if reason and not keep_damaged:
        raise VideoError(f"{path}: {reason}; to use them, prepare or predict with --keep-damaged")
    try:
        seconds = frame_times(times, rate, joinable=joinable)
    except ValueError as error:
        raise VideoError(f"{path}: {error}") from error
    fps = (len(seconds) - 1) / float(seconds[-1]) if len(seconds) > 1 else rate
    if not fps > 0:
        raise VideoError(f"{path}: one frame and no frame rate in the header: its duration is unknown")
    height, width = display.shape
    return VideoInfo(seconds, fps, len(seconds) / fps, height, width, display.rotation, display.mirrored, reason)


def read_clip(
    path: str | Path,
    sampling: Sampling,
    *,
    n_frames: int | None = None,
    variable_rate: bool = False,
    seed: int | None = None,
    keep_damaged: bool = False,
) -> VideoClip:
    """Sample a video and decode the chosen frames.

    Args:
        path: the file.
        sampling: how frames are chosen.
        n_frames: frames in the file, where known (the manifest's): saves one pass over it.
        variable_rate: the frames are uneven in time (the manifest's): samples are then taken evenly in time, each the
            frame shown at its moment, which needs their times and so a pass over the file.
        seed: what the mode "random" draws from.
        keep_damaged: a truncated or damaged file is no error.

    Raises:
        VideoError: as `probe`, or fewer frames decode than ``n_frames``.
    """
    info = probe(path, keep_damaged=keep_damaged) if n_frames is None or variable_rate else None
    count = info.n_frames if info else n_frames
    assert count is not None
    indices = sample_indices(count, sampling, seed=seed)
    if info is not None and info.variable_rate:
        indices = indices_at(info, indices)
    unique, place = np.unique(indices, return_inverse=True)
    frames = read_frames(path, unique.tolist(), n_frames=count, keep_damaged=keep_damaged)
    return VideoClip(frames[place.reshape(indices.shape)], indices)


def indices_at(info: VideoInfo, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices on an even time line as indices of the frames shown at those moments; any shape."""
    moments = indices / info.fps
    return np.searchsorted(info.times, moments + 1e-6, side="right") - 1


def read_frames(
    path: str | Path, indices: Sequence[int], *, n_frames: int | None = None, keep_damaged: bool = False
) -> npt.NDArray[np.uint8]:
    """The frames (T, H, W, 3) of ascending ``indices``; memory grows with T, never with the file.

    Args:
        path: the file.
        indices: which frames.
        n_frames: frames in the file, where known: late ones are then sought, where that provably gives the same.
        keep_damaged: a truncated or damaged file is no error.

    Raises:
        VideoError: the file cannot be read, is found damaged on the way (unless ``keep_damaged``), or holds fewer
            frames.
    """
    path, frames = Path(path), list(indices)
    assert frames == sorted(set(frames)) and frames[0] >= 0
    if os.path.isdir(path):
        with _as_video_error():
            return frame_folder.read_frames(path, frames)
    if n_frames is not None and frames[-1] >= WORTH_SEEKING:
        images = _read_by_seeking(path, frames, n_frames)
        if images is not None:
            return images
    images_in_order: list[npt.NDArray[np.uint8]] = []
    count = 0
    for count, picture in enumerate(_pictures(path, keep_damaged=keep_damaged), start=1):
        if count - 1 == frames[len(images_in_order)]:
            images_in_order.append(picture())
            if len(images_in_order) == len(frames):
                return np.stack(images_in_order)
    raise VideoError(f"{path}: frame {frames[-1]} is wanted and {count} decode: prepare the set again")


def iterate_frames(path: str | Path, *, keep_damaged: bool = False) -> Iterator[npt.NDArray[np.uint8]]:
    """Each frame (H, W, 3) of a file or folder of frames in order, one in memory at a time.

    Raises:
        VideoError: as `read_frames`.
    """
    for picture in _pictures(Path(path), keep_damaged=keep_damaged):
        yield picture()


def iterate_clips(
    path: str | Path, clips: Sequence[npt.NDArray[np.int64]], *, keep_damaged: bool = False
) -> Iterator[VideoClip]:
    """Clips of one video in one pass; memory grows with the clips that overlap, never with the file.

    Args:
        path: the file, or a folder of frames.
        clips: indices (views, T) of the frames of each clip; no clip ends before the one before it.
        keep_damaged: a truncated or damaged file is no error.

    Raises:
        VideoError: as `read_frames`.
    """
    waiting = deque(clips)
    frames_by_index: dict[int, npt.NDArray[np.uint8]] = {}
    count = 0
    for count, picture in enumerate(_pictures(Path(path), keep_damaged=keep_damaged), start=1):
        if not waiting:
            return
        begun = itertools.takewhile(lambda indices: indices.min() < count, waiting)  # noqa: B023  # used at once
        if any(bool(np.any(indices == count - 1)) for indices in begun):
            frames_by_index[count - 1] = picture()
        while waiting and waiting[0].max() < count:
            indices = waiting.popleft()
            frames = np.stack([frames_by_index[index] for index in indices.ravel().tolist()])
            yield VideoClip(frames.reshape(*indices.shape, *frames.shape[1:]), indices)
            needed = min((int(clip.min()) for clip in waiting), default=count)
            frames_by_index = {index: frame for index, frame in frames_by_index.items() if index >= needed}
    if waiting:
        raise VideoError(f"{path}: frame {int(waiting[0].max())} is wanted and {count} decode: prepare the set again")


def _pictures(path: Path, *, keep_damaged: bool) -> Iterator[Callable[[], npt.NDArray[np.uint8]]]:
    """Functions that convert the decoded frames of a file or folder, in order, to pixels."""
    if os.path.isdir(path):
        with _as_video_error():
            count = len(frame_folder.list_frames(path))
        for index in range(count):
            yield partial(_frame_of_folder, path, index)
        return
    display = None
    with opened(path) as (container, stream):
        for frame in decoded(path, container, stream, [] if keep_damaged else None):
            display = display or _display(path, frame, stream)
            yield partial(display.picture, frame)


def _frame_of_folder(folder: Path, index: int) -> npt.NDArray[np.uint8]:
    return read_frames(folder, [index])[0]


def decoder_key() -> dict[str, str]:
    """Conditions of a frame's pixels besides file and index: the decoder and its version, for the key of a cache."""
    return {
        "decoder": "pyav",
        "av": av.__version__,
        "ffmpeg": str(av.ffmpeg_version_info),
        "pytorchvideo": importlib.metadata.version("pytorchvideo"),
        "pixels": "rgb24",
        "reader": READER,
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


def _display(path: Path, frame: Any, stream: Any) -> Display:
    try:
        return Display.of(frame, stream)
    except ValueError as error:
        raise VideoError(f"{path}: {error}") from error


def _read_by_seeking(path: Path, frames: Sequence[int], n_frames: int) -> npt.NDArray[np.uint8] | None:
    """The frames as decoding in order gives them; None where seeking cannot promise that."""
    with opened(path) as (container, stream):
        index = packet_index(container, stream, n_frames)
    if index is None:
        return None
    with opened(path) as (container, stream):
        first = next(decoded(path, container, stream, []), None)
        if first is None:
            return None
        display = _display(path, first, stream)
        try:
            return np.stack([display.picture(frame) for frame in seek_frames(container, stream, index, frames)])
        except LookupError:
            return None
