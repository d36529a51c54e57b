"""Skeleton files beside the videos of any set: a column of a list, a file of the video's name, a motion."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actprompt.data.manifest import Manifest
from actprompt.data.prepare import prepare
from actprompt.skeleton.io import is_skeleton_file, read_skeleton_file
from actprompt.skeleton.roles import ROLES
from icube_common.errors import InputError

Fill = Callable[[Path, Sequence[str]], None]
BODY = tuple(role.replace(" ", "_") for role in ROLES)
REMEDY = "give it"
# arms hang, the left one is level at the last frame; 6 frames of 20 in a second, as the videos of `fill`
STANDING = [
    [0, 1.6, 0], [0.2, 1.4, 0], [-0.2, 1.4, 0], [0.2, 1.1, 0], [-0.2, 1.1, 0], [0.2, 0.85, 0], [-0.2, 0.85, 0],
    [0.1, 0.9, 0], [-0.1, 0.9, 0], [0.1, 0.5, 0], [-0.1, 0.5, 0], [0.1, 0.1, 0], [-0.1, 0.1, 0],
]  # fmt: skip


def body(frames: int = 6) -> np.ndarray:
    joints = np.tile(np.array(STANDING), (frames, 1, 1))
    angle = np.linspace(0, np.pi / 2, frames)
    for joint, radius in ((3, 0.3), (5, 0.55)):
        joints[:, joint] = joints[:, 1] + radius * np.stack([np.sin(angle), -np.cos(angle), np.zeros(frames)], 1)
    return joints


def write(path: Path, names: Sequence[str] | None = BODY, joints: Any = None, **arrays: Any) -> Path:
    joints = body() if joints is None else joints
    named = {} if names is None else {"joint_names": np.array(names)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, joints=joints, time=np.arange(len(joints)) / 20, **named, **arrays)
    return path


def test_column_of_a_list(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "videos", ["a.avi", "b.avi", "c.avi"])
    write(tmp_path / "videos" / "poses" / "one.npz")
    lost = np.full((6, 13, 3), np.nan)
    write(tmp_path / "videos" / "poses" / "two.npz", joints=lost)
    rows = "a.avi,wave,poses/one.npz\nb.avi,sit,\nc.avi,sit,poses/two.npz\n"
    (tmp_path / "list.csv").write_text("path,label,skeleton\n" + rows)
    manifest = prepare("csv", tmp_path / "list.csv", tmp_path / "data", root=tmp_path / "videos")
    assert manifest.description["skeleton"] == {"joints": list(BODY), "unit": "m", "clips": 1}
    first, second, third = manifest.clips
    joints, time = manifest.skeleton(first) or (None, None)
    assert joints is not None and time is not None
    np.testing.assert_allclose(joints, body(), atol=1e-6)
    np.testing.assert_allclose(time, np.arange(6) / 20, atol=1e-6)
    assert manifest.skeleton(second) is None and manifest.skeleton(third) is None
    table = manifest.parameters()
    values = dict(zip(table.names, table.values[0], strict=True))
    assert values["active arm raise, last"] == pytest.approx(90, abs=1e-3)
    assert values["duration"] == pytest.approx(0.3, abs=1e-6)
    assert np.isnan(table.values[1:]).all()
    # columns of poses are read, so there is no warning about them
    assert not any("not read" in warning for warning in manifest.description["warnings"])


def test_joints_without_roles_have_parameters_of_positions(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path, ["a.avi"])
    joints = np.zeros((6, 2, 3))
    joints[:, 1, 0] = np.linspace(0, 0.5, 6)
    write(tmp_path / "a.npz", ("base", "tool"), joints)
    (tmp_path / "list.csv").write_text("path,label,skeleton\na.avi,wave,a.npz\n")
    manifest = prepare("csv", tmp_path / "list.csv", tmp_path / "data")
    table = manifest.parameters()
    values = dict(zip(table.names, table.values[0], strict=True))
    assert values["tool range"] == pytest.approx(0.5) and values["base range"] == 0
    assert values["tool speed, mean"] == pytest.approx(0.1 / 0.05)


def test_file_beside_a_video(fill: Fill, make_video: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, ["wave/a.avi", "sit/b.avi"])
    write(source / "wave" / "a.npz")
    np.savez(source / "sit" / "b.npz", features=np.zeros(3))
    (source / "sit" / "c.npz").write_bytes(b"no archive")
    manifest = prepare("folder", source, tmp_path / "data")
    assert [manifest.skeleton(clip) is not None for clip in manifest.clips] == [False, True]
    assert manifest.description["counts"]["side_files"] == 2
    make_video(source / "wave" / "long.avi", 40)
    write(source / "wave" / "long.npz")
    manifest = prepare("folder", source, tmp_path / "data", overwrite=True)
    assert "1 skeletons span another time than their videos: long.avi" in manifest.description["warnings"]


def test_skeleton_of_a_motion(tmp_path: Path) -> None:
    path = tmp_path / "walk.npz"
    np.savez(path, positions=body(), rotations=np.zeros((6, 13, 3, 3)), joint_names=np.array(BODY), fps=np.float64(20))
    assert is_skeleton_file(path)
    joints, time, names = read_skeleton_file(path, remedy=REMEDY)
    assert names == BODY and joints.shape == (6, 13, 3)
    np.testing.assert_allclose(time, [0, 0.05, 0.1, 0.15, 0.2, 0.25], atol=1e-6)
    np.savez(path, positions=body(), joint_names=np.array(BODY), fps=0.0)
    with pytest.raises(InputError, match=r"walk.npz: not a skeleton file \(fps 0\): give it"):
        read_skeleton_file(path, remedy=REMEDY)


def test_other_joints_and_nameless_files_are_refused(fill: Fill, tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, ["wave/a.avi", "sit/b.avi"])
    write(source / "sit" / "b.npz")
    write(source / "wave" / "a.npz", (*BODY[:-1], "tail"))
    with pytest.raises(InputError, match=r"a\.npz: other joint_names than .*b\.npz \('right_ankle' and 'tail'\)"):
        prepare("folder", source, tmp_path / "data")
    write(source / "wave" / "a.npz", BODY[:-1], body()[:, :-1])
    with pytest.raises(InputError, match=r"a\.npz: other joint_names than .*b\.npz \(13 and 12 joints\)"):
        prepare("folder", source, tmp_path / "data")
    write(source / "wave" / "a.npz", None)
    with pytest.raises(InputError, match=r"a\.npz: no joint_names in it: give an \.npz with joints"):
        prepare("folder", source, tmp_path / "data")
    write(source / "wave" / "a.npz", BODY[:3])
    with pytest.raises(InputError, match=r"a\.npz: 3 joint_names, 13 different ones expected"):
        prepare("folder", source, tmp_path / "data")
    (source / "list.csv").write_text("path,label,skeleton\nwave/a.avi,wave,gone.npz\nsit/b.avi,sit,\n")
    with pytest.raises(InputError, match=r"gone\.npz: no such file"):
        prepare("csv", source / "list.csv", tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("cut", [0, 1, 100, 700])
def test_damaged_files_are_refused(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:cut])
    assert not is_skeleton_file(path)
    with pytest.raises(InputError, match=r"a\.npz: not a skeleton file"):
        read_skeleton_file(path, remedy=REMEDY)


def test_prepared_skeletons_are_described(fill: Fill, tmp_path: Path) -> None:
    fill(tmp_path / "source", ["wave/a.avi", "sit/b.avi"])
    write(tmp_path / "source" / "wave" / "a.npz")
    prepare("folder", tmp_path / "source", tmp_path / "data")
    about = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert about["skeleton"]["clips"] == 1
    assert Manifest.load(tmp_path / "data").joint_names() == BODY
