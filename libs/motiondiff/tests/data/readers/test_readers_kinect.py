from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icube_common.errors import InputError
from motiondiff.data.readers import Clip, Rejection, read_or_reject
from motiondiff.data.readers.kinect import msr_action3d, utkinect
from motiondiff.data.readers.kinect.msr_action3d import JOINT_ORDER
from motiondiff.data.readers.kinect.positions import level_camera
from motiondiff.skeleton.kinect import KINECT_V1
from motiondiff.skeleton.skeleton import Skeleton


def utkinect_text(positions: np.ndarray, ids: list[int]) -> str:
    return "".join(
        f"{number}   " + "  ".join(f"{value:.6f}" for value in frame.ravel()) + "  \n"
        for number, frame in zip(ids, positions, strict=True)
    )


def msr_text(positions: np.ndarray) -> str:
    """Rows in the set's own order: the shoulder that comes first is the left one."""
    out = []
    for frame in positions:
        rows = np.zeros((20, 3))
        rows[list(JOINT_ORDER)] = frame
        out += [f"{x:.6f} {y:.6f} {z:.6f} 1.000000" for x, y, z in rows]
    return "\n".join(out) + "\n"


@pytest.fixture
def utkinect_set(tmp_path, moving_kinect, to_camera):
    """One subject, two recordings: the first with duplicates, gaps and a range that is missing."""
    (tmp_path / "joints").mkdir()
    ids = [*range(100, 140, 2), 140, 140, 144, *range(150, 180, 4)]
    seen = to_camera(moving_kinect(frames=len(ids), amount=0.3))
    (tmp_path / "joints" / "joints_s07_e01.txt").write_text(utkinect_text(seen, ids))
    seen = to_camera(moving_kinect(frames=60, seed=1, amount=0.3))
    (tmp_path / "joints" / "joints_s07_e02.txt").write_text(utkinect_text(seen, list(range(0, 120, 2))))
    (tmp_path / "actionLabel.txt").write_text(
        "s07_e01\nwalk: 100 130\nsitDown: 130 160 \ncarry: NaN NaN\npush: 300 320\n"
        "s07_e02\nwaveHands: 0 60\nwalk: 90 70\n"
    )
    return tmp_path


def split(results: list[Clip | Rejection]) -> tuple[dict[str, Clip], dict[str, str]]:
    clips = {result.clip_id: result for result in results if isinstance(result, Clip)}
    reasons = {result.clip_id: result.reason for result in results if isinstance(result, Rejection)}
    assert len(clips) + len(reasons) == len(results)  # ids are unique
    return clips, reasons


def read(module, folder, fps=None):
    return split([result for ref in module.find_clips(folder) for result in read_or_reject(ref, fps)])


def test_skeleton_has_the_kinect_names_and_sides():
    skeleton = Skeleton(KINECT_V1.names, KINECT_V1.parents, np.zeros((20, 3), dtype=np.float32))
    named = {(skeleton.names[left], skeleton.names[right]) for left, right in skeleton.left_right_pairs}
    assert named == {("HipLeft", "HipRight"), ("ShoulderLeft", "ShoulderRight")}
    assert sorted(JOINT_ORDER) == list(range(20))
    # the connectivity of MSR-Action3D as published, 1-based
    published = "20-3 1-3 2-3 1-8 8-10 10-12 2-9 9-11 11-13 3-4 4-7 7-5 7-6 5-14 6-15 14-16 15-17 16-18 17-19"
    bones = {frozenset(int(row) - 1 for row in pair.split("-")) for pair in published.split()}
    ours = {frozenset((JOINT_ORDER[j], JOINT_ORDER[p])) for j, p in enumerate(KINECT_V1.parents) if p >= 0}
    assert ours == bones


def test_level_finds_the_tilt_of_the_camera(moving_kinect, to_camera):
    standing = moving_kinect(amount=0.0)
    for tilt in (0, 8):
        seen = to_camera(standing, tilt)
        turn = level_camera([seen])
        lean = np.degrees(np.arctan2((seen @ turn.T)[:, 2, 2] - (seen @ turn.T)[:, [14, 18], 2].mean(1), 1.21))
        assert np.abs(lean).max() < 0.01
        assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(tilt, abs=2)
    np.testing.assert_array_equal(level_camera([to_camera(standing, 60)]), np.eye(3))  # not a camera's tilt


def test_utkinect_to_the_letter(utkinect_set):
    clips, reasons = read(utkinect, utkinect_set)
    assert sorted(clips) == ["joints_s07_e01_sitDown", "joints_s07_e01_walk", "joints_s07_e02_waveHands"]
    walk = clips["joints_s07_e01_walk"].motion
    assert (walk.action, walk.subject, walk.fps, len(walk)) == ("walk", "s07", 15.0, 16)  # ids 100 to 130: one second
    assert walk.source == "joints_s07_e01.txt ids 100-130"
    assert clips["joints_s07_e01_sitDown"].motion.action == "sit down"
    assert clips["joints_s07_e02_waveHands"].motion.action == "wave hands"
    skeletons = {id(clip.motion.skeleton) for clip in clips.values()}
    assert len(skeletons) == 1  # the subject's own bones
    # linear interpolation between frames shortens bones a little, so not 0
    assert max(clip.motion.residual for clip in clips.values()) < 0.005
    assert "line 4" in reasons["joints_s07_e01_carry"]
    assert "nan" in reasons["joints_s07_e01_carry"]
    assert "0 frames recorded" in reasons["joints_s07_e01_push"]
    assert "not a range of ids: 90 70" in reasons["joints_s07_e02_walk"]


def test_utkinect_comes_back_in_metres_y_up_with_the_floor_at_zero(utkinect_set, moving_kinect):
    clips, _ = read(utkinect, utkinect_set, 30)
    motion = clips["joints_s07_e02_waveHands"].motion
    assert len(motion) == 61
    assert 0 <= np.percentile(motion.positions[:, [14, 15, 18, 19], 1].min(axis=1), 50) < 0.1
    given = moving_kinect(frames=60, seed=1, amount=0.3)[:31]
    between = lambda p, a, b: np.linalg.norm(p[:, a] - p[:, b], axis=-1)  # noqa: E731
    np.testing.assert_allclose(between(motion.positions[::2], 3, 14), between(given, 3, 14), atol=0.02)


def test_utkinect_time_is_in_the_ids_not_in_the_rows(tmp_path, moving_kinect):
    # someone who slides sideways by 1 cm per id, seen at uneven ids, one of them twice
    ids = [0, 2, 4, 4, 10, 11, 20, 28, 30]
    still = np.repeat(moving_kinect(frames=2, amount=0.0)[:1], len(ids), axis=0)
    still[..., 0] += 0.01 * np.array(ids)[:, None]
    (tmp_path / "joints_s01_e01.txt").write_text(utkinect_text(still, ids))
    (tmp_path / "actionLabel.txt").write_text("s01_e01\nwalk: 0 30\n")
    clips, _ = read(utkinect, tmp_path, 10)
    root = clips["joints_s01_e01_walk"].motion.root
    np.testing.assert_allclose(np.diff(root[:, 0]), 0.03, atol=1e-4)
    assert len(root) == 11


def test_utkinect_broken_rows_spoil_only_the_clips_they_lie_in(utkinect_set):
    path = utkinect_set / "joints" / "joints_s07_e01.txt"
    lines = path.read_text().splitlines(keepends=True)
    order = [*lines[:3], lines[4], lines[3], *lines[5:]]
    for damaged, line in ((order, 5), ([*lines[:3], lines[3][:200] + "\n", *lines[4:]], 4)):
        path.write_text("".join(damaged))
        clips, reasons = read(utkinect, utkinect_set)
        assert sorted(clips) == ["joints_s07_e01_sitDown", "joints_s07_e02_waveHands"]
        assert f"joints_s07_e01.txt: line {line}:" in reasons["joints_s07_e01_walk"]
    path.write_bytes(b"\xff\xfe\x00")
    clips, reasons = read(utkinect, utkinect_set)
    assert sorted(clips) == ["joints_s07_e02_waveHands"]
    assert "not UTF-8" in reasons["joints_s07_e01_walk"]
    path.unlink()
    clips, reasons = read(utkinect, utkinect_set)
    assert "no such file" in reasons["joints_s07_e01_walk"]
    assert sorted(clips) == ["joints_s07_e02_waveHands"]


def test_utkinect_gaps_within_a_clip_are_interpolated_up_to_a_second(tmp_path, moving_kinect):
    ids = [0, 2, 32, 34, 70, 72]
    (tmp_path / "joints_s01_e01.txt").write_text(utkinect_text(moving_kinect(frames=6, amount=0.1), ids))
    (tmp_path / "actionLabel.txt").write_text("s01_e01\nwalk: 0 34\npush: 34 70\npush: 70 72\n")
    clips, reasons = read(utkinect, tmp_path)
    assert sorted(clips) == ["joints_s01_e01_push.2", "joints_s01_e01_walk"]
    assert "no frame between ids 34 and 70" in reasons["joints_s01_e01_push"]


def test_utkinect_is_found_from_the_set_or_from_joints_or_from_above(utkinect_set):
    refs = utkinect.find_clips(utkinect_set)
    assert [ref.clip_id for ref in refs] == ["s07"]
    assert utkinect.find_clips(utkinect_set / "joints") == refs
    empty = utkinect_set / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no UTKinect recordings"):
        utkinect.find_clips(empty)
    (utkinect_set / "actionLabel.txt").unlink()
    with pytest.raises(InputError, match=r"0 files actionLabel\.txt found"):
        utkinect.find_clips(utkinect_set)


def test_msr_action3d_to_the_letter(tmp_path, moving_kinect, to_camera):
    for name, seed in (("a01_s01_e01", 0), ("a12_s01_e03", 1), ("a20_s01_e02", 2)):
        (tmp_path / f"{name}_skeleton3D.txt").write_text(msr_text(to_camera(moving_kinect(seed=seed))))
    (tmp_path / "a02_s01_e01_skeleton3D.txt").write_text(msr_text(moving_kinect())[:-40])
    (tmp_path / "a21_s01_e01_skeleton3D.txt").write_text(msr_text(moving_kinect()))
    clips, reasons = read(msr_action3d, tmp_path)
    labels = {clip_id: (clip.motion.action, clip.motion.subject, clip.motion.fps) for clip_id, clip in clips.items()}
    assert labels == {
        "a01_s01_e01_skeleton3D": ("high wave", "s01", 15.0),
        "a12_s01_e03_skeleton3D": ("side-boxing", "s01", 15.0),
        "a20_s01_e02_skeleton3D": ("pickup throw", "s01", 15.0),
    }
    assert max(clip.motion.residual for clip in clips.values()) < 1e-3
    assert "no multiple of 20" in reasons["a02_s01_e01_skeleton3D"] or "expected" in reasons["a02_s01_e01_skeleton3D"]
    assert "a01 to a20" in reasons["a21_s01_e01_skeleton3D"]
    (tmp_path / "files_used_in_cvpr12_paper.txt").write_text("a01_s01_e01\na20_s01_e02\n")
    clips, reasons = read(msr_action3d, tmp_path)
    assert sorted(clips) == ["a01_s01_e01_skeleton3D", "a20_s01_e02_skeleton3D"]
    assert "not in files_used_in_cvpr12_paper.txt" in reasons["a12_s01_e03_skeleton3D"]


def test_msr_frames_without_a_skeleton(tmp_path, moving_kinect, to_camera):
    seen = to_camera(moving_kinect())
    seen[:3] = seen[20:27] = 0
    (tmp_path / "a01_s01_e01_skeleton3D.txt").write_text(msr_text(seen))
    clips, _ = read(msr_action3d, tmp_path)
    assert len(clips["a01_s01_e01_skeleton3D"].motion) == 37  # 3 cut off, 7 interpolated
    seen[20:28] = 0
    (tmp_path / "a01_s01_e01_skeleton3D.txt").write_text(msr_text(seen))
    _, reasons = read(msr_action3d, tmp_path)
    assert "frame 20: 8 frames without a skeleton" in reasons["a01_s01_e01_skeleton3D"]
    (tmp_path / "a01_s01_e01_skeleton3D.txt").write_text(msr_text(0 * seen))
    _, reasons = read(msr_action3d, tmp_path)
    assert "0 of 40 frames hold a skeleton" in reasons["a01_s01_e01_skeleton3D"]


def damage(text: str, kind: str, seed: int) -> str:
    rng = random.Random(seed)
    if kind == "cut":
        return text[: rng.randrange(len(text))]
    if kind == "line":
        lines = text.splitlines(keepends=True)
        del lines[rng.randrange(len(lines))]
        return "".join(lines)
    tokens = text.split(" ")
    tokens[rng.randrange(len(tokens))] = rng.choice(["nan", "inf", "1e300", "-5", "x", "\n", "\x00"])
    return " ".join(tokens)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["cut", "line", "token"]), st.sampled_from(["rows", "labels"]), st.integers(0, 10**6))
def test_a_damaged_recording_is_read_or_rejected(tmp_path_factory, moving_kinect, kind, where, seed):
    folder = tmp_path_factory.mktemp("damaged")
    rows, labels = utkinect_text(moving_kinect(frames=20), list(range(0, 40, 2))), "s01_e01\nwalk: 0 20 \npush: 22 38\n"
    (folder / "joints_s01_e01.txt").write_text(damage(rows, kind, seed) if where == "rows" else rows)
    (folder / "actionLabel.txt").write_text(damage(labels, kind, seed) if where == "labels" else labels)
    (folder / "a01_s01_e01_skeleton3D.txt").write_text(damage(msr_text(moving_kinect(frames=4)), kind, seed))
    for module in (utkinect, msr_action3d):
        try:
            clips, reasons = read(module, folder)
        except InputError:
            continue
        assert clips or reasons
        for clip in clips.values():
            assert np.isfinite(clip.motion.positions).all()


def front_of(motion) -> np.ndarray:
    """(T, 3) front by left, from hips and shoulders, crossed with up, along the trunk."""
    p = motion.positions
    at = motion.skeleton.index
    left = p[:, at("HipLeft")] - p[:, at("HipRight")] + p[:, at("ShoulderLeft")] - p[:, at("ShoulderRight")]
    front = np.cross(left, p[:, at("ShoulderCenter")] - p[:, at("HipCenter")])
    return front / np.linalg.norm(front, axis=-1, keepdims=True)


def anatomy(clips: list[Clip]) -> tuple[float, float]:
    """Share of frames whose toes point to the front, and mean way the knees stand out to the front (m)."""
    toes, knees = [], []
    for clip in clips:
        p, at, front = clip.motion.positions, clip.motion.skeleton.index, front_of(clip.motion)
        for side in ("Left", "Right"):
            hip, knee, ankle, foot = (p[:, at(joint + side)] for joint in ("Hip", "Knee", "Ankle", "Foot"))
            toes.append(((foot - ankle) * front).sum(-1) > 0)
            knees.append(((knee - (hip + ankle) / 2) * front).sum(-1))
    return float(np.concatenate(toes).mean()), float(np.concatenate(knees).mean())


def travel(motion, joint: str) -> float:
    away = motion.positions[:, motion.skeleton.index(joint)] - motion.root
    return float(np.linalg.norm(np.diff(away, axis=0), axis=-1).sum())


@pytest.mark.real_data
def test_real_utkinect(real_data):
    clips, reasons = read(utkinect, real_data("utkinect"))
    # the label file says "push: 2556 3622" (for 3556), which covers a throw: that one goes, and the throw stays
    assert list(reasons) == ["joints_s03_e01_push"] and "push 2556 to 3622 is 29.6 times" in str(reasons)
    assert len(clips) == 119 and "joints_s03_e01_throw" in clips
    motions = [clip.motion for clip in clips.values()]
    assert np.mean([motion.residual for motion in motions]) < 0.03
    for motion in motions:
        thigh = np.linalg.norm(motion.positions[:, 13] - motion.positions[:, 12], axis=-1)
        np.testing.assert_allclose(thigh, motion.skeleton.bone_lengths[13], atol=1e-5)
    toes, knees = anatomy([clip for clip in clips.values() if clip.motion.action in ("sit down", "stand up", "walk")])
    assert toes > 0.8
    assert knees > 0.005
    # throwing is done with the right arm by everyone who can be seen
    for motion in motions:
        if motion.action == "throw":
            assert travel(motion, "HandRight") > travel(motion, "HandLeft")
    # levelled: someone who stands and claps has the shoulders above the feet, and ankles as high as ankles are
    clapping = [motion.positions for motion in motions if motion.action == "clap hands"]
    ankles = np.array([np.median(p[:, [14, 18], 1]) for p in clapping])
    assert 0.05 < np.median(ankles) < 0.12, ankles
    assert ((ankles > 0) & (ankles < 0.2)).all(), ankles
    trunks = np.array([np.median(p[:, 2] - p[:, [14, 18]].mean(axis=1), axis=0) for p in clapping])
    assert np.abs(np.degrees(np.arctan2(trunks[:, 2], trunks[:, 1]))).max() < 5, trunks


@pytest.mark.real_data
def test_real_msr_action3d(real_data):
    clips, reasons = read(msr_action3d, real_data("msr_action3d"))
    assert (len(clips), len(reasons)) == (284, 8)
    assert np.mean([clip.motion.residual for clip in clips.values()]) < 0.013
    toes, knees = anatomy(list(clips.values()))
    assert toes > 0.9
    assert knees > 0.01
    # the paper asks for the right arm and the right leg
    for action, joint in (("high wave", "Hand"), ("tennis swing", "Hand"), ("forward kick", "Foot")):
        motions = [clip.motion for clip in clips.values() if clip.motion.action == action]
        right = [travel(motion, f"{joint}Right") > travel(motion, f"{joint}Left") for motion in motions]
        assert np.mean(right) > 0.8


@pytest.mark.real_data
def test_real_files_survive_damage(real_data, tmp_path):
    source = next(real_data("msr_action3d").rglob("a01_s01_e01_skeleton3D.txt")).read_text()
    for seed in range(30):
        (tmp_path / "a01_s01_e01_skeleton3D.txt").write_text(damage(source, ("cut", "line", "token")[seed % 3], seed))
        clips, reasons = read(msr_action3d, tmp_path, 20)
        assert len(clips) + len(reasons) == 1
    joints = next(real_data("utkinect").rglob("joints_s01_e01.txt"))
    (tmp_path / "actionLabel.txt").write_text(next(real_data("utkinect").rglob("actionLabel.txt")).read_text()[:210])
    for seed in range(9):
        (tmp_path / joints.name).write_text(damage(joints.read_text(), ("cut", "line", "token")[seed % 3], seed))
        clips, reasons = read(utkinect, tmp_path, 20)
        assert len(clips) + len(reasons) >= 10
