from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

MotionMaker = Callable[..., Motion]

# found at the start of every script that runs in Blender: positions by frame and joint name, y up again
_SHOWN = """
import json, sys
import bpy

def shown(first, frames):
    (armature,) = [thing for thing in bpy.data.objects if thing.type == "ARMATURE"]
    poses = []
    for frame in range(first, first + frames):
        bpy.context.scene.frame_set(frame)
        heads = {bone.name: armature.matrix_world @ bone.head for bone in armature.pose.bones}
        poses.append({name: [head.x, head.z, -head.y] for name, head in heads.items()})
    return poses

def answer(**values):
    open(sys.argv[1], "w").write(json.dumps(values))
"""


@pytest.fixture(scope="session")
def blender_interpreter() -> str:
    """An interpreter that can import bpy: this one, or the one that the environment names."""
    python = sys.executable if importlib.util.find_spec("bpy") else os.environ.get("BLENDER_PYTHON")
    if python is None:
        pytest.skip(
            "needs Blender: pip install 'motiondiff[blender]', or set BLENDER_PYTHON to an interpreter with bpy"
        )
    return python


@pytest.fixture
def in_blender(blender_interpreter: str, tmp_path: Path) -> Callable[..., Any]:
    """Runs a script in Blender's Python; its arguments start at ``sys.argv[2]``, `answer(...)` gives the result."""

    def run(script: str, *arguments: object) -> Any:
        program, said = tmp_path / "look" / "look.py", tmp_path / "look" / "answer.json"
        program.parent.mkdir()
        program.write_text(_SHOWN + script)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [blender_interpreter, str(program), str(said), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
        assert said.exists(), done.stderr
        return json.loads(said.read_text())

    return run


def _random_motion(seed: int = 0, frames: int = 6, joints: int = 9, fps: float = 30.0, locked: float = 0.0) -> Motion:
    """A random tree of bones in random poses; a share ``locked`` of the rotations lies in gimbal lock of ZXY."""
    random = np.random.default_rng(seed)
    parents = (-1, *(int(random.integers(0, joint)) for joint in range(1, joints)))
    offsets = random.normal(scale=0.2, size=(joints, 3))
    angles = random.uniform(-np.pi, np.pi, size=(frames, joints, 3))
    lock = random.random((frames, joints)) < locked
    angles[..., 1] = np.where(lock, np.sign(angles[..., 1]) * np.pi / 2, angles[..., 1])
    rotations = Rotation.from_euler("ZXY", angles.reshape(-1, 3)).as_matrix().reshape(frames, joints, 3, 3)
    skeleton = Skeleton(tuple(f"joint{index}" for index in range(joints)), parents, offsets)
    root = random.normal(size=(frames, 3))
    return Motion(root, rotations, skeleton, fps, action="wave", style="calm", subject="s01", source=f"random {seed}")


@pytest.fixture(scope="session")
def random_motion() -> MotionMaker:
    return _random_motion


@pytest.fixture(scope="session")
def walker() -> MotionMaker:
    """A stick person of 13 joints, 1.7 m tall, that walks along +z with swinging limbs."""

    names = (
        "hips", "spine", "head", "left_arm", "left_hand", "right_arm", "right_hand",
        "left_hip", "left_knee", "left_foot", "right_hip", "right_knee", "right_foot",
    )  # fmt: skip
    parents = (-1, 0, 1, 1, 3, 1, 5, 0, 7, 8, 0, 10, 11)
    offsets = np.zeros((13, 3))
    offsets[1], offsets[2] = (0, 0.5, 0), (0, 0.2, 0)
    offsets[3], offsets[4], offsets[5], offsets[6] = (0.2, 0, 0), (0, -0.5, 0), (-0.2, 0, 0), (0, -0.5, 0)
    for hip, side in ((7, 1), (10, -1)):
        offsets[hip], offsets[hip + 1], offsets[hip + 2] = (0.1 * side, 0, 0), (0, -0.45, 0), (0, -0.45, 0)

    def make(frames: int = 30, fps: float = 20.0, speed: float = 1.0, action: str | None = "walk") -> Motion:
        seconds = np.arange(frames) / fps
        rotations = np.tile(np.eye(3), (frames, 13, 1, 1))
        swing = 0.5 * np.sin(2 * np.pi * seconds)
        for joint, sign in ((3, 1), (5, -1), (7, -1), (10, 1)):
            rotations[:, joint] = Rotation.from_rotvec(np.outer(sign * swing, (1, 0, 0))).as_matrix()
        root = np.stack((0 * seconds, 0 * seconds + 0.9, speed * seconds), axis=-1)
        return Motion(root, rotations, Skeleton(names, parents, offsets), fps, action=action)

    return make
