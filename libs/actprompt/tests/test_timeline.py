"""Long videos: sliding windows in one pass over the file, a timeline of actions, and a threshold of rejection."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from act_world import directions, settings, write_knowledge, write_set
from test_pose_skeletons import FakeTracker

import actprompt.data.video.reader as reader_module
from actprompt.cli import main
from actprompt.data.manifest import Manifest
from actprompt.data.pose import estimate
from actprompt.data.pose.sources import SkeletonSource
from actprompt.data.video import iterate_clips, probe, read_frames
from actprompt.inference import timeline as timeline_module
from actprompt.inference import video_input as video_input_module
from actprompt.inference.html_report import clock, timeline_bar
from actprompt.inference.pipeline import predict
from actprompt.inference.terminal import render
from actprompt.inference.timeline import Window, make_timeline, split_windows
from actprompt.training.run import train
from icube_common.errors import InputError
from icube_common.pose import PoseModels

MakeVideo = Callable[..., Path]
ON, OFF = {"enabled": True}, {"enabled": False}


def test_windows_of_ten_seconds(make_video: MakeVideo, tmp_path: Path) -> None:
    info = probe(make_video(tmp_path / "long.mp4", 100, fps=10))
    assert (info.n_frames, info.duration) == (100, 10.0)
    found = split_windows(info, 2.0, 1.0)
    assert [(window.first, window.last) for window in found] == [(10 * n, 10 * n + 20) for n in range(9)]
    assert found[0].start == 0 and found[-1].end == pytest.approx(10)
    # the last window ends with the video
    assert [window.start for window in split_windows(info, 4.0, 2.5)] == [0, 2.5, 5, 6]
    assert split_windows(info, 4.0, 2.5)[-1][2:] == (60, 100)
    part = info.part(20, 40)
    assert (part.n_frames, part.fps, part.duration) == (20, pytest.approx(10), pytest.approx(2))
    assert part.times[0] == 0 and not part.variable_rate


def test_windows_of_uneven_frames(make_video: MakeVideo, tmp_path: Path) -> None:
    times = [0, 100, 200, 3000, 3100, 3200]
    info = probe(make_video(tmp_path / "gap.mp4", 6, times_ms=times, codec="libx264"))
    found = split_windows(info, 1.0, 1.0)
    assert [(window.first, window.last) for window in found][:3] == [(0, 3), (2, 3), (2, 3)]
    assert found[-1].last == 6
    assert all(window.first < window.last for window in found)


@pytest.mark.parametrize("folder", [False, True])
def test_clips_in_one_pass(folder: bool, make_video: MakeVideo, tmp_path: Path, monkeypatch: Any) -> None:
    path = make_video(tmp_path / "video.mp4", 40)
    if folder:
        from PIL import Image

        frames = read_frames(path, list(range(40)))
        path = tmp_path / "frames"
        path.mkdir()
        for number, pixels in enumerate(frames):
            Image.fromarray(pixels).save(path / f"{number:03d}.png")
    clips = [np.array([[0, 4, 9]]), np.array([[5, 9, 14], [6, 9, 13]]), np.array([[30, 30, 30]])]
    converted = []
    original = reader_module._pictures

    def counted(*words: Any, **options: Any) -> Any:
        for number, picture in enumerate(original(*words, **options)):
            yield lambda number=number, picture=picture: (converted.append(number), picture())[1]

    monkeypatch.setattr(reader_module, "_pictures", counted)
    found = list(iterate_clips(path, clips))
    assert converted == [0, 4, 5, 6, 9, 13, 14, 30]  # each frame once, no other
    for indices, clip in zip(clips, found, strict=True):
        assert (clip.indices == indices).all() and clip.frames.shape[:2] == indices.shape
        for view, row in enumerate(indices):
            for place, index in enumerate(row.tolist()):
                assert (clip.frames[view, place] == read_frames(path, [index])[0]).all()
    with pytest.raises(InputError, match="frame 40 is wanted and 40 decode"):
        list(iterate_clips(path, [np.array([[40]])]))


def test_equal_neighbours_are_one_segment() -> None:
    """Windows of 2 s, 1 s apart, of 7 s: middles 1 to 6, borders at 1.5, 2.5, ..."""
    windows = [Window(start, start + 2.0, 0, 1) for start in range(6)]
    rows = [np.array(values) for values in ([0.8, 0.2], [0.6, 0.4], [0.45, 0.55], [0.52, 0.48], [0.1, 0.9])]
    found = make_timeline(windows, [*rows, None], 7.0, threshold=0.6)
    assert [(row.start, row.end, row.accepted) for row in found] == [
        (0.0, 2.5, True), (2.5, 4.5, False), (4.5, 5.5, True), (5.5, 7.0, False),
    ]  # fmt: skip
    words = [row.to_dict(["a", "b"], ["first", "second"]) for row in found]
    assert words[0] == {
        "start": 0.0, "end": 2.5, "action": "a", "words": "first", "probability": pytest.approx(0.7), "accepted": True,
    }  # fmt: skip
    assert (words[1]["action"], words[1]["probability"]) == ("b", pytest.approx(0.515))
    assert words[2]["action"] == "b" and words[3]["action"] is None and words[3]["words"] == "no person"
    assert len(make_timeline(windows, [rows[0]] * 6, 7.0)) == 1


def test_time_axis() -> None:
    row = {"start": 0.0, "end": 30.0, "action": "a", "words": "first", "probability": 0.7, "accepted": True}
    found = timeline_bar([row, {**row, "start": 30.0, "end": 90.0, "accepted": False}], 90.0)
    assert [tick["text"] for tick in found["ticks"]] == ["0 s", "10 s", "20 s", "30 s", "40 s", "50 s", "1:00", "1:10",
                                                         "1:20", "1:30"]  # fmt: skip
    assert [(row["x"], row["width"]) for row in found["segments"]] == [(0, 333.33), (333.33, 666.67)]
    assert found["segments"][1]["name"] == "none of these (first?)" and found["ticks"][-1]["x"] == 1000
    assert [clock(moment) for moment in (0, 0.5, 59, 60, 3600)] == ["0 s", "0.5 s", "59 s", "1:00", "60:00"]


# --- through files


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of clips of 0.6 s and runs on images, skeletons and both; the first with a threshold."""
    folder = tmp_path_factory.mktemp("timeline")
    data = write_set(folder / "data", people=("p1", "p2", "p3", "p4"), takes=1)
    knowledge = str(write_knowledge(folder / "knowledge.yaml"))
    runs: dict[str, dict[str, Any]] = {
        "image": {"calibrate": True},
        "both": {"skeleton": ON},
        "numbers": {"skeleton": ON, "visual": OFF},
    }
    for name, sections in runs.items():
        train(settings(knowledge=knowledge, **sections), data, folder / name, exclude_subjects=["p1"])
    return folder


@pytest.fixture
def long_video(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Three seconds of 10 frames each."""
    return make_video(tmp_path / "long.avi", 30, fps=10, size=(48, 48))


def test_long_video(place: Path, long_video: Path, tmp_path: Path) -> None:
    found = predict(place / "image", long_video, threshold=0.0, html=tmp_path / "page.html")
    # 0.6 s, the usual clip, half of it on: 0, 0.3, ..., 2.4
    assert found.window is not None and found.window[2] == 9
    result = found.to_dict()
    rows = result["timeline"]
    assert rows[0]["start"] == 0 and rows[-1]["end"] == pytest.approx(3)
    assert [row["end"] for row in rows[:-1]] == [row["start"] for row in rows[1:]]
    assert all(one["action"] != other["action"] for one, other in pairwise(rows))
    start, end = result["window"]["start"], result["window"]["end"]
    assert all(start - 1e-6 <= row["time"] < end for row in result["reasons"]["frames"])
    # the explained window alone gives the same
    alone = tmp_path / "alone"
    alone.mkdir()
    from PIL import Image

    first = round(start * 10)
    for number, pixels in enumerate(read_frames(long_video, list(range(first, first + 6)))):
        Image.fromarray(pixels).save(alone / f"{number}.png")
    whole = predict(place / "image", alone, frame_rate=10)
    assert whole.window is None and [(s.start, s.end) for s in whole.timeline] == [(0, pytest.approx(0.6))]
    np.testing.assert_allclose(whole.probabilities, found.probabilities, atol=1e-5)
    text = render(result)
    assert "most certain of 9 windows" in text and "Timeline" in text
    page = (tmp_path / "page.html").read_text()
    bars = page[page.index('<svg class="timeline"') : page.index("</svg>")]
    assert bars.count("<rect") == len(rows) and bars.count("<line") == 7  # 0, 0.5, ... 3 s
    assert not re.search(r"https?:|url\(|<script|<image", page)


def test_short_video_is_taken_whole(place: Path, make_video: MakeVideo, tmp_path: Path) -> None:
    """Up to 1.5 windows: 0.9 s of clips of 0.6 s; the numbers are those without windows."""
    short = make_video(tmp_path / "short.avi", 9, fps=10, size=(48, 48))
    plain, wide = predict(place / "image", short), predict(place / "image", short, window=100)
    assert plain.window is None and (plain.probabilities == wide.probabilities).all()
    assert predict(place / "image", short, window=0.5).window is not None
    many = predict(place / "image", short, window=0.5, stride=0.1)
    assert many.window is not None and many.window[2] == 5


def test_none_of_these(place: Path, long_video: Path, tmp_path: Path) -> None:
    sure = predict(place / "image", long_video, threshold=1.0, html=tmp_path / "page.html")
    assert sure.rejected and not any(segment.accepted for segment in sure.timeline) and len(sure.timeline) == 1
    result = sure.to_dict()
    assert result["rejected"] and result["predicted"]["action"] == sure.label
    lines = render(result).splitlines()
    assert lines[1].startswith(f"none of these, best guess {result['predicted']['words']} ")
    assert any("0.00 to 3.00 s  none of these, best guess" in line for line in lines)
    page = (tmp_path / "page.html").read_text()
    assert "<h1>None of these</h1>" in page and f"Best guess: <b>{result['predicted']['words']}</b>" in page
    own = predict(place / "image", long_video)
    assert own.threshold is not None and "trained without its person or group" in own.threshold_rule
    assert not predict(place / "both", long_video).rejected


def test_windows_of_a_skeleton_file(place: Path, long_video: Path, tmp_path: Path) -> None:
    joints = np.concatenate([directions("wave", np.random.default_rng(0), frames=15), np.full((15, 8, 3), np.nan)])
    np.savez(tmp_path / "s.npz", joints=joints.astype(np.float32), time=np.arange(30) / 10)
    found = predict(place / "numbers", long_video, skeleton=tmp_path / "s.npz", threshold=0.0)
    rows = found.to_dict()["timeline"]
    # the last window with a joint begins at 1.2 s, its neighbour at 1.5 s
    assert rows[-1]["action"] is None and (rows[-1]["start"], rows[-1]["end"]) == (1.65, 3.0)
    assert all(row["action"] is not None for row in rows[:-1])
    both = predict(place / "both", long_video, skeleton=tmp_path / "s.npz")
    assert both.warnings[0].startswith("Skeleton missing in 4 of 9 windows")
    with pytest.raises(InputError, match="this run uses skeletons only; give --skeleton FILE"):
        predict(place / "numbers", long_video)


@pytest.fixture
def pose_models(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PoseModels:
    """Simulated networks; the test's folder has ``data`` with their poses and ``run``, trained on these without p1."""
    data = shutil.copytree(place / "data", tmp_path / "data")
    for name in ("pose_detection.tflite", "pose_landmark_full.tflite"):
        (tmp_path / name).write_bytes(b"network")
    models = PoseModels(*sorted(tmp_path.glob("*.tflite")))
    monkeypatch.setattr(estimate, "find_models", lambda folder: models)
    monkeypatch.setattr(estimate, "PoseTracker", FakeTracker)
    estimate._tracker.cache_clear()
    estimate.estimate_poses(data, workers=1)
    config = settings(knowledge=str(place / "knowledge.yaml"), skeleton={"enabled": True, "source": "pose"}, visual=OFF)
    train(config, data, tmp_path / "run", exclude_subjects=["p1"])
    return models


def test_poses_are_estimated_once(
    pose_models: PoseModels, long_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def poses(path: Path, info: Any, **options: Any) -> Any:
        calls.append(path)
        return estimate.track_video(path, info, FakeTracker(pose_models)).gated()  # type: ignore[arg-type]

    monkeypatch.setattr(timeline_module, "video_poses", poses)
    found = predict(tmp_path / "run", long_video)
    assert calls == [long_video] and found.window is not None
    assert found.poses is not None and len(found.poses.times) == 30
    # the first frame is darker than the tracker's threshold, no window is without a person
    assert all(segment.probabilities is not None for segment in found.timeline)


def test_recorded_skeletons_do_not_enter_a_model_of_poses(
    pose_models: PoseModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    manifest = Manifest.load(data)
    clip = next(clip for clip in manifest.clips if clip.subject == "p1")
    # the set has recorded skeletons of other joints beside the poses
    of_set = predict(tmp_path / "run", manifest.video(clip), data=data)
    source = SkeletonSource.choose(manifest, "pose").parameters()
    number = of_set.reasons["numbers"][0]
    value = source.values[manifest.index[clip.id], source.names.index(number["name"])]
    assert number["value"] == pytest.approx(value, rel=1e-4)
    recorded = manifest.skeleton(clip)
    assert recorded is not None
    np.savez(tmp_path / "recorded.npz", joints=recorded[0], time=recorded[1])

    def poses(path: Path, info: Any, **options: Any) -> Any:
        return estimate.track_video(path, info, FakeTracker(pose_models)).gated()  # type: ignore[arg-type]

    monkeypatch.setattr(video_input_module, "video_poses", poses)
    of_file = predict(tmp_path / "run", manifest.video(clip), skeleton=tmp_path / "recorded.npz")
    np.testing.assert_allclose(of_file.probabilities, of_set.probabilities, atol=1e-4)
    assert "The skeleton is not used: this run estimates poses from the frames." in of_file.warnings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -1.0}, r"--window -1: must be a positive number of seconds"),
        ({"window": 0.01}, r"--window 0.01: must be at least one frame, 0.1 s"),
        ({"window": 1.0, "stride": 2.0}, r"--stride 2: must be from one frame, 0.1 s, to a window, 1 s"),
        ({"window": 1.0, "data": "DATA"}, r"--window 1 with --data .*: a clip of a set is taken whole"),
        ({"threshold": 2.0}, r"--threshold 2: must be a probability from 0 to 1"),
    ],
)
def test_wrong_options(place: Path, long_video: Path, options: dict[str, Any], message: str) -> None:
    if "data" in options:
        options = {**options, "data": place / "data"}
    with pytest.raises(InputError, match=message):
        predict(place / "image", long_video, **options)


def test_command(place: Path, long_video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", str(place / "image"), str(long_video), "--window", "1", "--stride", "0.5", "--threshold", "0"]
    assert main(words) == 0
    assert "most certain of 5 windows" in capsys.readouterr().out
