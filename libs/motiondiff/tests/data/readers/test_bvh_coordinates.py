"""Body, up axis and unit of BVH rigs: decided by the standing body, once a rig, never by a norm."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from bvh_rigs import body

from icube_common.errors import InputError
from motiondiff.cli import main
from motiondiff.data.prepare import PrepareOptions, prepare
from motiondiff.data.readers.bvh.reader import read_bvh
from motiondiff.skeleton.motion import Motion, headings

FROM_UNIT = {"m": 1.0, "cm": 100.0, "mm": 1000.0, "inch": 1 / 0.0254, "cmu": 0.45 / 0.0254}
# the channels of a joint that stays where it is
FRAME = "ROOT World\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
SWORD = "JOINT Sword\n{\nOFFSET 30 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\nJOINT Blade\n{\nOFFSET 0 80 0\n}\n}"


def write(folder: Path, text: str, name: str = "clip.bvh") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def read(folder: Path, text: str, **options: object) -> Motion:
    return read_bvh(write(folder, text), **options)


@pytest.mark.parametrize("up", ["x", "y", "z"])
@pytest.mark.parametrize("unit", FROM_UNIT)
def test_every_up_axis_and_unit_is_the_same_motion(tmp_path, up, unit):
    plain = read(tmp_path, body(), up="y", unit="cm")
    found = read(tmp_path, body(up=up, scale=FROM_UNIT[unit]))
    np.testing.assert_allclose(found.positions[0], plain.positions[0], atol=1e-5)
    np.testing.assert_allclose(found.root, plain.root, atol=1e-5)
    np.testing.assert_allclose(found.skeleton.offsets, plain.skeleton.offsets, atol=1e-5)
    np.testing.assert_allclose(headings(found), headings(plain), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(found.rotations), 1, atol=1e-5)


def test_a_world_turned_by_the_hips_alone_keeps_its_rest_pose(tmp_path):
    """As Blender writes z-up: the rest pose along y, and 90 degrees about x in the root's channels."""
    text = body(turn=(0, 90, 0)).replace("0.000000 94.000000", "0.000000 0.000000")
    lines = [
        " ".join([row.split()[0], row.split()[2], "94", *row.split()[3:]]) if row[:1].isdigit() else row
        for row in text.splitlines()
    ]
    motion = read(tmp_path, "\n".join(lines))
    assert np.ptp(motion.positions[..., 1], axis=1).min() > 1.3
    assert motion.skeleton.offsets[motion.skeleton.index("Head"), 1] > 0.1, "a rest pose that stands is not laid down"


def test_lying_person_is_not_rotated(tmp_path):
    motion = read(tmp_path, body(turn=(0, -90, 0), height=0.1))
    assert np.ptp(motion.positions[0, :, 1]) < 0.5
    # nor where others of the rig stand: the folder decides
    folder = tmp_path / "folder"
    for number in range(3):
        write(folder, body(up="z", frames=14 + number), f"walk{number}.bvh")
    write(folder, body(up="z", turn=(0, -90, 0), height=0.1), "lie.bvh")
    store = prepare("bvh", folder, tmp_path / "store", PrepareOptions(fps=20))
    assert store.header["rejected"] == 0
    lying = store[store.clip_ids.index("lie")]
    assert np.ptp(lying.positions[0, :, 1]) < 0.5
    assert np.ptp(store[store.clip_ids.index("walk0")].positions[0, :, 1]) > 1.3


def test_a_body_keeps_its_own_size(tmp_path, caplog):
    for factor in (0.65, 1.0, 1.25):
        with caplog.at_level(logging.WARNING, logger="motiondiff"):
            motion = read(tmp_path, body(scale=100 * factor))
        assert motion.skeleton.offsets[2, 1] == pytest.approx(-0.42 * factor, abs=1e-5)
        assert not caplog.text
    with caplog.at_level(logging.WARNING, logger="motiondiff"):
        giant = read(tmp_path, body(scale=100 * 1.6))
    assert giant.skeleton.offsets[2, 1] == pytest.approx(-0.42 * 1.6, abs=1e-5)
    assert "a leg of 1.34 m from hip to ankle is outside human range" in caplog.text


def test_a_given_unit_holds_and_is_doubted(tmp_path, caplog):
    text = body(scale=30)
    with caplog.at_level(logging.WARNING, logger="motiondiff"):
        motion = read(tmp_path, text, unit="cm", up="z")
    assert motion.skeleton.offsets[2, 1] == pytest.approx(-0.126, abs=1e-5)
    np.testing.assert_allclose(motion.root[:2], [[0, 0, -0.282], [0, 0.03, -0.282]], atol=1e-5)
    assert "a leg of 0.25 m from hip to ankle is outside human range (0.4 to 1.15 m): see --unit" in caplog.text
    assert read(tmp_path, text, unit="0.0333333").skeleton.offsets[2, 1] == pytest.approx(-0.42, abs=1e-5)
    for unit in ("0", "-1", "nan"):
        with pytest.raises(InputError, match=f"--unit {unit}: .* must be positive"):
            read(tmp_path, text, unit=unit)
    with pytest.raises(InputError, match="unknown up axis 'w'"):
        read(tmp_path, text, up="w")


def test_implausible_unit_is_refused_and_an_unknown_one_reported(tmp_path, caplog):
    with pytest.raises(InputError, match=r"clip\.bvh: the unit .* --unit NUMBER"):
        read(tmp_path, body(scale=0.1))
    with caplog.at_level(logging.WARNING, logger="motiondiff"):
        motion = read(tmp_path, body(scale=26))
    assert "the unit of length is unknown (legs of 21.84, in inch 0.55 m)" in caplog.text
    assert motion.skeleton.offsets[2, 1] == pytest.approx(-0.4, abs=1e-5)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"mixamorig:{name}",
        lambda name: f"Character1_{name}",
        lambda name: {"LeftFoot": "左足首", "RightFoot": "右足首", "Head": "頭"}.get(name, name),
        lambda name: f"bone{sum(map(ord, name))}",
    ],
)
def test_names_of_joints_need_not_be_known(tmp_path, rename):
    motion = read(tmp_path, body(up="z", scale=1 / 0.0254, rename=rename))
    np.testing.assert_allclose(motion.positions[0], read(tmp_path, body()).positions[0], atol=1e-4)


def test_a_prop_beside_the_body_and_the_world_above_it_are_left_out(tmp_path, caplog):
    plain = read(tmp_path, body())
    with caplog.at_level(logging.WARNING, logger="motiondiff"):
        armed = read(
            tmp_path, body(above=FRAME, above_values="0 0 0 0 0 0", beside=SWORD, beside_values="5 6 7")
        )  # fmt: skip
    assert armed.skeleton.names == plain.skeleton.names
    np.testing.assert_allclose(armed.positions, plain.positions, atol=1e-5)
    assert "not of the body Hips, left out: Sword, Blade" in caplog.text


def test_a_trunk_beside_the_legs_is_no_prop(tmp_path):
    """Poser and DAZ: hip -> pelvis with the legs, abdomen with the rest."""
    text = body(above="ROOT hip\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation", above_values="0 0 0")
    chest = SWORD.replace("Sword", "abdomen").replace("Blade", "head2")
    both = body(
        above="ROOT hip\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation",
        above_values="0 0 0",
        beside=chest,
        beside_values="0 0 0",
        frames=1,
    )
    assert read(tmp_path, text).skeleton.names[0] == "Hips"
    assert read(tmp_path, both).skeleton.names[0] == "hip"


@pytest.mark.parametrize("own_root", [True, False])
def test_of_two_people_the_first_is_read_with_a_warning(tmp_path, caplog, own_root):
    """Two people as two ROOTs, or below one world frame."""
    joints = body(rename=lambda name: f"B_{name}").split("MOTION")[0].split("HIERARCHY\n")[1]
    values = " ".join("0" * 45)
    if own_root:
        text = body(extra=joints, beside_values=values)
    else:
        other = joints.replace("ROOT", "JOINT")
        text = body(above=FRAME, above_values="0 0 0 0 0 0", beside=other, beside_values=values)
    with caplog.at_level(logging.WARNING, logger="motiondiff"):
        motion = read(tmp_path, text)
    np.testing.assert_allclose(motion.positions, read(tmp_path, body()).positions, atol=1e-5)
    assert "left out: B_Hips" in caplog.text


def test_several_roots_give_the_body_with_a_warning(tmp_path, caplog):
    camera = "ROOT Camera\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n}"
    with caplog.at_level(logging.WARNING, logger="motiondiff"):
        motion = read(tmp_path, body(extra=camera, beside_values="1 2 3"))
    assert motion.skeleton.names[0] == "Hips" and "Camera" not in motion.skeleton.names
    assert "several ROOTs: the body is taken from Hips, left out: Camera" in caplog.text


def test_mesh_nodes_are_no_joints(tmp_path):
    text = body().replace(
        "JOINT RightUpLeg", "JOINT Pelvis_RIGMESH\n{\nOFFSET 0 150 0\nEnd Site\n{\nOFFSET 0 0 0\n}\n}\nJOINT RightUpLeg"
    )
    assert read(tmp_path, text).skeleton.names == read(tmp_path, body()).skeleton.names


def test_one_calm_clip_is_read_as_the_others_of_its_rig(tmp_path):
    """Hips that never move against the world's frame in one clip do in the next: one rig, one root."""
    folder = tmp_path / "folder"
    walk = body(above=FRAME, above_values="0 0 0 0 0 0")
    rows = walk.splitlines()
    first = next(number for number, row in enumerate(rows) if row.startswith("Frame Time")) + 1
    write(folder, "\n".join(rows[:first] + [rows[first]] * 12), "a-calm.bvh")
    write(folder, walk, "b-walk.bvh")
    store = prepare("bvh", folder, tmp_path / "store", PrepareOptions(fps=20))
    assert store.clip_ids == ["a-calm", "b-walk"] and store.joint_names[0] == "Hips"


def test_one_broken_clip_is_one_line_and_the_choice_is_recorded(tmp_path, caplog, capsys):
    folder = tmp_path / "folder"
    for number in range(3):
        write(folder, body(up="z", scale=1 / 0.0254, frames=12 + number), f"c{number}.bvh")
    write(folder, body()[:300], "cut.bvh")
    with caplog.at_level(logging.INFO, logger="motiondiff"):
        assert main(["prepare", "--format", "bvh", str(folder), "--out", str(tmp_path / "store"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["stature_m"]["median"] == pytest.approx(1.56, abs=0.02)
    header = json.loads((tmp_path / "store" / "store.json").read_text())
    assert header["rigs"] == [
        {"files": 3, "joints": 14, "body": "Hips", "up": "z", "unit": "inch", "metres_per_unit": 0.0254}
    ]
    assert "lengths are taken to be in inch" in caplog.text
    with (tmp_path / "store" / "rejected.csv").open(newline="") as handle:
        (line,) = list(csv.reader(handle))[1:]
    assert line[0] == "cut" and "cut.bvh: " in line[1]
    assert main(["prepare", "--format", "bvh", str(folder), "--out", str(tmp_path / "s2"), "--strict"]) == 2


def test_the_commands_take_up_unit_and_rate_where_files_leave_them_open(tmp_path, capsys):
    path = write(tmp_path / "folder", body(up="z", scale=30, frame_time="0.5"))
    given = ["--up", "z", "--unit", "0.0333333", "--source-fps", "20"]
    assert main(["export", str(path), "--to", "npz", "--out", str(tmp_path / "a.npz"), *given]) == 0
    with np.load(tmp_path / "a.npz") as arrays:
        assert np.ptp(arrays["positions"][0, :, 1]) == pytest.approx(1.56, abs=0.02) and arrays["fps"] == 20
    assert main(["prepare", "--format", "bvh", str(path.parent), "--out", str(tmp_path / "s"), *given]) == 0
    assert main(["info", str(tmp_path / "s"), "--json"]) == 0
    capsys.readouterr()
    for words in (
        ["export", str(tmp_path / "a.npz"), "--to", "bvh", "--out", str(tmp_path / "b.bvh"), "--up", "z"],
        ["export", str(tmp_path / "s"), "--to", "npz", "--out", str(tmp_path / "d"), "--unit", "cm"],
        ["prepare", "--format", "npz", str(tmp_path), "--out", str(tmp_path / "s3"), "--source-fps", "30"],
        ["prepare", "--format", "bvh", str(path.parent), "--out", str(tmp_path / "s4"), "--unit", "cms"],
    ):
        assert main(words) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
