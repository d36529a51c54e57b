"""Logits of all methods on the CPU and on a second device, as JSON: ``python methods_job.py OUT``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from method_problems import NAMES, text_problem
from second_device import run_on_both

from icube_common.experiments.methods import all_methods, tune_and_fit
from icube_common.vlm import default_device, load_vlm


def logits(folder: Path) -> list[Any]:
    """Name and logits of each method, tuned over two settings on inner folds."""
    descriptions = {name: ["a thing", "another thing"] for name in NAMES}
    vlm = load_vlm("icube-tiny", device=default_device())
    problem = text_problem(vlm, rows=12, logit_scale=20.0, descriptions=descriptions)
    assert problem.joint is not None
    result = []
    for method in all_methods().values():
        if method.name == "randomised trees":  # runs on the CPU and takes its seconds
            continue
        if any(field.name == "max_steps" for field in dataclasses.fields(method)):  # type: ignore[arg-type]
            method = dataclasses.replace(method, max_steps=3)  # type: ignore[type-var]
        fitted = tune_and_fit(method, problem, budget=2, folds=2)
        scores = fitted.logits(problem.features, problem.joint)
        assert scores.device == problem.labels.device, method.name
        result.append([method.name, scores.cpu().double().tolist()])
    return result


if __name__ == "__main__":
    print(json.dumps(run_on_both(logits, Path(sys.argv[1]))))
