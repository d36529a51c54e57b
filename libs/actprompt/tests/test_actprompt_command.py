"""The ``actprompt`` command: good paths, and wrong input answered in one line with nothing written."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Command, as_json, command_fixture

import actprompt
from actprompt.cli import COMMANDS, main
from actprompt.data.readers import FORMATS

command = command_fixture(main, "actprompt")


@pytest.fixture
def source(make_video: Callable[..., Path], tmp_path: Path) -> Path:
    for level, name in ((20, "wave/1.avi"), (60, "wave/2.avi"), (100, "sit down/3.avi")):
        make_video(tmp_path / "source" / name, level=lambda index, level=level: level + index)
    (tmp_path / "source" / "wave" / "4.avi").touch()
    return tmp_path / "source"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out == f"actprompt {actprompt.__version__}\n"


def test_help_names_every_command_and_format(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = command()
    assert status == 0 and all(re.search(rf"^    {name}\s", out, re.MULTILINE) for name in COMMANDS)
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(name in text for name in FORMATS)


def test_prepare_and_info(command: Command, source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = command("prepare", "--format", "folder", source, "--out", data, "--json")
    assert made[2] == [f"1 clips could not be used: see {data / 'rejected.csv'}"]
    result = as_json(made)
    assert result["clips"] == 3 and result["rejected"] == 1 and result["frames"] == 18
    assert result["classes"] == {"wave": 2, "sit down": 1}
    assert as_json(command("info", data, "--json")) == result
    with (data / "rejected.csv").open(newline="") as handle:
        rows = list(csv.reader(handle))
    assert rows == [["id", "path", "reason"], ["4.avi", "wave/4.avi", "empty (0 bytes)"]]
    status, text, _ = command("info", data)
    assert status == 0 and re.search(r"^clips +3$", text, re.MULTILINE)


def test_strict_stops_and_writes_nothing(command: Command, source: Path, tmp_path: Path) -> None:
    data = tmp_path / "out" / "data"
    status, out, err = command("prepare", "--format", "folder", source, "--out", data, "--strict")
    assert (status, out, err) == (2, "", ["actprompt: wave/4.avi: empty (0 bytes)"])
    assert not data.parent.exists()


def test_existing_folder_is_kept_without_overwrite(command: Command, source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    words = ["prepare", "--format", "folder", source, "--out", data]
    assert command(*words)[0] == 0
    (source / "wave" / "1.avi").unlink()
    before = (data / "manifest.csv").read_bytes()
    status, _, err = command(*words)
    assert status == 2 and err == [f"actprompt: {data}: exists already (--overwrite replaces it)"]
    assert (data / "manifest.csv").read_bytes() == before
    assert as_json(command(*words, "--overwrite", "--json"))["clips"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "SOURCE", "--out", "OUT"], "the following arguments are required: --format"),
        (["prepare", "SOURCE", "--format", "folder"], "the following arguments are required: --out"),
        (["prepare", "SOURCE", "--format", "foldr", "--out", "OUT"], "unknown format 'foldr': did you mean 'folder'?"),
        (["prepare", "NONE", "--format", "folder", "--out", "OUT"], "no such folder"),
        (["prepare", "NONE", "--format", "csv", "--out", "OUT"], "no such file"),
        (["prepare", "SOURCE", "--format", "ucf101", "--out", "OUT"], "no trainlist01.txt below it"),
        (["prepare", "SOURCE", "--format", "ucf101", "--out", "OUT", "--splits", "NONE"], "no such folder"),
        (["prepare", "SOURCE", "--format", "hmdb51", "--out", "OUT"], "no <class>_test_split1.txt below it"),
        (["prepare", "SOURCE", "--format", "kinetics", "--out", "OUT"], "no CSV file with the columns"),
        (["prepare", "SOURCE", "--format", "ntu-rgbd", "--out", "OUT"], "none of its 4 clips can be used; the first"),
        (["prepare", "SOURCE", "--format", "smarthome", "--out", "OUT"], "none of its 4 clips can be used"),
        (["prepare", "SOURCE", "--format", "etri", "--out", "OUT"], "none of its 4 clips can be used"),
        (["prepare", "SOURCE", "--format", "florence3d", "--out", "OUT"], "index.csv: cannot be read"),
        (["prepare", "SOURCE", "--format", "folder", "--out", "OUT", "--splits", "SOURCE"], "has no files of splits"),
        (["prepare", "SOURCE", "--format", "folder", "--out", "OUT", "--stict"], "did you mean --strict?"),
        (["info", "NONE"], "not a prepared set (no dataset.json in it)"),
        (["info", "SOURCE"], "not a prepared set"),
        (["infos", "SOURCE"], "unknown command 'infos': did you mean 'info'?"),
    ],
)
def test_wrong_input(command: Command, source: Path, tmp_path: Path, words: list[str], message: str) -> None:
    places = {"SOURCE": source, "OUT": tmp_path / "out" / "data", "NONE": tmp_path / "none"}
    status, out, err = command(*[places.get(word, word) for word in words])
    assert status == 2 and out == "" and len(err) == 1 and err[0].startswith("actprompt: ")
    assert message in err[0]
    assert not (tmp_path / "out").exists()
