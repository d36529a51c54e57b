"""Files to the letter of published formats, written from joint positions: what the tests of readers read."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from motiondiff.data.readers.body_shape import target_skeleton
from motiondiff.skeleton.kinect import KINECT_V2_ORDER
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

Array = np.ndarray


def moving(skeleton: Skeleton, frames: int = 30, seed: int = 0, amount: float = 0.3) -> Motion:
    """A body that stands at the origin, faces +z and moves every joint smoothly."""
    rng = np.random.default_rng(seed)
    joints = len(skeleton)
    time = np.linspace(0, 2 * np.pi, frames)[:, None, None]
    vectors = amount * rng.normal(size=(joints, 3)) * np.sin(time + rng.uniform(0, 6, size=(joints, 3)))
    vectors[:, 0] *= 0.2
    turns = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(frames, joints, 3, 3)
    return Motion(np.tile([0.1, 0.95, 0.2], (frames, 1)), turns, skeleton, fps=30)


def seen(frames: int = 30, seed: int = 0, amount: float = 0.3, away: float = 2.5) -> Array:
    """(T, 25, 3) metres in a Kinect v2's frame and order: a person who faces it, 1.1 m below and ``away`` before it."""
    positions = moving(target_skeleton("kinect-v2"), frames, seed, amount).positions.astype(np.float64)
    back = np.argsort(KINECT_V2_ORDER)
    return positions[:, back] * [-1, 1, -1] + [0, -1.1, away]


def ntu_text(bodies: Sequence[dict[str, Array]]) -> str:
    """A .skeleton file: for each frame the bodies that it shows, by id, (25, 3) each."""
    lines = [str(len(bodies))]
    for frame in bodies:
        lines.append(str(len(frame)))
        for body, joints in frame.items():
            lines += [f"{body} 0 1 1 1 1 0 0.02764709 0.05745083 2", "25"]
            for x, y, z in joints:
                lines.append(f"{x:.7g} {y:.7g} {z:.7g} 277.419 191.8218 1036.233 519.1677 -0.20 0.05 0.97 -0.12 2")
    return "\r\n".join(lines) + "\r\n"


def etri_text(bodies: Sequence[dict[str, Array]]) -> str:
    """A .csv file; a frame without a body is a row with empty fields."""
    of_joint = ("3dX", "3dY", "3dZ", "depthX", "depthY", "orientationX", "orientationY", "orientationZ", "orientationW",
                "trackingState")  # fmt: skip
    header = ["frameNum", "bodyindexID", "trackingID", *(f"joint{j}_{name}" for j in range(1, 26) for name in of_joint)]
    lines = [",".join(header)]
    for number, frame in enumerate(bodies):
        for place, (body, joints) in enumerate(frame.items()):
            values = [f"{x:.6f},{y:.6f},{z:.6f},250.1,200.2,0,0,0,1,2" for x, y, z in joints]
            lines.append(f"{number},{place},{body},{','.join(values)}")
        if not frame:
            lines.append(f"{number},{',' * 251}")
    return "\n".join(lines) + "\n"


def pku_text(first: Array, second: Array | None = None) -> str:
    """A skeleton file of PKU-MMD: 150 numbers a row."""
    second = np.zeros_like(first) if second is None else second
    rows = np.concatenate([first.reshape(len(first), -1), second.reshape(len(second), -1)], axis=1)
    return "".join(" ".join(f"{value:.6g}" for value in row) + " \n" for row in rows)


def uestc_text(positions: Array) -> str:
    """A skeleton file of UESTC: '#', then three lines for each joint."""
    lines = []
    for frame in positions:
        lines.append("#")
        for x, y, z in frame:
            lines += [f"{x:.6f} {y:.6f} {z:.6f} 0", "961.2 540.3 1", "255.5 210.1 2"]
    return "\n".join(lines) + "\n"


def florence_text(videos: Sequence[tuple[int, int, int, Array]]) -> str:
    """Lines of Florence_dataset_WorldCoordinates.txt from (video, actor, category, (T, 15, 3))."""
    lines = []
    for video, actor, category, positions in videos:
        for frame in positions:
            lines.append(
                " ".join([str(video), str(actor), str(category), *(f"{value:.4f}" for value in frame.ravel())])
            )
    return "\n".join(lines) + "\n"


def write_amass(path: Path, poses: Array, trans: Array, rate: float = 60.0, key: str = "mocap_framerate") -> None:
    """A recording of AMASS (SMPL+H): 22 body joints, hands at rest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hands = np.zeros((len(poses), 156 - poses.shape[1]))
    more: dict[str, Any] = {"gender": np.array("female"), "betas": np.zeros(16), "dmpls": np.zeros((len(poses), 8))}
    np.savez(path, poses=np.hstack([poses, hands]), trans=trans, **{key: np.array(rate)}, **more)


def babel(feature: str, seconds: float, labels: list[dict[str, Any]], whole: str = "walk") -> dict[str, Any]:
    """One sequence of BABEL's train.json."""
    sequence = {"seg_id": "a", "raw_label": whole, "proc_label": whole, "act_cat": [whole]}
    return {
        "babel_sid": 11107,
        "url": "https://babel-renders.s3.eu-central-1.amazonaws.com/011107.mp4",
        "feat_p": feature,
        "dur": seconds,
        "seq_ann": {"babel_lid": "b", "anntr_id": "c", "mul_act": True, "labels": [sequence]},
        "frame_ann": {"babel_lid": "d", "anntr_id": "e", "mul_act": True, "labels": labels} if labels else None,
    }


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_pickle(path: Path, content: Any, protocol: int = 3) -> None:
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def damaged(data: bytes, seed: int) -> bytes:
    """The file cut, with a byte changed, a segment missing, or a number that is none."""
    rng = random.Random(seed)
    out, place = bytearray(data), rng.randrange(len(data))
    kind = rng.randrange(4)
    if kind == 0:
        del out[place:]
    elif kind == 1:
        out[place] = rng.randrange(256)
    elif kind == 2:
        del out[place : place + rng.randrange(1, 400)]
    else:
        out[place:place] = rng.choice([b" nan ", b" 1e300 ", b"\x00", b",", b"\n", b" -7 "])
    return bytes(out)
