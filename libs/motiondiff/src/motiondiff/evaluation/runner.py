"""Evaluation of a trained model: motions of many seeds, their metrics, and a report page."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.evaluation import Predictions, concatenate
from icube_common.io.runs import atomic_folder, check_output_path, describe_environment, write_json
from motiondiff.config import MIN_CLIPS, EvaluateOptions, SamplerConfig
from motiondiff.data.clips import ClipSet, check_subject_overlap
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.comparison import evaluate_sets
from motiondiff.evaluation.metrics import EvaluatedClips, MotionEvaluator
from motiondiff.evaluation.report import write_report
from motiondiff.evaluation.text_to_motion.metrics import evaluate_texts
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.pipelines.sampling import SampleOptions, generate, load_pipeline, resolve
from motiondiff.recognition.cross_fitting import LeftOut, fit_cross_fitted
from motiondiff.recognition.train_and_test import classifier_predictions, drop_small_classes
from motiondiff.recognition.training import check_class_sizes
from motiondiff.results import Results
from motiondiff.skeleton.motion import Motion
from motiondiff.training.diffusion import TEXT_CACHE, check_same_data

logger = logging.getLogger(__name__)

GENERATED = "generated"
"""The subject of generated motions in ``predictions.csv``."""
_SETTINGS = ("seeds", "per_action", "steps", "scheduler", "guidance", "mix_styles", "split")


class EvaluationResults(Results):
    """Results of `evaluate`."""

    @property
    def metrics(self) -> dict[str, float | None]:
        """Mean of every metric over the seeds; None where it is undefined."""
        return {name: value["mean"] for name, value in self.items() if isinstance(value, dict) and "mean" in value}


def real_clips(store: MotionStore, options: EvaluateOptions) -> tuple[ClipSet, ClipSet]:
    """A store's training and held-out clips, every class on both sides.

    Raises:
        InputError: a split without clips, a person on both sides, or a class with fewer than two clips on a side.
    """
    train = ClipSet.from_store(store, split="train")
    held_out = ClipSet.from_store(store, rows=held_out_rows(store, options.split))
    check_subject_overlap(train, held_out)
    if options.min_clips is not None:
        train, held_out = drop_small_classes(train, held_out, options.min_clips, MIN_CLIPS)
    check_class_sizes(train, MIN_CLIPS, "to train on")
    check_class_sizes(held_out, MIN_CLIPS, "held out")
    return train, held_out


def held_out_rows(store: MotionStore, split: str) -> npt.NDArray[np.int64]:
    """Clips of a split; of ``all``, of the validation and the test split."""
    names = ("validation", "test") if split == "all" else (split,)
    present = [name for name in names if len(names) == 1 or store.info()["splits"].get(name)]
    return np.concatenate([store.select(name) for name in present or names[-1:]])


def held_out_subjects(held_out: ClipSet) -> list[ClipSet]:
    """The clips of each subject, without those of classes that it has a single clip of.

    Raises:
        InputError: a subject without a class of two clips.
    """
    result = []
    for subject in sorted(set(held_out.subjects)):
        clips = held_out.take(np.flatnonzero(np.array(held_out.subjects) == subject))
        large = np.flatnonzero(clips.counts >= MIN_CLIPS)
        if not len(large):
            raise InputError(
                f"--split all: held-out {subject or 'clips without a subject'!r} has no class of {MIN_CLIPS} clips; "
                "use --split test, which takes all held-out clips together"
            )
        result.append(clips.take(np.flatnonzero(np.isin(clips.labels, large))))
    return result


def fit_evaluators(train: ClipSet, held_out: ClipSet, options: EvaluateOptions) -> list[MotionEvaluator]:
    """Networks cross-fitted on the training clips, and an evaluator against the held-out ones.

    Args:
        train: the generator's training clips.
        held_out: real clips of other people; with ``split=all`` an evaluator for each of them.
        options: extractors, independent classifier and their seeds.

    Raises:
        InputError: a class with fewer than two clips, or a held-out subject without one that has two.
    """
    extractors = fit_cross_fitted(train, options.classifier, options.evaluator_seed)
    classifiers = fit_cross_fitted(train, options.accuracy_classifier, options.accuracy_seed)
    return make_evaluators(train, held_out, extractors, classifiers, in_turn=options.split == "all")


def make_evaluators(
    train: ClipSet, held_out: ClipSet, extractors: Sequence[LeftOut], classifiers: Sequence[LeftOut], *, in_turn: bool
) -> list[MotionEvaluator]:
    """Evaluators of trained networks: one against all held-out clips, or one for each held-out subject."""
    evaluator = MotionEvaluator(train, held_out, extractors, classifiers)
    return [evaluator.with_held_out(clips) for clips in held_out_subjects(held_out)] if in_turn else [evaluator]


def sample_balanced_set(
    pipeline: MotionDiffusionPipeline, classes: tuple[str, ...], sampler: SamplerConfig, *, count: int
) -> list[Motion]:
    """Motions of the given classes, ``count`` of each.

    Raises:
        InputError: anything that `motiondiff.pipelines.sampling.generate` refuses.
    """
    options = SampleOptions.from_sampler(sampler, actions=classes, count=count, per_action=None)
    return list(generate(pipeline, options))


def evaluate(
    run: str | Path,
    data: str | Path,
    out: str | Path,
    options: EvaluateOptions | None = None,
    *,
    overwrite: bool = False,
) -> EvaluationResults:
    """Generate motions with a trained model, from several seeds, and evaluate them.

    The evaluator, the reference for memorisation and the statistics see the run's training split alone; held-out clips
    are only compared with. The same call gives the same metrics.

    Args:
        run: the run folder.
        data: the store that it was trained on.
        out: the folder to make: ``metrics.json``, ``predictions.csv`` (probabilities of each motion; the seed is
            its ``repeat``), ``report.html``, ``evaluator/`` (its networks), ``sheets/`` (images).
        options: sampling and evaluation.
        overwrite: replace an existing ``out``.

    Returns:
        What `motiondiff.evaluation.comparison.evaluate_sets` returns, with settings and the places of the files; for a
        run with text also ``text``, what `motiondiff.evaluation.text_to_motion.metrics.evaluate_texts` returns.

    Raises:
        InputError: a broken store, another store than the run's, a class without enough clips, a subject on both
            sides, settings that the model cannot take, or ``out`` exists; nothing is written then.
    """
    check_output_path(out, overwrite=overwrite)
    options = options or EvaluateOptions()
    store = MotionStore(data)
    train, held_out = real_clips(store, options)
    options = resolve(run, options, steps=10)
    pipeline = load_pipeline(run, options.scheduler)
    check_same_data(run, store)
    classes = tuple(train.class_names)
    started = time.perf_counter()
    # the generator first: settings that it refuses should not cost the evaluator's training
    motions = [sample_balanced_set(pipeline, classes, options, count=options.per_action)]
    evaluators = fit_evaluators(train, held_out, options)
    evaluator = evaluators[0]
    for seed in range(1, options.seeds):
        seed_options = dataclasses.replace(options, seed=options.seed + seed)
        motions.append(sample_balanced_set(pipeline, classes, seed_options, count=options.per_action))
        logger.info("%d of %d sets of motions", seed + 1, options.seeds)
    metrics, evaluated = evaluate_sets([ClipSet.from_motions(generated, classes) for generated in motions], evaluators)
    target = Path(out)
    if pipeline.takes_text:
        text_results = evaluate_texts(pipeline, store, evaluator, options, Path(run) / TEXT_CACHE)
        metrics = {**metrics, "text": text_results}
    result = EvaluationResults(
        {
            **metrics,
            "classes": list(classes),
            "left_out": [name for name in store.actions if name not in classes],
            "settings": {
                **{name: getattr(options, name) for name in _SETTINGS},
                "evaluator": {**config_to_dict(options.classifier), "seed": options.evaluator_seed},
                "accuracy_classifier": {**config_to_dict(options.accuracy_classifier), "seed": options.accuracy_seed},
            },
            "held_out_subjects": sorted(set(held_out.subjects)),
            "simulated": bool(store.header.get("simulated", False)),
            "data_fingerprint": store.fingerprint,
            "environment": describe_environment(),
            "seconds": round(time.perf_counter() - started, 1),
            "predictions": str(target / "predictions.csv"),
            "report": str(target / "report.html"),
        }
    )
    with atomic_folder(target, overwrite=overwrite) as folder:
        predictions = generated_predictions(evaluated)
        predictions.write_csv(folder / "predictions.csv")
        for name, folds in (("extractor", evaluator.extractors), ("accuracy", evaluator.classifiers)):
            for number, fold in enumerate(folds):
                fold.classifier.save(folder / "evaluator" / f"{name}-{number}")
        write_report(folder, result, evaluators, evaluated, motions[0], predictions, store)
        write_json(folder / "metrics.json", result)
    return result


def generated_predictions(evaluated: list[EvaluatedClips]) -> Predictions:
    """Probabilities of every motion by the independent classifier; the seed is the repeat."""
    return concatenate(
        [
            classifier_predictions(clips.clips, clips.probabilities, repeat=seed, subject=GENERATED)
            for seed, clips in enumerate(evaluated)
        ]
    )
