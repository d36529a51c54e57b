"""Comparison of published methods with the own model: the same folds, features and budget of tuning.

Features of ``images`` are those of the frozen image encoder, of each plane the mean over its slices; those of
``pixels`` are block means of the slices, those of ``biomarkers`` the measured biomarkers, or volumes, with the age. The
own model is a row of its own and is given the same input; the configured model, with all inputs, is another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from debian_mri.config import MriConfig
from debian_mri.data.dataset import ScanDataset
from debian_mri.data.inputs import Inputs
from debian_mri.data.leakage import check_site_confounding
from debian_mri.evaluation.baselines.frozen_encoder import class_words
from debian_mri.evaluation.context import EvaluationContext
from debian_mri.evaluation.protocols import ProtocolOptions, folds_of
from debian_mri.evaluation.report import METRICS
from debian_mri.training.trainer import check_fold, predict_test, train_fold
from icube_common.errors import InputError, unknown
from icube_common.evaluation import Fold
from icube_common.evaluation.runner import settings_record
from icube_common.experiments.results.method_comparison import MethodComparison
from icube_common.experiments.runner.library_comparison import ComparisonRequest, LibraryModel, LibraryTraining
from icube_common.experiments.runner.method_cases import (
    ClassWords,
    FeatureSource,
    MethodCase,
    cached_features,
    few_shot_cases,
    plain_cases,
    standardised_features,
)
from icube_common.io.csv import file_digest
from icube_common.io.runs import RunFolder

INPUTS = ("images", "pixels", "biomarkers")
PROTOCOLS = ("group-kfold", "leave-one-site-out", "given", "few-shot")
OWN = "debian-mri"
CONFIGURED = "debian-mri, as configured"
TEMPLATE = "a brain MRI of a person with"


def compare_methods(
    data: ScanDataset | str | Path,
    config: MriConfig | None = None,
    *,
    out: str | Path,
    methods: str | Sequence[str] = "all",
    protocol: str = "group-kfold",
    features: str = "images",
    seeds: int | None = None,
    budget: int | None = None,
    reference: str | None = None,
    options: ProtocolOptions | None = None,
    shots: Sequence[int] = (1, 4, 16),
    features_folder: str | Path | None = None,
    overwrite: bool = False,
) -> MethodComparison:
    """Compare methods of the field with the own model on one kind of input.

    Writes ``table.md``, ``.tex`` and ``.csv``, ``metrics.*``, ``plot.*``, ``results.json``, ``report.html`` and
    ``runs/<method>/``. A finished training is not repeated, so that methods and seeds can be added later.

    Args:
        data: data set or prepared folder.
        config: of the own model; its backbone and slices serve all methods.
        out: the folder to make or to resume.
        methods: ``"all"``, ``"none"``, or names of `icube_common.experiments.methods.all_methods`.
        protocol: one of `PROTOCOLS`; ``few-shot`` draws the training scans of each fold of people.
        features: one of `INPUTS`.
        seeds: of each method; by default 3, and 1 for few-shot.
        budget: settings that each method may compare on inner folds of the training rows.
        reference: row that the others are compared with; by default the own model.
        options: of the protocol.
        shots: training scans a class, of few-shot.
        features_folder: folder of slice features; by default below the data.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: a bad set, setting, method or protocol, the site determines the class, or a folder of another
            comparison.
    """
    config, options = config or MriConfig(), options or ProtocolOptions()
    request = ComparisonRequest.check(
        out,
        methods=methods,
        protocol=protocol,
        features=features,
        drawn=("few-shot",),
        seeds=seeds,
        budget=budget,
        reference=reference,
        overwrite=overwrite,
    )
    manifest = ScanDataset.open(data).manifest
    restricted = only_input(config, features, age="age" in manifest.participants().names)
    settings = settings_record(restricted)
    record = request.open_record(
        data=manifest.fingerprint,
        options={**vars(options), "shots": list(shots)},
        volumes=file_digest(Path(config.concepts.volumes)) if config.concepts.volumes else "",
        **{key: settings[key] for key in ("vlm", "slices", "preprocess")},
    )
    samples = manifest.samples()
    check_site_confounding(samples)
    context = EvaluationContext.load(manifest, restricted, request.out, samples=samples, features=features_folder)
    cases = _cases(samples, protocol, options, shots)
    for case in cases:
        check_fold(case.train, restricted)
    models = {OWN: LibraryModel(restricted, _training(context))}
    if config != restricted:
        whole = EvaluationContext.load(manifest, config, request.out, samples=samples, features=features_folder)
        models[CONFIGURED] = LibraryModel(config, _training(whole))
    return request.run(
        record,
        samples=samples,
        cases=cases,
        features=_features(context, features),
        texts=ClassWords(
            words={label: class_words(label) for label in samples.class_names},
            vlm=_text_tower(context, features),
            templates=TEMPLATE,
        ),
        models=models,
        title=manifest.description["title"],
        metrics=METRICS,
        backbone="none" if context.vlm is None else str(context.vlm.origin),
        warnings=context.inputs.warnings,
    )


def only_input(config: MriConfig, features: str, *, age: bool = True) -> MriConfig:
    """The settings with one kind of input.

    Args:
        config: all settings.
        features: one of `INPUTS`.
        age: the set has the age, which joins biomarkers.

    Raises:
        InputError: another input.
    """
    if features not in INPUTS:
        raise unknown("features", features, INPUTS)
    images = features != "biomarkers"
    encoder = {"images": "vlm", "pixels": "pixels", "biomarkers": config.visual.encoder}[features]
    demographics = replace(config.demographics, mode="none")
    if not images and age:
        demographics = replace(config.demographics, mode="linear", columns=["age"])
    return replace(
        config,
        visual=replace(config.visual, enabled=images, encoder=encoder),
        concepts=replace(config.concepts, enabled=not images),
        demographics=demographics,
    )


def _cases(samples: Any, protocol: str, options: ProtocolOptions, shots: Sequence[int]) -> list[MethodCase]:
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    if protocol != "few-shot":
        return plain_cases(folds_of(samples, protocol, options))
    return few_shot_cases(list(few_shot_folds(samples, options, shots)))


def few_shot_folds(samples: Any, options: ProtocolOptions, shots: Sequence[int]) -> list[tuple[int, Fold]]:
    """Shots and fold: scans of other people than those of each test part of group-kfold, a number of each class.

    Raises:
        InputError: a class has fewer scans than shots outside a test part.
    """
    from icube_common.evaluation import few_shot

    folds = []
    for part in folds_of(samples, "group-kfold", options):
        drawn = few_shot(
            samples,
            shots=shots,
            seeds=[options.seed + part.repeat],
            test_ids=[samples.ids[row] for row in part.test],
            validation=0.0,
        )
        folds += [(shots[fold.number], replace(fold, repeat=part.repeat)) for fold in drawn]
    return folds


def _text_tower(context: EvaluationContext, features: str) -> Any:
    """The frozen model where image features lie in the space of its texts, else None."""
    vlm = context.vlm
    return vlm if features == "images" and vlm is not None and vlm.encoder is None else None


def _features(context: EvaluationContext, features: str) -> FeatureSource:
    inputs = context.inputs
    if features == "biomarkers":
        return _standardised(_biomarkers(context))
    assert inputs.features is not None
    pooled = {name: _by_plane(inputs, name) for name in inputs.features}
    if features == "pixels":
        return _standardised(pooled)
    if _text_tower(context, features) is None:
        return cached_features(pooled)
    joint = inputs.joint or inputs.features
    return cached_features(
        pooled, {name: F.normalize(slices.float().mean(0), dim=-1) for name, slices in joint.items()}
    )


def _by_plane(inputs: Inputs, scan: str) -> Tensor:
    """Means over the slices of each plane, side by side.

    Raises:
        InputError: scans of different planes.
    """
    assert inputs.features is not None
    planes = [part.plane for part in inputs.slices[scan]]
    names = sorted(set(planes))
    first = sorted({part.plane for part in inputs.slices[inputs.ids[0]]})
    if names != first:
        raise InputError(f"scan {scan}: planes {', '.join(names)}, and {inputs.ids[0]} has {', '.join(first)}")
    slices = inputs.features[scan].float()
    return torch.cat([slices[[plane == name for plane in planes]].mean(0) for name in names])


def _biomarkers(context: EvaluationContext) -> dict[str, Tensor]:
    """Biomarkers, and the age where the set has it."""
    table, people = context.inputs.biomarkers, context.inputs.demographics
    assert table is not None
    rows = dict(zip(table.ids, table.values, strict=True))
    if people is not None:
        ages = dict(zip(people.ids, people.values, strict=True))
        rows = {name: np.concatenate([row, ages[name]]) for name, row in rows.items()}
    return {name: torch.from_numpy(row).float() for name, row in rows.items()}


def _standardised(rows: Mapping[str, Tensor]) -> FeatureSource:
    """Features standardised by the training rows."""
    return lambda fold: standardised_features(fold, lambda view: torch.stack(list(view(rows).values())))


def _training(context: EvaluationContext) -> Callable[[Fold, MriConfig, RunFolder], LibraryTraining]:
    """Training of a model with the inputs of a context on the training side of a fold."""

    def train(fold: Fold, config: MriConfig, run: RunFolder) -> LibraryTraining:
        trained = train_fold(context.inputs, fold, config, context.vlm, context.texts, run)
        return LibraryTraining(
            trained.model, lambda part: predict_test(trained, context.inputs, part), trained.warnings
        )

    return train
