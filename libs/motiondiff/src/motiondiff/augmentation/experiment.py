"""Trial of an ablation or a search: a training under some settings and a seed, and the evaluation of its motions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from icube_common.config import config_to_yaml
from icube_common.errors import InputError
from icube_common.experiments import Outcome, trial_config
from icube_common.io.runs import RunFolder, read_json
from motiondiff.augmentation.config import TrialConfig
from motiondiff.config import ClassifierConfig, EvaluateOptions, MotionDiffConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.comparison import movement_errors
from motiondiff.evaluation.metrics import MotionEvaluator
from motiondiff.evaluation.runner import real_clips, sample_balanced_set
from motiondiff.pipelines.sampling import load_pipeline, resolve
from motiondiff.recognition.cross_fitting import LeftOut, fit_cross_fitted
from motiondiff.training.diffusion import train

SPLIT = "validation"
"""Reference split of a trial: settings are chosen without the test subjects."""
RATIOS = ("accuracy", "within_class_diversity", "slip", "jitter")
"""Metrics that are also reported relative to held-out real motion."""


def run_trial(overrides: Mapping[str, Any], seed: int, folder: Path, *, data: str) -> Outcome:
    """Train once, sample a balanced set, and evaluate it on the store's validation split.

    Args:
        overrides: keys of `TrialConfig`.
        seed: of the training; motions, classifier and drawn clips have seeds of their own, the same in every cell.
        folder: of the cell; ``run`` comes to lie here, unless another cell has it (`trained_run`).
        data: a prepared store.

    Returns:
        The figures of `motiondiff.evaluation.metrics.MotionEvaluator.generated` that are defined, some of them also as
        ``..._of_real``, those of `motiondiff.evaluation.comparison.movement_errors` against the training clips, and
        ``training_seconds``.

    Raises:
        InputError: a store without a validation split, or with a class that has fewer than two clips on a side.
    """
    config = trial_config(TrialConfig, overrides, seed)
    store = MotionStore(data)
    if SPLIT not in store.info()["splits"]:
        raise InputError(f"{store.path}: has no {SPLIT} split to choose settings by; prepare it with more subjects")
    training, held_out = real_clips(store, EvaluateOptions(split=SPLIT))
    run, seconds = trained_run(store, Path(folder), config)
    chosen = resolve(run, config.sample)
    classes = tuple(training.class_names)
    motions = sample_balanced_set(load_pipeline(run, chosen.scheduler), classes, chosen, count=chosen.per_class)
    networks = _cross_fitted(str(store.path), store.fingerprint, config.classifier)
    evaluator = MotionEvaluator(training, held_out, networks)
    generated = ClipSet.from_motions(motions, classes)
    metrics = {**evaluator.generated(evaluator.describe(generated), 0), **movement_errors(generated, training)}
    real = evaluator.set_metrics(evaluator.held_out)
    ratios = {f"{name}_of_real": metrics[name] / real[name] for name in RATIOS if real[name]}
    finite = {name: value for name, value in {**metrics, **ratios}.items() if math.isfinite(value)}
    return Outcome(metrics={**finite, "training_seconds": seconds})


def trained_run(store: MotionStore, folder: Path, config: TrialConfig) -> tuple[Path, float]:
    """The run of a cell, and how many seconds its training took.

    Where another cell of the study has trained with the same settings and seed, and differs in how motions are made
    alone, its run is taken.

    Args:
        store: the data.
        folder: of the cell: ``.../<variant>/<seed>``.
        config: of the cell.
    """
    parts = MotionDiffConfig(**{field.name: getattr(config, field.name) for field in fields(MotionDiffConfig)})
    run = finished_run(folder, "run", config_to_yaml(parts), store)
    if run is not None:
        return run.path, float(run.read_metrics()[-1]["seconds"])
    path = folder / "run"
    return path, round(train(None, store.path, parts, out=path).fit.seconds, 1)


def finished_run(folder: Path, name: str, config_yaml: str, store: MotionStore) -> RunFolder | None:
    """A finished training of the same study, seed, settings and data, if a cell has it.

    Args:
        folder: of a cell: ``.../<name of the cell>/<seed>``; others lie beside it.
        name: of the run folder in a cell's.
        config_yaml: the settings.
        store: the data.
    """
    for path in sorted(folder.absolute().parent.parent.glob(f"*/{folder.name}/{name}")):
        run = RunFolder(path)
        same = run.model.is_dir() and run.config.read_text() == config_yaml
        if same and read_json(run.environment).get("data_fingerprint") == store.fingerprint:
            return run
    return None


@lru_cache(maxsize=4)
def _cross_fitted(path: str, fingerprint: str, config: ClassifierConfig) -> tuple[LeftOut, ...]:
    """The same in every cell of a study: trained once in each process."""
    training, _ = real_clips(MotionStore(path), EvaluateOptions(split=SPLIT))
    return fit_cross_fitted(training, config, 0)
