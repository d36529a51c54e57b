"""Motions to features and back; statistics of the training clips alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from icube_common.training import SampleRef
from motiondiff.config import DataConfig
from motiondiff.data.dataset import MotionDataset, collate, to_common_frame
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_clips
from motiondiff.models.representation import MIN_STD, ROOT_SCALE, SHAPE_UNIT, SMOOTHING, MotionRepresentation
from motiondiff.training.statistics import fit_representation

ABOUT = {"format": "simulated", "source": "tests", "simulated": True}


def test_round_trip(representation: MotionRepresentation, store: MotionStore) -> None:
    motion = store[7]
    features = representation.encode(motion)
    assert features.shape == (len(motion), representation.feature_size) == (len(motion), 3 + 6 * 18)
    again = representation.decode(features, motion.skeleton, action="wave", style="calm")
    np.testing.assert_allclose(again.root, motion.root, atol=1e-5)
    np.testing.assert_allclose(again.rotations, motion.rotations, atol=1e-5)
    np.testing.assert_allclose(again.positions, motion.positions, atol=1e-5)
    assert (again.action, again.style, again.fps, again.source) == ("wave", "calm", 10, "simulated training data")


def test_positions_are_those_of_the_motion(representation: MotionRepresentation, store: MotionStore) -> None:
    motion = store[2]
    offsets = torch.tensor(motion.skeleton.offsets)
    normalised = representation.encode(motion)
    positions = representation.positions(representation.denormalise(normalised, offsets)[None], offsets[None])
    np.testing.assert_allclose(positions[0].numpy(), motion.positions, atol=1e-5)
    positions = representation.normalised_positions(normalised[None], offsets[None])
    np.testing.assert_allclose(positions[0].numpy(), motion.positions, atol=1e-5)


def test_height_of_the_lowest_foot(store: MotionStore) -> None:
    """The vertical feature is the lower foot's height with the legs smoothed; the root's follows from both."""
    representation = fit_representation(store, store.select("train"), DataConfig(max_frames=32))
    for clip in (2, 7):
        motion = store[clip]
        motion = replace(motion, root=motion.root + np.array([0.0, 0.3, 0.0], dtype=np.float32))
        offsets, feet = torch.tensor(motion.skeleton.offsets), list(motion.skeleton.feet)
        normalised = representation.encode(motion)
        root, lowest = motion.root[:, 1], motion.positions[:, feet, 1].min(1)
        height = normalised[:, 1] * representation.std[1] + representation.mean[1]
        # a Gaussian window of 0.15 s around each frame, without the frames beyond the clip
        seconds = np.arange(len(motion)) / motion.fps
        window = np.exp(-0.5 * ((seconds[:, None] - seconds) / SMOOTHING) ** 2)
        window[np.abs(seconds[:, None] - seconds) * motion.fps > np.ceil(3 * SMOOTHING * motion.fps)] = 0
        legs = window @ (lowest - root) / window.sum(1)
        np.testing.assert_allclose(height.numpy(), root + legs, atol=1e-5)
        assert np.abs(height.numpy() - lowest).max() < np.abs(root - root.mean()).max() + 0.05
        again = representation.decode(normalised, motion.skeleton)
        np.testing.assert_allclose(again.positions, motion.positions, atol=1e-5)
        positions = representation.normalised_positions(normalised[None], offsets[None])
        np.testing.assert_allclose(positions[0].numpy(), motion.positions, atol=1e-5)


def test_legs_that_bend_lower_the_root(store: MotionStore) -> None:
    """Another pose of the legs in all frames, the same vertical feature: the foot stays at its height."""
    representation = fit_representation(store, store.select("train"), DataConfig(max_frames=32))
    motion = store[2]
    still = replace(
        motion, root=np.repeat(motion.root[:1], 20, axis=0), rotations=np.repeat(motion.rotations[:1], 20, axis=0)
    )
    feet = list(motion.skeleton.feet)
    normalised = representation.encode(still)
    knees = [motion.skeleton.names.index(f"{side}_knee") for side in ("left", "right")]
    for knee in knees:
        normalised[:, 3 + 6 * knee : 9 + 6 * knee] += 4.0
    bent = representation.decode(normalised, motion.skeleton)
    lowest = still.positions[:, feet, 1].min(1)
    np.testing.assert_allclose(bent.positions[:, feet, 1].min(1), lowest, atol=1e-4)
    assert np.abs(bent.root[:, 1] - still.root[:, 1]).max() > 0.01


def test_padding_has_no_part_in_the_height(store: MotionStore) -> None:
    windows = MotionDataset(store, store.select("train"), DataConfig(max_frames=40), augment=False)
    representation = fit_representation(store, store.select("train"), windows.config)
    batch = collate([windows[SampleRef(row, 0)] for row in range(6)])
    features, offsets, mask = batch["features"], batch["offsets"], batch["mask"]
    assert not mask.all()
    positions = representation.masked_positions(features, offsets, mask)
    normalised = representation.normalise(features, offsets, mask)
    torch.testing.assert_close(
        representation.normalise(features, offsets, mask, positions)[mask], normalised[mask], atol=1e-4, rtol=0
    )
    torch.testing.assert_close(representation.denormalise(normalised, offsets, mask)[mask], features[mask])
    again = representation.normalised_positions(normalised, offsets, mask)
    torch.testing.assert_close(again[mask], positions[mask], atol=1e-5, rtol=0)
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = representation.normalise(features[row, :length], offsets[row])
        torch.testing.assert_close(alone, normalised[row, :length], atol=1e-4, rtol=0)


@pytest.mark.parametrize("height", ["feet", "root"])
def test_normalised_training_features_have_zero_mean_and_at_most_unit_deviation(
    store: MotionStore, height: str
) -> None:
    representation = fit_representation(store, store.select("train"), DataConfig(max_frames=32, height=height))
    rows = [
        representation.normalise(
            torch.from_numpy(to_common_frame(store.frames(int(clip), 0, 32))),
            torch.tensor(store.skeleton(int(clip)).offsets),
        )
        for clip in store.select("train")
    ]
    features = torch.cat(rows)
    torch.testing.assert_close(features.mean(0), torch.zeros(111), atol=1e-4, rtol=0)
    deviation = features.std(0, correction=0)
    moving = representation.std > MIN_STD * 1.001
    moving[:3] = False  # the root has scales of its own, and along x and z one serves both
    assert moving.sum() > 20
    torch.testing.assert_close(deviation[moving], torch.ones(int(moving.sum())), atol=1e-3, rtol=0)
    assert deviation[~moving][3:].max() < 1.001
    assert representation.std[0] == representation.std[2]
    # the feet of simulated bodies hardly leave the floor: their height is scaled as one that moves by `MIN_STD`
    assert deviation[1] == pytest.approx(ROOT_SCALE, rel=1e-3) or (height == "feet" and 1 < deviation[1] < ROOT_SCALE)


def test_statistics_come_from_the_training_clips_only(tmp_path: Path) -> None:
    def measure(name: str, lift: float) -> MotionRepresentation:
        clips = []
        for clip in simulate_clips(20, fps=10):
            held_out = clip.motion.subject == "simulated-2"
            root = clip.motion.root + (np.array([0, lift, 0]) * np.arange(len(clip.motion))[:, None] if held_out else 0)
            clips.append(replace(clip, motion=replace(clip.motion, root=root)))
        options = PrepareOptions(test_groups=("simulated-2",))
        store = write_store(clips, tmp_path / name, options, description=ABOUT)
        return fit_representation(store, store.select("train"), DataConfig())

    plain, lifted = measure("plain", 0.0), measure("lifted", 1.0)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, lifted.state_dict()[name]), name
    assert plain.config.action_frames == lifted.config.action_frames


def test_the_mean_body_is_that_of_the_training_clips(representation: MotionRepresentation, store: MotionStore) -> None:
    bodies = [store.skeleton(int(clip)).offsets for clip in store.select("train")]
    np.testing.assert_allclose(representation.skeleton.offsets, np.mean(bodies, axis=0), atol=1e-6)
    assert representation.skeleton.names == store.joint_names and representation.feet == store.skeleton(0).feet
    assert representation.config.simulated is True


def test_shape_condition_is_in_units_around_the_mean_body(representation: MotionRepresentation) -> None:
    mean = representation.offsets
    longer = mean.clone()
    longer[2] *= 1 + SHAPE_UNIT / mean[2].norm()
    condition = representation.shape_condition(torch.stack([mean, longer, 2 * mean]))
    assert condition[0].abs().max() == 0
    expected = torch.zeros(18)
    expected[2] = 1
    torch.testing.assert_close(condition[1], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(condition[2], mean.norm(dim=-1) / SHAPE_UNIT, atol=1e-4, rtol=0)


def test_lengths_are_sampled_within_the_range_of_an_action(
    representation: MotionRepresentation, store: MotionStore
) -> None:
    generator = np.random.default_rng(0)
    train = store.select("train")
    for code, action in enumerate(store.actions):
        lengths = np.minimum(store.columns["length"][train], 32)[store.columns["action"][train] == code]
        drawn = [representation.sample_length(action, generator) for _ in range(200)]
        assert lengths.min() <= min(drawn) and max(drawn) <= lengths.max()
        assert len(set(drawn)) > 3
        assert abs(np.median(drawn) - np.median(lengths)) <= 2
    assert 20 <= representation.sample_length(None, generator) <= 32


def test_without_labelled_clips_three_seconds_are_drawn() -> None:
    representation = MotionRepresentation(["a"], [-1], fps=25)
    assert representation.sample_length(None, np.random.default_rng(0)) == 75


def test_save_and_load_is_exact(representation: MotionRepresentation, tmp_path: Path) -> None:
    representation.save_pretrained(tmp_path)
    again = MotionRepresentation.from_pretrained(tmp_path)
    for name, value in representation.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert again.config.action_frames == representation.config.action_frames
    assert again.skeleton.same_topology(representation.skeleton) and again.feet == representation.feet
