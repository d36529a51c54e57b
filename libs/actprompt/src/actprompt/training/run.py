"""Training run: a model trained on a data set, saved with its report in a run folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from actprompt.config import ActConfig
from actprompt.data.dataset import VideoDataset
from actprompt.data.manifest import Manifest
from actprompt.models.action_model import ActionModel, check_inputs
from actprompt.models.checkpoint import head_name
from actprompt.models.class_texts import class_texts
from actprompt.training.folds import training_fold
from actprompt.training.inputs import load_inputs
from actprompt.training.trainer import TrainedFold, check_fold, train_fold
from icube_common.config import config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import Fold
from icube_common.io.reports import Report
from icube_common.io.runs import RunFolder, read_json
from icube_common.prompts import ClassTexts
from icube_common.training import FitResult, check_start, load_backbone, open_run
from icube_common.utils import as_list
from icube_common.vlm import FrozenVLM, feature_fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """Result of `train`.

    Attributes:
        model: the trained model, in eval mode.
        run: the run folder; `ActionModel.from_pretrained` and `ActionPipeline.from_pretrained` read it.
        clips: training clips.
        subjects: training subjects.
        fit: steps, seconds and last losses of the training loop.
        notes: warnings for a reader.
    """

    model: ActionModel
    run: RunFolder
    clips: int
    subjects: int
    fit: FitResult
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        return {
            "run": str(self.run.path),
            "model": str(self.run.model),
            "report": str(self.run.report),
            "clips": self.clips,
            "subjects": self.subjects,
            "backbone": str(self.model.vlm.origin),
            **self.fit.summary(self.run),
            "notes": list(self.notes),
        }


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
    protocol: str | None = None,
    exclude_subjects: Sequence[str] = (),
    features: str | Path | None = None,
    root: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainingResult:
    """Train a model on a data set and save it.

    Args:
        model: an untrained model of `ActionModel.for_dataset`, trained in place; or the settings of one to make.
        data: a data set, or a prepared folder.
        out: the run folder, as described in `icube_common.io.runs`.
        protocol: a published split, whose training side is used; by default all clips.
        exclude_subjects: subjects without a part in the training.
        features: folder of frame features; by default below the data.
        root: folder of the videos, where they have moved.
        resume: resume from the newest whole checkpoint of ``out``.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: a bad set, setting or output folder, or a model of other classes; nothing is written then.
    """
    config = model if isinstance(model, ActConfig) else model.config
    exclude_subjects = as_list(exclude_subjects)
    check_start(config.train, out, resume=resume, overwrite=overwrite)
    manifest = VideoDataset.open(data, root=root).manifest
    manifest.check_classes()
    side = {"protocol": protocol, "exclude_subjects": sorted(exclude_subjects)}
    if resume:
        _check_same_run(RunFolder(out), manifest, side)
    fold = training_fold(manifest, config, protocol=protocol, exclude_subjects=exclude_subjects)
    texts = class_texts(manifest, config)
    vlm = load_backbone(config.vlm, config.train) if isinstance(model, ActConfig) else model.vlm
    folder = features_folder(manifest.folder, features, config, vlm)
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
            "training_side": side,
            "backbone": vlm.describe(),
            "knowledge": texts.provenance,
            "seed": config.train.seed,
        },
        resume=resume,
        overwrite=overwrite,
    )
    given = model if isinstance(model, ActionModel) else None
    trained = train_fold(inputs, fold, config, vlm, texts, run, model=given, resume=resume)
    describe_training(trained, manifest, fold, texts)
    if PartialState().is_main_process:
        trained.model.save_pretrained(run.model, overwrite=True)
        write_training_report(run, manifest, trained)
    about = trained.model.about
    return TrainingResult(
        model=trained.model,
        run=run,
        clips=len(fold.train),
        subjects=len(about["trained_on"]["subjects"]),
        fit=trained.result,
        notes=trained.notes,
    )


def describe_training(trained: TrainedFold, manifest: Manifest, fold: Fold, texts: ClassTexts) -> None:
    """Record data, training clips, class knowledge and warnings in ``model.about``."""
    rows = np.concatenate([fold.train, fold.validation])
    trained.model.about = {
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


def write_training_report(run: RunFolder, manifest: Manifest, trained: TrainedFold) -> None:
    """Write ``report.html`` of a run: facts, losses, and the texts that the prompts were initialised with."""
    model = trained.model
    report = Report("Training", subtitle=f"{manifest.about.get('title', manifest.about['format'])}, {model.vlm.origin}")
    for note in trained.notes:
        report.paragraph(note)
    report.facts(
        {
            "actions": len(model.labels),
            "clips in the set": len(manifest.clips),
            "temporal head": head_name(model) or model.config.visual.head,
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
    owners = model.prompts.owner.tolist()
    rows = [[model.labels[owner], text] for owner, text in zip(owners, model.prompts.texts, strict=True)]
    report.table(["action", "initial text of its prompt"], rows)
    report.save(run.report)


def _check_same_run(run: RunFolder, manifest: Manifest, side: Mapping[str, Any]) -> None:
    """Check that a resumed run has the data and the subjects of its start."""
    if not run.environment.is_file():
        return
    environment = read_json(run.environment)
    recorded = environment.get("data_fingerprint")
    if recorded != manifest.fingerprint:
        raise InputError(
            f"{run.path}: was trained on other data (fingerprint {str(recorded)[:12]}, here "
            f"{manifest.fingerprint[:12]}); resume with the same set, or start a new run"
        )
    if environment.get("training_side", side) != side:
        first = environment["training_side"]
        words = [f"--protocol {first['protocol']}"] if first["protocol"] else []
        words += [f"--exclude-subjects {','.join(first['exclude_subjects'])}"] if first["exclude_subjects"] else []
        raise InputError(f"{run.path}: was started with {' '.join(words) or 'all clips'}; resume with the same")
