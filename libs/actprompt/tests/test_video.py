"""Decoding: the right frames, upright, by every way; and a reason for each kind of broken file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_files import numbers, write_video

from actprompt.data.frame_sampling import Sampling
from actprompt.data.video import VideoError, decoder_key, indices_at, probe, read_clip, read_frames, reader, seeking

MakeVideo = Callable[..., Path]


def levels(frames: np.ndarray) -> list[int]:
    """Frames of flat grey back to their numbers (see conftest): 8 levels apart, so codec noise does not matter."""
    return [round((float(frame.mean()) - 16) / 8) for frame in frames]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "mpeg4"), ("a.mp4", "mpeg4"), ("a.mkv", "mpeg4"), ("a.mp4", "libx264"), ("a.webm", "libvpx-vp9")],
)
def test_file_content(make_video: MakeVideo, tmp_path: Path, name: str, codec: str) -> None:
    info = probe(make_video(tmp_path / name, 12, fps=20, size=(48, 32), codec=codec))
    assert (info.n_frames, info.height, info.width, info.rotation) == (12, 32, 48, 0)
    assert info.fps == pytest.approx(20) and info.duration == pytest.approx(0.6)
    np.testing.assert_allclose(info.times, np.arange(12) / 20, atol=1e-3)
    assert not info.variable_rate


def test_chosen_frames(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 20)
    frames = read_frames(path, [0, 3, 19])
    assert frames.shape == (3, 24, 32, 3) and frames.dtype == np.uint8
    assert levels(frames) == [0, 3, 19]
    clip = read_clip(path, Sampling(frames=2, views=2), n_frames=20)
    assert clip.indices.tolist() == [[2, 12], [7, 17]] and clip.frames.shape == (2, 2, 24, 32, 3)
    assert [levels(view) for view in clip.frames] == [[2, 12], [7, 17]]
    again = read_clip(path, Sampling(frames=2, views=2))
    np.testing.assert_array_equal(again.frames, clip.frames)


def test_a_short_video_repeats_frames(make_video: MakeVideo, tmp_path: Path) -> None:
    clip = read_clip(make_video(tmp_path / "a.avi", 2), Sampling(frames=4))
    assert levels(clip.frames[0]) == [0, 0, 1, 1]


def test_one_frame(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 1)
    info = probe(path)
    assert info.n_frames == 1 and info.fps == 20 and info.duration == pytest.approx(1 / 20)
    assert levels(read_clip(path, Sampling(frames=3)).frames[0]) == [0, 0, 0]


def test_variable_frame_rate_is_sampled_evenly_in_time(make_video: MakeVideo, tmp_path: Path) -> None:
    """Frames 0 to 4 come in the first 0.2 s, then one each 0.2 s: index 4 is not the middle of the video."""
    times = [0, 50, 100, 150, 200, 400, 600, 800, 1000]
    path = make_video(tmp_path / "a.mp4", 9, times_ms=times, codec="libx264")
    info = probe(path)
    assert info.variable_rate and info.n_frames == 9 and info.fps == pytest.approx(8)
    # even moments 0, 1/8, ... 1 s
    assert indices_at(info, np.arange(9)).tolist() == [0, 2, 4, 4, 5, 6, 6, 7, 8]
    clip = read_clip(path, Sampling(frames=3), n_frames=9, variable_rate=True)
    assert levels(clip.frames[0]) == [2, 5, 7]  # slots 1, 4, 7
    assert clip.indices.tolist() == [[2, 5, 7]]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "h264", {}),
        ("a.mkv", "h264", {"x264-params": "open-gop=1:keyint=60:bframes=3:scenecut=0"}),
        ("a.mkv", "h264", {"x264-params": "intra-refresh=1:keyint=60"}),
        ("a.mp4", "hevc", {"x265-params": "open-gop=1:keyint=60:bframes=3:log-level=none:pools=1"}),
        ("a.mov", "mpeg4", {}),
        ("a.webm", "vp9", {}),
    ],
)
def test_late_frames_are_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, options: dict[str, str]
) -> None:
    """The same pixels as in order, with B-frames, open GOPs and intra refresh."""
    path = write_video(tmp_path / name, codec, range(600), options=options)
    wanted = [3, 5, 300, 301, 304, 597]
    in_order = read_frames(path, wanted)
    assert numbers(in_order) == wanted
    sought: list[int] = []
    seek = reader.seek_frames

    def counting(*args: Any) -> Iterator[Any]:
        for frame in seek(*args):
            sought.append(frame.pts)
            yield frame

    monkeypatch.setattr(reader, "seek_frames", counting)
    np.testing.assert_array_equal(read_frames(path, wanted, n_frames=600), in_order)
    assert len(sought) == 6
    sought.clear()
    # as many packets as a manifest has frames are a condition
    with pytest.raises(VideoError, match="frame 700 is wanted and 600 decode"):
        read_frames(path, [3, 700], n_frames=701)
    assert not sought


def test_most_frames_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", "h264", range(600))
    decoded: list[int] = []
    run = seeking._decoded_from

    def counting(*args: Any) -> Iterator[tuple[int, Any]]:
        for number, frame in run(*args):
            decoded.append(number)
            yield number, frame

    monkeypatch.setattr(seeking, "_decoded_from", counting)
    assert numbers(read_frames(path, [3, 5, 300, 301, 304, 597], n_frames=600)) == [3, 5, 300, 301, 304, 597]
    assert len(decoded) < 3 * 40


def test_a_file_that_cannot_seek_is_read_in_order(
    make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.mkv", 400)

    def elsewhere(*args: Any) -> Iterator[Any]:
        raise LookupError(0)
        yield

    monkeypatch.setattr(reader, "seek_frames", elsewhere)
    assert levels(read_frames(path, [300, 399], n_frames=400)) == [300 % 28, 399 % 28]


@pytest.mark.parametrize("name", ["a.avi", "a.mp4"])
def test_memory_does_not_grow_with_the_video(make_video: MakeVideo, tmp_path: Path, name: str) -> None:
    """300 frames of 320x240 are 69 MB; five of them 1.2 MB; read in order, and sought."""
    path = make_video(tmp_path / name, 300, size=(320, 240))
    tracemalloc.start()
    clip = read_clip(path, Sampling(frames=5), n_frames=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert clip.frames.nbytes == 5 * 320 * 240 * 3
    assert peak < 8e6


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_reasons(make_video: MakeVideo, tmp_path: Path) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(VideoError) as caught:
            probe(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: ") and "\n" not in text
        return text.removeprefix(f"{path}: ")

    assert reason(tmp_path / "none.mp4") == "no such file"
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert reason(empty) == "empty (0 bytes)"
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).bytes(4000))
    assert reason(noise).startswith("cannot be decoded: ")
    text = tmp_path / "text.avi"
    text.write_text("no video\n" * 100)
    assert reason(text).startswith("cannot be decoded: ")
    sound = make_video(tmp_path / "sound.mp4", 0, sound=True)
    assert reason(sound) == "not a video: only sound in it"
    # an mp4's table of frames stands at its end
    assert reason(cut(make_video(tmp_path / "headless.mp4", 20), 0.7)).startswith("cannot be decoded: ")


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_truncated_behind_a_whole_header(make_video: MakeVideo, tmp_path: Path, name: str) -> None:
    options = {"g": "5"}
    path = make_video(tmp_path / name, 100, size=(64, 48), options=options)
    if name.endswith("mp4"):
        import av

        moved = tmp_path / "moved.mp4"
        with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        path = moved
    assert probe(path).n_frames == 100
    with pytest.raises(VideoError, match=r"truncated|cannot be decoded"):
        probe(cut(path, 0.6))


def test_fewer_frames_than_in_the_manifest(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 5)
    with pytest.raises(VideoError, match=r"frame 9 is wanted and 5 decode: prepare the set again"):
        read_clip(path, Sampling(frames=10), n_frames=10)


def test_the_key_names_decoder_and_versions() -> None:
    import av

    key = decoder_key()
    assert key["reader"] == "2"
    assert key["av"] == av.__version__ and key["pytorchvideo"].startswith("0.") and key["decoder"] == "pyav"
    assert all(isinstance(value, str) and value for value in key.values())


@pytest.mark.real_data
def test_real_clips(florence3d: Path) -> None:
    import csv

    with (florence3d / "index.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))[::16]
    for row in rows:
        info = probe(florence3d / "clips" / row["clip"])
        assert info.n_frames == int(row["n_frames"]) and info.fps == pytest.approx(float(row["fps"]))
        assert (info.width, info.height, info.variable_rate) == (320, 240, False)
    clip = read_clip(florence3d / "clips" / rows[0]["clip"], Sampling(frames=8), n_frames=int(rows[0]["n_frames"]))
    assert clip.frames.shape == (1, 8, 240, 320, 3) and clip.frames.std() > 20


@pytest.mark.real_data
def test_a_real_recording_in_avi(florence3d: Path) -> None:
    """Of NTU RGB+D: H.264 with B-frames, and times of storage."""
    path = florence3d.parents[1] / "wild" / "video" / "S001C001P001R001A001_rgb.avi"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {path.parent}")
    info = probe(path)
    assert (info.n_frames, info.width, info.height, info.variable_rate) == (103, 1920, 1080, False)
    assert info.fps == pytest.approx(30) and info.duration == pytest.approx(103 / 30)
    np.testing.assert_allclose(info.times, np.arange(103) / 30, atol=1e-6)
