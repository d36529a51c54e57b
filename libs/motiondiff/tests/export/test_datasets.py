"""Sets in the field's formats: to the letter, read back equal, and no pickle that runs anything."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from motiondiff.data.readers.pickles import load_restricted
from motiondiff.data.store import MotionStore
from motiondiff.export.datasets.ctr_gcn import center_on_joint, read_ctr_gcn, write_ctr_gcn
from motiondiff.export.datasets.labelled_clips import LabelledClips
from motiondiff.export.datasets.ntu_skeleton import (
    from_camera,
    read_ntu_skeleton,
    read_ntu_skeletons,
    to_camera,
    write_ntu_skeletons,
)
from motiondiff.export.datasets.pyskl import read_pyskl, write_pyskl


@pytest.fixture(scope="module")
def clips(store: MotionStore) -> LabelledClips:
    """Every split, five classes, lengths from 20 to 35 frames."""
    return LabelledClips.from_store(store)


@pytest.fixture
def two() -> LabelledClips:
    """Two clips of two joints by hand: 2 frames and 1 frame."""
    first = np.array([[[0, 1, 0], [0.5, 1, 0.25]], [[0, 1, 1], [0.5, 1, 1.25]]], dtype=np.float32)
    return LabelledClips(
        ids=("a", "b"),
        positions=(first, first[:1] + 1),
        labels=(1, 0),
        class_names=("sit", "walk"),
        splits=("train", "test"),
        subjects=("anna", None),
    )


def assert_equal(found: LabelledClips, wanted: LabelledClips, *, order: bool = True) -> None:
    place = {name: row for row, name in enumerate(found.ids)}
    assert sorted(found.ids) == sorted(wanted.ids) and (found.ids == wanted.ids or not order)
    assert found.class_names == wanted.class_names
    for row, name in enumerate(wanted.ids):
        mine = place[name]
        assert found.labels[mine] == wanted.labels[row] and found.splits[mine] == wanted.splits[row]
        np.testing.assert_array_equal(found.positions[mine], wanted.positions[row])


def test_pyskl_comes_back(clips: LabelledClips, tmp_path: Path) -> None:
    write_pyskl(clips, tmp_path / "set.pkl")
    assert_equal(read_pyskl(tmp_path / "set.pkl"), clips)


def test_pyskl_to_the_letter(two: LabelledClips, tmp_path: Path) -> None:
    """As its own loader reads it: `pickle.load`, `split`, `annotations` of (M, T, V, C) keypoints."""
    write_pyskl(two, tmp_path / "set.pkl")
    data = (tmp_path / "set.pkl").read_bytes()
    assert b"numpy._core" not in data  # NumPy 1, which PYSKL needs, has no such module
    content = load_restricted(tmp_path / "set.pkl")
    assert content["split"] == {"train": ["a"], "val": [], "test": ["b"]}
    first, second = content["annotations"]
    assert set(first) == {"frame_dir", "total_frames", "label", "keypoint"}
    assert first["keypoint"].shape == (1, 2, 2, 3) and first["keypoint"].dtype == np.float32
    assert (first["frame_dir"], first["total_frames"], first["label"]) == ("a", 2, 1)
    np.testing.assert_array_equal(second["keypoint"][0, 0, 1], [1.5, 2, 1.25])
    assert (tmp_path / "set.pkl.classes.txt").read_text() == "sit\nwalk\n"


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_runs_nothing(protocol: int, tmp_path: Path) -> None:
    target = tmp_path / "owned"
    (tmp_path / "set.pkl").write_bytes(pickle.dumps({"annotations": [Malicious(target)]}, protocol=protocol))
    with pytest.raises(InputError, match=r"set\.pkl: the pickle names posix\.system"):
        read_pyskl(tmp_path / "set.pkl")
    assert not target.exists()


@pytest.mark.parametrize(
    "named", [b"cbuiltins\neval\n", b"cnumpy\nload\n", b"cnumpy.core.multiarray\nfromfile\n", b"cnumpy\ndtype.type\n"]
)
def test_names_that_no_array_needs_are_refused(named: bytes, tmp_path: Path) -> None:
    (tmp_path / "set.pkl").write_bytes(named + b".")
    with pytest.raises(InputError, match="nothing in it was executed"):
        load_restricted(tmp_path / "set.pkl")


def test_broken_pickles(two: LabelledClips, tmp_path: Path) -> None:
    path = tmp_path / "set.pkl"
    write_pyskl(two, path)
    whole = path.read_bytes()
    for cut in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"set\.pkl"):
            read_pyskl(path)
    for content in ({}, {"split": {}, "annotations": [{"frame_dir": "a"}]}, [1], {"split": 3, "annotations": []}):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(InputError):
            read_pyskl(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_pyskl(tmp_path / "absent.pkl")


def test_ctr_gcn_comes_back(clips: LabelledClips, tmp_path: Path) -> None:
    write_ctr_gcn(clips, tmp_path / "set.npz")
    wanted = replace(clips, positions=tuple(map(center_on_joint, clips.positions)))
    assert_equal(read_ctr_gcn(tmp_path / "set.npz"), wanted, order=False)


def test_ctr_gcn_to_the_letter(two: LabelledClips, tmp_path: Path) -> None:
    """As its feeder takes it: reshape to (N, T, persons, joints, axes), labels from one-hot rows."""
    write_ctr_gcn(two, tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz") as arrays:
        x, y = arrays["x_train"], arrays["y_train"]
        assert {"x_train", "y_train", "x_test", "y_test"} <= set(arrays.files) and "x_val" not in arrays.files
        assert arrays["x_test"].shape == (1, 2, 12)
        assert not arrays["x_test"][0, 1].any()  # the clip of one frame is padded with zeros
    assert x.shape == (1, 2, 12) and x.dtype == np.float32
    assert np.where(y > 0)[1].tolist() == [1]
    persons = x.reshape(1, 2, 2, 2, 3)
    np.testing.assert_array_equal(persons[0, 0, 0], [[-0.5, 0, -0.25], [0, 0, 0]])
    np.testing.assert_array_equal(persons[0, 1, 0, 1], [0, 0, 1])
    assert not persons[:, :, 1].any()


def test_broken_ctr_gcn_files(two: LabelledClips, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    write_ctr_gcn(two, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable set"):
        read_ctr_gcn(path)
    np.savez(path, x_train=np.zeros((1, 2, 7)), y_train=np.ones((1, 1)), id_train=np.array(["a"]))
    with pytest.raises(InputError, match=r"\(N, T, 2 J 3\)"):
        read_ctr_gcn(path)
    np.savez(path, x_train=np.zeros((1, 2, 6)), y_train=np.ones((1, 2)), id_train=np.array(["a"]))
    with pytest.raises(InputError, match="not one-hot"):
        read_ctr_gcn(path)


def test_ntu_skeletons_come_back(clips: LabelledClips, tmp_path: Path) -> None:
    write_ntu_skeletons(clips, tmp_path)
    found = read_ntu_skeletons(tmp_path)
    assert_equal(found, replace(clips, positions=tuple(from_camera(to_camera(one)) for one in clips.positions)))
    assert found.subjects == clips.subjects
    for mine, wanted in zip(found.positions, clips.positions, strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-6)


def test_ntu_skeleton_to_the_letter(two: LabelledClips, tmp_path: Path) -> None:
    write_ntu_skeletons(two, tmp_path, ("hip", "hand"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "S001C001P000R001A001.skeleton",
        "S001C001P001R001A002.skeleton",
        "classes.txt",
        "clips.csv",
        "joints.txt",
    ]
    lines = (tmp_path / "S001C001P001R001A002.skeleton").read_text().splitlines()
    assert len(lines) == 1 + 2 * (3 + 2) and lines[0] == "2" and lines[1] == "1" and lines[3] == "2"
    assert len(lines[2].split()) == 10 and all(len(line.split()) == 12 for line in lines[4:6])
    # (0.5, 1, 0.25), facing +z, becomes a person who faces the camera 3 m away: left of the subject is right of it
    assert lines[5].split()[:3] == ["-0.5", "0", "2.75"]
    depth_x, depth_y, colour_x, _ = map(float, lines[5].split()[3:7])
    assert depth_x == pytest.approx(256 + 365 * 0.5 / 2.75, abs=1e-4) and depth_y == 212
    assert colour_x == pytest.approx(960 + 1060 * 0.5 / 2.75, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1], "12 expected"),
        (lambda lines: [*lines, "1"], "more than the 2 frames"),
        (lambda lines: ["two", *lines[1:]], "line 1: 'two'"),
        (lambda lines: [*lines[:4], lines[4].replace("0", "x", 1), *lines[5:]], "line 5"),
        (lambda lines: ["1", "0"], "without a body"),
        (lambda lines: [], "line 1"),
    ],
)
def test_broken_skeleton_files(change: object, words: str, two: LabelledClips, tmp_path: Path) -> None:
    write_ntu_skeletons(two, tmp_path)
    path = tmp_path / "S001C001P001R001A002.skeleton"
    path.write_text("\n".join(change(path.read_text().splitlines())))  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        read_ntu_skeleton(path)


def test_takes_past_999_go_on_in_the_next_setup(two: LabelledClips, tmp_path: Path) -> None:
    count = 1001
    many = LabelledClips(
        ids=tuple(map(str, range(count))),
        positions=(two.positions[1],) * count,
        labels=(0,) * count,
        class_names=("sit",),
        splits=("train",) * count,
        subjects=(None,) * count,
    )
    write_ntu_skeletons(many, tmp_path)
    assert len(list(tmp_path.glob("*.skeleton"))) == count
    assert (tmp_path / "S002C001P000R002A001.skeleton").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ids": ("a", "a")}, "twice"),
        ({"labels": (0, 2)}, "no class name"),
        ({"labels": (0,)}, "as many of each"),
        ({"positions": (np.zeros((1, 2, 3), "f4"), np.zeros((1, 3, 3), "f4"))}, "differ"),
    ],
)
def test_sets_that_cannot_be(change: dict[str, object], words: str, two: LabelledClips) -> None:
    with pytest.raises(InputError, match=words):
        replace(two, **change)
