"""Reading and writing manifests: a round trip, the protocols, and one line for each kind of damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from actprompt.data.manifest import Clip, Manifest, Protocol, describe, readable, skeleton_file, write_manifest
from actprompt.skeleton.features import write_parameters
from actprompt.skeleton.io import write_skeleton
from icube_common.errors import InputError
from icube_common.tabular import TabularData

CLIPS = (
    Clip(
        id="a.mp4",
        path="x/a.mp4",
        label="wave",
        subject="1",
        splits={"cs": "train"},
        n_frames=10,
        fps=20,
        duration=0.5,
    ),
    Clip(
        id='b,"1".mp4',
        path="/abs/b.mp4",
        label="sit",
        subject="2",
        camera="3",
        splits={"cs": "test"},
        n_frames=1,
        fps=25,
        duration=0.04,
    ),
    Clip(
        id="c/d.mp4",
        path="c/d.mp4",
        label="wave",
        subject="2",
        n_frames=7,
        fps=7.5,
        duration=0.933333,
        variable_rate=True,
    ),
)
PROTOCOLS = (
    Protocol(name="cross-subject", kind="split", column="cs", metric="mean_class_accuracy", source="a paper"),
    Protocol(name="leave-one-out", kind="leave-one-group-out", column="subject", source="a paper"),
)


def description() -> dict[str, object]:
    return {
        "format": "csv",
        "root": "/data",
        "class_names": ["wave", "sit"],
        "protocols": [vars(protocol) for protocol in PROTOCOLS],
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    parameters = TabularData(
        ("a.mp4", "c/d.mp4"), ("speed", "angle, last"), np.array([[1, 2], [np.nan, 4]]), ("m/s", "degrees")
    )
    entries = {
        "parameters": write_parameters(folder, parameters),
        "skeleton": {"joints": ["j"], "unit": "m", "clips": 1},
    }
    joints = np.array([[[1, 2, np.nan]], [[4, 5, 6]]], dtype=np.float32)
    write_skeleton(folder, "c/d.mp4", joints, np.array([0, 0.5], dtype=np.float32))
    write_manifest(folder, CLIPS, {**description(), **entries})
    return folder


def test_round_trip(data: Path) -> None:
    manifest = Manifest.load(data)
    assert manifest.clips == CLIPS
    assert manifest.class_names == ("wave", "sit") and manifest.targets().tolist() == [0, 1, 0]
    assert [str(manifest.video(clip)) for clip in CLIPS] == ["/data/x/a.mp4", "/abs/b.mp4", "/data/c/d.mp4"]
    assert str(Manifest.load(data, root="/moved").video(CLIPS[0])) == "/moved/x/a.mp4"
    assert manifest.index["c/d.mp4"] == 2
    assert manifest.protocols == {protocol.name: protocol for protocol in PROTOCOLS}


def test_protocols(data: Path) -> None:
    manifest = Manifest.load(data)
    assert manifest.split("cross-subject") == {"train": [0], "validation": [], "test": [1]}
    assert manifest.groups("leave-one-out") == ["1", "2", "2"]
    with pytest.raises(InputError, match="unknown protocol 'cross-subjct': did you mean 'cross-subject'"):
        manifest.split("cross-subjct")
    with pytest.raises(InputError, match="leaves one subject out: ask for its groups"):
        manifest.split("leave-one-out")
    with pytest.raises(InputError, match="has fixed parts: ask for its split"):
        manifest.groups("cross-subject")


def test_named_parameters_and_skeletons(data: Path) -> None:
    manifest = Manifest.load(data)
    table = manifest.parameters()
    assert (table.names, table.units) == (("speed", "angle, last"), ("m/s", "degrees"))
    np.testing.assert_array_equal(table.values, [[1, 2], [np.nan, np.nan], [np.nan, 4]])
    assert manifest.skeleton(CLIPS[0]) is None
    found = manifest.skeleton(CLIPS[2])
    assert found is not None
    np.testing.assert_array_equal(found[0], [[[1, 2, np.nan]], [[4, 5, 6]]])
    assert found[1].tolist() == [0, 0.5]
    (data / "skeleton" / skeleton_file("a.mp4")).write_bytes(b"no archive")
    with pytest.raises(InputError, match="not a skeleton file"):
        manifest.skeleton(CLIPS[0])
    with pytest.raises(InputError, match="this set has no named parameters"):
        Manifest("/nowhere", description(), CLIPS).parameters()


def test_two_ids_never_share_a_skeleton_file() -> None:
    assert len({skeleton_file(name) for name in ("a/b", "a%2Fb", "a_b", "a%b")}) == 4


def test_a_manifest_of_two_runs_is_the_same(data: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    write_manifest(tmp_path / "again", CLIPS, description())
    assert Manifest.load(tmp_path / "again").fingerprint == Manifest.load(data).fingerprint


def test_describe_counts_and_detects_an_edit(data: Path) -> None:
    told = describe(data)
    assert told["clips"] == 3 and told["frames"] == 18 and told["subjects"] == 2 and told["cameras"] == 1
    assert told["classes"] == {"wave": 2, "sit": 1} and told["splits"] == {"cs": {"train": 1, "test": 1}}
    assert told["variable_rate"] == 1 and told["edited_by_hand"] is False and told["parameters"] == 2
    assert told["protocols"]["cross-subject"] == "split by cs, mean_class_accuracy (a paper)"
    lines = (data / "manifest.csv").read_text().splitlines(keepends=True)
    (data / "manifest.csv").write_text("".join(lines[:-1]))
    told = describe(data)
    assert told["clips"] == 2 and told["edited_by_hand"] is True


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id,path", "name,path", "line 1: no column 'id'"),
        ("a.mp4,x/a.mp4,wave", ",x/a.mp4,wave", "line 2: id is empty"),
        ("a.mp4,x/a.mp4,wave", "a.mp4,x/a.mp4,wvae", "line 2: label: unknown class 'wvae': did you mean 'wave'"),
        ("c/d.mp4,c/d.mp4", "a.mp4,c/d.mp4", "line 4: id 'a.mp4' occurs twice"),
        (",train,", ",training,", "line 2: cs: 'training' is none of train, validation, test"),
        (",10,20,", ",ten,20,", "line 2: invalid literal"),
        (",10,20,", ",0,20,", "line 2: n_frames 0, fps 20"),
        (",10,20,", ",10,nan,", "line 2: n_frames 10, fps nan"),
        ("0.5,0\n", "0.5,2\n", "variable_rate 2"),
        ("0.5,0\n", "0.5\n", "line 2: 10 fields, 11 expected"),
    ],
)
def test_a_damaged_manifest_is_named_by_its_line(data: Path, old: str, new: str, message: str) -> None:
    path = data / "manifest.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    for read in (Manifest.load, describe):
        with pytest.raises(InputError) as caught:
            read(data)
        assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("class_names", "wave", "class_names: 'wave' is not a list"),
        ("root", None, "root: None is not a str"),
        ("protocols", [{"name": "x"}], "must have exactly the keys column, kind, metric, name, source"),
        ("protocols", [{**vars(PROTOCOLS[0]), "kind": "splt"}], "unknown kind 'splt': did you mean 'split'"),
        ("protocols", [{**vars(PROTOCOLS[0]), "metric": "f1"}], "unknown metric 'f1'"),
        ("protocols", [{**vars(PROTOCOLS[0]), "column": "cv"}], "no clip has a 'cv'"),
    ],
)
def test_a_damaged_dataset_json_is_named(data: Path, key: str, value: object, message: str) -> None:
    path = data / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(InputError) as caught:
        Manifest.load(data)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a.mp4,1,2", "z.mp4,1,2", "line 2: id 'z.mp4' is not in the manifest"),
        ("a.mp4,1,2", "a.mp4,fast,2", "line 2: speed: 'fast' is no number"),
        ("a.mp4,1,2", "a.mp4,inf,2", "line 2: speed: must be finite"),
        ("id,speed", "id,pace", "line 1: no column 'speed'"),
    ],
)
def test_damaged_numbers_are_named(data: Path, old: str, new: str, message: str) -> None:
    path = data / "parameters.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        Manifest.load(data).parameters()
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


def test_no_set_and_no_files(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match=r"not a prepared set \(no dataset.json in it\)"):
        Manifest.load(tmp_path)
    (data / "dataset.json").write_text("[1]")
    with pytest.raises(InputError, match="must hold an object"):
        Manifest.load(data)
    (data / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        describe(data)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("brush_hair", "brush hair"),
        ("YoYo", "yo yo"),
        ("TaiChi", "tai chi"),
        ("watchTV", "watch tv"),
        ("drink water", "drink water"),
        ("throw up cap/hat", "throw up cap/hat"),
    ],
)
def test_labels_in_words(label: str, words: str) -> None:
    assert readable(label) == words
