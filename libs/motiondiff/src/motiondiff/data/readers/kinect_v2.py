"""What all Kinect v2 sets share: 25 joints, bodies that come and go, cameras to be levelled.

Coordinates are those of the Kinect SDK 2: metres, right-handed, x to the sensor's left, y up, z away from it; left
and right are the subject's. A frame holds up to six tracked bodies, and some of those are furniture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange

from icube_common.errors import InputError
from motiondiff.data.readers import kinect
from motiondiff.data.readers.base import Clip, Rejection

FPS = 30.0
"""Frames per second of a Kinect v2."""
SENSOR_NAMES = (
    "SpineBase", "SpineMid", "Neck", "Head",
    "ShoulderLeft", "ElbowLeft", "WristLeft", "HandLeft",
    "ShoulderRight", "ElbowRight", "WristRight", "HandRight",
    "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft",
    "HipRight", "KneeRight", "AnkleRight", "FootRight",
    "SpineShoulder", "HandTipLeft", "ThumbLeft", "HandTipRight", "ThumbRight",
)  # fmt: skip
"""The 25 joints of the Kinect SDK 2, in its order, which is the files' order."""
SENSOR_PARENTS = (-1, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 6, 11, 10)
"""The SDK's bone hierarchy: thumbs leave the wrists, finger tips the hands."""
ORDER = (0, 1, 20, *range(2, 20), 21, 22, 23, 24)
"""Rows of the files in the order of `KINECT_V2`: `SpineShoulder` stands before the neck that leaves it."""
KINECT_V2 = kinect.Joints(
    tuple(SENSOR_NAMES[row] for row in ORDER),
    tuple(-1 if SENSOR_PARENTS[row] < 0 else ORDER.index(SENSOR_PARENTS[row]) for row in ORDER),
    "SpineShoulder",
)
LONGEST_GAP = 0.5
"""Seconds without the body that are interpolated; with more the clip is rejected."""
THERE_ENOUGH = 0.5
"""A body tracked for less than this share of the frames of the longest tracked one is not the performer."""


@dataclass(frozen=True, eq=False)
class Track:
    """One tracked body.

    Attributes:
        frames: (n,) numbers of the frames that show it, increasing.
        positions: (n, 25, 3) metres, camera's frame, joints in the files' order (`SENSOR_NAMES`).
    """

    frames: kinect.Array
    positions: kinect.Array

    def cut(self, first: int, last: int) -> Track:
        """The frames ``first`` to ``last``, both included."""
        inside = (self.frames >= first) & (self.frames <= last)
        return Track(self.frames[inside], self.positions[inside])


@dataclass(frozen=True, eq=False)
class Found:
    """One clip to be fitted.

    Attributes:
        camera: which camera saw it; clips of one camera are levelled together.
        own_body: True where the body's bones are this clip's alone (a partner nobody names), False where they are the
            subject's.
    """

    clip_id: str
    track: Track
    action: str
    subject: str | None
    source: str
    camera: str
    own_body: bool = False


class Tracks:
    """Collects joints frame by frame into tracks, by the sensor's number of each body."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, Sequence[float]]] = {}

    def add(self, body: str, frame: int, values: Sequence[float]) -> None:
        """One frame of one body: 75 numbers. Zeros throughout say that nothing was tracked, and are left out.

        Raises:
            InputError: values that are not finite or far beyond what the sensor sees, or a body twice in one frame.
        """
        if problem := kinect.implausible(values):
            raise InputError(problem)
        rows = self._rows.setdefault(body, {})
        if frame in rows:
            raise InputError(f"body {body} is twice in frame {frame}")
        if any(values):
            rows[frame] = values

    def tracks(self) -> list[Track]:
        """The bodies that were seen, in the order in which they came."""
        out = []
        for rows in self._rows.values():
            frames = sorted(rows)
            if frames:
                values = np.asarray([rows[frame] for frame in frames], dtype=np.float64)
                out.append(Track(np.asarray(frames), rearrange(values, "t (joint xyz) -> t joint xyz", xyz=3)))
        return out


def performers(tracks: Iterable[Track], count: int) -> list[Track]:
    """The ``count`` bodies that act: of those tracked long enough, the ones whose joints move most.

    Furniture that the sensor takes for a body hardly moves, and passers-by are soon gone. Movement is the variance of
    the joints over time, as NTU's and ETRI's published preparation measures it.
    """
    tracks = list(tracks)
    longest = max((len(track.frames) for track in tracks), default=0)
    there = [track for track in tracks if len(track.frames) >= THERE_ENOUGH * longest]
    return sorted(there, key=lambda track: -float(track.positions.var(axis=0).sum()))[:count]


def numbers_in(name: re.Match[str], limits: Mapping[str, tuple[int, int]], path: Path) -> dict[str, int]:
    """The numbers of a file's name, by group.

    Raises:
        InputError: one is outside its limits, which are included.
    """
    numbers = {key: int(value) for key, value in name.groupdict().items()}
    for key, (least, most) in limits.items():
        if not least <= numbers[key] <= most:
            raise InputError(f"{path}: {key} {numbers[key]} is not from {least} to {most}")
    return numbers


def found_in(
    tracks: Iterable[Track], *, together: bool, clip_id: str, action: str, subject: str | None, source: str, camera: str
) -> list[Found]:
    """The clips of one recording: the performer's, or two people's, the second under ``<clip_id>.2``.

    Args:
        tracks: the bodies of the recording.
        together: whether two people do it together; who the partner is no set says, so each then has bones of its own.
        clip_id: the clip's id, the first one's of two people.
        action: its label.
        subject: who acts.
        source: for people, in messages.
        camera: see `Found`.

    Raises:
        InputError: no frame shows a body.
    """
    bodies = performers(tracks, 2 if together else 1)
    if not bodies:
        raise InputError(f"{source}: no frame shows a body")
    return [
        Found(f"{clip_id}.{place}" if place > 1 else clip_id, track, action, subject, source, camera, together)
        for place, track in enumerate(bodies, start=1)
    ]


def check_gaps(track: Track, fps: float = FPS) -> None:
    """InputError unless a body is there for 2 frames and never lost for longer than `LONGEST_GAP`."""
    if len(track.frames) < 2:
        raise InputError(f"{len(track.frames)} frames hold the body, at least 2 needed")
    lost = np.diff(track.frames) - 1
    if lost.max() > LONGEST_GAP * fps:
        first = int(track.frames[int(np.argmax(lost))]) + 1
        raise InputError(f"frame {first}: {int(lost.max())} frames without the body, more than {LONGEST_GAP:g} s")


def fit(found: Sequence[Found], fps: float | None, own_fps: float = FPS) -> list[Clip | Rejection]:
    """Clips as motions: levelled by camera, floor at y = 0 clip by clip, resampled, on the subject's bones.

    Args:
        found: the clips of one unit of reading.
        fps: frames per second; the set's own where None.
        own_fps: the set's.
    """
    results: list[Clip | Rejection] = []
    whole: list[Found] = []
    for clip in found:
        try:
            check_gaps(clip.track, own_fps)
            whole.append(clip)
        except InputError as error:
            results.append(Rejection(clip.clip_id, f"{clip.source}: {error}"))
    seen: dict[str, list[kinect.Array]] = {}
    for clip in whole:
        seen.setdefault(clip.camera, []).append(clip.track.positions[:, ORDER])
    turns = {camera: kinect.level(positions, KINECT_V2) for camera, positions in seen.items()}
    bodies: dict[str, list[kinect.Recorded]] = {}
    for clip in whole:
        positions = clip.track.positions[:, ORDER] @ turns[clip.camera].T
        positions[..., 1] -= kinect.floor(positions, KINECT_V2)
        times = (clip.track.frames - clip.track.frames[0]) / own_fps
        rate = fps or own_fps
        positions = kinect.resample_positions(times, positions, rate)
        recorded = kinect.Recorded(clip.clip_id, positions, rate, clip.action, clip.subject, clip.source)
        bodies.setdefault(clip.clip_id if clip.own_body else "", []).append(recorded)
    for body in bodies.values():
        results += kinect.fit_subject(body, KINECT_V2)
    return results
