"""From videos to a manifest: every set's own protocol ends in its columns, and nothing is left half-written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import actprompt.data.prepare as prepare_module
from actprompt.cli import main
from actprompt.data.manifest import Manifest
from actprompt.data.prepare import prepare
from icube_common.errors import InputError

Fill = Callable[[Path, Sequence[str]], None]
MakeVideo = Callable[..., Path]


def test_manifest_holds_the_metadata_of_videos(make_video: MakeVideo, tmp_path: Path) -> None:
    make_video(tmp_path / "source" / "a" / "even.mp4", 10, fps=25)
    make_video(tmp_path / "source" / "b" / "uneven.mp4", 5, times_ms=[0, 40, 80, 800, 1000], codec="libx264")
    manifest = prepare("folder", tmp_path / "source", tmp_path / "data")
    even, uneven = manifest.clips
    assert (even.n_frames, even.fps, even.variable_rate) == (10, 25, False) and even.duration == pytest.approx(0.4)
    assert (uneven.n_frames, uneven.fps, uneven.variable_rate) == (5, 4, True)
    assert manifest.video(even) == tmp_path / "source" / "a" / "even.mp4" and manifest.video(even).is_file()
    assert manifest.class_names == ("a", "b") and manifest.targets().tolist() == [0, 1]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "dataset.json",
        "manifest.csv",
        "rejected.csv",
    ]


def test_each_bad_file_is_rejected_with_its_reason(make_video: MakeVideo, tmp_path: Path) -> None:
    source = tmp_path / "source" / "wave"
    make_video(source / "good.mp4")
    make_video(source / "sound.mp4", 0, sound=True)
    make_video(source / "cut.mp4", 20)
    (source / "cut.mp4").write_bytes((source / "cut.mp4").read_bytes()[:500])
    (source / "empty.avi").touch()
    (source / "text.mkv").write_text("no video")
    assert [clip.id for clip in prepare("folder", tmp_path / "source", tmp_path / "data").clips] == ["good.mp4"]
    with (tmp_path / "data" / "rejected.csv").open(newline="") as handle:
        reasons = {row["id"]: row["reason"] for row in csv.DictReader(handle)}
    assert set(reasons) == {"sound.mp4", "cut.mp4", "empty.avi", "text.mkv"}
    assert reasons["empty.avi"] == "empty (0 bytes)" and reasons["sound.mp4"] == "not a video: only sound in it"
    assert reasons["cut.mp4"].startswith("cannot be decoded") and reasons["text.mkv"].startswith("cannot be decoded")


def test_a_csv_may_name_files_that_are_not_there(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, ["a.avi", "b.avi"])
    (tmp_path / "list.csv").write_text(f"path,label,subject\na.avi,x,1\n{tmp_path / 'b.avi'},y,2\nc.avi,y,2\n")
    manifest = prepare("csv", tmp_path / "list.csv", tmp_path / "data")
    assert [clip.id for clip in manifest.clips] == ["a.avi", "b.avi"]
    assert all(manifest.video(clip).is_file() for clip in manifest.clips)
    assert "c.avi,c.avi,no such file" in (tmp_path / "data" / "rejected.csv").read_text()
    assert manifest.groups("leave-one-subject-out") == ["1", "2"]


def test_no_usable_clip_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "source" / "wave").mkdir(parents=True)
    (tmp_path / "source" / "wave" / "a.mp4").touch()
    with pytest.raises(InputError, match=r"none of its 1 clips can be used; the first, a.mp4: empty \(0 bytes\)"):
        prepare("folder", tmp_path / "source", tmp_path / "out" / "data")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_leaves_nothing(fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "source", ["wave/a.avi"])

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_module, "write_manifest", stop)
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        prepare("folder", tmp_path / "source", tmp_path / "out" / "data")
    assert not any((tmp_path / "out").iterdir())


def test_any_executor_gives_the_same(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "source", [f"{label}/{number}{label}.avi" for label in "ab" for number in range(20)])
    (tmp_path / "source" / "a" / "0a.avi").touch()
    one = prepare("folder", tmp_path / "source", tmp_path / "one")
    with ThreadPoolExecutor(2) as executor:
        two = prepare("folder", tmp_path / "source", tmp_path / "two", executor=executor)
    assert one.clips == two.clips and one.fingerprint == two.fingerprint


def test_processes_give_the_same(fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "source", [f"{label}/{number}{label}.avi" for label in "ab" for number in range(4)])
    one = prepare("folder", tmp_path / "source", tmp_path / "one")
    monkeypatch.setattr(prepare_module, "CLIPS_WORTH_A_POOL", 1)
    assert prepare("folder", tmp_path / "source", tmp_path / "two").clips == one.clips


def test_official_splits_survive_into_the_manifest(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "source", ["S001C001P001R001A001_rgb.avi", "S001C002P003R001A001_rgb.avi", "bad.avi"])
    prepare("ntu-rgbd", tmp_path / "source", tmp_path / "data")
    manifest = Manifest.load(tmp_path / "data")
    assert manifest.split("cross-subject-60") == {"train": [0], "validation": [], "test": [1]}
    assert manifest.split("cross-view-60") == {"train": [1], "validation": [], "test": [0]}
    assert manifest.class_names == ("drink water",) and manifest.description["counts"]["rejected"] == 1


def test_smarthome_keeps_its_metric_and_its_words(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "source", ["Drink.Fromcup_p03_r00_v02_c01.mp4", "Walk_p02_r00_v02_c02.mp4"])
    manifest = prepare("smarthome", tmp_path / "source", tmp_path / "data")
    assert manifest.protocol("cross-view-1").metric == "mean_class_accuracy"
    assert manifest.class_texts == {"Drink.Fromcup": "drink from a cup", "Walk": "walk"}
    assert manifest.split("cross-view-1") == {"train": [0], "validation": [], "test": [1]}


@pytest.mark.real_data
def test_the_real_florence3d(florence3d: Path, tmp_path: Path) -> None:
    manifest = prepare("florence3d", florence3d, tmp_path / "data")
    assert len(manifest.clips) == 129 and sum(clip.n_frames for clip in manifest.clips) == 2540
    assert set(manifest.groups("leave-one-actor-out")) == set("123456") and len(manifest.class_names) == 9
    joints, time = manifest.skeleton(manifest.clips[0]) or (None, None)
    assert joints is not None and time is not None and joints.shape == (27, 8, 3)
    assert time[-1] == pytest.approx(26 / 20, abs=1e-4)  # the last of 27 frames at 20 fps
    parameters = manifest.parameters()
    assert parameters.ids == tuple(clip.id for clip in manifest.clips) and parameters.values.shape[0] == 129
    column = {name: parameters.values[:, at] for at, name in enumerate(parameters.names)}
    labels = np.array([clip.label for clip in manifest.clips])

    def typical(name: str, label: str) -> float:
        return float(np.nanmedian(column[name][labels == label]))

    # what the names say is what the actions do
    assert typical("hands apart, smallest", "clap") < 0.25 < typical("hands apart, smallest", "wave")
    assert (
        typical("active hand to head, last", "answer phone") < 0.45 < typical("active hand to head, last", "stand up")
    )
    assert typical("knee bend, last", "sit down") > 60 > 30 > typical("knee bend, last", "stand up")
    assert typical("active arm raise, largest", "wave") > 120


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_damaged_files_are_rejected_or_kept_knowingly(
    make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    make_video(source / "a" / "whole.avi", 40)
    cut = make_video(source / "b" / "cut.avi", 40)
    cut.write_bytes(cut.read_bytes()[:8000])
    (source / "b" / "noise.avi").write_bytes(b"no video" * 500)
    command = ["prepare", "--format", "folder", str(source), "--json", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    assert json.loads(capsys.readouterr().out)["damaged"] == 0
    rejected = {row["id"]: row["reason"] for row in rows(tmp_path / "whole" / "rejected.csv")}
    assert set(rejected) == {"cut.avi", "noise.avi"} and "--keep-damaged" not in rejected["noise.avi"]
    assert "truncated: " in rejected["cut.avi"] and rejected["cut.avi"].endswith(
        "to use them, prepare or predict with --keep-damaged"
    )
    assert "damage" not in rows(tmp_path / "whole" / "manifest.csv")[0]

    assert main([*command, str(tmp_path / "kept"), "--keep-damaged"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["damaged"] == 1 and "1 damaged clips are used: see column damage of " in err
    assert [row["id"] for row in rows(tmp_path / "kept" / "rejected.csv")] == ["noise.avi"]
    manifest = Manifest.load(tmp_path / "kept")
    clip = manifest.clips[manifest.index["cut.avi"]]
    assert 0 < clip.n_frames < 40 and clip.damage.startswith("truncated: ")
    assert manifest.clips[manifest.index["whole.avi"]].damage == ""
    assert all(not clip.splits for clip in manifest.clips)
    assert main(["info", str(tmp_path / "kept"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["damaged"] == 1
    out_folder = tmp_path / "features"
    settings = ["vlm.name=icube-tiny", "video.frames=3", "--json"]
    assert main(["extract", "--data", str(tmp_path / "kept"), "--out", str(out_folder), *settings]) == 0
    assert json.loads(capsys.readouterr().out)["computed"] == 2
