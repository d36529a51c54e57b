"""The store: what goes in comes out, and what is broken is noticed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from motiondiff.data.store import MotionStore
from motiondiff.data.store_writer import StoreWriter
from motiondiff.data.synthetic import simulate_motion
from motiondiff.skeleton.motion import Motion, RigidTransform, apply_transform, canonicalise, headings

ABOUT = {"format": "simulated", "split_by": "subject", "simulated": True}


def clip(action: str, seed: int = 0, subject: int = 0, style: str | None = None) -> Motion:
    return replace(simulate_motion(action, seed, fps=10, subject=subject), style=style)


def write(folder: Path, motions: Sequence[Motion], splits: Sequence[str] | None = None) -> MotionStore:
    folder.mkdir()
    with StoreWriter(folder) as writer:
        for number, motion in enumerate(motions):
            writer.append(motion, clip_id=f"clip-{number}")
        writer.finish(description=ABOUT, splits=splits)
    return MotionStore(folder)


def test_round_trip(tmp_path: Path) -> None:
    recorded = apply_transform(replace(clip("walk", style="calm"), residual=0.01), RigidTransform(1.0, (2, 0.5, 3)))
    common, back = canonicalise(recorded)
    with StoreWriter(tmp_path) as writer:
        writer.append(clip("wave"), clip_id="first")
        writer.append(common, back, clip_id="second/ä")
        writer.finish(description=ABOUT, rejected=[("third", 'too short, it says "no"')])
    store = MotionStore(tmp_path)
    assert len(store) == 2 and store.clip_ids == ["first", "second/ä"]
    motion = store[1]
    assert (motion.action, motion.style, motion.subject) == ("walk", "calm", "simulated-0")
    assert motion.residual == pytest.approx(0.01) and motion.fps == 10
    assert motion.source == f"{tmp_path.name}/second/ä"
    assert motion.skeleton.same_topology(recorded.skeleton)
    np.testing.assert_array_equal(motion.skeleton.offsets, recorded.skeleton.offsets)
    np.testing.assert_array_equal(motion.root, common.root)
    np.testing.assert_allclose(motion.rotations, common.rotations, atol=1e-6)
    np.testing.assert_allclose(
        apply_transform(motion, store.world_transform(1)).positions, recorded.positions, atol=1e-5
    )
    np.testing.assert_array_equal(store.frames(1)[:, -1], headings(common))
    np.testing.assert_array_equal(store.frames(1, 4, 9), store.frames(1)[4:9])
    assert store[0].style is None
    assert (tmp_path / "rejected.csv").read_text() == 'clip,reason\nthird,"too short, it says ""no"""\n'


def test_frames_are_a_plain_numpy_array(store: MotionStore) -> None:
    frames = np.load(store.path / "frames.npy", mmap_mode="r")
    assert frames.shape == (store.header["frames"], 3 + 6 * 18 + 1) and frames.dtype == np.float32
    assert store.columns["start"][1] == store.columns["length"][0]
    np.testing.assert_array_equal(frames[: store.columns["length"][0]], store.frames(0))


def test_vocabularies_are_alphabetical_whatever_came_first(tmp_path: Path) -> None:
    motions = [
        clip("wave", style="b"),
        clip("run"),
        clip("walk", subject=1, style="a"),
        replace(clip("run"), action=None),
    ]
    store = write(tmp_path / "store", motions)
    assert store.actions == ["run", "walk", "wave"]
    assert store.columns["action"].tolist() == [2, 0, 1, -1]
    assert store.styles == ["a", "b"] and store.columns["style"].tolist() == [1, -1, 0, -1]
    assert store.subjects == ["simulated-0", "simulated-1"]
    assert store[3].action is None and store[2].action == "walk"


def test_a_body_is_stored_once(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [clip("walk"), clip("run", subject=1), clip("wave")])
    assert store.columns["skeleton"].tolist() == [0, 1, 0]
    assert store.offsets.shape == (2, 18, 3)


def test_splits(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [clip("walk"), clip("run"), clip("wave")], ["test", "train", "train"])
    assert store.select("train").tolist() == [1, 2]
    assert store.select("test").tolist() == [0]
    assert store.select().tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="'validation' holds no clip"):
        store.select("validation")
    with pytest.raises(InputError, match="unknown split 'tset'"):
        store.select("tset")


def test_info(store: MotionStore) -> None:
    info = store.info()
    assert set(info) == {
        "clips", "frames", "seconds", "fps", "joints", "bodies", "actions", "styles", "subjects", "splits", "split_by",
        "frames_per_clip", "residual_mm", "stature_m", "rejected", "simulated", "generated", "format", "fingerprint",
    }  # fmt: skip
    assert info["clips"] == 40 and info["joints"] == 18 and info["bodies"] == 5 and info["fps"] == 10
    assert info["actions"] == {"pick up": 8, "run": 8, "sit down": 8, "walk": 8, "wave": 8}
    assert info["splits"] == {"train": 25, "validation": 5, "test": 10}
    assert info["seconds"] == pytest.approx(info["frames"] / 10)
    assert info["frames_per_clip"]["min"] >= 20 and info["frames_per_clip"]["max"] <= 35
    assert 1.2 < info["stature_m"]["median"] < 1.9 and set(info["stature_m"]["subjects"]) == set(info["subjects"])
    assert info["simulated"] is True and info["split_by"] == "subject" and info["residual_mm"]["mean"] == 0
    json.dumps(info, allow_nan=False)


def test_another_topology_frame_rate_or_known_id_is_refused(tmp_path: Path) -> None:
    motion = clip("walk")
    names = tuple(f"{name}_" for name in motion.skeleton.names)
    other = replace(motion, skeleton=type(motion.skeleton)(names, motion.skeleton.parents, motion.skeleton.offsets))
    with StoreWriter(tmp_path) as writer:
        writer.append(motion, clip_id="a")
        with pytest.raises(InputError, match="one store holds one skeleton topology"):
            writer.append(other, clip_id="b")
        with pytest.raises(InputError, match="20 fps in a store of 10 fps"):
            writer.append(replace(motion, fps=20), clip_id="c")
        with pytest.raises(InputError, match="'a' is already taken"):
            writer.append(motion, clip_id="a")
        writer.append(clip("run"), clip_id="d")
        writer.finish(description=ABOUT)
    store = MotionStore(tmp_path)
    assert store.clip_ids == ["a", "d"]
    np.testing.assert_allclose(store[1].root, clip("run").root)


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as writer, pytest.raises(InputError, match="no clips to store"):
        writer.finish(description=ABOUT)


def test_fingerprint_changes_with_the_data_and_not_with_time(tmp_path: Path) -> None:
    motions = [clip("walk"), clip("run", subject=1)]
    first = write(tmp_path / "first", motions)
    time.sleep(0.01)
    assert write(tmp_path / "again", motions).fingerprint == first.fingerprint
    root = motions[1].root.copy()
    root[3, 1] += 1e-4
    taller = motions[1].skeleton.with_bone_lengths(motions[1].skeleton.bone_lengths * 1.01)
    changes = {
        "one number": [motions[0], replace(motions[1], root=root)],
        "order": motions[::-1],
        "a clip less": motions[:1],
        "another name for the same action": [replace(motions[0], action="wander"), motions[1]],
        "another body": [motions[0], replace(motions[1], skeleton=taller)],
        "frame rate": [replace(motion, fps=12) for motion in motions],
    }
    prints = {name: write(tmp_path / name, changed).fingerprint for name, changed in changes.items()}
    prints["split"] = write(tmp_path / "split", motions, ["train", "test"]).fingerprint
    assert len({first.fingerprint, *prints.values()}) == 1 + len(prints)


@pytest.fixture
def copy(store_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store_path, tmp_path / "copy"))


@pytest.mark.parametrize("lost", [1, 4, 100, 10_000, None], ids=str)
def test_cut_frames_are_noticed(copy: Path, lost: int | None) -> None:
    frames = copy / "frames.npy"
    data = frames.read_bytes()
    frames.write_bytes(data[:-lost] if lost else b"")
    with pytest.raises(InputError, match=r"frames\.npy.*prepare the store again"):
        MotionStore(copy)


def test_missing_or_broken_files_are_named(copy: Path) -> None:
    (copy / "clips.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"clips\.npz: missing or broken"):
        MotionStore(copy).info()
    (copy / "skeletons.npy").unlink()
    with pytest.raises(InputError, match=r"skeletons\.npy: missing or broken"):
        _ = MotionStore(copy).offsets
    (copy / "frames.npy").unlink()
    with pytest.raises(InputError, match=r"frames\.npy: missing or broken"):
        MotionStore(copy)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"version": 99}', "store format 99, this version reads 2"),
        ("{}", "store format None"),
        ("[]", "store format None"),
        ("nonsense", "is not JSON"),
    ],
)
def test_other_headers_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(InputError, match=words):
        MotionStore(tmp_path)


def test_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a motion store \(no store.json\)"):
        MotionStore(tmp_path)
    with pytest.raises(InputError, match="does not exist; `motiondiff prepare` makes one"):
        MotionStore(tmp_path / "absent")
