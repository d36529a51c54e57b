from __future__ import annotations

import logging
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icube_common.errors import InputError
from motiondiff.data.readers import Clip, Rejection, get_reader, read_or_reject
from motiondiff.data.readers.base import resample
from motiondiff.data.readers.bvh import bandai_namco
from motiondiff.data.readers.bvh.reader import find_clips, read_bvh

CHANNELS = "Xposition Yposition Zposition Zrotation Xrotation Yrotation"


def arm(
    rows: list[str],
    *,
    frames: int | str | None = None,
    frame_time: str = "0.05",
    last: str = "",
    child: str = "3 Zrotation Xrotation Yrotation",
) -> str:
    """Hips at the origin, a chest 50 up, an arm 40 to the side with an end site; centimetres."""
    return "\n".join(
        [
            "HIERARCHY", "ROOT Hips", "{", "OFFSET 0 0 0", f"CHANNELS 6 {CHANNELS}",
            "JOINT Chest", "{", "OFFSET 0 50 0", f"CHANNELS {child}",
            "JOINT Arm", "{", "OFFSET 40 0 0", f"CHANNELS {len(last.split())} {last}",
            "End Site", "{", "OFFSET 30 0 0", "}", "}", "}", "}",
            "MOTION", f"Frames: {len(rows) if frames is None else frames}", f"Frame Time: {frame_time}", *rows, "",
        ]
    )  # fmt: skip


REST = "0 100 0 0 0 0 0 0 0"


def write(folder: Path, text: str | bytes, name: str = "clip.bvh") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def oracle(path: Path) -> np.ndarray:
    """(T, J, 3) world positions by bvhio alone, end sites not included."""
    import bvhio

    root = bvhio.readAsHierarchy(str(path))
    joints = [joint for joint, _, _ in root.layout()]
    frames = root.getKeyframeRange()[1] + 1
    out = np.empty((frames, len(joints), 3))
    for frame in range(frames):
        root.loadPose(frame, recursive=True)
        out[frame] = [list(joint.PositionWorld) for joint in joints]
    return out


def test_positions_by_hand(tmp_path):
    path = write(tmp_path, arm([REST, "10 100 20 0 0 0 90 0 0", "0 100 0 0 0 90 0 0 0"]))
    motion = read_bvh(path, unit="cm")
    assert motion.skeleton.names == ("Hips", "Chest", "Arm")
    assert motion.fps == 20
    assert motion.residual == 0
    np.testing.assert_allclose(motion.positions[0], [[0, 1, 0], [0, 1.5, 0], [0.4, 1.5, 0]], atol=1e-6)
    np.testing.assert_allclose(motion.positions[1], [[0.1, 1, 0.2], [0.1, 1.5, 0.2], [0.1, 1.9, 0.2]], atol=1e-6)
    np.testing.assert_allclose(motion.positions[2][2], [0, 1.5, -0.4], atol=1e-6)


def test_rotation_channels_are_intrinsic_in_the_order_given(tmp_path):
    # Z then X about the turned x-axis: y -> (z 90) -> -x; the x turn leaves that axis alone only if it comes first
    path = write(tmp_path, arm(["0 100 0 90 90 0 0 0 0"]))
    motion = read_bvh(path, unit="cm")
    np.testing.assert_allclose(motion.rotations[0, 0] @ [0, 0, 1], [1, 0, 0], atol=1e-6)


def test_agrees_with_bvhio_on_a_synthetic_file_with_positions_everywhere(tmp_path):
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(7):
        hips, turn = rng.normal(scale=50, size=3), rng.uniform(-180, 180, size=6)
        rows.append(" ".join(f"{value:.5f}" for value in [*hips, *turn[:3], 3, 52, -4, *turn[3:]]))
    path = write(tmp_path, arm(rows, child=f"6 {CHANNELS}"))
    motion = read_bvh(path, unit="cm")
    np.testing.assert_allclose(motion.positions, oracle(path) / 100, atol=1e-4)
    np.testing.assert_allclose(motion.skeleton.offsets[1], [0.03, 0.52, -0.04], atol=1e-6)


def test_a_position_channel_replaces_only_its_own_axis(tmp_path):
    path = write(tmp_path, arm(["0 100 0 0 0 0 7 0"], child="2 Xposition Zrotation"))
    np.testing.assert_allclose(read_bvh(path, unit="cm").skeleton.offsets[1], [0.07, 0.5, 0], atol=1e-7)


def test_bones_that_vary_are_averaged_and_reported(tmp_path):
    def stretched(by: int) -> Path:
        rows = [f"{REST} {40 + step} 0 0" for step in (-by, by)]
        return write(tmp_path, arm(rows, last=CHANNELS[:29]))

    motion = read_bvh(stretched(1), unit="cm")
    np.testing.assert_allclose(motion.skeleton.offsets[2], [0.4, 0, 0], atol=1e-7)
    assert motion.residual == pytest.approx(0.01 / 3)  # the arm is 1 cm off, hips and chest are not
    with pytest.raises(InputError, match=r"clip\.bvh: bone lengths vary .* 3\.3 cm off"):
        read_bvh(stretched(10), unit="cm")


def frame_above(rows: list[str]) -> str:
    """A root with one child that carries six channels, above hips of two legs."""
    leg = [
        "{{",
        "OFFSET {} -80 0",
        "CHANNELS 3 Zrotation Xrotation Yrotation",
        "End Site",
        "{{",
        "OFFSET 0 0 0",
        "}}",
        "}}",
    ]
    legs = [line.format(x) for x, name in ((10, "L"), (-10, "R")) for line in [f"JOINT Leg_{name}", *leg]]
    return "\n".join(
        [
            "HIERARCHY", "ROOT World", "{", "OFFSET 0 0 0", f"CHANNELS 6 {CHANNELS}",
            "JOINT Hips", "{", "OFFSET 5 6 7", f"CHANNELS 6 {CHANNELS}", *legs, "}", "}",
            "MOTION", f"Frames: {len(rows)}", "Frame Time: 0.05", *rows,
        ]
    )  # fmt: skip


def test_a_world_frame_above_the_hips_is_left_out_and_kept_in_the_placement(tmp_path):
    legs = "0 0 0 0 0 0"
    rows = [f"100 0 0 0 0 90 0 {90 + step} 10 0 0 0 {legs}" for step in range(3)]
    path = write(tmp_path, frame_above(rows))
    motion = read_bvh(path, unit="cm")
    assert motion.skeleton.names == ("Hips", "Leg_L", "Leg_R")
    np.testing.assert_allclose(motion.root, [[1.1, 0.9, 0], [1.1, 0.91, 0], [1.1, 0.92, 0]], atol=1e-6)
    np.testing.assert_allclose(motion.positions, oracle(path)[:, 1:] / 100, atol=1e-4)
    # a root that carries the progress itself, with hips that bob by several centimetres, is a frame as well
    rows = [f"{100 * step} 0 0 0 0 90 0 {90 + 4 * step} 10 0 0 0 {legs}" for step in range(3)]
    path = write(tmp_path, frame_above(rows))
    motion = read_bvh(path, unit="cm")
    assert motion.skeleton.names[0] == "Hips"
    np.testing.assert_allclose(motion.positions, oracle(path)[:, 1:] / 100, atol=1e-4)


def test_a_moving_root_with_a_steady_bone_stays_a_joint(tmp_path):
    rows = [f"{100 * step} 0 0 0 0 90 5 6 7 0 0 0 0 0 0 0 0 0" for step in range(3)]
    assert read_bvh(write(tmp_path, frame_above(rows)), unit="cm").skeleton.names[0] == "World"
    one = read_bvh(write(tmp_path, frame_above(["0 0 0 0 0 0 5 6 7 0 0 0 0 0 0 0 0 0"])), unit="cm")
    assert one.skeleton.names[0] == "World"


@pytest.mark.parametrize(("scale", "unit"), [(1, "cm"), (10, "mm"), (0.01, "m")])
def test_the_unit_is_guessed_by_size_and_logged(tmp_path, caplog, scale, unit):
    text = arm([f"0 {100 * scale} 0 0 0 0 0 0 0"])
    text = text.replace("OFFSET 0 50 0", f"OFFSET 0 {50 * scale} 0").replace(
        "OFFSET 40 0 0", f"OFFSET {40 * scale} 0 0"
    )
    with caplog.at_level(logging.INFO, logger="motiondiff"):
        motion = read_bvh(write(tmp_path, text))
    assert motion.positions[0, 2] == pytest.approx([0.4, 1.5, 0], abs=1e-6)
    assert f"taken to be in {unit}" in caplog.text


def test_a_unit_that_cannot_be_guessed_or_is_unknown_is_an_error(tmp_path):
    text = arm([REST]).replace("OFFSET 0 50 0", "OFFSET 0 5 0").replace("OFFSET 40 0 0", "OFFSET 4 0 0")
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=r"clip\.bvh: the unit .* --unit NUMBER"):
        read_bvh(path)
    assert read_bvh(path, unit="inch").skeleton.offsets[1, 1] == pytest.approx(5 * 0.0254)
    with pytest.raises(InputError, match="unknown unit 'cms': did you mean 'cm'"):
        read_bvh(path, unit="cms")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: not a BVH file"),
        ("hello world", "line 1: not a BVH file"),
        ("HIERARCHY\nMOTION\nFrames: 1\nFrame Time: 1\n", "line 2: First Joint"),
        (arm([REST])[:60], "truncated"),
        (arm([REST]).split("Frames:")[0], "truncated"),
        (arm([REST], frames=2), "2 frames announced, 1 rows found"),
        (arm([], frames=0), "0 frames announced"),
        (arm([REST], frames="many"), r"line 22: number of frames 'many'"),
        (arm([REST, "0 100 0 0"]), r"line 25 \(frame 1\): 4 numbers, 9 expected"),
        (arm([REST, REST + " 1"]), r"line 25 \(frame 1\): 10 numbers, 9 expected"),
        (arm([REST, REST.replace("100", "nan")]), r"line 25 \(frame 1\): NaN or infinite"),
        (arm([REST.replace("100", "inf")]), r"line 24 \(frame 0\): NaN or infinite"),
        (arm([REST.replace("100", "abc")]), r"line 24 \(frame 0\): .*abc"),
        (arm([REST], frame_time="0"), "line 23: frame time 0.0 s must be positive"),
        (arm([REST], frame_time="nan"), "frame time"),
        (arm([REST]).replace("Xrotation Yrotation\nJOINT Arm", "Xrotation W\nJOINT Arm"), "'W' is unknown"),
        (arm([REST]).replace("JOINT Arm", "JOINT"), "line 10: JOINT without a name"),
        (arm([REST]).replace("OFFSET 40 0 0", "OFFSET 40 0"), "line 12: Offset"),
        (arm([REST]).replace("OFFSET 40 0 0", "OFFSET 40 0 nan"), "'Arm': offset"),
        (arm([REST]).replace("\n}\n}\nMOTION", "\n}\nMOTION"), "found 'MOTION'"),
        (b"HIERARCHY\nROOT H\xfcfte\n{", "truncated"),
    ],
)  # fmt: skip
def test_faults_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_bvh(write(tmp_path, text), unit="cm")
    assert "clip.bvh" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_windows_files_and_names_with_spaces_are_read(tmp_path):
    text = arm([REST]).replace("JOINT Arm", "JOINT Left Arm").replace("\n", "\r\n")
    assert read_bvh(write(tmp_path, b"\xef\xbb\xbf" + text.encode()), unit="cm").skeleton.names[2] == "Left_Arm"


def test_resampling_keeps_the_start_and_turns_evenly(tmp_path):
    motion = read_bvh(write(tmp_path, arm([f"{10 * f} 100 0 0 0 {10 * f} 0 0 0" for f in range(5)])), unit="cm")
    faster = resample(motion, 40)
    assert len(faster) == 9
    np.testing.assert_allclose(faster.root[:, 0], np.arange(9) * 0.05, atol=1e-6)
    np.testing.assert_allclose(np.degrees(np.arcsin(faster.rotations[:, 0, 0, 2])), np.arange(9) * 5, atol=1e-4)
    slower = resample(motion, 15)
    assert len(slower) == 4  # 0.2 s hold frames at 0, 1/15, 2/15 and 3/15 s
    assert resample(motion, 20.001).fps == 20.001
    with pytest.raises(InputError, match="fps -1"):
        resample(motion, -1)


def test_finding_names_the_folder_and_is_sorted(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder; expected motion files \(\*\.bvh\)"):
        find_clips(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no motion files"):
        find_clips(tmp_path)
    for name in ("b.bvh", "a.BVH", "deep/c.bvh", "deep/b.bvh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, arm([REST]), name)
    refs = find_clips(tmp_path)
    assert [ref.clip_id for ref in refs] == ["a", "b.bvh", "deep/b.bvh", "c"]
    assert pickle.loads(pickle.dumps(refs)) == refs
    assert [ref.clip_id for ref in find_clips(tmp_path / "b.bvh")] == ["b"]


def test_bandai_namco_labels_come_from_the_name_and_other_names_are_rejected(tmp_path):
    write(tmp_path, arm([REST]), "dataset-1_walk-back_feminine_001.bvh")
    write(tmp_path, arm([REST]), "zz-dataset-1_walk_x_001.bvh")
    write(tmp_path, arm([REST])[:80], "dataset-2_run_normal_002.bvh")
    results = [result for ref in bandai_namco.find_clips(tmp_path) for result in read_or_reject(ref, 30)]
    clips = [result for result in results if isinstance(result, Clip)]
    assert [
        (clip.clip_id, clip.motion.action, clip.motion.style, clip.motion.subject, clip.motion.fps) for clip in clips
    ] == [("dataset-1_walk-back_feminine_001", "walk-back", "feminine", None, 30.0)]
    rejected = {result.clip_id: result.reason for result in results if isinstance(result, Rejection)}
    assert "name contains no action" in rejected["zz-dataset-1_walk_x_001"]
    assert "truncated" in rejected["dataset-2_run_normal_002"]


def test_an_unknown_format_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown format 'bandai_namco': did you mean 'bandai-namco'"):
        get_reader("bandai_namco")


def mutate(data: bytes, kind: str, seed: int) -> bytes:
    rng = random.Random(seed)
    if kind == "cut":
        return data[: rng.randrange(len(data))]
    if kind == "line":
        lines = data.splitlines(keepends=True)
        del lines[rng.randrange(len(lines))]
        return b"".join(lines)
    if kind == "byte":
        place = rng.randrange(len(data))
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    tokens = data.split(b" ")
    tokens[rng.randrange(len(tokens))] = rng.choice([b"nan", b"inf", b"-", b"1e999", b"x", b"", b"{", b"\n"])
    return b" ".join(tokens)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["cut", "line", "byte", "token"]), st.integers(0, 10**6))
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, kind, seed):
    data = arm(
        [REST, "10 100 20 0 0 0 90 0 0", "0 100 0 0 0 90 0 0 0"], child="3 Zrotation Xrotation Yrotation"
    ).encode()
    path = write(tmp_path_factory.mktemp("damaged"), mutate(data, kind, seed))
    try:
        assert np.isfinite(read_bvh(path).positions).all()
    except InputError as error:
        assert "clip.bvh" in str(error)


@pytest.mark.real_data
def test_real_files_agree_with_bvhio_and_survive_damage(real_data, tmp_path):
    folder = real_data("bandai_namco")
    refs = bandai_namco.find_clips(folder)
    assert len(refs) == 1045
    by_id = {ref.clip_id: ref for ref in refs}
    for clip_id in ("dataset-1_dash_active_001", "dataset-1_run_normal_001", refs[-1].clip_id):
        (clip,) = bandai_namco.read_clips(by_id[clip_id])
        assert clip.motion.skeleton.names[0] == "Hips"
        assert len(clip.motion.skeleton) == 21
        assert clip.motion.fps == 30
        assert clip.motion.residual == 0
        # joint_Root comes first in bvhio's list
        np.testing.assert_allclose(clip.motion.positions, oracle(by_id[clip_id].files[0])[:, 1:] / 100, atol=1e-4)
        assert 0.6 < clip.motion.positions[:, 0, 1].mean() < 1.1
    data = by_id["dataset-1_run_normal_001"].files[0].read_bytes()
    for seed in range(24):
        path = write(
            tmp_path, mutate(data, ("cut", "line", "byte", "token")[seed % 4], seed), "dataset-1_run_x_001.bvh"
        )
        (ref,) = bandai_namco.find_clips(path)
        (result,) = read_or_reject(ref, 20)
        assert isinstance(result, Clip | Rejection)
        assert seed % 4 or isinstance(result, Rejection)  # whatever is cut short is refused
