"""Clip sets, what a network is shown of a clip, and the graph: hand-computed values and invariants."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from icube_common.errors import InputError
from motiondiff.config import ClassifierConfig
from motiondiff.data.clips import ClipSet, check_subject_overlap
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion
from motiondiff.recognition.features import (
    crop_in_time,
    resample,
    root_relative,
    stack_clips,
    varied_clips,
    whole_clips,
    with_speed,
)
from motiondiff.recognition.networks import hops_to_root, spatial_partition
from motiondiff.recognition.training import sampling_weights
from motiondiff.skeleton.motion import RigidTransform, apply_transform

TINY = ClassifierConfig(frames=8)


def test_a_store_becomes_clips(store: MotionStore) -> None:
    clips = ClipSet.from_store(store)
    assert len(clips) == 40 and clips.counts.tolist() == [8] * 5 and clips.fps == 10
    np.testing.assert_allclose(clips.positions[3], store[3].positions)
    assert clips.class_names == tuple(store.actions) and clips.subjects[0] == "simulated-0"
    test = ClipSet.from_store(store, split="test")
    train = ClipSet.from_store(store, split="train")
    assert not set(test.subjects) & set(train.subjects)
    check_subject_overlap(train, test)
    with pytest.raises(InputError, match=r"subject 'simulated-\d' is in the training and in the test clips"):
        check_subject_overlap(clips, test)


def test_selection_and_joining(store: MotionStore) -> None:
    clips = ClipSet.from_store(store)
    two = clips.with_classes(["walk", "run"])
    assert two.counts.tolist() == [8, 8] and two.class_names == ("walk", "run")
    assert [name for name, label in zip(two.ids, two.labels, strict=True) if label == 0] == [
        name for name, label in zip(clips.ids, clips.labels, strict=True) if clips.class_names[label] == "walk"
    ]
    both = two.joined(two)
    assert len(both) == 32 and len(set(both.ids)) == 32
    assert not two.is_extra.any() and both.is_extra.tolist() == [False] * 16 + [True] * 16
    assert both.take([3, 20]).is_extra.tolist() == [False, True]
    with pytest.raises(InputError, match="cannot be joined"):
        clips.joined(two)
    with pytest.raises(InputError, match="none is of the classes jump"):
        clips.with_classes(["jump"])
    with pytest.raises(InputError, match=r"20 fps, the training clips have 10"):
        clips.check_same_skeleton(clips.skeleton, 20, "x")


def test_every_class_is_drawn_as_often_and_further_clips_for_their_share(store: MotionStore) -> None:
    clips = ClipSet.from_store(store).with_classes(["walk", "run"])
    runs = np.flatnonzero(clips.labels == 1)
    few = clips.take(np.concatenate([np.flatnonzero(clips.labels == 0)[:3], runs]))  # three of one class, eight of one
    np.testing.assert_allclose(sampling_weights(few, 0.5), [1 / 3] * 3 + [1 / 8] * 8)
    more = few.joined(clips.take(np.flatnonzero(clips.labels == 0)))  # eight further clips of the first class alone
    weights = sampling_weights(more, 0.25)
    np.testing.assert_allclose(weights, [0.75 / 3] * 3 + [1 / 8] * 8 + [0.25 / 8] * 8)
    np.testing.assert_allclose(np.bincount(more.labels, weights), 1)
    only = few.take([0, 1, 2]).joined(clips.take(runs))  # a class of which there are only further clips
    np.testing.assert_allclose(np.bincount(only.labels, sampling_weights(only, 0.25)), 1)


def test_motions_come_into_the_common_frame_with_their_heights() -> None:
    motion = simulate_motion("walk", 1, fps=10)
    moved = apply_transform(motion, RigidTransform(1.0, (2.0, 0.5, -1.0)))
    clips = ClipSet.from_motions([motion, moved], ["walk"])
    np.testing.assert_allclose(clips.positions[0][0, 0, [0, 2]], 0, atol=1e-6)
    np.testing.assert_allclose(clips.positions[1], clips.positions[0] + np.float32([0, 0.5, 0]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action": "wlak"}, "unknown action 'wlak': did you mean 'walk'"),
        ({"action": None}, "has no action"),
        ({"fps": 30.0}, "another skeleton or frame rate"),
    ],
)
def test_motions_that_do_not_fit(change: dict[str, object], words: str) -> None:
    motion = simulate_motion("walk", 1, fps=10)
    with pytest.raises(InputError, match=words):
        ClipSet.from_motions([motion, replace(motion, **change)], ["walk"])


def test_positions_that_are_not_finite_are_refused() -> None:
    clips = ClipSet.from_motions([simulate_motion("walk", 1, fps=10)], ["walk"])
    broken = clips.positions[0].copy()
    broken[2, 1, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        replace(clips, positions=[broken])


def test_a_damaged_store_is_refused(store_path: Path, tmp_path: Path) -> None:
    shutil.copytree(store_path, tmp_path / "store")
    with (tmp_path / "store" / "clips.npz").open("r+b") as handle:
        handle.truncate(200)
    with pytest.raises(InputError, match=r"clips\.npz: missing or broken"):
        ClipSet.from_store(MotionStore(tmp_path / "store"))


def test_resampling_is_linear_and_keeps_the_ends() -> None:
    line = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    np.testing.assert_allclose(resample(line, 7)[:, 1, 2], [0, 0.5, 1, 1.5, 2, 2.5, 3])
    np.testing.assert_allclose(resample(line[:1], 3), 0)


def test_joints_are_shown_relative_to_the_root() -> None:
    clip = np.array([[[1, 2, 3], [1, 3, 3]], [[2, 2, 3], [2, 3, 4]]], np.float32)
    expected = [[[1, 2, 3], [0, 1, 0]], [[2, 2, 3], [0, 1, 1]]]
    np.testing.assert_allclose(root_relative(clip), expected)


def test_a_cut_starts_its_path_at_the_origin_and_keeps_heights() -> None:
    clip = torch.arange(5.0)[None, :, None, None] * torch.ones(1, 5, 2, 3)
    cut = crop_in_time(clip, torch.tensor([0.5]), torch.tensor([1.0]), 3)
    torch.testing.assert_close(cut[0, :, 0], torch.tensor([[0.0, 2, 0], [1, 3, 1], [2, 4, 2]]))
    torch.testing.assert_close(cut[0, :, 1, 0], torch.tensor([2.0, 3, 4]))


def test_speed_is_the_change_from_the_frame_before() -> None:
    clip = torch.tensor([0.0, 1.0, 3.0])[None, :, None, None] * torch.ones(1, 3, 1, 3)
    assert with_speed(clip)[0, :, 0, 3].tolist() == [0, 1, 2]


def test_variation_turns_and_scales_as_a_whole(store: MotionStore) -> None:
    clips = ClipSet.from_store(store).take(range(6))
    config = replace(TINY, min_crop=1.0, joint_noise=0.0, scale_range=0.0, rotation_degrees=180)
    stacked = stack_clips(clips.positions, config)
    plain = whole_clips(stacked, config)
    turned = varied_clips(stacked, config, torch.Generator().manual_seed(1))
    assert not torch.allclose(plain, turned, atol=0.01)
    torch.testing.assert_close(turned[..., 1], plain[..., 1])  # about y: heights stay
    torch.testing.assert_close(turned.norm(dim=-1), plain.norm(dim=-1))
    scaled = varied_clips(stacked, replace(config, scale_range=0.5), torch.Generator().manual_seed(1))
    ratio = (scaled.norm(dim=-1) / turned.norm(dim=-1).clamp(min=1e-6))[:, 1:, 1:].flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert ratio.min() >= 0.5 and ratio.max() <= 1.5 and ratio[:, 0].std() > 0.05


def test_the_spatial_partition_by_hand() -> None:
    """A chain root - a - b and a second child c of the root: degrees (with itself) 3, 3, 2, 2."""
    parents = (-1, 0, 1, 0)
    assert hops_to_root(parents).tolist() == [0, 1, 2, 1]
    same, inwards, outwards = spatial_partition(parents)
    np.testing.assert_allclose(same, np.diag([1 / 3, 1 / 3, 1 / 2, 1 / 2]))
    expected = np.zeros((4, 4))
    expected[1, 0] = expected[3, 0] = 1 / 3  # the root gives to its children: it is nearer to the centre
    expected[2, 1] = 1 / 3
    np.testing.assert_allclose(inwards, expected)
    expected = np.zeros((4, 4))
    expected[0, 1], expected[0, 3], expected[1, 2] = 1 / 3, 1 / 2, 1 / 2
    np.testing.assert_allclose(outwards, expected)
    np.testing.assert_allclose((same + inwards + outwards).sum(axis=0), 1)
