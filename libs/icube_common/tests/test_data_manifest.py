"""Prepared sets and readers: checks of the files, targets, samples, sources."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from icube_common.data.manifest import PreparedSet, read_description, read_manifest_rows, write_rows
from icube_common.data.reader import load_reader, require_file, require_folder, split_duplicates
from icube_common.errors import InputError

ABOUT = {"root": "files", "class_names": ["walk", "run"], "title": "Toy"}


@dataclass(frozen=True)
class Clip:
    id: str
    label: str


def prepared(folder: Path, rows: list[tuple[str, str]], description: object = ABOUT) -> Path:
    write_rows(folder / "manifest.csv", ("id", "label"), rows)
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def load(folder: Path) -> PreparedSet[Clip]:
    description = read_description(folder, {"root": str, "class_names": list}, command="tool prepare")
    rows = read_manifest_rows(folder, ("id", "label"), filled=("id", "label"), classes=description["class_names"])
    return PreparedSet(folder, description, [Clip(**row) for _, row in rows])


def test_a_set_comes_back_from_its_files(tmp_path: Path) -> None:
    found = load(prepared(tmp_path, [("a", "run"), ("b", "walk")]))
    assert (len(found), found.class_names, found.targets().tolist()) == (2, ("walk", "run"), [1, 0])
    assert (found.root, found.index, found.simulated) == (tmp_path / "files", {"a": 0, "b": 1}, False)
    assert found.row("b") == Clip("b", "walk") and len(found.fingerprint) == 64
    samples = found.make_samples(["s1", "s2"])
    assert samples.ids == ("a", "b") and samples.group_array.tolist() == ["s1", "s2"]
    with pytest.raises(InputError, match="unknown id 'c'"):
        found.row("c")
    with pytest.raises(InputError, match=r"one class \('walk'\): at least two are needed"):
        PreparedSet(tmp_path, {**ABOUT, "class_names": ["walk"]}, [Clip("a", "walk")]).check_classes()


@pytest.mark.parametrize(
    ("rows", "description", "message"),
    [
        ([("a", "")], ABOUT, r"manifest.csv: line 2: label is empty"),
        ([("a", "run"), ("a", "run")], ABOUT, r"line 3: id 'a' occurs twice"),
        ([("a", "rnu")], ABOUT, r"line 2: label: unknown class 'rnu': did you mean 'run'"),
        ([], [], r"dataset.json: must hold an object"),
        ([], {"root": "x"}, r"dataset.json: class_names: None is not a list: prepare the set again"),
    ],
)
def test_damaged_sets_are_refused(
    tmp_path: Path, rows: list[tuple[str, str]], description: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(prepared(tmp_path, rows, description))


def test_no_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a prepared set .*: make one with tool prepare"):
        load(tmp_path)


def test_sources_of_readers(tmp_path: Path) -> None:
    assert load_reader("icube_common.data", {"toy": "reader"}, "toy").require_file is require_file
    with pytest.raises(InputError, match="unknown --format 'tyo': did you mean 'toy'"):
        load_reader("icube_common.data", {"toy": "reader"}, "tyo")
    with pytest.raises(InputError, match="the folder is empty; expected clips"):
        require_folder(tmp_path, "clips")
    (tmp_path / "a.txt").touch()
    assert require_folder(tmp_path, "clips") == tmp_path.resolve()
    assert require_file(tmp_path / "a.txt", "--list", "a list") == tmp_path / "a.txt"
    for path, message in ((None, "--list: is needed; expected a list"), (tmp_path / "b", "no such file")):
        with pytest.raises(InputError, match=message):
            require_file(path, "--list", "a list")
    with pytest.raises(InputError, match="no such folder"):
        require_folder(tmp_path / "b", "clips")
    assert split_duplicates("abca", str) == (["b", "c"], [("a", "id 'a' occurs 2 times")] * 2)
