"""The commands around training data: the good paths, and wrong input answered in one line with nothing written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import Command, as_json, command_fixture

from motiondiff.augmentation.study.subsets import write_subset
from motiondiff.cli import main
from motiondiff.data.store import MotionStore

QUICK = ("classifier.model=gru", "classifier.frames=16", "classifier.steps=3", "classifier.batch_size=8")
ACTOR = (
    "train.max_steps=1", "train.batch_size=4", "train.report_to=none", "train.device=cpu", "model.num_layers=1",
    "model.width=16", "model.num_heads=2", "model.feedforward=16", "data.max_frames=32", "data.min_frames=8",
)  # fmt: skip


run = command_fixture(main, "motiondiff")


def test_from_training_to_exports(run: Command, store_path: Path, store: MotionStore, tmp_path: Path) -> None:
    trained = as_json(run("train-actor", "--data", store_path, "--out", tmp_path / "actor", *ACTOR, "--json"))
    assert trained["steps"] == 1 and Path(trained["model"], "actor", "config.json").is_file()
    made = as_json(
        run(
            "augment", tmp_path / "actor", "--data", store_path, "--per-class", 2, "--out", tmp_path / "set", "--fill",
            "--oversample-factor", 1.5, "--copy-threshold", 0, *QUICK, "--json",
        )
    )  # fmt: skip
    assert made["generator"] == "ACTOR" and made["kept"] == 10
    assert all(one["kept"] == 2 for one in made["per_class"].values())
    for format, name in (("pyskl", "set.pkl"), ("ctr-gcn", "set.npz"), ("ntu-skeleton", "ntu")):
        result = as_json(run("export", tmp_path / "set", "--to", format, "--out", tmp_path / name, "--json"))
        assert result == {"out": str(tmp_path / name), "motions": 10}
        status, _, lines = run("export", tmp_path / "set", "--to", format, "--out", tmp_path / name)
        assert status == 2 and len(lines) == 1 and "exists already" in lines[0]
        assert run("export", tmp_path / "set", "--to", format, "--out", tmp_path / name, "--overwrite")[0] == 0
    assert len(list((tmp_path / "ntu").glob("*.skeleton"))) == 10
    words = ("export", store_path, "--to", "pyskl", "--out", tmp_path / "test.pkl", "--split", "test")
    split = as_json(run(*words, "--json"))
    assert split["motions"] == len(store.select("test"))


STUDY = "augmentation-study --data {store} --out {new} "
AUGMENT = "augment {run} --data {store} --out {new} "
BAD = {
    "train-actor: no store": ("train-actor --data {empty} --out {new}", "is not a motion store"),
    "train-actor: width": ("train-actor --data {store} --out {new} model.width=30", r"model\.width=30"),
    "train-actor: existing": ("train-actor --data {store} --out {old}", "exists already"),
    "train-actor: corrupted": ("train-actor --data {corrupted} --out {new}", r"frames\.npy: .*cut short"),
    "augment: no run": ("augment {empty} --data {store} --out {new}", "environment.json"),
    "augment: no store": ("augment {run} --data {empty} --out {new}", "is not a motion store"),
    "augment: corrupted frames": ("augment {run} --data {corrupted} --out {new}", r"frames\.npy: .*cut short"),
    "augment: corrupted index": ("augment {run} --data {broken_index} --out {new}", r"clips\.npz: missing or broken"),
    "augment: another store": ("augment {run} --data {part} --out {new}", "is not the data that"),
    "augment: count": (AUGMENT + "--per-class 0", "per_class=0: must be at least 1"),
    "augment: confidence": (AUGMENT + "--min-confidence 1.5", "min_confidence=1.5: must be at most 1"),
    "augment: oversample_factor": (AUGMENT + "--oversample-factor 0.5", "oversample_factor=0.5: must be at least 1"),
    "augment: scheduler": (AUGMENT + "--scheduler dim", "'dim': did you mean 'ddim'"),
    "augment: unknown key": (AUGMENT + "filter.per_clas=3", "'filter.per_clas': did you mean 'filter.per_class'"),
    "augment: existing": ("augment {run} --data {store} --out {old}", "exists already"),
    "study: no store": ("augmentation-study --data {empty} --out {new}", "is not a motion store"),
    "study: corrupted": ("augmentation-study --data {corrupted} --out {new}", r"frames\.npy: .*cut short"),
    "study: no test split": ("augmentation-study --data {part} --out {new} folds=1", "0 held out: both are needed"),
    "study: fraction": (STUDY + "fractions=[2.0]", "fractions=2.0: must be at most 1"),
    "study: method": (STUDY + "methods=[gan]", "unknown value of methods 'gan'"),
    "study: subject": (STUDY + "test_subjects=[nobody]", "unknown test subject 'nobody'"),
    "study: workers": (STUDY + "--workers 0", "--workers 0: must be at least 1"),
    "study: something else": ("augmentation-study --data {store} --out {old} fractions=[1.0]", "exists already"),
    "ablate: no grid": ("ablate --data {store} --grid {absent} --out {new}", "no such file"),
    "tune: no space": ("tune --data {store} --space {absent} --out {new}", "no such file"),
    "export: a file as a set": ("export {motion} --to pyskl --out {new}", "holds a set: give a store"),
    "export: world": ("export {store} --to ctr-gcn --out {new} --world", "has a frame of its own"),
    "augment: noise_strength": (
        "augment {run} --data {store} --out {new} --noise-strength 0",
        "filter.noise_strength=0",
    ),
    "augment: device": ("augment {run} --data {store} --out {new} --per-class 2 --device gpu", "--device gpu: "),
    "export: corrupted": ("export {corrupted} --to pyskl --out {new}", r"frames\.npy: .*cut short"),
    "export: unknown": ("export {store} --to pysckl --out {new}", "'pysckl': did you mean 'pyskl'"),
}


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, store_path: Path, run_path: Path, store: MotionStore
) -> dict[str, Path]:
    """Input of the wrong commands; ``new`` and ``absent`` do not exist."""
    base = tmp_path_factory.mktemp("places")
    made = {name: base / name for name in ("empty", "old", "new", "absent", "corrupted", "broken_index", "motion")}
    for name in ("empty", "old"):
        made[name].mkdir()
    (made["old"] / "precious.txt").write_text("years of work")
    for name in ("corrupted", "broken_index"):
        shutil.copytree(store_path, made[name])
    frames = made["corrupted"] / "frames.npy"
    frames.write_bytes(frames.read_bytes()[:-100])
    (made["broken_index"] / "clips.npz").write_bytes(b"PK\x03\x04 no archive")
    made["motion"] = base / "motion.npz"
    np.savez(made["motion"], nothing=np.zeros(1))
    part = write_subset(store, store.select("train"), base / "part")
    return {**made, "part": part.path, "store": store_path, "run": run_path, "base": base}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input(case: str, run: Command, places: dict[str, Path]) -> None:
    line, words = BAD[case]
    before = sorted(places["base"].rglob("*"))
    status, out, lines = run(*(word.format(**places) for word in line.split()))
    assert status == 2 and out == ""
    assert len(lines) == 1 and lines[0].startswith("motiondiff: ") and re.search(words, lines[0]), lines
    assert sorted(places["base"].rglob("*")) == before
