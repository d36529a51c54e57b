"""Evaluation on unseen people: models trained for each fold of a protocol, or a trained model on other people.

An evaluation's folder holds ``predictions.csv`` (one row for each clip and repeat), ``metrics.json``, ``report.html``
and, where models were trained, ``folds/<name>/`` with each training's records. An interrupted evaluation is resumed.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from actprompt.config import ActConfig
from actprompt.data.dataset import Inputs, VideoDataset
from actprompt.data.manifest import Manifest
from actprompt.evaluation.baselines import BASELINES, baseline
from actprompt.evaluation.protocols import ProtocolOptions, base_to_new_folds, few_shot_folds, plain_folds
from actprompt.evaluation.report import (
    PRIMARY,
    metric_names,
    metrics_of,
    report_page,
    summarize_draws,
)
from actprompt.models.action_model import ActionModel, check_inputs
from actprompt.models.class_texts import class_texts
from actprompt.models.visual_branch import Head
from actprompt.training.calibration import train_calibrated
from actprompt.training.inputs import load_inputs
from actprompt.training.run import features_folder
from actprompt.training.trainer import check_fold, predict_probabilities, predict_test
from icube_common.config import as_list, config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import (
    BaseToNew,
    EvaluationResult,
    Fold,
    Predictions,
    Samples,
    check_train_test_overlap,
    concatenate,
    make_predictions,
    select_groups,
    zero_shot,
)
from icube_common.evaluation.runner import (
    RECORD,
    FoldResult,
    all_warnings,
    cached_predictions,
    check_same_evaluation,
    compare_predictions,
    fold_name,
    in_temporary_folder,
    open_folder,
    run_folds,
    settings_record,
)
from icube_common.io.progress import progress_bar
from icube_common.io.runs import RunFolder, check_output_path, write_json
from icube_common.prompts import ClassTexts
from icube_common.training import check_config, load_backbone, open_run
from icube_common.vlm import EncoderLike, FrozenVLM


@dataclass(frozen=True, eq=False)
class EvaluationContext:
    """Data, settings and backbone that the folds of an evaluation share.

    Attributes:
        manifest: the set.
        samples: its clips, with labels: the only place with those of test rows.
        config: all settings.
        vlm: the frozen backbone.
        texts: of the classes.
        inputs: of all clips.
        out: the evaluation's folder.
        head: a temporal head in place of ``config.visual.head``.
    """

    manifest: Manifest
    samples: Samples
    config: ActConfig
    vlm: FrozenVLM
    texts: ClassTexts
    inputs: Inputs
    out: Path
    head: Head | None = None

    @classmethod
    def load(
        cls,
        manifest: Manifest,
        config: ActConfig,
        out: Path,
        *,
        features: str | Path | None,
        head: Head | None,
        encoder: EncoderLike | None = None,
    ) -> EvaluationContext:
        """Load everything that folds need."""
        check_config(config.train)
        texts = class_texts(manifest, config)
        vlm = load_backbone(config.vlm, config.train, encoder=encoder)
        inputs = load_inputs(manifest, config, vlm, features=features_folder(manifest.folder, features, config, vlm))
        return cls(manifest, manifest.samples(), config, vlm, texts, inputs, out, head)

    def with_config(self, config: ActConfig, out: Path) -> EvaluationContext:
        """The same set and backbone under other settings."""
        texts = class_texts(self.manifest, config)
        return replace(self, config=config, texts=texts, inputs=used_by(self.inputs, config), out=out)

    def score(self, fold: Fold, probabilities: np.ndarray) -> Predictions:
        """Predictions of a fold's test rows over all classes of the set."""
        return make_predictions(self.samples, fold, probabilities).over_classes(self.samples.class_names)

    def run(self, fold: Fold, name: str = "", tests: Sequence[Fold] = ()) -> FoldResult:
        """Train on a fold and predict it, or those of ``tests`` that share its training; cached in the folder.

        Returns:
            Predictions over all classes of the set, and the training's warnings.
        """
        folder = self.out / "folds" / (name or fold_name(fold))

        def train_and_predict() -> FoldResult:
            # an interrupted training of a fold is repeated: it takes seconds to minutes
            run: RunFolder = open_run(
                folder, config=self.config.train, config_yaml=config_to_yaml(self.config), overwrite=folder.exists()
            )
            trained = train_calibrated(self.inputs, fold, self.config, self.vlm, self.texts, run, head=self.head)
            parts = [
                self.score(part, predict_test(trained.model, self.inputs, part, self.texts)) for part in tests or [fold]
            ]
            whole = concatenate(parts)
            # base and new rows of one training count as one fold
            return replace(whole, folds=np.full(len(whole), int(whole.folds.min()))), trained.warnings

        return cached_predictions(folder, train_and_predict)

    def run_all(self, folds: Sequence[Fold]) -> FoldResult:
        """Train and predict each fold of a protocol."""
        return run_folds(folds, self.run)


def used_by(inputs: Inputs, config: ActConfig) -> Inputs:
    """The inputs that a configuration uses."""
    skeleton = config.skeleton.enabled
    return replace(
        inputs,
        frames=inputs.frames if config.visual.enabled else None,
        pixels=inputs.pixels if config.visual.enabled else None,
        skeletons=inputs.skeletons if skeleton and config.skeleton.trajectory else None,
        parameters=inputs.parameters if skeleton else None,
        warnings=inputs.warnings if config.visual.enabled else [],
    )


def evaluate(
    data: VideoDataset | str | Path,
    config: ActConfig | None = None,
    out: str | Path | None = None,
    *,
    head: Head | None = None,
    encoder: EncoderLike | None = None,
    protocol: str = "leave-one-subject-out",
    comparisons: bool = False,
    options: ProtocolOptions | None = None,
    overwrite: bool = False,
    features: str | Path | None = None,
) -> EvaluationResult:
    """Train for each fold of a protocol and evaluate the predictions of clips outside the training.

    Args:
        data: data set or prepared folder.
        config: all settings.
        out: the evaluation's folder; an interrupted evaluation of the same settings is resumed. None: nothing is kept.
        head: a temporal head in place of ``config.visual.head``: a class, called with ``width=D``, or an instance that
            is copied for each fold.
        encoder: an encoder of frames or clips in place of the image tower: a class or an instance.
        protocol: ``leave-one-subject-out``, ``k-fold``, ``few-shot``, ``base-to-new``, ``official``, or the name of one
            of the set's own.
        comparisons: also train on images alone, skeletons alone and shuffled class texts, and run plain baselines, on
            the same folds, with paired tests.
        options: of the sampled protocols.
        overwrite: replace an existing ``out``.
        features: folder of frame features; by default below the data.

    Raises:
        InputError: a bad set, setting, protocol or output folder.
    """
    if out is None:
        rest: dict[str, Any] = {"options": options, "comparisons": comparisons, "features": features}
        rest |= {"encoder": encoder, "protocol": protocol}
        return in_temporary_folder(functools.partial(evaluate, data, config, head=head, **rest))
    config, options = config or ActConfig(), options or ProtocolOptions()
    manifest, out = VideoDataset.open(data).manifest, Path(out)
    manifest.check_classes()
    record = {
        "config": settings_record(config),
        "data": manifest.fingerprint,
        "protocol": protocol,
        "options": vars(options),
        "comparisons": comparisons,
    }
    if head is not None:
        record["head"] = getattr(head, "__qualname__", type(head).__qualname__)
    if encoder is not None:
        record["encoder"] = encoder if isinstance(encoder, str) else getattr(encoder, "name", None) or str(encoder)
    check_same_evaluation(out, record, overwrite=overwrite)
    context = EvaluationContext.load(manifest, config, out, features=features, head=head, encoder=encoder)
    folds: list[Any]
    if protocol == "few-shot":
        folds = list(few_shot_folds(context.samples, config, options))
        trained = [fold for _, fold in folds]
    elif protocol == "base-to-new":
        folds = list(base_to_new_folds(context.samples, config, options))
        trained = [pair.base for _, _, pair in folds]
    else:
        trained = folds = list(plain_folds(manifest, context.samples, config, protocol, options))
    for fold in trained:
        check_fold(context.inputs, fold, config)
    # nothing is written, nor an earlier evaluation removed, before every fold has been checked
    open_folder(out, record, overwrite=overwrite)
    facts: dict[str, Any] = {}
    compared: dict[str, Any] = {}
    if protocol == "few-shot":
        (predictions, warnings), facts = _few_shot(context, folds)
    elif protocol == "base-to-new":
        (predictions, warnings), facts = _base_to_new(context, folds)
    else:
        predictions, warnings = context.run_all(folds)
        compared = _compare(context, folds, predictions) if comparisons else {}
    facts = {"metric": _metric_of(manifest, protocol), **facts}
    title = f"{protocol} on {manifest.title}"
    return _save(out, predictions, warnings, context.vlm, config, title=title, facts=facts, comparisons=compared)


def _save(
    out: Path,
    predictions: Predictions,
    warnings: Sequence[str],
    vlm: FrozenVLM,
    config: ActConfig,
    *,
    title: str,
    facts: Mapping[str, Any],
    comparisons: Mapping[str, Any] | None = None,
) -> EvaluationResult:
    """The result of an evaluation, written with its report."""
    result = EvaluationResult(
        predictions=predictions,
        metrics=predictions.metrics(metric_names(len(predictions.class_names))),
        facts={**facts, "backbone": str(vlm.origin)},
        warnings=warnings,
        comparisons=comparisons or {},
        sample="clips",
    )
    return result.save(out, lambda saved: report_page(saved, title=title, settings=config_to_yaml(config)))


def _metric_of(manifest: Manifest, protocol: str) -> str:
    """The figure of a set's own protocol."""
    definition = manifest.protocols.get(protocol)
    return "mean_class_accuracy" if definition is not None and definition.metric == "mean_class_accuracy" else "top1"


def _few_shot(context: EvaluationContext, folds: Sequence[tuple[int, Fold]]) -> tuple[FoldResult, dict[str, Any]]:
    by_size: dict[int, list[FoldResult]] = {}
    for index, (shots, fold) in enumerate(progress_bar(folds, desc="folds", unit="fold")):
        by_size.setdefault(shots, []).append(context.run(fold, f"{shots}-shots-{index:03d}"))
    by_shots = {shots: concatenate(part for part, _ in parts) for shots, parts in by_size.items()}
    for shots, predictions in by_shots.items():
        predictions.write_csv(context.out / f"predictions_{shots}_shots.csv")
    details = {str(shots): metrics_of(predictions) for shots, predictions in by_shots.items()}
    warnings = all_warnings([part for parts in by_size.values() for part in parts])
    return (by_shots[max(by_shots)], tuple(warnings)), {"shots": details}


def _base_to_new(
    context: EvaluationContext, pairs: Sequence[tuple[int, list[str], BaseToNew]]
) -> tuple[FoldResult, dict[str, Any]]:
    results, draws = [], {}
    for index, (draw, new, pair) in enumerate(progress_bar(pairs, desc="folds", unit="fold")):
        predictions, warnings = context.run(pair.base, f"{draw:02d}-{index:03d}", tests=[pair.base, pair.new])
        results.append((replace(predictions, repeats=np.full(len(predictions), draw)), warnings))
        draws[draw] = new
    whole = concatenate(part for part, _ in results)
    return (whole, tuple(all_warnings(results))), {"base_to_new": summarize_draws(whole, draws)}


def _compare(context: EvaluationContext, folds: Sequence[Fold], model_predictions: Predictions) -> dict[str, Any]:
    """Other settings and plain baselines on the same folds, each with its metrics and the paired difference."""
    config = context.config
    compared_models: dict[str, Predictions] = {}
    variants: dict[str, ActConfig] = {}
    if config.visual.enabled and config.skeleton.enabled:
        off = replace(config.skeleton, enabled=False)  # type: ignore[call-arg]  # a key of its base class
        variants["images only"] = replace(config, skeleton=off)
        if config.skeleton.fusion_mode == "captions" or config.skeleton.trajectory:
            variants["skeletons only"] = replace(config, visual=replace(config.visual, enabled=False))
    variants[PRIMARY] = replace(config, shuffle_class_texts=config.shuffle_class_texts + 1)
    target = context.out / "comparisons"
    for name, changed in variants.items():
        compared_models[name], _ = context.with_config(changed, target / name.replace(" ", "-")).run_all(folds)
    if context.inputs.skeletons is not None:
        for name in BASELINES:
            parts = [context.score(fold, baseline(name, context.inputs, fold)) for fold in folds]
            compared_models[name] = concatenate(parts)
    for name, predictions in compared_models.items():
        target.mkdir(exist_ok=True)
        predictions.write_csv(target / f"{name.replace(' ', '-')}.csv")
    compared = compare_predictions(model_predictions, compared_models, ["top1"], primary=PRIMARY)
    return {name: {**metrics_of(predictions), **compared[name]} for name, predictions in compared_models.items()}


def evaluate_run(
    run: str | Path | ActionModel,
    data: VideoDataset | str | Path,
    out: str | Path,
    *,
    head: Head | None = None,
    encoder: EncoderLike | None = None,
    subjects: Sequence[str] = (),
    features: str | Path | None = None,
    overwrite: bool = False,
) -> EvaluationResult:
    """Evaluate a trained model on other people than it was trained on.

    Args:
        run: a trained model, or what `ActionModel.from_pretrained` takes.
        data: a data set with the model's classes, or some of them.
        out: the evaluation's folder.
        head: the custom head that a run was trained with.
        encoder: the image encoder that a run was trained with, where that was a class or an instance.
        subjects: only these people of the set.
        features: folder of frame features; by default below the data.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: a person, group or clip of the set was trained on; the set has a class that the model does not know,
            or lacks what the model uses.
    """
    out, subjects = check_output_path(out, overwrite=overwrite), as_list(subjects)
    model = run if isinstance(run, ActionModel) else ActionModel.from_pretrained(run, head=head, encoder=encoder)
    config = model.config
    manifest = VideoDataset.open(data).manifest
    samples = manifest.samples()
    chosen = select_groups(samples, subjects, option="--subjects")
    # ids and people of another set are others, even if they are called the same
    if manifest.description["format"] == model.description["data"]["format"]:
        check_train_test_overlap(samples, chosen, model.description["trained_on"], kind="clip")
    classes = {samples.class_names[label] for label in samples.labels[chosen]}
    name = "the model" if isinstance(run, ActionModel) else str(run)
    if unknown := sorted(classes - set(model.labels)):
        raise InputError(
            f"{manifest.folder}: class {unknown[0]!r} is none of the {len(model.labels)} that {name} was trained on "
            f"({len(unknown)} are not)"
        )
    folder = features_folder(manifest.folder, features, config, model.vlm)
    inputs = load_inputs(manifest, config, model.vlm, features=folder)
    check_inputs(model, inputs)
    # in the model's order of classes
    number = {label: index for index, label in enumerate(model.labels)}
    table = Samples(
        ids=[samples.ids[row] for row in chosen],
        labels=np.array([number[samples.class_names[samples.labels[row]]] for row in chosen]),
        class_names=list(model.labels),
        groups=[samples.group_array[row] for row in chosen],
    )
    fold = zero_shot(table)
    predictions = make_predictions(table, fold, predict_probabilities(model, model.clip_tensors(fold.test_ids, inputs)))
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    write_json(out / RECORD, {"run": name, "data": manifest.fingerprint})
    title = f"{Path(name).name} on {manifest.title}"
    return _save(
        out, predictions, model.description["warnings"], model.vlm, config, title=title, facts={"metric": "top1"}
    )
