"""Variations of clips: a tempo that never runs backwards, a posture that leaves the body as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from icube_common.training import SampleRef
from motiondiff.config import DataConfig
from motiondiff.data.dataset import MotionDataset
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion, synthetic_skeleton
from motiondiff.data.variation import LEG_SHARE, legs, vary_posture, vary_tempo
from motiondiff.skeleton.kinematics import forward_kinematics, matrix_to_rotation_6d, rotation_6d_to_matrix

Array = np.ndarray


def ramp(frames: int) -> Array:
    """One feature that is the number of the frame, and one of ones."""
    return np.stack([np.arange(frames), np.ones(frames)], axis=1).astype(np.float32)


@pytest.mark.parametrize("amount", [0.1, 0.5, 0.95])
def test_time_runs_forward_from_the_first_frame_to_the_last(amount: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        made = vary_tempo(ramp(30), amount, rng, shortest=8, longest=100)
        assert made[0].tolist() == [0, 1] and made[-1].tolist() == pytest.approx([29, 1], abs=1e-5)
        assert (np.diff(made[:, 0]) > 0).all() and made[:, 1] == pytest.approx(1, abs=1e-6)
        assert made.dtype == np.float32


def test_lengths_follow_the_factor_within_the_limits() -> None:
    rng = np.random.default_rng(0)
    lengths = [len(vary_tempo(ramp(40), 0.25, rng, shortest=8, longest=1000)) for _ in range(500)]
    assert min(lengths) == 32 and max(lengths) == 50  # 40 / 1.25 and 40 * 1.25
    assert np.log(np.array(lengths) / 40).mean() == pytest.approx(0, abs=0.02)
    for limits in ({"shortest": 38, "longest": 42}, {"shortest": 100, "longest": 42}):
        lengths = [len(vary_tempo(ramp(40), 0.5, rng, **limits)) for _ in range(100)]
        assert min(lengths) == min(limits["shortest"], 40) and max(lengths) == 42
    assert len(vary_tempo(ramp(1), 0.5, rng, shortest=8, longest=100)) == 1


def test_no_change_of_the_tempo_is_no_change() -> None:
    made = vary_tempo(ramp(25), 0.0, np.random.default_rng(0), shortest=8, longest=100)
    assert made == pytest.approx(ramp(25), abs=1e-5)


def features_of(action: str = "walk") -> Array:
    motion = simulate_motion(action, 0, fps=10)
    six = matrix_to_rotation_6d(torch.from_numpy(motion.rotations)).reshape(len(motion), -1)
    return np.concatenate([motion.root, six.numpy()], axis=1).astype(np.float32)


def rotations_of(features: Array) -> Array:
    return np.asarray(rotation_6d_to_matrix(torch.from_numpy(features[:, 3:]).reshape(len(features), -1, 6)).numpy())


def test_a_posture_turns_joints_by_constant_angles_but_root_and_ends() -> None:
    skeleton, features = synthetic_skeleton(), features_of()
    made = vary_posture(features, skeleton, 20.0, np.random.default_rng(3))
    assert made.shape == features.shape and made.dtype == np.float32
    np.testing.assert_array_equal(made[:, :3], features[:, :3])
    before, after = rotations_of(features), rotations_of(made)
    assert after @ after.swapaxes(-1, -2) == pytest.approx(np.broadcast_to(np.eye(3), after.shape), abs=1e-5)
    turns = before.swapaxes(-1, -2) @ after
    assert turns == pytest.approx(np.broadcast_to(turns[:1], turns.shape), abs=1e-5)
    angles = np.degrees(np.arccos(np.clip((np.trace(turns[0], axis1=-2, axis2=-1) - 1) / 2, -1, 1)))
    ends = sorted(set(range(len(skeleton))) - set(skeleton.parents))
    assert [skeleton.names[joint] for joint in ends] == ["left_toe", "right_toe", "head", "left_wrist", "right_wrist"]
    assert angles[[0, *ends]] == pytest.approx(0, abs=0.1)
    others = [joint for joint in range(1, len(skeleton)) if joint not in ends]
    assert (angles[others] > 0.5).all()


def test_a_posture_leaves_bones_and_the_roots_path() -> None:
    skeleton, features = synthetic_skeleton(), features_of()
    made = vary_posture(features, skeleton, 15.0, np.random.default_rng(3))
    rotations = torch.from_numpy(rotations_of(made))
    offsets = torch.tensor(skeleton.offsets)
    positions = forward_kinematics(torch.from_numpy(made[:, :3]), rotations, offsets, skeleton.parents)[0].numpy()
    bones = np.linalg.norm(positions[:, 1:] - positions[:, list(skeleton.parents[1:])], axis=-1)
    assert bones == pytest.approx(np.broadcast_to(skeleton.bone_lengths[1:], bones.shape), abs=1e-5)
    np.testing.assert_array_equal(positions[:, 0], features[:, :3])


def test_legs_are_turned_less_than_other_joints() -> None:
    skeleton, features = synthetic_skeleton(), features_of()[:1]
    lower = [skeleton.names[joint] for joint in legs(skeleton)]
    assert lower == [f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle", "toe")]
    rng, squares = np.random.default_rng(0), np.zeros(len(skeleton))
    before = rotations_of(features)
    for _ in range(2000):
        turns = before.swapaxes(-1, -2) @ rotations_of(vary_posture(features, skeleton, 5.0, rng))
        squares += np.arccos(np.clip((np.trace(turns[0], axis1=-2, axis2=-1) - 1) / 2, -1, 1)) ** 2
    # the length of a vector of three components of 5 degrees
    degrees = np.degrees(np.sqrt(squares / 2000 / 3))
    for name in ("spine", "chest", "left_shoulder", "right_elbow"):
        assert degrees[skeleton.index(name)] == pytest.approx(5, rel=0.1)
    for name in ("left_hip", "right_knee"):
        assert degrees[skeleton.index(name)] == pytest.approx(5 * LEG_SHARE, rel=0.1)


def test_windows_are_varied_in_training_alone_and_reproducibly(store: MotionStore) -> None:
    plain = DataConfig(max_frames=24, min_frames=8, crop_probability=0.0, stature_range=0.0)
    varied = replace(plain, tempo_range=0.3, posture_degrees=8.0)
    clips = store.select("train")
    base, windows = (MotionDataset(store, clips, config, augment=True) for config in (plain, varied))
    for index in range(5):
        first, again = windows[SampleRef(index, 4)]["features"], windows[SampleRef(index, 4)]["features"]
        np.testing.assert_array_equal(first, again)
        assert 8 <= len(first) <= 24
        untouched = base[SampleRef(index, 4)]["features"]
        np.testing.assert_allclose(first[0, :3], untouched[0, :3], atol=1e-6)
        assert abs(first[0, 3:] - untouched[0, 3:]).max() > 0.01
        quiet = MotionDataset(store, clips, varied, augment=False)[SampleRef(index, 4)]["features"]
        calm = MotionDataset(store, clips, plain, augment=False)[SampleRef(index, 4)]["features"]
        np.testing.assert_array_equal(quiet, calm)
