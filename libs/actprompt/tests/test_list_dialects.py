"""Lists of clips as people and published code write them, through `prepare` and the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from actprompt.cli import main
from actprompt.data.manifest import Manifest
from actprompt.data.prepare import prepare
from actprompt.data.readers.lists.class_names import read_class_names
from icube_common.errors import InputError

Fill = Callable[[Path, Sequence[str]], None]
NAMES = ("walk", "sit down", "wave")


@pytest.fixture
def videos(fill: Fill, tmp_path: Path) -> Path:
    fill(tmp_path, ["videos/a.avi", "videos/b.avi", "videos/my walk, 2.avi"])
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


def labels_of(manifest: Manifest) -> dict[str, str]:
    return {clip.id: clip.label for clip in manifest.clips}


def rejected(data: Path) -> dict[str, str]:
    with (data / "rejected.csv").open(newline="") as handle:
        return {row["path"]: row["reason"] for row in csv.DictReader(handle)}


NUMBERED = {
    "space": "videos/a.avi 0\nvideos/b.avi 1\nvideos/my walk, 2.avi 2\n",
    "comma": 'videos/a.avi,0\nvideos/b.avi,1\n"videos/my walk, 2.avi",2\n',
    "semicolon": "videos/a.avi;0\nvideos/b.avi;1\nvideos/my walk, 2.avi;2\n",
    "tab": "videos/a.avi\t0\nvideos/b.avi\t1\nvideos/my walk, 2.avi\t2\n",
    "bar": "videos/a.avi|0\nvideos/b.avi|1\nvideos/my walk, 2.avi|2\n",
    "blank lines, comments": "# list\n\nvideos/a.avi   0\n\n  videos/b.avi 1 \nvideos/my walk, 2.avi\t2\n\n",
    "CRLF": "videos/a.avi 0\r\nvideos/b.avi 1\r\nvideos/my walk, 2.avi 2\r\n",
    "quotes": '"videos/a.avi" 0\n"videos/b.avi" 1\n"videos/my walk, 2.avi" 2\n',
    "frames of TSN": "videos/a.avi 6 0\nvideos/b.avi 6 1\nvideos/my walk, 2.avi 6 2\n",
    "no suffix": "videos/a 6 0\nvideos/b 6 1\nvideos/my walk, 2 6 2\n",
    "leading slash": "/videos/a.avi 0\n/videos/b.avi 1\n/videos/my walk, 2.avi 2\n",
    "backslash": "videos\\a.avi 0\nvideos\\b.avi 1\nvideos\\my walk, 2.avi 2\n",
    "head, pandas' index": ',Path,Label\n0,videos/a.avi,0\n1,videos/b.avi,1\n2,"videos/my walk, 2.avi",2\n',
    "pandas' index without a head": '0,videos/a.avi,0\n1,videos/b.avi,1\n2,"videos/my walk, 2.avi",2\n',
    "Excel's line of the delimiter": "sep=;\npath;label\nvideos/a.avi;0\nvideos/b.avi;1\nvideos/my walk, 2.avi;2\n",
    "floats of pandas": 'path,label\nvideos/a.avi,0.0\nvideos/b.avi,1.0\n"videos/my walk, 2.avi",2.0\n',
}


@pytest.mark.parametrize("dialect", NUMBERED)
def test_numbers_are_named_by_the_file_of_class_names(videos: Path, dialect: str) -> None:
    (videos / "list.txt").write_bytes(NUMBERED[dialect].encode())
    manifest = prepare("csv", videos / "list.txt", videos / "data", class_names=videos / "names.txt")
    assert labels_of(manifest) == {"a.avi": "walk", "b.avi": "sit down", "my walk, 2.avi": "wave"}
    assert manifest.class_names == NAMES  # in the order of the numbers, not of the alphabet
    assert rejected(videos / "data") == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(fill: Fill, tmp_path: Path, encoding: str) -> None:
    fill(tmp_path, ["café/é.avi"])
    (tmp_path / "list.csv").write_bytes("path,label\ncafé/é.avi,boire un café\n".encode(encoding))
    assert labels_of(prepare("csv", tmp_path / "list.csv", tmp_path / "data")) == {"é.avi": "boire un café"}
    (tmp_path / "latin.csv").write_bytes("path,label\ncafé/é.avi,boire\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.csv: line 2: not UTF-8 text \(byte 14\): save it as UTF-8"):
        prepare("csv", tmp_path / "latin.csv", tmp_path / "data2")


@pytest.mark.parametrize(
    ("head", "rows"),
    [
        ("path,label", "videos/a.avi,walk\nvideos/b.avi,sit down\n"),
        ("Path,Label", "videos/a.avi,walk\nvideos/b.avi,sit down\n"),
        ("video,class", "videos/a.avi,walk\nvideos/b.avi,sit down\n"),
        ("filename,action", "videos/a.avi,walk\nvideos/b.avi,sit down\n"),
        ("file;activity", "videos/a.avi;walk\nvideos/b.avi;sit down\n"),
        ("Video Path\tClass Name", "videos/a.avi\twalk\nvideos/b.avi\tsit down\n"),
        ("label,clip", "walk,videos/a.avi\nsit down,videos/b.avi\n"),
        ("Unnamed: 0,video_path,label,class_name", "0,videos/a.avi,0,walk\n1,videos/b.avi,1,sit down\n"),
        ("clip_name,clip_path,label", "x,/videos/a.avi,walk\ny,/videos/b.avi,sit down\n"),
        ('"path","label"', '"videos/a.avi","walk"\n"videos/b.avi","sit down"\n'),
        ("path,label,,", "videos/a.avi,walk,,\nvideos/b.avi,sit down,,\n,,,\n"),
    ],
)
def test_head_lines(videos: Path, head: str, rows: str) -> None:
    (videos / "list.csv").write_text(f"{head}\n{rows}")
    manifest = prepare("csv", videos / "list.csv", videos / "data")
    assert labels_of(manifest) == {"a.avi": "walk", "b.avi": "sit down"} and rejected(videos / "data") == {}


def test_columns_that_are_not_read_are_named(videos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (videos / "list.csv").write_text(
        ",video,fps,actor,label,note,Split\n"
        "0,videos/a.avi,25,7,walk,x,Training\n1,videos/b.avi,25,8,sit down,y,TESTING\n"
    )
    manifest = prepare("csv", videos / "list.csv", videos / "data")
    assert [(clip.subject, clip.splits) for clip in manifest.clips] == [
        ("7", {"split": "train"}),
        ("8", {"split": "test"}),
    ]
    assert "list.csv: columns that are not read: fps, note" in manifest.description["warnings"]
    assert "columns that are not read: fps, note" in caplog.text


def test_labels_of_several_words_in_a_list_without_commas(videos: Path) -> None:
    (videos / "list.txt").write_text(
        "videos/a.avi sit down\nvideos/my walk, 2.avi go for a walk\nvideos/c d.avi wave\n"
    )
    manifest = prepare("csv", videos / "list.txt", videos / "data")
    assert labels_of(manifest) == {"a.avi": "sit down", "my walk, 2.avi": "go for a walk"}
    assert rejected(videos / "data") == {"videos/c d.avi": "no such file"}


def test_numbers_without_names_are_refused(videos: Path) -> None:
    for text in (NUMBERED["space"], NUMBERED["comma"], "path,label\nvideos/a.avi,07\nvideos/b.avi,walk\n"):
        (videos / "list.txt").write_text(text)
        with pytest.raises(InputError, match=r"list.txt: labels are numbers \(0.*--class-names FILE"):
            prepare("csv", videos / "list.txt", videos / "data")
    fill_folders = videos / "folders"
    for name in "01":
        (fill_folders / name).mkdir(parents=True)
        (fill_folders / name / f"{name}.avi").write_bytes((videos / "videos" / "a.avi").read_bytes())
    with pytest.raises(InputError, match="--class-names FILE"):
        prepare("folder", fill_folders, videos / "data")
    manifest = prepare("folder", fill_folders, videos / "data", class_names=videos / "names.txt")
    assert labels_of(manifest) == {"0.avi": "walk", "1.avi": "sit down"}
    assert any("1 of 3 classes have no usable clip: wave" in text for text in manifest.description["warnings"])


@pytest.mark.parametrize("number", ["3", "-1", "99"])
def test_numbers_out_of_range_are_refused(videos: Path, number: str) -> None:
    (videos / "list.txt").write_text(f"videos/a.avi 0\nvideos/b.avi {number}\n")
    with pytest.raises(InputError, match=rf"b.avi: label {number} is none of the 3 classes of .*numbered 0 to 2"):
        prepare("csv", videos / "list.txt", videos / "data", class_names=videos / "names.txt")


FILES_OF_NAMES: Mapping[str, tuple[str, dict[str, str]]] = {
    "plain.txt": ("walk\nsit down\nwave\n\n", {"0": "walk", "1": "sit down", "2": "wave"}),
    "numbered.txt": ("0 walk\n1 sit down\n2 wave\n", {"0": "walk", "1": "sit down", "2": "wave"}),
    "classInd.txt": ("1 walk\r\n2 sit down\r\n3 wave\r\n", {"1": "walk", "2": "sit down", "3": "wave"}),
    "comma.txt": ("2,wave\n1,sit down\n0,walk\n", {"0": "walk", "1": "sit down", "2": "wave"}),
    "colon.txt": ("1: bend/bow (at the waist)\n3: crouch\n", {"1": "bend/bow (at the waist)", "3": "crouch"}),
    "turned.txt": ("walk 0\nsit down 1\n", {"0": "walk", "1": "sit down"}),
    "phases.txt": ("phase 7\nphase 9\n", {"0": "phase 7", "1": "phase 9"}),
    "codes.txt": ("c000 walk\nc001 sit down\n", {"c000": "walk", "c001": "sit down"}),
    "labels.csv": ('id,name\n0,walk\n1,"sit, down"\n', {"0": "walk", "1": "sit, down"}),
    "other.csv": ("class_name;label\nwalk;0\nsit;1\n", {"0": "walk", "1": "sit"}),
    "list.json": ('["walk", "sit"]', {"0": "walk", "1": "sit"}),
    "index.json": ('{"0": "walk", "1": "sit"}', {"0": "walk", "1": "sit"}),
    "idx.json": ('{"walk": 1, "sit": 0}', {"0": "sit", "1": "walk"}),
    "data.yaml": ("names:\n  0: walk\n  1: no\n", {"0": "walk", "1": "no"}),
    "list.yml": ("- walk\n- sit\n", {"0": "walk", "1": "sit"}),
}


@pytest.mark.parametrize("name", FILES_OF_NAMES)
def test_files_of_class_names(tmp_path: Path, name: str) -> None:
    text, names = FILES_OF_NAMES[name]
    (tmp_path / name).write_bytes(text.encode())
    assert dict(read_class_names(tmp_path / name).names) == names


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "no class in it"),
        ("a.txt", "walk\n\nsit\n", r"an empty line among the names \(2\)"),
        ("a.txt", "walk\nwalk\n", "class 'walk' is there twice"),
        ("a.txt", "Walk\nwalk\n", "classes 'Walk' and 'walk' differ only in case"),
        ("a.txt", "0\n1\n", "labels are numbers"),
        ("a.csv", "id,name\n0,walk\n0,sit\n", "number 0 is there twice"),
        ("a.csv", "id,name\n0\n", "fewer columns than the head line"),
        ("a.json", '{"0": "walk", "0": "sit"}', "number 0 is there twice"),
        ("a.json", "{", "is not JSON"),
        ("a.yaml", "0: walk\n0: sit\n", "number 0 is there twice"),
        ("a.yaml", "a: [b", "is not YAML"),
        ("a.json", '{"a": {"b": 1}, "c": []}', "expected a list of names, or a mapping"),
    ],
)
def test_files_of_class_names_that_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_class_names(tmp_path / name)


@pytest.mark.real_data
def test_the_published_files_of_class_names(label_files: Path) -> None:
    maps, found = label_files / "mmaction2_label_maps", {}
    for path in (maps / "kinetics" / "label_map_k400.txt", label_files / "bike" / "k400" / "kinetics_400_labels.csv"):
        found[path.suffix] = read_class_names(path).names
        assert len(found[path.suffix]) == 400 and found[path.suffix]["0"] == "abseiling"
    assert list(found[".txt"].values())[:-1] == list(found[".csv"].values())[:-1]
    for name, count in (("ucf101", 101), ("hmdb51", 51), ("sthv2", 174), ("diving48", 48), ("jester", 27)):
        names = read_class_names(maps / name / "label_map.txt").names
        assert list(names) == [str(number) for number in range(count)]
    ava = read_class_names(maps / "ava" / "label_map.txt").names
    assert ava["1"] == "bend/bow (at the waist)" and "2" not in ava and len(ava) == 60
    charades = read_class_names(label_files / "bike" / "charades" / "Charades_v1_classes.txt").names
    assert charades["c000"] == "Holding some clothes" and len(charades) == 157


def test_a_list_for_each_part(videos: Path) -> None:
    (videos / "train.txt").write_text("videos/a.avi 0\n")
    (videos / "my_val_list.txt").write_text("videos/b.avi 1\n")
    out = str(videos / "data")
    words = ["prepare", "--format", "csv", "--class-names", str(videos / "names.txt"), "--out", out, "--overwrite"]
    for given in (
        [str(videos / "train.txt"), str(videos / "my_val_list.txt")],
        ["--split", f"train={videos / 'train.txt'}", "--split", f"Validation={videos / 'my_val_list.txt'}"],
    ):
        assert main([*words, *given]) == 0
        assert Manifest.load(out).split("given") == {"train": [0], "validation": [1], "test": []}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["one.txt", "two.txt"], "one.txt: no part of a split"),
        (["train.txt", "training2.txt"], "training2.txt: a second list of the part train, beside train.txt: join them"),
        (["--split", "dev=a.txt"], "--split dev=a.txt: no part of a split"),
        (
            ["x.txt", "--split", "train=a.txt"],
            "x.txt: beside --split train=a.txt: name each list with --split PART=LIST",
        ),
        ([], "no SOURCE: name a list"),
    ],
)
def test_lists_of_no_clear_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    assert main(["prepare", "--format", "csv", "--out", str(tmp_path / "data"), *given]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_options_of_lists_do_not_go_with_other_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--root", "x"], "--root x: format 'ntu-rgbd' has no list of paths"),
        (["--class-names", "x"], "--class-names x: format 'ntu-rgbd' names its classes"),
        (["--split", "train=x"], "--split train=x: goes with --format csv only"),
        (["other"], "2 sources"),
    ):
        assert main(["prepare", "--format", "ntu-rgbd", str(tmp_path), *words, "--out", str(tmp_path / "data")]) == 2
        assert message in capsys.readouterr().err


def test_paths_that_start_elsewhere(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.csv").write_text("path,label\na.avi,walk\nb.avi,wave\n")
    with pytest.raises(InputError, match=r"none of its 2 clips can be used; .*no such file.*--root FOLDER"):
        prepare("csv", tmp_path / "lists" / "list.csv", tmp_path / "data")
    manifest = prepare("csv", tmp_path / "lists" / "list.csv", tmp_path / "data", root=videos / "videos")
    assert labels_of(manifest) == {"a.avi": "walk", "b.avi": "wave"}
    with pytest.raises(InputError, match=r"--root .*none: no such folder"):
        prepare("csv", tmp_path / "lists" / "list.csv", tmp_path / "other", root=tmp_path / "none")


def test_a_list_that_counts_other_frames(videos: Path) -> None:
    (videos / "list.txt").write_text("videos/a.avi 7 0\nvideos/b.avi 60 1\n")
    manifest = prepare("csv", videos / "list.txt", videos / "data", class_names=videos / "names.txt")
    assert [clip.n_frames for clip in manifest.clips] == [6]
    assert rejected(videos / "data") == {"videos/b.avi": "listed with 60 frames, 6 decode"}


def test_an_unknown_head_line_and_a_label_before_the_path(videos: Path) -> None:
    for text, message in (
        ("stimulus,answer\nvideos/a.avi,walk\nvideos/b.avi,sit\n", "line 1: .* nor a head line with columns such as"),
        ("walk videos/a.avi\nsit videos/b.avi\n", "line 1: the path stands last: put the head line label,path"),
    ):
        (videos / "list.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            prepare("csv", videos / "list.csv", videos / "data")


@pytest.mark.parametrize(
    "name", ["-a3.avi", "#1.avi", "a,b;c.avi", 'say "hi".avi', " a.avi", "ünï 日本.avi", "a\nb.avi"]
)
def test_unusual_file_names(fill: Fill, tmp_path: Path, name: str) -> None:
    fill(tmp_path / "source" / "wave", [name])
    fill(tmp_path / "source" / "walk", ["12:30:05.avi", "x" * 240 + ".avi"])
    prepare("folder", tmp_path / "source", tmp_path / "folder")
    manifest = Manifest.load(tmp_path / "folder")
    assert {clip.id for clip in manifest.clips} == {name, "12:30:05.avi", "x" * 240 + ".avi"}
    assert all(manifest.video(clip).is_file() for clip in manifest.clips)
    with (tmp_path / "list.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["path", "label"], [f"source/wave/{name}", "wave"]])
    (clip,) = prepare("csv", tmp_path / "list.csv", tmp_path / "data").clips
    assert clip.id == name


def test_names_that_cannot_be_used(fill: Fill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "source", ["wave/a.avi", "walk/b.avi", "walk/caf\udce9.avi", "walk/c\rd.avi"])
    assert main(["prepare", "--format", "folder", str(tmp_path / "source"), "--out", str(tmp_path / "data")]) == 0
    assert rejected(tmp_path / "data") == {
        "walk/caf\\udce9.avi": "the file name is not UTF-8: rename the file",
        "walk/c\\rd.avi": "the file name holds a carriage return: rename the file",
    }
    (tmp_path / "list.txt").write_text(f"{'y' * 300}.avi walk\nsource/wave/a.avi wave\nsource/walk/b.avi walk\n")
    manifest = prepare("csv", tmp_path / "list.txt", tmp_path / "long")
    assert len(manifest.clips) == 2 and list(rejected(tmp_path / "long").values()) == ["no such file"]
    fill(tmp_path / "broken", ["sit\ndown/a.avi"])
    with pytest.raises(InputError, match="holds a line break"):
        prepare("folder", tmp_path / "broken", tmp_path / "data2")


def test_the_json_of_a_set_names_its_warnings(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (videos / "list.csv").write_text("path,label,fps\nvideos/a.avi,walk,25\n")
    words = ["prepare", "--format", "csv", str(videos / "list.csv"), "--out", str(videos / "data"), "--json"]
    assert main(words) == 0
    shown = json.loads(capsys.readouterr().out)["warnings"]
    assert shown[0] == "list.csv: columns that are not read: fps"
    assert shown[1] == "one class ('walk'): a model needs two; such a set can only be predicted"
