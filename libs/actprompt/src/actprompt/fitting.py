"""One training: a fold and its tables in, a trained model out. The fold is the only source of rows and labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor, nn

from actprompt.captions import Captioner
from actprompt.clips import Tables, TrainingClips
from actprompt.config import ActConfig
from actprompt.courses import Course
from actprompt.inputs import Inputs
from actprompt.model import ActionModel
from icube_common.errors import InputError
from icube_common.evaluation import Fold
from icube_common.io.runs import RunFolder
from icube_common.losses import make_loss, supervised_contrastive
from icube_common.prompts import ClassTexts, PromptLearner
from icube_common.prompts.ridge_init import RidgeBlock, RidgeSetting, initialise_ridge, select_by_group_cv
from icube_common.tabular import NumericBranch
from icube_common.tabular.table import training_values
from icube_common.training import FitResult, StepRandom, fit
from icube_common.vlm import FrozenVLM

logger = logging.getLogger(__name__)

PREDICTION_BATCH = 256


@dataclass(frozen=True, eq=False)
class Trained:
    """What `fit_fold` returns.

    Attributes:
        model: in eval mode, on the backbone's device.
        course: what turns skeletons into its vectors; None where they do not enter.
        captioner: what turns parameters into sentences; None where these do not enter.
        notes: what a report has to say.
        result: of the training loop.
    """

    model: ActionModel
    course: Course | None
    captioner: Captioner | None
    notes: tuple[str, ...]
    result: FitResult


def fit_fold(
    inputs: Inputs,
    fold: Fold,
    config: ActConfig,
    vlm: FrozenVLM,
    texts: ClassTexts,
    run: RunFolder,
    *,
    resume: bool = False,
) -> Trained:
    """Train on a fold's training rows; its validation rows end it early with ``train.early_stopping_patience``.

    Args:
        inputs: the tables of all clips; only the fold's own rows are read.
        fold: rows and labels.
        config: all settings.
        vlm: the frozen backbone.
        texts: of all classes.
        run: the run folder.
        resume: go on from the newest whole checkpoint.

    Raises:
        InputError: a training class without rows or text, numbers that cannot be scaled, settings that do not fit.
    """
    check_fold(inputs, fold, config)
    device = vlm.device
    labels = torch.from_numpy(fold.train_labels)
    counts = np.bincount(fold.train_labels, minlength=len(fold.train_classes))
    seen = replace(
        inputs,
        frames=None if inputs.frames is None else fold.side_table(inputs.frames),
        pixels=None if inputs.pixels is None else fold.side_table(inputs.pixels),
        skeletons=None if inputs.skeletons is None else fold.side_table(inputs.skeletons),
    )
    ids = [fold.samples.ids[row] for row in fold.train]
    course = None
    if seen.skeletons is not None:
        known = [seen.skeletons[name] for name in ids if len(seen.skeletons[name])]
        course = Course.fit(known, inputs.joint_names, config.numeric.frames)
    captioner = None
    if seen.parameters is not None and config.numeric.fusion_mode == "statements":
        captioner = Captioner.fit(seen.parameters.names, training_values(seen.parameters, fold))
    tables = Tables.of(
        ids,
        seen,
        course,
        captioner,
        vlm,
        copies=config.numeric.warps,
        jitter=config.numeric.jitter,
        seed=config.train.seed,
    )
    prompts = texts.prompts(vlm, fold.train_class_names, replace(config.prompt, seed=config.train.seed))
    model = _build(prompts, config, inputs, fold, tables)
    groups = [fold.samples.groups[row] for row in fold.train]
    _start(model, config, tables, labels, groups)
    notes = [*fold.notes, *texts.notes, *inputs.notes, *prompts.notes]
    result = fit(
        model,
        TrainingStep(model, config, counts.tolist()),
        TrainingClips(tables, fold.train_labels.tolist()),
        config=config.train,
        run=run,
        validate=_validation(fold, seen, model, course, captioner) if config.train.eval_steps else None,
        resume=resume,
    )
    model.to(device)
    return Trained(model, course, captioner, tuple(dict.fromkeys(notes)), result)


def check_fold(inputs: Inputs, fold: Fold, config: ActConfig) -> None:
    """Whether a fold can be trained on, before anything is written.

    Args:
        inputs: as for `fit_fold`.
        fold: as for `fit_fold`.
        config: as for `fit_fold`.

    Raises:
        InputError: a class without training rows, no validation rows where they are needed, no training skeleton.
    """
    fold.check_trainable("clip", eval_steps=config.train.eval_steps)
    if inputs.skeletons is not None:
        rows = fold.training_rows(inputs.skeletons)
        if not any(len(joints) for joints in rows.values()):
            raise InputError(f"fold {fold.name!r}: no training clip has a skeleton; set numeric.course=false")


def _build(prompts: PromptLearner, config: ActConfig, inputs: Inputs, fold: Fold, tables: Tables) -> ActionModel:
    """The model, scaled by the training rows."""
    branch = None
    names = inputs.parameters.names if inputs.parameters is not None else ()
    if inputs.parameters is not None and config.numeric.fusion_mode != "statements":
        generator = torch.Generator().manual_seed(config.train.seed)
        branch = NumericBranch.fit(prompts.vlm, config.numeric.plain(), inputs.parameters, fold, generator=generator)
    width = 0 if tables.courses is None else tables.courses.shape[2]
    model = ActionModel(prompts, config, fold.train_class_names, course_features=width, parameters=names, branch=branch)
    if model.course is not None:
        assert tables.courses is not None
        model.course.fit_scale(tables.courses[:, 0])
    if model.parameters_map is not None:
        assert tables.parameters is not None
        model.parameters_map.fit_scale(tables.parameters)
    if model.stated is not None:
        assert tables.captions is not None
        model.stated.fit_center(tables.captions)
    return model.to(prompts.vlm.device)


@torch.no_grad()
def _start(model: ActionModel, config: ActConfig, tables: Tables, labels: Tensor, groups: Sequence[str]) -> None:
    """Let the maps start at the ridge regression to the texts of the classes, which is solved on the CPU."""
    device = model.device
    copies = 1 if tables.courses is None else tables.courses.shape[1]
    pooled = None
    if model.visual is not None:
        model.eval()
        batches = tables.batches(model.batch_size(PREDICTION_BATCH))
        pooled = torch.cat([model.visual.pooled(send_to_device(batch, device)) for batch in batches]).float()
        model.visual.map.fit_scale(pooled)
    if not config.start.ridge:
        return
    shrinkages, clips = config.start, len(labels)
    known = torch.zeros(clips * copies, model.vlm.embed_dim)
    blocks = []
    if model.visual is not None and pooled is not None:
        rows = model.visual.map.standard(pooled).cpu()
        known += model.visual.known(pooled).cpu().repeat(copies, 1)
        blocks.append(RidgeBlock(rows.repeat(copies, 1), shrinkages.visual, model.visual.map))
    if model.course is not None and tables.courses is not None:
        rows = torch.cat([model.course.standard(tables.courses[:, copy].to(device)) for copy in range(copies)]).cpu()
        blocks.append(RidgeBlock(rows, shrinkages.course, model.course))
    if model.parameters_map is not None and tables.parameters is not None:
        rows = model.parameters_map.standard(tables.parameters.to(device)).cpu()
        blocks.append(RidgeBlock(rows.repeat(copies, 1), shrinkages.parameters, model.parameters_map))
    if model.stated is not None and tables.captions is not None:
        known += model.stated(tables.captions.to(device)).cpu().repeat(copies, 1)
    if not blocks:
        return
    classes = model.prompts().cpu()
    # what all classes share tells none of them from another
    wanted = F.normalize(classes - classes.mean(0), dim=-1)[labels].repeat(copies, 1)
    choice = RidgeSetting()
    if config.start.select:
        choice = select_by_group_cv(blocks, wanted, known, labels, groups, classes, copies=copies)
    initialise_ridge(blocks, wanted, known, copies=copies, choice=choice)
    model.trust.fill_(choice.trust)


class TrainingStep:
    """The losses of one step.

    Args:
        model: for what its wrapper hides.
        config: of the losses.
        class_counts: training rows of each class.
    """

    def __init__(self, model: ActionModel, config: ActConfig, class_counts: Sequence[int]) -> None:
        self._model, self._config = model, config
        self._loss = make_loss(config.loss, class_counts)
        self._reference = model.prompts.reference_features() if config.loss.kgcoop else None

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor], random: StepRandom) -> dict[str, Tensor]:
        """Named scalar terms of a batch; ``loss`` is what is minimised."""
        out = model(batch)
        extra: dict[str, Any] = {}
        if self._reference is not None:
            extra = {
                "learned": self._model.prompts(per_description=True),
                "frozen": self._reference.to(out.logits.device),
            }
        terms = self._loss(out.logits, batch["label"], **extra)
        if self._config.loss.contrastive:
            terms["contrastive"] = supervised_contrastive(
                out.sample, batch["label"], temperature=self._config.loss.temperature
            )
            terms["loss"] = terms["loss"] + self._config.loss.contrastive * terms["contrastive"]
        if out.loss is not None:
            terms["numeric"] = out.loss
            terms["loss"] = terms["loss"] + out.loss
        return terms


def _validation(
    fold: Fold, seen: Inputs, owner: ActionModel, course: Course | None, captioner: Captioner | None
) -> Any:
    """The loss and the accuracy on a fold's validation rows."""
    ids = [fold.samples.ids[row] for row in fold.validation]
    tables = Tables.of(ids, seen, course, captioner, owner.vlm)
    labels = torch.from_numpy(fold.validation_labels)

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, ActionModel)
        batches = tables.batches(model.batch_size(PREDICTION_BATCH))
        parts = [model(send_to_device(batch, model.device)).logits.float().cpu() for batch in batches]
        logits = torch.cat(parts)
        return {
            "loss": float(F.cross_entropy(logits, labels)),
            "top1": float(logits.argmax(1).eq(labels).float().mean()),
        }

    return validate


@torch.no_grad()
def predict(
    model: ActionModel, tables: Tables, *, prompts: PromptLearner | None = None, class_rows: Tensor | None = None
) -> npt.NDArray[np.float64]:
    """Probabilities (N, C) of clips, their logits averaged over the views of a video.

    Args:
        model: in eval mode.
        tables: of the clips.
        prompts: of other classes than the trained ones.
        class_rows: as `ActionModel.against` takes it.
    """
    views = max((tables.views(place) for place in range(len(tables.ids))), default=1)
    prompts = prompts or model.prompts
    total: Tensor | None = None
    for view in range(views):
        parts = [
            model.against(prompts, send_to_device(batch, model.device), class_rows=class_rows).logits.cpu()
            for batch in tables.batches(model.batch_size(PREDICTION_BATCH), view=view)
        ]
        logits = torch.cat(parts).double()
        total = logits if total is None else total + logits
    assert total is not None
    probabilities: npt.NDArray[np.float64] = (total / views).softmax(-1).numpy()
    return probabilities


def predict_test(trained: Trained, inputs: Inputs, fold: Fold, texts: ClassTexts) -> npt.NDArray[np.float64]:
    """Probabilities of a fold's test rows over its test classes, those that were never trained among them."""
    seen = replace(
        inputs,
        frames=None if inputs.frames is None else fold.test_inputs(inputs.frames),
        pixels=None if inputs.pixels is None else fold.test_inputs(inputs.pixels),
        skeletons=None if inputs.skeletons is None else fold.test_inputs(inputs.skeletons),
    )
    tables = Tables.of(fold.test_ids, seen, trained.course, trained.captioner, trained.model.vlm)
    model = trained.model
    if fold.test_classes == fold.train_classes:
        return predict(model, tables)
    prompts, rows = prompts_for(model, fold.test_class_names, texts)
    return predict(model, tables, prompts=prompts, class_rows=rows)


def prompts_for(model: ActionModel, labels: Sequence[str], texts: ClassTexts) -> tuple[PromptLearner, Tensor]:
    """Prompts of other classes, with what the model has learned that is not a class's own; and their trained places.

    A context that all classes share, a meta-net and a projection of knowledge go over; vectors of a class's own stay
    with a class that was trained and start at its text for another.
    """
    trained, config = model.prompts, model.prompts.config
    prompts = texts.prompts(model.vlm, labels, config)
    places = [model.labels.index(label) if label in model.labels else -1 for label in labels]
    own = config.class_specific or config.init == "descriptions"
    learned = {name: value for name, value in trained.learned().items() if not (own and name == "context")}
    if "context" in learned:
        _check_words(config.template, len(trained.context), len(prompts.context))
    with torch.no_grad():
        prompts.load_state_dict(learned, strict=False)
        if own:
            _keep_own(trained, prompts, places)
    return prompts.eval(), torch.tensor(places)


def _keep_own(trained: PromptLearner, prompts: PromptLearner, places: Sequence[int]) -> None:
    """Copy the vectors of classes that were trained; a class's vectors stand in the same order in both."""
    for place, source in enumerate(places):
        if source >= 0:
            mine, theirs = _vectors(prompts, place), _vectors(trained, source)
            _check_words(trained.config.template, len(theirs), len(mine))
            prompts.context[mine] = trained.context[theirs]


def _check_words(template: Any, trained: int, here: int) -> None:
    """Refuse a template that has other words to learn beside other names, as ``{}s`` may have."""
    if trained != here:
        raise InputError(
            f"prompt.template={template!r}: has {here} learnable tokens beside these class names, and {trained} "
            "beside the trained ones; put spaces around {}"
        )


def _vectors(prompts: PromptLearner, place: int) -> Tensor:
    """Numbers of the context vectors of a class, in the order in which its prompts name them."""
    slots = prompts.slots[prompts.owner == place]
    return slots[slots >= 0]
