"""Training a model that is to be used: on all clips of a prepared set, or on the training side of a protocol."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from actprompt.config import ActConfig
from actprompt.fitting import Trained, check_fold, fit_fold
from actprompt.inputs import Inputs, load_inputs
from actprompt.manifest import Manifest
from actprompt.protocols import official_fold, validation_share
from actprompt.saved import SavedModel, save_model
from actprompt.texts import class_texts
from icube_common.config import config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import Fold, train_on_all
from icube_common.io.reports import Report
from icube_common.io.runs import RunFolder, read_json
from icube_common.prompts import ClassTexts
from icube_common.training import check_start, load_backbone, open_run
from icube_common.utils import as_list
from icube_common.vlm import FrozenVLM, feature_fingerprint

logger = logging.getLogger(__name__)


def features_folder(data: str | Path, features: str | Path | None, config: ActConfig, vlm: FrozenVLM) -> Path | None:
    """Where frame features are kept: where the user says, else below the prepared set, by backbone and frames."""
    if features is not None:
        return Path(features)
    sampling = config.video.sampling
    name = f"{feature_fingerprint(vlm)[:12]}-{sampling.mode}-{sampling.frames}x{sampling.views}"
    folder = Path(data) / "features" / name
    if folder.is_dir() or os.access(data, os.W_OK):
        return folder
    logger.warning("%s: cannot be written, features are computed and not kept; --features FOLDER keeps them", data)
    return None


def train(
    data: str | Path,
    out: str | Path,
    config: ActConfig | None = None,
    *,
    protocol: str | None = None,
    leave_out: Sequence[str] = (),
    features: str | Path | None = None,
    root: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train on a prepared set and save the model.

    Args:
        data: what ``actprompt prepare`` made.
        out: the run folder; `icube_common.io.runs` says what it holds.
        config: all settings.
        protocol: a published split, whose training side is trained on; by default all clips.
        leave_out: subjects that are not trained on.
        features: folder of frame features; by default below ``data``.
        root: where the videos lie now, if they moved.
        resume: go on from the newest whole checkpoint of ``out``.
        overwrite: replace an existing ``out``.

    Returns:
        Where model and report are, clips, subjects, steps, seconds, the last losses.

    Raises:
        InputError: a bad set, setting or output folder; nothing is written then.
    """
    config = config or ActConfig()
    leave_out = as_list(leave_out)
    check_start(config.train, out, resume=resume, overwrite=overwrite)
    manifest = Manifest.load(data, root=root)
    manifest.check_classes()
    chosen = {"protocol": protocol, "leave_out": sorted(leave_out)}
    if resume:
        _refuse_other(RunFolder(out), manifest, chosen)
    fold = training_fold(manifest, config, protocol=protocol, leave_out=leave_out)
    texts = class_texts(manifest, config)
    vlm = load_backbone(config.vlm, config.train)
    inputs = load_inputs(manifest, config, vlm, features=features_folder(data, features, config, vlm))
    check_fold(inputs, fold, config)
    run = open_run(
        out,
        config=config.train,
        config_yaml=config_to_yaml(config),
        environment={
            "data": str(data),
            "data_fingerprint": manifest.fingerprint,
            "training_side": chosen,
            "backbone": vlm.describe(),
            "knowledge": texts.provenance,
            "seed": config.train.seed,
        },
        resume=resume,
        overwrite=overwrite,
    )
    trained = fit_fold(inputs, fold, config, vlm, texts, run, resume=resume)
    saved = to_save(trained, manifest, fold, texts)
    if PartialState().is_main_process:
        save_model(run.model, saved, overwrite=True)
        write_training_report(run, manifest, trained, inputs)
    return {
        "run": str(run.path),
        "model": str(run.model),
        "report": str(run.report),
        "clips": len(fold.train),
        "subjects": len(saved.about["trained_on"]["subjects"]),
        "backbone": str(vlm.origin),
        **trained.result.summary(run),
        "notes": list(trained.notes),
    }


def training_fold(manifest: Manifest, config: ActConfig, *, protocol: str | None, leave_out: Sequence[str]) -> Fold:
    """The fold that `train` trains on.

    Raises:
        InputError: no such protocol, no such subject, or nobody is left.
    """
    samples = manifest.samples()
    if protocol is not None:
        if leave_out:
            raise InputError(f"--leave-out {','.join(leave_out)}: does not go with --protocol {protocol}")
        return official_fold(manifest, samples, protocol, config)
    if leave_out:
        groups = samples.group_array
        if strange := sorted(set(leave_out) - set(groups)):
            raise InputError(f"--leave-out {strange[0]}: no such subject; there are {', '.join(sorted(set(groups)))}")
        kept = np.flatnonzero(~np.isin(groups, list(leave_out)))
        if not len(kept):
            raise InputError(f"--leave-out {','.join(leave_out)}: nobody is left to train on")
        samples = samples.subset(kept)
    return train_on_all(samples, seed=config.train.seed, validation=validation_share(config))


def to_save(trained: Trained, manifest: Manifest, fold: Fold, texts: ClassTexts) -> SavedModel:
    """A trained model with what is to be known about it later."""
    rows = np.concatenate([fold.train, fold.validation])
    about = {
        "data": {
            "format": manifest.about["format"],
            "title": manifest.about["title"] if "title" in manifest.about else manifest.about["format"],
            "fingerprint": manifest.fingerprint,
            "simulated": bool(manifest.about.get("simulated", False)),
            "classes": {label: texts.names[label] for label in trained.model.labels},
        },
        "trained_on": {
            "clips": len(rows),
            "subjects": sorted({fold.samples.groups[row] for row in rows}),
            "ids": sorted(fold.samples.ids[row] for row in rows),
        },
        "knowledge": dict(texts.provenance),
        "notes": list(trained.notes),
    }
    return SavedModel(trained.model, trained.course, trained.captioner, about)


def write_training_report(run: RunFolder, manifest: Manifest, trained: Trained, inputs: Inputs) -> None:
    """``report.html`` of a run: what was trained, the losses, the words that the prompts have come to."""
    model = trained.model
    report = Report("Training", subtitle=f"{manifest.about.get('title', manifest.about['format'])}, {model.vlm.origin}")
    for note in trained.notes:
        report.paragraph(note)
    report.facts(
        {
            "actions": len(model.labels),
            "clips in the set": len(inputs.ids),
            "steps": trained.result.steps,
            "seconds": round(trained.result.seconds, 1),
            "stopped because": trained.result.stopped_because,
        }
    )
    report.section("Losses")
    records = run.read_metrics()
    names = [name for name in ("loss", "validation_loss") if any(name in record for record in records)]
    report.metrics(records, names, alt="Losses over the steps of the training")
    report.section("Prompts")
    rows = [[label, text] for label, text in _prompt_texts(model)]
    report.table(["action", "what its prompt started as"], rows)
    report.save(run.report)


def _prompt_texts(model: Any) -> list[tuple[str, str]]:
    owners = model.prompts.owner.tolist()
    return [(model.labels[owner], text) for owner, text in zip(owners, model.prompts.texts, strict=True)]


def _refuse_other(run: RunFolder, manifest: Manifest, chosen: Mapping[str, Any]) -> None:
    """A run goes on with the data, and the people, that it began with."""
    if not run.environment.is_file():
        return
    environment = read_json(run.environment)
    recorded = environment.get("data_fingerprint")
    if recorded != manifest.fingerprint:
        raise InputError(
            f"{run.path}: was trained on other data (fingerprint {str(recorded)[:12]}, here "
            f"{manifest.fingerprint[:12]}); resume with the same set, or start a new run"
        )
    if environment.get("training_side", chosen) != chosen:
        begun = environment["training_side"]
        words = [f"--protocol {begun['protocol']}"] if begun["protocol"] else []
        words += [f"--leave-out {','.join(begun['leave_out'])}"] if begun["leave_out"] else []
        raise InputError(f"{run.path}: was begun with {' '.join(words) or 'all clips'}; resume with the same")
