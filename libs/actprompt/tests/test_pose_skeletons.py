"""Skeletons by roles and by source: one body for every tracker, poses beside recorded skeletons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from act_world import directions, write_set

from actprompt.data.manifest import Manifest
from actprompt.data.pose import estimate
from actprompt.data.pose.estimate import POSE_JOINTS, PoseFolder, estimate_poses
from actprompt.data.pose.sources import SkeletonSource, join_skeletons, pose_parameters
from actprompt.skeleton.features import limb_parameters, named_parameters
from actprompt.skeleton.joint_angles import LIMB_JOINTS, inverse_torso_directions, torso_directions
from actprompt.skeleton.roles import (
    ROLES,
    active_arm_left,
    body_channels,
    body_joints,
    limb_directions,
    role_indices,
    trunk_length,
)
from actprompt.skeleton.trajectory import TrajectoryEncoder
from icube_common.errors import InputError
from icube_common.pose import PoseModels, PoseSequence

KINECT = (
    "HipCenter", "Spine", "ShoulderCenter", "Head", "ShoulderLeft", "ElbowLeft", "WristLeft", "HandLeft",
    "ShoulderRight", "ElbowRight", "WristRight", "HandRight", "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft",
    "HipRight", "KneeRight", "AnkleRight", "FootRight",
)  # fmt: skip
SMPL = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip


def standing(frames: int = 12) -> np.ndarray:
    """A body (T, 13, 3) that faces the camera: its left side at x > 0, arms hanging, the left one raised in time."""
    body = np.array(
        [
            [0, 1.6, 0], [0.2, 1.4, 0], [-0.2, 1.4, 0], [0.2, 1.1, 0], [-0.2, 1.1, 0], [0.2, 0.85, 0],
            [-0.2, 0.85, 0], [0.1, 0.9, 0], [-0.1, 0.9, 0], [0.1, 0.5, 0], [-0.1, 0.5, 0], [0.1, 0.1, 0],
            [-0.1, 0.1, 0],
        ]
    )  # fmt: skip
    motion = np.tile(body, (frames, 1, 1))
    angle = np.linspace(0, np.pi / 2, frames)
    for joint, radius in ((3, 0.3), (5, 0.55)):
        motion[:, joint] = body[1] + radius * np.stack([np.sin(angle), -np.cos(angle), np.zeros(frames)], 1)
    return motion


def test_directions_of_a_body_are_those_of_the_recorded_format() -> None:
    limbs = torso_directions(limb_directions(standing()))
    np.testing.assert_allclose(limbs[0, 0], [1, 0, 0], atol=1e-9)  # hanging: down the torso
    np.testing.assert_allclose(limbs[-1, 0], [0, 1, 0], atol=1e-9)  # raised sideways: outwards
    np.testing.assert_allclose(limbs[:, [2, 3, 4, 5, 6, 7]], np.tile([1.0, 0, 0], (12, 6, 1)), atol=1e-9)
    forward = standing()
    forward[:, 3] = forward[:, 1] + [0, 0, 0.3]  # towards the camera
    np.testing.assert_allclose(torso_directions(limb_directions(forward))[0, 0], [0, 0, -1], atol=1e-9)


def test_inverse_of_torso_directions() -> None:
    recorded = directions("wave", np.random.default_rng(0))
    np.testing.assert_allclose(inverse_torso_directions(torso_directions(recorded)), recorded, atol=1e-6)


@pytest.mark.parametrize("names", [KINECT, SMPL, POSE_JOINTS])
def test_roles_of_three_trackers(names: tuple[str, ...]) -> None:
    indices = role_indices(names)
    assert indices is not None
    for role, index in zip(ROLES, indices, strict=True):
        words = set(role.split())
        read = names[index].lower()
        assert all(word in read for word in words), (role, names[index])


def test_two_trackers_give_the_same_vector() -> None:
    body = standing()
    vectors = []
    for names in (KINECT, SMPL, POSE_JOINTS):
        indices = role_indices(names)
        assert indices is not None
        joints = np.random.default_rng(1).normal(0, 1, (len(body), len(names), 3))
        joints[:, list(indices)] = body
        vectors.append(TrajectoryEncoder.fit([joints], names, 8).vector(joints))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)


def test_channels_do_not_depend_on_place_size_heading_or_side() -> None:
    body = standing()
    channels = body_channels(active_arm_left(body))
    angle = 0.7
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    other = 1.7 * body @ turn.T + [3, 1, -2]
    np.testing.assert_allclose(body_channels(active_arm_left(other)), channels, atol=1e-9)
    mirrored = body[:, [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11]] * [-1.0, 1, 1]
    np.testing.assert_allclose(body_channels(active_arm_left(mirrored)), channels, atol=1e-9)
    np.testing.assert_allclose(limb_directions(active_arm_left(mirrored)), limb_directions(body), atol=1e-9)
    assert trunk_length(body) == pytest.approx(0.5)


def test_path_of_the_trunk_is_in_trunk_lengths() -> None:
    body = standing()
    body += np.linspace(0, 1, len(body))[:, None, None] * [0.0, -0.25, 0.0]
    channels = body_channels(body)
    np.testing.assert_allclose(channels[-1, -6:], [0, -0.5, 0, 0, -0.5, 0], atol=1e-9)


def test_joints_without_the_roles_are_no_body() -> None:
    assert role_indices(("a", "b")) is None
    assert body_joints(np.zeros((2, 2, 3)), ("a", "b")) is None


def test_parameters_of_a_body_have_the_names_of_recorded_ones() -> None:
    joints = np.zeros((12, len(POSE_JOINTS), 3))
    joints[:, list(role_indices(POSE_JOINTS) or ())] = standing()
    named = named_parameters(joints, POSE_JOINTS, 1.0)
    assert list(named) == list(limb_parameters(directions("wave", np.random.default_rng(0)), 1.0))
    assert named["active arm raise, last"] == (pytest.approx(90.0), "degrees")
    assert named["active arm raise, first"] == (pytest.approx(0.0, abs=1e-4), "degrees")


def test_two_sources_side_by_side() -> None:
    recorded, poses = np.ones((4, 8, 3), dtype=np.float32), np.arange(3 * 2 * 3, dtype=np.float32).reshape(3, 2, 3)
    joined = join_skeletons([(recorded, 8), (poses, 2)])
    assert joined.shape == (4, 10, 3)
    np.testing.assert_allclose(joined[[0, -1], 8:], poses[[0, -1]])
    assert np.isnan(join_skeletons([(recorded, 8), (None, 2)])[:, 8:]).all()
    assert join_skeletons([(None, 8), (None, 2)]).shape == (0, 10, 3)
    encoder = TrajectoryEncoder.fit([np.zeros((4, 25, 3))], (*LIMB_JOINTS, *POSE_JOINTS), 8)
    assert encoder.width == (8 + 5 + 14) * (53 + 53 + 45)


class FakeTracker:
    """A tracker whose poses depend on the first pixel of each frame; darker than 20 is no person."""

    calls = 0

    def __init__(self, models: PoseModels, *, smooth: bool = True) -> None:
        self.models, self.smooth = models, smooth

    def track(self, frames: object, times: object) -> PoseSequence:
        FakeTracker.calls += 1
        levels = np.array([frame[0, 0, 0] for frame in frames], dtype=float)  # type: ignore[attr-defined]
        metres = np.zeros((len(levels), 33, 3))
        metres[:, 11:29] = np.random.default_rng(0).normal(0, 0.3, (18, 3))
        metres[:, 15, 0] += levels / 255
        metres[levels < 20] = np.nan
        visible = np.where(levels < 20, 0.0, 0.9)[:, None] * np.ones(33)
        return PoseSequence(100 * metres, metres, visible, np.asarray(times, dtype=float))


@pytest.fixture
def tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared set whose poses come from `FakeTracker`."""
    for name in ("pose_detection.tflite", "pose_landmark_full.tflite"):
        (tmp_path / name).write_bytes(b"network")
    monkeypatch.setattr(estimate, "find_models", lambda folder: PoseModels(*sorted(tmp_path.glob("*.tflite"))))
    monkeypatch.setattr(estimate, "PoseTracker", FakeTracker)
    estimate._tracker.cache_clear()
    FakeTracker.calls = 0
    return write_set(tmp_path / "set")


def test_shards_are_joined_by_a_run_without_one(tracked: Path) -> None:
    clips = len(Manifest.load(tracked).clips)
    part = estimate_poses(tracked, workers=1, shard=(0, 2))
    assert part["clips"] == len(range(0, clips, 2))
    assert not (tracked / "pose" / "pose.json").exists()
    assert (tracked / "pose" / "rejected-0-of-2.csv").is_file()
    whole = estimate_poses(tracked, workers=1)
    assert (whole["clips"], whole["there_already"]) == (clips, part["clips"])
    assert FakeTracker.calls == clips and not (tracked / "pose" / "rejected-0-of-2.csv").exists()


def test_poses_of_a_set_are_computed_once(tracked: Path) -> None:
    clips = len(Manifest.load(tracked).clips)
    first = estimate_poses(tracked, workers=1)
    assert (first["clips"], first["rejected"], first["there_already"]) == (clips, 0, 0)
    assert FakeTracker.calls == clips
    name = next((tracked / "pose").glob("*.npz"))
    name.write_bytes(name.read_bytes()[:100])
    again = estimate_poses(tracked, workers=1)
    assert again["there_already"] == clips - 1
    assert FakeTracker.calls == clips + 1
    assert json.loads((tracked / "pose" / "pose.json").read_text())["detected"] == again["detected"] > 0


def test_source_of_skeletons_is_chosen_and_refused_by_name(tracked: Path) -> None:
    manifest = Manifest.load(tracked)
    assert SkeletonSource.choose(manifest, "auto").name == "recorded"
    with pytest.raises(InputError, match=r"no poses; run `actprompt pose --data"):
        SkeletonSource.choose(manifest, "pose")
    estimate_poses(tracked, workers=1)
    assert SkeletonSource.choose(manifest, "auto").name == "recorded"
    source = SkeletonSource.choose(manifest, "both")
    assert source.joint_names == (*LIMB_JOINTS, *POSE_JOINTS)
    clip = manifest.clips[0]
    recorded, poses = manifest.skeleton(clip), PoseFolder(manifest).skeleton(clip)
    assert recorded is not None
    assert poses is not None
    assert source.skeleton(clip).shape == (max(len(recorded[0]), len(poses[0])), 25, 3)
    assert SkeletonSource.choose(manifest, "pose").skeleton(clip).shape[1:] == (17, 3)
    assert pose_parameters(manifest).names == manifest.parameters().names
