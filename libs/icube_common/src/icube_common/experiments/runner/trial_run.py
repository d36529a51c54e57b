"""One cell of a study: settings and a seed, run once into a folder, its figures kept in ``result.json``.

``result.json`` is written last and whole: a folder without one is a cell that was interrupted, and is run again.
"""

from __future__ import annotations

import inspect
import logging
import math
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from icube_common.data.processes import WORKER_DIED, run_each
from icube_common.errors import InputError, unknown
from icube_common.experiments.grid import folder_name
from icube_common.experiments.runner.study import plain
from icube_common.io.progress import progress_bar
from icube_common.io.runs import read_json, write_json

logger = logging.getLogger(__name__)

RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a run with more than its metrics.

    Attributes:
        metrics: name -> figure.
        predictions: the ``predictions.csv`` that the run wrote (see `icube_common.evaluation.predictions`). With it,
            variants are compared on the groups (subjects) that both have predicted, instead of over seeds.
    """

    metrics: Mapping[str, float]
    predictions: Path | None = None


# run(overrides, seed, folder): trains and evaluates once. The folder is there and empty, the name result.json in it is
# taken. A run that has a parameter `report` gets the callback report(step, value); outside a search it does nothing.
Run = Callable[..., Mapping[str, float] | Outcome]


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """Run of a study: `overrides` and `seed`, into `folder`; `metric` is one of its results."""

    name: str
    overrides: Mapping[str, Any]
    seed: int
    metric: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class TrialRunResult:
    """Result of a run, as in ``result.json``.

    Attributes:
        name: of the variant.
        overrides: as they were given to the run.
        seed: as it was given to the run.
        metrics: name -> figure; a figure that is not finite is None. Empty where the run failed.
        predictions: name of the file of predictions, inside the cell's folder.
        seconds: how long it ran.
        error: why it failed, in one line; None where it did not.
        trace: where it failed.
    """

    name: str
    overrides: Mapping[str, Any]
    seed: int
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    predictions: str | None = None
    seconds: float
    error: str | None = None
    trace: str | None = None


def ignore_report(step: int, value: float) -> None:
    """Report callback of a run without pruning."""


def trial_run_folder(study: Path, name: str, seed: int) -> Path:
    """Folder of a variant's run inside an ablation."""
    return study / "cells" / folder_name(name) / f"seed-{seed}"


def read_result(cell: TrialRun) -> TrialRunResult | None:
    """The result that a cell's folder holds; None where the cell has not been run to its end.

    Raises:
        InputError: the result is of other overrides or another seed, or cannot be read.
    """
    path = cell.folder / RESULT
    if not path.exists():
        return None
    saved = read_json(path)
    try:
        result = TrialRunResult(**saved)
    except TypeError as error:
        raise InputError(f"{path}: is no result of a cell ({error}); remove its folder to run it again") from error
    asked = plain({"overrides": cell.overrides, "seed": cell.seed})
    if {"overrides": result.overrides, "seed": result.seed} != asked:
        raise InputError(
            f"{path}: is a result of other settings ({result.overrides}, seed {result.seed}) than asked now "
            f"({asked['overrides']}, seed {cell.seed}); remove its folder to run it again, or take another --out"
        )
    if result.error is None and cell.metric not in result.metrics:
        raise InputError(f"{path}: {unknown('metric', cell.metric, result.metrics)}")
    return result


def execute_trial_run(
    run: Run,
    cell: TrialRun,
    *,
    report: Callable[[int, float], None] = ignore_report,
    let_pass: tuple[type[Exception], ...] = (),
) -> TrialRunResult:
    """Run a cell in an emptied folder and keep its result; an error of the run becomes part of the result.

    Args:
        run: the library's function.
        cell: what to run.
        report: passed on to a run that takes it.
        let_pass: exceptions that are no failure and not recorded.

    Returns:
        The result, as ``result.json`` holds it now.
    """
    if cell.folder.exists():
        shutil.rmtree(cell.folder)
    cell.folder.mkdir(parents=True)
    start = time.monotonic()
    identity = {"name": cell.name, "overrides": plain(cell.overrides), "seed": cell.seed}
    extra = {"report": report} if "report" in inspect.signature(run).parameters else {}
    try:
        outcome = run(dict(cell.overrides), cell.seed, cell.folder, **extra)
        matches = _checked(outcome, cell)
    except let_pass:
        raise
    except Exception as error:
        result = TrialRunResult(
            **identity,
            seconds=round(time.monotonic() - start, 3),
            error=" ".join(f"{'' if isinstance(error, InputError) else type(error).__name__ + ': '}{error}".split()),
            trace=traceback.format_exc(),
        )
    else:
        result = TrialRunResult(**identity, **matches, seconds=round(time.monotonic() - start, 3))
    write_json(cell.folder / RESULT, asdict(result))
    return result


def fail_trial_run(cell: TrialRun, error: str) -> TrialRunResult:
    """Keep an error as the result of a cell that could not record its own end."""
    identity = {"name": cell.name, "overrides": plain(cell.overrides), "seed": cell.seed}
    result = TrialRunResult(**identity, seconds=0.0, error=error)
    cell.folder.mkdir(parents=True, exist_ok=True)
    write_json(cell.folder / RESULT, asdict(result))
    return result


def run_cells(
    run: Run, cells: Sequence[TrialRun], executor: Executor | None, workers: int | None
) -> Iterator[tuple[tuple[str, int], TrialRunResult]]:
    """Run cells wherever they run; (name, seed) and result of each as it comes.

    A cell whose worker process was killed is run once more, and is a failed one after the second time.
    """
    by_key = {(cell.name, cell.seed): cell for cell in cells}
    calls = ((key, (run, cell)) for key, cell in by_key.items())
    return run_each(
        execute_trial_run, calls, executor, workers, lost=lambda key: fail_trial_run(by_key[key], WORKER_DIED)
    )


def run_missing_cells(
    run: Run,
    cells: Sequence[TrialRun],
    executor: Executor | None,
    workers: int | None,
    *,
    retry_failed: bool = False,
    strict: bool = False,
    what: str | None = None,
) -> dict[tuple[str, int], TrialRunResult]:
    """Results of cells by (name, seed), in their order: those that are there are read, the others run.

    Args:
        run: what a cell runs.
        cells: the cells.
        executor: where they run; by default in this process.
        workers: how many at the same time; by default as many as the executor has.
        retry_failed: run cells again that failed.
        strict: raise the first failure.
        what: name of the progress bar.

    Raises:
        InputError: fewer than one worker; with ``strict`` a cell that failed.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: must be at least 1")
    results: dict[tuple[str, int], TrialRunResult] = {}
    todo: list[TrialRun] = []
    for cell in cells:
        earlier = read_result(cell)
        if earlier is None or (retry_failed and earlier.error is not None):
            todo.append(cell)
        else:
            results[cell.name, cell.seed] = earlier
    if results:
        logger.info("%d cells are there already, %d to run", len(results), len(todo))
    for result in results.values():
        _raise_failure(result, strict)
    for key, result in progress_bar(run_cells(run, todo, executor, workers), total=len(todo), desc=what, unit="cell"):
        results[key] = result
        if result.error is not None:
            logger.warning("%s, seed %d: failed: %s", result.name, result.seed, result.error)
        _raise_failure(result, strict)
    return {(cell.name, cell.seed): results[cell.name, cell.seed] for cell in cells}


def _raise_failure(result: TrialRunResult, strict: bool) -> None:
    if strict and result.error is not None:
        raise InputError(f"{result.name}, seed {result.seed}: {result.error}")


def _checked(outcome: Mapping[str, float] | Outcome, cell: TrialRun) -> dict[str, Any]:
    """The fields of a result; InputError where the study's metric is missing or not finite."""
    if not isinstance(outcome, Outcome):
        outcome = Outcome(metrics=outcome)
    metrics = {str(name): float(value) for name, value in outcome.metrics.items()}
    if cell.metric not in metrics:
        raise unknown("metric", cell.metric, metrics)
    if not math.isfinite(metrics[cell.metric]):
        raise InputError(f"{cell.metric} came out as {metrics[cell.metric]}")
    predictions = None
    if outcome.predictions is not None:
        path = Path(outcome.predictions)
        path = path if path.is_absolute() else cell.folder / path
        if not path.is_file() or cell.folder.resolve() not in path.resolve().parents:
            raise InputError(f"{path}: the predictions of a cell must lie in its folder {cell.folder}")
        predictions = str(path.resolve().relative_to(cell.folder.resolve()))
    finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    return {"metrics": finite, "predictions": predictions}
