"""Times of frames, from the presentation times that a container gives, or does not give, in order of display."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]

# frames that a codec holds back for reordering, at most (H.264's and HEVC's decoded picture buffers)
_REORDERED = 16
# a gap in a stream of packets that may be joined: FFmpeg's own bound for a jump of the clock
_JUMP_SECONDS = 10.0


def frame_times(pts: Sequence[float | None], rate: float, *, joinable: bool = False) -> Times:
    """Seconds from the first frame, never descending.

    - No times (raw streams): evenly spaced by the rate.
    - Times of storage instead of display (AVI with B-frames, and what was copied from it): the same times, sorted.
    - A clock that starts again (joined files): continues one frame interval after the last frame before.
    - Single times missing: on the line between their neighbours.

    Args:
        pts: seconds of each frame in order of display, None where the container gives none.
        rate: frames per second by the header; 0 where unknown.
        joinable: MPEG streams of packets, whose clock may also jump ahead.

    Raises:
        ValueError: neither times nor a rate.
    """
    timestamps = np.array([np.nan if time is None else time for time in pts], dtype=np.float64)
    at = np.flatnonzero(~np.isnan(timestamps))
    values = timestamps[at]
    steps = np.diff(values)
    if len(steps[steps > 0]) == 0:
        if not rate > 0:
            raise ValueError("neither frame times nor a frame rate in it")
        return np.arange(len(pts)) / rate
    step = 1 / rate if rate > 0 else float(np.median(steps[steps > 0]))
    values = _one_clock(values, step, joinable)
    places = np.arange(len(pts), dtype=np.float64)
    times = np.interp(places, at, values)
    before, behind = places < at[0], places > at[-1]
    times[before] = values[0] - step * (at[0] - places[before])
    times[behind] = values[-1] + step * (places[behind] - at[-1])
    return times - times[0]


def _one_clock(values: Times, step: float, joinable: bool) -> Times:
    """Times of one clock, sorted, from those of several joined pieces."""
    pieces: list[list[float]] = [[]]
    latest, seen_times = -np.inf, set[float]()
    for value in values.tolist():
        back = latest - value
        # local disorder is reordering; a time far back, or one that was there before, is of another clock
        again = back > _REORDERED * step or (back > 0 and value in seen_times)
        if again or (joinable and -back > _JUMP_SECONDS and pieces[-1]):
            pieces.append([])
            latest, seen_times = -np.inf, set()
        pieces[-1].append(value)
        latest = max(latest, value)
        seen_times.add(value)
    joined: list[Times] = []
    for piece in pieces:
        times = np.sort(np.array(piece))
        joined.append(times if not joined else times - times[0] + joined[-1][-1] + step)
    return np.concatenate(joined)
