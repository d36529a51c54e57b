"""Sequences, limbs and named parameters against values worked out by hand and another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from actprompt.skeleton.features import joint_parameters, limb_parameters, parameter_table
from actprompt.skeleton.joint_angles import (
    LIMB_JOINTS,
    active_side_first,
    hand_distances,
    hand_positions,
    limb_angles,
    limb_channels,
    mirror,
    torso_directions,
)
from actprompt.skeleton.trajectory_ops import complete, fill_gaps, mean_joints, resample, temporal_pyramid, time_warp

STANDING = np.array([[1.0, 0, 0], [0, 1, 0]] * 4)
"""Both arms hanging, legs straight."""


def moving(frames: int = 10, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(frames, 8, 3)).cumsum(axis=0)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_gaps_are_interpolated_and_ends_held() -> None:
    sequence = np.full((6, 2, 3), np.nan)
    sequence[1, 0], sequence[4, 0] = [1, 2, 3], [4, 2, 0]
    filled = fill_gaps(sequence)
    np.testing.assert_allclose(filled[:, 0], [[1, 2, 3], [1, 2, 3], [2, 2, 2], [3, 2, 1], [4, 2, 0], [4, 2, 0]])
    assert np.isnan(filled[:, 1]).all() and np.isnan(sequence[0]).all()


def test_absent_joints_are_imputed() -> None:
    first, second = np.full((2, 2, 3), np.nan), np.full((4, 2, 3), np.nan)
    first[:, 0], second[:, 0], second[:, 1] = 1.0, 4.0, 7.0
    joint_means = mean_joints([first, second])
    np.testing.assert_allclose(joint_means, [[2.5] * 3, [7] * 3])  # a clip counts once, however long
    completed = complete(first, joint_means)
    np.testing.assert_allclose(completed, [[[1] * 3, [7] * 3]] * 2)
    assert np.isnan(mean_joints([first])[1]).all()


def test_resampling_is_linear_and_keeps_the_ends() -> None:
    line = np.stack([np.arange(7.0), 3 - np.arange(7.0)], axis=1)
    np.testing.assert_allclose(resample(line, 13)[:, 0], np.linspace(0, 6, 13))
    np.testing.assert_allclose(resample(line, 3), line[[0, 3, 6]])
    np.testing.assert_allclose(resample(line[:1], 4), line[[0] * 4])
    np.testing.assert_allclose(resample(line, 7), line)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_warped_time_runs_forwards_inside_the_clip(frames: int, seed: int) -> None:
    times = time_warp(np.arange(frames, dtype=float)[:, None], np.random.default_rng(seed))[:, 0]
    assert len(times) == frames and (np.diff(times) >= 0).all()
    assert times[0] >= 0 and times[-1] <= frames - 1
    assert times[0] <= 0.12 * (frames - 1) + 1e-9 and times[-1] >= 0.88 * (frames - 1) - 1e-9


def test_without_warp_and_crop_nothing_changes() -> None:
    clip = moving(9)
    np.testing.assert_allclose(time_warp(clip, np.random.default_rng(0), strength=0, crop=0), clip, atol=1e-12)


def test_temporal_pyramid() -> None:
    rising = np.linspace(0, 15, 31)[:, None]
    vector = temporal_pyramid(rising)
    assert vector.shape == (5 + 14,)
    np.testing.assert_allclose(vector[:5], [7.5, np.std(np.arange(16)), 15, 0, 15])
    np.testing.assert_allclose(vector[5:7], [3.5, 11.5])
    np.testing.assert_allclose(vector[7:11], [1.5, 5.5, 9.5, 13.5])


def test_angles() -> None:
    frame = STANDING.copy()
    frame[0] = [0, 1, 0]  # an arm level
    frame[2] = [-1, 0, 0]  # the other one up
    frame[3] = [0, 0, -1]  # its elbow at a right angle
    frame[4] = [np.cos(np.pi / 3), 0, -np.sin(np.pi / 3)]
    np.testing.assert_allclose(limb_angles(frame[None])[0], [90, 0, 180, 90, 60, 0, 0, 0], atol=1e-6)


def test_mirrored_twice_is_as_before_and_the_active_side_comes_first() -> None:
    clip = moving()
    np.testing.assert_array_equal(mirror(mirror(clip)), clip)
    np.testing.assert_array_equal(mirror(clip)[:, LIMB_JOINTS.index("wrist_1")], clip[:, LIMB_JOINTS.index("wrist_2")])
    np.testing.assert_array_equal(mirror(clip)[:, LIMB_JOINTS.index("ankle_2")], clip[:, LIMB_JOINTS.index("ankle_1")])
    np.testing.assert_array_equal(active_side_first(clip), active_side_first(mirror(clip)))
    still = clip.copy()
    still[:, 2:4] = clip[:1, 2:4]
    np.testing.assert_array_equal(active_side_first(still), still)
    lost = still.copy()
    lost[:, 3] = np.nan
    np.testing.assert_array_equal(active_side_first(mirror(lost)), lost)


def test_lower_limbs_in_the_torso_frame() -> None:
    """Against scipy's rotations."""
    clip = moving(20, seed=1)
    turned = torso_directions(clip)
    np.testing.assert_array_equal(turned[:, [0, 2, 4, 6]], clip[:, [0, 2, 4, 6]])
    for upper, lower in ((0, 1), (2, 3), (4, 5), (6, 7)):
        for frame in range(20):
            axis = np.cross([0, 1, 0], clip[frame, upper])
            angle = np.arccos(clip[frame, upper, 1])
            rotation = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle)
            np.testing.assert_allclose(rotation.apply([0, 1, 0]), clip[frame, upper], atol=1e-9)
            np.testing.assert_allclose(turned[frame, lower], rotation.apply(clip[frame, lower]), atol=1e-9)


def test_hands() -> None:
    hanging = hand_positions(STANDING[None])[0]
    # straight down from shoulders 0.4 m apart, arms 0.57 m long
    np.testing.assert_allclose(hanging, [[0.57, 0.2, 0], [0.57, -0.2, 0]], atol=1e-12)
    np.testing.assert_allclose(hand_distances(STANDING[None])[0], [0.4, *[np.hypot(0.82, 0.2)] * 2], atol=1e-12)
    spread = STANDING.copy()
    spread[[0, 2]] = [0, 1, 0]
    assert hand_distances(spread[None])[0, 0] == pytest.approx(0.4 + 2 * 0.57)


def test_channels_are_finite_and_named_in_number() -> None:
    channels = limb_channels(moving(12))
    assert channels.shape == (12, 53) and np.isfinite(channels).all()
    np.testing.assert_allclose(channels[:, :24], moving(12).reshape(12, 24))


def test_limb_parameters() -> None:
    clip = np.repeat(STANDING[None], 5, axis=0)
    raised = np.radians([0, 30, 60, 90, 60])
    clip[:, 2] = np.stack([np.cos(raised), np.sin(raised), np.zeros(5)], axis=1)  # the second side's arm
    found = limb_parameters(clip, 2.5)
    assert found["duration"] == (2.5, "s")
    assert found["active arm raise, first"] == (pytest.approx(0, abs=1e-6), "degrees")
    assert found["active arm raise, last"] == (pytest.approx(60), "degrees")
    assert found["active arm raise, largest"][0] == pytest.approx(90)
    assert found["active arm raise, mean"][0] == pytest.approx(48)
    assert found["active arm raise, highest speed"] == (pytest.approx(60), "degrees/s")  # 30 degrees in 0.5 s
    assert found["other arm raise, largest"][0] == pytest.approx(0, abs=1e-6)
    assert found["knee bend, mean"][0] == pytest.approx(0, abs=1e-6)
    assert all(np.isfinite(value) for value, _ in found.values())
    assert {key: value for key, (value, _) in limb_parameters(mirror(clip), 2.5).items()} == pytest.approx(
        {key: value for key, (value, _) in found.items()}
    )


def test_untracked_joints_are_missing_not_zero() -> None:
    clip = moving()
    clip[:, 5] = np.nan
    found = limb_parameters(clip, 1.0)
    missing = {name for name, (value, _) in found.items() if np.isnan(value)}
    assert missing and all(name.startswith("knee bend") for name in missing)
    assert np.isnan(limb_parameters(clip[:1], 1.0)["hip bend, highest speed"][0])  # one frame has no speed


def test_joint_parameters() -> None:
    positions = np.zeros((3, 3, 3))
    positions[:, 0, 1] = 1.5  # the head
    positions[:, 1] = [[0, 1, 0], [0.3, 1, 0.4], [0.3, 1, 0.4]]
    found = joint_parameters(positions, ["head", "left wrist", "foot"], 1.5)
    assert found["left wrist speed, mean"] == (pytest.approx(0.5), "m/s")  # half a metre, then none, each in 0.5 s
    assert found["left wrist speed, highest"][0] == pytest.approx(1.0)
    assert found["left wrist range"] == (pytest.approx(0.5), "m")
    assert found["head height, mean"][0] == pytest.approx(1.5)
    assert found["head to left wrist, smallest"][0] == pytest.approx(0.5)
    assert "head height, mean" not in joint_parameters(positions, ["head", "left wrist", "foot"], 1.5, up=None)


def test_parameter_table() -> None:
    table = parameter_table(["x", "y"], [{"a": (1.0, "m"), "b": (2.0, "s")}, {"a": (3.0, "m"), "b": (np.nan, "s")}])
    assert (table.ids, table.names, table.units) == (("x", "y"), ("a", "b"), ("m", "s"))
    np.testing.assert_array_equal(table.values, [[1, 2], [3, np.nan]])
