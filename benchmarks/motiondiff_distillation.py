"""Distillation: quality and time of a distilled run in 1, 2 and 4 steps, beside its teacher in 20.

    OMP_NUM_THREADS=1 python benchmarks/motiondiff_distillation.py STORE TEACHER STUDENT [--seeds 5] [--per-action 10]

Each row makes ``per-action`` motions of every action from each seed: KID by class against the held-out clips on the
features of one GRU classifier trained on the run's training split, accuracy, within-class diversity, foot skate and
jitter, as `motiondiff evaluate` does; mean over seeds with a 95 % t-interval of the mean. The teacher samples with
DPM-Solver++ in 20 steps with guidance 2.5; also in 4 steps, which is what distillation has to beat. ``seconds`` is
denoising time for each motion in batches of 32; ``kid_over_teacher`` and ``faster`` are against the first row.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from motiondiff_quality_steps import evaluate_row

from icube_common.io.runs import describe_environment, write_json
from motiondiff.config import EvaluateOptions
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.metrics import mean_values
from motiondiff.evaluation.runner import fit_evaluators, real_clips
from motiondiff.pipelines.sampling import SampleOptions
from motiondiff.training.diffusion import check_same_data

# whose, scheduler, steps, guidance
ROWS = (
    ("teacher", "dpmsolver++", 20, 2.5),
    ("teacher", "dpmsolver++", 4, 2.5),
    ("student", "lcm", 4, 1.0),
    ("student", "lcm", 2, 1.0),
    ("student", "lcm", 1, 1.0),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("teacher")
    parser.add_argument("student")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--per-action", type=int, default=10)
    parser.add_argument("--min-clips", type=int)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = MotionStore(arguments.store)
    for run in (arguments.teacher, arguments.student):
        check_same_data(run, store)
    options = EvaluateOptions(min_clips=arguments.min_clips, split=arguments.split)
    train, held_out = real_clips(store, options)
    [evaluator] = fit_evaluators(train, held_out, options)
    real = {
        "kid": mean_values(evaluator.floor(0))["kid"],
        **evaluator.set_metrics(evaluator.held_out),
    }
    result: dict[str, Any] = {"real": real, "rows": [], "environment": describe_environment()}
    for whose, scheduler, steps, guidance in ROWS:
        sampling = [
            SampleOptions(count=arguments.per_action, steps=steps, scheduler=scheduler, guidance=guidance, seed=seed)
            for seed in range(arguments.seeds)
        ]
        run = arguments.teacher if whose == "teacher" else arguments.student
        row = {"run": whose, "scheduler": scheduler, "steps": steps, "guidance": guidance}
        row |= evaluate_row(evaluator, run, scheduler, "fp32", sampling)[0]
        first = result["rows"][0] if result["rows"] else row
        row["kid_over_teacher"] = row["kid"]["mean"] / first["kid"]["mean"]
        row["faster"] = first["seconds"] / row["seconds"]
        result["rows"].append(row)
        print(json.dumps(row), flush=True)
    result["settings"] = {
        name: value for name, value in vars(arguments).items() if name in ("seeds", "per_action", "min_clips", "split")
    }
    print(json.dumps({"real": real}))
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
