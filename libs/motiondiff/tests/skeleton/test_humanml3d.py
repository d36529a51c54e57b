"""HumanML3D's vectors against the set's own files, and there and back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from published_formats import moving

from icube_common.errors import InputError
from motiondiff.skeleton.humanml3d import (
    bone_lengths,
    joints_to_vectors,
    set_bone_lengths,
    vectors_to_joints,
    yaw_matrix,
)
from motiondiff.skeleton.smpl import mean_skeleton

ROOT = Path(__file__).resolve().parents[4]
SMOOTHED = 80
"""Frames that the smoothing of the heading reaches, four standard deviations."""


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    """The published clip 012314: (170, 22, 3) joints and (170, 263) vectors."""
    data = Path(os.environ.get("ICUBE_DATA", ROOT.parent / "shared" / "data"))
    folder = data / "motion" / "humanml3d_sample" / "HumanML3D"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in {folder.parent}")
    return np.load(folder / "new_joints" / "012314.npy"), np.load(folder / "new_joint_vecs" / "012314.npy")


@pytest.mark.real_data
def test_the_sets_own_vectors_give_its_joints(sample):
    joints, vectors = sample
    assert np.abs(vectors_to_joints(vectors) - joints).max() < 1e-6


@pytest.mark.real_data
def test_the_sets_own_joints_give_its_vectors(sample):
    joints, vectors = sample
    made = joints_to_vectors(joints)
    difference = np.abs(made - vectors[:-1])
    # the joints lack the set's last frame, which the smoothed heading of the last 80 frames still sees
    assert difference[:-SMOOTHED].max() < 1e-5
    assert difference.max() < 0.02
    assert (difference[:, 259:] == 0).all() and difference[:, 3].max() < 1e-6


@pytest.mark.real_data
def test_the_sets_joints_there_and_back(sample):
    joints, _ = sample
    assert np.abs(vectors_to_joints(joints_to_vectors(joints)) - joints[:-1]).max() < 1e-6


def test_any_joints_there_and_back():
    joints = moving(mean_skeleton(22), frames=40, seed=3).positions.astype(np.float64)
    joints[..., 0] += np.linspace(0, 2, 40)[:, None]
    vectors = joints_to_vectors(joints)
    assert vectors.shape == (39, 263) and vectors.dtype == np.float32
    back = vectors_to_joints(vectors)
    assert back[:, :, 1].min() > -1e-6 and np.abs(back[0, 0, [0, 2]]).max() < 1e-6
    distances = [np.linalg.norm(p[:, :, None] - p[:, None], axis=-1) for p in (back, joints[:-1])]
    np.testing.assert_allclose(*distances, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(back[:, 0], axis=0), axis=-1), np.linalg.norm(np.diff(joints[:-1, 0], axis=0), axis=-1),
        atol=1e-5,
    )  # fmt: skip
    # turned and shifted as a whole they are the same vectors
    turned = joints @ yaw_matrix([1.3])[0].T + (5, 1, -2)
    np.testing.assert_allclose(joints_to_vectors(turned), vectors, atol=2e-5)


def test_a_still_body_stands():
    joints = np.repeat(moving(mean_skeleton(22), frames=1).positions, 5, axis=0)
    vectors = joints_to_vectors(joints)
    # the first frame's heading is +z by decree, the others' the set's own mixture of hips and shoulders
    assert np.abs(vectors[1:, 0]).max() < 1e-6
    assert np.abs(vectors[:, [1, 2]]).max() < 1e-6 and np.abs(vectors[:, 193:259]).max() < 1e-6
    assert (vectors[:, 259:] == 1).all()


def test_another_bodys_lengths():
    joints = moving(mean_skeleton(22), frames=5, seed=1).positions.astype(np.float64)
    wanted = 1.2 * bone_lengths(joints)
    np.testing.assert_allclose(bone_lengths(set_bone_lengths(joints, wanted)), wanted, atol=1e-9)
    np.testing.assert_allclose(set_bone_lengths(joints, wanted), 1.2 * joints, atol=1e-5)
    with pytest.raises(InputError, match="22 positive numbers"):
        set_bone_lengths(joints, np.zeros(22))


@pytest.mark.parametrize(
    ("call", "value", "message"),
    [
        (joints_to_vectors, np.zeros((1, 22, 3)), "2 or more frames"),
        (joints_to_vectors, np.zeros((4, 24, 3)), r"\(4, 24, 3\) given"),
        (joints_to_vectors, np.full((4, 22, 3), np.nan), "frame 0 is not finite"),
        (vectors_to_joints, np.zeros((4, 262)), r"\(frames, 263\) expected"),
        (vectors_to_joints, np.full((4, 263), np.inf), "frame 0 holds NaN or infinity"),
    ],
)
def test_other_arrays_are_refused(call, value, message):
    with pytest.raises(InputError, match=message):
        call(value)
