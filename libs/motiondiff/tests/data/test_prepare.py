"""Folders of recordings to stores: bad clips are recorded, nothing is left half-written."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from motiondiff.data import prepare as prepare_module
from motiondiff.data.labels.label_map import LabelMap
from motiondiff.data.prepare import PrepareOptions, prepare
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion
from motiondiff.export.npz import write_npz
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

ACTIONS = ("walk", "run", "wave")
AS_THEY_ARE = PrepareOptions(fps=None)


def write_clips(folder: Path, count: int = 6, subjects: int = 3) -> list[Motion]:
    motions = [simulate_motion(ACTIONS[n % 3], n, fps=10, subject=n % subjects) for n in range(count)]
    for number, motion in enumerate(motions):
        write_npz(motion, folder / f"clip{number:03d}.npz")
    return motions


def rejections(store: MotionStore) -> list[list[str]]:
    with (store.path / "rejected.csv").open(newline="") as handle:
        return list(csv.reader(handle))[1:]


def nothing_left(folder: Path) -> bool:
    return not any(folder.iterdir())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The store to make, in a folder of its own in which anything left over shows."""
    (tmp_path / "target").mkdir()
    return tmp_path / "target" / "store"


def test_prepare(source: Path, target: Path) -> None:
    motions = write_clips(source)
    store = prepare("npz", source, target, PrepareOptions(fps=5))
    assert store.clip_ids == [f"clip{number:03d}" for number in range(6)]
    assert store.header["format"] == "npz" and store.header["source"] == "source"
    assert store.info()["simulated"] is False and store.fps == 5
    assert [motion.action for motion in (store[0], store[1], store[2])] == ["walk", "run", "wave"]
    for number in (0, 3):
        assert len(store[number]) == (len(motions[number]) - 1) // 2 + 1
        # every second frame, in the common frame, and back
        np.testing.assert_allclose(store[number].rotations[:, 1:], motions[number].rotations[::2, 1:], atol=1e-5)
        np.testing.assert_allclose(np.abs(store[number].root[0, [0, 2]]), 0, atol=1e-6)
    assert list(target.parent.iterdir()) == [target]


def test_one_bad_clip_is_recorded_and_the_others_are_kept(source: Path, target: Path) -> None:
    write_clips(source)
    (source / "clip002.npz").write_bytes(b"no archive")
    store = prepare("npz", source, target, AS_THEY_ARE)
    assert len(store) == 5 and store.info()["rejected"] == 1
    [(name, reason)] = rejections(store)
    assert name == "clip002" and "clip002.npz: not a readable .npz" in reason


def test_strict_stops_at_the_first_bad_clip(source: Path, target: Path) -> None:
    write_clips(source)
    (source / "clip002.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"clip002: .*not a readable \.npz"):
        prepare("npz", source, target, replace(AS_THEY_ARE, strict=True))
    assert nothing_left(target.parent)


def test_all_bad_leaves_no_folder(source: Path, target: Path) -> None:
    for number in range(3):
        (source / f"bad{number}.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"source: none of its 3 clips can be used; the first: .*bad0\.npz"):
        prepare("npz", source, target, AS_THEY_ARE)
    assert nothing_left(target.parent)


def test_an_empty_or_absent_folder_and_an_unknown_format(source: Path, target: Path) -> None:
    with pytest.raises(InputError, match=r"source: holds no motion files"):
        prepare("npz", source, target)
    with pytest.raises(InputError, match=r"absent: no such folder"):
        prepare("npz", source / "absent", target)
    with pytest.raises(InputError, match="unknown format 'npzz': did you mean 'npz'"):
        prepare("npzz", source, target)
    assert nothing_left(target.parent)


def test_an_existing_store_is_replaced_only_on_request(source: Path, target: Path) -> None:
    write_clips(source)
    first = prepare("npz", source, target, AS_THEY_ARE).fingerprint
    (source / "clip005.npz").unlink()
    with pytest.raises(InputError, match=r"store: exists already \(--overwrite replaces it\)"):
        prepare("npz", source, target, AS_THEY_ARE)
    assert MotionStore(target).fingerprint == first
    assert len(prepare("npz", source, target, AS_THEY_ARE, overwrite=True)) == 5
    (source / "clip000.npz").write_bytes(b"")
    with pytest.raises(InputError):
        prepare("npz", source, target, replace(AS_THEY_ARE, strict=True), overwrite=True)
    assert len(MotionStore(target)) == 5, "a failure leaves the older store alone"
    assert list(target.parent.iterdir()) == [target]


def test_label_map_renames_and_drops(source: Path, target: Path) -> None:
    write_clips(source)
    labels = LabelMap({"run": None, "wave": "greet"})
    store = prepare("npz", source, target, replace(AS_THEY_ARE, labels=labels))
    assert store.info()["actions"] == {"greet": 2, "walk": 2}
    assert rejections(store) == [[f"clip{number:03d}", "label 'run' is left out by the label map"] for number in (1, 4)]


def test_another_topology_is_rejected_with_the_reason(source: Path, target: Path) -> None:
    write_clips(source)
    other = Skeleton(("a", "b"), (-1, 0), np.array([[0, 0, 0], [0, 1, 0]]))
    write_npz(Motion(np.zeros((9, 3)), np.tile(np.eye(3), (9, 2, 1, 1)), other, fps=10), source / "other.npz")
    store = prepare("npz", source, target, AS_THEY_ARE)
    assert len(store) == 6
    [(name, reason)] = rejections(store)
    assert name == "other" and "its 2 joints differ from the 18" in reason


def scaled(motion: Motion, factor: float) -> Motion:
    return replace(motion, skeleton=motion.skeleton.with_bone_lengths(motion.skeleton.bone_lengths * factor))


def test_clips_that_make_no_sense_are_rejected(source: Path, target: Path) -> None:
    motions = write_clips(source)
    write_npz(motions[0].cut(0, 2), source / "short.npz")
    write_npz(motions[0].cut(0, 1), source / "still.npz")
    write_npz(scaled(motions[0], 100), source / "giant.npz")
    write_npz(scaled(motions[0], 0.01), source / "dwarf.npz")
    write_npz(motions[0], source / "twin.npz", clip_id="clip001")
    store = prepare("npz", source, target, AS_THEY_ARE)
    reasons = dict(rejections(store))
    assert reasons.pop("short") == "0.20 s long, shorter than 0.3 s"
    assert "0.10 s long" in reasons.pop("still")
    assert "not of human size" in reasons.pop("giant") and "not of human size" in reasons.pop("dwarf")
    assert reasons == {}
    # the id that a file carries inside does not count: two folders of samples both hold a walk-000
    assert {"clip001", "twin"} <= set(store.clip_ids)


def test_a_poor_fit_is_rejected(source: Path, target: Path) -> None:
    write_clips(source, 4)
    positions = np.random.default_rng(0).uniform(0, 1, (20, 3, 3))
    names = {"joint_names": np.array(["a", "b", "c"]), "parents": np.array([-1, 0, 1]), "fps": 10.0}
    np.savez(source / "noise.npz", positions=positions, **names)
    reasons = dict(rejections(prepare("npz", source, target, AS_THEY_ARE)))
    assert "from the recorded joints" in reasons["noise"]


def test_splits_are_by_subject_by_default(source: Path, target: Path) -> None:
    write_clips(source, 6, subjects=3)
    store = prepare("npz", source, target, replace(AS_THEY_ARE, test_groups=("simulated-1",)))
    assert store.header["split_by"] == "subject"
    assert {store[int(clip)].subject for clip in store.select("test")} == {"simulated-1"}
    for options, words in (
        (replace(AS_THEY_ARE, test_groups=("simulated-7",)), "unknown test group 'simulated-7'"),
        (replace(AS_THEY_ARE, split_by="style"), "fewer than two styles"),
    ):
        with pytest.raises(InputError, match=words):
            prepare("npz", source, target, options, overwrite=True)
    assert MotionStore(target).fingerprint == store.fingerprint
    assert list(target.parent.iterdir()) == [target]


def test_clips_without_groups_all_train(source: Path, target: Path) -> None:
    for number in range(3):
        write_npz(replace(simulate_motion("walk", number, fps=10), subject=None), source / f"{number}.npz")
    with pytest.raises(InputError, match="neither subjects nor styles"):
        prepare("npz", source, target, replace(AS_THEY_ARE, test_groups=("a",)))
    assert nothing_left(target.parent)
    assert prepare("npz", source, target, AS_THEY_ARE).info()["splits"] == {"train": 3}


def test_a_process_pool_makes_the_same_store(
    source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clips(source, 20)
    (source / "clip007.npz").write_bytes(b"")
    serial = prepare("npz", source, tmp_path / "serial", AS_THEY_ARE)
    submitted: list[object] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, function: object, /, *args: object, **options: object) -> object:  # type: ignore[override]
            submitted.append(function)
            return super().submit(function, *args, **options)  # type: ignore[arg-type]

    with Counting(2) as executor:
        given = prepare("npz", source, tmp_path / "given", AS_THEY_ARE, executor=executor)
    assert submitted
    monkeypatch.setattr(prepare_module, "MIN_CLIPS_FOR_POOL", 1)
    monkeypatch.setattr(prepare_module, "available_cores", lambda: 2)
    pooled = prepare("npz", source, target, AS_THEY_ARE)
    for store in (given, pooled):
        assert store.fingerprint == serial.fingerprint
        for name in ("frames.npy", "clips.npz", "skeletons.npy", "rejected.csv", "store.json"):
            assert (store.path / name).read_bytes() == (serial.path / name).read_bytes(), name
