"""One file as several clips: under two paths, by a link, or as a copy.

A file that is two clips of other labels, subjects or parts of a split would be trained and tested on at once. The same
file is refused; copies (files of equal content) are recorded and, where they contradict each other, warned about:
published sets hold some.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from actprompt.datasets.base import Rejection
from actprompt.frame_folder import clip_digest, clip_status
from actprompt.manifest import GROUP_COLUMNS, Clip
from icube_common.errors import InputError


def contradiction(one: Clip, two: Clip) -> str | None:
    """The first thing that two clips of one file disagree on, in words; None where they agree."""
    if one.label != two.label:
        return f"as {one.label!r} and as {two.label!r}"
    for column in sorted({*one.splits, *two.splits}):
        parts = one.splits.get(column), two.splits.get(column)
        if parts[0] != parts[1]:
            return f"in {column} as {parts[0] or 'no part'} and as {parts[1] or 'no part'}"
    for column in GROUP_COLUMNS:
        values = getattr(one, column), getattr(two, column)
        if values[0] != values[1]:
            return f"of {column} {values[0]} and {values[1]}"
    return None


def merge_same_files(clips: Iterable[Clip], root: Path) -> tuple[list[Clip], list[Rejection]]:
    """Clips of different files; a further clip of the same file (by path, symbolic or hard link) is rejected.

    Raises:
        InputError: two clips of one file have other labels, subjects, cameras or parts of a split.
    """
    first: dict[tuple[int, int], Clip] = {}
    kept, rejected = [], []
    for clip in clips:
        try:
            status = os.stat(root / clip.path)
        except (OSError, ValueError):
            kept.append(clip)  # opening it says why it cannot be used
            continue
        other = first.setdefault((status.st_dev, status.st_ino), clip)
        if other is clip:
            kept.append(clip)
        elif problem := contradiction(other, clip):
            raise InputError(f"{root / clip.path}: the same file as {other.path}, listed {problem}: keep one of them")
        else:
            rejected.append(Rejection(clip.id, clip.path, f"the same file as {other.path}"))
    return kept, rejected


def find_copies(clips: Sequence[Clip], root: Path) -> list[list[Clip]]:
    """Groups of clips whose files have the same content; only files of equal size are read.

    Raises:
        InputError: a file cannot be read.
    """
    by_size: dict[int, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_size[clip_status(root / clip.path)[0]].append(clip)
    by_content: dict[str, list[Clip]] = defaultdict(list)
    for alike in by_size.values():
        if len(alike) > 1:
            for clip in alike:
                by_content[clip_digest(root / clip.path)].append(clip)
    return [group for group in by_content.values() if len(group) > 1]


def describe_copies(copies: Sequence[Sequence[Clip]]) -> list[str]:
    """Warnings about copies: how many there are, and the first that contradict each other."""
    if not copies:
        return []
    pairs = [(group[0], other, contradiction(group[0], other)) for group in copies for other in group[1:]]
    warnings = [f"copies (files of the same content as another clip's): {len(pairs)}, such as {pairs[0][1].path}"]
    bad = [(one, two, problem) for one, two, problem in pairs if problem]
    if bad:
        one, two, problem = bad[0]
        warnings.append(f"copies that contradict each other: {len(bad)}, such as {one.path} and {two.path}, {problem}")
    return warnings
