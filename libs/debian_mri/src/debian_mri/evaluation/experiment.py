"""One cell of an ablation or a search: an evaluation under some settings and a seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from debian_mri.config import MriConfig
from debian_mri.evaluation.protocols import ProtocolOptions
from debian_mri.evaluation.runner import evaluate
from icube_common.experiments import Outcome, trial_config


def run_trial(
    overrides: Mapping[str, Any],
    seed: int,
    folder: Path,
    *,
    data: str,
    protocol: str = "group-kfold",
    folds: int = 5,
    repeats: int = 1,
    features: str | None = None,
) -> Outcome:
    """Evaluate once; the figures are over the test scans, the predictions serve paired tests over people.

    Args:
        overrides: configuration keys.
        seed: of the training, of random prompts, and of the draw of folds: each seed has folds of its own, the same
            for all settings.
        folder: of the cell.
        data: a prepared set.
        protocol: as `debian_mri.evaluation.runner.evaluate` takes it.
        folds: of group-kfold.
        repeats: of group-kfold.
        features: folder of slice features.
    """
    config = trial_config(MriConfig, overrides, seed)
    options = ProtocolOptions(folds=folds, repeats=repeats, seed=seed)
    out = Path(folder) / "evaluation"
    result = evaluate(data, config, out, protocol=protocol, options=options, features=features).to_dict()
    figures = {
        name: metric["mean"] for name, metric in result.items() if isinstance(metric, Mapping) and "mean" in metric
    }
    trainings = max(len(list(out.glob("folds/*/seconds.json"))), 1)
    return Outcome(
        metrics={**figures, "seconds_per_fold": result["training_seconds"] / trainings},
        predictions=out / "predictions.csv",
    )
