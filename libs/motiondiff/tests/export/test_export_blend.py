from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from motiondiff.export import export
from motiondiff.export.body import body_height
from motiondiff.export.meshes import blend
from motiondiff.export.npz import write_npz
from motiondiff.pipelines.sampling import parse_formats
from motiondiff.skeleton.skeleton import Skeleton

_LOOK = """
bpy.ops.wm.open_mainfile(filepath=sys.argv[2])
scene = bpy.context.scene
objects = {thing.type: thing for thing in bpy.data.objects}
body, armature = objects["MESH"], objects["ARMATURE"]
action = armature.animation_data.action

def corners(frame):
    scene.frame_set(frame)
    shown_body = body.evaluated_get(bpy.context.evaluated_depsgraph_get())
    points = [shown_body.matrix_world @ vertex.co for vertex in shown_body.to_mesh().vertices]
    return [[point.x, point.z, -point.y] for point in points]

answer(
    poses=shown(1, int(sys.argv[3])),
    bodies=[corners(1), corners(int(sys.argv[3]))],
    names={bone["joint"]: bone.name for bone in armature.data.bones},
    parents={bone.name: bone.parent.name if bone.parent else None for bone in armature.data.bones},
    shortest=min(bone.length for bone in armature.data.bones),
    lowest=min(bone.head_local.z for bone in armature.data.bones),
    rate=scene.render.fps / scene.render.fps_base,
    frames=[scene.frame_start, scene.frame_end, *action.frame_range],
    action=action.name,
    camera=scene.camera.name,
)
"""


@pytest.fixture
def blender(blender_interpreter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLENDER_PYTHON", blender_interpreter)


@pytest.mark.usefixtures("blender")
def test_opened_again_it_plays_the_same_motion(tmp_path, random_motion, in_blender):
    motion = random_motion(5, frames=7, joints=15, fps=29.97, locked=0.3)
    # a joint in its parent's place, and a name that is longer than Blender's longest
    offsets = motion.skeleton.offsets.copy()
    offsets[3] = 0
    names = (*motion.skeleton.names[:-1], 'the "last" ' + 70 * "x")
    motion = replace(motion, skeleton=Skeleton(names, motion.skeleton.parents, offsets))
    path = export(motion, tmp_path / "out" / "m.blend")
    assert [file.name for file in path.parent.iterdir()] == ["m.blend"]
    seen = in_blender(_LOOK, path, len(motion))
    with np.load(write_npz(motion, tmp_path / "m.npz")) as arrays:
        positions = arrays["positions"]
    assert len(seen["poses"]) == len(positions)
    for frame, pose in enumerate(seen["poses"]):
        for joint, name in enumerate(names):
            np.testing.assert_allclose(pose[seen["names"][name]], positions[frame, joint], atol=1e-4)
    for joint, name in enumerate(names):
        parent = motion.skeleton.parents[joint]
        assert seen["parents"][seen["names"][name]] == (None if parent < 0 else seen["names"][names[parent]])
    for frame, body in zip((0, -1), seen["bodies"], strict=True):
        # a limb's end is a ball around its joint: the mesh is there in the pose, not in the rest pose
        distances = np.linalg.norm(np.array(body)[:, None] - positions[frame][None], axis=-1)
        assert distances.min(0).max() < 0.019 * body_height(motion.skeleton)
    assert seen["rate"] == pytest.approx(29.97, abs=1e-4) and seen["frames"] == [1, 7, 1, 7]
    assert seen["action"] == "wave" and seen["camera"] == "camera"
    assert seen["shortest"] > 0.005 and abs(seen["lowest"]) < 1e-5


def test_without_blender_the_remedy_is_named(tmp_path, random_motion, monkeypatch):
    monkeypatch.setattr(blend.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("BLENDER_PYTHON", raising=False)
    with pytest.raises(InputError, match=r"pip install 'motiondiff\[blender\]'.*BLENDER_PYTHON"):
        export(random_motion(1), tmp_path / "m.blend")
    with pytest.raises(InputError, match="bpy"):
        parse_formats("npz,blend")
    monkeypatch.setenv("BLENDER_PYTHON", str(tmp_path / "python"))
    with pytest.raises(InputError, match=r"BLENDER_PYTHON=.*python: no such file"):
        export(random_motion(1), tmp_path / "m.blend")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("raise SystemExit(3)", "failed with status 3: no message"),
        ("raise ModuleNotFoundError('no bpy')", "failed with status 1: ModuleNotFoundError: no bpy"),
        ("pass", "failed with status 0: no message"),
    ],
)
def test_a_blender_that_fails_leaves_nothing(tmp_path, random_motion, monkeypatch, script, words):
    program = tmp_path / "scene.py"
    program.write_text(script)
    monkeypatch.setattr(blend, "_SCENE", program)
    monkeypatch.setattr(blend, "blender_python", lambda: sys.executable)
    with pytest.raises(InputError, match=words):
        export(random_motion(1), tmp_path / "m.blend")
    assert list(tmp_path.iterdir()) == [program]


def test_a_file_that_is_no_interpreter(tmp_path, random_motion, monkeypatch):
    (tmp_path / "python").write_text("not executable")
    monkeypatch.setattr(blend, "blender_python", lambda: str(tmp_path / "python"))
    with pytest.raises(InputError, match=r"BLENDER_PYTHON=.*python: cannot be run \(Permission denied\)"):
        export(random_motion(1), tmp_path / "m.blend")
    assert [file.name for file in tmp_path.iterdir()] == ["python"]


def test_motions_that_blender_cannot_play(tmp_path, random_motion, monkeypatch):
    monkeypatch.setattr(blend, "blender_python", lambda: sys.executable)
    motion = random_motion(1)
    with pytest.raises(InputError, match=r"fps 40000: Blender plays"):
        export(replace(motion, fps=40000), tmp_path / "m.blend")
    mirrored = motion.rotations.copy()
    mirrored[0, 1, 0] *= -1
    with pytest.raises(InputError, match=r"is not a rotation .* as Blender requires"):
        export(replace(motion, rotations=mirrored), tmp_path / "m.blend")
    assert list(tmp_path.iterdir()) == []


def test_the_script_needs_nothing_of_motiondiff():
    """It runs in another interpreter, and its folder, first on that one's path, hides no module of Python's."""
    folder = Path(blend.__file__).parent / "blender"
    assert [file.name for file in folder.glob("*.py")] == ["scene.py"]
    lines = (folder / "scene.py").read_text().splitlines()
    imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imported == {"__future__", "bpy", "mathutils", "numpy", "sys", "typing"}
