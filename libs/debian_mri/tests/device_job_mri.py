"""Commands of debian_mri whose figures `device_checks.run_device_job` compares between devices."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import device_checks
from device_checks import device_job
from model_world import FAST, write_slices

from debian_mri.cli import main

call = functools.partial(device_checks.call, main)


def commands(place: Path, overrides: list[str]) -> list[Any]:
    """Train, predict a scan of the set, an image and all scans, evaluate the run, evaluate with comparisons."""
    data, features, run = place.parent / "data", ["--features", place / "features"], place / "run"
    settings = [word for word in FAST if not word.startswith("train.device")] + overrides
    trained = call("train", "--data", data, "--out", run, "--exclude-subjects", "p00,p01", *features, *settings)
    one = call("predict", run, "--data", data, "--id", "scan01")
    image = call("predict", run, data / "images" / "01.png", "--planes", "coronal")
    call("predict", run, "--data", data, "--out", place / "all")
    every = json.loads((place / "all" / "predictions.json").read_text())["scans"]
    people = ["--subjects", "p00,p01", "--comparisons", "none"]
    judged = call("evaluate", run, "--data", data, "--out", place / "judged", *people, *features)
    folds = ["--folds", "2", "--repeats", "1", "--comparisons", "zero-shot,coop,slice-mean"]
    retrained = call("evaluate", "--data", data, "--out", place / "folds", *folds, *features, *settings)
    return [
        trained["last"]["loss"],
        trained["temperature"],
        one["probabilities"],
        [part["contributions"] for part in one["explanation"]["slices"]],
        image["probabilities"],
        [row["probability_AD"] for row in every],
        judged["auc"]["mean"],
        retrained["auc"]["mean"],
        [found["auc"]["mean"] for found in retrained["comparisons"].values()],
    ]


if __name__ == "__main__":
    device_job(commands, lambda out: write_slices(out / "data", count=16))
