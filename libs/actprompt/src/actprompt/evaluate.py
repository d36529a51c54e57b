"""Judging models on people they have not seen: retrained for each fold of a protocol, or one that is trained already.

An evaluation's folder holds ``predictions.csv`` (one row for each clip and repeat), ``metrics.json``, ``report.html``
and, where models were trained, ``folds/<name>/`` with each training's records. It goes on where it was interrupted.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from actprompt.baselines import BASELINES, baseline
from actprompt.clips import Tables
from actprompt.config import ActConfig
from actprompt.fitting import check_fold, fit_fold, predict, predict_test
from actprompt.inputs import Inputs, load_inputs
from actprompt.judging import PRIMARY, Judgement, judge_draws, metrics_of, on_all_classes, write_evaluation
from actprompt.manifest import Manifest
from actprompt.protocols import ProtocolOptions, base_to_new_folds, few_shot_folds, plain_folds
from actprompt.saved import load_model
from actprompt.texts import class_texts
from actprompt.train import features_folder
from icube_common.config import config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import (
    BaseToNew,
    Fold,
    Predictions,
    Samples,
    check_train_test_overlap,
    concatenate,
    make_predictions,
    zero_shot,
)
from icube_common.evaluation.runner import (
    RECORD,
    all_warnings,
    cached_predictions,
    check_same_evaluation,
    open_folder,
    settings_record,
)
from icube_common.io.runs import RunFolder, check_output_path, write_json
from icube_common.prompts import ClassTexts
from icube_common.training import check_config, load_backbone, open_run
from icube_common.utils import as_list
from icube_common.vlm import FrozenVLM

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Bench:
    """What the folds of an evaluation have in common.

    Attributes:
        manifest: the set.
        samples: its clips, with labels: the one place that has those of test rows.
        config: all settings.
        vlm: the frozen backbone.
        texts: of the classes.
        inputs: tables of all clips.
        out: the evaluation's folder.
    """

    manifest: Manifest
    samples: Samples
    config: ActConfig
    vlm: FrozenVLM
    texts: ClassTexts
    inputs: Inputs
    out: Path

    @classmethod
    def of(
        cls, data: str | Path, config: ActConfig, out: Path, *, features: str | Path | None, root: str | Path | None
    ) -> Bench:
        """Load everything that folds need."""
        check_config(config.train)
        manifest = Manifest.load(data, root=root)
        texts = class_texts(manifest, config)
        vlm = load_backbone(config.vlm, config.train)
        inputs = load_inputs(manifest, config, vlm, features=features_folder(data, features, config, vlm))
        return cls(manifest, manifest.samples(), config, vlm, texts, inputs, out)

    def with_config(self, config: ActConfig, out: Path) -> Bench:
        """The same set and backbone under other settings."""
        texts = class_texts(self.manifest, config)
        return replace(self, config=config, texts=texts, inputs=used_by(self.inputs, config), out=out)

    def run(self, fold: Fold, name: str, tests: Sequence[Fold] = ()) -> tuple[Predictions, tuple[str, ...]]:
        """Train on a fold and predict it, or those of ``tests`` that share its training; what is done is not repeated.

        Returns:
            Predictions over all classes of the set, and the training's notes.
        """
        folder = self.out / "folds" / name

        def train_and_predict() -> tuple[Predictions, tuple[str, ...]]:
            # an interrupted training of a fold is begun again: it takes seconds to minutes
            run: RunFolder = open_run(
                folder, config=self.config.train, config_yaml=config_to_yaml(self.config), overwrite=folder.exists()
            )
            trained = fit_fold(self.inputs, fold, self.config, self.vlm, self.texts, run)
            found = [
                on_all_classes(
                    make_predictions(self.samples, part, predict_test(trained, self.inputs, part, self.texts)),
                    self.samples,
                )
                for part in (tests or [fold])
            ]
            return replace_folds(concatenate(found)), trained.notes

        return cached_predictions(folder, train_and_predict)


def used_by(inputs: Inputs, config: ActConfig) -> Inputs:
    """The tables that a configuration uses, of those that are there."""
    numeric = config.numeric.enabled
    return replace(
        inputs,
        frames=inputs.frames if config.visual.enabled else None,
        pixels=inputs.pixels if config.visual.enabled else None,
        skeletons=inputs.skeletons if numeric and config.numeric.course else None,
        parameters=inputs.parameters if numeric else None,
        notes=inputs.notes if config.visual.enabled else [],
    )


def replace_folds(predictions: Predictions) -> Predictions:
    """The same predictions; base and new rows of one training count as one fold."""
    return replace(predictions, folds=np.full(len(predictions), int(predictions.folds.min())))


def evaluate(
    data: str | Path,
    out: str | Path,
    config: ActConfig | None = None,
    *,
    protocol: str = "leave-one-subject-out",
    options: ProtocolOptions | None = None,
    comparisons: bool = False,
    features: str | Path | None = None,
    root: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Retrain for each fold of a protocol and judge the predictions of clips that were never trained on.

    Args:
        data: what ``actprompt prepare`` made.
        out: the evaluation's folder; one of the same settings that was interrupted is gone on with.
        config: all settings.
        protocol: ``leave-one-subject-out``, ``k-fold``, ``few-shot``, ``base-to-new``, ``official``, or the name of one
            of the set's own.
        options: what the drawn protocols are drawn with.
        comparisons: train on picture alone, numbers alone and exchanged class texts too, and run plain baselines, on
            the same folds, with paired tests.
        features: folder of frame features; by default below ``data``.
        root: where the videos lie now, if they moved.
        overwrite: replace an existing ``out``.

    Returns:
        Each metric as ``{"mean", "ci95", ...}``, what is particular to the protocol, comparisons, paths.

    Raises:
        InputError: a bad set, setting, protocol or output folder.
    """
    config, options = config or ActConfig(), options or ProtocolOptions()
    manifest, out = Manifest.load(data, root=root), Path(out)
    manifest.check_classes()
    record = {
        "config": settings_record(config),
        "data": manifest.fingerprint,
        "protocol": protocol,
        "options": vars(options),
        "comparisons": comparisons,
    }
    check_same_evaluation(out, record, overwrite=overwrite)
    bench = Bench.of(data, config, out, features=features, root=root)
    folds: list[Any]
    if protocol == "few-shot":
        folds = list(few_shot_folds(bench.samples, config, options))
        trained = [fold for _, fold in folds]
    elif protocol == "base-to-new":
        folds = list(base_to_new_folds(bench.samples, config, options))
        trained = [pair.base for _, _, pair in folds]
    else:
        trained = folds = list(plain_folds(bench.manifest, bench.samples, config, protocol, options))
    for fold in trained:
        check_fold(bench.inputs, fold, config)
    # nothing is written, nor an earlier evaluation removed, before all that was asked for can be done
    open_folder(out, record, overwrite=overwrite)
    if protocol == "few-shot":
        judgement = _few_shot(bench, folds)
    elif protocol == "base-to-new":
        judgement = _base_to_new(bench, folds)
    else:
        judgement = _plain(bench, folds)
        if comparisons:
            judgement = replace(judgement, comparisons=_compare(bench, folds, judgement.predictions))
    judgement = replace(judgement, metric=_metric_of(bench.manifest, protocol))
    return write_evaluation(
        out,
        judgement,
        title=f"{protocol} on {bench.manifest.about.get('title', bench.manifest.about['format'])}",
        backbone=str(bench.vlm.origin),
        settings=config_to_yaml(config),
    )


def _metric_of(manifest: Manifest, protocol: str) -> str:
    """The figure that a set's own protocol is about."""
    found = manifest.protocols.get(protocol)
    return "mean_class_accuracy" if found is not None and found.metric == "mean_class_accuracy" else "top1"


def _plain(bench: Bench, folds: Sequence[Fold]) -> Judgement:
    results = [
        bench.run(fold, f"{fold.repeat:02d}-{fold.number:03d}") for fold in tqdm(folds, desc="folds", unit="fold")
    ]
    return Judgement(concatenate(part for part, _ in results), all_warnings(results))


def _few_shot(bench: Bench, folds: Sequence[tuple[int, Fold]]) -> Judgement:
    found: dict[int, list[tuple[Predictions, tuple[str, ...]]]] = {}
    for place, (shots, fold) in enumerate(tqdm(folds, desc="folds", unit="fold")):
        found.setdefault(shots, []).append(bench.run(fold, f"{shots}-shots-{place:03d}"))
    by_shots = {shots: concatenate(part for part, _ in parts) for shots, parts in found.items()}
    for shots, predictions in by_shots.items():
        predictions.write_csv(bench.out / f"predictions_{shots}_shots.csv")
    details = {str(shots): metrics_of(predictions) for shots, predictions in by_shots.items()}
    every = [part for parts in found.values() for part in parts]
    return Judgement(by_shots[max(by_shots)], all_warnings(every), details={"shots": details})


def _base_to_new(bench: Bench, pairs: Sequence[tuple[int, list[str], BaseToNew]]) -> Judgement:
    results, draws = [], {}
    for place, (draw, new, pair) in enumerate(tqdm(pairs, desc="folds", unit="fold")):
        predictions, notes = bench.run(pair.base, f"{draw:02d}-{place:03d}", tests=[pair.base, pair.new])
        predictions = replace(predictions, repeats=np.full(len(predictions), draw))
        results.append((predictions, notes))
        draws[draw] = new
    whole = concatenate(part for part, _ in results)
    return Judgement(whole, all_warnings(results), details={"base_to_new": judge_draws(whole, draws)})


def _compare(bench: Bench, folds: Sequence[Fold], ours: Predictions) -> dict[str, Any]:
    """The same folds under other settings, and plain baselines; each with its metrics and the paired difference."""
    config = bench.config
    found: dict[str, Predictions] = {}
    variants: dict[str, ActConfig] = {}
    if config.visual.enabled and config.numeric.enabled:
        off = replace(config.numeric, enabled=False)  # type: ignore[call-arg]  # a key of its base class
        variants["picture only"] = replace(config, numeric=off)
        if config.numeric.fusion_mode == "statements" or config.numeric.course:
            variants["numbers only"] = replace(config, visual=replace(config.visual, enabled=False))
    variants[PRIMARY] = replace(config, exchange_texts=config.exchange_texts + 1)
    for name, changed in variants.items():
        other = bench.with_config(changed, bench.out / "comparisons" / name.replace(" ", "-"))
        found[name] = _plain(other, folds).predictions
    if bench.inputs.skeletons is not None:
        for name in BASELINES:
            parts = [
                on_all_classes(make_predictions(bench.samples, fold, baseline(name, bench.inputs, fold)), bench.samples)
                for fold in folds
            ]
            found[name] = concatenate(parts)
    rows: dict[str, Any] = {}
    for name, predictions in found.items():
        paired = ours.compare(predictions, ["top1"])["top1"]
        role = "primary" if name == PRIMARY else "descriptive"
        rows[name] = {**metrics_of(predictions), "difference_top1": paired.to_dict(), "comparison": role}
        target = bench.out / "comparisons"
        target.mkdir(exist_ok=True)
        predictions.write_csv(target / f"{name.replace(' ', '-')}.csv")
    return rows


def evaluate_run(
    run: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    subjects: Sequence[str] = (),
    features: str | Path | None = None,
    root: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Judge a trained model on other people than it was trained on.

    Args:
        run: a run folder, or its ``model``.
        data: a prepared set with the model's classes, or some of them.
        out: the evaluation's folder.
        subjects: only these people of the set.
        features: folder of frame features; by default below ``data``.
        root: where the videos lie now, if they moved.
        overwrite: replace an existing ``out``.

    Returns:
        As `evaluate`.

    Raises:
        InputError: a person, group or clip of the set was trained on; the set has a class that the model does not know,
            or lacks what the model uses.
    """
    out, subjects = check_output_path(out, overwrite=overwrite), as_list(subjects)
    saved = load_model(run)
    model, config = saved.model, saved.model.config
    manifest = Manifest.load(data, root=root)
    samples = manifest.samples()
    chosen = np.arange(len(samples))
    if subjects:
        groups = samples.group_array
        if strange := sorted(set(subjects) - set(groups)):
            raise InputError(f"--subjects {strange[0]}: no such subject; there are {', '.join(sorted(set(groups)))}")
        chosen = np.flatnonzero(np.isin(groups, list(subjects)))
    # ids and people of another set are others, even if they are called the same
    if manifest.about["format"] == saved.about["data"]["format"]:
        check_train_test_overlap(samples, chosen, saved.about["trained_on"], kind="clip")
    classes = {samples.class_names[label] for label in samples.labels[chosen]}
    if strange := sorted(classes - set(model.labels)):
        raise InputError(
            f"{data}: class {strange[0]!r} is none of the {len(model.labels)} that {run} was trained on "
            f"({len(strange)} are not)"
        )
    inputs = load_inputs(manifest, config, model.vlm, features=features_folder(data, features, config, model.vlm))
    refuse_other_numbers(inputs, saved)
    # in the model's order of classes
    number = {label: place for place, label in enumerate(model.labels)}
    table = Samples(
        ids=[samples.ids[row] for row in chosen],
        labels=np.array([number[samples.class_names[samples.labels[row]]] for row in chosen]),
        class_names=list(model.labels),
        groups=[samples.group_array[row] for row in chosen],
    )
    fold = zero_shot(table)
    tables = Tables.of(fold.test_ids, inputs, saved.course, saved.captioner, model.vlm)
    predictions = make_predictions(table, fold, predict(model, tables))
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    write_json(out / RECORD, {"run": str(run), "data": manifest.fingerprint})
    return write_evaluation(
        out,
        Judgement(predictions, list(saved.about["notes"])),
        title=f"{Path(run).name} on {manifest.about.get('title', manifest.about['format'])}",
        backbone=str(model.vlm.origin),
        settings=config_to_yaml(config),
    )


def refuse_other_numbers(inputs: Inputs, saved: Any) -> None:
    """The set's parameters and joints are those that the model was trained with.

    Raises:
        InputError: they are not.
    """
    names = saved.model.parameter_names
    if inputs.parameters is not None and inputs.parameters.names != names:
        raise InputError(
            f"the set's named parameters ({len(inputs.parameters.names)}) are not the {len(names)} of the model: "
            "prepare it as the training set was"
        )
    if saved.course is not None and inputs.joint_names != saved.course.joint_names:
        raise InputError(
            f"the set's skeletons have the joints {', '.join(inputs.joint_names[:4])}..., the model's "
            f"{', '.join(saved.course.joint_names[:4])}..."
        )
