"""Generators of an augmentation study and their filtered sets, each from the training clips of its cell alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.config import config_to_yaml
from icube_common.errors import InputError
from icube_common.experiments.runner.trial_run import Outcome, trial_run_folder
from icube_common.io.runs import RunFolder
from motiondiff.augmentation.experiment import finished_run
from motiondiff.augmentation.study.arms import REAL, SYNTHETIC
from motiondiff.augmentation.study.config import ACTOR, CROSS_SET, EQUAL_TIME, MDM, SDEDIT, StudyConfig
from motiondiff.augmentation.study.subsets import cell_clips, inner_parts, people_folds, write_subset
from motiondiff.config import MIN_CLIPS, ActorConfig, MotionDiffConfig
from motiondiff.data.store import MotionStore

GENERATOR = "generator"
PRETRAINING = "pre-training"
"""Name of the cells that train on other data sets."""


def architecture_of(method: str) -> str:
    """The recipe that a method trains: motiondiff, mdm or actor."""
    return method.removesuffix(EQUAL_TIME) if method.startswith((MDM, ACTOR)) else "motiondiff"


def steps_of(method: str, config: StudyConfig, seconds_per_step: Mapping[str, float]) -> int:
    """Optimiser steps of a method's generator.

    Every method has the steps of ``config.motiondiff``; one of equal time as many as its recipe makes in the time that
    those take.

    Args:
        method: one of `StudyConfig.labels`.
        config: of the study.
        seconds_per_step: of each recipe, by the probe (`motiondiff.augmentation.study.budget.probe`).
    """
    steps = config.motiondiff.train.max_steps
    if not method.endswith(EQUAL_TIME):
        return steps
    return max(1, round(steps * seconds_per_step["motiondiff"] / seconds_per_step[architecture_of(method)]))


def generator_config(
    method: str, config: StudyConfig, seed: int, seconds_per_step: Mapping[str, float]
) -> MotionDiffConfig | ActorConfig:
    """Settings of a method's training with a generator seed."""
    recipes: dict[str, MotionDiffConfig | ActorConfig]
    recipes = {"motiondiff": config.motiondiff, "mdm": config.mdm, "actor": config.actor}
    settings = recipes[architecture_of(method)]
    steps = steps_of(method, config, seconds_per_step)
    return replace(settings, train=replace(settings.train, max_steps=steps, seed=settings.train.seed + seed))


def train_generator(
    settings: MotionDiffConfig | ActorConfig, data: Path, out: Path, *, init_from: Path | None = None
) -> tuple[int, float]:
    """Train a generator of either kind; its steps and seconds. Checkpoints are removed: a cell is run in one go."""
    from motiondiff.training.actor import train_actor
    from motiondiff.training.diffusion import train

    if isinstance(settings, MotionDiffConfig):
        fit = train(None, data, settings, out=out, init_from=init_from).fit
    else:
        fit = train_actor(data, out, settings).fit
    shutil.rmtree(RunFolder(out).checkpoints, ignore_errors=True)
    return fit.steps, round(fit.seconds, 1)


def run_source(
    overrides: Mapping[str, Any],
    seed: int,
    folder: Path,
    *,
    study: str,
    data: str,
    config: StudyConfig,
    seconds_per_step: Mapping[str, float],
) -> Outcome:
    """Train a generator on the training clips of a cell and make its filtered set.

    Args:
        overrides: as `motiondiff.augmentation.study.arms.Source.settings`.
        seed: of the generator, and of its motions and filter.
        folder: ``real`` (the training clips as a store), ``generator`` (its run, unless another cell has it) and
            ``synthetic`` (its set) come to lie here.
        study: folder of the study, where a pre-trained generator is.
        data: the whole store.
        config: of the study.
        seconds_per_step: of each recipe.
    """
    from motiondiff.augmentation.augment import augment

    store, method = MotionStore(data), str(overrides["method"])
    fold = people_folds(store, config)[int(overrides["fold"])]
    clips = cell_clips(store, fold, config, float(overrides["fraction"]))
    inner = int(overrides["part"]) >= 0
    if inner:
        clips = np.setdiff1d(clips, inner_parts(store, clips, config)[int(overrides["part"])])
    share = write_subset(store, clips, folder / REAL, {"fraction": overrides["fraction"]})
    settings = generator_config(method, config, seed, seconds_per_step)
    finished = None if method == CROSS_SET else finished_run(folder, GENERATOR, config_to_yaml(settings), share)
    if finished is not None:
        run = finished.path
        steps, seconds = (finished.read_metrics()[-1][name] for name in ("step", "seconds"))
    else:
        run = folder / GENERATOR
        start = trial_run_folder(Path(study), PRETRAINING, seed) / GENERATOR if method == CROSS_SET else None
        steps, seconds = train_generator(settings, share.path, run, init_from=start)
    strength = float(method.split()[1]) if method.startswith(SDEDIT) else config.filter.noise_strength
    sampling = replace(config.filter, noise_strength=strength, seed=config.filter.seed + seed)
    if method.startswith(SDEDIT) and share_mirrors(config):
        sampling = replace(sampling, mirror=config.motiondiff.data.mirror)
    made = augment(
        run,
        share.path,
        folder / SYNTHETIC,
        sampling,
        classifier=config.classifier,
        fewest=1 if inner else MIN_CLIPS,
    )
    return Outcome(
        metrics={
            "passed": made["share_passed"],
            "real_clips": len(clips),
            "synthetic_clips": made["kept"],
            "filled": made["filled"],
            "steps": steps,
            "training_seconds": seconds,
        }
    )


def share_mirrors(config: StudyConfig) -> bool:
    """True where the generator was trained with mirrored clips, so that its variations may begin from such."""
    return config.motiondiff.data.mirror > 0


def run_pretraining(
    overrides: Mapping[str, Any],
    seed: int,
    folder: Path,
    *,
    config: StudyConfig,
) -> Outcome:
    """Train a generator on other data sets.

    Args:
        overrides: ``pretraining``: their store.
        seed: of the generator.
        folder: ``generator`` comes to lie here.
        config: of the study.
    """
    settings = replace(
        config.motiondiff,
        train=replace(
            config.motiondiff.train,
            max_steps=config.pretraining_steps,
            seed=config.motiondiff.train.seed + seed,
        ),
    )
    data = Path(str(overrides["pretraining"]))
    steps, seconds = train_generator(settings, data, folder / GENERATOR)
    return Outcome(metrics={"steps": steps, "training_seconds": seconds})


def check_pretraining(store: MotionStore, path: str) -> MotionStore:
    """The store of other data sets.

    Raises:
        InputError: it holds the studied data set or one of its subjects, other joints or another frame rate.
    """
    other = MotionStore(path)
    sources = other.header.get("sources") or {"": other.header.get("format")}
    if store.header.get("format") in set(sources.values()) or other.fingerprint == store.fingerprint:
        raise InputError(
            f"pretraining={path}: holds {store.header.get('format')}, the format of the studied store, and could hold "
            "its test people; merge other data sets alone"
        )
    if (other.joint_names, other.parents) != (store.joint_names, store.parents) or abs(other.fps - store.fps) > 1e-3:
        raise InputError(
            f"pretraining={path}: {len(other.joint_names)} joints, {other.fps:g} fps; {store.path} has "
            f"{len(store.joint_names)} joints, {store.fps:g} fps: merge on the same skeleton and frame rate"
        )
    return other
