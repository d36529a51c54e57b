"""Sets of one class, folders and unusual names given to predict: one line each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from act_world import write_knowledge, write_set
from test_frame_folder import write_frames

from actprompt.cli import main
from actprompt.data.manifest import Manifest
from actprompt.data.prepare import prepare

Fill = Callable[[Path, Sequence[str]], None]
SETTINGS = (
    "vlm.name=icube-tiny", "prompt.init=template", "video.frames=3", "skeleton.enabled=false", "train.max_steps=2",
    "train.report_to=none", "train.device=cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of four actions."""
    place = tmp_path_factory.mktemp("run")
    data, knowledge = write_set(place / "data"), write_knowledge(place / "knowledge.yaml")
    words = ["train", "--data", str(data), "--out", str(place / "run"), f"knowledge={knowledge}", *SETTINGS]
    assert main(words) == 0
    return place / "run"


@pytest.mark.parametrize(
    "words",
    [
        ["train", *SETTINGS],
        ["evaluate", "--protocol", "k-fold", *SETTINGS],
        ["zeroshot", "vlm.name=icube-tiny", "prompt.init=template"],
    ],
    ids=["train", "evaluate", "zeroshot"],
)
def test_a_set_of_one_class_is_refused(
    words: list[str], fill: Fill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "source", ["wave/1.avi", "wave/2.avi"])
    manifest = prepare("folder", tmp_path / "source", tmp_path / "data")
    assert manifest.description["warnings"][-1].startswith("one class ('wave'): a model needs two")
    capsys.readouterr()
    command, *settings = words
    assert main([command, "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *settings]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "data: one class ('wave'): at least two are needed" in error
    assert not (tmp_path / "out").exists()


def test_set_of_one_class_is_evaluated_by_a_trained_run(run: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "data", people=("q1", "q2"), labels=("wave",), format="other")
    assert main(["evaluate", str(run), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 0


def test_predict_refuses_a_folder_of_videos(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_set(tmp_path / "data")
    for words, message in (
        ([str(data / "videos")], "videos: is a folder; give one video, or for all of them a set: actprompt prepare"),
        ([str(data / "videos" / "p1-wave-0.avi"), "--frame-rate", "25"], "--frame-rate 25: "),
        (
            [str(write_frames(tmp_path / "frames"))],
            "frames: a folder of frames has no frame rate: give it with --frame-",
        ),
        ([str(tmp_path / ("z" * 300 + ".mp4"))], "no such file"),
    ):
        assert main(["predict", str(run), *words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_predict_takes_a_folder_of_frames(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = write_frames(tmp_path / "frames")
    page = tmp_path / "page.html"
    assert main(["predict", str(run), str(frames), "--frame-rate", "24", "--json", "--html", str(page)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["n_frames"], result["seconds"]) == (12, 0.5) and page.is_file()


@pytest.mark.parametrize("name", ["-a3.avi", "12:30:05.avi", "my video, 2.avi", 'say "hi".avi', "ünï.avi", "a\nb.avi"])
def test_predict_takes_any_name(
    run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_set(tmp_path / "data", people=("p1",), labels=("wave", "bow"), takes=1)
    shutil.copy(Manifest.load(data).root / "videos" / "p1-wave-0.avi", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(run), "--json", "--", name]) == 0
    assert json.loads(capsys.readouterr().out)["video"] == name
    if name.startswith("-"):
        assert main(["predict", str(run), name]) == 2
        assert (
            "is read as an option; a file whose name begins with a dash is named ./-a3.avi" in capsys.readouterr().err
        )
        assert main(["predict", str(run), f"./{name}"]) == 0
