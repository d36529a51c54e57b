"""Quality and time of fewer denoising steps and of bf16, on one checkpoint.

Usage: OMP_NUM_THREADS=2 python benchmarks/motiondiff_quality_steps.py STORE RUN [--seeds 3] [--per-action 10]
       [--ddpm-per-action 26] [--guidance 2.5] [--device cpu] [--batch-size 32] [--out FILE.json]

Each row makes ``per-action`` motions of every action from each seed and compares them with the store's held-out clips:
KID by class on the features of one GRU classifier that was trained on the run's training split (so are all figures of
`motiondiff evaluate`), accuracy, foot skate and jitter; mean over seeds with a 95 % t-interval of the mean. DDPM with
1000 steps is made once, ``ddpm-per-action`` motions of each action: its figures have no interval. ``seconds`` is
denoising time for each motion, in batches of ``batch-size``. ``kid_over_ddpm_1000`` is what 10 steps are to keep below
1.1. With ``bf16`` the denoiser's weights and activations are bfloat16; the scheduler stays in float32.

KID is an estimate around a floor: ``real`` compares the training clips with the held-out ones.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from icube_common.evaluation import mean_interval
from icube_common.io.runs import write_json
from motiondiff.config import EvaluateOptions
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.metrics import MotionEvaluator
from motiondiff.evaluation.runner import real_clips, sample_balanced_set
from motiondiff.pipelines.sampling import SampleOptions, load_pipeline
from motiondiff.recognition import fit_classifier
from motiondiff.training.diffusion import check_same_data

# scheduler, steps, precision of the denoiser
ROWS = (
    ("ddpm", 1000, "fp32"),
    ("ddpm", 50, "fp32"),
    ("ddim", 50, "fp32"),
    ("dpmsolver++", 20, "fp32"),
    ("dpmsolver++", 10, "fp32"),
    ("unipc", 10, "fp32"),
    ("dpmsolver++", 10, "bf16"),
)
FIGURES = ("kid", "accuracy", "within_class_diversity", "foot_skate", "jitter")


def evaluate_row(
    evaluator: MotionEvaluator, run: str, scheduler: str, precision: str, sampling: list[SampleOptions]
) -> dict[str, Any]:
    """Metrics over seeds of one scheduler, and seconds per motion."""
    pipeline = load_pipeline(run, scheduler)
    if precision == "bf16":
        pipeline.denoiser.to(torch.bfloat16)
    classes = tuple(evaluator.train.clips.class_names)
    rows, seconds, count = [], 0.0, 0
    for seed, options in enumerate(sampling):
        started = time.perf_counter()
        motions = sample_balanced_set(pipeline, classes, options)
        seconds += time.perf_counter() - started
        count += len(motions)
        rows.append(evaluator.generated(evaluator.describe(ClipSet.from_motions(motions, classes)), seed))
    metrics = {name: mean_interval([row[name] for row in rows]).to_dict() for name in FIGURES}
    return {**metrics, "motions": count, "seconds": round(seconds / count, 4)}


def run(store_path: str, run_path: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All rows."""
    store = MotionStore(store_path)
    check_same_data(run_path, store)
    options = EvaluateOptions(min_clips=arguments.min_clips)
    train, held_out = real_clips(store, options)
    evaluator = MotionEvaluator(train, held_out, fit_classifier(train, options.classifier, options.evaluator_seed))
    floor = evaluator.distribution_metrics(evaluator.train, 0)["kid"]
    result: dict[str, Any] = {"real": {"kid": floor, **evaluator.set_metrics(evaluator.held_out)}, "rows": []}
    for scheduler, steps, precision in ROWS:
        once = steps > 100
        sampling = [
            SampleOptions(
                count=arguments.ddpm_per_action if once else arguments.per_action,
                steps=steps,
                scheduler=scheduler,
                guidance=arguments.guidance,
                seed=seed,
                batch_size=arguments.batch_size,
                device=arguments.device,
            )
            for seed in range(1 if once else arguments.seeds)
        ]
        row = {"scheduler": scheduler, "steps": steps, "precision": precision}
        row |= evaluate_row(evaluator, run_path, scheduler, precision, sampling)
        reference = result["rows"][0]["kid"]["mean"] if result["rows"] else row["kid"]["mean"]
        row["kid_over_ddpm_1000"] = row["kid"]["mean"] / reference
        result["rows"].append(row)
        print(json.dumps(row), flush=True)
    result["settings"] = {name: value for name, value in vars(arguments).items() if name not in ("store", "run", "out")}
    if arguments.out:
        write_json(arguments.out, result)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--per-action", type=int, default=10)
    parser.add_argument("--ddpm-per-action", type=int, default=26)
    parser.add_argument("--guidance", type=float, default=2.5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--min-clips", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None)
    parsed = parser.parse_args()
    run(parsed.store, parsed.run, parsed)
