"""Sets in the field's formats: to the letter, every clip in them, and no pickle that runs anything."""

from __future__ import annotations

import csv
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from motiondiff.data.clips import ClipSet
from motiondiff.data.readers.kinect.ntu_rgbd import read_frames
from motiondiff.data.readers.pickles import load_restricted
from motiondiff.data.store import MotionStore
from motiondiff.export.datasets import export_dataset
from motiondiff.export.datasets.ctr_gcn import center_on_joint, write_ctr_gcn
from motiondiff.export.datasets.ntu_skeleton import write_ntu_skeletons
from motiondiff.export.datasets.pyskl import write_pyskl
from motiondiff.skeleton.skeleton import Skeleton


@pytest.fixture(scope="module")
def clips(store: MotionStore) -> ClipSet:
    """Every split, five classes, lengths from 20 to 35 frames."""
    return ClipSet.from_store(store)


@pytest.fixture
def two() -> ClipSet:
    """Two clips of two joints by hand: 2 frames and 1 frame."""
    first = np.array([[[0, 1, 0], [0.5, 1, 0.25]], [[0, 1, 1], [0.5, 1, 1.25]]], dtype=np.float32)
    return ClipSet(
        ids=("a", "b"),
        positions=(first, first[:1] + 1),
        labels=np.array([1, 0]),
        class_names=("sit", "walk"),
        splits=("train", "test"),
        subjects=("anna", ""),
        skeleton=Skeleton(("hip", "hand"), (-1, 0), np.zeros((2, 3), "f4")),
        fps=20.0,
    )


def test_pyskl_holds_every_clip(clips: ClipSet, tmp_path: Path) -> None:
    write_pyskl(clips, tmp_path / "set.pkl")
    content = load_restricted(tmp_path / "set.pkl")
    assert [one["frame_dir"] for one in content["annotations"]] == list(clips.ids)
    for one, positions, label, split in zip(
        content["annotations"], clips.positions, clips.labels, clips.splits, strict=True
    ):
        np.testing.assert_array_equal(one["keypoint"][0], positions)
        assert one["label"] == label and one["total_frames"] == len(positions)
        assert one["frame_dir"] in content["split"][split.replace("validation", "val")]
    assert sum(map(len, content["split"].values())) == len(clips)


def test_pyskl_to_the_letter(two: ClipSet, tmp_path: Path) -> None:
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
        load_restricted(tmp_path / "set.pkl")
    assert not target.exists()


@pytest.mark.parametrize(
    "named", [b"cbuiltins\neval\n", b"cnumpy\nload\n", b"cnumpy.core.multiarray\nfromfile\n", b"cnumpy\ndtype.type\n"]
)
def test_names_that_no_array_needs_are_refused(named: bytes, tmp_path: Path) -> None:
    (tmp_path / "set.pkl").write_bytes(named + b".")
    with pytest.raises(InputError, match="nothing in it was executed"):
        load_restricted(tmp_path / "set.pkl")


def test_broken_pickles(two: ClipSet, tmp_path: Path) -> None:
    path = tmp_path / "set.pkl"
    write_pyskl(two, path)
    whole = path.read_bytes()
    for cut in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"set\.pkl"):
            load_restricted(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_restricted(tmp_path / "absent.pkl")


def test_ctr_gcn_holds_every_clip(clips: ClipSet, tmp_path: Path) -> None:
    write_ctr_gcn(clips, tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz") as arrays:
        keys = {"train": "train", "validation": "val", "test": "test"}
        for split, key in keys.items():
            rows = [row for row, own in enumerate(clips.splits) if own == split]
            assert arrays[f"id_{key}"].tolist() == [clips.ids[row] for row in rows]
            assert arrays[f"y_{key}"].argmax(axis=1).tolist() == clips.labels[rows].tolist()
            for row, frames in zip(rows, arrays[f"x_{key}"], strict=True):
                wanted = center_on_joint(clips.positions[row])
                persons = frames.reshape(len(frames), 2, -1, 3)
                np.testing.assert_array_equal(persons[: len(wanted), 0], wanted)
                assert not persons[len(wanted) :].any() and not persons[:, 1].any()


def test_ctr_gcn_to_the_letter(two: ClipSet, tmp_path: Path) -> None:
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


def test_ntu_skeletons_hold_every_clip(clips: ClipSet, tmp_path: Path) -> None:
    """Read by the reader of NTU's own files; a half turn about y and a shift lead back to the common frame."""
    write_ntu_skeletons(clips, tmp_path)
    with (tmp_path / "clips.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["clip"] for row in rows] == list(clips.ids)
    assert [row["split"] for row in rows] == list(clips.splits)
    assert [row["subject"] for row in rows] == list(clips.subjects)
    assert [row["class"] for row in rows] == [clips.class_names[label] for label in clips.labels]
    for row, positions in zip(rows, clips.positions, strict=True):
        camera = np.array([bodies[0][2] for bodies in read_frames(tmp_path / row["file"])])
        np.testing.assert_allclose((camera - (0, -1, 3)) * (-1, 1, -1), positions, atol=1e-6)


def test_ntu_skeleton_to_the_letter(two: ClipSet, tmp_path: Path) -> None:
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
        (lambda lines: [], "line 1"),
    ],
)
def test_broken_skeleton_files(change: object, words: str, two: ClipSet, tmp_path: Path) -> None:
    write_ntu_skeletons(two, tmp_path)
    path = tmp_path / "S001C001P001R001A002.skeleton"
    path.write_text("\n".join(change(path.read_text().splitlines())))  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        read_frames(path)


def test_takes_past_999_go_on_in_the_next_setup(two: ClipSet, tmp_path: Path) -> None:
    count = 1001
    many = ClipSet(
        ids=tuple(map(str, range(count))),
        positions=(two.positions[1],) * count,
        labels=np.zeros(count, int),
        class_names=("sit",),
        splits=("train",) * count,
        subjects=("",) * count,
        skeleton=two.skeleton,
        fps=two.fps,
    )
    write_ntu_skeletons(many, tmp_path)
    assert len(list(tmp_path.glob("*.skeleton"))) == count
    assert (tmp_path / "S002C001P000R002A001.skeleton").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": (0, 2)}, "labels 0 to 2 of 2 classes"),
        ({"labels": (0,)}, "2 positions, 1 labels"),
        ({"splits": ("train",)}, "2 positions, 2 labels, 2 ids, 1 splits"),
        ({"splits": ("train", "tset")}, "unknown split 'tset'"),
        ({"positions": (np.zeros((1, 2, 3), "f4"), np.zeros((1, 3, 3), "f4"))}, r"positions \(1, 3, 3\), need"),
    ],
)
def test_clips_that_cannot_be(change: dict[str, object], words: str, two: ClipSet) -> None:
    with pytest.raises(InputError, match=words):
        replace(two, **change)


@pytest.mark.parametrize("change", [{"ids": ("a", "a")}, {"splits": ()}])
def test_sets_that_no_format_holds(change: dict[str, object], two: ClipSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 clips; at least one, unique ids and a split of each"):
        export_dataset(replace(two, **change), tmp_path / "set.pkl", "pyskl")


def test_splits_stay_with_their_clips(clips: ClipSet) -> None:
    rows = [3, 0, len(clips) - 1]
    assert clips.take(rows).splits == tuple(clips.splits[row] for row in rows)
    assert clips.joined(clips).splits == clips.splits * 2
    assert clips.joined(replace(clips, splits=())).splits == ()
