"""Calibration of actprompt on Florence 3D, from poses alone, each actor left out in turn.

Temperature and threshold of a fold come from inner folds of its training actors (`calibrate=true`). Printed: the
expected calibration error (15 bins) and negative log-likelihood of the left-out actors' clips before and after the
temperature, and the shares of correct and of wrong predictions that the threshold accepts.

    actprompt prepare --format florence3d FLORENCE --out DATA && actprompt pose --data DATA
    OMP_NUM_THREADS=1 python benchmarks/actprompt_calibration.py DATA train.max_steps=5
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from actprompt.config import ActConfig
from actprompt.data.manifest import Manifest
from actprompt.evaluation.protocols import ProtocolOptions, plain_folds
from actprompt.evaluation.runner import EvaluationContext
from actprompt.training.calibration import train_calibrated
from actprompt.training.trainer import predict_logits, visible_inputs
from icube_common.config import load_config
from icube_common.evaluation.metrics import find_metric
from icube_common.io.runs import RunFolder

SETTINGS = (
    "vlm.name=icube-minilm",
    "visual.enabled=false",
    "skeleton.enabled=true",
    "skeleton.source=pose",
    "skeleton.num_time_warps=4",
    "prompt.init=descriptions",
    "train.max_steps=15",
    "train.learning_rate=5e-4",
    "train.device=cpu",
    "calibrate=true",
)


def main() -> None:
    """Train and evaluate each fold, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("data", type=Path, help="prepared folder with poses")
    parser.add_argument("settings", nargs="*", help="settings key=value")
    args = parser.parse_args()
    config = load_config(ActConfig, overrides=[*SETTINGS, *args.settings])
    manifest = Manifest.load(args.data)
    columns: dict[str, list[np.ndarray]] = {"before": [], "after": [], "labels": [], "accepted": []}
    with tempfile.TemporaryDirectory() as name:
        context = EvaluationContext.load(manifest, config, Path(name), features=None, head=None)
        for fold in plain_folds(manifest, context.samples, config, "leave-one-subject-out", ProtocolOptions()):
            run = RunFolder.create(Path(name) / str(fold.number), config_yaml="", environment={})
            model = train_calibrated(context.inputs, fold, config, context.vlm, context.texts, run).model
            tensors = model.clip_tensors(fold.test_ids, visible_inputs(context.inputs, fold.test_inputs))
            logits = predict_logits(model, tensors)
            after = (logits / model.calibration.temperature).softmax(-1).numpy()
            assert model.rejection is not None
            columns["before"].append(logits.softmax(-1).numpy())
            columns["after"].append(after)
            columns["labels"].append(context.samples.labels[fold.test])
            columns["accepted"].append(after.max(axis=1) >= model.rejection.threshold)
    before, after, labels, accepted = (np.concatenate(values) for values in columns.values())
    correct = after.argmax(axis=1) == labels
    groups = np.arange(len(labels))
    error = find_metric("ece")
    result = {
        "clips": len(labels),
        "top1": float(correct.mean()),
        "ece": [error(labels, values) for values in (before, after)],
        "nll": [float(-np.log(values[groups, labels]).mean()) for values in (before, after)],
        "accepted_correct": float(accepted[correct].mean()),
        "accepted_wrong": float(accepted[~correct].mean()),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
