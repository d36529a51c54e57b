"""Training run: a model trained on a data set, saved with its report in a run folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

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
from icube_common.config import config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import Fold, train_on_all
from icube_common.io.reports import Report
from icube_common.io.runs import RunFolder, read_json
from icube_common.training import FitResult, check_start, load_backbone, open_run
from icube_common.utils import as_list

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """Result of `train`.

    Attributes:
        model: the trained model, in eval mode.
        run: the run folder; `MriModel.from_pretrained` and `MriPipeline.from_pretrained` read it.
        scans: training scans.
        subjects: training subjects.
        fit: steps, seconds and last losses of the training loop.
        notes: warnings for a reader.
    """

    model: MriModel
    run: RunFolder
    scans: int
    subjects: int
    fit: FitResult
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        model = self.model
        return {
            "notice": RESEARCH_ONLY,
            "run": str(self.run.path),
            "model": str(self.run.model),
            "report": str(self.run.report),
            "scans": self.scans,
            "subjects": self.subjects,
            "simulated": model.about["data"]["simulated"],
            "backbone": None if model.image_branch is None else str(model.image_branch.vlm.origin),
            "biomarkers": [] if model.biomarkers is None else list(model.biomarkers.names),
            "variables": [] if model.variables is None else list(model.variables.names),
            **self.fit.summary(self.run),
            "temperature": model.calibration.temperature,
            "threshold": model.abstention.threshold,
            "disclaimers": list(model.about["disclaimers"]),
            "notes": list(self.notes),
        }


def train(
    model: MriModel | MriConfig,
    data: ScanDataset | str | Path,
    out: str | Path,
    *,
    exclude_subjects: Sequence[str] = (),
    features: str | Path | None = None,
    root: str | Path | None = None,
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
        root: folder of the images, where they have moved.
        resume: resume from the newest whole checkpoint of ``out``.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: a bad set, setting or output folder, or a model of other classes or inputs; nothing is written then.
    """
    config = model if isinstance(model, MriConfig) else model.config
    exclude_subjects = sorted(as_list(exclude_subjects))
    check_start(config.train, out, resume=resume, overwrite=overwrite)
    manifest = ScanDataset.open(data, root=root).manifest
    if resume:
        _check_same_run(RunFolder(out), manifest, exclude_subjects)
    fold = training_fold(manifest, config, exclude_subjects=exclude_subjects)
    check_fold(fold, config)
    texts = MriTexts.of(manifest, config)
    given = model if isinstance(model, MriModel) else None
    if given is not None and given.image_branch is not None:
        vlm = given.image_branch.vlm
    else:
        vlm = load_backbone(config.vlm, config.train) if config.needs_encoder else None
    inputs = load_inputs(manifest, config, vlm, features=features)
    if given is not None:
        check_inputs(given, used_by(inputs, config), fold)
    run = open_run(
        out,
        config=config.train,
        config_yaml=config_to_yaml(config),
        environment={
            "notice": RESEARCH_ONLY,
            "data": str(manifest.folder),
            "data_fingerprint": manifest.fingerprint,
            "excluded_subjects": exclude_subjects,
            "backbone": None if vlm is None else vlm.describe(),
            "knowledge": texts.provenance,
            "disclaimers": list(inputs.disclaimers),
            "seed": config.train.seed,
        },
        resume=resume,
        overwrite=overwrite,
    )
    trained = train_fold(inputs, fold, config, vlm, texts, run, model=given, resume=resume)
    describe_training(trained, manifest, fold, texts)
    if PartialState().is_main_process:
        trained.model.save_pretrained(run.model, overwrite=True)
        write_training_report(run, manifest, trained)
    return TrainingResult(
        model=trained.model,
        run=run,
        scans=len(fold.train),
        subjects=len(trained.model.about["trained_on"]["subjects"]),
        fit=trained.result,
        notes=trained.notes,
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
        own, names = (() if found is None else tuple(found.names) for found in (part, table))
        if own != names:
            raise InputError(f"the model has the {what} {', '.join(own)}, the data {', '.join(names)}; {remedy}")
    if model.image_branch is not None and inputs.features is not None:
        lengths = {len(features) for features in inputs.features.values()}
        slices = model.image_branch.pooling.slices
        if slices and lengths != {slices}:
            raise InputError(f"the model takes {slices} slices a scan, the data has {sorted(lengths)}; {remedy}")


def training_fold(manifest: Manifest, config: MriConfig, *, exclude_subjects: Sequence[str]) -> Fold:
    """The training fold of `train`: all scans but those of some subjects.

    Raises:
        InputError: no such subject, nobody is left, or the site names the diagnosis.
    """
    samples = manifest.samples()
    if exclude_subjects:
        groups = samples.group_array
        if strange := sorted(set(exclude_subjects) - set(groups)):
            raise InputError(
                f"--exclude-subjects {strange[0]}: no such subject; there are {', '.join(sorted(set(groups))[:8])}"
            )
        kept = np.flatnonzero(~np.isin(groups, list(exclude_subjects)))
        if not len(kept):
            raise InputError(f"--exclude-subjects {','.join(exclude_subjects)}: nobody is left to train on")
        samples = samples.subset(kept)
    check_site_confounding(samples)
    return train_on_all(samples, seed=config.train.seed, validation=config.validation_share)


def describe_training(trained: TrainedFold, manifest: Manifest, fold: Fold, texts: MriTexts) -> None:
    """Record data, training scans, class knowledge and warnings in ``model.about``."""
    rows = [manifest.index[fold.samples.ids[row]] for row in np.concatenate([fold.train, fold.validation])]
    trained.model.about = {
        "data": {
            "format": manifest.about["format"],
            "title": manifest.about["title"],
            "fingerprint": manifest.fingerprint,
            "simulated": manifest.simulated,
            "classes": {label: texts.classes.names[label] for label in trained.model.labels},
            "sequences": sorted({manifest.scans[row].sequence for row in rows}),
        },
        "trained_on": training_scans(manifest, rows),
        "knowledge": dict(texts.provenance),
        "disclaimers": list(trained.disclaimers),
        "notes": list(trained.notes),
    }


def write_training_report(run: RunFolder, manifest: Manifest, trained: TrainedFold) -> None:
    """``report.html`` of a run: what was trained, the losses, the weights of signs and variables."""
    model = trained.model
    calibration, abstention = model.calibration, model.abstention
    report = Report("Training", subtitle=str(manifest.about["title"]))
    report.paragraph(RESEARCH_ONLY)
    if manifest.simulated:
        report.paragraph("The scans are simulated, not of people.")
    for note in trained.notes:
        report.paragraph(note)
    report.facts(
        {
            "classes": ", ".join(model.labels),
            "scans": len(trained.inner),
            "steps": trained.result.steps,
            "seconds": round(trained.result.seconds, 1),
            "stopped because": trained.result.stopped_because,
            "slice pooling": None if model.image_branch is None else pooling_name(model) or model.config.visual.pooling,
            "weight of the image branch": None
            if model.image_branch is None
            else round(float(model.image_branch.logit_weight), 3),
            "temperature": round(calibration.temperature, 3),
            "answers from a confidence of": round(abstention.threshold, 3),
            "share answered, of training people left out": round(abstention.coverage, 3),
            "wrong among these": None if abstention.risk is None else round(abstention.risk, 3),
        }
    )
    report.section("Losses")
    records = run.read_metrics()
    names = [name for name in ("loss", "validation_loss") if any(name in record for record in records)]
    report.metrics(records, names, alt="Losses over the steps of the training")
    _weight_tables(report, trained)
    report.save(run.report)


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


def _check_same_run(run: RunFolder, manifest: Manifest, exclude_subjects: Sequence[str]) -> None:
    """Check that a resumed run has the data and the subjects of its start."""
    if not run.environment.is_file():
        return
    environment: Mapping[str, Any] = read_json(run.environment)
    recorded = environment.get("data_fingerprint")
    if recorded != manifest.fingerprint:
        raise InputError(
            f"{run.path}: was trained on other data (fingerprint {str(recorded)[:12]}, here "
            f"{manifest.fingerprint[:12]}); resume with the same set, or start a new run"
        )
    first = environment.get("excluded_subjects", list(exclude_subjects))
    if first != list(exclude_subjects):
        words = f"--exclude-subjects {','.join(first)}" if first else "all people"
        raise InputError(f"{run.path}: was started with {words}; resume with the same")
