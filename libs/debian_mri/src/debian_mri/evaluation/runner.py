"""Evaluation on unseen people: models trained for each fold of a protocol, or a trained model on other people.

An evaluation's folder holds ``predictions.csv`` (one row for each scan and repeat), ``metrics.json``, ``report.html``,
``comparisons/`` and, where models were trained, ``folds/<name>/``. An interrupted evaluation is resumed.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri import RESEARCH_ONLY
from debian_mri.config import MriConfig
from debian_mri.data.dataset import ScanDataset
from debian_mri.data.inputs import Inputs, used_by
from debian_mri.data.leakage import (
    STRONG_ASSOCIATION,
    check_site_confounding,
    check_train_test_overlap,
    site_association,
)
from debian_mri.data.manifest import Manifest
from debian_mri.evaluation.comparisons import COMPARISONS, chosen, compare
from debian_mri.evaluation.context import EvaluationContext
from debian_mri.evaluation.protocols import ProtocolOptions, folds_of
from debian_mri.evaluation.report import METRICS, make_report
from debian_mri.evaluation.statistics.roc_analysis import pairwise_auc
from debian_mri.evaluation.statistics.subgroups import subgroup_metrics, subgroups_of
from debian_mri.models.mri_model import MriModel
from debian_mri.models.slice_pooling import Pooling
from debian_mri.training.trainer import check_fold, predict_logits
from icube_common.config import as_list, config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import (
    EvaluationResult,
    Fold,
    Predictions,
    Samples,
    make_predictions,
    select_groups,
    zero_shot,
)
from icube_common.evaluation.runner import (
    check_same_evaluation,
    fold_name,
    in_temporary_folder,
    open_folder,
    run_folds,
    settings_record,
    training_seconds,
)
from icube_common.io.csv import file_digest
from icube_common.tabular import TabularData
from icube_common.training import check_config
from icube_common.vlm import EncoderLike

# warning of a fold without validation, which is by design here
_NO_VALIDATION = "no validation rows: none asked for"
INSIDE = 5
"""With a trained run, comparisons are retrained inside the cohort on so many folds, fewer where a class is small."""


def evaluate(
    data: ScanDataset | str | Path,
    config: MriConfig | None = None,
    out: str | Path | None = None,
    *,
    pooling: Pooling | None = None,
    encoder: EncoderLike | None = None,
    protocol: str = "group-kfold",
    options: ProtocolOptions | None = None,
    comparisons: str = "none",
    features: str | Path | None = None,
    overwrite: bool = False,
) -> EvaluationResult:
    """Train for each fold of a protocol and evaluate the predictions of people outside the training.

    Args:
        data: a data set, or a prepared folder.
        config: all settings.
        out: the evaluation's folder, where an interrupted evaluation of the same settings is resumed; by default
            nothing is written.
        pooling: a custom slice pooling, as for `MriModel.for_dataset`.
        encoder: an encoder in place of the image tower, as for `MriModel.for_dataset`.
        protocol: ``group-kfold``, ``leave-one-site-out`` or ``given``.
        options: of the protocol.
        comparisons: ``all``, ``none`` or names with commas (`debian_mri.evaluation.comparisons.COMPARISONS`).
        features: folder of slice features; by default below the data.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: a bad set, setting, protocol or output folder; the site determines the class.
    """
    if out is None:
        rest: dict[str, Any] = {"pooling": pooling, "encoder": encoder, "options": options, "comparisons": comparisons}
        rest["features"] = features
        return in_temporary_folder(functools.partial(evaluate, data, config, protocol=protocol, **rest))
    begun = time.monotonic()
    config, options, out = config or MriConfig(), options or ProtocolOptions(), Path(out)
    names = chosen(comparisons)
    manifest = ScanDataset.open(data).manifest
    record = {
        "config": settings_record(config),
        "data": manifest.fingerprint,
        "protocol": protocol,
        "options": vars(options),
        "comparisons": list(names),
        "pooling": None if pooling is None else repr(pooling),
    }
    if encoder is not None:
        record["encoder"] = encoder if isinstance(encoder, str) else repr(encoder)
    if config.concepts.enabled and config.concepts.volumes:
        record["volumes"] = file_digest(Path(config.concepts.volumes))
    check_same_evaluation(out, record, overwrite=overwrite)
    check_config(config.train)
    samples = manifest.samples()
    check_site_confounding(samples)
    folds = folds_of(samples, protocol, options, validation=config.validation_share)
    for fold in folds:
        check_fold(fold, config)
    trainings = out / "folds"
    parts: dict[str, Any] = {"pooling": pooling, "encoder": encoder, "features": features}
    context = EvaluationContext.load(manifest, config, out, wider=bool(names), folds=trainings, **parts)
    # nothing is written, nor an earlier evaluation removed, before everything has been checked
    open_folder(out, record, overwrite=overwrite)
    predictions, warnings = run_folds(folds, lambda fold: context.train(fold, trainings / fold_name(fold)))
    compared = compare(context, folds, predictions, names)
    return _finish(
        context,
        predictions,
        [*site_warning(samples), *warnings],
        facts={
            "protocol": protocol,
            "folds": len({fold.number for fold in folds}),
            "repeats": len({fold.repeat for fold in folds}),
            "mode": _mode(config),
            "site_association": _sites(samples),
            "training_seconds": training_seconds(trainings),
            "seconds": round(time.monotonic() - begun, 1),
        },
        comparisons=compared,
        title=f"{protocol} on {manifest.description['title']}",
    )


def evaluate_run(
    run: str | Path | MriModel,
    data: ScanDataset | str | Path,
    out: str | Path,
    *,
    pooling: Pooling | None = None,
    encoder: EncoderLike | None = None,
    subjects: Sequence[str] = (),
    volumes: str | Path | None = None,
    comparisons: str = "none",
    features: str | Path | None = None,
    overwrite: bool = False,
) -> EvaluationResult:
    """Evaluate a trained model on other people than those of its training.

    Comparisons are retrained inside the cohort, on 5 folds of the same people: the figures of a model of that cohort.

    Args:
        run: a trained model, or what `MriModel.from_pretrained` takes.
        data: a data set with the model's classes, or some of them.
        out: the evaluation's folder.
        pooling: the custom slice pooling that a run was trained with.
        encoder: the image encoder that a run was trained with, where that was a class or an instance.
        subjects: only these people of the set.
        volumes: table of volumes of the scans, for a model of volumes; by default that of the training.
        comparisons: as for `evaluate`.
        features: folder of slice features; by default below the data.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: a person or image of the set was trained on; the set has a class outside the model's, or lacks
            inputs of the model.
    """
    begun = time.monotonic()
    out, names = Path(out), chosen(comparisons)
    model = run if isinstance(run, MriModel) else MriModel.from_pretrained(run, pooling=pooling, encoder=encoder)
    if volumes is not None:
        model.use_volumes(volumes)
    config, labels = model.config, list(model.labels)
    manifest = ScanDataset.open(data).manifest
    subjects = as_list(subjects)
    rows = select_groups(manifest.samples(), subjects, option="--subjects").tolist()
    trained = model.description["trained_on"]
    check_train_test_overlap(manifest, rows, trained)
    there = {manifest.scans[row].label for row in rows}
    name = "the model" if isinstance(run, MriModel) else str(run)
    if strange := sorted(there - set(labels)):
        raise InputError(
            f"{manifest.folder}: class {strange[0]!r} is none of the {len(labels)} that {name} was trained on "
            f"({', '.join(labels)})"
        )
    record = {
        "run": name,
        "trained_on": trained["ids"],
        "data": manifest.fingerprint,
        "subjects": list(subjects),
        "comparisons": list(names),
        **({"volumes": file_digest(Path(volumes))} if volumes is not None else {}),
    }
    check_same_evaluation(out, record, overwrite=overwrite)
    samples = _samples(manifest, rows, labels)
    vlm = None if model.image_branch is None else model.image_branch.vlm
    context = EvaluationContext.load(
        manifest, config, out, samples=samples, wider=bool(names), features=features, vlm=vlm
    )
    inputs, column_warnings = align_columns(used_by(context.inputs, config), model)
    fold = zero_shot(context.samples)
    logits = predict_logits(model, inputs.part(fold.test_inputs))
    probabilities = restrict_classes(model.calibration.probabilities(logits), labels, samples.class_names)
    predictions = make_predictions(context.samples, fold, probabilities)
    open_folder(out, record, overwrite=overwrite)
    compared, comparison_note = _inside(context, predictions, names)
    return _finish(
        context,
        predictions,
        [*model.description["warnings"], *column_warnings, *_absent(labels, samples.class_names)],
        facts={
            "protocol": "unseen cohort",
            "trained_on": f"{len(trained['subjects'])} people of {trained['title']}",
            "mode": _mode(config),
            "seconds": round(time.monotonic() - begun, 1),
        },
        comparisons=compared,
        comparison_note=comparison_note,
        title=f"{Path(name).name} on {manifest.description['title']}",
    )


def _finish(
    context: EvaluationContext,
    predictions: Predictions,
    warnings: Sequence[str],
    *,
    facts: Mapping[str, Any],
    comparisons: Mapping[str, Any],
    title: str,
    comparison_note: str = "",
) -> EvaluationResult:
    """Write the result of an evaluation into its folder."""
    result = EvaluationResult(
        predictions=predictions,
        metrics=predictions.metrics(METRICS),
        facts={
            "notice": RESEARCH_ONLY,
            "classes": list(predictions.class_names),
            **facts,
            "subgroups": subgroup_metrics(predictions, subgroups_of(context.manifest)),
            **({"pairwise_auc": pairwise_auc(predictions)} if len(predictions.class_names) > 2 else {}),
            "backbone": _backbone(context),
        },
        warnings=_warnings(context.manifest, warnings),
        disclaimers=context.inputs.disclaimers,
        comparisons=comparisons,
        sample="scans",
    )
    settings = config_to_yaml(context.config)
    return result.save(
        context.out,
        lambda saved: make_report(saved, title=title, settings=settings, comparison_note=comparison_note),
    )


def _samples(manifest: Manifest, rows: Sequence[int], labels: Sequence[str]) -> Samples:
    """Some scans with the classes that they have, in the model's order: those that predictions choose among."""
    scans = [manifest.scans[row] for row in rows]
    present = [label for label in labels if label in {scan.label for scan in scans}]
    if len(present) < 2:
        raise InputError(f"{manifest.folder}: all scans are {present[0]!r}: at least two classes are needed")
    sites = [scan.site for scan in scans if scan.site]
    return Samples(
        ids=[scan.id for scan in scans],
        labels=np.array([present.index(scan.label) for scan in scans]),
        class_names=present,
        groups=[scan.subject for scan in scans],
        sites=sites if len(sites) == len(scans) else None,
    )


def restrict_classes(probabilities: npt.NDArray[np.float64], labels: Sequence[str], present: Sequence[str]) -> Any:
    """Probabilities (N, C) over all labels as those among some of them, (N, P), which sum to one."""
    restricted = probabilities[:, [labels.index(label) for label in present]]
    return restricted / restricted.sum(axis=1, keepdims=True)


def align_columns(inputs: Inputs, model: MriModel) -> tuple[Inputs, list[str]]:
    """The tables with the model's columns, in its order; columns that the set lacks are missing, with a warning."""
    warnings = []
    names_by_kind = {
        "biomarkers": () if model.biomarkers is None else model.biomarkers.names,
        "demographics": () if model.variables is None else model.variables.names,
    }
    tables: dict[str, Any] = {}
    for kind, names in names_by_kind.items():
        table: TabularData | None = getattr(inputs, kind)
        if table is None:
            continue
        values = np.full((len(table.ids), len(names)), np.nan)
        for place, name in enumerate(names):
            if name in table.names:
                values[:, place] = table.values[:, table.names.index(name)]
            else:
                warnings.append(f"Not in this set, though the model uses it: {name}.")
        units = tuple(table.units[table.names.index(name)] if name in table.names else "" for name in names)
        tables[kind] = TabularData(ids=table.ids, names=tuple(names), values=values, units=units)
    return replace(inputs, **tables), warnings


def _absent(labels: Sequence[str], present: Sequence[str]) -> list[str]:
    """Warning where a set lacks classes of the model."""
    gone = [label for label in labels if label not in present]
    return [f"No scan of {', '.join(gone)}: predictions choose among {', '.join(present)}."] if gone else []


def _inside(context: EvaluationContext, ours: Predictions, names: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Comparisons that are retrained inside the cohort, and how."""
    if not names:
        return {}, ""
    folds: list[Fold]
    people = {(group, label) for group, label in zip(context.samples.group_array, context.samples.labels, strict=True)}
    smallest = min(Counter(int(label) for _, label in people).values())
    try:
        folds = folds_of(context.samples, "group-kfold", ProtocolOptions(folds=max(2, min(INSIDE, smallest))))
        for fold in folds:
            check_fold(fold, context.config)
    except InputError as error:
        reason = {"skipped": f"this cohort cannot be divided into folds ({error})"}
        return {
            name: {"title": COMPARISONS[name].title, "what": COMPARISONS[name].what, "check": False, **reason}
            for name in names
        }, ""
    note = (
        f"Comparisons were retrained inside this cohort, on {len(folds)} folds of its people: what a model of this "
        "cohort gets. The trained model has seen none of them."
    )
    return compare(context, folds, ours, names), note


def _warnings(manifest: Manifest, warnings: Sequence[str]) -> list[str]:
    simulated = ["Simulated images: the figures are no evidence about people."] if manifest.simulated else []
    return list(dict.fromkeys([*simulated, *(text for text in warnings if text != _NO_VALIDATION)]))


def _backbone(context: EvaluationContext) -> str:
    """The frozen backbone, and whether it is the configured model's or only that of comparisons."""
    if context.vlm is None:
        return "no backbone"
    origin = str(context.vlm.origin)
    return origin if context.config.needs_encoder else f"no backbone; that of comparisons is {origin}"


def _mode(config: MriConfig) -> str:
    """Inputs of the configured model, in words."""
    parts = []
    if config.visual.enabled:
        parts.append(f"picture ({config.visual.pooling})")
    if config.concepts.enabled:
        parts.append("measured signs")
    if config.demographics.mode != "none":
        parts.append(f"variables ({config.demographics.mode})")
    return ", ".join(parts)


def site_warning(samples: Samples) -> list[str]:
    """Warning where site and diagnosis are strongly associated."""
    association = _sites(samples)
    if isinstance(association, str) or association["cramers_v"] < STRONG_ASSOCIATION:
        return []
    return [
        f"Site and diagnosis are associated (Cramer's V {association['cramers_v']:.2f}): figures may be of the "
        "scanner; see the checks, and --protocol leave-one-site-out."
    ]


def _sites(samples: Samples) -> dict[str, Any] | str:
    """Association of site and class."""
    if samples.sites is None:
        return "sites unknown"
    labels = [samples.class_names[label] for label in samples.labels]
    association = site_association(labels, samples.sites, samples.group_array.tolist())
    return "one site" if association is None else association.to_dict()
