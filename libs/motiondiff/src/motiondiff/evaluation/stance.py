"""Slip of feet in stance: the distance that a foot moves over the floor while it carries the body.

Speed of a low foot alone counts the swinging leg, which passes a few centimetres above the floor. Here a stance needs a
low foot and a slow one, with hysteresis, so that one noisy frame does not cut it in two. Shapes: T frames, J joints,
N clips. Floor along x and z, metres, seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from motiondiff.data.clips import ClipSet
from motiondiff.skeleton.skeleton import Skeleton

Array = npt.NDArray[np.float64]

STANDING_PERCENTILE = 10
"""Percentile of a foot's heights in a clip that is its standing height: heels, sensors and bodies differ."""
MARGIN = 0.05
"""m above the standing height below which a foot may stand."""
ENTER_SPEED, LEAVE_SPEED = 0.2, 0.3
"""m/s: a stance begins below the first horizontal speed and ends above the second; a swinging foot has 1 to 5."""
MIN_SECONDS = 0.1
"""A shorter stance is a turning point of a swing."""

FIGURES = ("slip", "slip_speed", "stance_share")
MEANING = {
    "slip": "m: largest distance of a foot from where its stance began; median over stances, mean over actions",
    "slip_speed": "m/s: the same divided by the stance's duration",
    "stance_share": "share of the time that a foot is in stance; median over motions, mean over actions",
}


@dataclass(frozen=True)
class Stance:
    """One stance of one foot.

    Attributes:
        foot: joint.
        start: first frame.
        stop: last frame, included.
        slip: metres: largest horizontal distance from the position in the first frame.
        seconds: duration.
    """

    foot: int
    start: int
    stop: int
    slip: float
    seconds: float


def feet_of(skeleton: Skeleton) -> list[int]:
    """Left and right foot by role, else the ankle; empty where no joint is one by name."""
    roles = skeleton.roles
    sides = ([roles.get(f"{side} foot", roles.get(f"{side} ankle"))] for side in ("left", "right"))
    return [joint for side in sides for joint in side if joint is not None]


def stances(positions: npt.ArrayLike, skeleton: Skeleton, fps: float) -> list[Stance]:
    """All stances of a clip, foot by foot.

    A step from frame to frame belongs to a stance while the foot is below its standing height plus `MARGIN` in both
    frames and slower than `LEAVE_SPEED`; the first step of a stance is slower than `ENTER_SPEED`.

    Slip is the largest displacement from the stance's first frame, not the path: a path adds up the noise of the
    sensor (1 cm in seven seconds of standing still on motion capture, several on Kinect), and the displacement from
    the first to the last frame alone would not see a foot that slides forth and back.

    Args:
        positions: (T, J, 3) metres, y up.
        skeleton: joints with roles.
        fps: frames per second.
    """
    points = np.asarray(positions, dtype=np.float64)
    result = []
    for foot in feet_of(skeleton):
        height, floor = points[:, foot, 1], points[:, foot][:, [0, 2]]
        low = height < np.percentile(height, STANDING_PERCENTILE) + MARGIN
        speed = np.linalg.norm(np.diff(floor, axis=0), axis=-1) * fps
        for start, stop in _runs(speed, low[1:] & low[:-1]):
            if stop - start >= MIN_SECONDS * fps - 1e-9:
                slip = np.linalg.norm(floor[start : stop + 1] - floor[start], axis=-1).max()
                result.append(Stance(foot, start, stop, float(slip), (stop - start) / fps))
    return result


def _runs(speed: Array, low: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, last frame) of each run of steps in stance, by speed with hysteresis."""
    runs, start = [], -1
    for step, (value, down) in enumerate(zip(speed, low, strict=True)):
        if start < 0 and down and value < ENTER_SPEED:
            start = step
        elif start >= 0 and not (down and value <= LEAVE_SPEED):
            runs.append((start, step))
            start = -1
    return runs if start < 0 else [*runs, (start, len(speed))]


def stance_metrics(clips: ClipSet) -> dict[str, float]:
    """Each figure of `action_slips`: mean over the actions that have it; NaN where none has.

    Every action weighs the same, so that sets with other shares of walking can be compared.
    """
    rows = list(action_slips(clips).values())
    result = {}
    for name in FIGURES:
        values = [row[name] for row in rows if math.isfinite(row[name])]
        result[name] = float(np.mean(values)) if values else math.nan
    return result


def action_slips(clips: ClipSet) -> dict[str, dict[str, float]]:
    """Action -> the figures of `MEANING` over all stances of its clips; NaN where a foot never stands.

    An action without clips is left out. All is NaN where no joint is a foot by name.
    """
    feet = len(feet_of(clips.skeleton))
    listed = [stances(positions, clips.skeleton, clips.fps) for positions in clips.positions]
    result = {}
    for label, name in enumerate(clips.class_names):
        rows = np.flatnonzero(clips.labels == label).tolist()
        if not rows:
            continue
        every = [stance for row in rows for stance in listed[row]]
        seconds = {row: (len(clips.positions[row]) - 1) / clips.fps for row in rows}
        shares = [
            sum(stance.seconds for stance in listed[row]) / (feet * seconds[row])
            for row in rows
            if feet and seconds[row] > 0
        ]
        result[name] = {
            "slip": _median([stance.slip for stance in every]),
            "slip_speed": _median([stance.slip / stance.seconds for stance in every]),
            "stance_share": _median(shares),
        }
    return result


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else math.nan
