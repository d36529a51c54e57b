"""``motiondiff augmentation-study``: does generated motion help recognition, whom, and at which amount of real data?

People are tested in folds. For each fold, share of the other people's clips and generator one *source* cell trains the
generator on these clips alone and makes a filtered set with it; inner sources do so without a part of the training
people, and a *choice* cell chooses on that part how real and synthetic clips are mixed; then each *row* of the table is
learnt by classifiers with several seeds and tested on the fold's people. All are cells of
`icube_common.experiments`: finished ones are not run again, and a stopped study loses the cell in progress.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.experiments.runner.study import open_study
from icube_common.experiments.runner.trial_run import TrialRun, TrialRunResult, run_missing_cells, trial_run_folder
from icube_common.io.runs import write_json
from motiondiff.augmentation.study.arms import METRIC, StudyArm, cells_before, choice_name, primary_pair
from motiondiff.augmentation.study.budget import StudyPlan, budget, plan, probe
from motiondiff.augmentation.study.classify import CHOSEN_INDEX, run_arm, run_choice
from motiondiff.augmentation.study.config import CROSS_SET, StudyConfig
from motiondiff.augmentation.study.report import write_report
from motiondiff.augmentation.study.sources import PRETRAINING, check_pretraining, run_pretraining, run_source
from motiondiff.augmentation.study.subsets import PeopleFold, distinct_fractions, people_folds
from motiondiff.augmentation.study.summary import StudySummary, summarise
from motiondiff.data.store import MotionStore
from motiondiff.skeleton.mirror import has_mirror_images

logger = logging.getLogger(__name__)

BUDGET = "budget.json"
Results = dict[tuple[str, int], TrialRunResult]


def augmentation_study(
    data: str | Path,
    out: str | Path,
    config: StudyConfig | None = None,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    overwrite: bool = False,
    estimate: bool = False,
) -> StudySummary | dict[str, Any]:
    """Run or resume a study, and write ``table.*``, ``plot.*``, ``predictions.csv`` of every cell, ``report.html``.

    The generator, the filter and all statistics of a row are made from a store that holds exactly the row's share of
    the training people's clips; a classifier reads those clips and what the generator made, and when it is trained, the
    clips of the fold's test people.

    Args:
        data: the store.
        out: the study's folder; an existing study is resumed.
        config: folds, fractions, seeds, generators, filter, and the primary comparison.
        executor: where cells run; by default in this process.
        workers: how many cells run at the same time; by default as many as the executor has.
        retry_failed: run cells again that failed.
        overwrite: delete the study that is there and start afresh.
        estimate: stop after the probe and return the budget.

    Raises:
        InputError: a bad store or split (`people_folds`), a primary comparison of rows that are not there, labels that
            cannot be mirrored, a store for pre-training that holds the studied set, another study in the folder, or no
            cell that could be run.
    """
    config = config or StudyConfig()
    store = MotionStore(data)
    folds = people_folds(store, config)
    config = replace(config, fractions=distinct_fractions(store, folds, config))
    mirrored = has_mirror_images(config.classifier.mirror, store.actions, store.joint_names)
    cells = plan(store, folds, config, mirrored=mirrored)
    primary = primary_pair(config, list(cells.arms))
    if CROSS_SET in config.methods:
        check_pretraining(store, str(config.pretraining))
    fixed = {"data": store.fingerprint, "config": _fixed(config)}
    free = {name: getattr(config, name) for name in _FREE}
    with open_study(out, kind="augmentation", fixed=fixed, free=free, resume=True, overwrite=overwrite) as folder:
        times = probe(folder, store, folds[0], config)
        plan_of_time = budget(cells, config, times, folds=len(folds), classes=len(store.actions))
        write_json(folder / BUDGET, plan_of_time)
        logger.info("budget: %s", ", ".join(f"{name} {value:g}" for name, value in plan_of_time.items()))
        if estimate:
            return plan_of_time
        run = functools.partial(run_missing_cells, executor=executor, workers=workers, retry_failed=retry_failed)
        bind: dict[str, Any] = {"study": str(folder.absolute()), "data": str(Path(data).absolute()), "config": config}
        made, choices = _make_sets(folder.absolute(), cells, config, times, bind, run)
        broken = {key for key, result in {**made, **choices}.items() if result.error is not None}
        expected = {(choice_name(*one), seed) for one in cells.choices for seed in range(config.generator_seeds)}
        broken |= expected - choices.keys()
        trials = _trials(folder.absolute(), cells.arms, folds, config, broken)
        results = run(functools.partial(run_arm, **bind), trials, what="classifiers")
        if all(result.error is not None for result in results.values()):
            first = next(iter(results.values()))
            raise InputError(f"{folder}: all {len(results)} classifiers failed, {first.name}: {first.error}")
        summary = summarise(
            folder, store, config, folds, cells, primary, made=made, choices=choices, results=results,
            budget=plan_of_time,
        )  # fmt: skip
        write_report(summary)
    return summary


def _make_sets(
    study: Path,
    cells: StudyPlan,
    config: StudyConfig,
    times: Mapping[str, float],
    bind: Mapping[str, Any],
    run: Any,
) -> tuple[Results, Results]:
    """Results of the generators of the rows, and of the choices of mixtures."""
    seeds = range(config.generator_seeds)
    if CROSS_SET in config.methods:
        overrides = {"pretraining": config.pretraining}
        trials = [_trial(study, PRETRAINING, overrides, seed, "steps") for seed in seeds]
        run(functools.partial(run_pretraining, config=config), trials, what="pre-training")
    make = functools.partial(run_source, **bind, seconds_per_step=dict(times))
    sources = [
        _trial(study, source.name, source.settings(), seed, "passed")
        for seed in seeds
        for source in [*cells.sources, *cells.inner]
    ]
    made: Results = run(make, sources, what="generators")
    broken = {key for key, result in made.items() if result.error is not None}
    trials = []
    for fold, fraction, method in cells.choices:
        inner = [one.name for one in cells.inner if (one.fold, one.fraction, one.method) == (fold, fraction, method)]
        for seed in seeds:
            if not any((name, seed) in broken for name in inner):
                settings = {"fold": fold, "fraction": fraction, "method": method}
                trials.append(_trial(study, choice_name(fold, fraction, method), settings, seed, CHOSEN_INDEX))
    return made, run(functools.partial(run_choice, **bind), trials, what="choices")


def _trials(
    study: Path, arms: Sequence[StudyArm], folds: Sequence[PeopleFold], config: StudyConfig, broken: set[Any]
) -> list[TrialRun]:
    """Classifiers of all rows whose sets are there, seed by seed: a study that is stopped early has every row."""
    trials = []
    for seed in range(config.seeds):
        for generator_seed in range(config.generator_seeds):
            for arm in arms:
                for fold in folds:
                    if generator_seed and not arm.method:
                        continue
                    if any((name, generator_seed) in broken for name in cells_before(arm, fold.number)):
                        continue
                    name = arm.cell_name(fold.number, generator_seed)
                    settings = arm.settings(fold.number, generator_seed)
                    trials.append(_trial(study, name, settings, seed, METRIC))
    return trials


def _trial(study: Path, name: str, settings: Mapping[str, Any], seed: int, metric: str) -> TrialRun:
    return TrialRun(name=name, overrides=settings, seed=seed, metric=metric, folder=trial_run_folder(study, name, seed))


_FREE = ("seeds", "generator_seeds", "fractions", "methods", "noise_strengths", "chosen", "pretraining")


def _fixed(config: StudyConfig) -> dict[str, Any]:
    """Settings that a resumed study must share; rows, seeds and data sets for pre-training may be added."""
    return {name: value for name, value in config_to_dict(config).items() if name not in {*_FREE, "probe_steps"}}
