"""Runs with a known answer for the tests of studies: top1 = 1 - (x - 0.3)^2 + seed / 100, highest at x = 0.3.

As a program it is the search that the kill test kills: ``python experiment_job.py OUT LOG TRIALS WORKERS SECONDS``.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from icube_common.data.processes import open_executor
from icube_common.experiments import Search

SPACE = {
    "space": {
        "x": {"type": "float", "low": 0.0, "high": 1.0},
        "kind": {"type": "categorical", "choices": ["a", "b"]},
    },
    "metric": "top1",
    "direction": "maximize",
    "trials": 6,
    "seeds": [0],
}


def ignore(step: int, value: float) -> None:
    """Takes a report and does nothing."""


def quadratic(overrides: Mapping[str, Any], seed: int, folder: Path) -> dict[str, float]:
    """The known answer; ``fail`` raises."""
    if overrides.get("fail"):
        raise RuntimeError(f"told to fail with {overrides['fail']}")
    (folder / "model.txt").write_text(f"x = {overrides['x']}")
    return {"top1": 1 - (overrides["x"] - 0.3) ** 2 + seed / 100, "loss": overrides["x"] + seed}


def logged(
    overrides: Mapping[str, Any],
    seed: int,
    folder: Path,
    report: Callable[[int, float], None] = ignore,
    *,
    log: Path,
    seconds: float = 0.0,
) -> dict[str, float]:
    """The same, with a line in ``log`` when it begins and when it ends, and ``seconds`` of work in between."""
    _write(log, f"begin {overrides['x']!r} {os.getpid()}")
    assert list(folder.iterdir()) == []
    (folder / "partial.txt").write_text("half")
    time.sleep(seconds)
    metrics = quadratic(overrides, seed, folder)
    _write(log, f"end {overrides['x']!r} {os.getpid()}")
    return metrics


def _write(log: Path, line: str) -> None:
    """One line in one write, which several processes may do at the same time."""
    with log.open("a") as handle:
        handle.write(line + "\n")


def main(out: str, log: str, trials: str, workers: str, seconds: str) -> None:
    from icube_common.experiments.tuning import tune

    run = functools.partial(logged, log=Path(log), seconds=float(seconds))
    search = Search.from_mapping(SPACE)
    with open_executor(int(workers)) as (executor, count):
        tune(run, search, out, trials=int(trials), executor=executor, workers=count)


if __name__ == "__main__":
    main(*sys.argv[1:])
