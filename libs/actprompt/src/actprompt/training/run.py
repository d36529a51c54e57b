"""Training run: a model trained on a data set, saved with its report in a run folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from actprompt.config import ActConfig
from actprompt.data.dataset import VideoDataset
from actprompt.data.manifest import Manifest
from actprompt.data.pose.sources import SkeletonSource
from actprompt.models.action_model import ActionModel, check_inputs
from actprompt.models.checkpoint import head_name
from actprompt.models.class_texts import class_texts
from actprompt.training.calibration import train_calibrated
from actprompt.training.folds import training_fold
from actprompt.training.inputs import load_inputs
from actprompt.training.trainer import TrainedFold, check_fold
from icube_common.config import as_list, config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import Fold
from icube_common.io.reports import Report
from icube_common.prompts import ClassTexts
from icube_common.training import (
    TrainingResult,
    check_same_data,
    check_start,
    finish_run,
    load_backbone,
    open_run,
    trained_on,
    training_report,
)
from icube_common.vlm import EncoderLike, FrozenVLM, feature_fingerprint
from icube_common.vlm.device import main_process_first

logger = logging.getLogger(__name__)


def features_folder(data: str | Path, features: str | Path | None, config: ActConfig, vlm: FrozenVLM) -> Path | None:
    """Folder of frame features: the given one, else below the prepared set, by backbone and frame sampling."""
    if features is not None:
        return Path(features)
    sampling = config.video.sampling
    name = f"{feature_fingerprint(vlm)[:12]}-{sampling.mode}-{sampling.frames}x{sampling.views}"
    folder = Path(data) / "features" / name
    if folder.is_dir() or os.access(data, os.W_OK):
        return folder
    logger.warning("%s: cannot be written, features are computed and not stored; --features FOLDER stores them", data)
    return None


def train(
    model: ActionModel | ActConfig,
    data: VideoDataset | str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    protocol: str | None = None,
    exclude_subjects: Sequence[str] = (),
    features: str | Path | None = None,
    encoder: EncoderLike | None = None,
) -> TrainingResult:
    """Train a model on a data set and save it.

    Args:
        model: a model of `ActionModel.for_dataset`, which is trained in place, or the settings of one.
        data: data set or prepared folder.
        out: run folder to make; its files are described in `icube_common.io.runs`.
        overwrite: replace an existing ``out``.
        resume: resume from the newest whole checkpoint of ``out``.
        protocol: a published split, whose training side is used; by default all clips.
        exclude_subjects: subjects without a part in the training.
        features: folder of frame features; by default below the data.
        encoder: an image encoder for settings, as for `ActionModel.for_dataset`; a model has its own.

    Raises:
        InputError: a bad set, setting or output folder, or a model of other classes; nothing is written then.
    """
    config = model if isinstance(model, ActConfig) else model.config
    exclude_subjects = as_list(exclude_subjects)
    check_start(config.train, out, resume=resume, overwrite=overwrite)
    manifest = VideoDataset.open(data).manifest
    manifest.check_classes()
    selection = {"protocol": protocol, "exclude_subjects": sorted(exclude_subjects)}
    if resume:
        check_same_data(out, fingerprint=manifest.fingerprint, selection=selection)
    fold = training_fold(manifest, config, protocol=protocol, exclude_subjects=exclude_subjects)
    texts = class_texts(manifest, config)
    if isinstance(model, ActionModel) and encoder is not None:
        raise InputError("encoder: the model has its own; give it to ActionModel.for_dataset")
    vlm = model.vlm if isinstance(model, ActionModel) else load_backbone(config.vlm, config.train, encoder=encoder)
    folder = features_folder(manifest.folder, features, config, vlm)
    with main_process_first(config.train.device):
        inputs = load_inputs(manifest, config, vlm, features=folder)
    check_fold(inputs, fold, config)
    if isinstance(model, ActionModel):
        if model.labels != tuple(fold.train_class_names):
            raise InputError(
                f"{manifest.folder}: its {len(fold.train_classes)} training classes are not the {len(model.labels)} of "
                "the model; make one with ActionModel.for_dataset"
            )
        check_inputs(model, inputs)
    run = open_run(
        out,
        config=config.train,
        config_yaml=config_to_yaml(config),
        environment={
            "data": str(manifest.folder),
            "data_fingerprint": manifest.fingerprint,
            "selection": selection,
            "backbone": vlm.describe(),
            "knowledge": texts.provenance,
            "seed": config.train.seed,
        },
        resume=resume,
        overwrite=overwrite,
    )
    untrained = model if isinstance(model, ActionModel) else None
    trained = train_calibrated(inputs, fold, config, vlm, texts, run, model=untrained, resume=resume)
    describe_training(trained, manifest, fold, texts)
    subjects = trained.model.description["trained_on"]["subjects"]
    calibrated: dict[str, float] = {}
    if trained.model.calibration.rows:
        calibrated["temperature"] = round(trained.model.calibration.temperature, 4)
    if trained.model.rejection is not None:
        calibrated["rejection_threshold"] = round(trained.model.rejection.threshold, 4)
    result = TrainingResult(
        run=run,
        model=trained.model,
        fit=trained.result,
        facts={"clips": len(fold.train), "subjects": len(subjects), "backbone": str(vlm.origin), **calibrated},
        warnings=trained.warnings,
    )
    return finish_run(
        result,
        save=lambda folder: trained.model.save_pretrained(folder, overwrite=True),
        report=lambda: run_report(result, manifest),
    )


def describe_training(trained: TrainedFold, manifest: Manifest, fold: Fold, texts: ClassTexts) -> None:
    """Record data, training clips, class knowledge and warnings in ``model.description``."""
    skeleton = trained.model.config.skeleton
    clips = [manifest.clips[manifest.index[fold.samples.ids[row]]].duration for row in fold.train]
    trained.model.description = {
        "data": {
            "format": manifest.description["format"],
            "title": manifest.title,
            "fingerprint": manifest.fingerprint,
            "simulated": bool(manifest.description.get("simulated", False)),
            "classes": {label: texts.names[label] for label in trained.model.labels},
            "clip_seconds": float(np.median(clips)),
            "skeleton": SkeletonSource.choose(manifest, skeleton.source).name if skeleton.enabled else "",
        },
        "trained_on": {"clips": len(fold.train) + len(fold.validation), **trained_on(fold)},
        "knowledge": dict(texts.provenance),
        "fusion": dict(trained.fusion),
        "warnings": list(trained.warnings),
    }


def run_report(result: TrainingResult, manifest: Manifest) -> Report:
    """Report page of a training, with the texts that the prompts were initialised with."""
    model = result.model
    report = training_report(
        result.run,
        result.fit,
        subtitle=f"{manifest.title}, {model.vlm.origin}",
        warnings=result.warnings,
        facts={
            "actions": len(model.labels),
            "clips in the set": len(manifest.clips),
            "temporal head": head_name(model) or model.config.visual.head,
            **{f"weight, {name}": f"{weight:.2f}" for name, weight in model.description["fusion"].items()},
        },
    )
    report.section("Prompts")
    owners = model.prompts.owner.tolist()
    rows = [[model.labels[owner], text] for owner, text in zip(owners, model.prompts.texts, strict=True)]
    report.table(["action", "initial text of its prompt"], rows)
    return report
