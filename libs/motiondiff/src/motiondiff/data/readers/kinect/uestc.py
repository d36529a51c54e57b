"""UESTC RGB-D varying-view (Ji et al., ACM MM 2018): 40 exercises, 118 people, two Kinect v2.

``aA_dD_pPPP_cC_skeleton.txt``: action 0 to 39, direction 1 to 8 (8: the camera walks round), person, camera (1 in
front, 2 at the side). Each frame is a line ``#`` and three lines for each of 25 joints, distinguished by their
last number: ``x y z 0`` in metres, ``u v 1`` in the colour image, ``u v 2`` in the depth image. The set's
``mat_from_skeleton/*.mat`` hold the metres alone, as ``v`` (frames, 75), and are read as well. 30 frames per second.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from icube_common.data.file_names import FileNameGrammar
from icube_common.errors import InputError
from icube_common.io.csv import read_text
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, parse_numbers, subject_references
from motiondiff.data.readers.kinect.tracks import Track, TrackBuilder, TrackClip, parse_file_name, read_samples

ACTIONS = (
    "punching and knee lifting", "marking time and knee lifting", "jumping jack", "squatting", "forward lunging",
    "left lunging", "left stretching", "raising hand and jumping", "left kicking", "rotation clapping",
    "front raising", "pulling chest expanders", "punching", "wrist circling", "single dumbbell raising",
    "shoulder raising", "elbow circling", "dumbbell one-arm shoulder pressing", "arm circling", "dumbbell shrugging",
    "pinching back", "head anticlockwise circling", "shoulder abduction", "deltoid muscle stretching",
    "straight forward flexion", "spinal stretching", "dumbbell side bend", "standing opposite elbow to knee crunch",
    "standing rotation", "overhead stretching", "upper back stretching", "knee to chest", "knee circling",
    "alternate knee lifting", "bent over twist", "rope skipping", "standing toe touches",
    "standing gastrocnemius calf", "single leg lateral hopping", "high knees running",
)  # fmt: skip
"""Actions 0 to 39."""
NAME = FileNameGrammar(
    text="aA_dD_pPPP_cC_skeleton",
    pattern=r"a(?P<action>\d+)_d(?P<direction>\d+)_p(?P<person>\d+)_c(?P<camera>\d+)_skeleton",
    ranges={"action": (0, 39), "direction": (1, 8), "person": (1, 118), "camera": (1, 2)},
)
_EXPECTED = "UESTC skeletons (aA_dD_pPPP_cC_skeleton.txt or .mat)"
_JOINTS = 25


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per person; the .txt of a sample that is also there as .mat."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected {_EXPECTED}")
    files: dict[str, Path] = {}
    for suffix in (".mat", ".txt"):
        files |= {path.stem: path for path in sorted(folder.rglob(f"*_skeleton{suffix}"))}
    if not files:
        raise InputError(f"{folder}: holds no {_EXPECTED}")
    ordered = [path for _, path in sorted(files.items())]
    return subject_references(
        "uestc", ordered, lambda path: (m := NAME.match(path.stem)) and f"p{int(m['person']):03d}"
    )


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """One person's clips, ids ``a0_d1_p001_c1``, on the person's own bone lengths."""
    return read_samples(
        ref.files,
        lambda path: [_read_sample(path, str(ref.subject))],
        fps,
        clip_id=lambda path: path.stem.removesuffix("_skeleton"),
    )


def _read_sample(path: Path, subject: str) -> TrackClip:
    number = parse_file_name(NAME, path)
    tracks = read_mat(path) if path.suffix.lower() == ".mat" else read_skeleton(path)
    if not tracks:
        raise InputError(f"{path}: no frame shows a body")
    return TrackClip(
        clip_id=path.stem.removesuffix("_skeleton"),
        track=tracks[0],
        camera=f"a{number['action']}d{number['direction']}c{number['camera']}",
        labels={"action": ACTIONS[number["action"]], "subject": subject, "source": path.name},
    )


def read_skeleton(path: Path) -> list[Track]:
    """The body of a .txt file, in the camera's frame.

    Raises:
        InputError: an invalid line, or a frame without its 25 joints; the line is given.
    """
    tracks = TrackBuilder()
    values: list[float] | None = None
    frame = -1

    def close(number: int) -> None:
        if values is None:
            return
        where = f"{path}: line {number} (end of frame {frame})"
        if len(values) != 3 * _JOINTS:
            raise InputError(f"{where}: {len(values) // 3} joints, {_JOINTS} expected")
        try:
            tracks.add("body", frame, values)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    lines = read_text(path).splitlines()
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").split()
        if words == ["#"]:
            close(number)
            values, frame = [], frame + 1
            continue
        if not words:
            continue
        where = f"{path}: line {number}"
        if values is None:
            raise InputError(f"{where}: '#', the start of a frame, expected, found {line.strip()[:40]!r}")
        numbers = parse_numbers(words, where)
        if (len(numbers), numbers[-1]) not in ((4, 0.0), (3, 1.0), (3, 2.0)):
            raise InputError(f"{where}: 'x y z 0', 'u v 1' or 'u v 2' expected, found {line.strip()[:40]!r}")
        if numbers[-1] == 0:
            values += numbers[:3]
    close(len(lines))
    return tracks.tracks()


def read_mat(path: Path) -> list[Track]:
    """The body of a .mat file, in the camera's frame.

    Raises:
        InputError: not readable, or no ``v`` of (frames, 75) plausible numbers.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["v"])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged file raises many types of errors
        raise InputError(f"{path}: not a readable MATLAB file ({type(error).__name__}: {error})") from error
    rows = content.get("v")
    if (
        not isinstance(rows, np.ndarray)
        or rows.ndim != 2
        or rows.shape[1] != 3 * _JOINTS
        or rows.dtype.kind not in "fiu"
    ):
        raise InputError(f"{path}: no variable 'v' of (frames, {3 * _JOINTS}) numbers")
    tracks = TrackBuilder()
    for frame, row in enumerate(rows.astype(np.float64)):
        try:
            tracks.add("body", frame, row.tolist())
        except InputError as error:
            raise InputError(f"{path}: frame {frame}: {error}") from error
    return tracks.tracks()
