"""Training a model that is to be used, on the people of a prepared set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from debian_mri import RESEARCH_ONLY
from debian_mri.config import MriConfig
from debian_mri.data.inputs import Inputs, load_inputs
from debian_mri.data.leakage import check_site_confounding, training_scans
from debian_mri.data.manifest import Manifest
from debian_mri.models.checkpoint import SavedModel, save_model
from debian_mri.models.class_texts import MriTexts
from debian_mri.training.trainer import Trained, check_fold, fit_fold
from icube_common.config import config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import Fold, everything
from icube_common.reports import Report
from icube_common.runs import RunFolder, read_json
from icube_common.sequences import as_list
from icube_common.training import check_start, load_backbone, open_run

logger = logging.getLogger(__name__)


def train(
    data: str | Path,
    out: str | Path,
    config: MriConfig | None = None,
    *,
    leave_out: Sequence[str] = (),
    features: str | Path | None = None,
    root: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train on a prepared set and save the model.

    Args:
        data: what ``debian-mri prepare`` or ``simulate`` made.
        out: the run folder; `icube_common.runs` says what it holds.
        config: all settings.
        leave_out: subjects that are not trained on.
        features: folder of slice features; by default below ``data``.
        root: where the images lie now, if they moved.
        resume: go on from the newest whole checkpoint of ``out``.
        overwrite: replace an existing ``out``.

    Returns:
        Where model and report are, scans, subjects, steps, seconds, calibration, threshold, notes.

    Raises:
        InputError: a bad set, setting or output folder; nothing is written then.
    """
    config = config or MriConfig()
    leave_out = as_list(leave_out)
    check_start(config.train, out, resume=resume, overwrite=overwrite)
    manifest = Manifest.load(data, root=root)
    chosen = sorted(leave_out)
    if resume:
        _refuse_other(RunFolder(out), manifest, chosen)
    fold = training_fold(manifest, config, leave_out=leave_out)
    check_fold(fold, config)
    texts = MriTexts.of(manifest, config)
    vlm = load_backbone(config.vlm, config.train) if config.needs_tower else None
    inputs = load_inputs(manifest, config, vlm, features=features)
    run = open_run(
        out,
        config=config.train,
        config_yaml=config_to_yaml(config),
        environment={
            "notice": RESEARCH_ONLY,
            "data": str(data),
            "data_fingerprint": manifest.fingerprint,
            "left_out": chosen,
            "backbone": None if vlm is None else vlm.describe(),
            "knowledge": texts.provenance,
            "stamps": list(inputs.stamps),
            "seed": config.train.seed,
        },
        resume=resume,
        overwrite=overwrite,
    )
    trained = fit_fold(inputs, fold, config, vlm, texts, run, resume=resume)
    saved = to_save(trained, inputs, manifest, fold, texts)
    if PartialState().is_main_process:
        save_model(run.model, saved, overwrite=True)
        write_training_report(run, manifest, trained)
    return {
        "notice": RESEARCH_ONLY,
        "run": str(run.path),
        "model": str(run.model),
        "report": str(run.report),
        "scans": len(fold.train),
        "subjects": len(saved.about["trained_on"]["subjects"]),
        "simulated": manifest.simulated,
        "backbone": None if vlm is None else str(vlm.origin),
        "signs": [] if trained.model.signs is None else list(trained.model.signs.names),
        "variables": [] if trained.model.variables is None else list(trained.model.variables.names),
        **trained.result.summary(run),
        "temperature": trained.calibration.temperature,
        "threshold": trained.abstention.threshold,
        "stamps": list(trained.stamps),
        "notes": list(trained.notes),
    }


def training_fold(manifest: Manifest, config: MriConfig, *, leave_out: Sequence[str]) -> Fold:
    """The fold that `train` trains on.

    Raises:
        InputError: no such subject, nobody is left, or the site names the diagnosis.
    """
    samples = manifest.samples()
    if leave_out:
        groups = samples.group_array
        if strange := sorted(set(leave_out) - set(groups)):
            raise InputError(
                f"--leave-out {strange[0]}: no such subject; there are {', '.join(sorted(set(groups))[:8])}"
            )
        kept = np.flatnonzero(~np.isin(groups, list(leave_out)))
        if not len(kept):
            raise InputError(f"--leave-out {','.join(leave_out)}: nobody is left to train on")
        samples = samples.subset(kept)
    check_site_confounding(samples)
    return everything(samples, seed=config.train.seed, validation=config.validation_share)


def to_save(trained: Trained, inputs: Inputs, manifest: Manifest, fold: Fold, texts: MriTexts) -> SavedModel:
    """A trained model with what is to be known about it later."""
    rows = [manifest.index[fold.samples.ids[row]] for row in np.concatenate([fold.train, fold.validation])]
    about = {
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
        "stamps": list(trained.stamps),
        "notes": list(trained.notes),
    }
    columns = inputs.columns if trained.model.variables is not None else ()
    return SavedModel(trained.model, trained.calibration, trained.abstention, columns, about)


def write_training_report(run: RunFolder, manifest: Manifest, trained: Trained) -> None:
    """``report.html`` of a run: what was trained, the losses, the weights of signs and variables."""
    model, calibration, abstention = trained.model, trained.calibration, trained.abstention
    report = Report("Training", subtitle=str(manifest.about["title"]))
    report.paragraph(RESEARCH_ONLY)
    if manifest.simulated:
        report.paragraph("The scans are simulated: they are of nobody.")
    for note in trained.notes:
        report.paragraph(note)
    report.facts(
        {
            "classes": ", ".join(model.labels),
            "scans": len(trained.inner),
            "steps": trained.result.steps,
            "seconds": round(trained.result.seconds, 1),
            "stopped because": trained.result.stopped_because,
            "trust in the picture": None if model.picture is None else round(float(model.picture.trust), 3),
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


def _weight_tables(report: Report, trained: Trained) -> None:
    model = trained.model
    if model.signs is not None:
        report.section("Signs")
        weights = model.signs.weights().detach().T.tolist()
        rows = [[name, *map(_rounded, row)] for name, row in zip(model.signs.names, weights, strict=True)]
        report.table(["sign", *model.labels], rows, caption="Log-odds a standard deviation of the controls.")
    if model.late is not None and model.variables is not None:
        report.section("Variables")
        values, absent = model.late.weight.detach().T.chunk(2)
        rows = [
            [name, *map(_rounded, row), *map(_rounded, gone)]
            for name, row, gone in zip(model.variables.names, values.tolist(), absent.tolist(), strict=True)
        ]
        head = ["variable", *model.labels, *(f"{label}, where missing" for label in model.labels)]
        report.table(head, rows, caption="Log-odds a standard deviation of the training people.")
    if model.picture is not None:
        report.section("Descriptions")
        owners = model.picture.prompts.owner.tolist()
        texts = model.picture.prompts.texts
        report.table(
            ["class", "what its prompt started as"],
            [[model.labels[owner], text] for owner, text in zip(owners, texts, strict=True)],
        )


def _rounded(value: float) -> float:
    return round(value, 3)


def _refuse_other(run: RunFolder, manifest: Manifest, leave_out: Sequence[str]) -> None:
    """A run goes on with the data, and the people, that it began with."""
    if not run.environment.is_file():
        return
    environment: Mapping[str, Any] = read_json(run.environment)
    recorded = environment.get("data_fingerprint")
    if recorded != manifest.fingerprint:
        raise InputError(
            f"{run.path}: was trained on other data (fingerprint {str(recorded)[:12]}, here "
            f"{manifest.fingerprint[:12]}); resume with the same set, or start a new run"
        )
    begun = environment.get("left_out", list(leave_out))
    if begun != list(leave_out):
        words = f"--leave-out {','.join(begun)}" if begun else "all people"
        raise InputError(f"{run.path}: was begun with {words}; resume with the same")
