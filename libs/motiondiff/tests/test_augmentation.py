"""Balanced sets: the limits, the choice among motions, the store that comes out, and bad input."""

from __future__ import annotations

import csv
import re
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icube_common.data.processes import WORKER_DIED
from icube_common.errors import InputError
from icube_common.io.runs import read_json
from motiondiff.augmentation.augment import augment
from motiondiff.augmentation.config import FilterConfig
from motiondiff.augmentation.filter import PHYSICS, TOLERANCE, FilterDecision, MotionFilter, choose, physics_of
from motiondiff.augmentation.study.subsets import write_subset
from motiondiff.config import ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion

QUICK = ClassifierConfig(model="gru", frames=16, steps=5, batch_size=8)
SMALL = FilterConfig(per_class=2, oversample_factor=1.5, steps=2, fill=True)


def decision(kind: str = "", confidence: float = 0.9) -> FilterDecision:
    return FilterDecision(confidence=confidence, distance=1.0, kind=kind, reason=kind and f"{kind}: too much")


def test_the_choice() -> None:
    passed = decision()
    decisions = [decision("skate", 0.7), passed, decision("copy", 0.99), decision("confidence", 0.2), passed, passed]
    actions = ["a", "a", "a", "a", "b", "b"]
    kept, filled, left_out = choose(decisions, actions, 2, fill=False)
    assert kept == [1, 4, 5] and filled == []
    assert left_out == {0: "skate: too much", 2: "copy: too much", 3: "confidence: too much"}
    kept, filled, left_out = choose(decisions, actions, 2, fill=True)
    assert kept == [0, 1, 4, 5] and filled == [0] and set(left_out) == {2, 3}  # never a copy, the surest first
    kept, _, left_out = choose(decisions, actions, 1, fill=True)
    assert kept == [1, 4] and left_out[5] == "not needed: 1 of 'b' are there"


def test_copies_of_training_clips_are_called_out(store: MotionStore) -> None:
    judge = MotionFilter(store, SMALL, QUICK)
    clips = store.select("train")[:6]
    decisions = judge.decisions([store[int(clip)] for clip in clips])
    assert [one.kind for one in decisions] == ["copy"] * 6
    assert all(re.match(r"copy: \S+ m from a training clip, below", one.reason) for one in decisions)


def test_every_rule_names_its_value(store: MotionStore) -> None:
    motion = simulate_motion("walk", 9999, fps=10, subject=0)
    noise = np.random.default_rng(0).normal(0, 0.3, motion.root.shape)
    shaken = replace(motion, root=motion.root + noise)
    sunk = replace(motion, root=motion.root - np.float32([0, 0.5, 0]))
    judge = MotionFilter(store, replace(SMALL, copy_threshold=0.0), QUICK)
    assert [one.kind for one in judge.decisions([sunk])] == ["penetration"]
    assert judge.decisions([shaken])[0].kind in {"foot_skate", "jitter"}
    lenient = replace(SMALL, copy_threshold=0.0, tolerance=100, min_confidence=1.0)
    unsure = MotionFilter(store, lenient, QUICK).decisions([motion])[0]
    assert unsure.kind == "confidence" and re.search(r"below 1, seen as '\w", unsure.reason)
    assert set(judge.limits) == set(PHYSICS)


def test_limits_are_quantiles_of_the_training_clips(store: MotionStore) -> None:
    judge = MotionFilter(store, replace(SMALL, quantile=0.5, tolerance=2), QUICK)
    real = physics_of(ClipSet.from_store(store, split="train"))
    for name, limit in judge.limits.items():
        assert limit == pytest.approx(max(TOLERANCE.get(name, 0), 2 * np.nanmedian(real[name])))
    assert judge.limits["penetration"] == 0.01 and judge.limits["bone_length_drift"] == 0.001
    assert judge.copy_limit == pytest.approx(0.1 * np.median(judge.memory.own.distance))


def test_the_filter_reads_the_training_split_alone(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[int] = set()
    rows = MotionStore.frames

    def spy(self: MotionStore, clip: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        read.add(int(clip))
        return rows(self, clip, start, stop)

    monkeypatch.setattr(MotionStore, "frames", spy)
    store = MotionStore(store_path)
    MotionFilter(store, SMALL, QUICK)
    assert read == set(store.select("train").tolist())


@pytest.fixture(scope="module")
def made(run_path: Path, store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("augment") / "set"
    return out, augment(run_path, store_path, out, SMALL, classifier=QUICK, render=True)


def test_balanced_store_is_marked_generated(made: tuple[Path, dict[str, object]], store: MotionStore) -> None:
    out, result = made
    new = MotionStore(out)
    assert new.info()["actions"] == dict.fromkeys(store.actions, 2) and new.info()["splits"] == {"train": 10}
    assert new.info()["generated"] is True and store.info()["generated"] is False
    assert all(name.startswith("generated-") for name in new.clip_ids) and new.subjects == []
    assert new.header["simulated"] is True  # so were the training clips
    assert "generated" in new[0].source
    with (out / "rejected.csv").open(newline="") as handle:
        rejected = list(csv.DictReader(handle))
    assert len(rejected) == 15 - 10 == new.header["rejected"]
    assert all(row["reason"] and row["clip"].startswith("generated-") for row in rejected)
    assert not {row["clip"] for row in rejected} & set(new.clip_ids)
    facts = read_json(out / "augment.json")
    assert facts["trained_on"] == store.fingerprint and facts["settings"]["filter"]["per_class"] == 2
    assert facts["generated"] == 15 and facts["kept"] == 10 and result["kept"] == 10
    assert sum(one["filled"] for one in facts["per_class"].values()) == facts["filled"]


def test_videos_in_class_folders(made: tuple[Path, dict[str, object]], store: MotionStore) -> None:
    import av

    out, _ = made
    new = MotionStore(out)
    videos = sorted((out / "videos").rglob("*.mp4"))
    assert {path.parent.name for path in videos} == set(store.actions) and len(videos) == len(new)
    with av.open(str(videos[0])) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == len(new[new.clip_ids.index(videos[0].stem)])


def test_the_same_again_and_another_seed(
    made: tuple[Path, dict[str, object]], run_path: Path, store_path: Path, tmp_path: Path
) -> None:
    augment(run_path, store_path, tmp_path / "same", SMALL, classifier=QUICK)
    assert MotionStore(tmp_path / "same").fingerprint == MotionStore(made[0]).fingerprint
    augment(run_path, store_path, tmp_path / "other", replace(SMALL, seed=1), classifier=QUICK)
    assert MotionStore(tmp_path / "other").fingerprint != MotionStore(made[0]).fingerprint


def test_an_executor_and_shards_give_the_same_set(
    made: tuple[Path, dict[str, object]], run_path: Path, store_path: Path, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as pool:
        augment(run_path, store_path, tmp_path / "workers", SMALL, classifier=QUICK, executor=pool)
    assert MotionStore(tmp_path / "workers").fingerprint == MotionStore(made[0]).fingerprint
    small = replace(SMALL, batch_size=4)
    augment(run_path, store_path, tmp_path / "one", small, classifier=QUICK)
    first = augment(run_path, store_path, tmp_path / "joined", small, shard=(1, 3))
    assert first["generated"] == 4 and not (tmp_path / "joined").exists()
    assert len(list((tmp_path / "joined.shards").rglob("*.npz"))) == 4
    augment(run_path, store_path, tmp_path / "joined", small, classifier=QUICK)
    assert MotionStore(tmp_path / "joined").fingerprint == MotionStore(tmp_path / "one").fingerprint
    assert not (tmp_path / "joined.shards").exists()


def test_a_batch_whose_worker_died_is_rejected(run_path: Path, store_path: Path, tmp_path: Path) -> None:
    class Dying(ThreadPoolExecutor):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
            ((_, numbers),) = arguments[1]
            if 0 in numbers:
                future: Future[Any] = Future()
                future.set_exception(BrokenExecutor("killed"))
                return future
            return super().submit(function, *arguments)

    more = replace(SMALL, batch_size=3, oversample_factor=3.0)
    with Dying(1) as pool:
        augment(run_path, store_path, tmp_path / "set", more, classifier=QUICK, executor=pool)
    with (tmp_path / "set" / "rejected.csv").open(newline="") as handle:
        lost = [row["clip"] for row in csv.DictReader(handle) if row["reason"] == WORKER_DIED]
    assert [name[-4:] for name in lost] == ["0000", "0001", "0002"]


def test_bad_input(run_path: Path, store_path: Path, store: MotionStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"class '[^']+': 0 of 9 generated motions pass, 2 wanted .rejected for: "):
        strict = replace(SMALL, fill=False, min_confidence=1.0)
        augment(run_path, store_path, tmp_path / "a", strict, classifier=QUICK)
    other = write_subset(store, store.select("train")[:20], tmp_path / "other")
    with pytest.raises(InputError, match="is not the data that"):
        augment(run_path, other.path, tmp_path / "a", SMALL, classifier=QUICK)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "precious.txt").write_text("years of work")
    with pytest.raises(InputError, match="exists already"):
        augment(run_path, store_path, tmp_path / "b", SMALL, classifier=QUICK)
    assert not (tmp_path / "a").exists()
