"""Times of frames where the container has none, wrong ones, or those of several clocks."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import numbers, remux, write_video

from actprompt.data.frame_sampling import Sampling
from actprompt.data.video import probe, read_clip, read_frames
from actprompt.data.video.times import frame_times

EVEN = np.arange(8) / 10


@pytest.mark.parametrize(
    ("pts", "want"),
    [
        ([None] * 8, EVEN),  # none at all
        ([0.1, 0.4, 0.3, 0.2, 0.6, 0.5, 0.8, 0.7], EVEN),  # those of storage
        ([0.0, None, 0.2, 0.3, None, None, 0.6, None], EVEN),  # some are missing
        ([None, None, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], EVEN),
        ([-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4], EVEN),  # before zero
        ([5.0] * 8, EVEN),  # always the same
        ([0.0, 0.1, 0.1, 0.3, 0.4, 0.4, 0.6, 0.7], [0, 0.1, 0.1, 0.3, 0.4, 0.4, 0.6, 0.7]),  # twice the same
        ([9.0, 9.1, 9.2, 9.3, 1.0, 1.1, 1.2, 1.3], EVEN),  # a clock that starts again
        ([1.4, 1.5, 1.6, 1.7, 1.4, 1.5, 1.6, 1.7], EVEN),  # the same, in short pieces
        ([0.0, 0.1, 0.2, 0.3, 30.4, 30.5, 30.6, 30.7], [0, 0.1, 0.2, 0.3, 30.4, 30.5, 30.6, 30.7]),  # a long pause
        ([7.0], [0.0]),
    ],
)
def test_times_of_frames(pts: list[float | None], want: list[float]) -> None:
    np.testing.assert_allclose(frame_times(pts, 10), want, atol=1e-9)


def test_a_clock_may_jump_ahead_where_files_are_joined() -> None:
    np.testing.assert_allclose(frame_times([0, 0.1, 90.0, 90.1], 10, joinable=True), [0, 0.1, 0.2, 0.3])


def test_a_rate_is_needed_only_where_there_are_no_times() -> None:
    np.testing.assert_allclose(frame_times([0.0, 0.5, None], 0), [0, 0.5, 1])
    with pytest.raises(ValueError, match="neither frame times nor a frame rate"):
        frame_times([None, None], 0)
    with pytest.raises(ValueError, match="neither frame times nor a frame rate"):
        frame_times([3.0, 3.0], 0)


def test_variable_rate_late_in_a_file(tmp_path: Path) -> None:
    """Twice as slow from frame 200 on: even moments are other frames; 400 moments of 1 / 25 s."""
    pts = [*range(200), *range(200, 400, 2)]
    path = write_video(tmp_path / "a.mkv", pts=pts)
    info = probe(path)
    assert info.variable_rate and info.n_frames == 300
    np.testing.assert_allclose(info.times, np.array(pts) / 25, atol=2e-3)
    clip = read_clip(path, Sampling(frames=4), n_frames=300, variable_rate=True)
    # moments 1/8, 3/8, 5/8 and 7/8 of 300 steps of 398/299 ticks
    assert numbers(clip.frames[0]) == clip.indices[0].tolist() == [49, 149, 224, 274]


def test_joined_transport_streams(tmp_path: Path) -> None:
    """Two recordings one behind the other: all frames of both, in order, on one clock."""
    first = write_video(tmp_path / "1.ts", shown=range(120))
    second = write_video(tmp_path / "2.ts", shown=range(500, 640))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    info = probe(joined)
    assert info.n_frames == 260 and not info.variable_rate and info.fps == pytest.approx(25, rel=1e-3)
    np.testing.assert_allclose(info.times, np.arange(260) / 25, atol=2e-3)
    assert numbers(read_frames(joined, range(260))) == [*range(120), *range(500, 640)]
    assert numbers(read_frames(joined, [5, 119, 120, 259], n_frames=260)) == [5, 119, 500, 639]


@pytest.mark.parametrize("codec", ["h264", "mpeg4", "mpeg2"])
@pytest.mark.parametrize("name", ["copy.mp4", "copy.mkv", "copy.mov"])
def test_copied_from_avi(tmp_path: Path, codec: str, name: str) -> None:
    """AVI keeps no presentation times, so the copy has those of storage."""
    copy = remux(write_video(tmp_path / "a.avi", codec), tmp_path / name)
    info = probe(copy)
    assert info.n_frames == 300 and info.fps == pytest.approx(25, rel=0.01) and not info.variable_rate
    wanted = [0, 1, 2, 100, 257, 258, 259, 298, 299]
    assert numbers(read_frames(copy, wanted, n_frames=300)) == numbers(read_frames(copy, wanted)) == wanted


@pytest.mark.parametrize("name", ["a.h264", "a.m2v"])
def test_raw_streams(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, "h264" if name.endswith("h264") else "mpeg2", range(60))
    info = probe(path)
    assert info.n_frames == 60 and info.fps == pytest.approx(25) and not info.variable_rate
    assert numbers(read_frames(path, [0, 31, 59])) == [0, 31, 59]


def test_times_before_zero(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", pts=range(-50, 250))
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).time
    assert first is not None
    info = probe(path)
    assert info.n_frames == 300 and info.times[0] == 0 and info.times[-1] == pytest.approx(299 / 25, abs=2e-3)
    assert numbers(read_frames(path, [0, 260, 299], n_frames=300)) == [0, 260, 299]


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4"])
def test_an_edit_list_that_starts_later(tmp_path: Path, codec: str) -> None:
    """Trimmed without coding again: the first 50 frames are in the file and not shown."""
    path = write_video(tmp_path / "a.mp4", codec)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst")
    version, count, duration, start = struct.unpack_from(">IIIi", data, at + 4)
    assert version == 0 and count == 1
    struct.pack_into(">Ii", data, at + 12, duration - 2000, start + 50 * 512)
    path.write_bytes(bytes(data))
    info = probe(path)
    with av.open(str(path)) as container:
        plain = numbers(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
    assert plain[-1] == 299 and plain[0] >= 48
    assert info.n_frames == len(plain) and numbers(read_frames(path, range(len(plain)))) == plain
    late = [0, 120, len(plain) - 1]
    assert numbers(read_frames(path, late, n_frames=len(plain))) == [plain[number] for number in late]
