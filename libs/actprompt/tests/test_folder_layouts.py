"""Folders of videos as people keep them: any suffix, parts of splits, links, copies; nothing vanishes."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actprompt.cli import main
from actprompt.data.manifest import Manifest
from actprompt.data.prepare import prepare
from actprompt.data.readers import ucf101
from actprompt.data.video.decoding import not_a_video
from icube_common.errors import InputError

Fill = Callable[[Path, Sequence[str]], None]
MakeVideo = Callable[..., Path]


def rejected(data: Path) -> dict[str, str]:
    with (data / "rejected.csv").open(newline="") as handle:
        return {row["path"]: row["reason"] for row in csv.DictReader(handle)}


def ids(manifest: Manifest) -> list[str]:
    return [clip.id for clip in manifest.clips]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.MTS", "mpeg2video"),
        ("a.m2ts", "libx264"),
        ("a.vob", "mpeg2video"),
        ("a.mpg", "mpeg1video"),
        ("a.M4V", "mpeg4"),
        ("a.asf", "mpeg4"),
        ("a.flv", "flv"),
    ],
)
def test_any_suffix_that_holds_a_video_is_used(make_video: MakeVideo, tmp_path: Path, name: str, codec: str) -> None:
    make_video(tmp_path / "source" / "wave" / name, 25, fps=25, codec=codec, options={"bf": "0"})
    manifest = prepare("folder", tmp_path / "source", tmp_path / "data")
    assert [(clip.id, clip.n_frames) for clip in manifest.clips] == [(name, 25)]


@pytest.mark.parametrize("name", ["b.dat", "b.divx", "b.xyz", "b", "notice.avi", "readme.mp4"])
def test_the_content_counts_not_the_suffix(fill: Fill, tmp_path: Path, name: str) -> None:
    fill(tmp_path / "source", [f"wave/{name}"])
    assert ids(prepare("folder", tmp_path / "source", tmp_path / "data")) == [name]


def test_an_animated_gif_is_a_video(tmp_path: Path) -> None:
    (tmp_path / "source" / "wave").mkdir(parents=True)
    pictures = [Image.fromarray(np.full((24, 32, 3), 40 * index, np.uint8)) for index in range(5)]
    pictures[0].save(tmp_path / "source" / "wave" / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    (clip,) = prepare("folder", tmp_path / "source", tmp_path / "data").clips
    assert (clip.n_frames, clip.fps) == (5, pytest.approx(10))


def test_every_file_is_used_listed_or_counted(fill: Fill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    fill(source, ["wave/a.avi", "walk/b.avi", "walk/.hidden.avi", ".cache/c.avi", "stray.avi"])
    image = Image.fromarray(np.zeros((24, 32, 3), np.uint8))
    image.save(source / "wave" / "poster.jpg")
    image.save(source / "wave" / "frame.bin", format="png")
    (source / "wave" / "b.MTS").write_bytes(b"\x47" * 2000)
    (source / "wave" / "voice.wav").write_bytes(b"RIFF")
    (source / "wave" / "screen.asc").write_text("hello\nworld\n" * 20)
    (source / "videos.zip").write_bytes(b"PK\3\4")
    for name in ("Thumbs.db", ".DS_Store", "README", "LICENSE.txt", "list.csv", "a.srt", "a.XML", "desktop.ini"):
        (source / "wave" / name).write_text("x")
    (source / "empty").mkdir()
    os.symlink(tmp_path / "nothing.avi", source / "walk" / "broken.avi")
    words = ["prepare", "--format", "folder", str(source), "--out", str(tmp_path / "data")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    manifest = Manifest.load(tmp_path / "data")
    assert ids(manifest) == ["b.avi", "a.avi"]
    reasons = rejected(tmp_path / "data")
    assert set(reasons) == {
        "stray.avi", "videos.zip", "wave/b.MTS", "wave/poster.jpg", "wave/frame.bin", "wave/voice.wav",
        "wave/screen.asc", "walk/broken.avi",
    }  # fmt: skip
    assert reasons["stray.avi"] == "in no class folder" and reasons["wave/poster.jpg"] == "an image, not a video"
    assert reasons["wave/frame.bin"] == "not a video: a still image"
    assert reasons["wave/screen.asc"] == "not a video: text"
    assert reasons["walk/broken.avi"] == "no such file" and reasons["wave/voice.wav"] == "an audio file, not a video"
    assert manifest.description["counts"]["side_files"] == 9 and re.search(
        r"side_files +9\n", shown
    )  # .hidden.avi is one
    assert "1 folders hold no video: empty" in manifest.description["warnings"]


def test_containers_that_are_no_videos() -> None:
    assert not_a_video("mov,mp4,m4a,3gp,3g2,mj2") is None and not_a_video("matroska,webm") is None
    assert not_a_video("image2") == not_a_video("jpeg_pipe") == "a still image"
    assert not_a_video("tty") == "text" and not_a_video("hls") == not_a_video("concat") == "a playlist"


def test_images_do_not_replace_videos(fill: Fill, tmp_path: Path) -> None:
    """x.jpg and x.dat come before x.mp4 in the alphabet, and only one file of a name is a clip of UCF101."""
    name = "v_Archery_g01_c01"
    fill(tmp_path, [f"{name}.mp4", "v_Archery_g02_c01.avi"])
    for suffix in (".jpg", ".dat", ".json"):
        (tmp_path / f"{name}{suffix}").write_text("x")
    (tmp_path / "trainlist01.txt").write_text(f"Archery/{name}.avi 1\n")
    (tmp_path / "testlist01.txt").write_text("Archery/v_Archery_g02_c01.avi\n")
    found = ucf101.find(tmp_path)
    assert [clip.id for clip in found.clips] == [f"{name}.mp4", "v_Archery_g02_c01.avi"]
    assert {row.path: row.reason for row in found.rejected} == {
        f"{name}.dat": f"the same clip as {name}.mp4",
        f"{name}.jpg": "an image, not a video",
    }


def test_parts_of_a_split_above_the_classes(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "source", ["Train/walk/1.avi", "Train/sit/2.avi", "val/walk/3.avi", "testing/sit/day 1/4.avi"])
    fill(tmp_path / "source", ["Train/stray.avi"])
    manifest = prepare("folder", tmp_path / "source", tmp_path / "data")
    assert [(clip.label, clip.splits["split"]) for clip in manifest.clips] == [
        ("sit", "train"),
        ("walk", "train"),
        ("sit", "test"),
        ("walk", "validation"),
    ]
    assert manifest.split("given") == {"train": [0, 1], "validation": [3], "test": [2]}
    assert rejected(tmp_path / "data") == {"Train/stray.avi": "in no class folder"}
    assert (
        "1 clips lie in folders below their class folder, whose name is their class" in manifest.description["warnings"]
    )


def test_parts_of_a_split_without_classes_or_beside_them(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "flat", ["train/1.avi", "test/2.avi"])
    with pytest.raises(InputError, match="no class folder in test, train: expected train/<class>/<video>"):
        prepare("folder", tmp_path / "flat", tmp_path / "data")
    fill(tmp_path / "mixed", ["train/walk/1.avi", "walk/2.avi"])
    with pytest.raises(InputError, match="'train' is a part of a split, 'walk' beside it is not"):
        prepare("folder", tmp_path / "mixed", tmp_path / "data")
    fill(tmp_path / "class", ["train/1.avi", "walk/2.avi"])  # a class may be called so
    assert prepare("folder", tmp_path / "class", tmp_path / "data").class_names == ("train", "walk")


def test_links_to_folders_are_followed(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "store", ["walk/1.avi", "sit/2.avi"])
    (tmp_path / "source").mkdir()
    os.symlink(tmp_path / "store" / "walk", tmp_path / "source" / "walk")
    os.symlink(tmp_path / "store" / "sit", tmp_path / "source" / "sit")
    os.symlink(tmp_path / "source", tmp_path / "store" / "sit" / "loop")
    assert ids(prepare("folder", tmp_path / "source", tmp_path / "data")) == ["2.avi", "1.avi"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_with_two_labels_is_refused(fill: Fill, tmp_path: Path, link: Callable[..., None]) -> None:
    fill(tmp_path / "source", ["walk/1.avi", "sit/2.avi", "sit/3.avi"])
    link(tmp_path / "source" / "sit" / "2.avi", tmp_path / "source" / "walk" / "other.avi")
    with pytest.raises(InputError, match=r"walk/other.avi: the same file as sit/2.avi, listed as 'sit' and as 'walk'"):
        prepare("folder", tmp_path / "source", tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_in_two_parts_is_refused(fill: Fill, tmp_path: Path, link: Callable[..., None]) -> None:
    fill(tmp_path, ["1.avi", "2.avi"])
    link(tmp_path / "1.avi", tmp_path / "3.avi")
    (tmp_path / "train.txt").write_text("1.avi walk\n2.avi sit\n")
    (tmp_path / "test.txt").write_text("3.avi walk\n")
    lists = {"train": tmp_path / "train.txt", "test": tmp_path / "test.txt"}
    with pytest.raises(InputError, match=r"3.avi: the same file as 1.avi, listed in split as train and as test"):
        prepare("csv", lists, tmp_path / "data")
    (tmp_path / "test.txt").write_text("./x/../1.avi walk\n")
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match=r"is 'walk' in train in train.txt: line 1 and 'walk' in test here"):
        prepare("csv", lists, tmp_path / "data")
    (tmp_path / "list.csv").write_text("path,label,subject\n1.avi,walk,anna\n2.avi,sit,bob\n3.avi,walk,carl\n")
    with pytest.raises(InputError, match="of subject anna and carl"):
        prepare("csv", tmp_path / "list.csv", tmp_path / "data")


def test_one_file_twice_in_one_class_is_one_clip(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "source", ["walk/1.avi", "sit/2.avi"])
    os.symlink("1.avi", tmp_path / "source" / "walk" / "again.avi")
    assert ids(prepare("folder", tmp_path / "source", tmp_path / "data")) == ["2.avi", "1.avi"]
    assert rejected(tmp_path / "data") == {"walk/again.avi": "the same file as walk/1.avi"}


def test_copies_are_recorded_with_a_warning(
    fill: Fill, make_video: MakeVideo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, ["1.avi", "2.avi"])
    make_video(tmp_path / "3.avi", 7)
    (tmp_path / "list.csv").write_text("path,label,split\n1.avi,walk,train\n2.avi,walk,test\n3.avi,sit,test\n")
    manifest = prepare("csv", tmp_path / "list.csv", tmp_path / "data")
    assert manifest.description["copies"] == [["1.avi", "2.avi"]] and len(manifest.clips) == 3
    assert "copies that contradict each other: 1, such as 1.avi and 2.avi, in split as train and as test" in caplog.text
    with pytest.raises(InputError, match="copies that contradict each other"):
        prepare("csv", tmp_path / "list.csv", tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize("other", ["Walk", "walk ", "WALK", "wa lk", "wa_lk"])
def test_class_names_that_are_one_name_are_refused(fill: Fill, tmp_path: Path, other: str) -> None:
    fill(tmp_path / "source", ["walk/1.avi", f"{other}/2.avi"])
    with pytest.raises(InputError) as error:
        prepare("folder", tmp_path / "source", tmp_path / "data")
    assert repr(other) in str(error.value) and "'walk'" in str(error.value) and "spell them alike" in str(error.value)


def test_class_without_usable_clips_gives_a_warning(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "source", ["walk/1.avi", "sit/2.avi"])
    (tmp_path / "source" / "wave").mkdir()
    (tmp_path / "source" / "wave" / "3.avi").touch()
    manifest = prepare("folder", tmp_path / "source", tmp_path / "data")
    assert manifest.description["warnings"][-1] == "1 of 3 classes have no usable clip: wave"
    assert manifest.class_names == ("sit", "walk")
