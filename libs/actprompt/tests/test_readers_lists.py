"""Sets with lists beside the videos: CSV, UCF101, HMDB51, Kinetics, Florence 3D; and damaged lists."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from actprompt.data.manifest import Clip
from actprompt.data.readers import florence3d, hmdb51, kinetics, ucf101
from actprompt.data.readers.base import ReaderResult
from actprompt.data.readers.lists import csv_list
from icube_common.errors import InputError

Fill = Callable[[Path, Sequence[str]], None]


def reasons(found: ReaderResult) -> dict[str, str]:
    return {row.path: row.reason for row in found.rejected}


def by_id(found: ReaderResult) -> dict[str, Clip]:
    return {clip.id: clip for clip in found.clips}


def put(folder: Path, **files: str) -> Path:
    """Text files by name, ``__`` for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_csv(tmp_path: Path) -> None:
    put(
        tmp_path,
        list__csv="path,label,subject,camera,split\na/1.mp4,wave,s1,c1,train\nb/1.mp4,wave,s2,,val\nc.mp4,sit,s2,c1,TEST\n",
    )
    found = csv_list.find(tmp_path / "list.csv")
    first, second, third = found.clips
    assert (first.id, first.path, first.subject, first.camera, first.splits) == (
        "a/1.mp4", "a/1.mp4", "s1", "c1", {"split": "train"},
    )  # fmt: skip
    assert second.camera is None and second.splits == {"split": "validation"} and third.splits == {"split": "test"}
    assert third.id == "c.mp4" and found.root == tmp_path.resolve()
    assert [(item.name, item.kind) for item in found.protocols] == [
        ("given", "split"), ("leave-one-subject-out", "leave-one-group-out"),
    ]  # fmt: skip
    put(tmp_path, plain__csv="\ufeffpath,label\n/data/x.mp4,wave\n")
    found = csv_list.find(tmp_path / "plain.csv")
    assert found.clips[0].path == found.clips[0].id == "/data/x.mp4" and found.protocols == []


def test_csv_rows_that_cannot_be_used(tmp_path: Path) -> None:
    rows = "1.mp4,wave,train\n,wave,train\n2.mp4,,train\n3.mp4,wave,dev\n./1.mp4,wave,training\n4.mp4,nan,test\n"
    put(tmp_path, list__csv="path,label,split\n" + rows)
    found = csv_list.find(tmp_path / "list.csv")
    assert [clip.id for clip in found.clips] == ["1.mp4"]
    assert [row.reason for row in found.rejected] == [
        "line 3: path is empty",
        "line 4: label is empty",
        "line 5: split 'dev' is none of test, testing, train, training, val, valid, validate, validation",
        "line 6: the same file as in line 2",
        "line 7: label is empty",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no row in it"),
        ("path,label\n", "no row below the head line"),
        ("path,size\na,b\n", "line 1: no column of labels"),
        ("id,name\n0,walk\n1,sit\n", "line 1: no column of labels"),
        ("size,label\na,b\n", "line 1: no column of paths"),
        ("label,youtube_id,split\nwave,abc,train\n", "see --format kinetics"),
        ("path,label,label\na,b,c\n", "line 1: a column is there twice"),
        ("path,label,start_time,end_time\na.mp4,b,1,2\n", "line 1: column 'start_time': parts of longer videos"),
        ("path,label\na,b,c\n", "line 2: 3 fields, 2 expected"),
        ('path,label\n"a,b\n', "line 2: unexpected end of data"),
        ("path,label\na.mp4,wave\na.mp4,sit\n", "line 3: a.mp4 is 'wave' in line 2 and 'sit' here: keep one"),
        ("path,label,split\na.mp4,w,train\n./a.mp4,w,test\n", "is 'w' in train in line 2 and 'w' in test here"),
        ("a.mp4\nb.mp4\n", "line 1: 'a.mp4' has no label"),
        ("a.mp4 1 3 5\nb.mp4 2\n", "line 1: 4 columns \\(several labels a clip"),
        ("a.mp4 1 0 5\nb.mp4 0 1 0\n", "4 columns"),
        ("a.mp4 0 2\nb.mp4 1 2\n", "3 columns"),
        ('[{"path": "a.mp4", "label": "b"}]', "JSON is not read as a list"),
        ('path,label\na.mp4,"1,3"\n', "line 2: several labels"),
        ("a.mp4,wave,train,x\n", "line 1: more than path and label: name the columns in a head line"),
    ],
)
def test_csv_files_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path, list__csv=text)
    with pytest.raises(InputError, match=message):
        csv_list.find(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_bytes(b"path,label\n\xff,b\n")
    with pytest.raises(InputError, match=r"line 2: not UTF-8 text \(byte 11\): save it as UTF-8"):
        csv_list.find(tmp_path / "list.csv")
    with pytest.raises(InputError, match="no such file"):
        csv_list.find(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder; expected a list of clips"):
        csv_list.find(tmp_path)


UCF_VIDEOS = (
    "v_ApplyEyeMakeup_g01_c01.avi", "v_ApplyEyeMakeup_g08_c01.avi", "v_HandStandPushups_g01_c01.avi",
    "v_HandStandPushups_g02_c01.avi",
)  # fmt: skip


def ucf_lists(folder: Path) -> Path:
    return put(
        folder,
        classInd__txt="1 ApplyEyeMakeup\n37 HandstandPushups\n",
        trainlist01__txt="ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n"
        "HandstandPushups/v_HandStandPushups_g02_c01.avi 37\n",
        testlist01__txt="ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\nHandstandPushups/v_HandStandPushups_g01_c01.avi\n",
        trainlist02__txt="ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\n",
        testlist02__txt="ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\nHandstandPushups/v_HandStandPushups_g01_c01.avi\n",
    )


def test_ucf101(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "videos", UCF_VIDEOS)
    found = ucf101.find(tmp_path / "videos", ucf_lists(tmp_path / "lists"))
    clips = by_id(found)
    # the class is spelt HandstandPushups, its files HandStandPushups
    assert [clips[name].label for name in UCF_VIDEOS] == ["ApplyEyeMakeup"] * 2 + ["HandstandPushups"] * 2
    assert [clips[name].splits for name in UCF_VIDEOS] == [
        {"split_1": "test", "split_2": "train"},
        {"split_1": "train", "split_2": "test"},
        {"split_1": "test", "split_2": "test"},
        {"split_1": "train"},
    ]
    assert clips[UCF_VIDEOS[1]].subject == "ApplyEyeMakeup_g08"
    assert found.class_names == ["ApplyEyeMakeup", "HandstandPushups"] and found.rejected == []
    assert [protocol.name for protocol in found.protocols] == ["split-1", "split-2"]


def test_ucf101_lists_below_the_videos_and_in_class_folders(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, [f"UCF-101/{name.split('_')[1]}/{name}" for name in UCF_VIDEOS])
    ucf_lists(tmp_path / "ucfTrainTestlist")
    assert len(ucf101.find(tmp_path).clips) == 4


def test_ucf101_unknown_files_are_rejected(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, [*UCF_VIDEOS[:3], "v_ApplyEyeMakup_g01_c01.avi", "ApplyEyeMakeup_1.avi", f"copy/{UCF_VIDEOS[0]}"])
    found = ucf101.find(tmp_path, ucf_lists(tmp_path / "lists"))
    assert len(found.clips) == 3
    assert reasons(found) == {
        f"{UCF_VIDEOS[0]}": f"the same clip as copy/{UCF_VIDEOS[0]}",
        "v_ApplyEyeMakup_g01_c01.avi": "unknown class 'ApplyEyeMakup': did you mean ApplyEyeMakeup?",
        "ApplyEyeMakeup_1.avi": "the name is not v_<Class>_gXX_cXX.avi",
        "HandstandPushups/v_handstandpushups_g02_c01": "listed in testlist01.txt and not there",
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "trainlist01.txt",
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\n",
            "is in the test part of split 1 already",
        ),
        ("trainlist01.txt", "v_ApplyEyeMakeup_g08_c01.avi 1\n", "line 1: .* does not begin with class/name"),
        ("trainlist01.txt", "\n", "split 1 has only a test part"),
        ("classInd.txt", "ApplyEyeMakeup\n", "line 1: 'ApplyEyeMakeup' is not a number and a class"),
        ("classInd.txt", "1 ApplyEyeMakeup\n", "class 'HandstandPushups' of the lists is not in it"),
    ],
)
def test_ucf101_damaged_lists_are_refused(fill: Fill, tmp_path: Path, name: str, text: str, message: str) -> None:
    fill(tmp_path / "videos", UCF_VIDEOS)
    lists = ucf_lists(tmp_path / "lists")
    (lists / name).write_text(text)
    with pytest.raises(InputError, match=message):
        ucf101.find(tmp_path / "videos", lists)


def test_ucf101_without_lists(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, UCF_VIDEOS)
    with pytest.raises(InputError, match=r"no trainlist01.txt below it: name the lists' folder with --splits"):
        ucf101.find(tmp_path)


HMDB_VIDEOS = ("brush_hair/Aussie_Brunette_3.avi", "brush_hair/April_09_0.avi", "wave/hand_1.avi", "wave/hand_2.avi")


def hmdb_lists(folder: Path) -> Path:
    return put(
        folder,
        brush_hair_test_split1__txt="April_09_0.avi 1 \nAussie_Brunette_3.avi 2 \n",
        wave_test_split1__txt="hand_1.avi 1 \nhand_2.avi 0 \n",
        brush_hair_test_split2__txt="April_09_0.avi 2 \nAussie_Brunette_3.avi 1 \n",
        wave_test_split2__txt="hand_1.avi 0 \nhand_2.avi 0 \n",
    )


def test_hmdb51(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, HMDB_VIDEOS)
    clips = by_id(hmdb51.find(tmp_path, hmdb_lists(tmp_path / "splits")))
    assert clips["Aussie_Brunette_3.avi"].splits == {"split_1": "test", "split_2": "train"}
    assert clips["hand_1.avi"].splits == {"split_1": "train"}
    assert clips["hand_2.avi"].splits == {} and clips["hand_2.avi"].label == "wave"


def test_hmdb51_unknown_files_are_rejected(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, [*HMDB_VIDEOS[1:], "wvae/hand_1.avi", "wave/hand_1.mp4"])
    found = hmdb51.find(tmp_path, hmdb_lists(tmp_path / "splits"))
    assert len(found.clips) == 3
    assert reasons(found)["wvae/hand_1.avi"].startswith("unknown class 'wvae': did you mean 'wave'?")
    assert reasons(found)["wave/hand_1.mp4"] == "the same clip in another folder or format was there before"
    assert reasons(found)["brush_hair/aussie_brunette_3"] == "listed in brush_hair_test_split1.txt and not there"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("April_09_0.avi 3\n", "line 1: 'April_09_0.avi 3' is not a file name and 0, 1 or 2"),
        ("April_09_0.avi\n", "is not a file name and 0, 1 or 2"),
        ("April_09_0.avi 1\nApril_09_0.avi 2\n", "line 2: brush_hair/April_09_0.avi is in the train part of split 1"),
    ],
)
def test_hmdb51_damaged_files_are_refused(fill: Fill, tmp_path: Path, text: str, message: str) -> None:
    fill(tmp_path, HMDB_VIDEOS)
    lists = hmdb_lists(tmp_path / "splits")
    (lists / "brush_hair_test_split1.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        hmdb51.find(tmp_path, lists)


def test_flat_lists(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, HMDB_VIDEOS[:2])
    lists = put(
        tmp_path / "lists",
        train_rgb_split_1__txt="brush_hair/April_09_0 408 0\n",
        val_rgb_split_1__txt="brush_hair/Aussie_Brunette_3 438 0\n",
    )
    clips = by_id(hmdb51.find(tmp_path, lists))
    assert [clips[Path(name).name].splits["split_1"] for name in HMDB_VIDEOS[:2]] == ["test", "train"]


@pytest.mark.real_data
def test_official_splits_have_their_published_sizes(label_files: Path) -> None:
    """UCF101: 9537/3783, 9586/3734, 9624/3696 clips; HMDB51: 70 and 30 of each of 51 classes in every split."""
    ucf = ucf101.read_splits([label_files / "bike" / "ucf101"])
    sizes = {
        number: tuple(sum(part == wanted for part in parts.values()) for wanted in ("train", "test"))
        for number, parts in ucf.parts.items()
    }
    assert sizes == {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)} and len(set(ucf.labels.values())) == 101
    for parts in ucf.parts.values():  # no group stands on both sides
        groups: dict[str, set[str]] = {"train": set(), "test": set()}
        for (_, stem), part in parts.items():
            groups[part].add(stem.rpartition("_c")[0])
        assert not groups["train"] & groups["test"]
    hmdb = hmdb51.read_splits([label_files / "bike" / "hmdb51"])
    for parts in hmdb.parts.values():
        assert [sum(part == wanted for part in parts.values()) for wanted in ("train", "test")] == [70 * 51, 30 * 51]
    assert len(set(hmdb.labels.values())) == 51 and sorted(hmdb.parts) == [1, 2, 3]


KINETICS = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics(fill: Fill, tmp_path: Path) -> None:
    fill(
        tmp_path, ["train/air drumming/-AbcDEF_123_000010_000020.mp4", "val/x_000000_000010.mp4", "t_000005_000015.mp4"]
    )
    put(
        tmp_path / "annotations",
        train__csv=KINETICS + "air drumming,-AbcDEF_123,10,20,train\nabseiling,gone,1,11,train\n",
        validate__csv=KINETICS + '"washing, drying",x,0,10,validate\n',
        test__csv=KINETICS + ",t,5,15,test\n",
        other__csv="id,name\n0,abseiling\n",
    )
    found = kinetics.find(tmp_path)
    clips = by_id(found)
    assert clips["-AbcDEF_123_000010_000020.mp4"].label == "air drumming"
    assert clips["x_000000_000010.mp4"].splits == {"split": "validation"} and len(clips) == 2
    assert reasons(found) == {
        "t_000005_000015.mp4": "test.csv: line 2: no label (the test labels were held back?)",
        "gone_000001_000011.mp4": "train.csv: line 3: listed and not there",
    }
    assert found.class_names == ["air drumming", "washing, drying"]


def test_kinetics_unknown_files_are_rejected(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, ["a_000001_000011.mp4", "b_000001_000011.mp4", "stray.mp4"])
    put(tmp_path, train__csv=KINETICS + "wave,a,1,11,train\nwave,a,1,11,test\nwave,b,1,11,dev\n")
    found = kinetics.find(tmp_path)
    assert [clip.id for clip in found.clips] == ["a_000001_000011.mp4"]
    assert reasons(found) == {
        "a_000001_000011.mp4": "train.csv: line 3: listed before, as 'wave'",
        "b_000001_000011.mp4": "train.csv: line 4: split 'dev' is unknown",
        "stray.mp4": "in no CSV file",
    }
    for row, message in (("w,a,x,11,train", "time_start 'x' is no number"), ("w,a,1,1.5,train", "no whole number"),
                         ("w,,1,2,train", "youtube_id is empty"), ("w,a,-1,2,train", "no whole number")):  # fmt: skip
        put(tmp_path, train__csv=KINETICS + row + "\n")
        with pytest.raises(InputError, match=message):
            kinetics.find(tmp_path)
    (tmp_path / "train.csv").unlink()
    with pytest.raises(InputError, match="no CSV file with the columns"):
        kinetics.find(tmp_path)


FLORENCE = "clip,actor,category,action,feature_idvideo\n"


def feature_lines(video: int, actor: int, category: int, frames: int = 3) -> str:
    rows = []
    for frame in range(frames):
        numbers = [1, 0, 0, 0, 1, 0] * 4
        if frame == 1:
            numbers[3:6] = [5, 5, 5]  # a wrist that was lost
        rows.append(" ".join(map(str, [video, actor, category, *numbers, frame / frames])))
    return "\n".join(rows) + "\n"


def test_florence3d(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "clips", ["a.mp4", "b.mp4", "c.mp4"])
    put(
        tmp_path,
        index__csv=FLORENCE + "a.mp4,1,2,drink,7\nb.mp4,2,1,wave,8\nc.mp4,2,1,wave,\n",
        features__txt=feature_lines(7, 1, 2) + feature_lines(8, 2, 1),
    )
    found = florence3d.find(tmp_path)
    assert [(clip.id, clip.path, clip.label, clip.subject) for clip in found.clips] == [
        ("a.mp4", "clips/a.mp4", "drink", "1"),
        ("b.mp4", "clips/b.mp4", "wave", "2"),
        ("c.mp4", "clips/c.mp4", "wave", "2"),
    ]
    assert found.class_names == ["wave", "drink"]  # by category
    assert found.protocols[0].kind == "leave-one-group-out" and found.protocols[0].column == "subject"
    assert found.skeletons is not None and set(found.skeletons.sequences) == {"a.mp4", "b.mp4"}
    joints = found.skeletons.sequences["a.mp4"]
    assert joints.shape == (3, 8, 3) and np.isnan(joints[1, 1]).all() and np.isnan(joints).sum() == 3
    np.testing.assert_allclose(found.skeletons.times["a.mp4"], [0, 1 / 3, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.mp4,1,2,drink,7", "the clip is listed before"),
        ("b.mp4,2,2,drink,7", "features.txt has actor 1, category 2 of video 7"),
        ("b.mp4,1,2,drink,9", "features.txt has no video 9"),
        ("b.mp4,x,2,drink,7", "actor 'x' is no number"),
        ("b.mp4,1,3,drink,", "action 'drink' has category 3, and 2 before"),
        ("b.mp4,1,2,,7", "action is empty"),
    ],
)
def test_florence3d_rows_that_cannot_be_used(fill: Fill, tmp_path: Path, row: str, reason: str) -> None:
    fill(tmp_path / "clips", ["a.mp4", "b.mp4"])
    put(tmp_path, index__csv=f"{FLORENCE}a.mp4,1,2,drink,7\n{row}\n", features__txt=feature_lines(7, 1, 2))
    found = florence3d.find(tmp_path)
    assert len(found.clips) == 1
    stray = [] if row.startswith("b.mp4") else ["not in index.csv"]
    assert [rejection.reason for rejection in found.rejected] == [f"index.csv: line 3: {reason}", *stray]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1 1 0.5\n", "line 1: 4 numbers, 28 finite ones expected"),
        (feature_lines(1, 1, 1).replace("1 0 0 0 1 0 1", "1 0 0 0 1 0 nan", 1), "28 finite ones expected"),
        (feature_lines(1, 1, 1).replace(" 0 ", " o ", 1), "line 1: could not convert"),
        (feature_lines(1, 1, 1) + feature_lines(1, 1, 1), "line 4: video 1 has another actor, category or an earlier"),
    ],
)
def test_florence3d_damaged_features_are_refused(fill: Fill, tmp_path: Path, text: str, message: str) -> None:
    fill(tmp_path / "clips", ["a.mp4"])
    put(tmp_path, index__csv=FLORENCE + "a.mp4,1,1,wave,1\n", features__txt=text)
    with pytest.raises(InputError, match=message):
        florence3d.find(tmp_path)


@pytest.mark.real_data
def test_the_real_florence3d(florence3d: Path) -> None:
    from actprompt.data.readers.florence3d import find

    found = find(florence3d)
    with (florence3d / "index.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(found.clips) == len(rows) == 129 and found.rejected == []
    assert len(found.class_names) == 9 and {clip.subject for clip in found.clips} == set("123456")
    assert found.skeletons is not None
    for row in rows:
        assert len(found.skeletons.sequences[row["clip"]]) == int(row["n_frames"])
    lengths = np.linalg.norm(np.concatenate(list(found.skeletons.sequences.values())), axis=-1)
    np.testing.assert_allclose(lengths[~np.isnan(lengths)], 1, atol=1e-3)
    assert np.isnan(lengths).sum() == 1065  # joints the Kinect lost, 5 5 5 in the file
