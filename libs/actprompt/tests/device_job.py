"""Commands of actprompt whose figures `device_checks.run_device_job` compares between devices."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import device_checks
from act_world import write_knowledge, write_set
from device_checks import device_job

from actprompt.cli import main

call = functools.partial(device_checks.call, main)


def commands(place: Path, overrides: list[str]) -> list[Any]:
    """Extract, train, predict, evaluate a run, evaluate by a protocol, zero-shot, score sentences."""
    data, features = place.parent / "data", ["--features", place / "features"]
    base = ["vlm.name=icube-tiny", "video.frames=2"]
    texts = place.parent / "knowledge.yaml"
    training = [*base, f"knowledge={texts}", "train.max_steps=2", "train.batch_size=4", "train.report_to=none"]
    call("extract", "--data", data, "--out", place / "features", *base)
    trained = call(
        "train", "--data", data, "--out", place / "run", "--exclude-subjects", "p1", *features, *training, *overrides
    )
    clip = data / "videos" / "p1-bow-0.avi"
    predicted = call("predict", place / "run", clip, "--data", data)
    judged = call("evaluate", place / "run", "--data", data, "--out", place / "judged", "--subjects", "p1", *features)
    new = ["--protocol", "base-to-new", "--draws", "1"]
    retrained = call("evaluate", "--data", data, "--out", place / "new", *new, *features, *training, *overrides)
    untrained = call("zeroshot", "--data", data, "--out", place / "zeroshot", *base)
    scored = call("knowledge", "score", texts, "--vlm", "icube-tiny")
    return [
        trained["last"]["loss"],
        [row["probability"] for row in predicted["top"]],
        [row["margin"] for kind in ("shares", "captions", "numbers") for row in predicted["reasons"][kind]],
        [row["importance"] or 0.0 for row in predicted["reasons"]["frames"]],
        judged["ece"]["mean"],
        retrained["ece"]["mean"],
        untrained["top1"]["mean"],
        [row["margin"] for row in scored["scores"]],
    ]


def prepare(out: Path) -> None:
    """The set and its class descriptions."""
    write_set(out / "data")
    write_knowledge(out / "knowledge.yaml")


if __name__ == "__main__":
    device_job(commands, prepare)
