"""Chosen frames, against indices worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from actprompt.data.frame_sampling import Sampling, sample_indices
from icube_common.errors import InputError


@pytest.mark.parametrize(
    ("n_frames", "sampling", "expected"),
    [
        (16, Sampling(frames=4), [[2, 6, 10, 14]]),
        (10, Sampling(frames=4), [[1, 3, 6, 8]]),  # 1.25, 3.75, 6.25, 8.75
        (1, Sampling(frames=3), [[0, 0, 0]]),
        (2, Sampling(frames=4), [[0, 0, 1, 1]]),
        (16, Sampling(frames=2, views=2), [[2, 10], [6, 14]]),  # at 1/4 and 3/4 of each segment of 8
        (20, Sampling(frames=4, mode="dense", stride=2), [[0, 2, 4, 6]]),
        # windows of 7 frames; pytorchvideo starts them at 0, 13/2 of the 13 possible starts
        (20, Sampling(frames=4, mode="dense", stride=2, views=2), [[0, 2, 4, 6], [6, 8, 10, 12]]),
        (3, Sampling(frames=4, mode="dense", stride=1), [[0, 1, 2, 2]]),
        (3, Sampling(frames=4, mode="dense", stride=1, views=2), [[0, 1, 2, 2], [0, 1, 2, 2]]),
    ],
)
def test_indices(n_frames: int, sampling: Sampling, expected: list[list[int]]) -> None:
    assert sample_indices(n_frames, sampling).tolist() == expected


def test_random_frames_stay_in_their_segments_and_follow_the_seed() -> None:
    sampling = Sampling(frames=8, mode="random", views=50)
    chosen = sample_indices(80, sampling, seed=3)
    assert chosen.shape == (50, 8)
    assert (chosen // 10 == np.arange(8)).all()
    assert set(chosen[:, 0]) == set(range(10))  # every frame of a segment can come
    np.testing.assert_array_equal(chosen, sample_indices(80, sampling, seed=3))
    assert (chosen != sample_indices(80, sampling, seed=4)).any()


@pytest.mark.parametrize("n_frames", [1, 2, 7, 31, 1000])
@pytest.mark.parametrize("mode", ["uniform", "random", "dense"])
def test_indices_are_frames_of_the_video_in_order(n_frames: int, mode: str) -> None:
    sampling = Sampling(frames=16, mode=mode, views=3, stride=4)
    chosen = sample_indices(n_frames, sampling, seed=0 if mode == "random" else None)
    assert chosen.shape == (3, 16) and chosen.min() >= 0 and chosen.max() < n_frames
    assert (np.diff(chosen, axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "unifrom"}, "unknown sampling mode 'unifrom': did you mean 'uniform'"),
        ({"frames": 0}, "frames 0: must be from 1 to 512"),
        ({"views": 65}, "views 65: must be from 1 to 64"),
        ({"stride": 0}, "stride 0: must be from 1 to 1024"),
    ],
)
def test_a_wrong_value_is_named(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_a_seed_goes_with_random_and_only_with_it() -> None:
    with pytest.raises(InputError, match="a seed goes with mode 'random'"):
        sample_indices(10, Sampling(mode="random"))
    with pytest.raises(InputError, match="a seed goes with mode 'random'"):
        sample_indices(10, Sampling(mode="uniform"), seed=1)
    with pytest.raises(InputError, match="0 frames"):
        sample_indices(0, Sampling())


def test_key_distinguishes_samplings() -> None:
    assert Sampling().key() == {"frames": 8, "mode": "uniform", "views": 1, "stride": 2}
