"""Consistency of samplers: do fewer denoising steps give the same motions as DDPM with 1000, on one checkpoint?

Usage: OMP_NUM_THREADS=2 python benchmarks/motiondiff_quality_steps.py STORE RUN [--seeds 3] [--per-action 10]
       [--ddpm-per-action 26] [--guidance 2.5] [--device cpu] [--batch-size 32] [--all] [--out FILE.json]

Rows: DDPM 1000, DPM-Solver++ 50 and 10; with ``--all`` also DDPM 50, DDIM 50, DPM-Solver++ 20, UniPC 10, and 10 steps
in bf16. Each makes ``per-action`` motions of every action from each seed (DDPM 1000 once, ``ddpm-per-action`` of each
action), compared with the store's held-out clips: KID by class on the features of networks cross-fitted over the
training people, accuracy of the independent classifier, slip and jitter; mean over seeds with a 95 % t-interval.
``seconds`` is denoising time for each motion, in batches of ``batch-size``.

``to_ddpm_1000`` compares a row with the first, the motions of all seeds together:

- ``kid_difference`` with its bootstrap interval over motions: consistent where 0 lies inside;
- ``hands_1-4hz``: movement of the hands, mean over actions of the median, as a ratio: consistent within 15 %; with the
  worst action, whose ratio has an interval in ``movement``.

Samplers of one trained denoiser that disagree show a fault of the denoiser or of the scheduler, not of the data. KID is
an estimate around a floor: ``real`` compares training people with held-out ones, person to person.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icube_common.evaluation import mean_interval
from icube_common.io.runs import describe_environment, write_json
from motiondiff.config import EvaluateOptions
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.comparison import joined, worst
from motiondiff.evaluation.distances import kid_difference
from motiondiff.evaluation.metrics import MotionEvaluator, mean_values
from motiondiff.evaluation.movement import movement_table
from motiondiff.evaluation.runner import fit_evaluators, real_clips
from motiondiff.pipelines.sampling import SampleOptions, generate, load_pipeline
from motiondiff.training.diffusion import check_same_data

# scheduler, steps, precision of the denoiser
ROWS = (("ddpm", 1000, "fp32"), ("dpmsolver++", 50, "fp32"), ("dpmsolver++", 10, "fp32"))
FURTHER = (
    ("ddpm", 50, "fp32"),
    ("ddim", 50, "fp32"),
    ("dpmsolver++", 20, "fp32"),
    ("unipc", 10, "fp32"),
    ("dpmsolver++", 10, "bf16"),
)
FIGURES = ("kid", "accuracy", "within_class_diversity", "slip", "jitter")
TOLERANCE = 0.15


def evaluate_row(
    evaluator: MotionEvaluator, run: str, scheduler: str, precision: str, sampling: list[SampleOptions]
) -> tuple[dict[str, Any], ClipSet]:
    """Metrics over seeds of one scheduler and seconds per motion; and the motions of all seeds."""
    pipeline = load_pipeline(run, scheduler)
    if precision == "bf16":
        pipeline.denoiser.to(torch.bfloat16)
    classes = tuple(evaluator.train.clips.class_names)
    rows, sets, seconds = [], [], 0.0
    for seed, options in enumerate(sampling):
        started = time.perf_counter()
        motions = list(generate(pipeline, options))
        seconds += time.perf_counter() - started
        sets.append(ClipSet.from_motions(motions, classes))
        rows.append(evaluator.generated(evaluator.describe(sets[-1]), seed))
    metrics = {name: mean_interval([row[name] for row in rows]).to_dict() for name in FIGURES}
    made = joined(sets)
    return {**metrics, "motions": len(made), "seconds": round(seconds / len(made), 4)}, made


def compare_with_first(evaluator: MotionEvaluator, made: ClipSet, first: ClipSet) -> dict[str, Any]:
    """KID difference and movement ratio of two sets of motions of one checkpoint."""
    sets = [evaluator.describe(clips) for clips in (made, first)]
    real = evaluator.held_out
    difference, low, high = kid_difference(
        sets[0].features,
        sets[1].features,
        real.features,
        (made.labels, first.labels, real.clips.labels),
    )
    table = movement_table(made, first)
    swing = {action: row["hands_1-4hz"] for action, row in table.items() if row["hands_1-4hz"]["ratio"] is not None}
    means = [np.mean([row[side] for row in swing.values()]) for side in ("generated", "reference")]
    ratio = float(means[0] / means[1])
    action, value = worst(table, "hands_1-4hz")
    return {
        "kid_difference": {"value": difference, "ci95": [low, high], "consistent": low <= 0 <= high},
        "hands_1-4hz": {
            "ratio": ratio,
            "consistent": abs(ratio - 1) <= TOLERANCE,
            "worst": {"action": action, "ratio": value},
        },
        "movement": swing,
    }


def run(store_path: str, run_path: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All rows."""
    store = MotionStore(store_path)
    check_same_data(run_path, store)
    options = EvaluateOptions(min_clips=arguments.min_clips)
    train, held_out = real_clips(store, options)
    [evaluator] = fit_evaluators(train, held_out, options)
    floor = mean_values(evaluator.floor(0))["kid"]
    result: dict[str, Any] = {"real": {"kid": floor, **evaluator.set_metrics(evaluator.held_out)}, "rows": []}
    first: ClipSet | None = None
    for scheduler, steps, precision in (*ROWS, *(FURTHER if arguments.all else ())):
        once = steps > 100
        sampling = [
            SampleOptions(
                actions=tuple(train.class_names),
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
        row: dict[str, Any] = {"scheduler": scheduler, "steps": steps, "precision": precision}
        figures, made = evaluate_row(evaluator, run_path, scheduler, precision, sampling)
        row |= figures
        if first is None:
            first = made
        else:
            row["to_ddpm_1000"] = compare_with_first(evaluator, made, first)
        result["rows"].append(row)
        print(json.dumps(_short(row)), flush=True)
    result["settings"] = {name: value for name, value in vars(arguments).items() if name not in ("store", "run", "out")}
    result["environment"] = describe_environment()
    if arguments.out:
        write_json(arguments.out, result)
    return result


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without its tables by action."""
    compared = {name: value for name, value in row.get("to_ddpm_1000", {}).items() if name != "movement"}
    return {**row, **({"to_ddpm_1000": compared} if compared else {})}


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
    parser.add_argument("--all", action="store_true", help="further samplers, and bf16")
    parser.add_argument("--out", type=Path, default=None)
    parsed = parser.parse_args()
    run(parsed.store, parsed.run, parsed)
