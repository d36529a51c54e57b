"""Blender export: an armature with its action, and a skinned body.

Blender's Python runs in a separate process: its state is global, so an open scene would be lost, and ``bpy`` has wheels
for one Python version only. The interpreter is the current one where it has ``bpy``, else that of the environment
variable ``BLENDER_PYTHON`` (an environment with ``pip install bpy``; motiondiff need not be in it).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.errors import InputError
from motiondiff.export.body import Points, body_height, leaf_tip, median_bone_length
from motiondiff.export.meshes.mesh import build_mesh, linear_colour
from motiondiff.export.output import check_rotations, continuous_quaternions, output_file
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

_SCENE = Path(__file__).parent / "blender" / "scene.py"
_SECONDS = 600
_SHORTEST = 1e-3  # metres: Blender drops bones without length


def write_blend(motion: Motion, path: str | Path) -> Path:
    """Write a motion as ``.blend``: bones under the joints' names, z-up, metres, keys on every frame from frame 1.

    Bones rest as the skeleton does (all rotations zero), lowest joint on the floor. The scene plays the action at the
    motion's frame rate; camera, sun and body are included for rendering.

    Args:
        motion: the clip, metres, y-up.
        path: the file to write, and the result; replaced where it exists.

    Raises:
        InputError: Blender is missing or fails, matrices that are not rotations, an unsupported frame rate (more than
            32767), or a file that cannot be written.
    """
    python = blender_python()
    check_rotations(motion, "Blender")
    if not 0.01 <= motion.fps <= 32767:
        raise InputError(f"{motion.source or 'motion'}: fps {motion.fps}: Blender plays 0.01 to 32767 frames a second")
    environment = dict(os.environ)
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)  # made for another interpreter
    with output_file(path) as temporary, tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "motion.npz"
        np.savez(source, **_arrays(motion))
        before = temporary.stat().st_mtime_ns
        command = [python, str(_SCENE), str(source), str(temporary.resolve())]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, env=environment, cwd=folder, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"{path}: Blender ({python}) did not finish within {_SECONDS} s") from error
        except OSError as error:
            raise InputError(f"BLENDER_PYTHON={python}: cannot be run ({error.strerror or error})") from error
        if done.returncode != 0 or temporary.stat().st_mtime_ns == before or temporary.stat().st_size == 0:
            output = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            raise InputError(f"{path}: Blender ({python}) failed with status {done.returncode}: {output[-1]}")
        temporary.chmod(0o644)
    return Path(path)


def blender_python() -> str:
    """Path of an interpreter with ``bpy``.

    Raises:
        InputError: not in this one, and ``BLENDER_PYTHON`` is not a file.
    """
    if importlib.util.find_spec("bpy") is not None:
        return sys.executable
    named = os.environ.get("BLENDER_PYTHON", "")
    if not named:
        raise InputError(
            "bpy (Blender) is needed for .blend files and not installed: pip install 'motiondiff[blender]' with "
            "Python 3.11, or set BLENDER_PYTHON to an interpreter with bpy"
        )
    if not Path(named).is_file():
        raise InputError(f"BLENDER_PYTHON={named}: no such file; a Python interpreter with bpy expected")
    return named


def _arrays(motion: Motion) -> dict[str, Any]:
    """Arrays for ``blender/scene.py``; metres, y-up (J joints, T frames, V vertices, F triangles, P parts).

    ``joint_names`` (J,), ``parents`` (J,), ``heads``, ``tails`` (J, 3) rest pose of the bones, ``root`` (T, 3),
    ``quaternions`` (T, J, 4) x y z w, ``fps``, ``action``, ``size``, ``vertices`` (V, 3) in the rest pose, ``carriers``
    (V,) joint of each, ``triangles`` (F, 3), ``materials`` (F,) part of each, ``colours`` (P, 3) linear.
    """
    skeleton = motion.skeleton
    rest = skeleton.rest_positions
    rest[:, 1] -= rest[:, 1].min()
    parts = build_mesh(skeleton)
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return {
        "joint_names": np.array(skeleton.names, dtype=np.str_),
        "parents": np.array(skeleton.parents, dtype=np.int64),
        "heads": rest,
        "tails": rest + _tips(skeleton),
        "root": motion.root.astype(np.float64),
        "quaternions": continuous_quaternions(motion.rotations),
        "fps": np.float64(motion.fps),
        "action": np.str_(motion.action or ""),
        "size": np.float64(body_height(skeleton)),
        "vertices": np.concatenate([part.vertices + rest[part.joints] for part in parts]),
        "carriers": np.concatenate([part.joints for part in parts]),
        "triangles": np.concatenate([part.triangles + start for part, start in zip(parts, starts[:-1], strict=True)]),
        "materials": np.repeat(np.arange(len(parts)), [len(part.triangles) for part in parts]),
        "colours": np.array([linear_colour(part.colour) for part in parts]),
    }


def _tips(skeleton: Skeleton) -> Points:
    """(J, 3) metres: from each joint to the tail of its bone, the child with the most descendants."""
    offsets = skeleton.offsets.astype(np.float64)
    below = np.ones(len(skeleton))
    for joint in range(len(skeleton) - 1, 0, -1):
        below[skeleton.parents[joint]] += below[joint]
    typical = median_bone_length(skeleton)
    tips = np.zeros_like(offsets)
    for joint in range(len(skeleton)):
        far = [child for child in skeleton.children[joint] if skeleton.bone_lengths[child] > _SHORTEST]
        tips[joint] = offsets[max(far, key=lambda child: below[child])] if far else leaf_tip(offsets[joint], typical)
    return tips
