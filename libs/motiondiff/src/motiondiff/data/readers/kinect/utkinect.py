"""UTKinect-Action3D (Xia, Chen, Aggarwal, CVPRW 2012): ten actions of ten people, twice each, by one Kinect v1.

``joints_sXX_eYY.txt`` holds rows ``id x1 y1 z1 ... x20 y20 z20`` in metres, ``actionLabel.txt`` under each recording
``walk: 252 390``: first and last id of each action. Ids count camera frames at 30 Hz, with gaps and duplicates, so time
is computed from them: duplicates are averaged, gaps up to `MAX_GAP` interpolated. Labels become words in lower case
(``sitDown``: "sit down"). Labels that overlap, or that are far longer than the others of their action, are rejected
(`motiondiff.data.readers.kinect.label_ranges`): of the set as published one, ``push: 2556 3622`` of s03_e01, a slip for
3556 that covers a throw. The camera looks down by 7 to 10 degrees; each recording is levelled
(`positions.level_camera`); the floor is put at y = 0 clip by clip, since the sensor puts the feet up to 10 cm higher in
some.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from einops import rearrange

from icube_common.errors import InputError
from icube_common.io.csv import read_text
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, check_fps, subject_references
from motiondiff.data.readers.kinect.label_ranges import LabelRange, check_ranges, median_lengths
from motiondiff.data.readers.kinect.positions import (
    Array,
    PositionClip,
    coordinate_error,
    fit_subject,
    floor_height,
    level_camera,
    resample_positions,
)

CAMERA_FPS = 30.0
DEFAULT_FPS = 15.0
"""Default frame rate: the finest step between ids is two camera frames."""
MAX_GAP = 1.0
"""Maximum gap between two rows of one action in seconds; longer ones reject the clip."""

_LABELS = "actionLabel.txt"
_EXPECTED = "UTKinect recordings (joints_sXX_eYY.txt) with actionLabel.txt beside or above them"
_NAME = re.compile(r"joints_(?P<recording>(?P<subject>s\d+)_e\d+)\.txt")


@dataclass(frozen=True)
class _Label:
    """One line of actionLabel.txt: ids ``first`` to ``last`` of ``action``; or its problem."""

    clip_id: str
    action: str
    first: float = np.nan
    last: float = np.nan
    problem: str = ""
    line: int = 0


@dataclass(frozen=True, eq=False)
class _Rows:
    """A recording: ids (T,) increasing, positions (T, 20, 3), and broken rows as (id before, id after, reason)."""

    ids: Array
    positions: Array
    broken: list[tuple[float, float, str]]


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per subject: actionLabel.txt, then the subject's recordings, with missing ones of the labels."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected {_EXPECTED}")
    files = {path.name: path for path in sorted(folder.rglob("joints_*.txt"))}
    if not files:
        raise InputError(f"{folder}: holds no {_EXPECTED}")
    labels = sorted(folder.rglob(_LABELS)) or [path for path in [folder.parent / _LABELS] if path.is_file()]
    if len(labels) != 1:
        raise InputError(f"{folder}: {len(labels)} files {_LABELS} found, one expected; give the folder of one set")
    beside = next(iter(files.values())).parent
    for recording in _read_labels(labels[0]):
        files.setdefault(f"joints_{recording}.txt", beside / f"joints_{recording}.txt")
    ordered = [path for _, path in sorted(files.items())]
    return subject_references(
        "utkinect", ordered, lambda path: (m := _NAME.fullmatch(path.name)) and m["subject"], (labels[0],)
    )


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """One subject's clips, ids ``joints_s01_e01_sitDown``: fitted on the subject's own bone lengths."""
    recorded, rejected = read_recorded(ref, fps)
    return [*(fit_subject(recorded) if recorded else []), *rejected]


def read_recorded(ref: ClipRef, fps: float | None = None) -> tuple[list[PositionClip], list[Rejection]]:
    """One subject's clips as joint positions, before any fitting, and rejections; as `read_clips`."""
    check_fps(fps)
    labels = _read_labels(ref.files[0])
    recorded: list[PositionClip] = []
    rejected: list[Rejection] = []
    for path in ref.files[1:]:
        match = _NAME.fullmatch(path.name)
        own_labels = labels.get(match["recording"], []) if match else []
        if not own_labels:
            reason = f"no entry in {_LABELS}" if match else "name not joints_sXX_eYY.txt"
            rejected.append(Rejection(path.stem, f"{path}: {reason}"))
            continue
        try:
            rows = _read_rows(path)
        except InputError as error:
            rejected += [Rejection(label.clip_id, str(error)) for label in own_labels]
            continue
        for label in own_labels:
            try:
                recorded.append(_clip(label, rows, path, str(ref.subject), fps or DEFAULT_FPS))
            except InputError as error:
                rejected.append(Rejection(label.clip_id, str(error)))
    return recorded, rejected


def _clip(label: _Label, rows: _Rows, path: Path, subject: str, fps: float) -> PositionClip:
    if label.problem:
        raise InputError(label.problem)
    for before, after, reason in rows.broken:
        if before <= label.last and after >= label.first:
            raise InputError(reason)
    inside = (rows.ids >= label.first) & (rows.ids <= label.last)
    times, positions = rows.ids[inside] / CAMERA_FPS, rows.positions[inside]
    what = f"{path}: ids {label.first:.0f} to {label.last:.0f}"
    if len(times) < 2:
        raise InputError(f"{what}: {len(times)} frames recorded, at least 2 needed")
    gap = int(np.argmax(np.diff(times)))
    if times[gap + 1] - times[gap] > MAX_GAP:
        raise InputError(
            f"{what}: no frame between ids {times[gap] * CAMERA_FPS:.0f} and {times[gap + 1] * CAMERA_FPS:.0f}, "
            f"more than {MAX_GAP:g} s"
        )
    source = f"{path.name} ids {label.first:.0f}-{label.last:.0f}"
    positions = resample_positions(times, positions, fps)
    positions[..., 1] -= floor_height(positions)
    return PositionClip(label.clip_id, positions, fps, {"action": label.action, "subject": subject, "source": source})


def _read_labels(path: Path) -> dict[str, list[_Label]]:
    """Labels by recording (``s01_e01``); a line that cannot be read is a label with a problem."""
    labels: dict[str, list[_Label]] = {}
    recording = ""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        tokens = line.split()
        if not tokens:
            continue
        if re.fullmatch(r"s\d+_e\d+", tokens[0]) and len(tokens) == 1:
            recording = tokens[0]
            labels.setdefault(recording, [])
            continue
        if not recording:
            raise InputError(f"{path}: line {number}: a recording (s01_e01) expected, found {line.strip()[:40]!r}")
        label, where = tokens[0].rstrip(":"), f"{path}: line {number}"
        clip_id = f"joints_{recording}_{re.sub(r'[^A-Za-z0-9]+', '-', label)}"
        repeats = sum(re.sub(r"\.\d+$", "", other.clip_id) == clip_id for other in labels[recording])
        clip_id += f".{repeats + 1}" if repeats else ""
        action = " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", label)).lower()
        try:
            first, last = (float(token) for token in tokens[1:])
        except ValueError:
            problem = f"{where}: 'action: first last' expected, found {line.strip()[:60]!r}"
            labels[recording].append(_Label(clip_id, action, problem=problem, line=number))
            continue
        sound = first <= last and np.isfinite(last - first)
        problem = "" if sound else f"{where}: {label}: not a range of ids: {first:g} {last:g}"
        labels[recording].append(_Label(clip_id, action, first, last, problem, number))
    sound = {name: [label for label in group if not label.problem] for name, group in labels.items()}
    ranges = {
        name: [LabelRange(label.action, label.first, label.last) for label in group] for name, group in sound.items()
    }
    medians = median_lengths([one for group in ranges.values() for one in group])
    for name, group in ranges.items():
        for index, reason in check_ranges(group, medians).items():
            label = sound[name][index]
            position = labels[name].index(label)
            labels[name][position] = replace(label, problem=f"{path}: line {label.line}: {name}: {reason}")
    return labels


def _read_rows(path: Path) -> _Rows:
    """Rows of a recording in order, levelled. A broken row invalidates the span between its neighbours.

    Raises:
        InputError: the file cannot be read, or holds no whole row.
    """
    ids: list[float] = []
    values: list[list[float]] = []
    open_reasons: list[str] = []
    broken: list[tuple[float, float, str]] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        tokens = line.split()
        if not tokens:
            continue
        reason = ""
        try:
            row = [float(token) for token in tokens]
        except ValueError as error:
            reason = str(error)
        else:
            if len(row) != 61:
                reason = f"{len(row)} numbers, 61 expected (id and 20 joints)"
            elif problem := coordinate_error(row[1:]):
                reason = problem
            elif not np.isfinite(row[0]):
                reason = f"id {row[0]}"
            elif ids and row[0] < ids[-1]:
                reason = f"id {row[0]:g} after {ids[-1]:g}: ids must not go back"
        before = ids[-1] if ids else -np.inf
        if reason:
            open_reasons.append(f"{path}: line {number}: {reason}")
            continue
        broken += [(before, row[0], text) for text in open_reasons]
        open_reasons = []
        if any(row[1:]):
            ids.append(row[0])
            values.append(row[1:])
    broken += [(ids[-1] if ids else -np.inf, np.inf, text) for text in open_reasons]
    if not ids:
        raise InputError(broken[0][2] if broken else f"{path}: holds no frames")
    unique, inverse = np.unique(ids, return_inverse=True)
    sums = np.zeros((len(unique), 60))
    np.add.at(sums, inverse, np.asarray(values))
    positions = rearrange(sums / np.bincount(inverse)[:, None], "frame (joint xyz) -> frame joint xyz", xyz=3)
    return _Rows(unique, positions @ level_camera([positions]).T, broken)
