"""Sets described by their file names: NTU RGB+D, Toyota Smarthome, ETRI-Activity3D, and a folder per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from actprompt.data.manifest import Clip
from actprompt.data.readers import FORMATS, etri, folder, get_reader, ntu_rgbd, smarthome
from actprompt.data.readers.base import ReaderResult
from actprompt.data.readers.lists.splits import lines_of
from icube_common.data.class_lists import NTU_RGBD
from icube_common.errors import InputError

Fill = Callable[[Path, Sequence[str]], None]


def reasons(found: ReaderResult) -> dict[str, str]:
    return {row.path: row.reason for row in found.rejected}


def by_id(found: ReaderResult) -> dict[str, Clip]:
    return {clip.id: clip for clip in found.clips}


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"csv"}))
def test_empty_folder_is_one_line(name: str, tmp_path: Path) -> None:
    for source in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError) as caught:
            get_reader(name).find(source)
        assert str(source) in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="unknown format 'ucf-101': did you mean 'ucf101'"):
        get_reader("ucf-101")


def test_ntu_60(fill: Fill, tmp_path: Path) -> None:
    names = [
        "nturgb+d_rgb/S001C001P001R001A001_rgb.avi",
        "nturgb+d_rgb/S001C002P003R002A060_rgb.avi",
        "nturgb+d_rgb/S017C003P038R001A028_rgb.avi",
    ]
    fill(tmp_path, names)
    found = ntu_rgbd.find(tmp_path)
    clips = [by_id(found)[Path(name).name] for name in names]
    assert [clip.label for clip in clips] == [
        "drink water",
        "walking apart from each other",
        "make a phone call/answer phone",
    ]
    assert [(clip.setup, clip.camera, clip.subject) for clip in clips] == [
        ("1", "1", "1"),
        ("1", "2", "3"),
        ("17", "3", "38"),
    ]
    assert [clip.splits["cross_subject_60"] for clip in clips] == ["train", "test", "train"]
    assert [clip.splits["cross_view_60"] for clip in clips] == ["test", "train", "train"]
    # nothing of NTU 120 where only NTU 60 is there
    assert [protocol.name for protocol in found.protocols] == ["cross-subject-60", "cross-view-60"]
    assert set(clips[0].splits) == {"cross_subject_60", "cross_view_60"}
    assert found.class_names == [clips[0].label, clips[2].label, clips[1].label]  # A1, A28, A60


def test_ntu_120(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, ["S001C001P001R001A001_rgb.avi", "S018C001P045R001A061_rgb.avi", "S031C003P044R002A120_rgb.avi"])
    found = ntu_rgbd.find(tmp_path)
    first, second, third = found.clips
    assert [clip.splits.get("cross_setup_120") for clip in found.clips] == ["test", "train", "test"]
    assert [clip.splits["cross_subject_120"] for clip in found.clips] == ["train", "train", "test"]
    assert "cross_subject_60" in first.splits and "cross_subject_60" not in second.splits
    assert third.label == "finger-guessing game (playing rock-paper-scissors)" and len(found.protocols) == 4


def test_ntu_published_numbers() -> None:
    assert len(ntu_rgbd.TRAIN_60) == 20 and len(ntu_rgbd.TRAIN_120) == 53
    assert max(ntu_rgbd.TRAIN_60) <= 40 and max(ntu_rgbd.TRAIN_120) <= 106
    assert len(NTU_RGBD) == len(set(NTU_RGBD)) == 120


def test_ntu_names_that_are_none(fill: Fill, tmp_path: Path) -> None:
    wrong = {
        "S001C001P001R001A121_rgb.avi": "action 121 is not from 1 to 120",
        "S001C004P001R001A001_rgb.avi": "camera 4 is not from 1 to 3",
        "S033C001P001R001A001_rgb.avi": "setup 33 is not from 1 to 32",
        "S001C001P001R000A001_rgb.avi": "replication 0 is not from 1 to 2",
        "S01C001P001R001A001_rgb.avi": "the name is not SsssCcccPpppRrrrAaaa",
        "S001C001P001R001A001_depth.avi": "the name is not SsssCcccPpppRrrrAaaa",
        "z/S001C001P001R001A001_rgb.avi": "the same clip as S001C001P001R001A001_rgb.avi",
    }
    fill(tmp_path, ["S001C001P001R001A001_rgb.avi", *wrong])
    found = ntu_rgbd.find(tmp_path)
    assert len(found.clips) == 1 and reasons(found) == wrong


def test_ntu_samples_without_skeleton_are_kept_and_named(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "videos", ["S001C002P005R002A008_rgb.avi", "S001C001P001R001A001_rgb.avi"])
    lists = tmp_path / "lists"
    lists.mkdir()
    listed = lists / "NTU_RGBD_samples_with_missing_skeletons.txt"
    listed.write_text("S001C002P005R002A008\nS001C002P006R001A008\n")
    found = ntu_rgbd.find(tmp_path / "videos", lists)
    assert len(found.clips) == 2 and found.description["missing_skeletons"] == ["S001C002P005R002A008_rgb.avi"]
    listed.write_text("S001C002P005R002A008\nS001C002\n")
    with pytest.raises(InputError, match=r"line 2: 'S001C002' is not SsssCcccPpppRrrrAaaa"):
        ntu_rgbd.find(tmp_path / "videos", lists)


@pytest.mark.real_data
def test_ntu_published_lists(label_files: Path) -> None:
    folder = label_files / "mmaction2_label_maps" / "skeleton"
    assert len(ntu_rgbd.missing_skeletons([folder])) == 535
    names = [text for _, text in lines_of(folder / "label_map_ntu60.txt")]
    differs = [(ours, theirs) for ours, theirs in zip(NTU_RGBD, names, strict=False) if ours != theirs]
    assert len(names) == 60
    assert differs == [("put something inside pocket / take out something from pocket", "reach into pocket")]


def test_smarthome(fill: Fill, tmp_path: Path) -> None:
    fill(
        tmp_path,
        [
            "mp4/Cook.Cleandishes_p02_r00_v02_c03.mp4",
            "mp4/Walk_p03_r01_v18_c01.mp4",
            "mp4/WatchTV_p25_r02_v13_c02.mp4",
            "mp4/Drink.Frombottle_p20_r00_v16_c05.mp4",
            "mp4/Readbook_p11_r00_v16_c07.mp4",
        ],
    )
    found = smarthome.find(tmp_path)
    splits = {clip.label: clip.splits for clip in found.clips}
    assert splits["Cook.Cleandishes"] == {"cross_subject": "test"}  # not a class of the cross-view protocols
    assert splits["Walk"] == {"cross_subject": "train", "cross_view_1": "train", "cross_view_2": "train"}
    assert splits["WatchTV"] == {"cross_subject": "train"}
    assert splits["Drink.Frombottle"] == {
        "cross_subject": "test", "cross_view_1": "validation", "cross_view_2": "validation",
    }  # fmt: skip
    assert splits["Readbook"] == {"cross_subject": "test", "cross_view_2": "train"}  # camera 7 is in cross-view 2 only
    assert {protocol.metric for protocol in found.protocols} == {"mean_class_accuracy"}
    assert [protocol.name for protocol in found.protocols] == ["cross-subject", "cross-view-1", "cross-view-2"]
    assert found.class_texts["Drink.Frombottle"] == "drink from a bottle"
    assert (found.clips[0].subject, found.clips[0].camera) == ("2", "3")


def test_smarthome_published_numbers() -> None:
    assert (len(smarthome.CLASSES), len(smarthome.CROSS_VIEW_CLASSES)) == (31, 19)
    assert set(smarthome.CLASSES) > smarthome.CROSS_VIEW_CLASSES
    assert (len(smarthome.TRAIN_SUBJECTS), len(smarthome.TEST_SUBJECTS)) == (11, 7)
    assert not smarthome.TRAIN_SUBJECTS & smarthome.TEST_SUBJECTS


def test_smarthome_names_that_are_none(fill: Fill, tmp_path: Path) -> None:
    wrong = {
        "Walk_p3_r01_v18_c01.mp4": "the name is not Label_pXX_rXX_vXX_cXX.mp4",
        "Wlak_p03_r01_v18_c01.mp4": "unknown class 'Wlak': did you mean 'Walk'?",
        "Walk_p01_r01_v18_c01.mp4": "subject 1 is none of the 18 of the set",
        "Walk_p03_r01_v18_c08.mp4": "camera 8 is none of the 7 of the set",
    }
    fill(tmp_path, ["Walk_p03_r01_v18_c01.mp4", *wrong])
    found = smarthome.find(tmp_path)
    assert len(found.clips) == 1 and set(reasons(found)) == set(wrong)
    for path, reason in reasons(found).items():
        assert reason.startswith(wrong[path])


def test_etri(fill: Fill, tmp_path: Path) -> None:
    wrong = {
        "A056_P001_G001_C001.mp4": "action 56 is not from 1 to 55",
        "A001_P101_G001_C001.mp4": "person 101 is not from 1 to 100",
        "A001_P001_G001_C009.mp4": "camera 9 is not from 1 to 8",
        "A001_P001_C001.mp4": "the name is not Aaaa_Pppp_Gggg_Cccc",
    }
    fill(tmp_path, ["A001_P050_G002_C003.mp4", "A055_P051_G001_C008.mp4", *wrong])
    found = etri.find(tmp_path)
    old, young = found.clips
    assert (old.label, young.label) == ("eating food with a fork", "lying down") and len(etri.CLASSES) == 55
    assert (old.subject, old.setup, old.camera) == ("50", "2", "3")
    assert old.splits == {"adults_to_elderly": "test", "elderly_to_adults": "train"}
    assert young.splits == {"adults_to_elderly": "train", "elderly_to_adults": "test"}
    assert all("not a published protocol" in protocol.source for protocol in found.protocols)
    assert reasons(found) == wrong


def test_a_folder_per_class(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, ["wave/1.mp4", "wave/more/2.AVI", "sit down/1.mp4", "loose.mp4", "wave/.hidden.mp4", ".git/x.mp4"])
    (tmp_path / "wave" / "notes.txt").write_text("no video")
    found = folder.find(tmp_path)
    assert {clip.id: (clip.label, clip.path) for clip in found.clips} == {
        "sit down/1.mp4": ("sit down", "sit down/1.mp4"),
        "wave/1.mp4": ("wave", "wave/1.mp4"),  # two files of one name are told apart by their folders
        "2.AVI": ("wave", "wave/more/2.AVI"),
    }
    assert reasons(found) == {"loose.mp4": "in no class folder"}
    assert found.class_names == ["sit down", "wave"] and found.protocols == []
