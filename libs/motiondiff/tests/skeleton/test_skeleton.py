"""Skeletons, rotations, forward kinematics and the common frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion, synthetic_skeleton
from motiondiff.skeleton.kinect import KINECT_V1
from motiondiff.skeleton.kinematics import (
    forward_kinematics,
    matrix_to_rotation_6d,
    positions_from_6d,
    rotation_6d_to_matrix,
)
from motiondiff.skeleton.mirror import mirror
from motiondiff.skeleton.motion import Motion, RigidTransform, apply_transform, canonicalise, headings
from motiondiff.skeleton.skeleton import Skeleton

CHAIN = Skeleton(("hip", "knee", "ankle"), (-1, 0, 1), np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]]))


def turn(axis: str, degrees: float) -> np.ndarray:
    return Rotation.from_euler(axis, degrees, degrees=True).as_matrix().astype(np.float32)


def test_forward_kinematics_of_a_bent_chain() -> None:
    rotations = np.stack([turn("z", 90), turn("x", 90), turn("y", 37)])[None]
    motion = Motion(np.array([[5, 1, 2]]), rotations, CHAIN, fps=10)
    # 90 degrees about z take x to y: the knee is 1 above the hip. About its own x, 90 degrees take y to z, which the
    # hip's turn leaves alone: the ankle is 2 in front of the knee. The ankle's own turn moves nothing.
    np.testing.assert_allclose(motion.positions[0], [[5, 1, 2], [5, 2, 2], [5, 2, 4]], atol=1e-6)


def test_forward_kinematics_gives_world_rotations_and_broadcasts_offsets() -> None:
    rotations = torch.from_numpy(np.stack([turn("z", 90), turn("x", 90), turn("y", 37)]))
    batch = rotations.expand(4, 6, 3, 3, 3)
    lengths = torch.tensor([1.0, 2, 3, 4])[:, None, None, None] * torch.tensor(CHAIN.offsets)
    positions, world = forward_kinematics(torch.zeros(4, 6, 3), batch, lengths, CHAIN.parents)
    torch.testing.assert_close(
        world[3, 5],
        torch.stack(
            [batch[0, 0, 0], batch[0, 0, 0] @ batch[0, 0, 1], batch[0, 0, 0] @ batch[0, 0, 1] @ batch[0, 0, 2]]
        ),
    )
    torch.testing.assert_close(positions[2], 3 * positions[0])


def test_positions_from_6d_are_those_of_forward_kinematics() -> None:
    """Branches of unequal depth and joint numbers that jump between them; rotations of leaves have no gradient."""
    parents = (-1, 0, 1, 0, 3, 4, 1, 3)
    leaves = [2, 5, 6, 7]
    generator = torch.Generator().manual_seed(0)
    six = torch.randn(3, 5, 8, 6, generator=generator, dtype=torch.float64).requires_grad_()
    root = torch.randn(3, 5, 3, generator=generator, dtype=torch.float64)
    offsets = torch.randn(3, 1, 8, 3, generator=generator, dtype=torch.float64)
    direct = positions_from_6d(root, six, offsets, parents)
    rotations = rotation_6d_to_matrix(six)
    positions, _ = forward_kinematics(root, rotations, offsets, parents)
    torch.testing.assert_close(direct, positions)
    # joint by joint, from the definition
    world, place = [rotations[:, :, 0]], [root]
    for joint, parent in enumerate(parents[1:], start=1):
        place.append(place[parent] + (world[parent] @ offsets[:, :, joint, :, None]).squeeze(-1))
        world.append(world[parent] @ rotations[:, :, joint])
    torch.testing.assert_close(direct, torch.stack(place, dim=2))
    (gradient,) = torch.autograd.grad(direct.square().sum(), six, retain_graph=True)
    (expected,) = torch.autograd.grad(torch.stack(place, dim=2).square().sum(), six)
    torch.testing.assert_close(gradient, expected)
    assert not gradient[:, :, leaves].any() and gradient[:, :, [0, 1, 3, 4]].any(dim=-1).all()


def test_six_numbers_are_the_first_two_columns() -> None:
    matrix = torch.arange(9.0).reshape(3, 3)
    assert matrix_to_rotation_6d(matrix).tolist() == [0, 3, 6, 1, 4, 7]


def test_rotation_6d_round_trip() -> None:
    matrices = torch.tensor(Rotation.random(200, random_state=0).as_matrix(), dtype=torch.float32)
    torch.testing.assert_close(rotation_6d_to_matrix(matrix_to_rotation_6d(matrices)), matrices, atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_any_six_numbers_give_a_rotation_with_a_finite_gradient(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    features = (scale * torch.randn(50, 6, generator=generator)).requires_grad_()
    matrices = rotation_6d_to_matrix(features)
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3).expand(50, 3, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(50), atol=1e-4, rtol=0)
    matrices[:, 0, 2].sum().backward()
    assert features.grad is not None and torch.isfinite(features.grad).all()
    assert features.grad.abs().max() > 0


def test_degenerate_six_numbers_have_a_finite_gradient() -> None:
    features = torch.tensor([[0.0] * 6, [1, 0, 0, 1, 0, 0]], requires_grad=True)
    rotation_6d_to_matrix(features).sum().backward()
    assert features.grad is not None and torch.isfinite(features.grad).all()


@pytest.mark.parametrize(
    ("names", "parents", "offsets", "words"),
    [
        (("a", "b"), (-1,), np.zeros((2, 3)), "2 names, 1 parents"),
        (("a", "b"), (-1, 0), np.zeros((3, 3)), r"offsets \(3, 3\)"),
        ((), (), np.zeros((0, 3)), "0 names"),
        (("a", "a"), (-1, 0), np.zeros((2, 3)), "unique, repeated: a"),
        (("a", "b"), (0, 0), np.zeros((2, 3)), "'a' has parent 0"),
        (("a", "b"), (-1, 1), np.zeros((2, 3)), "'b' has parent 1"),
        (("a", "b"), (-1, -1), np.zeros((2, 3)), "'b' has parent -1"),
        (("a", "b"), (-1, -2), np.zeros((2, 3)), "'b' has parent -2"),
        (("a", "b"), (-1, 0), np.array([[0, 0, 0], [0, np.nan, 0]]), "finite"),
    ],
)
def test_skeleton_refuses(names: tuple[str, ...], parents: tuple[int, ...], offsets: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Skeleton(names, parents, offsets)


def test_root_offset_is_zero_and_offsets_cannot_be_written() -> None:
    given = np.ones((3, 3))
    skeleton = Skeleton(("a", "b", "c"), (-1, 0, 1), given)
    assert skeleton.offsets[0].tolist() == [0, 0, 0]
    assert given[0].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        skeleton.offsets[1] = 0


def test_with_bone_lengths_keeps_directions() -> None:
    longer = CHAIN.with_bone_lengths([99, 3, 0.5])
    assert longer.offsets.tolist() == [[0, 0, 0], [3, 0, 0], [0, 0.5, 0]]
    assert longer.bone_lengths.tolist() == [0, 3, 0.5]
    assert longer.same_topology(CHAIN)


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([1, 2], r"\(2,\) given, \(3,\) wanted"),
        ([0, -1, 1], "not negative"),
        ([0, np.inf, 1], "finite"),
    ],
)
def test_with_bone_lengths_refuses(lengths: list[float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        CHAIN.with_bone_lengths(lengths)


def test_a_bone_without_direction_gets_no_length() -> None:
    skeleton = Skeleton(("a", "b"), (-1, 0), np.zeros((2, 3)))
    with pytest.raises(InputError, match="'b': its rest offset is zero"):
        skeleton.with_bone_lengths([0, 1])
    assert skeleton.with_bone_lengths([0, 0]).bone_lengths.tolist() == [0, 0]


def test_unknown_joint_names_the_nearest() -> None:
    with pytest.raises(InputError, match="'Knee': did you mean 'knee'"):
        CHAIN.index("Knee")


CONVENTIONS = {
    "bandai-namco": ("Hips", "UpperLeg_L", "UpperLeg_R", "Shoulder_L", "Shoulder_R", "UpperArm_L", "UpperArm_R"),
    "mixamo": (
        "mixamorig:Hips", "mixamorig:LeftUpLeg", "mixamorig:RightUpLeg",
        "mixamorig:LeftShoulder", "mixamorig:RightShoulder", "mixamorig:LeftArm", "mixamorig:RightArm",
    ),
    "cmu": ("Hips", "LeftUpLeg", "RightUpLeg", "LeftForeArm", "RightForeArm", "LeftArm", "RightArm"),
    "snake": ("pelvis", "left_hip", "right_hip", "left_elbow", "right_elbow", "left_shoulder", "right_shoulder"),
    "smpl": ("Pelvis", "L_Hip", "R_Hip", "L_Elbow", "R_Elbow", "L_Shoulder", "R_Shoulder"),
    "unreal": ("pelvis", "thigh_l", "thigh_r", "lowerarm_l", "lowerarm_r", "upperarm_l", "upperarm_r"),
    "biped": (
        "Bip01", "Bip01 L Thigh", "Bip01 R Thigh",
        "Bip01 L Forearm", "Bip01 R Forearm", "Bip01 L UpperArm", "Bip01 R UpperArm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_hips_and_shoulders_are_found_by_name(convention: str) -> None:
    names = CONVENTIONS[convention]
    skeleton = Skeleton(names, (-1, *[0] * (len(names) - 1)), np.zeros((len(names), 3)))
    hips, shoulders = skeleton.left_right_pairs
    assert hips == (1, 2)
    # the shoulders are the last two names; mixamo's "shoulders" before them are clavicles
    assert shoulders == (5, 6)


def test_kinect_joints_are_found_by_name() -> None:
    skeleton = Skeleton(KINECT_V1.names, KINECT_V1.parents, np.zeros((20, 3)))
    found = [tuple(KINECT_V1.names[joint] for joint in pair) for pair in skeleton.left_right_pairs]
    assert found == [("HipLeft", "HipRight"), ("ShoulderLeft", "ShoulderRight")]
    assert {KINECT_V1.names[joint] for joint in skeleton.feet} == {"AnkleLeft", "AnkleRight", "FootLeft", "FootRight"}


def test_names_without_sides_give_no_sides() -> None:
    assert CHAIN.left_right_pairs == ()
    motion = Motion(np.zeros((2, 3)), np.tile(np.eye(3), (2, 3, 1, 1)), CHAIN, fps=10)
    assert headings(motion).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("names", "parents", "feet"),
    [
        (("hips", "l_knee", "l_foot", "l_toe"), (-1, 0, 1, 2), (2, 3)),
        (("hips", "LeftLeg", "LeftFoot"), (-1, 0, 1), (1, 2)),
        (("hips", "left_ankle"), (-1, 0), (1,)),
        (("a", "b"), (-1, 0), ()),
    ],
)
def test_feet(names: tuple[str, ...], parents: tuple[int, ...], feet: tuple[int, ...]) -> None:
    assert Skeleton(names, parents, np.zeros((len(names), 3))).feet == feet


@pytest.mark.parametrize("yaw", [0.0, 30, 90, 180, -120])
def test_heading_is_the_turn_from_z(yaw: float) -> None:
    skeleton = synthetic_skeleton()
    rotations = np.tile(np.eye(3), (1, len(skeleton), 1, 1))
    rotations[:, 0] = turn("y", yaw)
    motion = Motion(np.zeros((1, 3)), rotations, skeleton, fps=10)
    # a body turned by 90 degrees faces +x: its left hip then lies towards -z
    expected = np.radians(yaw)
    assert np.cos(headings(motion)[0] - expected) == pytest.approx(1, abs=1e-6)
    if yaw == 90:
        left, right = skeleton.left_right_pairs[0]
        np.testing.assert_allclose(motion.positions[0, left] - motion.positions[0, right], [0, 0, -0.18], atol=1e-6)


def test_place_turns_then_shifts() -> None:
    motion = Motion(np.array([[0, 1, 2]]), np.eye(3)[None, None], Skeleton(("a",), (-1,), np.zeros((1, 3))), fps=10)
    moved = apply_transform(motion, RigidTransform(np.pi / 2, (10, 0, 0)))
    np.testing.assert_allclose(moved.root, [[12, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(moved.rotations[0, 0], turn("y", 90), atol=1e-6)


def test_canonicalise_and_back() -> None:
    away = apply_transform(simulate_motion("walk", 4), RigidTransform(2.2, (3.0, 0.7, -1.5)))
    common, back = canonicalise(away)
    assert np.abs(common.root[0, [0, 2]]).max() < 1e-6
    assert abs(headings(common)[0]) < 1e-6
    assert np.percentile(common.positions[..., 1].min(axis=1), 1) == pytest.approx(0, abs=1e-5)
    again = apply_transform(common, back)
    np.testing.assert_allclose(again.root, away.root, atol=1e-5)
    np.testing.assert_allclose(again.positions, away.positions, atol=1e-5)
    np.testing.assert_allclose(again.rotations, away.rotations, atol=1e-5)


def test_canonicalise_on_a_given_floor() -> None:
    motion = simulate_motion("wave", 1)
    common, back = canonicalise(motion, floor=0.25)
    assert back.translation[1] == 0.25
    np.testing.assert_allclose(common.root[:, 1], motion.root[:, 1] - 0.25, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": np.zeros((0, 3)), "rotations": np.zeros((0, 3, 3, 3))}, "no frames"),
        ({"rotations": np.zeros((2, 2, 3, 3))}, "do not fit a skeleton of 3 joints"),
        ({"root": np.array([[0, 0, 0], [0, np.nan, 0]])}, "frame 1 holds NaN"),
        ({"fps": 0.0}, "fps 0.0 must be positive"),
        ({"fps": np.nan}, "fps nan must be positive"),
    ],
)
def test_motion_refuses(changes: dict[str, object], words: str) -> None:
    values = {"root": np.zeros((2, 3)), "rotations": np.tile(np.eye(3), (2, 3, 1, 1)), "skeleton": CHAIN, "fps": 10.0}
    with pytest.raises(InputError, match=words):
        Motion(**{**values, **changes})  # type: ignore[arg-type]


def test_cut() -> None:
    motion = simulate_motion("walk", 0)
    part = motion.cut(3, 10)
    assert len(part) == 7 and part.seconds == pytest.approx(0.35)
    np.testing.assert_array_equal(part.root, motion.root[3:10])
    for start, stop in ((5, 5), (-1, 3), (0, len(motion) + 1)):
        with pytest.raises(InputError, match="are not within"):
            motion.cut(start, stop)


def test_a_motion_seen_in_a_mirror(store: MotionStore) -> None:
    motion = store[0]
    seen = mirror(motion)
    order = list(motion.skeleton.mirror_indices)
    np.testing.assert_allclose(seen.positions, motion.positions[:, order] * np.array([-1, 1, 1]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(seen.rotations), 1, atol=1e-5)
    back = mirror(seen)
    np.testing.assert_array_equal(back.rotations, motion.rotations)
    np.testing.assert_array_equal(back.skeleton.offsets, motion.skeleton.offsets)
