"""NTU RGB+D's ``.skeleton`` text files (Shahroudy et al., CVPR 2016), one for each clip.

    frames
    bodies                                                       for each frame
    bodyID clipedEdges handLeftConfidence handLeftState handRightConfidence handRightState isRestricted leanX leanY
        trackingState                                            one line for each body
    joints
    x y z depthX depthY colorX colorY qw qx qy qz trackingState  one line for each joint

Positions are metres in the camera's frame: x to its left, y up, z away from it. Generated people are at
`CAMERA_DISTANCE` from a camera `CAMERA_HEIGHT` above the floor and face it. Pixels are those of a Kinect v2 of nominal
focal length; orientations are zeros, as in files of the Kinect without orientation. A skeleton has its own joints in
its own order (NTU's have 25), listed in ``joints.txt``.

Names are ``SsssCcccPpppRrrrAaaa``: P is the subject's number, 000 for an unknown one; R counts the takes of a subject
and class, continued in S after 999; A is the class's number from 1. ``clips.csv`` maps files to clips.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from icube_common.errors import InputError
from motiondiff.data.clips import Array, ClipSet
from motiondiff.export.datasets.class_names import write_class_names

CAMERA_DISTANCE = 3.0
CAMERA_HEIGHT = 1.0
_AWAY = np.array([0.0, -CAMERA_HEIGHT, CAMERA_DISTANCE])
BODY_ID = 72057594037927936
TRACKED = 2
# focal length and centre, pixels: depth camera 512 x 424, colour camera 1920 x 1080
_DEPTH = (365.0, 256.0, 212.0)
_COLOUR = (1060.0, 960.0, 540.0)
_COLUMNS = ("file", "clip", "class", "subject", "split")
_MAX_NUMBER = 999


def to_camera(positions: Array) -> Array:
    """(T, J, 3) from the common frame (facing +z, floor at 0) to the camera's: a half turn about y, then away."""
    turned = positions.astype(np.float64) * (-1.0, 1.0, -1.0)
    return np.asarray(turned + _AWAY, dtype=np.float32)


def skeleton_text(camera: Array) -> Iterator[str]:
    """The lines of a file from (T, J, 3) positions in the camera's frame; numbers read back as the same float32."""
    yield f"{len(camera)}\n"
    for frame in camera:
        yield f"1\n{BODY_ID} 0 1 1 1 1 0 0 0 {TRACKED}\n{len(frame)}\n"
        for joint in frame:
            depth, colour = (_pixel(joint, *lens) for lens in (_DEPTH, _COLOUR))
            coordinates = " ".join(np.format_float_positional(value, unique=True, trim="-") for value in joint)
            yield f"{coordinates} {depth} {colour} 0 0 0 0 {TRACKED}\n"


def _pixel(joint: Array, focal: float, centre_x: float, centre_y: float) -> str:
    """Column and row of a joint in a pinhole camera; the camera's x runs to its left, columns to the right."""
    x, y, z = (float(value) for value in joint)
    away = max(z, 1e-3)  # generated people may be behind the camera
    return f"{centre_x - focal * x / away:.4f} {centre_y - focal * y / away:.4f}"


def write_ntu_skeletons(clips: ClipSet, folder: str | Path, joint_names: tuple[str, ...] = ()) -> None:
    """Write one file for each clip, ``clips.csv``, ``classes.txt`` and ``joints.txt`` into an existing folder.

    Raises:
        InputError: more subjects or classes than three digits count.
    """
    folder = Path(folder)
    subjects = sorted(set(clips.subjects) - {""})
    if max(len(subjects), len(clips.class_names)) > _MAX_NUMBER:
        raise InputError(
            f"{len(subjects)} subjects, {len(clips.class_names)} classes: NTU's names count to {_MAX_NUMBER}"
        )
    takes: dict[tuple[int, int], int] = {}
    rows = []
    for name, positions, label, split, subject in zip(
        clips.ids, clips.positions, clips.labels.tolist(), clips.splits, clips.subjects, strict=True
    ):
        person = subjects.index(subject) + 1 if subject else 0
        take = takes.get((person, label), 0)
        takes[person, label] = take + 1
        setup, repeat = take // _MAX_NUMBER + 1, take % _MAX_NUMBER + 1
        if setup > _MAX_NUMBER:
            raise InputError(f"{take} takes of class {clips.class_names[label]!r}: NTU's names hold fewer")
        file = f"S{setup:03d}C001P{person:03d}R{repeat:03d}A{label + 1:03d}.skeleton"
        with (folder / file).open("w", encoding="ascii", newline="\n") as handle:
            handle.writelines(skeleton_text(to_camera(positions)))
        rows.append((file, name, clips.class_names[label], subject, split))
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    write_class_names(folder / "classes.txt", clips.class_names)
    if joint_names:
        write_class_names(folder / "joints.txt", joint_names)
