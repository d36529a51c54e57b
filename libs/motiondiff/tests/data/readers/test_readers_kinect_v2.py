"""NTU RGB+D, ETRI-Activity3D, PKU-MMD and UESTC: files to the letter of their formats, and damaged ones."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_formats import damaged, etri_text, ntu_text, pku_text, seen, uestc_text
from scipy.io import savemat

from icube_common.data.class_lists import ETRI_ACTIVITY3D, NTU_RGBD
from icube_common.errors import InputError
from motiondiff.data.readers import Clip, Rejection, get_reader, read_or_reject
from motiondiff.data.readers.kinect import etri, ntu_rgbd, pku_mmd, uestc
from motiondiff.skeleton.kinect import KINECT_V2, KINECT_V2_ORDER, KINECT_V2_SENSOR_PARENTS
from motiondiff.skeleton.skeleton import Skeleton

ROOT = Path(__file__).resolve().parents[5]
SENSOR = np.argsort(KINECT_V2_ORDER)


def read(name: str, folder: Path, fps: float | None = None) -> tuple[dict[str, Clip], dict[str, str]]:
    results = [item for ref in get_reader(name).find_clips(folder) for item in read_or_reject(ref, fps)]
    clips = {item.clip_id: item for item in results if isinstance(item, Clip)}
    reasons = {item.clip_id: item.reason for item in results if isinstance(item, Rejection)}
    assert len(clips) + len(reasons) == len(results)
    return clips, reasons


def alone(positions: np.ndarray, body: str = "72057594037931101") -> list[dict[str, np.ndarray]]:
    return [{body: frame} for frame in positions]


def apart(positions: np.ndarray) -> np.ndarray:
    """Distances of every joint from every other, which no turn or shift changes."""
    return np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1)


def check_same(clip: Clip, positions: np.ndarray) -> None:
    """The motion is the recorded one: rigidly moved, upright, on the floor, within a millimetre of its bones."""
    found = clip.motion.positions[:, SENSOR]
    assert np.abs(apart(found) - apart(positions)).max() < 2e-3
    assert clip.motion.residual < 1e-3
    assert abs(found[:, :, 1].min()) < 0.05 and found[:, 3, 1].mean() > 1.2


def test_the_joints_are_the_sensors():
    joints = KINECT_V2
    skeleton = Skeleton(joints.names, joints.parents, np.zeros((25, 3), dtype=np.float32))
    named = {(skeleton.names[left], skeleton.names[right]) for left, right in skeleton.left_right_pairs}
    assert named == {("HipLeft", "HipRight"), ("ShoulderLeft", "ShoulderRight")}
    # NTU's published bones, 1-based; its finger tips leave the thumbs, the SDK's the hands
    published = "1-2 2-21 3-21 4-3 5-21 6-5 7-6 8-7 9-21 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 19-18 20-19"
    bones = {frozenset(int(joint) - 1 for joint in pair.split("-")) for pair in published.split()}
    assert bones == {frozenset((j, p)) for j, p in enumerate(KINECT_V2_SENSOR_PARENTS) if p >= 0 and j < 21}


def test_ntu_to_the_letter(tmp_path):
    positions = seen(seed=1)
    for name in ("S001C001P003R001A001", "S001C002P003R001A043"):
        (tmp_path / f"{name}.skeleton").write_text(ntu_text(alone(positions)))
    (ref,) = ntu_rgbd.find_clips(tmp_path)
    assert ref.subject == "P003"
    clips, reasons = read("ntu-rgbd", tmp_path)
    assert reasons == {}
    motions = {clip_id: clip.motion for clip_id, clip in clips.items()}
    assert [(m.action, m.subject, m.fps, len(m)) for m in motions.values()] == [
        ("drink water", "P003", 30.0, 30),
        ("falling", "P003", 30.0, 30),
    ]
    for clip in clips.values():
        check_same(clip, positions)
    # the subject faces the camera: once upright in the common world, to -z as the sensor looks along +z
    assert motions["S001C001P003R001A001"].source == "S001C001P003R001A001.skeleton"
    half, _ = read("ntu-rgbd", tmp_path, 15)
    assert len(half["S001C001P003R001A001"].motion) == 15


def test_ntu_two_people(tmp_path):
    one, two = seen(seed=1), seen(seed=2, away=3.5)
    frames = [{"101": a, "102": b} for a, b in zip(one, two, strict=True)]
    (tmp_path / "S001C001P003R001A055.skeleton").write_text(ntu_text(frames))
    (tmp_path / "S001C001P003R001A008.skeleton").write_text(ntu_text(frames))
    clips, _ = read("ntu-rgbd", tmp_path)
    # hugging takes two; of a file of sitting down the one who moves more is kept
    assert sorted(clips) == ["S001C001P003R001A008", "S001C001P003R001A055", "S001C001P003R001A055.2"]
    pair = [clips["S001C001P003R001A055"], clips["S001C001P003R001A055.2"]]
    assert {clip.motion.subject for clip in pair} == {"P003"}
    more, less = (one, two) if one.var(axis=0).sum() > two.var(axis=0).sum() else (two, one)
    for clip, positions in zip(pair, (more, less), strict=True):
        check_same(clip, positions)


def test_ntu_bodies_that_are_furniture_or_soon_gone(tmp_path):
    person, chair, passer = seen(seed=1), np.repeat(seen(1, seed=3), 30, axis=0), seen(seed=4, amount=0.9)
    frames = [
        {"9": c, "101": p} | ({"7": q} if n < 6 else {})
        for n, (c, p, q) in enumerate(zip(chair, person, passer, strict=True))
    ]
    (tmp_path / "S001C001P003R001A001.skeleton").write_text(ntu_text(frames))
    clips, _ = read("ntu-rgbd", tmp_path)
    check_same(clips["S001C001P003R001A001"], person)


def test_ntu_frames_without_a_body(tmp_path):
    positions = seen(40, seed=1, amount=0.1)
    lost = [*alone(positions[:3]), *[{}] * 15, *alone(positions[18:]), {}, {}]
    (tmp_path / "S001C001P003R001A001.skeleton").write_text(ntu_text([{}, *lost]))
    clips, _ = read("ntu-rgbd", tmp_path)
    assert len(clips["S001C001P003R001A001"].motion) == 40  # the ends are cut off, half a second is interpolated
    (tmp_path / "S001C001P003R001A001.skeleton").write_text(
        ntu_text([*alone(positions[:3]), *[{}] * 16, *alone(positions[3:])])
    )
    (tmp_path / "S001C001P003R001A002.skeleton").write_text(ntu_text([{}] * 20))
    (tmp_path / "S001C001P003R001A003.skeleton").write_text(ntu_text([]))
    _, reasons = read("ntu-rgbd", tmp_path)
    assert "frame 3: 16 frames without the body, more than 0.5 s" in reasons["S001C001P003R001A001"]
    assert "no frame shows a body" in reasons["S001C001P003R001A002"]
    assert "no frame shows a body" in reasons["S001C001P003R001A003"]


def test_ntu_published_lists_of_bad_samples(tmp_path):
    for action in (1, 2, 3):
        (tmp_path / f"S001C001P003R001A00{action}.skeleton").write_text(ntu_text(alone(seen())))
    (tmp_path / "NTU_RGBD_samples_with_missing_skeletons.txt").write_text(
        "S001C001P003R001A002\nS001C001P099R001A002\n"
    )
    clips, reasons = read("ntu-rgbd", tmp_path)
    assert sorted(clips) == ["S001C001P003R001A001", "S001C001P003R001A003"]
    assert "listed in NTU_RGBD_samples_with_missing_skeletons.txt" in reasons["S001C001P003R001A002"]
    (tmp_path / "NTU_RGBD_samples_with_missing_skeletons.txt").write_text("S001C001P003R001A002\nS001\n")
    with pytest.raises(InputError, match="line 2: 'S001' is not SsssCcccPpppRrrrAaaa"):
        ntu_rgbd.read_clips(ntu_rgbd.find_clips(tmp_path)[0])


@pytest.mark.real_data
def test_ntu_real_lists(tmp_path):
    archive = Path(os.environ.get("ICUBE_DATA", ROOT.parent / "shared" / "data")) / "video" / "labels.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no {archive.name} in {archive.parent}")
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.endswith("samples_with_missing_skeletons.txt")]
        tar.extractall(tmp_path, members, filter="data")
    counts = {path.name: len(ntu_rgbd.bad_samples(path)) for path in tmp_path.rglob("*.txt")}
    assert counts == {
        "NTU_RGBD_samples_with_missing_skeletons.txt": 302,
        "NTU_RGBD120_samples_with_missing_skeletons.txt": 535,
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("S001C001P003R001A121", None, "action 121 is not from 1 to 120"),
        ("S001C004P003R001A001", None, "camera 4 is not from 1 to 3"),
        ("S001C001P003R001A001", "2\n1\n", r"line 3: the file ends, 10 expected \(a body\)"),
        (
            "S001C001P003R001A001",
            "1\n1\n1 0 1 1 1 1 0 0 0 2\n1\n" + "0 " * 12,
            "1 joints, 25 expected",
        ),
        ("S001C001P003R001A001", "1\n1\n1 0 1 1 1 1 0 0 0 2\n25\n1 2 3\n", "line 5: 3 numbers, 12 expected"),
        ("S001C001P003R001A001", "0\n5\n", "line 2: more than the 0 frames that the file announces"),
        ("S001C001P003R001A001", "9" * 5000, "line 1: '9999.*' is not a number of frames"),
        ("S001C001P003R001A001", "-3\n", "line 1: '-3' is not a number of frames"),
        ("walk", None, "the name is not SsssCcccPpppRrrrAaaa"),
    ],
)
def test_ntu_faults_are_named(tmp_path, name, text, message):
    (tmp_path / f"{name}.skeleton").write_text(ntu_text(alone(seen(4))) if text is None else text)
    ((clip_id, reason),) = read("ntu-rgbd", tmp_path)[1].items()
    assert clip_id == name
    with pytest.raises(InputError, match=message):
        raise InputError(reason)


def test_etri_to_the_letter(tmp_path):
    positions = seen(seed=5)
    (tmp_path / "P001-P050").mkdir()
    (tmp_path / "P001-P050" / "A004_P007_G001_C002.csv").write_text(etri_text([{}, *alone(positions), {}]))
    (tmp_path / "P001-P050" / "A047_P007_G001_C002.csv").write_text(
        etri_text([{"a": one, "b": two} for one, two in zip(positions, seen(seed=6, away=3), strict=True)])
    )
    (tmp_path / "A055_P051_G001_C002.csv").write_text(etri_text(alone(positions)).replace("frameNum", "frame"))
    (tmp_path / "A056_P051_G001_C002.csv").write_text(etri_text(alone(positions)))
    clips, reasons = read("etri", tmp_path)
    assert sorted(clips) == ["A004_P007_G001_C002", "A047_P007_G001_C002", "A047_P007_G001_C002.2"]
    motion = clips["A004_P007_G001_C002"].motion
    assert (motion.action, motion.subject, motion.style, len(motion)) == ("drinking water", "P007", "elderly", 30)
    assert motion.action == ETRI_ACTIVITY3D[3]
    check_same(clips["A004_P007_G001_C002"], positions)
    assert "line 1: no column 'frameNum'" in reasons["A055_P051_G001_C002"]
    assert "action 56 is not from 1 to 55" in reasons["A056_P051_G001_C002"]


def test_pku_mmd_to_the_letter(tmp_path):
    first, second = seen(76, seed=7), seen(76, seed=8, away=3.5)
    second[:30] = 0  # the second person comes later
    for folder in ("SKELETON_VIDEO", "Label", "Split"):
        (tmp_path / folder).mkdir()
    (tmp_path / "SKELETON_VIDEO" / "0002-L.txt").write_text(pku_text(first, second))
    (tmp_path / "SKELETON_VIDEO" / "0003-R.txt").write_text(pku_text(first))
    (tmp_path / "SKELETON_VIDEO" / "0004-M.txt").write_text(pku_text(first))
    (tmp_path / "Label" / "0002-L.txt").write_text("8,0,29,2\n14,30,59,1\n11,75,60,2\n60,1,9,1\n8,300,400,1\n8,x,4,1\n")
    (tmp_path / "Label" / "0003-R.txt").write_text("51,10,40,2\n")
    (tmp_path / "Split" / "cross-subject.txt").write_text(
        "Training videos:\n0002-L, 0002-M, \nValidation videos:\n0003-R, \n"
    )
    clips, reasons = read("pku-mmd", tmp_path)
    labels = {clip_id: (clip.motion.action, clip.motion.subject, len(clip.motion)) for clip_id, clip in clips.items()}
    assert labels == {
        "0002-L.001": ("drink water", "training subjects", 30),
        "0002-L.002": ("handshaking", "training subjects", 30),
        "0002-L.002.2": ("handshaking", "training subjects", 30),
        "0002-L.003": ("falling", "training subjects", 16),  # a range that runs backwards is turned round
        "0003-R.001": ("writing", "validation subjects", 31),
    }
    check_same(clips["0002-L.001"], first[:30])
    assert len(pku_mmd.ACTIONS) == 51 and all("other" in pku_mmd.ACTIONS[n - 1] or n == 14 for n in pku_mmd.TWO_PEOPLE)
    assert "action 60 is not from 1 to 51" in reasons["0002-L.004"]
    assert "0002-L.txt frames 300-400: no frame shows a body" in reasons["0002-L.005"]
    assert "line 6: 'action,first,last,confidence' expected" in reasons["0002-L.006"]
    assert "no label file of this name" in reasons["0004-M"]
    for name in ("0002-L", "0003-R"):
        (tmp_path / "Label" / f"{name}.txt").unlink()
    with pytest.raises(InputError, match="no labels; expected PKU-MMD recordings"):
        pku_mmd.find_clips(tmp_path)


def test_pku_mmd_parts_that_overlap_are_refused(tmp_path):
    (tmp_path / "cross-subject.txt").write_text("Training videos:\n0002-L\nValidation videos: 0002-L\n")
    with pytest.raises(InputError, match="line 3: 0002-L is among the training and the validation videos"):
        pku_mmd.read_parts(tmp_path / "cross-subject.txt")


def test_uestc_to_the_letter(tmp_path):
    positions = seen(seed=9)
    (tmp_path / "a0_d1_p001_c1_skeleton.txt").write_text(uestc_text(positions))
    savemat(tmp_path / "a39_d8_p001_c2_skeleton.mat", {"v": positions.reshape(30, 75)})
    savemat(tmp_path / "a0_d1_p001_c1_skeleton.mat", {"v": np.zeros((3, 75))})  # the .txt of a sample comes first
    savemat(tmp_path / "a1_d1_p002_c1_skeleton.mat", {"v": np.zeros((3, 74))})
    (tmp_path / "a1_d9_p002_c1_skeleton.txt").write_text(uestc_text(positions))
    (tmp_path / "a2_d1_p002_c1_skeleton.txt").write_text(uestc_text(positions[:, :24]))
    (tmp_path / "a3_d1_p002_c1_skeleton.txt").write_text(uestc_text(positions)[2:])
    clips, reasons = read("uestc", tmp_path)
    labels = {clip_id: (clip.motion.action, clip.motion.subject) for clip_id, clip in clips.items()}
    assert labels == {
        "a0_d1_p001_c1": ("punching and knee lifting", "p001"),
        "a39_d8_p001_c2": ("high knees running", "p001"),
    }
    for clip in clips.values():
        check_same(clip, positions)
    assert "no variable 'v' of (frames, 75) numbers" in reasons["a1_d1_p002_c1"]
    assert "direction 9 is not from 1 to 8" in reasons["a1_d9_p002_c1"]
    assert "24 joints, 25 expected" in reasons["a2_d1_p002_c1"]
    assert "line 1: '#', the start of a frame, expected" in reasons["a3_d1_p002_c1"]


def test_published_classes():
    assert len(NTU_RGBD) == 120 and len(uestc.ACTIONS) == len(set(uestc.ACTIONS)) == 40
    assert [NTU_RGBD[number - 1] for number in (50, 60, 106)] == [
        "punching/slapping other person",
        "walking apart from each other",
        "hit other person with something",
    ]
    assert {ETRI_ACTIVITY3D[number - 1] for number in etri.TWO_PEOPLE} == {
        "talking to each other",
        "handshaking",
        "hugging each other",
        "fighting each other",
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_damaged_file_is_read_or_rejected(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("damaged")
    positions = seen(6, seed=1)
    savemat(folder / "v.mat", {"v": positions.reshape(6, 75)})
    files = {
        "ntu-rgbd": [("S001C001P003R001A055.skeleton", ntu_text(alone(positions)).encode())],
        "etri": [("A004_P007_G001_C002.csv", etri_text(alone(positions)).encode())],
        "pku-mmd": [("a/0002-L.txt", pku_text(positions).encode()), ("b/0002-L.txt", b"8,0,5,2\n")],
        "uestc": [
            ("a0_d1_p001_c1_skeleton.txt", uestc_text(positions).encode()),
            ("a1_d1_p001_c1_skeleton.mat", (folder / "v.mat").read_bytes()),
        ],
    }
    for name, contents in files.items():
        for number, (path, data) in enumerate(contents):
            target = folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(damaged(data, seed + number))
        try:
            clips, reasons = read(name, folder / name)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        assert clips or reasons or name == "pku-mmd"
        assert all(np.isfinite(clip.motion.positions).all() for clip in clips.values())
        assert not any("\n" in reason for reason in reasons.values())
