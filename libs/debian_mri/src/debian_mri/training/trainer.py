"""Training of one fold: model, calibration and confidence threshold from its training rows alone."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor, nn

from debian_mri.config import MriConfig
from debian_mri.data.dataset import TrainingScans, batches, collated, to_tensors
from debian_mri.data.inputs import Inputs, used_by
from debian_mri.models.class_texts import MriTexts
from debian_mri.models.mri_model import MriModel
from debian_mri.models.selective_prediction import choose_threshold
from debian_mri.models.slice_pooling import Pooling
from debian_mri.training.ridge_init import initialise_image_branch
from icube_common.errors import InputError
from icube_common.evaluation import Fold
from icube_common.io.runs import RunFolder
from icube_common.losses import make_loss
from icube_common.tabular import TabularBranch
from icube_common.training import FitResult, StepRandom, fit
from icube_common.training.calibration import calibrate, held_out_logits
from icube_common.training.validation import launched_processes
from icube_common.vlm import FrozenVLM, default_device

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainedFold:
    """Result of `train_fold`.

    Attributes:
        model: in eval mode, on the device of its training, with calibration and confidence threshold.
        inner: out-of-fold logits (N, C) of the training rows by inner models, NaN where there were none.
        warnings: warnings for a reader.
        disclaimers: warnings for every report, such as variables close to the diagnosis.
        result: of the training loop.
    """

    model: MriModel
    inner: Array
    warnings: tuple[str, ...]
    disclaimers: tuple[str, ...]
    result: FitResult


def train_fold(
    inputs: Inputs,
    fold: Fold,
    config: MriConfig,
    vlm: FrozenVLM | None,
    texts: MriTexts,
    run: RunFolder,
    *,
    model: MriModel | None = None,
    pooling: Pooling | None = None,
    resume: bool = False,
) -> TrainedFold:
    """Train on a fold's training rows; its validation rows serve ``train.early_stopping_patience``.

    Calibration and the confidence threshold come from inner folds of the training rows, with a model for each.

    Args:
        inputs: the tables of all scans; only the fold's own rows are read.
        fold: rows and labels.
        config: all settings.
        vlm: the frozen backbone; None without image branch.
        texts: of all classes, and the directions of biomarkers.
        run: the run folder.
        model: an untrained model, trained in place; by default a new one.
        pooling: a custom slice pooling of new models; by default that of ``model``.
        resume: resume from the newest whole checkpoint.

    Raises:
        InputError: a training class without rows or text, tables that were not loaded, settings that do not fit.
    """
    inputs = used_by(inputs, config)
    check_fold(fold, config)
    if model is not None and model.image_branch is not None:
        pooling = model.image_branch.custom_pooling
    trained, warnings, result = _train(
        inputs, fold, config, vlm, texts, run, model=model, pooling=pooling, resume=resume
    )
    inner, inner_warnings = inner_logits(inputs, fold, config, vlm, texts, pooling=pooling)
    labels = fold.train_labels
    done = ~np.isnan(inner).any(axis=1)
    if done.any():
        trained.calibration = calibrate(inner[done], labels[done], method=config.calibration.method)
        trained.abstention = choose_threshold(
            trained.calibration.probabilities(inner[done]),
            labels[done],
            coverage=config.calibration.coverage,
            risk=config.calibration.risk,
        )
    trained.columns = inputs.columns if trained.variables is not None else ()
    whole = tuple(dict.fromkeys([*fold.warnings, *inputs.warnings, *texts.warnings, *warnings, *inner_warnings]))
    return TrainedFold(trained, inner, whole, inputs.disclaimers, result)


def predict_test(trained: TrainedFold, inputs: Inputs, fold: Fold) -> Array:
    """Calibrated probabilities (n_test, C) of a fold's test rows.

    Raises:
        InputError: the fold tests on other classes than it trains on.
    """
    if fold.test_classes != fold.train_classes:
        raise InputError(f"fold {fold.name!r}: tests on other classes than it trains on, which this model cannot")
    visible = used_by(inputs, trained.model.config).part(fold.test_inputs)
    return trained.model.calibration.probabilities(predict_logits(trained.model, visible))


@torch.no_grad()
def predict_logits(model: MriModel, inputs: Inputs) -> Array:
    """Logits (N, C) of all scans in ``inputs``, before calibration."""
    model.eval()
    parts = [model(send_to_device(batch, model.device)).cpu() for batch in batches(to_tensors(inputs))]
    logits: Array = torch.cat(parts).double().numpy()
    return logits


def check_fold(fold: Fold, config: MriConfig) -> None:
    """Check that a fold can be trained on, before anything is written.

    Raises:
        InputError: fewer than two classes, a class without training rows, no validation rows where they are needed.
    """
    if len(fold.train_classes) < 2:
        raise InputError(f"fold {fold.name!r}: there is one class only, at least two are needed")
    fold.check_trainable("scan", eval_steps=config.train.eval_steps)


def inner_logits(
    inputs: Inputs,
    fold: Fold,
    config: MriConfig,
    vlm: FrozenVLM | None,
    texts: MriTexts,
    *,
    pooling: Pooling | None = None,
) -> tuple[Array, list[str]]:
    """Logits (N, C) of the training rows, each by a model that was trained without its group, and warnings.

    NaN for all rows where there are too few groups for inner folds.
    """
    visible = inputs.part(fold.training_rows)
    # validation rows belong to the whole model alone: inner ones take the same number of steps
    plain = replace(config, train=replace(config.train, eval_steps=0, early_stopping_patience=0))
    if not runs_encoder(config) and launched_processes() == 1:
        # small maps of few rows: a GPU would wait for its launches
        plain = replace(plain, train=replace(plain.train, device="cpu"))

    def train_and_predict(inner: Fold) -> Array:
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder.create(Path(folder) / "run", config_yaml="", environment={})
            model, _, _ = _train(visible, inner, plain, vlm, texts, run, pooling=pooling)
        return predict_logits(model, visible.part(inner.test_inputs))

    return held_out_logits(
        fold, train_and_predict, folds=config.calibration.folds, check=lambda inner: check_fold(inner, plain)
    )


def _train(
    inputs: Inputs,
    fold: Fold,
    config: MriConfig,
    vlm: FrozenVLM | None,
    texts: MriTexts,
    run: RunFolder,
    *,
    model: MriModel | None = None,
    pooling: Pooling | None = None,
    resume: bool = False,
) -> tuple[MriModel, list[str], FitResult]:
    """A model on a fold's training rows, scaled and initialised by them alone."""
    train = inputs.part(fold.training_rows)
    rows, labels = to_tensors(train), torch.from_numpy(fold.train_labels)
    counts = np.bincount(fold.train_labels, minlength=len(fold.train_classes)).tolist()
    if model is None:
        model = MriModel.for_inputs(train, fold.train_class_names, config, vlm, texts, pooling=pooling)
    warnings = fit_statistics(model.cpu(), inputs, fold, rows)
    model.to(default_device(config.train.device))
    groups = [fold.samples.groups[row] for row in fold.train]
    with torch.no_grad():
        share = torch.tensor(counts, dtype=torch.float64).log()
        model.bias.copy_(share - share.mean())
        if model.image_branch is not None:
            warnings += initialise_image_branch(model, rows, labels, groups)
    result = fit(
        model,
        TrainingStep(model, config, counts),
        TrainingScans(rows, labels),
        config=config.train,
        run=run,
        collate=collated,
        validate=_validation(inputs, fold) if config.train.eval_steps else None,
        resume=resume,
    )
    if model.image_branch is not None and model.image_branch.tower is not None:
        model.image_branch.tower.check_frozen()
    return model.to(default_device(config.train.device)), warnings, result


def runs_encoder(config: MriConfig) -> bool:
    """True where each step runs a tower: for learned prompts, variables as text, or fine-tuning."""
    text = config.prompt.learn or config.demographics.mode == "text"
    return config.visual.enabled and (text or config.finetune.enabled)


def fit_statistics(model: MriModel, inputs: Inputs, fold: Fold, rows: Mapping[str, Tensor]) -> list[str]:
    """Fit scaling, control distributions and the tabular branch to training rows; returns warnings.

    Args:
        model: untrained, on the CPU.
        inputs: the tables that ``fold`` restricts to its training rows.
        fold: rows and labels.
        rows: the training rows as tensors.
    """
    warnings: list[str] = []
    config, covariates = model.config, None
    if model.variables is not None:
        model.variables.fit(rows["variables"])
        covariates = model.variables(rows["variables"])
    if model.biomarkers is not None:
        names, label = fold.train_class_names, config.concepts.control_class
        control = torch.tensor([names[number] == label for number in fold.train_labels])
        adjusted = covariates if len(model.biomarkers.slope) else None
        if note := model.biomarkers.fit(rows["biomarkers"], control, adjusted):
            warnings.append(note)
    if model.image_branch is not None:
        warnings += model.image_branch.prompts.warnings
        if config.demographics.mode == "text":
            assert inputs.demographics is not None
            generator = torch.Generator().manual_seed(config.train.seed)
            model.image_branch.branch = TabularBranch.fit(
                model.image_branch.vlm, config.tabular, inputs.demographics, fold, generator=generator
            )
    return warnings


class TrainingStep:
    """Loss of one step, with the penalties on the weights.

    Args:
        model: the unwrapped model.
        config: of the loss.
        class_counts: training rows of each class.
    """

    def __init__(self, model: MriModel, config: MriConfig, class_counts: Sequence[int]) -> None:
        self._model, self._rows = model, sum(class_counts)
        self._loss = make_loss(config.loss, class_counts)
        self._reference = None
        if config.loss.kgcoop and model.image_branch is not None:
            self._reference = model.image_branch.prompts.reference_features()

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor], random: StepRandom) -> dict[str, Tensor]:
        """Named scalar terms of a batch; ``loss`` is what is minimised."""
        extra: dict[str, Any] = {}
        if self._reference is not None and self._model.image_branch is not None:
            extra = {"learned": self._model.image_branch.texts(), "frozen": self._reference}
        terms = self._loss(model(batch), batch["label"], **extra)
        terms["penalty"] = self._model.penalty() / self._rows
        return {**terms, "loss": terms["loss"] + terms["penalty"]}


def _validation(inputs: Inputs, fold: Fold) -> Any:
    """The loss and the accuracy on a fold's validation rows."""
    rows = to_tensors(inputs.part(fold.validation_inputs))
    labels = torch.from_numpy(fold.validation_labels)

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, MriModel)
        parts = [model(send_to_device(batch, model.device)).float().cpu() for batch in batches(rows)]
        logits = torch.cat(parts)
        return {
            "loss": float(F.cross_entropy(logits, labels)),
            "accuracy": float(logits.argmax(1).eq(labels).float().mean()),
        }

    return validate
