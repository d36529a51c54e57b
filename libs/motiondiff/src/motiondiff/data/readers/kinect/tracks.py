"""Tracked bodies of Kinect v2 recordings: collection of frames, choice of performers, fitted clips.

Coordinates are those of the Kinect SDK 2: metres, right-handed, x to the sensor's left, y up, z away from it; left
and right are the subject's. A frame holds up to six tracked bodies, and some of those are furniture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange

from icube_common.data.file_names import FileNameGrammar
from icube_common.errors import InputError
from motiondiff.data.readers.base import Clip, Rejection, check_fps
from motiondiff.data.readers.kinect.positions import (
    Array,
    PositionClip,
    coordinate_error,
    fit_subject,
    level_and_resample,
    level_camera,
)
from motiondiff.skeleton.kinect import KINECT_V2, KINECT_V2_ORDER

KINECT_V2_FPS = 30.0
"""Frames per second of a Kinect v2."""
MAX_GAP = 0.5
"""Maximum gap of a track in seconds: shorter gaps are interpolated, longer ones reject the clip."""
MIN_PRESENCE = 0.5
"""Minimum length of a performer's track, relative to the longest track."""


@dataclass(frozen=True, eq=False)
class Track:
    """One tracked body.

    Attributes:
        frames: (n,) numbers of the frames that show it, increasing.
        positions: (n, 25, 3) metres, camera's frame, joints in the files' order (`SENSOR_NAMES`).
    """

    frames: Array
    positions: Array

    def cut(self, first: int, last: int) -> Track:
        """The frames ``first`` to ``last``, both included."""
        inside = (self.frames >= first) & (self.frames <= last)
        return Track(self.frames[inside], self.positions[inside])


@dataclass(frozen=True, eq=False)
class TrackClip:
    """Track of one clip.

    Attributes:
        camera: identifier of the camera; clips of one camera are levelled together.
        labels: action, subject, source and style of the `Motion`.
        own_body: True for bone lengths of this clip alone (an unidentified partner), False for the subject's.
    """

    clip_id: str
    track: Track
    camera: str
    labels: Mapping[str, Any]
    own_body: bool = False


class TrackBuilder:
    """Builder of tracks from joints frame by frame, by the sensor's number of each body."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, Sequence[float]]] = {}

    def add(self, body: str, frame: int, values: Sequence[float]) -> None:
        """Add one frame of one body: 75 numbers; zeros throughout mean that nothing was tracked.

        Raises:
            InputError: values that are not finite or beyond the range of the sensor, or a body twice in one frame.
        """
        if problem := coordinate_error(values):
            raise InputError(problem)
        rows = self._rows.setdefault(body, {})
        if frame in rows:
            raise InputError(f"body {body} is twice in frame {frame}")
        if any(values):
            rows[frame] = values

    def tracks(self) -> list[Track]:
        """Tracks in order of their first frame."""
        out = []
        for rows in self._rows.values():
            frames = sorted(rows)
            if frames:
                values = np.asarray([rows[frame] for frame in frames], dtype=np.float64)
                out.append(Track(np.asarray(frames), rearrange(values, "t (joint xyz) -> t joint xyz", xyz=3)))
        return out


def select_performers(tracks: Iterable[Track], count: int) -> list[Track]:
    """The ``count`` performers: of the tracks that are long enough, those with the most movement.

    Furniture tracked as a body hardly moves, and tracks of passers-by are short. Movement is the variance of the joints
    over time, as in the published preparation of NTU and ETRI.
    """
    tracks = list(tracks)
    longest = max((len(track.frames) for track in tracks), default=0)
    there = [track for track in tracks if len(track.frames) >= MIN_PRESENCE * longest]
    return sorted(there, key=lambda track: -float(track.positions.var(axis=0).sum()))[:count]


def parse_file_name(grammar: FileNameGrammar, path: Path) -> dict[str, int]:
    """Numbers of a file's name.

    Raises:
        InputError: another name, or a number out of range.
    """
    try:
        return grammar.parse(path.stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def recording_clips(
    tracks: Iterable[Track], *, together: bool, clip_id: str, camera: str, source: str, **labels: Any
) -> list[TrackClip]:
    """Clips of one recording: the performer's, or two people's, the second with id ``<clip_id>.2``.

    Args:
        tracks: the bodies of the recording.
        together: an activity of two people, who then have separate bone lengths: no set identifies the partner.
        clip_id: id of the (first) clip.
        camera: see `TrackClip`, as for the labels.
        source: file name, for messages.
        labels: action, subject and style.

    Raises:
        InputError: no frame shows a body.
    """
    bodies = select_performers(tracks, 2 if together else 1)
    if not bodies:
        raise InputError(f"{source}: no frame shows a body")
    return [
        TrackClip(f"{clip_id}.{n}" if n > 1 else clip_id, track, camera, {"source": source, **labels}, together)
        for n, track in enumerate(bodies, start=1)
    ]


def check_gaps(track: Track, fps: float = KINECT_V2_FPS) -> None:
    """Raise InputError for a track of fewer than 2 frames or with a gap longer than `MAX_GAP`."""
    if len(track.frames) < 2:
        raise InputError(f"{len(track.frames)} frames hold the body, at least 2 needed")
    lost = np.diff(track.frames) - 1
    if lost.max() > MAX_GAP * fps:
        first = int(track.frames[int(np.argmax(lost))]) + 1
        raise InputError(f"frame {first}: {int(lost.max())} frames without the body, more than {MAX_GAP:g} s")


def read_samples(
    files: Iterable[Path],
    read: Callable[[Path], list[TrackClip]],
    fps: float | None,
    clip_id: Callable[[Path], str] = lambda path: path.stem,
) -> list[Clip | Rejection]:
    """Fitted clips of one unit of reading, and a rejection for each file with an error.

    Raises:
        InputError: ``fps`` is not positive.
    """
    check_fps(fps)
    clips: list[TrackClip] = []
    rejected: list[Rejection] = []
    for path in files:
        try:
            clips += read(path)
        except InputError as error:
            rejected.append(Rejection(clip_id(path), str(error)))
    return [*fit_clips(clips, fps), *rejected]


def fit_clips(tracks: Sequence[TrackClip], fps: float | None, own_fps: float = KINECT_V2_FPS) -> list[Clip | Rejection]:
    """Clips as motions: levelled by camera, floor at y = 0 clip by clip, resampled, on the subject's bones.

    Args:
        tracks: clips of one unit of reading.
        fps: frames per second; the set's own where None.
        own_fps: the set's.
    """
    results: list[Clip | Rejection] = []
    whole: list[TrackClip] = []
    for clip in tracks:
        try:
            check_gaps(clip.track, own_fps)
            whole.append(clip)
        except InputError as error:
            results.append(Rejection(clip.clip_id, f"{clip.labels['source']}: {error}"))
    by_camera: dict[str, list[Array]] = {}
    for clip in whole:
        by_camera.setdefault(clip.camera, []).append(clip.track.positions[:, KINECT_V2_ORDER])
    turns = {camera: level_camera(positions, KINECT_V2) for camera, positions in by_camera.items()}
    bodies: dict[str, list[PositionClip]] = {}
    for clip in whole:
        times, rate = (clip.track.frames - clip.track.frames[0]) / own_fps, fps or own_fps
        positions = clip.track.positions[:, KINECT_V2_ORDER]
        positions = level_and_resample(positions, times, turns[clip.camera], rate, KINECT_V2)
        bodies.setdefault(clip.clip_id if clip.own_body else "", []).append(
            PositionClip(clip.clip_id, positions, rate, clip.labels)
        )
    for body in bodies.values():
        results += fit_subject(body, KINECT_V2)
    return results
