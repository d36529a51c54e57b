"""Checks of label ranges that cut a recording into clips: overlaps and implausible lengths are rejected.

Two ranges of one recording overlap where they share more than an end. A range is too long beyond `MAX_LENGTH_RATIO`
times the median of its action over the whole set (of actions with `MIN_RANGES` ranges or more), usually by a wrong
digit. A range that is too long is rejected, and those inside it are valid; of two others that overlap both are
rejected, since neither can be preferred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

MAX_LENGTH_RATIO = 5.0
"""Maximum length relative to the median of the action."""
MIN_RANGES = 3
"""Minimum number of ranges of an action for a median: of two, a wrong one shifts it."""


@dataclass(frozen=True)
class LabelRange:
    """Frames ``first`` to ``last``, both included, of ``action``."""

    action: str
    first: float
    last: float

    @property
    def length(self) -> float:
        """Frames from the first to the last."""
        return self.last - self.first

    def __str__(self) -> str:
        return f"{self.action} {self.first:g} to {self.last:g}"


def median_lengths(ranges: Sequence[LabelRange]) -> dict[str, float]:
    """Median length of the ranges of each action with `MIN_RANGES` or more."""
    lengths: dict[str, list[float]] = {}
    for one in ranges:
        lengths.setdefault(one.action, []).append(one.length)
    return {action: median(values) for action, values in lengths.items() if len(values) >= MIN_RANGES}


def check_ranges(ranges: Sequence[LabelRange], medians: Mapping[str, float]) -> dict[int, str]:
    """Index -> reason, of the rejected ranges of one recording.

    Args:
        ranges: all of one recording.
        medians: from `median_lengths` over the whole set.
    """
    reasons: dict[int, str] = {}
    for index, one in enumerate(ranges):
        usual = medians.get(one.action, 0.0)
        if usual > 0 and one.length > MAX_LENGTH_RATIO * usual:
            reasons[index] = (
                f"{one} is {one.length / usual:.1f} times as long as {one.action} is in the median ({usual:g} frames), "
                f"at most {MAX_LENGTH_RATIO:g} times are accepted: a slip in the label file?"
            )
    sound = [index for index in range(len(ranges)) if index not in reasons]
    for index, other in combinations(sound, 2):
        one, two = ranges[index], ranges[other]
        if min(one.last, two.last) > max(one.first, two.first):
            reasons.setdefault(index, f"{one} overlaps {two} of the same recording: correct the label file")
            reasons.setdefault(other, f"{two} overlaps {one} of the same recording: correct the label file")
    return reasons
