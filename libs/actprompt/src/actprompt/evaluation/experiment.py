"""Trial of an ablation or a search: an evaluation under some settings and a seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actprompt.config import ActConfig
from actprompt.evaluation.runner import evaluate
from icube_common.experiments import Outcome, trial_config
from icube_common.io.runs import read_json


def run_trial(overrides: Mapping[str, Any], seed: int, folder: Path, **options: Any) -> Outcome:
    """Evaluate once: metrics are means over the test clips, predictions serve paired tests over subjects.

    Args:
        overrides: configuration keys.
        seed: of the training and of random prompts.
        folder: of the trial.
        options: ``data`` and other arguments of `actprompt.evaluate`.
    """
    out = Path(folder) / "evaluation"
    result = evaluate(config=trial_config(ActConfig, overrides, seed), out=out, **options)
    seconds = [read_json(path)["training_seconds"] for path in out.glob("folds/*/environment.json")]
    return Outcome(
        metrics={
            **{name: interval.mean for name, interval in result.metrics.items()},
            "training_seconds_per_fold": sum(seconds) / max(len(seconds), 1),
        },
        predictions=out / "predictions.csv",
    )
