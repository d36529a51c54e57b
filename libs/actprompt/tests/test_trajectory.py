"""Trajectory of a skeleton as a vector: lost joints, absent skeletons, copies, and what it does not depend on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from act_world import LABELS, directions, world

from actprompt.data.dataset import ClipTensors
from actprompt.skeleton.joint_angles import LIMB_JOINTS, mirror
from actprompt.skeleton.trajectory import TrajectoryEncoder
from actprompt.training.inputs import Inputs
from icube_common.prompts.ridge_init import LinearProjection
from icube_common.vlm import FrozenVLM

NAMES = ("head", "hand", "foot")


def walk(seed: int = 0, frames: int = 7) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(frames, 3, 3)) + np.linspace(0, 2, frames)[:, None, None]


def limb_course(frames: int = 9) -> TrajectoryEncoder:
    generator = np.random.default_rng(1)
    return TrajectoryEncoder.fit([directions(label, generator) for label in LABELS], LIMB_JOINTS, frames)


def test_length_does_not_depend_on_the_clip() -> None:
    trajectory = limb_course(8)
    generator = np.random.default_rng(2)
    found = [trajectory.vector(directions("wave", generator, frames=frames)) for frames in (1, 4, 30)]
    assert len({vector.shape for vector in found}) == 1 and found[0].dtype == np.float32
    # the channels at 8 moments come first
    assert found[0].ndim == 1 and len(found[0]) >= 8 * 53 and np.isfinite(found).all()
    positions = TrajectoryEncoder.fit([walk()], NAMES, 8)
    assert len(positions.vector(walk(3, 11))) >= 8 * 12 and not positions.limbs


def test_record() -> None:
    trajectory = limb_course()
    again = TrajectoryEncoder.from_dict(json.loads(json.dumps(trajectory.to_dict())))
    assert (again.joint_names, again.frames) == (trajectory.joint_names, trajectory.frames) and again.limbs
    np.testing.assert_array_equal(again.joint_means, trajectory.joint_means)
    clip = directions("bow", np.random.default_rng(5))
    clip[:, 3] = np.nan
    np.testing.assert_array_equal(again.vector(clip), trajectory.vector(clip))


def test_a_joint_that_is_never_tracked_is_where_training_clips_have_it() -> None:
    first, second = walk(1), walk(2)
    trajectory = TrajectoryEncoder.fit([first, second], NAMES, 8)
    np.testing.assert_allclose(trajectory.joint_means, (first.mean(0) + second.mean(0)) / 2)
    lost, put = walk(3), walk(3)
    lost[:, 1], put[:, 1] = np.nan, trajectory.joint_means[1]
    np.testing.assert_array_equal(trajectory.vector(lost), trajectory.vector(put))
    nobody = walk(1)
    nobody[:, 2] = np.nan
    assert np.isfinite(TrajectoryEncoder.fit([nobody], NAMES, 8).vector(nobody)).all()


def test_a_clip_without_skeleton_adds_nothing(tiny: FrozenVLM) -> None:
    given = world(subjects=1).inputs
    assert given.skeletons is not None
    ids = list(given.ids[:4])
    skeletons = {**given.skeletons, ids[2]: np.zeros((0, 8, 3), dtype=np.float32)}
    trajectory = limb_course(8)
    tables = ClipTensors.of(ids, Inputs(given.ids, skeletons=skeletons), trajectory, None, tiny, copies=2)
    assert tables.trajectories is not None and tables.trajectories.shape[:2] == (4, 3)
    width = tables.trajectories.shape[2]
    missing = tables.trajectories.isnan()
    assert missing[2].all() and not missing[[0, 1, 3]].any()
    made = LinearProjection(width, 5)
    with torch.no_grad():
        made.start.normal_()
        made.learned.normal_()
    made.fit_scale(tables.trajectories[:, 0])
    share = made(tables.trajectories[:, 0])
    assert (share[2] == 0).all() and (share[[0, 1, 3]].norm(dim=1) > 0.1).all()
    # and it has no say in the scale
    without = LinearProjection(width, 5)
    without.fit_scale(tables.trajectories[[0, 1, 3], 0])
    torch.testing.assert_close(without.mean, made.mean)
    torch.testing.assert_close(without.std, made.std)


def test_copies_come_after_the_clip_itself() -> None:
    trajectory, clip = limb_course(), directions("clap", np.random.default_rng(4))
    found = trajectory.augment(clip, 3, np.random.default_rng(7), jitter=0.1)
    assert len(found) == 4
    np.testing.assert_array_equal(found[0], trajectory.vector(clip))
    assert all(np.abs(found[a] - found[b]).max() > 0.01 for a in range(4) for b in range(a))
    np.testing.assert_array_equal(found, trajectory.augment(clip, 3, np.random.default_rng(7), jitter=0.1))
    np.testing.assert_array_equal(found[:1], trajectory.augment(clip, 0, np.random.default_rng(7), jitter=0.1))


def test_copies_of_directions_keep_length_one() -> None:
    # as many points in time as frames: none lies between two frames
    found = limb_course(9).augment(
        directions("wave", np.random.default_rng(4)), 5, np.random.default_rng(8), jitter=0.3
    )
    limbs = found[:, : 9 * 53].reshape(6, 9, 53)[:, :, :24].reshape(6, 9, 8, 3)
    np.testing.assert_allclose(np.linalg.norm(limbs, axis=-1), 1, atol=1e-5)


def test_left_and_right_hand_are_alike() -> None:
    trajectory, clip = limb_course(), directions("wave", np.random.default_rng(4))
    np.testing.assert_allclose(trajectory.vector(mirror(clip)), trajectory.vector(clip), atol=1e-6)
    assert np.abs(trajectory.vector(clip) - trajectory.vector(directions("bow", np.random.default_rng(4)))).max() > 0.5


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 5.0), (0.01, 0.0), (1000.0, -3.0)])
def test_positions_from_elsewhere_and_in_other_units_are_the_same(scale: float, shift: float) -> None:
    trajectory = TrajectoryEncoder.fit([walk(1)], NAMES, 8)
    np.testing.assert_allclose(trajectory.vector(scale * (walk(2) + shift)), trajectory.vector(walk(2)), atol=1e-4)


def test_positions_keep_the_way_through_the_room() -> None:
    trajectory = TrajectoryEncoder.fit([walk(1)], NAMES, 8)
    standing = walk(2)
    walking = standing + np.linspace(0, 3, len(standing))[:, None, None] * np.array([1.0, 0, 0])
    difference = (trajectory.vector(walking) - trajectory.vector(standing))[: 8 * 12].reshape(8, 12)
    np.testing.assert_allclose(difference[:, :9], 0, atol=1e-5)
    size = np.linalg.norm(standing - standing.mean(1, keepdims=True), axis=2).mean()
    np.testing.assert_allclose(difference[:, 9], np.linspace(0, 3, 8) / size, atol=1e-5)
    np.testing.assert_allclose(difference[:, 10:], 0, atol=1e-5)
