"""``motiondiff augmentation-study``: does generated motion help recognition, and at which amount of real data?

For each share of the real training clips and each generator one *source* cell trains the generator on that share alone
and makes a filtered set with it; then each *row* (share, training set) is learnt by classifiers with several seeds and
tested on held-out subjects. Both kinds of cells are `icube_common.experiments` cells: finished ones are not run again.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from icube_common.config import config_to_dict, config_to_yaml
from icube_common.data.processes import take_shard
from icube_common.errors import InputError
from icube_common.evaluation.metrics import find_metric
from icube_common.experiments.runner.study import open_study
from icube_common.experiments.runner.trial_run import (
    Outcome,
    Run,
    TrialRun,
    TrialRunResult,
    read_result,
    run_cells,
    trial_run_folder,
)
from motiondiff.augmentation.config import StudyConfig
from motiondiff.augmentation.experiment import finished_run
from motiondiff.augmentation.study_arms import METRIC, REAL, SYNTHETIC, source_name, study_arms
from motiondiff.augmentation.subsets import check_distinct_subsets, sample_subset, split_real_and_test, write_subset
from motiondiff.augmentation.summary import StudySummary, summarise, write_report
from motiondiff.config import MotionDiffConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.recognition.train_and_test import classifier_predictions
from motiondiff.recognition.training import fit_classifier
from motiondiff.results import Results

logger = logging.getLogger(__name__)

GENERATOR = "generator"


def augmentation_study(
    data: str | Path,
    out: str | Path,
    config: StudyConfig | None = None,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    overwrite: bool = False,
) -> StudySummary:
    """Run or resume a study, and write ``table.*``, ``plot.*``, ``predictions.csv`` of every cell, ``report.html``.

    The generator, the filter and all statistics of a row are made from a store that holds exactly the row's share of
    the real training clips; the classifier of a row reads those clips, what the generator made, and the held-out
    subjects' clips to be tested on.

    Args:
        data: the store; its test split, or ``config.test_subjects``, is held out.
        out: the study's folder; an existing study is resumed.
        config: fractions, seeds, generators, filter.
        executor: where cells run; by default in this process.
        workers: how many cells run at the same time; by default as many as the executor has.
        retry_failed: run cells again that failed.
        overwrite: delete the study that is there and start afresh.

    Raises:
        InputError: a bad store or split (`split_real_and_test`), fractions that draw the same clips
            (`check_distinct_subsets`), another study in the folder, or no cell that could be run.
    """
    config = config or StudyConfig()
    store = MotionStore(data)
    real, test = split_real_and_test(store, config.test_subjects)
    with open_study(out, **_identity(store, real, config), resume=True, overwrite=overwrite) as folder:
        made, results = _run_study(folder.absolute(), data, config, executor, workers, retry_failed, (0, 1))
        if all(result.error is not None for result in results.values()):
            first = next(iter(results.values()))
            raise InputError(f"{folder}: all {len(results)} classifiers failed, {first.name}: {first.error}")
        summary = summarise(folder, store, config, study_arms(config), made, results, test_subjects=_names(store, test))
        write_report(summary)
    logger.info("%s: %d real clips in the pool, %d test clips", folder, len(real), len(test))
    return summary


def augmentation_study_shard(
    data: str | Path,
    out: str | Path,
    shard: tuple[int, int],
    config: StudyConfig | None = None,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
) -> Results:
    """Run a part of `augmentation_study`: some of its generators, and the classifiers that need no other.

    Several parts may run at once, on machines that share the folder; `augmentation_study` on the same folder joins
    them and runs what is missing.

    Args:
        data: as for `augmentation_study`, and so are the other arguments.
        out: the study's folder.
        shard: ``(i, n)``: only each n-th generator, from the i-th on (from 0).
        config: fractions, seeds, generators, filter.
        executor: where cells run.
        workers: how many cells run at the same time.
        retry_failed: run cells again that failed.

    Raises:
        InputError: no such shard, or as `augmentation_study`.
    """
    take_shard((), shard)
    config = config or StudyConfig()
    store = MotionStore(data)
    real, _ = split_real_and_test(store, config.test_subjects)
    with open_study(out, **_identity(store, real, config), resume=True, overwrite=False, shard=shard) as folder:
        made, results = _run_study(folder.absolute(), data, config, executor, workers, retry_failed, shard)
    failed = sum(result.error is not None for result in (*made.values(), *results.values()))
    return Results(study=str(out), shard=f"{shard[0]}/{shard[1]}", cells=len(made) + len(results), failed=failed)


def _identity(store: MotionStore, real: np.ndarray, config: StudyConfig) -> dict[str, Any]:
    """Kind and settings of a study for `open_study`, checked."""
    check_distinct_subsets(store, real, config.fractions, config.subset_seed)
    return {
        "kind": "augmentation",
        "fixed": {"data": store.fingerprint, "config": _asked(config)},
        "free": {"seeds": config.seeds, "fractions": config.fractions, "methods": config.methods},
    }


Trials = dict[tuple[str, int], TrialRunResult]


def _run_study(
    folder: Path,
    data: str | Path,
    config: StudyConfig,
    executor: Executor | None,
    workers: int | None,
    retry_failed: bool,
    shard: tuple[int, int],
) -> tuple[Trials, Trials]:
    """Results of a shard's generators, and of its classifiers."""
    bind: dict[str, Any] = {"data": str(Path(data).absolute()), "config": config}
    every = [
        _cell(folder, source_name(fraction, method), {"fraction": fraction, "method": method}, 0, "passed")
        for fraction in config.fractions
        for method in config.methods
    ]
    sources = take_shard(every, shard)
    made = _run_all(functools.partial(run_source, **bind), sources, executor, workers, retry_failed, "generators")
    usable = {name for (name, _), result in made.items() if result.error is None}
    arms = study_arms(config)
    # those without a generator of their own are shared out
    without = take_shard([arm.name for arm in arms if not arm.method], shard)
    cells = [
        _cell(folder, row.name, row.settings(), seed, METRIC)
        for seed in range(config.seeds)  # seed by seed: a study that is stopped early has every row
        for row in arms
        if (source_name(row.fraction, row.method) in usable if row.method else row.name in without)
    ]
    run_row = functools.partial(run_arm, study=str(folder), **bind)
    return made, _run_all(run_row, cells, executor, workers, retry_failed, "classifiers")


def run_source(overrides: Mapping[str, Any], seed: int, folder: Path, *, data: str, config: StudyConfig) -> Outcome:
    """Train a generator on a share of the real clips and make its filtered set.

    Args:
        overrides: ``fraction`` and ``method``.
        seed: not used: one generator serves all classifier seeds.
        folder: ``real`` (the share as a store), ``generator`` (its run, unless another cell has it) and ``synthetic``
            (its set) come to lie here.
        data: the whole store.
        config: of the study.
    """
    from motiondiff.augmentation.augment import augment

    store = MotionStore(data)
    real, _ = split_real_and_test(store, config.test_subjects)
    rows = sample_subset(store, real, float(overrides["fraction"]), config.subset_seed)
    share = write_subset(store, rows, folder / REAL, {"fraction": overrides["fraction"]})
    settings = config.actor if overrides["method"] == "actor" else config.motiondiff
    finished = finished_run(folder, GENERATOR, config_to_yaml(settings), share)
    run = folder / GENERATOR if finished is None else finished.path
    if finished is not None:
        steps, seconds = (finished.read_metrics()[-1][name] for name in ("step", "seconds"))
    else:
        from motiondiff.training.actor import train_actor
        from motiondiff.training.diffusion import train

        if isinstance(settings, MotionDiffConfig):
            fit = train(None, share.path, settings, out=run).fit
        else:
            fit = train_actor(share.path, run, settings).fit
        steps, seconds = fit.steps, round(fit.seconds, 1)
    noise_strength = config.noise_strength if overrides["method"] == "sdedit" else config.filter.noise_strength
    sampling = replace(config.filter, noise_strength=noise_strength)
    made = augment(run, share.path, folder / SYNTHETIC, sampling, classifier=config.classifier)
    return Outcome(
        metrics={
            "passed": made["share_passed"],
            "real_clips": len(rows),
            "synthetic_clips": made["kept"],
            "filled": made["filled"],
            "steps": steps,
            "training_seconds": seconds,
        }
    )


def run_arm(
    overrides: Mapping[str, Any], seed: int, folder: Path, *, study: str, data: str, config: StudyConfig
) -> Outcome:
    """Train a classifier on a row's clips and test it on the held-out subjects.

    Args:
        overrides: as `Row.settings`.
        seed: of the classifier.
        folder: ``predictions.csv`` comes to lie here.
        study: folder of the study, where the source cells are.
        data: the whole store.
        config: of the study.
    """
    store = MotionStore(data)
    real, test = split_real_and_test(store, config.test_subjects)
    rows = sample_subset(store, real, float(overrides["fraction"]), config.subset_seed)
    parts = [ClipSet.from_store(store, rows=rows)] if overrides["real"] else []
    if overrides["method"]:
        source = trial_run_folder(Path(study), source_name(overrides["fraction"], overrides["method"]), 0) / SYNTHETIC
        parts.append(ClipSet.from_store(MotionStore(source), class_names=store.actions))
    training = parts[0] if len(parts) == 1 else parts[0].joined(parts[1])
    classifier = fit_classifier(training, config.classifier, seed)
    held_out = ClipSet.from_store(store, rows=test)
    predictions = classifier_predictions(held_out, classifier.predict(held_out), repeat=0)
    return Outcome(
        metrics={
            METRIC: find_metric(METRIC)(predictions.labels, predictions.probabilities),
            "training_clips": len(training),
        },
        predictions=predictions.write_csv(folder / "predictions.csv"),
    )


def _cell(study: Path, name: str, settings: Mapping[str, Any], seed: int, metric: str) -> TrialRun:
    return TrialRun(name=name, overrides=settings, seed=seed, metric=metric, folder=trial_run_folder(study, name, seed))


def _run_all(
    run: Run, cells: list[TrialRun], executor: Executor | None, workers: int | None, retry_failed: bool, what: str
) -> Trials:
    """The results of all cells, those that are there and those that are run now."""
    results: dict[tuple[str, int], TrialRunResult] = {}
    todo = []
    for cell in cells:
        earlier = read_result(cell)
        if earlier is None or (retry_failed and earlier.error is not None):
            todo.append(cell)
        else:
            results[cell.name, cell.seed] = earlier

    for key, result in tqdm(run_cells(run, todo, executor, workers), total=len(todo), desc=what, unit="cell"):
        results[key] = result
        if result.error is not None:
            logger.warning("%s, seed %d: failed: %s", result.name, result.seed, result.error)
    return {(cell.name, cell.seed): results[cell.name, cell.seed] for cell in cells}


def _asked(config: StudyConfig) -> dict[str, Any]:
    """Settings that a resumed study must share; arms and seeds may be added."""
    asked = config_to_dict(config)
    return {name: value for name, value in asked.items() if name not in {"seeds", "fractions", "methods"}}


def _names(store: MotionStore, clips: np.ndarray) -> list[str]:
    """Held-out groups: subjects, else styles."""
    subjects, styles = (sorted(set(store.names(column, clips)) - {""}) for column in ("subject", "style"))
    return subjects or styles
