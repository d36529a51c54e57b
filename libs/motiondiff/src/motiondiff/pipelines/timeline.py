"""Timelines: which actions follow each other, and for how long each lasts; nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icube_common.config import read_yaml
from icube_common.errors import InputError, unknown

MAX_SECONDS = 3600.0


@dataclass(frozen=True)
class TimelineEntry:
    """One entry.

    Attributes:
        action: what is done; None leaves it open.
        seconds: for how long.
        style: style, or None.
    """

    action: str | None
    seconds: float
    style: str | None = None


@dataclass(frozen=True)
class Timeline:
    """A composition.

    Attributes:
        parts: in order.
        transition: how long one part blends into the next, seconds.
    """

    parts: Sequence[TimelineEntry]
    transition: float = 0.6


def load_timeline(file: str | Path) -> Timeline:
    """Read a timeline.

    .. code-block:: yaml

        transition: 0.6        # seconds; may be left out
        timeline:
          - {action: walk, seconds: 3}
          - {action: bow, seconds: 2.5, style: old}

    Raises:
        InputError: no such file, no YAML, unknown keys, or values that cannot be.
    """
    values = read_yaml(file)
    for key in values:
        if key not in ("timeline", "transition"):
            raise InputError(f"{file}: {unknown('key', str(key), ('timeline', 'transition'))}")
    entries = values.get("timeline")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{file}: `timeline` must be a list of {{action: NAME, seconds: S}}, at least one")
    parts = [_part(entry, f"{file}: entry {number}") for number, entry in enumerate(entries, start=1)]
    transition = values.get("transition", Timeline.transition)
    if not _is_positive(transition) or transition > 5:
        raise InputError(f"{file}: transition: {transition!r} must be seconds, more than 0 and at most 5")
    if (total := sum(part.seconds for part in parts)) > MAX_SECONDS:
        raise InputError(f"{file}: {total:g} s in all, at most {MAX_SECONDS:g} are made")
    return Timeline(parts, float(transition))


def _part(entry: Any, where: str) -> TimelineEntry:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: {entry!r} is not {{action: NAME, seconds: S}}")
    for key in entry:
        if key not in ("action", "seconds", "style"):
            raise InputError(f"{where}: {unknown('key', str(key), ('action', 'seconds', 'style'))}")
    if not _is_positive(entry.get("seconds")):
        raise InputError(f"{where}: seconds: {entry.get('seconds')!r} must be a positive number")
    for key in ("action", "style"):
        if entry.get(key) is not None and not isinstance(entry[key], str):
            raise InputError(f"{where}: {key}: {entry[key]!r} must be a name")
    return TimelineEntry(entry.get("action"), float(entry["seconds"]), entry.get("style"))


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
