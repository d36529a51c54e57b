"""Calibrated training: temperature and threshold of rejection from held-out groups of the training rows."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from actprompt.config import ActConfig
from actprompt.data.dataset import Inputs
from actprompt.models.action_model import ActionModel
from actprompt.models.visual_branch import Head
from actprompt.training.trainer import TrainedFold, check_fold, predict_logits, train_fold, visible_inputs
from icube_common.evaluation import Fold
from icube_common.io.runs import RunFolder
from icube_common.prompts import ClassTexts
from icube_common.training.calibration import calibrate, choose_rejection, held_out_logits
from icube_common.vlm import FrozenVLM

MAX_FOLDS = 5
"""Inner folds, each a training of its own."""


def train_calibrated(
    inputs: Inputs,
    fold: Fold,
    config: ActConfig,
    vlm: FrozenVLM,
    texts: ClassTexts,
    run: RunFolder,
    *,
    head: Head | None = None,
    model: ActionModel | None = None,
    resume: bool = False,
) -> TrainedFold:
    """Train as `train_fold`, and with ``config.calibrate`` fit temperature and threshold of rejection.

    These are fitted on predictions for training clips by models that were trained without the clips' groups.

    Args:
        inputs: as for `train_fold`, and so are the other arguments.
        fold: rows and labels.
        config: all settings.
        vlm: the frozen backbone.
        texts: of all classes.
        run: the run folder.
        head: a custom temporal head.
        model: an untrained model, trained in place.
        resume: resume from the newest whole checkpoint.
    """
    if model is not None and model.visual is not None and model.visual.custom:
        head = copy.deepcopy(model.visual.head)
    trained = train_fold(inputs, fold, config, vlm, texts, run, head=head, model=model, resume=resume)
    if not config.calibrate:
        return trained
    visible = visible_inputs(inputs, fold.training_rows)
    # validation rows belong to the whole model alone: inner ones take the same number of steps
    plain = replace(config, train=replace(config.train, eval_steps=0, early_stopping_patience=0))

    def train_and_predict(inner: Fold) -> npt.NDArray[np.float64]:
        with tempfile.TemporaryDirectory() as folder:
            inner_run = RunFolder.create(Path(folder) / "run", config_yaml="", environment={})
            part = train_fold(visible, inner, plain, vlm, texts, inner_run, head=head).model
        return predict_logits(
            part, part.clip_tensors(inner.test_ids, visible_inputs(visible, inner.test_inputs))
        ).numpy()

    groups = len({fold.samples.groups[row] for row in fold.train})
    logits, warnings = held_out_logits(
        fold,
        train_and_predict,
        folds=max(2, min(MAX_FOLDS, groups)),
        check=lambda inner: check_fold(visible, inner, plain),
    )
    if not warnings:
        trained.model.calibration = calibrate(logits, fold.train_labels, method="temperature")
        trained.model.rejection = choose_rejection(trained.model.calibration.probabilities(logits), fold.train_labels)
    return replace(trained, warnings=(*trained.warnings, *warnings))
