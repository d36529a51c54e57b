from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pybvh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.export.bvh import continuous_euler, write_bvh
from motiondiff.export.npz import write_npz
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

with warnings.catch_warnings():
    warnings.simplefilter("ignore", PendingDeprecationWarning)  # bvhio imports PyGLM by its old name
    import bvhio


def read_with_bvhio(path: Path, frames: int) -> list[dict[str, np.ndarray]]:
    """World positions by joint name, one mapping for each frame."""
    tree = bvhio.readAsHierarchy(str(path))
    poses = []
    for frame in range(frames):
        tree.loadPose(frame)
        poses.append({joint.Name: np.array(joint.PositionWorld) for joint, _, _ in tree.layout()})
    return poses


def largest_error(motion: Motion, poses: list[dict[str, np.ndarray]]) -> float:
    """Largest coordinate difference in metres over all frames and joints, matched by name."""
    assert len(poses) == len(motion)
    errors = [
        np.abs(pose[name] - motion.positions[frame, joint]).max()
        for frame, pose in enumerate(poses)
        for joint, name in enumerate(motion.skeleton.names)
    ]
    return float(max(errors))


motions = st.tuples(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 12), st.sampled_from((0.0, 0.5, 1.0)))


@settings(max_examples=25, deadline=None)
@given(motions)
def test_bvhio_reads_the_same_positions(tmp_path_factory, random_motion, drawn):
    seed, frames, joints, locked = drawn
    motion = random_motion(seed, frames, joints, locked=locked)
    path = write_bvh(motion, tmp_path_factory.mktemp("bvh") / "m.bvh")
    assert largest_error(motion, read_with_bvhio(path, frames)) < 5e-6


@settings(max_examples=25, deadline=None)
@given(motions, st.sampled_from(("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")))
def test_pybvh_reads_the_same_positions_in_every_channel_order(tmp_path_factory, random_motion, drawn, order):
    seed, frames, joints, locked = drawn
    motion = random_motion(seed, frames, joints, locked=locked)
    path = write_bvh(motion, tmp_path_factory.mktemp("bvh") / "m.bvh", order=order)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pybvh guesses which way is up, and random bones give it no way to
        read = pybvh.read_bvh_file(path)
        positions = read.joint_positions()
    poses = [dict(zip(read.joint_names, frame, strict=True)) for frame in positions]
    assert largest_error(motion, poses) < 5e-6
    assert read.frame_time == pytest.approx(1 / motion.fps, abs=1e-9)


def test_scale_sets_the_unit_of_the_file(tmp_path, random_motion):
    motion = random_motion(3)
    poses = read_with_bvhio(write_bvh(motion, tmp_path / "cm.bvh", scale=100), len(motion))
    metres = [{name: position / 100 for name, position in pose.items()} for pose in poses]
    assert largest_error(motion, metres) < 5e-6


def test_hand_written_file(tmp_path):
    """One bone of 0.5 m, the root at (1, 2, 3) turned by 90 degrees about y."""
    skeleton = Skeleton(("hips", "hand"), (-1, 0), [(0, 0, 0), (0.5, 0, 0)])
    turn = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    motion = Motion([(1, 2, 3)], np.stack((turn, np.eye(3)))[None], skeleton, fps=20)
    text = write_bvh(motion, tmp_path / "m.bvh").read_text()
    assert text.splitlines() == [
        "HIERARCHY",
        "ROOT hips",
        "{",
        "  OFFSET 0.0000000 0.0000000 0.0000000",
        "  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation",
        "  JOINT hand",
        "  {",
        "    OFFSET 0.5000000 0.0000000 0.0000000",
        "    CHANNELS 3 Zrotation Xrotation Yrotation",
        "    End Site",
        "    {",
        "      OFFSET 0.2500000 0.0000000 0.0000000",
        "    }",
        "  }",
        "}",
        "MOTION",
        "Frames: 1",
        "Frame Time: 0.0500000000",
        "1.0000000 2.0000000 3.0000000 0.0000000 0.0000000 90.0000000 0.0000000 0.0000000 0.0000000",
    ]


def test_joints_in_breadth_first_order_keep_their_motion(tmp_path):
    """Children of the first branch come after the second branch here; BVH requires them before."""
    skeleton = Skeleton(("r", "a", "b", "a1", "b1"), (-1, 0, 0, 1, 2), np.eye(5, 3) + 0.1)
    rotations = Rotation.random(15, rng=np.random.default_rng(0)).as_matrix().reshape(3, 5, 3, 3)
    motion = Motion(np.ones((3, 3)), rotations, skeleton, fps=25)
    path = write_bvh(motion, tmp_path / "m.bvh")
    words = [line.split()[1] for line in path.read_text().splitlines() if "JOINT" in line]
    assert words == ["a", "a1", "b", "b1"]
    assert largest_error(motion, read_with_bvhio(path, 3)) < 5e-6


def test_names_with_spaces_become_unique_words(tmp_path):
    skeleton = Skeleton(("mixamorig:Hips", "left arm", "left_arm", "{}"), (-1, 0, 0, 0), np.ones((4, 3)))
    motion = Motion(np.zeros((1, 3)), np.tile(np.eye(3), (1, 4, 1, 1)), skeleton, fps=30)
    text = write_bvh(motion, tmp_path / "m.bvh").read_text()
    words = [line.split(maxsplit=1)[1] for line in text.splitlines() if "ROOT" in line or "JOINT" in line]
    assert words == ["mixamorig:Hips", "left_arm_2", "left_arm", "_"]


def test_angles_run_on_over_half_turns():
    """Two whole turns about the vertical, 10 degrees a frame, never jump, though matrices repeat every 36 frames."""
    degrees = np.arange(0, 721, 10)
    matrices = Rotation.from_euler("y", degrees[:, None], degrees=True).as_matrix()[:, None]
    angles = np.degrees(continuous_euler(matrices, "ZXY"))[:, 0]
    np.testing.assert_allclose(angles[:, 2], degrees, atol=1e-6)
    np.testing.assert_allclose(angles[:, :2], 0, atol=1e-6)


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"])
def test_angles_stay_continuous_through_gimbal_lock(order):
    """The middle angle passes 90 degrees, in frame 9 exactly; the outer ones are held at 40 and 20."""
    middle = np.arange(0, 181, 10)
    outer = np.ones_like(middle)
    wanted = np.stack((40 * outer, middle, 20 * outer), axis=-1)
    matrices = Rotation.from_euler(order, wanted, degrees=True).as_matrix()[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        angles = np.degrees(continuous_euler(matrices, order))[:, 0]
    np.testing.assert_allclose(angles, wanted, atol=1e-5)


def test_bvh_refuses_unsupported_motions(tmp_path, random_motion):
    motion = random_motion(1)
    mirrored = motion.rotations.copy()
    mirrored[2, 4, 0] *= -1
    broken = Motion(motion.root, mirrored, motion.skeleton, motion.fps, source="clip 7")
    with pytest.raises(InputError, match=r"clip 7: joint 'joint4' in frame 2 is not a rotation"):
        write_bvh(broken, tmp_path / "m.bvh")
    with pytest.raises(InputError, match="order 'ZXZ'"):
        write_bvh(motion, tmp_path / "m.bvh", order="ZXZ")
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="scale"):
            write_bvh(motion, tmp_path / "m.bvh", scale=scale)
    assert list(tmp_path.iterdir()) == []


_LOOK = """
for thing in list(bpy.data.objects):
    bpy.data.objects.remove(thing)
bpy.ops.import_anim.bvh(filepath=sys.argv[2], global_scale=1.0, axis_forward="-Z", axis_up="Y")
bones = [thing for thing in bpy.data.objects if thing.type == "ARMATURE"][0].data.bones
answer(poses=shown(1, int(sys.argv[3])), shortest=min(bone.length for bone in bones))
"""


def test_blender_shows_the_same_positions(tmp_path, random_motion, in_blender):
    motion = random_motion(5, frames=8, joints=15, locked=0.3)
    seen = in_blender(_LOOK, write_bvh(motion, tmp_path / "m.bvh"), len(motion))
    positions = np.load(write_npz(motion, tmp_path / "m.npz"))["positions"]
    for frame, pose in enumerate(seen["poses"]):
        for joint, name in enumerate(motion.skeleton.names):
            np.testing.assert_allclose(pose[name], positions[frame, joint], atol=1e-4)
    assert seen["shortest"] > 0.01
