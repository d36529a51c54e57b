"""Training windows: reproducible, in the common frame, padded without a trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from icube_common.errors import InputError
from icube_common.training import SampleRef
from motiondiff.config import DataConfig
from motiondiff.data.dataset import MotionDataset, class_balanced_weights, collate, to_common_frame
from motiondiff.data.store import MotionStore
from motiondiff.skeleton.kinematics import forward_kinematics, rotation_6d_to_matrix
from motiondiff.skeleton.mirror import mirror_features
from motiondiff.skeleton.motion import headings
from motiondiff.skeleton.skeleton import Skeleton

CONFIG = DataConfig(max_frames=24, min_frames=8, crop_probability=0.5, stature_range=0.1)


@pytest.fixture(scope="module")
def windows(store: MotionStore) -> MotionDataset:
    return MotionDataset(store, store.select("train"), CONFIG, augment=True)


def test_the_same_draw_gives_the_same_window(windows: MotionDataset) -> None:
    for index in range(5):
        first, again = windows[SampleRef(index, 9)], windows[SampleRef(index, 9)]
        np.testing.assert_array_equal(first["features"], again["features"])
        np.testing.assert_array_equal(first["offsets"], again["offsets"])
        other = windows[SampleRef(index, 10)]
        assert not np.array_equal(first["offsets"], other["offsets"])


def test_draws_differ_in_length_place_and_size(windows: MotionDataset, store: MotionStore) -> None:
    drawn = [windows[SampleRef(0, seed)] for seed in range(60)]
    lengths = {len(window["features"]) for window in drawn}
    assert min(lengths) >= 8 and max(lengths) == 24 and len(lengths) > 5
    clip = int(windows.clips[0])
    mean = store.skeleton(clip).bone_lengths.sum()
    scales = [float(np.linalg.norm(window["offsets"], axis=-1).sum() / mean) for window in drawn]
    assert 0.9 <= min(scales) < 0.93 and 1.07 < max(scales) <= 1.1
    # the body's size and its path go together: the height of the root tells where the window was cut
    heights = {round(float(window["features"][0, 1]) / scale, 5) for window, scale in zip(drawn, scales, strict=True)}
    recorded = {round(float(height), 5) for height in store.frames(clip)[:, 1]}
    assert len(heights) > 3
    assert all(min(abs(height - known) for known in recorded) < 2e-5 for height in heights)


def test_windows_start_above_the_origin_and_face_z(windows: MotionDataset, store: MotionStore) -> None:
    for seed in range(20):
        window = windows[SampleRef(seed % len(windows), seed)]
        features = torch.from_numpy(window["features"])
        assert features[0, [0, 2]].abs().max() == 0
        clip = int(windows.clips[seed % len(windows)])
        rotations = rotation_6d_to_matrix(features[:, 3:].reshape(len(features), -1, 6)).numpy()
        motion = replace(store[clip], root=features[:, :3].numpy(), rotations=rotations)
        assert abs(headings(motion)[0]) < 1e-5


def test_turning_to_the_common_frame_moves_the_body_as_a_whole(store: MotionStore) -> None:
    rows = store.frames(3, 5)
    turned = to_common_frame(rows)
    before, after = rows[:, :3] - rows[0, :3], turned[:, :3] - turned[0, :3]
    np.testing.assert_allclose(np.linalg.norm(before, axis=-1), np.linalg.norm(after, axis=-1), atol=1e-6)
    np.testing.assert_array_equal(turned[:, 9:], rows[:, 9:-1])
    assert rows[0, 0] != 0, "the rows that were given are left alone"


def test_without_augmentation_clips_come_whole_and_as_they_are(store: MotionStore) -> None:
    windows = MotionDataset(store, np.arange(4), replace(CONFIG, max_frames=30), augment=False)
    for clip in range(4):
        window = windows[SampleRef(clip, 123)]
        assert len(window["features"]) == min(int(store.columns["length"][clip]), 30)
        np.testing.assert_array_equal(window["offsets"], store.skeleton(clip).offsets)
        assert store.actions[window["action"]] == store[clip].action
        assert window["style"] == -1


def test_clips_shorter_than_min_frames_come_whole(store: MotionStore) -> None:
    config = DataConfig(max_frames=200, min_frames=100, crop_probability=1.0)
    windows = MotionDataset(store, np.arange(3), config, augment=True)
    assert [len(windows[SampleRef(clip, 5)]["features"]) for clip in range(3)] == store.columns["length"][:3].tolist()


def test_padding_and_masks(windows: MotionDataset) -> None:
    drawn = [windows[SampleRef(0, seed)] for seed in range(8)]
    batch = collate(drawn)
    lengths = [len(window["features"]) for window in drawn]
    assert batch["features"].shape == (8, max(lengths), 3 + 6 * 18)
    assert batch["mask"].dtype == torch.bool and batch["mask"].sum(1).tolist() == lengths
    for row, length in enumerate(lengths):
        assert batch["mask"][row, :length].all()
        np.testing.assert_array_equal(batch["features"][row, :length].numpy(), drawn[row]["features"])
        assert batch["features"][row, length:].abs().sum() == 0
    assert batch["offsets"].shape == (8, 18, 3) and batch["action"].shape == batch["style"].shape == (8,)


def test_balanced_weights() -> None:
    actions = np.array([0, 0, 0, 0, 1, -1], dtype=np.int32)
    assert class_balanced_weights(actions, 0).tolist() == [1] * 6
    # evened out, the four clips of an action weigh together what the single clip of another does
    assert class_balanced_weights(actions, 1).tolist() == [0.25] * 4 + [1, 1]
    assert class_balanced_weights(actions, 0.5).tolist() == [0.5] * 4 + [1, 1]


def joints_of(features: np.ndarray, offsets: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(T, J, 3) of features (T, D)."""
    rows = torch.from_numpy(features)
    rotations = rotation_6d_to_matrix(rows[:, 3:].reshape(len(rows), -1, 6))
    return forward_kinematics(rows[:, :3], rotations, torch.from_numpy(offsets)[None], skeleton.parents)[0].numpy()


def test_a_motion_in_a_mirror(store: MotionStore) -> None:
    skeleton = store.skeleton(0)
    order = skeleton.mirror_indices
    assert [skeleton.names[order[skeleton.index(name)]] for name in ("left_hip", "head")] == ["right_hip", "head"]
    features = to_common_frame(store.frames(0))
    seen, offsets = mirror_features(features, store.offsets[0], order)
    expected = joints_of(features, store.offsets[0], skeleton)[:, list(order)] * np.array([-1, 1, 1])
    np.testing.assert_allclose(joints_of(seen, offsets, skeleton), expected, atol=1e-5)
    np.testing.assert_array_equal(mirror_features(seen, offsets, order)[0], features)


def test_a_share_of_windows_is_mirrored(store: MotionStore, windows: MotionDataset) -> None:
    half = MotionDataset(store, windows.clips, replace(CONFIG, mirror=0.5), augment=True)
    draws = [SampleRef(number % len(half), 100 + number) for number in range(40)]
    same = [np.array_equal(half[draw]["features"], windows[draw]["features"]) for draw in draws]
    assert 10 < sum(same) < 30
    whole = MotionDataset(store, windows.clips, replace(CONFIG, mirror=1.0), augment=False)  # not for validation
    plain = MotionDataset(store, windows.clips, CONFIG, augment=False)
    np.testing.assert_array_equal(whole[draws[0]]["features"], plain[draws[0]]["features"])


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("hips", "hip_left", "hip_right"), (0, 2, 1)),
        (("Bip01", "Bip01 L Thigh", "Bip01 R Thigh"), (0, 2, 1)),
        (("root", "LHip", "RHip", "Larynx"), (0, 2, 1, 3)),
        (("Hips", "UpperLeg_L", "UpperLeg_R", "Toes_L"), (0, 2, 1, 3)),  # no other side to it
    ],
)
def test_sides_by_name(names: tuple[str, ...], order: tuple[int, ...]) -> None:
    assert (
        Skeleton(names, (-1,) + (0,) * (len(names) - 1), np.zeros((len(names), 3), np.float32)).mirror_indices == order
    )


def test_names_without_sides() -> None:
    with pytest.raises(InputError, match="no joint name has a side"):
        _ = Skeleton(("a", "b"), (-1, 0), np.zeros((2, 3), np.float32)).mirror_indices
