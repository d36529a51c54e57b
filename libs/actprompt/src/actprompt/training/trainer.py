"""Training of one fold: ridge initialisation, losses, validation, and prediction of its test rows.

The fold is the only source of rows and labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from jaxtyping import Float
from torch import Tensor, nn

from actprompt.config import ActConfig
from actprompt.data.dataset import ClipDataset, ClipTensors, Inputs
from actprompt.models.action_model import ActionModel
from actprompt.models.visual_branch import Head
from actprompt.skeleton.captions import Captioner
from actprompt.skeleton.trajectory import TrajectoryEncoder
from icube_common.errors import InputError
from icube_common.evaluation import Fold
from icube_common.io.runs import RunFolder
from icube_common.losses import gather_rows, make_loss, supervised_contrastive
from icube_common.prompts import ClassTexts, PromptLearner
from icube_common.prompts.ridge_init import (
    RidgeBlock,
    RidgeSetting,
    class_targets,
    initialise_late_fusion,
    initialise_ridge,
    select_by_group_cv,
    select_late_fusion,
)
from icube_common.tabular import TabularBranch
from icube_common.tabular.table import training_values
from icube_common.training import FitResult, StepRandom, fit
from icube_common.vlm import FinetunedTower, FrozenVLM

PREDICTION_BATCH = 256


@dataclass(frozen=True, eq=False)
class TrainedFold:
    """Result of `train_fold`.

    Attributes:
        model: in eval mode, on the backbone's device.
        warnings: for a report.
        result: of the training loop.
        fusion: weight of each input in a late fusion; empty for a joint regression.
    """

    model: ActionModel
    warnings: tuple[str, ...]
    result: FitResult
    fusion: Mapping[str, float]


def train_fold(
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
    """Train on a fold's training rows; early stopping uses its validation rows.

    Args:
        inputs: of all clips; only the fold's own rows are read.
        fold: rows and labels.
        config: all settings.
        vlm: the frozen backbone.
        texts: of all classes.
        run: the run folder.
        head: a temporal head in place of ``config.visual.head``.
        model: an untrained model of the fold's classes, trained in place; made here where it is not given.
        resume: resume from the newest whole checkpoint.

    Raises:
        InputError: a training class without rows or text, numbers that cannot be scaled, settings that do not fit.
    """
    check_fold(inputs, fold, config)
    labels = torch.from_numpy(fold.train_labels)
    counts = np.bincount(fold.train_labels, minlength=len(fold.train_classes))
    if model is None:
        names = () if inputs.parameters is None else inputs.parameters.names
        joints = () if inputs.skeletons is None else inputs.joint_names
        model = ActionModel.for_classes(
            vlm, texts, fold.train_class_names, config, joint_names=joints, parameters=names, head=head
        )
    visible = visible_inputs(inputs, fold.side_table)
    tensors = _fit_inputs(model, visible, fold)
    fusion = _initialise(model, config, tensors, labels, [fold.samples.groups[row] for row in fold.train])
    warnings = [*fold.warnings, *texts.warnings, *inputs.warnings, *model.prompts.warnings]
    result = fit(
        model,
        ActionLoss(model, counts.tolist()),
        ClipDataset(tensors, fold.train_labels.tolist()),
        config=config.train,
        run=run,
        validate=_validation(fold, visible, model) if config.train.eval_steps else None,
        resume=resume,
    )
    if model.visual is not None and isinstance(model.visual.tower, FinetunedTower):
        model.visual.tower.check_frozen()
    model.to(vlm.device)
    return TrainedFold(model, tuple(dict.fromkeys(warnings)), result, fusion)


def check_fold(inputs: Inputs, fold: Fold, config: ActConfig) -> None:
    """Check that a fold can be trained on, before anything is written.

    Args:
        inputs: as for `train_fold`.
        fold: as for `train_fold`.
        config: as for `train_fold`.

    Raises:
        InputError: a class without training rows, no validation rows where they are needed, no training skeleton.
    """
    fold.check_trainable("clip", eval_steps=config.train.eval_steps)
    if inputs.skeletons is not None:
        rows = fold.training_rows(inputs.skeletons)
        if not any(len(joints) for joints in rows.values()):
            raise InputError(f"fold {fold.name!r}: no training clip has a skeleton; set skeleton.trajectory=false")


def visible_inputs(inputs: Inputs, view: Any) -> Inputs:
    """The inputs through a view of a fold, which raises on rows of another part."""
    frames, pixels, skeletons = (
        None if table is None else view(table) for table in (inputs.frames, inputs.pixels, inputs.skeletons)
    )
    return replace(inputs, frames=frames, pixels=pixels, skeletons=skeletons)


def _fit_inputs(model: ActionModel, inputs: Inputs, fold: Fold) -> ClipTensors:
    """The training tensors, after what is fitted to the training rows: encoder, captioner, branch, scales."""
    config = model.config
    ids = [fold.samples.ids[row] for row in fold.train]
    if inputs.skeletons is not None:
        present = [inputs.skeletons[name] for name in ids if len(inputs.skeletons[name])]
        model.encoder = TrajectoryEncoder.fit(present, inputs.joint_names, config.skeleton.frames)
    if inputs.parameters is not None and config.skeleton.fusion_mode == "captions":
        model.captioner = Captioner.fit(inputs.parameters.names, training_values(inputs.parameters, fold))
    elif inputs.parameters is not None:
        generator = torch.Generator().manual_seed(config.train.seed)
        model.branch = TabularBranch.fit(
            model.vlm, config.skeleton.plain(), inputs.parameters, fold, generator=generator
        )
    tensors = model.clip_tensors(
        ids, inputs, copies=config.skeleton.num_time_warps, jitter=config.skeleton.jitter, seed=config.train.seed
    )
    device = model.device
    if model.trajectory is not None and tensors.trajectories is not None:
        model.trajectory.fit_scale(tensors.trajectories[:, 0].to(device))
    if model.parameters_map is not None and tensors.parameters is not None:
        model.parameters_map.fit_scale(tensors.parameters.to(device))
    if model.stated is not None and tensors.captions is not None:
        model.stated.fit_mean(tensors.captions.to(device))
    model.to(device)
    return tensors


@torch.no_grad()
def _initialise(
    model: ActionModel, config: ActConfig, tensors: ClipTensors, labels: Tensor, groups: Sequence[str]
) -> dict[str, float]:
    """Initialise the projections by ridge regression, solved on the CPU; returns the weights of a late fusion."""
    device = model.device
    copies = 1 if tensors.trajectories is None else tensors.trajectories.shape[1]
    pooled = features = None
    if model.visual is not None:
        model.eval()
        batches = tensors.batches(model.batch_size(PREDICTION_BATCH))
        pooled = torch.cat([model.visual.pooled(send_to_device(batch, device)) for batch in batches]).float()
        features = model.visual.head_features(pooled)
        model.visual.map.fit_scale(features)
    ridge, clips = config.ridge_init, len(labels)
    if not ridge.enabled:
        return {}
    prior = torch.zeros(clips * copies, model.vlm.embed_dim)
    blocks: dict[str, RidgeBlock] = {}
    if model.visual is not None and pooled is not None and features is not None:
        rows = model.visual.map.standardise(features).cpu()
        prior += model.visual.prior(pooled).cpu().repeat(copies, 1)
        blocks["image"] = RidgeBlock(rows.repeat(copies, 1), ridge.visual_alpha, model.visual.map)
    if model.trajectory is not None and tensors.trajectories is not None:
        rows = torch.cat(
            [model.trajectory.standardise(tensors.trajectories[:, copy].to(device)) for copy in range(copies)]
        ).cpu()
        blocks["trajectory"] = RidgeBlock(rows, ridge.trajectory_alpha, model.trajectory)
    if model.parameters_map is not None and tensors.parameters is not None:
        rows = model.parameters_map.standardise(tensors.parameters.to(device)).cpu()
        blocks["parameters"] = RidgeBlock(rows.repeat(copies, 1), ridge.parameters_alpha, model.parameters_map)
    if model.stated is not None and tensors.captions is not None:
        prior += model.stated(tensors.captions.to(device)).cpu().repeat(copies, 1)
    if not blocks:
        return {}
    classes = model.prompts().cpu()
    targets = class_targets(classes, one_hot=ridge.targets == "one_hot")[labels].repeat(copies, 1)
    listed, setting = list(blocks.values()), RidgeSetting()
    if ridge.fusion == "late":
        late = select_late_fusion(listed, targets, prior, labels, groups, classes, copies=copies)
        initialise_late_fusion(listed, targets, copies=copies, factors=late.factors, weights=late.weights)
        model.trust.fill_(late.prior_weight)
        untrained = {"without training": late.prior_weight} if prior.any() else {}
        return dict(zip(blocks, late.weights, strict=True)) | untrained
    if ridge.tune:
        setting = select_by_group_cv(listed, targets, prior, labels, groups, classes, copies=copies)
    initialise_ridge(listed, targets, prior, copies=copies, setting=setting)
    model.trust.fill_(setting.prior_weight)
    return {}


class ActionLoss:
    """Loss of a training step: classification, contrastive and KgCoOp terms.

    Args:
        model: the model without the wrapper of a distributed training.
        class_counts: training rows of each class.
    """

    def __init__(self, model: ActionModel, class_counts: Sequence[int]) -> None:
        self._model, self._config = model, model.config.loss
        self._loss = make_loss(self._config, class_counts)
        self._reference = model.prompts.reference_features() if self._config.kgcoop else None

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor], random: StepRandom) -> dict[str, Tensor]:
        """Named scalar terms of a batch; ``loss`` is their sum."""
        out, extra = model(batch), {}
        if self._reference is not None:
            learned = self._model.prompts(per_description=True)
            extra = {"learned": learned, "frozen": self._reference.to(out.logits.device)}
        terms = self._loss(out.logits, batch["label"], **extra)
        if self._config.contrastive:
            terms["contrastive"] = supervised_contrastive(
                gather_rows(out.sample), gather_rows(batch["label"]), temperature=self._config.temperature
            )
            terms["loss"] = terms["loss"] + self._config.contrastive * terms["contrastive"]
        if out.loss is not None:
            terms["tabular"] = out.loss
            terms["loss"] = terms["loss"] + out.loss
        return terms


def _validation(fold: Fold, inputs: Inputs, owner: ActionModel) -> Any:
    """Loss and accuracy on a fold's validation rows."""
    tensors = owner.clip_tensors([fold.samples.ids[row] for row in fold.validation], inputs)
    labels = torch.from_numpy(fold.validation_labels)

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, ActionModel)
        batches = tensors.batches(model.batch_size(PREDICTION_BATCH))
        parts = [model(send_to_device(batch, model.device)).logits.float().cpu() for batch in batches]
        logits = torch.cat(parts)
        return {
            "loss": float(F.cross_entropy(logits, labels)),
            "top1": float(logits.argmax(1).eq(labels).float().mean()),
        }

    return validate


def predict_probabilities(
    model: ActionModel, tensors: ClipTensors, *, prompts: PromptLearner | None = None, class_rows: Tensor | None = None
) -> npt.NDArray[np.float64]:
    """Probabilities (N, C) of clips by the model's temperature; arguments as of `predict_logits`."""
    logits = predict_logits(model, tensors, prompts=prompts, class_rows=class_rows)
    probabilities: npt.NDArray[np.float64] = (logits / model.calibration.temperature).softmax(-1).numpy()
    return probabilities


@torch.no_grad()
def predict_logits(
    model: ActionModel, tensors: ClipTensors, *, prompts: PromptLearner | None = None, class_rows: Tensor | None = None
) -> Float[Tensor, "n c"]:
    """Logits (N, C) of clips before calibration, averaged over the views of a video; float64 on the CPU.

    Args:
        model: in eval mode.
        tensors: of the clips.
        prompts: of other classes than the trained ones.
        class_rows: as for `ActionModel.against`.
    """
    views = max((tensors.views(index) for index in range(len(tensors.ids))), default=1)
    prompts = prompts or model.prompts
    total: Tensor | None = None
    for view in range(views):
        parts = [
            model.against(prompts, send_to_device(batch, model.device), class_rows=class_rows).logits.cpu()
            for batch in tensors.batches(model.batch_size(PREDICTION_BATCH), view=view)
        ]
        logits = torch.cat(parts).double()
        total = logits if total is None else total + logits
    assert total is not None
    return total / views


def predict_test(model: ActionModel, inputs: Inputs, fold: Fold, texts: ClassTexts) -> npt.NDArray[np.float64]:
    """Probabilities of a fold's test rows over its test classes, new classes among them."""
    tensors = model.clip_tensors(fold.test_ids, visible_inputs(inputs, fold.test_inputs))
    if fold.test_classes == fold.train_classes:
        return predict_probabilities(model, tensors)
    prompts, rows = prompts_for(model, fold.test_class_names, texts)
    return predict_probabilities(model, tensors, prompts=prompts, class_rows=rows)


def prompts_for(model: ActionModel, labels: Sequence[str], texts: ClassTexts) -> tuple[PromptLearner, Tensor]:
    """Prompts of other classes with the learned parameters that classes share, and the classes' trained numbers.

    A shared context, a meta-net and a projection of knowledge are copied; class-specific vectors are kept for a trained
    class and initialised from its text for a new one. The number of a new class is -1.
    """
    trained, config = model.prompts, model.prompts.config
    prompts = texts.prompts(model.vlm, labels, config)
    indices = [model.labels.index(label) if label in model.labels else -1 for label in labels]
    per_class = config.class_specific or config.init == "descriptions"
    learned = {name: value for name, value in trained.learned().items() if not (per_class and name == "context")}
    if "context" in learned:
        _check_words(config.template, len(trained.context), len(prompts.context))
    with torch.no_grad():
        prompts.load_state_dict(learned, strict=False)
        if per_class:
            _keep_own(trained, prompts, indices)
    return prompts.eval(), torch.tensor(indices)


def _keep_own(trained: PromptLearner, prompts: PromptLearner, indices: Sequence[int]) -> None:
    """Copy the vectors of trained classes; those of a class are in the same order in both."""
    for index, source in enumerate(indices):
        if source >= 0:
            mine, theirs = _vectors(prompts, index), _vectors(trained, source)
            _check_words(trained.config.template, len(theirs), len(mine))
            prompts.context[mine] = trained.context[theirs]


def _check_words(template: Any, trained: int, here: int) -> None:
    """Refuse a template whose number of learnable words depends on the class name, as ``{}s``."""
    if trained != here:
        raise InputError(
            f"prompt.template={template!r}: has {here} learnable tokens beside these class names, and {trained} "
            "beside the trained ones; put spaces around {}"
        )


def _vectors(prompts: PromptLearner, index: int) -> Tensor:
    """Numbers of the context vectors of a class, in the order of its prompts."""
    slots = prompts.slots[prompts.owner == index]
    return slots[slots >= 0]
