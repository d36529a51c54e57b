"""HumanAct12, HumanML3D, AMASS with BABEL, Florence: files to the letter of their formats, and damaged ones."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_formats import babel, damaged, florence_text, moving, write_amass, write_json, write_pickle
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.data.readers import Clip, Rejection, get_reader, read_or_reject
from motiondiff.data.readers.kinect import florence3d
from motiondiff.data.readers.pickles import load_restricted
from motiondiff.data.readers.smpl import amass, humanact12, humanml3d
from motiondiff.data.readers.smpl.babel import sequence_key
from motiondiff.skeleton.humanml3d import joints_to_vectors
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.smpl import PELVIS_OFFSET, Z_UP_TO_Y_UP, load_rest_skeleton, mean_skeleton

ROOT = Path(__file__).resolve().parents[5]


def read(name: str, folder: Path, fps: float | None = None) -> tuple[dict[str, Motion], dict[str, str]]:
    results = [item for ref in get_reader(name).find_clips(folder) for item in read_or_reject(ref, fps)]
    clips = {item.clip_id: item.motion for item in results if isinstance(item, Clip)}
    reasons = {item.clip_id: item.reason for item in results if isinstance(item, Rejection)}
    assert len(clips) + len(reasons) == len(results)
    return clips, reasons


def turns_of(motion: Motion) -> np.ndarray:
    """(T, 3 J) axis-angle."""
    return Rotation.from_matrix(motion.rotations.reshape(-1, 3, 3)).as_rotvec().reshape(len(motion), -1)


# AMASS and BABEL


def test_the_mean_body_is_that_of_an_adult():
    skeleton = mean_skeleton(24)
    rest = skeleton.offsets.astype(float)
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        rest[joint] += rest[parent]
    at = skeleton.index
    np.testing.assert_allclose(rest[at("left_wrist")], rest[at("right_wrist")] * (-1, 1, 1), atol=1e-6)
    assert 1.35 < rest[at("head"), 1] - rest[at("left_ankle"), 1] < 1.5  # the head joint is at the skull's base
    assert 1.2 < rest[at("left_wrist"), 0] - rest[at("right_wrist"), 0] < 1.5
    assert (rest[at("left_foot"), 2] > 0.05) and skeleton.left_right_pairs


@pytest.fixture
def recording() -> Motion:
    """A walk in AMASS's own frame, z up, facing -y."""
    return moving(mean_skeleton(22), frames=121, seed=2)


def test_amass_to_the_letter(tmp_path, recording):
    trans = np.stack([np.linspace(0, 3, 121), np.zeros(121), np.full(121, 0.95)], axis=-1)
    write_amass(tmp_path / "KIT" / "3" / "walk_poses.npz", turns_of(recording), trans)
    write_amass(tmp_path / "KIT" / "3" / "run_stageii.npz", turns_of(recording), trans, 120, key="mocap_frame_rate")
    np.savez(tmp_path / "KIT" / "3" / "shape.npz", betas=np.zeros(16))
    clips, reasons = read("amass", tmp_path)
    assert reasons == {} and sorted(clips) == ["KIT/3/run_stageii", "KIT/3/walk_poses"]
    motion = clips["KIT/3/walk_poses"]
    assert (motion.subject, motion.fps, len(motion), motion.action, motion.residual) == ("KIT/3", 60.0, 121, None, 0)
    # z up to y up: SMPL's translation moves its pelvis, which stands at PELVIS in the model
    np.testing.assert_allclose(motion.root, (trans + PELVIS_OFFSET) @ Z_UP_TO_Y_UP.T, atol=1e-6)
    np.testing.assert_allclose(motion.root[:, 1], 0.95 + PELVIS_OFFSET[2], atol=1e-6)
    np.testing.assert_allclose(motion.rotations[:, 1:], recording.rotations[:, 1:], atol=1e-5)
    np.testing.assert_allclose(motion.rotations[:, 0], Z_UP_TO_Y_UP @ recording.rotations[:, 0], atol=1e-5)
    # and back: what was read writes the same file
    back = (motion.root @ Z_UP_TO_Y_UP) - PELVIS_OFFSET
    np.testing.assert_allclose(back, trans, atol=1e-6)
    resampled, _ = read("amass", tmp_path, 20)
    assert len(resampled["KIT/3/walk_poses"]) == 41 and len(resampled["KIT/3/run_stageii"]) == 21


def test_a_users_own_rest_joints(tmp_path, recording):
    rest = np.cumsum(np.ones((22, 3)), axis=0)
    np.save(tmp_path / "rest_joints.npy", rest)
    write_amass(tmp_path / "a_poses.npz", turns_of(recording), np.zeros((121, 3)))
    assert "not the rest joints of a body in metres" in read("amass", tmp_path)[1]["a_poses"]
    body = mean_skeleton(22)
    joints = np.zeros((24, 3))
    joints[0] = (0, -0.2, 0)
    for joint, parent in enumerate(body.parents[1:], start=1):
        joints[joint] = joints[parent] + 1.1 * body.offsets[joint]
    np.save(tmp_path / "rest_joints.npy", joints)
    motion = read("amass", tmp_path)[0]["a_poses"]
    np.testing.assert_allclose(motion.skeleton.bone_lengths, 1.1 * body.bone_lengths, atol=1e-5)
    np.testing.assert_allclose(motion.root, [(0, 0, 0.2)] * 121, atol=1e-6)
    np.testing.assert_allclose(load_rest_skeleton(tmp_path / "rest_joints.npy", 24)[1], joints[0])


def test_babel_cuts_and_labels(tmp_path, recording):
    write_amass(tmp_path / "BMLrub" / "rub001" / "0000 treadmill_poses.npz", turns_of(recording), np.zeros((121, 3)))
    write_amass(tmp_path / "KIT" / "3" / "b_poses.npz", turns_of(recording), np.zeros((121, 3)))
    write_amass(tmp_path / "KIT" / "3" / "c_poses.npz", turns_of(recording), np.zeros((121, 3)))

    def label(categories: list[str] | None, start: float, end: float) -> dict[str, Any]:
        return {"raw_label": "walks on", "proc_label": "walk", "act_cat": categories, "start_t": start, "end_t": end}

    labels = [label(["walk"], 0, 1), label(["sit", "touch object"], 1, 1.5), label(None, 1.5, 2), label(["turn"], 5, 6)]
    feature = "BioMotionLab_NTroje/BioMotionLab_NTroje/rub001/0000_treadmill_poses.npz"
    write_json(tmp_path / "babel" / "train.json", {"11107": babel(feature, 2.0, labels)})
    extra = babel("KIT/KIT/3/b_poses.npz", 2.0, [])
    extra |= {"seq_anns": [extra.pop("seq_ann")], "frame_anns": [extra.pop("frame_ann")]}
    write_json(tmp_path / "babel" / "extra_train.json", {"7": extra, "11107": babel(feature, 2.0, [])})
    clips, reasons = read("amass", tmp_path)
    found = {clip_id: (motion.action, motion.texts, len(motion)) for clip_id, motion in clips.items()}
    name = "BMLrub/rub001/0000 treadmill_poses"
    assert found == {
        f"{name}.00": ("walk", ("walks on",), 60),
        f"{name}.01": ("sit | touch object", ("walks on",), 30),
        f"{name}.02": (None, ("walks on",), 30),
        "KIT/3/b_poses.00": ("walk", ("walk",), 121),
    }
    assert "5 to 6.0 s (walks on)" in reasons[f"{name}.03"]
    assert "no labels of BABEL for it" in reasons["KIT/3/c_poses"]
    assert (
        sequence_key("KIT/KIT/3/Walk 1_poses.npz")
        == sequence_key("/data/KIT/3/walk_1_stageii.npz")
        == ("kit", "3", "walk_1")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"1": {"babel_sid": 1}}', "sequence '1': not BABEL's"),
        ('{"babel_sid": ', "is no JSON"),
        ('["babel_sid"]', "found a list"),
        ('{"1": {"feat_p": "a/b/c.npz", "frame_ann": {"labels": [{"act_cat": ["walk"]}]}}}', "'start_t'"),
    ],
)
def test_babel_that_is_none(tmp_path, recording, text, message):
    write_amass(tmp_path / "a_poses.npz", turns_of(recording), np.zeros((121, 3)))
    (tmp_path / "train.json").write_text(text)
    ((_, reason),) = read("amass", tmp_path)[1].items()
    assert message in reason and "train.json" in reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": np.zeros((4, 63))}, r"\(frames, 156, 165 or 72\) and \(frames, 3\) expected"),
        ({"trans": np.zeros((3, 3))}, r"trans \(3, 3\)"),
        ({"trans": np.full((4, 3), np.nan)}, "not finite"),
        ({"mocap_framerate": np.array("fast")}, "must be numbers"),
        ({"mocap_framerate": np.array(0.0)}, "fps 0.0 must be positive"),
        ({"poses": np.array([None])}, "without object arrays"),
    ],
)
def test_amass_faults_are_named(tmp_path, changes, message):
    arrays = {"poses": np.zeros((4, 156)), "trans": np.zeros((4, 3)), "mocap_framerate": np.array(60.0)} | changes
    np.savez(tmp_path / "a_poses.npz", **arrays)
    with pytest.raises(InputError, match=message):
        amass.read_motion(tmp_path / "a_poses.npz")
    np.savez(tmp_path / "shape.npz", betas=np.zeros(3))
    (tmp_path / "a_poses.npz").unlink()
    with pytest.raises(InputError, match="body shapes only"):
        amass.find_clips(tmp_path)


# HumanAct12


def humanact12_content(count: int = 3, upside_down: bool = True) -> tuple[dict[str, Any], list[Motion]]:
    motions = [moving(mean_skeleton(24), frames=12, seed=seed) for seed in range(count)]
    flip = np.diag([1.0, -1.0, -1.0]) if upside_down else np.eye(3)
    poses = []
    for motion in motions:
        matrices = motion.rotations.astype(float)
        matrices[:, 0] = flip @ matrices[:, 0]
        poses.append(Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_rotvec().reshape(12, 72))
    joints = [motion.positions.astype(float) @ flip.T for motion in motions]
    return {"poses": poses, "oldposes": joints, "joints3D": joints, "y": [4, 0, 9][:count]}, motions


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("upside_down", [True, False])
def test_humanact12_to_the_letter(tmp_path, upside_down, protocol):
    content, motions = humanact12_content(upside_down=upside_down)
    write_pickle(tmp_path / "humanact12poses.pkl", content, protocol)
    clips, reasons = read("humanact12", tmp_path)
    assert reasons == {}
    assert [motion.action for motion in clips.values()] == ["drink", "warm_up", "phone"]
    for motion, moved in zip(clips.values(), motions, strict=True):
        np.testing.assert_allclose(motion.positions, moved.positions, atol=1e-4)
        assert motion.residual < 1e-4 and motion.fps == humanact12.FPS and motion.subject is None


def test_humanact12_entries_that_are_none_are_rejected(tmp_path):
    content, _ = humanact12_content()
    content["poses"][0] = content["poses"][0][:, :69]
    content["y"][1] = 12
    write_pickle(tmp_path / "humanact12poses.pkl", content)
    clips, reasons = read("humanact12", tmp_path)
    assert list(clips) == ["humanact12poses.0002"]
    assert "entry 0: poses (12, 69)" in reasons["humanact12poses.0000"]
    assert "action 12 is not from 0 to 11" in reasons["humanact12poses.0001"]
    content["y"] = content["y"][:1]
    write_pickle(tmp_path / "humanact12poses.pkl", content)
    assert "as many poses as joints3D as y" in read("humanact12", tmp_path)[1]["humanact12poses"]


class _Touch:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


class _System(_Touch):
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


class _Evaluate(_Touch):
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (f"__import__('pathlib').Path({str(self.path)!r}).touch()",))


@pytest.mark.parametrize("trap", [_Touch, _System, _Evaluate])
@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, trap, protocol):
    content, _ = humanact12_content(1)
    content["y"] = [trap(tmp_path / "sprung")]
    write_pickle(tmp_path / "humanact12poses.pkl", content, protocol)
    clips, reasons = read("humanact12", tmp_path)
    assert clips == {} and not (tmp_path / "sprung").exists()
    assert (
        "the pickle names" in reasons["humanact12poses"] and "nothing in it was executed" in reasons["humanact12poses"]
    )
    pickle.loads((tmp_path / "humanact12poses.pkl").read_bytes())
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"cnumpy\nload\n(S'x'\ntR.", "names numpy.load"),
        (b"cnumpy.core.multiarray\n_reconstruct.evil\n.", "names numpy.core.multiarray._reconstruct.evil"),
        (b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.", "names builtins.getattr"),
        (b"c_codecs\nencode\n(S'x'\nS'idna'\ntR.", "encodes text as 'idna'"),
        (b"Pa\n.", "points outside itself"),
        (b"\x82\x01.", "not a readable pickle"),
        (b"", "not a readable pickle"),
        (b"not a pickle", "not a readable pickle"),
    ],
)
def test_other_ways_out_of_a_pickle_are_closed(tmp_path, data, message):
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(InputError, match=message):
        load_restricted(tmp_path / "a.pkl")


# HumanML3D


def write_humanml3d(folder: Path) -> Motion:
    motion = moving(mean_skeleton(22), frames=81, seed=4)
    for name in ("new_joints", "new_joint_vecs", "texts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / "new_joints" / "000001.npy", motion.positions)
    np.save(folder / "new_joint_vecs" / "000001.npy", np.zeros((80, 263), dtype=np.float32))  # joints come first
    np.save(folder / "new_joint_vecs" / "M000002.npy", joints_to_vectors(motion.positions))
    (folder / "texts" / "000001.txt").write_text(
        "a person walks forward.#a/DET person/NOUN walk/VERB forward/ADV#0.0#0.0\n"
        "someone is walking and waves.#someone/PRON walk/VERB and/CCONJ wave/VERB#0.0#0.0\n"
        "a man sits down.#a/DET man/NOUN sit/VERB down/ADV#1.0#3.0\n"
        "a man turns.#a/DET man/NOUN turn/VERB#9.0#12.0\n"
    )
    (folder / "index.csv").write_text(
        "source_path,start_frame,end_frame,new_name\n"
        "./pose_data/KIT/3/kick_high_left02_poses.npy,0,117,000001.npy\n"
        "./pose_data/humanact12/humanact12/P11G01.npy,0,117,000002.npy\n"
    )
    return motion


def test_humanml3d_to_the_letter(tmp_path):
    given = write_humanml3d(tmp_path)
    clips, reasons = read("humanml3d", tmp_path)
    assert sorted(clips) == ["000001", "000001.1-3", "M000002"]
    whole, part, mirrored = (clips[name] for name in sorted(clips))
    assert (whole.action, whole.subject, whole.fps, len(whole)) == ("walk", "KIT/3", 20.0, 81)
    assert whole.texts == ("a person walks forward.", "someone is walking and waves.")
    assert (part.action, part.texts, len(part)) == ("sit", ("a man sits down.",), 40)
    assert (mirrored.action, mirrored.subject, mirrored.texts, len(mirrored)) == (None, "humanact12/humanact12", (), 80)
    np.testing.assert_allclose(whole.positions, given.positions, atol=1e-4)
    np.testing.assert_allclose(part.positions, given.positions[20:60], atol=1e-4)
    assert max(whole.residual, mirrored.residual) < 1e-4
    assert "frames 180 to 81 are not within 0 to 81" in reasons["000001.9-12"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a man walks#a/DET man/NOUN walk/VERB#0.0", "line 1: 'sentence#words#start#end' expected"),
        ("a man walks#walk/VERB#x#0", "could not convert"),
        ("a man walks#walk/VERB#3#1", "3 to 1 s is not a part of a clip"),
        ("#walk/VERB#0#0", "'sentence#words#start#end' expected"),
    ],
)
def test_humanml3d_texts_that_are_none(tmp_path, line, message):
    write_humanml3d(tmp_path)
    (tmp_path / "texts" / "000001.txt").write_text(line)
    assert message in read("humanml3d", tmp_path)[1]["000001"]
    assert humanml3d.read_captions(_text(tmp_path, "a man walks#walk/VERB#nan#nan"))[0].end == 0


def _text(folder: Path, line: str) -> Path:
    (folder / "a.txt").write_text(line)
    return folder / "a.txt"


def test_humanml3d_arrays_that_are_none(tmp_path):
    for array, message in (
        (np.zeros((5, 23, 3)), r"found \(5, 23, 3\)"),
        (np.full((5, 22, 3), 1e9), "beyond the reach"),
        (np.array([{}]), "without object arrays"),
        (np.zeros((0, 22, 3)), r"positions \(0, 22, 3\) given"),
        (np.full((5, 22, 3), np.nan), "NaN or infinite"),
    ):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(InputError, match=message):
            humanml3d.read_motion(tmp_path / "a.npy")
    with pytest.raises(InputError, match="are in neither of new_joints and new_joint_vecs"):
        humanml3d.find_clips(tmp_path)


@pytest.mark.real_data
def test_humanml3d_real_clip(tmp_path):
    folder = Path(os.environ.get("ICUBE_DATA", ROOT.parent / "shared" / "data")) / "motion" / "humanml3d_sample"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in {folder.parent}")
    clips, reasons = read("humanml3d", folder / "HumanML3D")
    joints = np.load(folder / "HumanML3D" / "new_joints" / "012314.npy")
    assert list(clips) == ["012314"] and reasons == {} and clips["012314"].residual < 1e-5
    np.testing.assert_allclose(clips["012314"].positions, joints, atol=1e-4)


# Florence 3D Actions


def florence_positions(frames: int = 10, seed: int = 0) -> np.ndarray:
    """(T, 15, 3) millimetres, a person who faces the camera."""
    from motiondiff.data.readers.body_shape import target_skeleton

    motion = moving(target_skeleton("kinect-v1"), frames, seed)
    at = [motion.skeleton.index({"Neck": "ShoulderCenter"}.get(name, name)) for name in florence3d.FILE_NAMES]
    return (motion.positions[:, at] * [-1, 1, -1] + [0, -1, 2.5]) * 1000


@pytest.mark.parametrize("mirror", [1, -1])
def test_florence_world_coordinates(tmp_path, mirror):
    videos = [(1, 1, 1, florence_positions()), (2, 1, 6, florence_positions(seed=1)), (3, 2, 9, florence_positions(1))]
    text = florence_text([(video, actor, act, positions * (mirror, 1, 1)) for video, actor, act, positions in videos])
    (tmp_path / "Florence_dataset_WorldCoordinates.txt").write_text(text)
    clips, reasons = read("florence3d", tmp_path)
    found = {clip_id: (motion.action, motion.subject, len(motion), motion.fps) for clip_id, motion in clips.items()}
    assert found == {
        "id001_actor01_act1": ("wave", "actor01", 10, 20.0),
        "id002_actor01_act6": ("sit down", "actor01", 10, 20.0),
    }
    assert "at least 2 needed" in reasons["id003_actor02_act9"]
    motion = clips["id001_actor01_act1"]
    order = [motion.skeleton.index(name) for name in florence3d.FILE_NAMES]
    given = videos[0][3] / 1000
    apart = [np.linalg.norm(p[:, :, None] - p[:, None], axis=-1) for p in (motion.positions[:, order], given)]
    assert np.abs(apart[0] - apart[1]).mean() < 0.02  # the middle of the hips is no joint of the body that moved
    # left is left: the subject faces the camera, which looks along +z
    left, right = (
        motion.positions[:, motion.skeleton.index(f"Shoulder{side}"), 0].mean() for side in ("Left", "Right")
    )
    assert left < right


def test_florence_features_are_refused_with_the_reason(tmp_path):
    (tmp_path / "features.txt").write_text("1 1 1 0.9 0.4 0.1\n")
    with pytest.raises(InputError, match=r"features\.txt: holds directions of eight limb joints"):
        florence3d.find_clips(tmp_path)
    real = Path(os.environ.get("ICUBE_DATA", ROOT.parent / "shared" / "data")) / "video" / "florence3d"
    if real.is_dir():
        # which is what they are: every joint of every frame has length 1, or 5 5 5 where it was lost
        joints = np.loadtxt(real / "features.txt")[:, 3:27].reshape(-1, 8, 3)
        lengths = np.linalg.norm(joints[(joints != 5).all(-1)], axis=-1)
        assert np.abs(lengths - 1).max() < 1e-2
        with pytest.raises(InputError, match="without positions and trunk"):
            florence3d.find_clips(real)


# damage


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_a_damaged_file_is_read_or_rejected(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("damaged")
    poses = turns_of(moving(mean_skeleton(22), frames=4))
    write_amass(folder / "amass" / "a_poses.npz", poses, np.zeros((4, 3)))
    write_json(folder / "amass" / "train.json", {"1": babel("amass/amass/damaged/a_poses.npz", 0.1, [])})
    write_humanml3d(folder / "humanml3d")
    (folder / "humanact12").mkdir()
    write_pickle(folder / "humanact12" / "a.pkl", humanact12_content(1)[0])
    (folder / "florence3d").mkdir()
    text = florence_text([(1, 1, 1, florence_positions(3))])
    (folder / "florence3d" / "Florence_dataset_WorldCoordinates.txt").write_text(text)
    for name in ("amass", "humanml3d", "humanact12", "florence3d"):
        files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
        path = files[seed % len(files)]
        path.write_bytes(damaged(path.read_bytes(), seed))
        try:
            clips, reasons = read(name, folder / name)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        assert clips or reasons
        assert all(np.isfinite(motion.positions).all() for motion in clips.values())
        assert not any("\n" in reason for reason in reasons.values())
