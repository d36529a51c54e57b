"""Training run: a model trained on a data set, saved with its report in a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from debian_mri import RESEARCH_ONLY
from debian_mri.config import MriConfig
from debian_mri.data.dataset import ScanDataset
from debian_mri.data.inputs import Inputs, load_inputs, used_by
from debian_mri.data.leakage import check_site_confounding, training_scans
from debian_mri.data.manifest import Manifest
from debian_mri.models.checkpoint import pooling_name
from debian_mri.models.class_texts import MriTexts
from debian_mri.models.mri_model import MriModel
from debian_mri.training.trainer import TrainedFold, check_fold, train_fold
from icube_common.config import as_list, config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import Fold, select_groups, train_on_all
from icube_common.io.reports import Report
from icube_common.io.runs import RunFolder
from icube_common.training import TrainingResult, finish_run, training_report
from icube_common.training.run import check_same_data, load_backbone
from icube_common.training.validation import check_start, open_run
from icube_common.vlm import EncoderLike
from icube_common.vlm.device import main_process_first


def train(
    model: MriModel | MriConfig,
    data: ScanDataset | str | Path,
    out: str | Path,
    *,
    exclude_subjects: Sequence[str] = (),
    features: str | Path | None = None,
    encoder: EncoderLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainingResult:
    """Train a model on a data set and save it.

    Args:
        model: an untrained model of `MriModel.for_dataset`, trained in place; or the settings of one to make.
        data: a data set, or a prepared folder.
        out: the run folder, as described in `icube_common.io.runs`.
        exclude_subjects: subjects without a part in the training.
        features: folder of slice features; by default below the data.
        encoder: an image encoder for settings, as for `MriModel.for_dataset`; a model has its own.
        resume: resume from the newest whole checkpoint of ``out``.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: a bad set, setting or output folder, or a model of other classes or inputs; nothing is written then.
    """
    config = model if isinstance(model, MriConfig) else model.config
    exclude_subjects = sorted(as_list(exclude_subjects))
    check_start(config.train, out, resume=resume, overwrite=overwrite)
    manifest = ScanDataset.open(data).manifest
    selection = {"exclude_subjects": exclude_subjects}
    if resume:
        check_same_data(out, fingerprint=manifest.fingerprint, selection=selection)
    fold = training_fold(manifest, config, exclude_subjects=exclude_subjects)
    check_fold(fold, config)
    texts = MriTexts.of(manifest, config)
    untrained = model if isinstance(model, MriModel) else None
    if untrained is not None and encoder is not None:
        raise InputError("encoder: the model has its own; give it to MriModel.for_dataset")
    if untrained is not None and untrained.image_branch is not None:
        vlm = untrained.image_branch.vlm
    else:
        vlm = load_backbone(config.vlm, config.train, encoder=encoder) if config.needs_encoder else None
    with main_process_first(config.train.device):
        inputs = load_inputs(manifest, config, vlm, features=features)
    if untrained is not None:
        check_inputs(untrained, used_by(inputs, config), fold)
    run = open_run(
        out,
        config=config.train,
        config_yaml=config_to_yaml(config),
        environment={
            "notice": RESEARCH_ONLY,
            "data": str(manifest.folder),
            "data_fingerprint": manifest.fingerprint,
            "selection": selection,
            "backbone": None if vlm is None else vlm.describe(),
            "knowledge": texts.provenance,
            "disclaimers": list(inputs.disclaimers),
            "seed": config.train.seed,
        },
        resume=resume,
        overwrite=overwrite,
    )
    trained = train_fold(inputs, fold, config, vlm, texts, run, model=untrained, resume=resume)
    describe_training(trained, manifest, fold, texts)
    trained_model = trained.model
    facts = {
        "notice": RESEARCH_ONLY,
        "scans": len(fold.train),
        "subjects": len(trained_model.description["trained_on"]["subjects"]),
        "simulated": manifest.simulated,
        "backbone": None if vlm is None else str(vlm.origin),
        "biomarkers": [] if trained_model.biomarkers is None else list(trained_model.biomarkers.names),
        "variables": [] if trained_model.variables is None else list(trained_model.variables.names),
        "temperature": trained_model.calibration.temperature,
        "threshold": trained_model.abstention.threshold,
        "disclaimers": list(trained.disclaimers),
    }
    result = TrainingResult(run=run, model=trained_model, fit=trained.result, facts=facts, warnings=trained.warnings)
    return finish_run(
        result,
        save=lambda folder: trained_model.save_pretrained(folder, overwrite=True),
        report=lambda: make_training_report(run, manifest, trained),
    )


def check_inputs(model: MriModel, inputs: Inputs, fold: Fold) -> None:
    """Check that a given model has the classes and inputs of a data set.

    Raises:
        InputError: classes, biomarkers, variables or numbers of slices differ.
    """
    remedy = "make one with MriModel.for_dataset"
    if model.labels != tuple(fold.train_class_names):
        raise InputError(
            f"the model has the classes {', '.join(model.labels)}, "
            f"the data {', '.join(fold.train_class_names)}; {remedy}"
        )
    for what, part, table in (
        ("biomarkers", model.biomarkers, inputs.biomarkers),
        ("variables", model.variables, inputs.demographics),
    ):
        model_names, names = (() if side is None else tuple(side.names) for side in (part, table))
        if model_names != names:
            raise InputError(
                f"the model has the {what} {', '.join(model_names)}, the data {', '.join(names)}; {remedy}"
            )
    images = inputs.features if inputs.features is not None else inputs.tower_inputs
    if model.image_branch is not None and images is not None:
        lengths = {len(images[name]) for name in inputs.ids}
        slices = model.image_branch.pooling.slices
        if slices and lengths != {slices}:
            raise InputError(f"the model takes {slices} slices a scan, the data has {sorted(lengths)}; {remedy}")


def training_fold(manifest: Manifest, config: MriConfig, *, exclude_subjects: Sequence[str]) -> Fold:
    """The training fold of `train`: all scans but those of some subjects.

    Raises:
        InputError: no such subject, no scan is left, or the site determines the diagnosis.
    """
    samples = manifest.samples()
    samples = samples.subset(select_groups(samples, exclude_subjects, option="--exclude-subjects", exclude=True))
    check_site_confounding(samples)
    return train_on_all(samples, seed=config.train.seed, validation=config.validation_share)


def describe_training(trained: TrainedFold, manifest: Manifest, fold: Fold, texts: MriTexts) -> None:
    """Record data, training scans, class knowledge and warnings in ``model.description``."""
    rows = [manifest.index[fold.samples.ids[row]] for row in np.concatenate([fold.train, fold.validation])]
    trained.model.description = {
        "data": {
            "format": manifest.description["format"],
            "title": manifest.description["title"],
            "fingerprint": manifest.fingerprint,
            "simulated": manifest.simulated,
            "classes": {label: texts.classes.names[label] for label in trained.model.labels},
            "sequences": sorted({manifest.scans[row].sequence for row in rows}),
        },
        "trained_on": training_scans(manifest, rows),
        "knowledge": dict(texts.provenance),
        "disclaimers": list(trained.disclaimers),
        "warnings": list(trained.warnings),
    }


def make_training_report(run: RunFolder, manifest: Manifest, trained: TrainedFold) -> Report:
    """Report page of a run: facts, losses, weights of biomarkers and variables."""
    model, branch = trained.model, trained.model.image_branch
    calibration, abstention = model.calibration, model.abstention
    simulated = ["The scans are simulated, not of people."] if manifest.simulated else []
    report = training_report(
        run,
        trained.result,
        subtitle=str(manifest.description["title"]),
        warnings=[RESEARCH_ONLY, *simulated, *trained.warnings],
        facts={
            "classes": ", ".join(model.labels),
            "scans": len(trained.inner),
            "slice pooling": None if branch is None else pooling_name(model) or model.config.visual.pooling,
            "weight of the image branch": None if branch is None else round(float(branch.logit_weight), 3),
            "temperature": round(calibration.temperature, 3),
            "confidence threshold": round(abstention.threshold, 3),
            "coverage, on inner test folds": round(abstention.coverage, 3),
            "risk, on inner test folds": None if abstention.risk is None else round(abstention.risk, 3),
        },
    )
    _weight_tables(report, trained)
    return report


def _weight_tables(report: Report, trained: TrainedFold) -> None:
    model = trained.model
    if model.biomarkers is not None:
        report.section("Biomarkers")
        weights = model.biomarkers.weights().detach().T.tolist()
        rows = [[name, *map(_rounded, row)] for name, row in zip(model.biomarkers.names, weights, strict=True)]
        report.table(["biomarker", *model.labels], rows, caption="Log-odds a standard deviation of the controls.")
    if model.linear is not None and model.variables is not None:
        report.section("Variables")
        values, absent = model.linear.weight.detach().T.chunk(2)
        rows = [
            [name, *map(_rounded, row), *map(_rounded, gone)]
            for name, row, gone in zip(model.variables.names, values.tolist(), absent.tolist(), strict=True)
        ]
        head = ["variable", *model.labels, *(f"{label}, where missing" for label in model.labels)]
        report.table(head, rows, caption="Log-odds a standard deviation of the training people.")
    if model.image_branch is not None:
        report.section("Descriptions")
        owners = model.image_branch.prompts.owner.tolist()
        texts = model.image_branch.prompts.texts
        report.table(
            ["class", "initial text of its prompt"],
            [[model.labels[owner], text] for owner, text in zip(owners, texts, strict=True)],
        )


def _rounded(value: float) -> float:
    return round(value, 3)
