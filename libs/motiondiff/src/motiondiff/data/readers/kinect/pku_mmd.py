"""PKU-MMD 1 and 2 (Liu et al., arXiv:1703.07475): long Kinect v2 recordings, and labels with ranges of frames.

A skeleton file (``0002-L.txt``, in phase 2 ``A01N01-L.txt``; L, M, R are the cameras) has a row per frame, 30 a second:
``x y z`` of 25 joints of one person and of a second, zeros where there is none, in metres. A label file of the same
name, in another folder, has lines ``action, first frame, last frame, confidence``; actions count from 1 in the order of
``Actions.xlsx``. A reversed range is swapped, as the set's users do. Ranges that overlap within a
recording, or that are far longer than the others of their action, are rejected
(`motiondiff.data.readers.kinect.label_ranges`).

The files do not identify subjects. Where ``cross-subject.txt`` is there (names of training and of validation videos,
which share no person), its part is the subject, so that a split by subject is the published one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from icube_common.errors import InputError
from icube_common.io.csv import read_text
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, check_fps, find_files
from motiondiff.data.readers.kinect.label_ranges import LabelRange, check_ranges, median_lengths
from motiondiff.data.readers.kinect.tracks import Track, TrackBuilder, TrackClip, fit_clips, recording_clips

ACTIONS = (
    "bow", "brushing hair", "brushing teeth", "check time (from watch)", "cheer up", "clapping",
    "cross hands in front (say stop)", "drink water", "drop", "eat meal/snack", "falling",
    "giving something to other person", "hand waving", "handshaking", "hopping (one foot jumping)",
    "hugging other person", "jump up", "kicking other person", "kicking something", "make a phone call/answer phone",
    "pat on back of other person", "pickup", "playing with phone/tablet", "point finger at the other person",
    "pointing to something with finger", "punching/slapping other person", "pushing other person", "put on a hat/cap",
    "put something inside pocket", "reading", "rub two hands together", "salute", "sitting down", "standing up",
    "take off a hat/cap", "take off glasses", "take off jacket", "take out something from pocket", "taking a selfie",
    "tear up paper", "throw", "touch back (backache)", "touch chest (stomachache/heart pain)",
    "touch head (headache)", "touch neck (neckache)", "typing on a keyboard",
    "use a fan (with hand or paper)/feeling warm", "wear jacket", "wear on glasses", "wipe face", "writing",
)  # fmt: skip
"""Actions 1 to 51 of phase 1 as ``Actions.xlsx`` names them; phase 2 has 49 of them under the same numbers."""
TWO_PEOPLE = frozenset({12, 14, 16, 18, 21, 24, 26, 27})
"""Actions of two people."""
CROSS_SUBJECT = "cross-subject.txt"

_NAME = re.compile(r"(?P<recording>\d{4}|A\d+N\d+)-(?P<camera>[LMR])", re.IGNORECASE)
_NUMBERS_A_ROW = 150
_EXPECTED = "PKU-MMD recordings (0002-L.txt) and label files of the same names in another folder"


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per recording: ``cross-subject.txt`` if there, then skeleton and label file of each camera."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected {_EXPECTED}")
    files = [path for path in find_files(folder, ".txt", _EXPECTED) if _NAME.fullmatch(path.stem)]
    labels = {path.stem.upper(): path for path in files if _holds_labels(path)}
    parts = tuple(sorted(folder.rglob(CROSS_SUBJECT))[:1])
    units: dict[str, list[Path]] = {}
    for path in files:
        if path not in labels.values():
            pair = [path, labels[path.stem.upper()]] if path.stem.upper() in labels else [path]
            units.setdefault(path.stem.upper().split("-")[0], []).extend(pair)
    if not units or not labels:
        raise InputError(
            f"{folder}: {len(files)} files, no {'labels' if units else 'recordings'}; expected {_EXPECTED}"
        )
    return [ClipRef("pku-mmd", unit, (*parts, *paths)) for unit, paths in sorted(units.items())]


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """The clips of one recording by all of its cameras, ids ``0002-L.003`` by the line of the label file.

    Clips of one person share the bone lengths of the recording's performer.
    """
    check_fps(fps)
    parts: dict[str, str] = {}
    track_clips: list[TrackClip] = []
    results: list[Clip | Rejection] = []
    labels = {path.stem.upper(): path for path in ref.files if _NAME.fullmatch(path.stem) and _holds_labels(path)}
    for path in ref.files:
        if path.name == CROSS_SUBJECT:
            parts = read_parts(path)
            continue
        name = path.stem.upper()
        if path == labels.get(name):
            continue
        try:
            if name not in labels:
                raise InputError(f"{path}: no label file of this name")
            tracks = read_skeleton(path)
        except InputError as error:
            results.append(Rejection(path.stem, str(error)))
            continue
        ranges, reasons = _read_ranges(labels[name])
        for number, label in ranges.items():
            try:
                track_clips += _cut(name, number, label, tracks, parts.get(name), path)
            except InputError as error:
                reasons[number] = str(error)
        results += [Rejection(f"{name}.{number:03d}", reason) for number, reason in sorted(reasons.items())]
    return [*fit_clips(track_clips, fps), *results]


def _cut(
    name: str, number: int, label: LabelRange, tracks: list[Track], part: str | None, path: Path
) -> list[TrackClip]:
    action, first, last = ACTIONS.index(label.action) + 1, int(label.first), int(label.last)
    return recording_clips(
        [cut for track in tracks if len((cut := track.cut(first, last)).frames)],
        together=action in TWO_PEOPLE,
        clip_id=f"{name}.{number:03d}",
        action=ACTIONS[action - 1],
        subject=part,
        source=f"{path.name} frames {first}-{last}",
        camera=name,
    )


def _holds_labels(path: Path) -> bool:
    """True for a label file: its first line has commas, unlike rows of a skeleton file."""
    try:
        with path.open("rb") as handle:
            return b"," in handle.readline(4000)
    except OSError:
        return False


def _read_ranges(path: Path) -> tuple[dict[int, LabelRange], dict[int, str]]:
    """Valid ranges of a label file by line number, and the reasons for the rejection of others."""
    ranges, reasons = _parse_ranges(path)
    numbers = list(ranges)
    for index, reason in check_ranges(list(ranges.values()), _medians(path.parent)).items():
        del ranges[numbers[index]]
        reasons[numbers[index]] = f"{path}: line {numbers[index]}: {reason}"
    return ranges, reasons


def _parse_ranges(path: Path) -> tuple[dict[int, LabelRange], dict[int, str]]:
    ranges: dict[int, LabelRange] = {}
    reasons: dict[int, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            try:
                action, first, last = _read_label(line, path, number)
                ranges[number] = LabelRange(ACTIONS[action - 1], first, last)
            except InputError as error:
                reasons[number] = str(error)
    return ranges, reasons


@lru_cache(maxsize=1)
def _medians(folder: Path) -> dict[str, float]:
    """Median length of each action over the label files of a folder, cached in the process."""
    ranges: list[LabelRange] = []
    for path in sorted(folder.glob("*.txt")):
        if _NAME.fullmatch(path.stem) and _holds_labels(path):
            try:
                ranges += _parse_ranges(path)[0].values()
            except InputError:
                continue  # not text: an error when the recording is read
    return median_lengths(ranges)


def _read_label(line: str, path: Path, number: int) -> tuple[int, int, int]:
    """Action, first and last frame, both included."""
    fields = [field.strip() for field in line.strip().rstrip(",").split(",")]
    try:
        action, first, last = (int(field) for field in fields[:3])
    except ValueError as error:
        raise InputError(
            f"{path}: line {number}: 'action,first,last,confidence' expected, found {line[:40]!r}"
        ) from error
    if not 1 <= action <= len(ACTIONS):
        raise InputError(f"{path}: line {number}: action {action} is not from 1 to {len(ACTIONS)}")
    if min(first, last) < 0:
        raise InputError(f"{path}: line {number}: frames {first} to {last} are before the recording")
    return action, min(first, last), max(first, last)


def read_skeleton(path: Path) -> list[Track]:
    """Both bodies of a skeleton file, in the camera's frame; the first row is frame 0.

    Raises:
        InputError: a row that is not 150 plausible numbers; the line is named.
    """
    tracks = TrackBuilder()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{path}: line {number}"
        if len(words) != _NUMBERS_A_ROW:
            raise InputError(f"{where}: {len(words)} numbers, {_NUMBERS_A_ROW} expected (2 people, 25 joints, x y z)")
        try:
            values = [float(word) for word in words]
            tracks.add("first", number - 1, values[:75])
            tracks.add("second", number - 1, values[75:])
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error
    return tracks.tracks()


def read_parts(path: Path) -> dict[str, str]:
    """Recording (``0002-L``) -> "training subjects" or "validation subjects", from ``cross-subject.txt``.

    Raises:
        InputError: a name before any heading, or a name in both parts.
    """
    parts: dict[str, str] = {}
    part = ""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        for heading, name in (("training", "training subjects"), ("validation", "validation subjects")):
            if line.strip().lower().startswith(heading):
                part, line = name, line.partition(":")[2]
        for word in filter(None, re.split(r"[,\s]+", line)):
            if not part or not _NAME.fullmatch(word):
                raise InputError(
                    f"{path}: line {number}: {word!r} is not 'Training videos:' or the name of a recording"
                )
            if parts.setdefault(word.upper(), part) != part:
                raise InputError(f"{path}: line {number}: {word} is among the training and the validation videos")
    return parts
