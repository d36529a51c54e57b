"""Several sources on one body: the residential label map, retargeting, `prepare --merge`, lists of what to leave
out."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from published_formats import etri_text, moving, ntu_text, seen

from icube_common.data.class_lists import ETRI_ACTIVITY3D, NTU_RGBD
from icube_common.errors import InputError
from motiondiff.data.labels.label_map import LabelMap, load_builtin_map
from motiondiff.data.merge import count_sources, prepare_merged
from motiondiff.data.prepare import PrepareOptions, prepare, read_exclusion_lists
from motiondiff.data.readers import FORMATS
from motiondiff.data.readers.body_shape import target_skeleton
from motiondiff.data.readers.kinect import florence3d, msr_action3d, pku_mmd, uestc
from motiondiff.data.readers.smpl import humanact12
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion, synthetic_skeleton
from motiondiff.export.npz import write_npz
from motiondiff.skeleton.joint_matching import REQUIRED_ROLES, match_joints
from motiondiff.skeleton.motion import Motion, RigidTransform, apply_transform
from motiondiff.skeleton.retarget import retarget
from motiondiff.skeleton.skeleton import Skeleton

CLASSES = {
    "ntu-rgbd": NTU_RGBD,
    "etri": ETRI_ACTIVITY3D,
    "pku-mmd": pku_mmd.ACTIONS,
    "uestc": uestc.ACTIONS,
    "humanact12": humanact12.ACTIONS,
    "florence3d": florence3d.ACTIONS,
    "msr-action3d": msr_action3d.ACTIONS,
}


# the residential label map


def test_the_residential_map_names_known_labels_and_one_vocabulary():
    content = load_builtin_map("residential")
    vocabulary, sources = content["vocabulary"], content["sources"]
    assert len(vocabulary) == len(set(vocabulary)) and set(content) == {"vocabulary", "sources"}
    assert set(sources) == set(FORMATS) - {"bvh", "npz", "npy"}
    for name, labels in sources.items():
        assert set(labels) <= set(CLASSES.get(name, labels)), name
        assert set(labels.values()) <= set(vocabulary), name
    assert {action for labels in sources.values() for action in labels.values()} == set(vocabulary)
    wanted = {
        "drink",
        "eat",
        "sit down",
        "stand up",
        "pick up",
        "wave",
        "phone call",
        "walk",
        "lie down",
        "fall",
        "put on jacket",
    }
    assert wanted <= set(vocabulary)
    # one label never means two actions, so that formats with labels of one's own can take all of them
    meanings: dict[str, set[str]] = {}
    for labels in sources.values():
        for label, action in labels.items():
            meanings.setdefault(label, set()).add(action)
    assert [label for label, actions in meanings.items() if len(actions) > 1] == []


def test_the_residential_map_by_format():
    ntu = LabelMap.load("residential", "ntu-rgbd")
    assert ntu.apply("wear jacket") == "put on jacket" and ntu.apply("drink water") == "drink"
    for label in ("kicking something", "drinking water", None):
        with pytest.raises(InputError, match="label map"):
            ntu.apply(label)
    own = LabelMap.load("residential", "npz")
    assert own.apply("lie down") == "lie down" and own.apply("drinking water") == "drink"
    amass = LabelMap.load("residential", "amass")
    assert amass.apply("transition | sit | stand up") == "stand up"
    with pytest.raises(InputError, match="means several actions: run, walk"):
        amass.apply("walk | jog")
    with pytest.raises(InputError, match="not in the label map"):
        amass.apply("t pose | transition")
    with pytest.raises(InputError, match="unknown label map 'residental': did you mean 'residential'"):
        LabelMap.load("residental", "npz")


# retargeting


@pytest.mark.parametrize("name", ["kinect-v1", "kinect-v2", "smpl-22"])
def test_every_target_has_all_roles_and_stands(name):
    body = target_skeleton(name)
    assert set(REQUIRED_ROLES) <= set(body.roles) and body.left_right_pairs and body.feet
    still = moving(body, 1, amount=0.0).positions[0]
    assert still[:, 1].max() - still[:, 1].min() == pytest.approx(1.5, abs=0.15)
    np.testing.assert_allclose(
        still[body.left_right_pairs[0][0], 0] + still[body.left_right_pairs[0][1], 0], 0.2, atol=1e-5
    )


@pytest.mark.parametrize("name", ["kinect-v1", "kinect-v2", "smpl-22"])
def test_a_motion_on_its_own_skeleton_is_itself(name):
    motion = moving(target_skeleton(name), 12, seed=1)
    moved = retarget(motion, motion.skeleton)
    np.testing.assert_allclose(moved.positions, motion.positions, atol=1e-3)
    assert moved.residual < 1e-3


@pytest.mark.parametrize("name", ["kinect-v1", "kinect-v2", "smpl-22"])
def test_a_walk_on_another_skeleton_keeps_its_pose(name):
    walk = replace(simulate_motion("walk", 0, fps=20), action="walk")
    target = target_skeleton(name)
    moved = apply_transform(retarget(walk, target), RigidTransform())
    assert moved.skeleton is target and moved.action == "walk" and len(moved) == len(walk)
    assert moved.residual < 0.04
    pairs = match_joints(walk.skeleton, target).pairs

    def knee(motion: Motion, joints: list[int]) -> np.ndarray:
        """(T,) degrees between thigh and shin."""
        hip, knee, ankle = (motion.positions[:, joint] for joint in joints)
        thigh, shin = knee - hip, ankle - knee
        cosine = (thigh * shin).sum(-1) / np.linalg.norm(thigh, axis=-1) / np.linalg.norm(shin, axis=-1)
        return np.degrees(np.arccos(cosine.clip(-1, 1)))

    def leg(motion: Motion, joints: list[int]) -> float:
        return float(motion.skeleton.bone_lengths[joints[1:]].sum())

    found = target.roles
    for side in ("left", "right"):
        limb = [found[f"{side} {part}"] for part in ("hip", "knee", "ankle")]
        own = [pairs[joint] for joint in limb]
        assert np.abs(knee(moved, limb) - knee(walk, own)).mean() < 8, side
    # the path is as much longer as the legs are
    paths = [np.linalg.norm(motion.root[-1, [0, 2]] - motion.root[0, [0, 2]]) for motion in (moved, walk)]
    assert paths[0] / paths[1] == pytest.approx(leg(moved, limb) / leg(walk, own), rel=0.1)


def test_turned_sources_give_turned_targets():
    motion = moving(target_skeleton("kinect-v1"), 8, seed=2)
    turned = apply_transform(motion, RigidTransform(1.1, (2, 0, 1)))
    target = target_skeleton("smpl-22")
    scale = np.linalg.norm(retarget(turned, target).root[0]) / np.linalg.norm(turned.root[0])
    one, two = retarget(motion, target), retarget(turned, target)
    back = apply_transform(two, RigidTransform(0.0, tuple(-scale * value for value in (2, 0, 1))))
    back = apply_transform(back, RigidTransform(-1.1))
    np.testing.assert_allclose(back.positions, one.positions, atol=2e-3)


def test_bodies_that_cannot_be_matched_are_refused(tmp_path):
    lamp = Skeleton(("base", "arm", "bulb"), (-1, 0, 1), np.eye(3))
    motion = Motion(np.zeros((2, 3)), np.tile(np.eye(3), (2, 3, 1, 1)), lamp, fps=10)
    with pytest.raises(InputError, match="no joint is the left hip by name; the skeleton has base, arm, bulb"):
        retarget(motion, target_skeleton("smpl-22"))
    with pytest.raises(InputError, match="unknown skeleton 'smpl': did you mean 'smpl-22'"):
        target_skeleton("smpl")
    with pytest.raises(InputError, match="no such file"):
        target_skeleton(tmp_path / "a.bvh")
    write_npz(motion, tmp_path / "lamp.npz")
    with pytest.raises(InputError, match="no joint is its left hip by name"):
        target_skeleton(tmp_path / "lamp.npz")


# prepare --merge and --exclude


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Three sources of three kinds of skeleton, and the file that mixes them."""
    folder = tmp_path / "data"
    for name in ("ntu", "etri", "own"):
        (folder / name).mkdir(parents=True)
    for seed, name in enumerate(
        ("S001C001P001R001A001", "S001C001P002R001A008", "S001C001P002R001A014", "S001C001P002R001A051")
    ):
        frames = [{"1": joints} for joints in seen(20, seed)]
        (folder / "ntu" / f"{name}.skeleton").write_text(ntu_text(frames))
    for name in ("A004_P001_G001_C001", "A018_P060_G001_C001"):
        (folder / "etri" / f"{name}.csv").write_text(etri_text([{"1": joints} for joints in seen(20, 7)]))
    for number, action in enumerate(("walk", "wave")):
        write_npz(simulate_motion(action, number, fps=10, subject=number), folder / "own" / f"{number}.npz")
    (folder / "bad.txt").write_text("S001C001P002R001A008.skeleton\n")
    path = folder / "sources.yaml"
    path.write_text(
        "skeleton: smpl-22\nlabels: residential\nsources:\n"
        "  ntu: {format: ntu-rgbd, path: ntu, exclude: [bad.txt]}\n"
        "  etri: {format: etri, path: etri}\n"
        "  own: {format: npz, path: own}\n"
    )
    return path


def test_mix(tmp_path, sources):
    store = prepare_merged(sources, tmp_path / "store", PrepareOptions(fps=10))
    assert store.joint_names == target_skeleton("smpl-22").names and store.fps == 10
    assert len(store.offsets) == 1, "one body"
    found = {store.clip_ids[n]: (store[n].action, store[n].subject, store[n].style) for n in range(len(store))}
    assert found == {
        "ntu/S001C001P001R001A001": ("drink", "ntu/P001", None),
        "ntu/S001C001P002R001A014": ("put on jacket", "ntu/P002", None),
        "etri/A004_P001_G001_C001": ("drink", "etri/P001", "elderly"),
        "etri/A018_P060_G001_C001": ("put on jacket", "etri/P060", "young"),
        "own/0": ("walk", "own/simulated-0", None),
        "own/1": ("wave", "own/simulated-1", None),
    }
    assert count_sources(store) == {"etri": 2, "ntu": 2, "own": 2}
    assert store.header["format"] == "merge" and store.header["split_by"] == "subject"
    assert store.header["sources"] == {"ntu": "ntu-rgbd", "etri": "etri", "own": "npz"}
    with (store.path / "rejected.csv").open(newline="") as handle:
        reasons = dict(list(csv.reader(handle))[1:])
    assert "is on a list of samples to leave out" in reasons.pop("ntu/S001C001P002R001A008")
    assert "'kicking other person' is not in the label map" in reasons.pop("ntu/S001C001P002R001A051")
    assert "'kicking other person'" in reasons.pop("ntu/S001C001P002R001A051.2", "'kicking other person'")
    assert reasons == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("skeleton: smpl-22", "skeleton: smpl"), "unknown skeleton 'smpl'"),
        (("skeleton: smpl-22", "skelton: smpl-22"), "unknown key 'skelton': did you mean 'skeleton'"),
        (("skeleton: smpl-22", "skeleton: 22"), "skeleton: 22: kinect-v1"),
        (("format: etri", "format: etry"), "unknown format 'etry': did you mean 'etri'"),
        (("path: etri", "path: absent"), "absent: no such folder"),
        (("path: etri", "folder: etri"), "sources: etri: `format:` and `path:` expected"),
        (("etri: {", "a/b: {"), "a name without '/' expected"),
        (("labels: residential", "labels: absent.yaml"), "absent.yaml: no such file"),
        (("exclude: [bad.txt]", "exclude: bad.txt"), "exclude: a list of files"),
        (("exclude: [bad.txt]", "exclude: [absent.txt]"), "absent.txt: no such file"),
        (("sources:", "sources: {"), "not readable as YAML"),
        (("path: etri}", "path: etri, fps: 3}"), "unknown key of sources: etri 'fps'"),
    ],
)
def test_mix_files_that_are_none_are_refused(tmp_path, sources, change, message):
    sources.write_text(sources.read_text().replace(*change))
    with pytest.raises(InputError, match=message) as caught:
        prepare_merged(sources, tmp_path / "store", PrepareOptions(fps=10))
    assert "\n" not in str(caught.value) and not (tmp_path / "store").exists()


def test_mix_needs_a_file_sources_and_a_frame_rate(tmp_path, sources):
    for file, options, message in (
        (tmp_path / "absent.yaml", PrepareOptions(), "no such file"),
        (sources, PrepareOptions(fps=None), "give one with --fps"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_merged(file, tmp_path / "store", options)
    for text, message in (
        ("a: [", "not readable as YAML"),
        ("[]", "must hold a mapping"),
        ("skeleton: smpl-22", "sources: a mapping"),
    ):
        sources.write_text(text)
        with pytest.raises(InputError, match=message):
            prepare_merged(sources, tmp_path / "store")


def test_lists_of_samples_to_leave_out(tmp_path, sources):
    (tmp_path / "list.txt").write_text("1.npz\nelse\n\n")
    names = read_exclusion_lists([tmp_path / "list.txt"])
    assert names == {"1", "ELSE"}
    store = prepare("npz", sources.parent / "own", tmp_path / "store", PrepareOptions(fps=None, exclude=names))
    assert store.clip_ids == ["0"] and store.info()["rejected"] == 1
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(InputError, match=r"--exclude .*list\.txt: no sample"):
        read_exclusion_lists([tmp_path / "list.txt"])


def test_texts_are_kept_in_the_store(tmp_path):
    from motiondiff.data.prepare import write_store
    from motiondiff.data.readers import Clip

    motion = simulate_motion("walk", 0, fps=10)
    clips = [Clip("a", replace(motion, texts=("a person walks", "jemand geht für sich"))), Clip("b", motion)]
    description = {"format": "test", "source": "test"}
    store = write_store(clips, tmp_path / "store", PrepareOptions(), description=description)
    assert store[0].texts == ("a person walks", "jemand geht für sich") and store[1].texts == ()
    other = write_store(
        [Clip("a", motion), Clip("b", motion)], tmp_path / "other", PrepareOptions(), description=description
    )
    assert other.fingerprint != store.fingerprint and not (other.path / "texts.json").exists()
    (store.path / "texts.json").write_text("[]")
    with pytest.raises(InputError, match=r"texts\.json: not a list of 2 lists"):
        MotionStore(store.path)[0]


def test_the_simulated_body_has_all_roles():
    assert set(REQUIRED_ROLES) <= set(synthetic_skeleton().roles)
