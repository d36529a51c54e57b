"""Fine-tuning of the image tower on Florence 3D from images alone: frozen, last blocks and LoRA, actors left out.

    actprompt prepare --format florence3d FLORENCE --out DATA
    OMP_NUM_THREADS=1 python benchmarks/actprompt_finetune.py DATA --out RESULTS

Each row is trained by the library from the same ridge initialisation with the same steps and batches. The learning rate
of a trained tower is selected by the cross-entropy of one training actor whom the candidates were not trained on; the
selected one is then trained on all training actors. The row "chosen" takes, for each actor left out, the mode of the
smallest inner cross-entropy. A finished training is not repeated: further actors can be added later.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actprompt.config import ActConfig
from actprompt.data.manifest import Manifest
from actprompt.evaluation.runner import EvaluationContext
from actprompt.training.trainer import predict_test, train_fold
from icube_common.config import load_config
from icube_common.evaluation import Fold, Samples
from icube_common.evaluation.protocols import leave_one_group_out
from icube_common.io.runs import RunFolder, read_json, write_json

CONFIG = Path(__file__).resolve().parents[1] / "libs" / "actprompt" / "configs" / "florence3d_video.yaml"
COMMON = ("skeleton.enabled=false", "video.frames=4", "train.batch_size=8", "train.device=cpu")
CANDIDATES: dict[str, tuple[tuple[str, ...], ...]] = {
    "frozen": (("finetune.mode=none",),),
    "last block": tuple(("finetune.mode=last_blocks", f"finetune.learning_rate={rate}") for rate in (1e-4, 1e-3)),
    "LoRA, rank 4": tuple(("finetune.mode=lora", f"finetune.learning_rate={rate}") for rate in (1e-4, 1e-3)),
}


def inner_fold(fold: Fold) -> Fold:
    """Training rows of a fold without the next actor in the order of names, who is predicted."""
    samples = Samples(
        ids=[fold.samples.ids[row] for row in fold.train],
        labels=fold.train_labels,
        class_names=fold.train_class_names,
        groups=[fold.samples.groups[row] for row in fold.train],
    )
    folds = list(leave_one_group_out(samples, validation=0.0))
    return folds[fold.number % len(folds)]


def train_and_predict(context: EvaluationContext, fold: Fold, path: Path) -> dict[str, Any]:
    """Probabilities of a fold's test rows, trained numbers and seconds; computed once."""
    if path.is_file():
        return read_json(path)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", config_yaml="", environment={})
        begun = time.perf_counter()
        model = train_fold(context.inputs, fold, context.config, context.vlm, context.texts, run).model
        seconds = time.perf_counter() - begun
    tower = model.visual.tower if model.visual is not None else None
    result = {
        "probabilities": predict_test(model, context.inputs, fold, context.texts).tolist(),
        "tower_parameters": 0 if tower is None else sum(p.numel() for p in tower.parameters() if p.requires_grad),
        "seconds": seconds,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    return result


def cross_entropy(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    """Mean negative logarithm of the probability of the true class."""
    return -float(np.log(probabilities[np.arange(len(labels)), labels].clip(1e-12)).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each actor and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of results, resumed where it exists")
    parser.add_argument("--actors", type=int, default=0, help="actors left out, in the order of names (default: all)")
    parser.add_argument("settings", nargs="*", help="settings key=value")
    args = parser.parse_intermixed_args(arguments)
    manifest, contexts = Manifest.load(args.data), dict[tuple[str, ...], EvaluationContext]()
    inputs: dict[bool, EvaluationContext] = {}  # features of frames, or their pixels
    for keys in (keys for listed in CANDIDATES.values() for keys in listed):
        config = load_config(ActConfig, file=CONFIG, overrides=[*COMMON, *keys, *args.settings])
        if config.needs_pixels not in inputs:
            inputs[config.needs_pixels] = EvaluationContext.load(manifest, config, args.out, features=None, head=None)
        contexts[keys] = replace(inputs[config.needs_pixels], config=config)
    samples = inputs[True].samples
    folds = list(leave_one_group_out(samples, validation=0.0))
    correct: dict[str, list[npt.NDArray[np.bool_]]] = {name: [] for name in [*CANDIDATES, "chosen"]}
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in CANDIDATES}
    for fold in folds[: args.actors or len(folds)]:
        losses, hits = {}, {}
        for name, listed in CANDIDATES.items():
            inner, scores = inner_fold(fold), []
            for keys in listed:
                place = args.out / f"{fold.number}-{'-'.join(keys)}-inner.json"
                part = train_and_predict(contexts[keys], inner, place)
                truth = np.asarray([fold.train_labels[row] for row in inner.test])
                scores.append(cross_entropy(np.asarray(part["probabilities"]), truth))
            selected = listed[int(np.argmin(scores))]
            whole = train_and_predict(contexts[selected], fold, args.out / f"{fold.number}-{'-'.join(selected)}.json")
            losses[name] = min(scores)
            hits[name] = np.asarray(whole["probabilities"]).argmax(1) == samples.labels[fold.test]
            costs[name].append((whole["tower_parameters"], whole["seconds"]))
            correct[name].append(hits[name])
            print(
                f"{fold.name}: {name} {selected[-1]}, inner loss {min(scores):.3f}, top-1 {hits[name].mean():.3f}",
                flush=True,
            )
        choice = min(losses, key=lambda name: losses[name])
        correct["chosen"].append(hits[choice])
        print(f"{fold.name}: chosen {choice}", flush=True)
    print("\n| image tower | top-1 of clips | mean over actors | each actor | trained numbers of the tower | seconds |")
    print("|---|---|---|---|---|---|")
    for name, parts in correct.items():
        actors = [float(part.mean()) for part in parts]
        cost = "|  |  |"
        if name in costs:
            numbers, seconds = np.mean(costs[name], axis=0)
            cost = f"| {numbers:,.0f} | {seconds:.0f} |"
        each = " ".join(f"{100 * value:.0f}" for value in actors)
        print(f"| {name} | {100 * np.concatenate(parts).mean():.1f} % | {100 * np.mean(actors):.1f} % | {each} {cost}")


if __name__ == "__main__":
    main()
