"""The job behind ``motiondiff evaluate``: motions of many seeds made, judged, and put on a page."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.evaluation import Predictions
from icube_common.io.runs import atomic_folder, check_output_path, describe_environment, read_json, write_json
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.figures import Judge, Judged, evaluate_sets
from motiondiff.evaluation.options import FEWEST_CLIPS, EvaluateOptions
from motiondiff.evaluation.report import write_report
from motiondiff.evaluation.text import evaluate_texts
from motiondiff.pipeline import MotionDiffusionPipeline
from motiondiff.recognition.clips import ClipSet, refuse_shared_subjects
from motiondiff.recognition.recognise import without_small_classes
from motiondiff.recognition.train import fit_recogniser, refuse_small_classes
from motiondiff.sample import SampleOptions, generate, load_pipeline, resolve
from motiondiff.skeleton.motion import Motion
from motiondiff.train import TEXT_CACHE

logger = logging.getLogger(__name__)

GENERATED = "generated"
"""The subject of generated motions in ``predictions.csv``."""


def refuse_other_data(run: str | Path, store: MotionStore) -> None:
    """A run is judged on the store it was trained on: no other says which clips the generator has seen.

    Raises:
        InputError: another store, or a saved model without the record of its training.
    """
    places = [Path(run) / "environment.json", Path(run).resolve().parent / "environment.json"]
    record = next((place for place in places if place.is_file()), None)
    if record is None:
        raise InputError(
            f"{run}: has no environment.json that says what it was trained on; give a run folder of `motiondiff train`"
        )
    written = read_json(record).get("data_fingerprint")
    if written != store.fingerprint:
        raise InputError(
            f"{store.path}: is not the data that {run} was trained on; evaluate with the same store, whose splits say "
            "what the model has not seen"
        )


def real_clips(store: MotionStore, options: EvaluateOptions) -> tuple[ClipSet, ClipSet]:
    """A store's training and held-out clips, every class on both sides.

    Raises:
        InputError: a split without clips, a person on both sides, or a class with fewer than two clips on a side.
    """
    train = ClipSet.from_store(store, split="train")
    held_out = ClipSet.from_store(store, split=options.split)
    refuse_shared_subjects(train, held_out)
    if options.min_clips is not None:
        train, held_out = without_small_classes(train, held_out, options.min_clips, FEWEST_CLIPS)
    refuse_small_classes(train, FEWEST_CLIPS, "to train on")
    refuse_small_classes(held_out, FEWEST_CLIPS, "held out")
    return train, held_out


def generated_set(pipeline: MotionDiffusionPipeline, classes: tuple[str, ...], options: SampleOptions) -> list[Motion]:
    """One balanced set of motions of the given classes.

    Raises:
        InputError: anything that `motiondiff.sample.generate` refuses.
    """
    return list(generate(pipeline, dataclasses.replace(options, actions=classes, per_action=None)))


def evaluate(
    run: str | Path,
    data: str | Path,
    out: str | Path,
    options: EvaluateOptions | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Generate motions with a trained model, from several seeds, and judge them.

    The evaluator, the reference for memorisation and the statistics see the run's training split alone; held-out clips
    are only compared with. The same call gives the same figures.

    Args:
        run: the run folder.
        data: the store that it was trained on.
        out: the folder to make: ``metrics.json``, ``predictions.csv`` (what the evaluator says about each motion; the
            seed is its ``repeat``), ``report.html``, ``evaluator/`` (the recogniser), ``sheets/`` (its pictures).
        options: how motions are made and judged.
        overwrite: replace an existing ``out``.

    Returns:
        What `motiondiff.evaluation.figures.evaluate_sets` returns, with settings and the places of the files; for a run
        with text also ``text``, what `motiondiff.evaluation.text.evaluate_texts` returns.

    Raises:
        InputError: a broken store, another store than the run's, a class without enough clips, a subject on both
            sides, settings that the model cannot take, or ``out`` exists; nothing is written then.
    """
    check_output_path(out, overwrite=overwrite)
    options = options or EvaluateOptions()
    store = MotionStore(data)
    train, held_out = real_clips(store, options)
    sampling = resolve(
        run,
        SampleOptions(
            count=options.per_action,
            steps=options.steps,
            scheduler=options.scheduler,
            guidance=options.guidance,
            batch_size=options.batch_size,
            mix_styles=options.mix_styles,
            device=options.device,
        ),
        steps=10,
    )
    pipeline = load_pipeline(run, sampling.scheduler)
    refuse_other_data(run, store)
    classes = tuple(train.class_names)
    started = time.perf_counter()
    # the generator first: settings that it refuses should not cost the evaluator's training
    motions = [generated_set(pipeline, classes, dataclasses.replace(sampling, seed=0))]
    judge = Judge(train, held_out, fit_recogniser(train, options.recogniser, options.evaluator_seed))
    for seed in range(1, options.seeds):
        motions.append(generated_set(pipeline, classes, dataclasses.replace(sampling, seed=seed)))
        logger.info("%d of %d sets of motions", seed + 1, options.seeds)
    figures, seen = evaluate_sets([ClipSet.from_motions(found, classes) for found in motions], judge)
    target = Path(out)
    if pipeline.takes_text:
        text_figures = evaluate_texts(pipeline, store, judge, options, sampling, Path(run) / TEXT_CACHE)
        figures = {**figures, "text": text_figures}
    result = {
        **figures,
        "classes": list(classes),
        "left_out": [name for name in store.actions if name not in classes],
        "settings": {
            "seeds": options.seeds,
            "per_action": options.per_action,
            "steps": sampling.steps,
            "scheduler": sampling.scheduler,
            "guidance": sampling.guidance,
            "mix_styles": sampling.mix_styles,
            "split": options.split,
            "evaluator": {**config_to_dict(options.recogniser), "seed": options.evaluator_seed},
        },
        "held_out_subjects": sorted(set(held_out.subjects)),
        "simulated": bool(store.header.get("simulated", False)),
        "data_fingerprint": store.fingerprint,
        "environment": describe_environment(),
        "seconds": round(time.perf_counter() - started, 1),
        "predictions": str(target / "predictions.csv"),
        "report": str(target / "report.html"),
    }
    with atomic_folder(target, overwrite=overwrite) as folder:
        predictions = generated_predictions(seen)
        predictions.write_csv(folder / "predictions.csv")
        judge.recogniser.save(folder / "evaluator")
        write_report(folder, result, judge, seen[0], motions[0], predictions, store)
        write_json(folder / "metrics.json", result)
    return result


def generated_predictions(seen: list[Judged]) -> Predictions:
    """What the evaluator says about every motion; the seed is the repeat."""
    return Predictions(
        ids=[name for found in seen for name in found.clips.ids],
        subjects=[GENERATED for found in seen for _ in found.clips.ids],
        repeats=np.concatenate([np.full(len(found.clips), seed) for seed, found in enumerate(seen)]),
        folds=np.zeros(sum(len(found.clips) for found in seen)),
        labels=np.concatenate([found.clips.labels for found in seen]),
        probabilities=np.concatenate([found.probabilities for found in seen]),
        class_names=seen[0].clips.class_names,
    )
