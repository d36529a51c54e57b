"""Retargeting: the roles of the sets that are read, rigs with clavicles, joint maps, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.cli import main
from motiondiff.data.readers.body_shape import target_skeleton
from motiondiff.export import export
from motiondiff.skeleton.joint_matching import match_joints
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.retarget import retarget, retarget_with_residuals
from motiondiff.skeleton.skeleton import Skeleton
from motiondiff.skeleton.smpl import mean_skeleton

# the person's own skeleton: (part, parent part, offset in metres), left side; x left, y up, z front
TRUNK = (
    ("hips", None, (0, 0, 0)), ("spine", "hips", (0, 0.12, 0)), ("chest", "spine", (0, 0.3, 0)),
    ("neck", "chest", (0, 0.1, 0)), ("head", "neck", (0, 0.12, 0)),
)  # fmt: skip
LIMBS = (
    ("clavicle", "chest", (0.04, 0.06, 0)), ("upperarm", "clavicle", (0.15, 0, 0)),
    ("forearm", "upperarm", (0.28, 0, 0)), ("hand", "forearm", (0.25, 0, 0)),
    ("thigh", "hips", (0.09, -0.05, 0)), ("shin", "thigh", (0, -0.42, 0)), ("foot", "shin", (0, -0.4, 0)),
    ("toe", "foot", (0, -0.06, 0.13)),
)  # fmt: skip

NAMES: dict[str, Callable[[str, str], str]] = {
    "motionbuilder": lambda part, side: side + {
        "hips": "Hips", "spine": "Spine", "chest": "Spine1", "neck": "Neck", "head": "Head", "clavicle": "Shoulder",
        "upperarm": "Arm", "forearm": "ForeArm", "hand": "Hand", "thigh": "UpLeg", "shin": "Leg", "foot": "Foot",
        "toe": "ToeBase",
    }[part],
    "xsens": lambda part, side: side + {
        "hips": "Hips", "spine": "Chest", "chest": "Chest2", "neck": "Neck", "head": "Head", "clavicle": "Collar",
        "upperarm": "Shoulder", "forearm": "Elbow", "hand": "Wrist", "thigh": "Hip", "shin": "Knee", "foot": "Ankle",
        "toe": "Toe",
    }[part],
    "unreal": lambda part, side: {
        "hips": "pelvis", "spine": "spine_01", "chest": "spine_02", "neck": "neck_01", "foot": "foot", "toe": "ball",
        "forearm": "lowerarm", "shin": "calf",
    }.get(part, part) + (f"_{side[0].lower()}" if side else ""),
    "numbers": lambda part, side: f"joint{[p for p, *_ in (*TRUNK, *LIMBS)].index(part)}{side}",
}  # fmt: skip


def rig(kind: str, root: float | None = None) -> Skeleton:
    """The person with a program's names; ``root``: a frame of the world so far below the pelvis."""
    joints = [("Root", "", (0.0, 0.0, 0.0))] if root is not None else []
    for part, parent, offset in TRUNK:
        above = NAMES[kind](parent, "") if parent else ("Root" if root is not None else "")
        joints.append((NAMES[kind](part, ""), above, (0, root or 0, 0) if parent is None else offset))
    sided = {part for part, *_ in LIMBS}
    for side, sign in (("Left", 1), ("Right", -1)):
        for part, parent, (x, y, z) in LIMBS:
            above = NAMES[kind](parent, side if parent in sided else "")
            joints.append((NAMES[kind](part, side), above, (sign * x, y, z)))
    names = [name for name, *_ in joints]
    parents = [names.index(above) if above else -1 for _, above, _ in joints]
    return Skeleton(tuple(names), tuple(parents), np.array([offset for *_, offset in joints], dtype=np.float32))


def arms_down(skeleton: Skeleton, frames: int = 20, seed: int = 0) -> Motion:
    """The person with hanging arms, bent elbows, and all joints of limbs moving a little."""
    rng = np.random.default_rng(seed)
    rotations = np.tile(np.eye(3), (frames, len(skeleton), 1, 1))
    sway = np.sin(np.linspace(0, 6, frames))[:, None]
    for side, sign in (("left", 1), ("right", -1)):
        for part, base in (("shoulder", (0, 0, -65 * sign)), ("elbow", (0, -30 * sign, 0)), ("hip", (0, 0, 0))):
            joint = skeleton.roles[f"{side} {part}"]
            angles = np.array(base) + 15 * sway * rng.uniform(-1, 1, 3)
            rotations[:, joint] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    root = np.stack([np.zeros(frames), np.full(frames, 0.9), np.linspace(0, 1, frames)], axis=-1)
    return Motion(root.astype(np.float32), rotations.astype(np.float32), skeleton, fps=20)


def bone_angle(one: Motion, other: Motion, bone: tuple[str, str], joints: dict[str, int] | None = None) -> float:
    """Mean degrees between the same bone of two motions."""
    ends = [motion.positions[:, [found[end] for end in bone]] for motion, found in
            ((one, joints or one.skeleton.roles), (other, other.skeleton.roles))]  # fmt: skip
    a, b = (pair[:, 1] - pair[:, 0] for pair in ends)
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean())


KINECT_LIMBS = ("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "foot")


def test_roles_of_kinects_smpl_and_bandai_namco_stay():
    """Figures of the README rest on these."""
    for name, trunk in (
        ("kinect-v1", {"pelvis": "HipCenter", "neck": "ShoulderCenter", "head": "Head"}),
        ("kinect-v2", {"pelvis": "SpineBase", "neck": "SpineShoulder", "head": "Head"}),
    ):
        body = target_skeleton(name)
        expected = dict(trunk)
        for side in ("Left", "Right"):
            expected |= {f"{side.lower()} {part}": part.capitalize() + side for part in KINECT_LIMBS}
            if name == "kinect-v2":
                expected |= {f"{side.lower()} tip": f"HandTip{side}", f"{side.lower()} thumb": f"Thumb{side}"}
        assert {role: body.names[joint] for role, joint in body.roles.items()} == expected
    body = mean_skeleton(24)
    expected = {name: name for name in ("pelvis", "neck", "head")}
    for side in ("left", "right"):
        expected |= {f"{side} {part}": f"{side}_{part}" for part in ("collar", *KINECT_LIMBS)}
    assert {role: body.names[joint] for role, joint in body.roles.items()} == expected
    names = (
        "Hips", "Spine", "Chest", "Neck", "Head", "Shoulder_L", "UpperArm_L", "LowerArm_L", "Hand_L", "Shoulder_R",
        "UpperArm_R", "LowerArm_R", "Hand_R", "UpperLeg_L", "LowerLeg_L", "Foot_L", "Toes_L", "UpperLeg_R",
        "LowerLeg_R", "Foot_R", "Toes_R",
    )  # fmt: skip
    parents = (-1, 0, 1, 2, 3, 2, 5, 6, 7, 2, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)
    body = Skeleton(names, parents, np.ones((21, 3)))
    assert body.roles == {
        "pelvis": 0, "neck": 3, "head": 4,
        "left collar": 5, "left shoulder": 6, "left elbow": 7, "left wrist": 8,
        "right collar": 9, "right shoulder": 10, "right elbow": 11, "right wrist": 12,
        "left hip": 13, "left knee": 14, "left ankle": 15, "left foot": 16,
        "right hip": 17, "right knee": 18, "right ankle": 19, "right foot": 20,
    }  # fmt: skip
    assert body.left_right_pairs == ((13, 17), (6, 10)) and body.feet == (15, 16, 19, 20)


@pytest.mark.parametrize("target", ["smpl-22", "kinect-v1", "kinect-v2"])
@pytest.mark.parametrize("kind", ["motionbuilder", "xsens", "unreal"])
def test_arms_keep_their_direction(kind: str, target: str):
    """Taking the clavicle for the upper arm turns hanging arms by 20 degrees and more."""
    motion = arms_down(rig(kind, root=0.9 if kind == "unreal" else None))
    moved = retarget(motion, target_skeleton(target))
    for side in ("left", "right"):
        for bone in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
            ends = f"{side} {bone[0]}", f"{side} {bone[1]}"
            assert bone_angle(motion, moved, ends) < 8, (kind, target, ends)


def test_equal_names_of_other_parts_are_no_pair():
    """LeftShoulder is one rig's clavicle and the other's upper arm."""
    source, target = rig("motionbuilder"), rig("xsens")
    pairs = {target.names[a]: source.names[b] for a, b in match_joints(source, target).pairs.items()}
    assert (pairs["LeftCollar"], pairs["LeftShoulder"], pairs["LeftElbow"]) == (
        "LeftShoulder", "LeftArm", "LeftForeArm"
    )  # fmt: skip


def test_a_frame_of_the_world_above_the_pelvis():
    plain, framed = rig("motionbuilder"), rig("unreal", root=0.9)
    motion = arms_down(plain)
    moved = retarget(motion, framed)
    assert moved.residual < 0.005
    pelvis = framed.names.index("pelvis")
    np.testing.assert_allclose(moved.positions[:, pelvis], motion.positions[:, 0], atol=0.02)
    back = retarget(moved, plain)
    np.testing.assert_allclose(back.positions, motion.positions, atol=0.02)


def test_residual_detects_displaced_arms():
    motion, target = arms_down(rig("motionbuilder")), target_skeleton("kinect-v1")
    right = retarget_with_residuals(motion, target)
    clavicles = {f"{side.lower()} shoulder": f"{side}Shoulder" for side in ("Left", "Right")}
    wrong = retarget_with_residuals(motion, target, clavicles)
    assert wrong.motion.residual > right.motion.residual + 0.005
    for name in ("ElbowLeft", "ElbowRight"):
        assert wrong.joint_residuals[name] > right.joint_residuals[name] + 0.02
    angles = [bone_angle(motion, result.motion, ("left shoulder", "left elbow")) for result in (right, wrong)]
    assert angles[0] < 8 < 15 < angles[1]


# the command


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    return export(arms_down(rig("motionbuilder")), tmp_path / "walk.bvh")


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err.strip().split("motiondiff: ")[-1]  # without what the reader logs


def test_retarget_command(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "moved.npz"
    status, text, _ = call(capsys, "retarget", walk, "--to", "smpl-22", "--out", out, "--json")
    result = json.loads(text)
    assert status == 0 and result["frames"] == 20 and 0 < result["residual_mm"] < 40
    assert result["roles"]["left shoulder"] == {"source": "LeftArm", "target": "left_shoulder"}
    assert result["joints"]["left_collar"]["source"] == "LeftShoulder"
    assert all(0 <= row["residual_mm"] < 80 for row in result["joints"].values())
    with np.load(out) as arrays:
        assert tuple(arrays["joint_names"]) == mean_skeleton(22).names
    status, _, message = call(capsys, "retarget", walk, "--to", "smpl-22", "--out", out)
    assert status == 2 and "--overwrite" in message
    status, text, _ = call(capsys, "retarget", walk, "--to", out, "--out", tmp_path / "again.bvh")
    assert status == 0 and "from LeftArm" in text and (tmp_path / "again.bvh").is_file()


def test_retarget_with_a_joint_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    known, numbered = rig("motionbuilder"), rig("numbers")
    motion = arms_down(known)
    file = export(Motion(motion.root, motion.rotations, numbered, motion.fps), tmp_path / "n.npz")
    out = tmp_path / "moved.npz"
    status, _, message = call(capsys, "retarget", file, "--to", "smpl-22", "--out", out)
    assert status == 2 and "no joint is the left hip by name" in message and "--map" in message and str(file) in message
    lines = [f"{role}: {numbered.names[joint]}" for role, joint in known.roles.items()]
    lines[1] = lines[1].replace("left shoulder", "left_shoulder")  # a joint of the target is as good as its role
    (tmp_path / "map.yaml").write_text("\n".join(lines))
    status, _, _ = call(capsys, "retarget", file, "--to", "smpl-22", "--map", tmp_path / "map.yaml", "--out", out)
    assert status == 0
    expected = retarget(motion, target_skeleton("smpl-22"))
    with np.load(out) as arrays:
        np.testing.assert_allclose(arrays["positions"], expected.positions, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("left shulder: LeftArm", "'left shulder': did you mean 'left shoulder'"),
        ("left shoulder: LeftArmm", "'LeftArmm': did you mean 'LeftArm'"),
        ("left shoulder: LeftArm\nleft_shoulder: LeftArm", "named twice"),
        ("- left shoulder", "must hold a mapping"),
        ("left shoulder: [LeftArm]", "is not a joint name"),
        ("left hip: null", "no joint is the left hip"),
        ("a: b: c", "not readable as YAML"),
    ],
)
def test_joint_maps_that_are_refused(
    walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
):
    (tmp_path / "map.yaml").write_text(content)
    out = tmp_path / "o.npz"
    status, _, message = call(capsys, "retarget", walk, "--to", "smpl-22", "--map", tmp_path / "map.yaml", "--out", out)
    assert status == 2 and words in message and "map.yaml" in message and "\n" not in message and not out.exists()


def test_a_joint_left_free(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "map.yaml").write_text("left collar: null\n")
    words = ("--to", "smpl-22", "--map", tmp_path / "map.yaml", "--out", tmp_path / "o.npz", "--json")
    status, text, _ = call(capsys, "retarget", walk, *words)
    assert status == 0 and "left_collar" not in json.loads(text)["joints"]


def test_retarget_refuses_other_outputs(walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, _, message = call(capsys, "retarget", walk, "--to", "smpl-22", "--out", tmp_path / "o.fbx")
    assert status == 2 and ".bvh" in message
    with pytest.raises(InputError, match="role or joint of the target"):
        retarget(arms_down(rig("motionbuilder")), target_skeleton("kinect-v1"), {"left collar": "LeftShoulder"})
