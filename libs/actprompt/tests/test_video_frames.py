"""Frame k is the k-th that plain decoding in order gives, by content, in every container and codec."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from video_files import CODECS, PAIRS, numbers, write_video

from actprompt.data.frame_sampling import Sampling
from actprompt.data.video import probe, read_clip, read_frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def made(folder: Path, container: str, codec: str) -> Path:
    """300 frames, written once for all tests of the module."""
    encoder = CODECS[codec][0]
    try:
        av.codec.Codec(encoder, "w")
    except ValueError:
        pytest.skip(f"this PyAV has no {encoder}")
    path = folder / f"{codec}.{container}"
    return path if path.exists() else write_video(path, codec)


@pytest.mark.parametrize(("container", "codec"), PAIRS)
def test_the_frames_asked_for(folder: Path, container: str, codec: str) -> None:
    path = made(folder, container, codec)
    info = probe(path)
    assert info.n_frames == 300 and info.fps == pytest.approx(25, rel=1e-3)
    assert info.duration == pytest.approx(12, abs=0.02) and not info.variable_rate
    np.testing.assert_allclose(info.times, np.arange(300) / 25, atol=2e-3)
    every = read_frames(path, range(300))
    assert numbers(every) == list(range(300))
    some = sorted(np.random.default_rng(7).choice(300, 12, replace=False).tolist())
    for wanted in (list(range(250, 300)), [299], [0, 299], [3, 290, 291], some):
        found = read_frames(path, wanted)
        assert numbers(found) == wanted
        np.testing.assert_array_equal(found, every[wanted])
        np.testing.assert_array_equal(read_frames(path, wanted, n_frames=300), every[wanted])


@pytest.mark.parametrize(("container", "codec"), PAIRS)
@pytest.mark.parametrize("sampling", [Sampling(frames=8, views=3), Sampling(frames=8, mode="dense", views=9, stride=3)])
def test_views(folder: Path, container: str, codec: str, sampling: Sampling) -> None:
    path = made(folder, container, codec)
    clip = read_clip(path, sampling, n_frames=300)
    assert [numbers(view) for view in clip.frames] == clip.indices.tolist() and clip.indices.max() > 256
