"""Folders of numbered images as clips: order, gaps, sizes, features and predictions like those of a video."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actprompt.cli import main
from actprompt.data.extract import video_features
from actprompt.data.frame_sampling import Sampling
from actprompt.data.manifest import Manifest
from actprompt.data.prepare import prepare
from actprompt.data.video import VideoError, probe, read_clip
from actprompt.data.video.frame_folder import clip_digest, list_frames, read_frames
from icube_common.errors import InputError
from icube_common.vlm import FrozenVLM

Fill = Callable[[Path, Sequence[str]], None]


def write_frames(folder: Path, count: int = 12, name: str = "img_{:05d}.png", *, start: int = 1) -> Path:
    """Frame n (from 0) is a flat grey of level 10 n."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        picture = Image.fromarray(np.full((24, 32, 3), 10 * index, np.uint8))
        picture.save(folder / name.format(index + start))
    return folder


@pytest.mark.parametrize(
    "name", ["img_{:05d}.png", "frame{:06d}.PNG", "{}.png", "image-{}.png", "x{}.png", "v_x_g01_{:03d}.bmp"]
)
@pytest.mark.parametrize("start", [0, 1, 96])
def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path, name: str, start: int) -> None:
    folder = write_frames(tmp_path / "clip", name=name, start=start)
    info = probe(folder, frame_rate=25)
    assert (info.n_frames, info.fps, info.height, info.width) == (12, 25, 24, 32)
    assert info.duration == pytest.approx(12 / 25) and not info.variable_rate
    assert read_frames(folder, [0, 5, 9, 10, 11])[:, 0, 0, 0].tolist() == [0, 50, 90, 100, 110]
    clip = read_clip(folder, Sampling(frames=4), n_frames=12)
    assert (clip.frames[0, :, 3, 4, 1] == 10 * clip.indices[0]).all() and clip.frames.shape == (1, 4, 24, 32, 3)


def test_flow_beside_the_frames_is_left_out(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "clip", 4)
    for name in ("flow_x_{:05d}.png", "flow_y_{:05d}.png", "x_{:05d}.png", "y_{:05d}.png"):
        write_frames(folder, 3, name)
    (folder / "notes.txt").write_text("x")
    (folder / ".img_00009.png").write_text("x")
    assert [path.name for path in list_frames(folder)] == [f"img_{number:05d}.png" for number in range(1, 5)]


def test_flow_alone_is_no_clip(tmp_path: Path) -> None:
    for name in ("flow_x_{:05d}.png", "flow_y_{:05d}.png"):
        write_frames(tmp_path / "clip", 3, name)
    with pytest.raises(VideoError, match="only optical flow in it"):
        probe(tmp_path / "clip", frame_rate=25)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    for index, (prepare_folder, message) in enumerate(
        [
            (
                lambda folder: (folder / "img_00003.png").unlink(),
                "a frame is missing between img_00002.png and img_00004",
            ),
            (lambda folder: [(folder / f"img_0000{n}.png").unlink() for n in (3, 4)], "2 frames are missing between"),
            (lambda folder: (folder / "cover.png").write_text("x"), "cover.png has no number"),
            (lambda folder: write_frames(folder, 1, "img_{}.png"), "img_00001.png and img_1.png have the same number"),
            (lambda folder: write_frames(folder, 1, "depth_{:05d}.png"), "frames of several names"),
            (lambda folder: (folder / "img_00002.png").write_bytes(b"x"), "img_00002.png: not a readable image"),
            (lambda folder: Image.new("RGB", (8, 8)).save(folder / "img_00002.png"), "img_00002.png is 8x8, img_00001"),
            (lambda folder: Image.new("I;16", (32, 24)).save(folder / "img_00001.png"), "image of mode I;16"),
            (lambda folder: [path.unlink() for path in folder.iterdir()], "a folder without images"),
        ]
    ):
        folder = write_frames(tmp_path / str(index), 6)
        prepare_folder(folder)
        with pytest.raises(VideoError, match=message):
            probe(folder, frame_rate=25)
    with pytest.raises(VideoError, match="has no frame rate: give it with --frame-rate FPS"):
        probe(write_frames(tmp_path / "rate"))


def test_lists_of_frame_folders(tmp_path: Path) -> None:
    """mmaction2's rawframes and TSN: folder, number of frames, label."""
    write_frames(tmp_path / "frames" / "walk_1", 12)
    write_frames(tmp_path / "frames" / "sit 1", 10, "frame{:06d}.png", start=0)
    write_frames(tmp_path / "frames" / "gap", 10)
    (tmp_path / "frames" / "gap" / "img_00004.png").unlink()
    (tmp_path / "train.txt").write_text("frames/walk_1 12 0\nframes/sit 1 10 1\nframes/gap 10 1\n")
    (tmp_path / "names.txt").write_text("walk\nsit\n")
    words = ["prepare", "--format", "csv", str(tmp_path / "train.txt"), "--class-names", str(tmp_path / "names.txt")]
    assert main([*words, "--out", str(tmp_path / "none")]) == 2
    assert main([*words, "--out", str(tmp_path / "data"), "--frame-rate", "30"]) == 0
    manifest = Manifest.load(tmp_path / "data")
    assert [(clip.id, clip.label, clip.n_frames, clip.fps) for clip in manifest.clips] == [
        ("walk_1", "walk", 12, 30),
        ("sit 1", "sit", 10, 30),
    ]
    with (tmp_path / "data" / "rejected.csv").open(newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert row["reason"] == "a frame is missing between img_00003.png and img_00005.png"


def test_class_folders_of_frame_folders(fill: Fill, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_frames(source / "walk" / "one")
    write_frames(source / "sit" / "two")
    fill(source, ["sit/three.avi"])
    write_frames(source / "sit", 2, "thumb{}.png")  # beside a video: no frames
    with pytest.raises(InputError, match="has no frame rate: give it with --frame-rate FPS"):
        prepare("folder", source, tmp_path / "data")
    manifest = prepare("folder", source, tmp_path / "data", frame_rate=12.5)
    assert {clip.id: (clip.label, clip.n_frames) for clip in manifest.clips} == {
        "one": ("walk", 12),
        "two": ("sit", 12),
        "three.avi": ("sit", 6),
    }
    for rate, message in ((0.0, "must be a positive number"), (float("nan"), "must be a positive number")):
        with pytest.raises(InputError, match=message):
            prepare("folder", source, tmp_path / "other", frame_rate=rate)
    fill(tmp_path / "videos", ["sit/three.avi"])
    with pytest.raises(InputError, match=r"--frame-rate 25: no clip of .* is a folder of frames"):
        prepare("folder", tmp_path / "videos", tmp_path / "other", frame_rate=25)


def test_features_follow_the_frames(tmp_path: Path, tiny: FrozenVLM) -> None:
    source = tmp_path / "source"
    write_frames(source / "walk" / "one")
    write_frames(source / "sit" / "two", 6)
    manifest = prepare("folder", source, tmp_path / "data", frame_rate=25)
    sampling, folder = Sampling(frames=3), tmp_path / "features"
    first = video_features(manifest, manifest.clips, tiny, sampling, folder=folder)
    assert first["one"].shape == (1, 3, tiny.embed_dim)
    digest = clip_digest(source / "walk" / "one")
    Image.new("RGB", (32, 24), (250, 0, 0)).save(source / "walk" / "one" / "img_00007.png")
    os.utime(source / "walk" / "one" / "img_00007.png", ns=(1, 2**61))
    assert clip_digest(source / "walk" / "one") != digest
    second = video_features(manifest, manifest.clips, tiny, sampling, folder=folder)
    assert (second["two"] == first["two"]).all() and (second["one"] != first["one"]).any()
