from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.skeleton.inverse_kinematics import body_axes, estimate_skeleton, fit_rotations, kabsch, swing_rotation
from motiondiff.skeleton.kinect import KINECT_V1
from motiondiff.skeleton.kinematics import forward_kinematics
from motiondiff.skeleton.skeleton import Skeleton


def rebuild(root, rotations, skeleton):
    offsets = torch.from_numpy(skeleton.offsets.astype(np.float64))
    return forward_kinematics(torch.from_numpy(root), torch.from_numpy(rotations), offsets, skeleton.parents)[0].numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("refinements", [0, 5])
def test_clean_positions_come_back(moving_kinect, kinect_rest, seed, refinements):
    positions = moving_kinect(seed=seed, amount=0.7)
    root, rotations, residual = fit_rotations(positions, kinect_rest, refinements=refinements)
    assert np.abs(rebuild(root, rotations, kinect_rest) - positions).max() < 1e-4
    assert residual.max() < 1e-4
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-9)


def test_a_person_turning_is_fitted_in_any_direction(moving_kinect, kinect_rest):
    for yaw in (0, 90, 180, 271):
        turned = moving_kinect() @ Rotation.from_euler("Y", yaw, degrees=True).as_matrix().T
        root, rotations, _ = fit_rotations(turned, kinect_rest)
        assert np.abs(rebuild(root, rotations, kinect_rest) - turned).max() < 1e-4


def test_skeleton_has_the_lengths_of_the_clips_and_stands_in_a_t_pose(moving_kinect, kinect_rest):
    clips = [moving_kinect(seed=seed, amount=0.2) for seed in range(3)]
    skeleton = estimate_skeleton(clips, KINECT_V1.names, KINECT_V1.parents)
    np.testing.assert_allclose(skeleton.bone_lengths, kinect_rest.bone_lengths, atol=1e-5)
    np.testing.assert_allclose(skeleton.offsets[skeleton.index("KneeLeft")], [0, -0.42, 0], atol=1e-5)
    np.testing.assert_allclose(skeleton.offsets[skeleton.index("HandRight")], [-0.08, 0, 0], atol=1e-5)
    np.testing.assert_allclose(skeleton.offsets[skeleton.index("FootLeft")], [0, 0, 0.1], atol=1e-5)
    # the hips leave the pelvis together: their shape is kept, and turned to face the front
    assert (
        skeleton.offsets[skeleton.index("HipLeft")][0] > 0.06 > -0.06 > skeleton.offsets[skeleton.index("HipRight")][0]
    )
    for clip in clips:
        root, rotations, residual = fit_rotations(clip, skeleton)
        assert residual.max() < 1e-4
        assert np.abs(rebuild(root, rotations, skeleton) - clip).max() < 1e-4


def test_wrong_lengths_do_not_add_up_along_a_limb():
    # four bones of 0.30 m in a row, seen as 0.27 m: if each joint aimed at the direction of its bone the tip would be
    # 0.12 m off; aiming at the observed child from the rebuilt joint keeps each joint within one bone's error
    names = ("root", *(f"link {index}" for index in range(4)))
    skeleton = Skeleton(names, (-1, 0, 1, 2, 3), np.array([[0, 0, 0], *[[0, 0.3, 0]] * 4], dtype=np.float32))
    angle = np.radians([10, 80, 20, 90])
    bones = np.stack([np.zeros(4), np.cos(angle), np.sin(angle)], axis=-1) * 0.27
    positions = np.concatenate([np.zeros((1, 3)), np.cumsum(bones, axis=0)])[None]
    _, _, residual = fit_rotations(positions, skeleton, refinements=0)
    assert residual.max() < 0.05
    _, _, refined = fit_rotations(positions, skeleton)
    assert (refined**2).sum() < (residual**2).sum()


def test_refinement_never_makes_the_squares_larger(moving_kinect, kinect_rest):
    noisy = moving_kinect() + np.random.default_rng(1).normal(scale=0.02, size=(40, 20, 3))
    squares = [(fit_rotations(noisy, kinect_rest, refinements=count)[2] ** 2).sum() for count in range(6)]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(squares))


def test_bones_that_lie_on_one_line_or_on_one_point_still_give_rotations(kinect_rest):
    for positions in (np.zeros((3, 20, 3)), np.arange(20)[None, :, None] * np.array([[[0.0, 0.1, 0.0]]])):
        _, rotations, _ = fit_rotations(positions, kinect_rest)
        np.testing.assert_allclose(rotations @ rotations.swapaxes(-1, -2), np.eye(3) + 0 * rotations, atol=1e-9)
        np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-9)


def test_body_axes_of_someone_who_faces_minus_x(moving_kinect):
    still = moving_kinect(amount=0.0)
    axes = body_axes(still @ Rotation.from_euler("Y", -90, degrees=True).as_matrix().T, _topology())
    # the front is at right angles to the trunk, which leans 2 cm to the front over 38 cm: 3 degrees
    lean = np.arctan2(0.02, 0.31 + 0.07)
    np.testing.assert_allclose(axes[0][:, 2], [-np.cos(lean), -np.sin(lean), 0], atol=1e-9)
    np.testing.assert_allclose(axes[0][:, 0], [0, 0, 1], atol=1e-9)


def _topology():
    return Skeleton(KINECT_V1.names, KINECT_V1.parents, np.zeros((20, 3), dtype=np.float32))


def test_kabsch_finds_a_known_rotation():
    rotation = Rotation.from_rotvec([0.3, -2.0, 0.5]).as_matrix()
    source = np.random.default_rng(0).normal(size=(4, 3))
    found = kabsch(source, (source @ rotation.T)[None], np.eye(3)[None])
    np.testing.assert_allclose(found[0], rotation, atol=1e-5)


direction = st.tuples(*[st.floats(-1, 1, allow_subnormal=False)] * 3).filter(lambda v: np.linalg.norm(v) > 1e-3)


@settings(max_examples=100, deadline=None)
@given(direction, direction)
def test_swing_turns_one_direction_onto_the_other_by_the_angle_between(a, b):
    turn = swing_rotation(np.array([a]), np.array([b]))[0]
    a, b = np.array(a) / np.linalg.norm(a), np.array(b) / np.linalg.norm(b)
    np.testing.assert_allclose(turn @ a, b, atol=1e-3)
    angle = np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)
    assert Rotation.from_matrix(turn).magnitude() == pytest.approx(angle, abs=1e-3)


def test_swing_between_opposites_is_a_half_turn():
    for vector in np.eye(3):
        turn = swing_rotation(vector[None], -vector[None])[0]
        np.testing.assert_allclose(turn @ vector, -vector, atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1)


def test_unfittable_positions_are_refused(kinect_rest):
    with pytest.raises(InputError, match=r"positions \(3, 19, 3\) given"):
        fit_rotations(np.zeros((3, 19, 3)), kinect_rest)
    bad = np.zeros((3, 20, 3))
    bad[2, 5] = np.nan
    with pytest.raises(InputError, match="frame 2"):
        fit_rotations(bad, kinect_rest)
    with pytest.raises(InputError, match="no clips"):
        estimate_skeleton([], KINECT_V1.names, KINECT_V1.parents)
