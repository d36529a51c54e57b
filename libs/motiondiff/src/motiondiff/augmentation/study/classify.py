"""Classifiers of an augmentation study: choice of a mixture on inner people, and the rows of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.evaluation.metrics import find_metric
from icube_common.experiments.runner.trial_run import Outcome, trial_run_folder
from icube_common.io.runs import read_json, write_json
from motiondiff.augmentation.study.arms import CHOSEN, METRIC, REAL, SYNTHETIC, Source, choice_name
from motiondiff.augmentation.study.config import StudyConfig
from motiondiff.augmentation.study.mixture import Mixture, candidates, choose_mixture, fit_mixture, synthetic_clips
from motiondiff.augmentation.study.subsets import cell_clips, inner_parts, people_folds
from motiondiff.config import ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.recognition.train_and_test import classifier_predictions

CHOICE = "choice.json"
CHOSEN_INDEX = "chosen"


def _synthetic(study: str, source: Source, seed: int, names: list[str], config: StudyConfig) -> ClipSet:
    folder = trial_run_folder(Path(study), source.name, seed) / SYNTHETIC
    return synthetic_clips(MotionStore(folder), names, weighted=config.mixture.weighted)


def run_choice(
    overrides: Mapping[str, Any], seed: int, folder: Path, *, study: str, data: str, config: StudyConfig
) -> Outcome:
    """Choose the mixture of a cell by cross-validation over its training people.

    Each inner part is predicted by classifiers of the other parts' real clips and of the motions of a generator that
    has been trained on these. Classes without a clip in the other parts are left out of that part.

    Args:
        overrides: ``fold``, ``fraction``, ``method``.
        seed: of the generator.
        folder: ``choice.json`` comes to lie here: the accuracy of each candidate on each inner person.
        study: folder of the study, where the inner generators' sets are.
        data: the whole store.
        config: of the study.
    """
    store = MotionStore(data)
    fold = people_folds(store, config)[int(overrides["fold"])]
    clips = cell_clips(store, fold, config, float(overrides["fraction"]))
    options = candidates(config.mixture)
    hits: dict[str, list[list[bool]]] = {}
    for part, held_out in enumerate(inner_parts(store, clips, config)):
        source = Source(
            fold=fold.number, fraction=float(overrides["fraction"]), method=str(overrides["method"]), part=part
        )
        rest = np.setdiff1d(clips, held_out)
        names = [name for name in store.actions if name in set(store.names("action", rest))]
        tested = held_out[np.isin(store.names("action", held_out), names)]
        if len(names) < 2 or not len(tested):
            continue
        real = ClipSet.from_store(store, rows=rest, class_names=names)
        synthetic = _synthetic(study, source, seed, names, config)
        test = ClipSet.from_store(store, rows=tested, class_names=names)
        for inner_seed in range(config.mixture.inner_seeds):
            right = [
                fit_mixture(real, synthetic, option, config.classifier, inner_seed, fewest=1)
                .predict(test)
                .argmax(axis=1)
                == test.labels
                for option in options
            ]
            for row, person in enumerate(test.subjects):
                hits.setdefault(person, []).append([bool(of_option[row]) for of_option in right])
    accuracies = {person: np.mean(rows, axis=0).tolist() for person, rows in sorted(hits.items())}
    chosen = choose_mixture(accuracies)
    write_json(
        folder / CHOICE,
        {"candidates": list(map(str, options)), "accuracy": accuracies, "chosen": str(options[chosen])},
    )
    means = np.mean(list(accuracies.values()), axis=0).tolist() if accuracies else [0.0] * len(options)
    return Outcome(
        metrics={
            CHOSEN_INDEX: chosen,
            "inner_people": len(accuracies),
            **{f"inner {option}": mean for option, mean in zip(options, means, strict=True)},
        }
    )


def chosen_mixture(study: str, source: Source, seed: int, config: StudyConfig) -> Mixture:
    """The mixture that `run_choice` chose for a generator's cell."""
    cell = trial_run_folder(Path(study), choice_name(source.fold, source.fraction, source.method), seed)
    name = read_json(cell / CHOICE)["chosen"]
    return next(option for option in candidates(config.mixture) if str(option) == name)


def run_arm(
    overrides: Mapping[str, Any], seed: int, folder: Path, *, study: str, data: str, config: StudyConfig
) -> Outcome:
    """Train a classifier on a row's clips of a fold, then read and predict the clips of its test people.

    Args:
        overrides: as `motiondiff.augmentation.study.arms.StudyArm.settings`.
        seed: of the classifier.
        folder: ``predictions.csv`` comes to lie here.
        study: folder of the study, where sets and choices are.
        data: the whole store.
        config: of the study.
    """
    store, kind, method = MotionStore(data), str(overrides["kind"]), str(overrides["method"])
    fraction, generator_seed = float(overrides["fraction"]), int(overrides["generator_seed"])
    fold = people_folds(store, config)[int(overrides["fold"])]
    real, synthetic = None, None
    if kind != SYNTHETIC:
        real = ClipSet.from_store(store, rows=cell_clips(store, fold, config, fraction))
    mixture = Mixture(share=config.classifier.synthetic_fraction)
    if method:
        source = Source(fold=fold.number, fraction=fraction, method=method)
        synthetic = _synthetic(study, source, generator_seed, store.actions, config)
        if kind == CHOSEN:
            mixture = chosen_mixture(study, source, generator_seed, config)
    classifier = fit_mixture(real, synthetic, mixture, classifier_config(config, kind), seed)
    # nothing of the test people has been read until here
    held_out = ClipSet.from_store(store, rows=fold.test)
    if synthetic is not None and mixture.is_control:
        synthetic = None
    predictions = classifier_predictions(held_out, classifier.predict(held_out), repeat=0)
    return Outcome(
        metrics={
            METRIC: find_metric(METRIC)(predictions.labels, predictions.probabilities),
            "training_clips": (len(real) if real else 0) + (len(synthetic) if synthetic else 0),
        },
        predictions=predictions.write_csv(folder / "predictions.csv"),
    )


def classifier_config(config: StudyConfig, kind: str) -> ClassifierConfig:
    """Settings of a row's classifiers: the row of real clips alone has no mirror images, all others may."""
    return replace(config.classifier, mirror="never") if kind == REAL else config.classifier
