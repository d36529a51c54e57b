"""Florence 3D Actions (Seidenari et al., CVPRW 2013): 9 actions of 10 people by one Kinect, 15 joints.

``Florence_dataset_WorldCoordinates.txt`` holds lines ``idvideo idactor idcategory`` and 45 coordinates: head, neck,
spine; shoulder, elbow and wrist of the left, then of the right arm; hip, knee and ankle of the left, then of the right
leg. The middle of the hips is added as the root. The trunk's length distinguishes
millimetres from metres. All subjects face the camera; where left and right are exchanged, x is negated.

The set's other file, ``Florence_dataset_Features.txt`` or ``features.txt``, cannot be read: it holds *directions* of
eight limb joints (unit vectors) without trunk, lengths or positions, from which no motion can be rebuilt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from einops import rearrange

from icube_common.errors import InputError
from icube_common.io.csv import read_text
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, check_fps, parse_numbers
from motiondiff.data.readers.kinect.positions import (
    Array,
    PositionClip,
    coordinate_error,
    fit_subject,
    level_and_resample,
    level_camera,
)
from motiondiff.skeleton.kinect import KinectJoints

ACTIONS = (
    "wave", "drink from a bottle", "answer phone", "clap", "tight lace", "sit down", "stand up", "read watch", "bow",
)  # fmt: skip
"""Categories 1 to 9."""
FPS = 20.0
"""Frames per second of the set's videos: a line per frame."""
FILE = "*WorldCoordinates.txt"
FEATURES = ("*eatures.txt",)
FILE_NAMES = (
    "Head", "Neck", "Spine", "ShoulderLeft", "ElbowLeft", "WristLeft", "ShoulderRight", "ElbowRight", "WristRight",
    "HipLeft", "KneeLeft", "AnkleLeft", "HipRight", "KneeRight", "AnkleRight",
)  # fmt: skip
"""The 15 joints in the order of the file."""
JOINTS = KinectJoints(
    (
        "HipCenter", "Spine", "Neck", "Head", "ShoulderLeft", "ElbowLeft", "WristLeft", "ShoulderRight", "ElbowRight",
        "WristRight", "HipLeft", "KneeLeft", "AnkleLeft", "HipRight", "KneeRight", "AnkleRight",
    ),
    (-1, 0, 1, 2, 2, 4, 5, 2, 7, 8, 0, 10, 11, 0, 13, 14),
    "Neck",
    feet=("AnkleLeft", "AnkleRight"),
)  # fmt: skip
_ORDER = [FILE_NAMES.index(name) for name in JOINTS.names[1:]]
_NUMBERS_A_LINE = 48


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per actor; reads the file, which is small."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected Florence_dataset_WorldCoordinates.txt in it")
    files = sorted(folder.rglob(FILE))
    if not files:
        features = [path for pattern in FEATURES for path in sorted(folder.rglob(pattern))]
        if features:
            raise InputError(
                f"{features[0]}: holds directions of eight limb joints (unit vectors) without positions and trunk, "
                "which give no motion; Florence_dataset_WorldCoordinates.txt of the same set can be read"
            )
        raise InputError(f"{folder}: holds no Florence_dataset_WorldCoordinates.txt")
    actors = sorted({actor for _, actor, _, _, _ in _read_lines(files[0])})
    return [ClipRef("florence3d", f"actor{actor:02d}", (files[0],), f"actor{actor:02d}") for actor in actors]


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """One actor's clips, ids ``id001_actor01_act1``, on the actor's own bone lengths."""
    check_fps(fps)
    path = ref.files[0]
    videos: dict[tuple[int, int], list[list[float]]] = {}
    results: list[Clip | Rejection] = []
    for video, actor, category, _, values in _read_lines(path):
        if f"actor{actor:02d}" == ref.subject:
            videos.setdefault((video, category), []).append(values)
    read: list[tuple[str, int, Array]] = []
    for (video, category), rows in videos.items():
        clip_id = f"id{video:03d}_{ref.subject}_act{category}"
        if len(rows) < 2:
            results.append(Rejection(clip_id, f"{path}: video {video} has {len(rows)} frame, at least 2 needed"))
            continue
        read.append((clip_id, category, _positions(np.asarray(rows))))
    if not read:
        return results
    turn = level_camera([positions for _, _, positions in read], JOINTS)
    recorded = []
    for clip_id, category, positions in read:
        rate = fps or FPS
        levelled = level_and_resample(positions, np.arange(len(positions)) / FPS, turn, rate, JOINTS)
        labels = {"action": ACTIONS[category - 1], "subject": ref.subject, "source": clip_id}
        recorded.append(PositionClip(clip_id, levelled, rate, labels))
    return [*fit_subject(recorded, JOINTS), *results]


def _positions(rows: Array) -> Array:
    """(T, 16, 3) metres in the order of `JOINTS`, right-handed, from (T, 45) numbers of the file."""
    joints = rearrange(rows, "t (joint xyz) -> t joint xyz", xyz=3)[:, _ORDER]
    left, right = (joints[:, JOINTS.names.index(f"Hip{side}") - 1] for side in ("Left", "Right"))
    positions = np.concatenate([(left + right)[:, None] / 2, joints], axis=1)
    trunk = np.linalg.norm(positions[:, JOINTS.names.index("Neck")] - positions[:, 0], axis=-1)
    if np.median(trunk) > 5:  # millimetres
        positions = positions / 1000
    across = np.median(
        positions[:, JOINTS.names.index("ShoulderLeft"), 0] - positions[:, JOINTS.names.index("ShoulderRight"), 0]
    )
    # facing the camera, which looks along +z, the left hand is at smaller x
    return positions * (-1.0, 1.0, 1.0) if across > 0 else positions


def _read_lines(path: Path) -> list[tuple[int, int, int, int, list[float]]]:
    """(video, actor, category, line, 45 coordinates) of every line."""
    out = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("%"):
            continue
        where = f"{path}: line {number}"
        if len(words) != _NUMBERS_A_LINE:
            raise InputError(
                f"{where}: {len(words)} numbers, {_NUMBERS_A_LINE} expected (video, actor, category, 15 joints)"
            )
        values = parse_numbers(words, where)
        if coordinate_error([value / 1000 for value in values]):
            raise InputError(f"{where}: a number that is not finite, or beyond the range of a Kinect")
        video, actor, category = (int(value) if value == int(value) else -1 for value in values[:3])
        if min(video, actor) < 1 or not 1 <= category <= len(ACTIONS):
            raise InputError(
                f"{where}: video {words[0]}, actor {words[1]} or category {words[2]} is none (1 to {len(ACTIONS)})"
            )
        out.append((video, actor, category, number, values[3:]))
    return out
