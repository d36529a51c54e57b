"""Golden values: every job on UTKinect with the shipped configurations and few steps, and on simulated motions.

Classifiers keep the weights that they begin with, so that these values do not depend on how classifiers are trained;
`test_classifier` alone trains one.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import golden_values
import numpy as np
import pytest
from command_line import Command, as_json, command_fixture
from safetensors.numpy import load_file

from icube_common.io.runs import read_json
from motiondiff.augmentation.study import runner as study
from motiondiff.cli import main
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.synthetic import simulate_clips
from motiondiff.evaluation import runner
from motiondiff.evaluation.text_to_motion import matching

GOLDEN = Path(__file__).with_name("golden.json")
CONFIGS = Path(__file__).resolve().parents[1] / "configs"

# words of the command line and of its results
TRAIN = ("train.report_to=none", "train.device=cpu", "train.batch_size=6")
RECOGNISER = ("classifier.frames=16", "classifier.batch_size=8", "classifier.steps=1")
OWN, VARIATIONS = "motiondiff", "sdedit"
FITTING = "fit_network"
RECOGNISE = "train-classifier"
TARGETS = "targets"

run = command_fixture(main, "motiondiff")


def check(name: str, values: Mapping[str, Any]) -> None:
    golden_values.check(GOLDEN, name, values)


def weights(folder: Path) -> np.ndarray:
    """All numbers of all weight files below a folder, in an order that no name decides."""
    arrays = [array for file in sorted(folder.rglob("*.safetensors")) for array in load_file(file).values()]
    return np.concatenate([array.ravel() for array in sorted(arrays, key=lambda array: (array.size, array.tobytes()))])


def motions(folder: Path) -> np.ndarray:
    """Roots and rotations of all motion files of a folder."""
    loaded = [np.load(file) for file in sorted(folder.rglob("*.npz"))]
    assert loaded
    return np.concatenate([one[name].ravel() for one in loaded for name in ("root", "rotations")])


def stored(folder: Path) -> dict[str, Any]:
    """Content of a store."""
    index = np.load(folder / "clips.npz")
    columns = {name: index[name] for name in ("length", "action", "subject", "split")}
    return {"frames": np.load(folder / "frames.npy"), **columns}


def probabilities(file: Path) -> np.ndarray:
    """(N, C) of a ``predictions.csv``."""
    with file.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    return np.array([[float(value) for name, value in row.items() if name.startswith("p_")] for row in rows])


def figures(file: Path) -> dict[str, Any]:
    """Means of a ``metrics.json``, of generated and of real motions."""
    result = read_json(file)
    values = {name: one["mean"] for name, one in result.items() if isinstance(one, dict) and "mean" in one}
    values |= {f"real {name}": one["mean"] for name, one in result["real"].items()}
    values |= {
        f"text {name}": one["mean"] for name, one in result.get("text", {}).items() if name in result["text"]["real"]
    }
    return values | {f"goal {n}": one["value"] for n, one in enumerate(result[TARGETS].values())}


@pytest.fixture(autouse=True)
def untrained(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.function is not test_classifier:
        assert runner and matching and study  # loaded
        for name, module in list(sys.modules.items()):
            if name.startswith("motiondiff") and hasattr(module, FITTING):
                monkeypatch.setattr(module, FITTING, lambda *_, **__: None)


@pytest.fixture(scope="module")
def utkinect(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of UTKinect, prepared by the command of the README."""
    store = tmp_path_factory.mktemp("golden") / "store"
    # of the default seed's validation subject one class has a single clip, which an ablation refuses
    words = ["--format", "utkinect", "--fps", "20", "--split-seed", "1", "--out", str(store)]
    assert main(["prepare", str(real_data("utkinect")), *words]) == 0
    return store


@pytest.fixture(scope="module")
def utkinect_run(utkinect: Path) -> Path:
    """Three steps of the shipped configuration."""
    out = utkinect.with_name("run")
    words = ["--data", str(utkinect), "--out", str(out), "--config", str(CONFIGS / "utkinect.yaml")]
    assert main(["train", *words, *TRAIN, "train.max_steps=3"]) == 0
    return out


@pytest.mark.real_data
def test_utkinect(run: Command, utkinect: Path, utkinect_run: Path, tmp_path: Path) -> None:
    check("utkinect store", stored(utkinect))
    check("utkinect train", {"weights": weights(utkinect_run / "model")})
    words = ("--per-action", 1, "--steps", 3, "--guidance", 2, "--seconds", 1.5, "--scheduler")
    for scheduler in ("dpmsolver++", "ddim", "ddpm"):
        as_json(run("sample", utkinect_run, "--out", tmp_path / scheduler, *words, scheduler, "--json"))
        check(f"utkinect sample {scheduler}", {"motions": motions(tmp_path / scheduler)})
    out = tmp_path / "evaluation"
    words = ("--seeds", 2, "--per-action", 2, "--steps", 2, "--guidance", 2)
    as_json(
        run(
            "evaluate",
            utkinect_run,
            "--data",
            utkinect,
            "--out",
            out,
            *words,
            "classifier.steps=1",
            "classifier.frames=16",
            "--json",
        )
    )
    check("utkinect evaluate", figures(out / "metrics.json"))
    check("utkinect evaluate predictions", {"probabilities": probabilities(out / "predictions.csv")})
    words = (
        "--per-class",
        1,
        "--oversample-factor",
        2,
        "--min-confidence",
        0,
        "--fill",
        "--steps",
        2,
        "--noise-strength",
        0.5,
    )
    made = as_json(
        run("augment", utkinect_run, "--data", utkinect, "--out", tmp_path / "set", *words, *RECOGNISER, "--json")
    )
    limits = {name: value for name, value in read_json(tmp_path / "set" / "augment.json")["limits"].items()}
    check("utkinect augment", {**stored(tmp_path / "set"), "kept": made["kept"], "limits": limits})


@pytest.mark.real_data
def test_utkinect_editing(run: Command, utkinect: Path, utkinect_run: Path, tmp_path: Path) -> None:
    as_json(run("export", utkinect, "--to", "npz", "--out", tmp_path / "clips", "--split", "test", "--json"))
    clip = min((tmp_path / "clips").rglob("*.npz"), key=lambda file: file.name)
    words = ("--action", "walk", "--steps", 3, "--count", 2)
    for name, held in {"between": ("--keep-frames", "0:5,15:20"), "part": ("--keep-joints", "Head,ElbowLeft")}.items():
        as_json(run("edit", utkinect_run, clip, "--out", tmp_path / name, "--cut", "0:20", *held, *words, "--json"))
        check(f"utkinect edit {name}", {"motions": motions(tmp_path / name)})
    timeline = tmp_path / "timeline.yaml"
    timeline.write_text("timeline: [{action: walk, seconds: 1.5}, {action: sit down, seconds: 1}]\n")
    as_json(run("compose", utkinect_run, timeline, "--out", tmp_path / "long", "--steps", 3, "--json"))
    check("utkinect compose", {"motions": motions(tmp_path / "long")})
    words = ("train.max_steps=2", *TRAIN)
    as_json(run("distill", utkinect_run, "--out", tmp_path / "student", *words, "--json"))
    check("utkinect distill", {"weights": weights(tmp_path / "student" / "model")})
    as_json(run("sample", tmp_path / "student", "--out", tmp_path / "fast", "--action", "walk", "--json"))
    check("utkinect distill sample", {"motions": motions(tmp_path / "fast")})
    as_json(run("retarget", clip, "--to", "smpl-22", "--out", tmp_path / "smpl.npz", "--json"))
    target = np.load(tmp_path / "smpl.npz")
    check("utkinect retarget", {name: target[name] for name in ("root", "rotations", "positions")})


@pytest.mark.real_data
def test_utkinect_texts(run: Command, utkinect: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "texts", CONFIGS / "text_utkinect.yaml"
    words = ("train.max_steps=2", "text.encoder=icube-tiny", *TRAIN)
    as_json(run("train", "--data", utkinect, "--out", out, "--config", config, *words, "--json"))
    check("utkinect text train", {"weights": weights(out / "model")})
    words = ("--text", "a person walks", "--steps", 3)
    as_json(run("sample", out, "--out", tmp_path / "samples", *words, "--json"))
    check("utkinect text sample", {"motions": motions(tmp_path / "samples")})
    words = ("--seeds", 1, "--per-action", 2, "--steps", 2, "classifier.steps=1", "classifier.frames=16")
    as_json(run("evaluate", out, "--data", utkinect, "--out", tmp_path / "evaluation", *words, "--json"))
    check("utkinect text evaluate", figures(tmp_path / "evaluation" / "metrics.json"))


@pytest.mark.real_data
def test_utkinect_actor(run: Command, utkinect: Path, tmp_path: Path) -> None:
    words = ("--config", CONFIGS / "actor_utkinect.yaml", "train.max_steps=2", *TRAIN, "--json")
    as_json(run("train-actor", "--data", utkinect, "--out", tmp_path / "actor", *words))
    check("utkinect actor", {"weights": weights(tmp_path / "actor" / "model")})
    words = ("--per-class", 1, "--oversample-factor", 1, "--min-confidence", 0, "--fill", *RECOGNISER, "--json")
    as_json(run("augment", tmp_path / "actor", "--data", utkinect, "--out", tmp_path / "set", *words))
    check("utkinect actor augment", stored(tmp_path / "set"))


@pytest.mark.real_data
def test_utkinect_study(run: Command, utkinect: Path, tmp_path: Path) -> None:
    out, quick = tmp_path / "study", ("max_steps=1", "device=cpu", "report_to=none", "batch_size=6")
    words = (
        "fractions=[0.25]", "folds=1", "seeds=2", "generator_seeds=1", "methods=[motiondiff,sdedit,mdm,actor]",
        "noise_strengths=[0.5]", "mixture.inner_seeds=1", "probe_steps=1",
        "filter.per_class=1", "filter.oversample_factor=1", "filter.steps=2", "filter.min_confidence=0", *RECOGNISER,
        *(f"{name}.train.{key}" for name in (OWN, "mdm", "actor") for key in quick),
    )  # fmt: skip
    config = CONFIGS / "study_utkinect.yaml"
    as_json(run("augmentation-study", "--data", utkinect, "--out", out, "--config", config, *words, "--json"))
    for name, method in (("own", OWN), ("variations", VARIATIONS), ("mdm", "mdm"), ("actor", "actor")):
        made = [path.parent for path in out.rglob("frames.npy") if method in path.as_posix().removeprefix(str(out))]
        check(f"utkinect study set {name}", {"stores": [stored(path) for path in sorted(made)]})
    predictions = sorted(out.rglob("predictions.csv"))
    check(
        "utkinect study predictions",
        {"probabilities": sorted(float((probabilities(f) ** 2).sum()) for f in predictions)},
    )
    contrasts = (out / "differences.csv").read_text().splitlines()
    check("utkinect study", {"rows": len(predictions), "contrasts": len(contrasts)})


@pytest.mark.real_data
def test_utkinect_ablation(run: Command, utkinect: Path, tmp_path: Path) -> None:
    lines = (CONFIGS / "ablation_utkinect.yaml").read_text().splitlines()
    chosen = ("recipe}", "EDM", "no gates", "guidance 3")
    text = "\n".join(line for line in lines if "- {name" not in line or any(word in line for word in chosen))
    for old, new in (
        ("max_steps: 2000", "max_steps: 1\n  train.device: cpu"),
        ("batch_size: 16", "batch_size: 6"),
        ("seeds: [0, 1, 2]", "seeds: [0]"),
    ):
        assert old in text
        text = text.replace(old, new)
    text = text.replace(
        "base:", "base:\n  sample.per_class: 2\n  " + "\n  ".join(w.replace("=", ": ") for w in RECOGNISER)
    )
    (tmp_path / "grid.yaml").write_text(text.replace("steps: 10", "steps: 2") + "\n")
    out = tmp_path / "study"
    as_json(run("ablate", "--data", utkinect, "--grid", tmp_path / "grid.yaml", "--out", out, "--json"))
    for file in sorted(out.rglob("result.json")):
        values = {name: value for name, value in read_json(file)["metrics"].items() if name != "training_seconds"}
        check(f"utkinect ablation {' '.join(file.relative_to(out).parts[-3:-1])}", values)


@pytest.mark.real_data
@pytest.mark.parametrize("model", ["gru", "st-gcn"])
def test_classifier(run: Command, utkinect: Path, tmp_path: Path, model: str, request: pytest.FixtureRequest) -> None:
    words = ("--train", utkinect, "--test", utkinect, "--out", tmp_path / model, "--model", model, "--json")
    as_json(run(RECOGNISE, *words, "steps=3", "frames=16"))
    check(f"classifier {model}", {"probabilities": probabilities(tmp_path / model / "predictions.csv")})


def test_simulated(run: Command, tmp_path: Path) -> None:
    description = {"format": "simulated", "source": "tests", "simulated": True}
    data = write_store(simulate_clips(75, fps=10), tmp_path / "store", PrepareOptions(), description=description).path
    check("simulated store", stored(data))
    tiny = (
        "train.max_steps=4", "train.learning_rate=0.01", *TRAIN, "train.seed=3", "model.width=16",
        "model.num_layers=1", "model.num_heads=2", "model.feedforward=16", "data.max_frames=32", "data.min_frames=8",
    )  # fmt: skip
    model, diffusion = tmp_path / "run", ("diffusion.num_train_timesteps=50", "diffusion.inpainting_probability=0.5")
    text = ("text.enabled=true", "text.encoder=icube-tiny", "data.mirror=0.5", "data.balance=0.5")
    as_json(run("train", "--data", data, "--out", model, *tiny, *diffusion, *text, "--json"))
    check("simulated train", {"weights": weights(model / "model")})
    as_json(run("sample", model, "--out", tmp_path / "samples", "--per-action", 2, "--steps", 3, "--json"))
    check("simulated sample", {"motions": motions(tmp_path / "samples")})
    words = ("--keep-frames", "0:5,15:20", "--cut", "0:20", "--json")
    clip = sorted((tmp_path / "samples").glob("*.npz"))[0]
    as_json(run("edit", model, clip, "--out", tmp_path / "edit", *words))
    check("simulated edit", {"motions": motions(tmp_path / "edit")})
    words = ("--seeds", 2, "--per-action", 2, "--steps", 2, "classifier.steps=1", "classifier.frames=16", "--json")
    as_json(run("evaluate", model, "--data", data, "--out", tmp_path / "evaluation", *words))
    check("simulated evaluate", figures(tmp_path / "evaluation" / "metrics.json"))
    as_json(run("distill", model, "--out", tmp_path / "fast", "train.max_steps=2", *TRAIN, "lcm_steps=10", "--json"))
    check("simulated distill", {"weights": weights(tmp_path / "fast" / "model")})
    actor = [word for word in tiny if "timesteps" not in word]
    as_json(run("train-actor", "--data", data, "--out", tmp_path / "actor", *actor, "--json"))
    check("simulated actor", {"weights": weights(tmp_path / "actor" / "model")})
