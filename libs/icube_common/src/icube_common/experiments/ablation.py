"""An ablation: every variant with every seed, then one table with intervals and paired tests, and one plot."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from icube_common.data.processes import take_shard
from icube_common.errors import InputError
from icube_common.experiments.grid import Grid
from icube_common.experiments.results.pages import write_ablation
from icube_common.experiments.results.summary import StudyResult, summarise
from icube_common.experiments.runner.study import open_study
from icube_common.experiments.runner.trial_run import (
    RESULT,
    Run,
    TrialRun,
    run_missing_cells,
    trial_run_folder,
)

logger = logging.getLogger(__name__)


def ablate(
    run: Run,
    grid: Grid,
    out: str | Path,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    resume: bool = True,
    retry_failed: bool = False,
    strict: bool = False,
    overwrite: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> StudyResult:
    """Run every variant of a grid with every seed, and write the study's table, plot and page.

    A cell that is finished is not run again: its ``result.json`` is read. One that was interrupted is run again from
    an empty folder. One that failed keeps its error and does not stop the others. Seeds and variants may be added to
    the grid of a study that is there.

    Args:
        run: ``run(overrides, seed, folder)`` trains and evaluates once, into the folder, which is there and empty; it
            returns ``{metric: figure}`` or an `Outcome`. For processes it has to be importable (no lambda). A
            parameter ``report``, which `tune` uses, gets a callback that does nothing.
        grid: what is varied; `Grid.load` reads a ``grid.yaml``::

                base: {train.max_steps: 2000}
                grid: {prompt.num_context: [4, 16], prompt.initialise: [random, descriptions]}
                variants: [{name: no-numbers, tabular.use: false}]
                seeds: [0, 1, 2]
                metric: top1
                baseline: num_context=4,initialise=random
                primary: no-numbers

        out: the study's folder.
        executor: where the cells run, one call each; by default in this process.
        workers: how many cells run at the same time; by default as many as the executor has.
        resume: continue an existing study; False refuses one.
        retry_failed: run cells again that failed.
        strict: raise the first failure instead of recording it and going on.
        overwrite: delete the study that is there and start afresh.
        facts: what else the results depend on (the data and its fingerprint); has to be the same on resume.

    Returns:
        Intervals and differences of every variant; the same is in the folder.

    Raises:
        InputError: the folder holds something else, another study, or results of other settings; another process is
            at work there; a cell failed and ``strict`` is set, or every cell failed.
    """
    fixed = _fixed(grid, facts)
    with open_study(
        out, kind="ablation", fixed=fixed, free=grid.to_dict(), resume=resume, overwrite=overwrite
    ) as folder:
        cells = list(_cells(grid, folder.absolute()))
        results = run_missing_cells(run, cells, executor, workers, retry_failed=retry_failed, strict=strict)
        if hidden := [cell.folder / RESULT for cell in cells if not (cell.folder / RESULT).exists()]:
            raise InputError(f"{hidden[0]}: is not here: the workers write to a disk that this machine does not see")
        if all(result.error is not None for result in results.values()):
            first = next(iter(results.values()))
            raise InputError(
                f"{folder}: all {len(results)} cells failed, {first.name}, seed {first.seed}: {first.error}"
            )
        study = summarise(grid, folder, results)
        write_ablation(study)
    return study


def ablate_shard(
    run: Run,
    grid: Grid,
    out: str | Path,
    shard: tuple[int, int],
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    strict: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run a part of the cells of `ablate`; several parts may run at once, on machines that share the folder.

    `ablate` on the same folder joins them: it reads their results and runs what is missing.

    Args:
        run: as for `ablate`, and so are the other arguments.
        grid: what is varied.
        out: the study's folder.
        shard: ``(i, n)``: only each n-th cell, from the i-th on (from 0).
        executor: where the cells run.
        workers: how many cells run at the same time.
        retry_failed: run cells again that failed.
        strict: raise the first failure.
        facts: what else the results depend on.

    Returns:
        The study's folder, and the numbers of cells run, read and failed.

    Raises:
        InputError: no such shard, or as `ablate`.
    """
    take_shard((), shard)
    with open_study(
        out, kind="ablation", fixed=_fixed(grid, facts), free=grid.to_dict(), resume=True, overwrite=False, shard=shard
    ) as folder:
        cells = take_shard(_cells(grid, folder.absolute()), shard)
        results = run_missing_cells(run, cells, executor, workers, retry_failed=retry_failed, strict=strict)
    failed = sum(result.error is not None for result in results.values())
    return {"study": str(folder), "shard": f"{shard[0]}/{shard[1]}", "cells": len(cells), "failed": failed}


def _fixed(grid: Grid, facts: Mapping[str, Any] | None) -> dict[str, Any]:
    # a primary comparison is named before its result is there
    return {"facts": dict(facts or {}), "primary": grid.primary or None}


def _cells(grid: Grid, folder: Path) -> Iterator[TrialRun]:
    """Seed by seed, so that a study that is stopped early has every variant."""
    for seed in grid.seeds:
        for variant in grid.variants:
            yield TrialRun(
                name=variant.name,
                overrides=grid.overrides(variant),
                seed=seed,
                metric=grid.metric,
                folder=trial_run_folder(folder, variant.name, seed),
            )
