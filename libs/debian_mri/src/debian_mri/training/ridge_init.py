"""Initialisation of the image branch's projection by ridge regression to the class texts, in closed form.

Its penalty and the weight of the image branch beside the biomarkers are chosen by cross-validation over the training
people; only training rows are used.

Shapes: N scans, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from jaxtyping import Float, Int
from torch import Tensor

from debian_mri.data.dataset import PIXEL_BATCH
from debian_mri.models.mri_model import MriModel
from icube_common.errors import InputError
from icube_common.evaluation import Samples
from icube_common.evaluation.samples import stratified_groups
from icube_common.losses.logit_scale import scale_of
from icube_common.prompts.ridge_init import RidgeBlock, RidgeSetting, initialise_ridge, leave_groups_out

FACTORS = (1.0, 3.0, 10.0, 0.3, 0.1)
# of equals the first
LOGIT_WEIGHTS = (0.25, 0.5, 1.0)
# beside other parts the picture may also be given up
LOGIT_WEIGHTS_BESIDE = (0.0, *LOGIT_WEIGHTS)
_FOLDS = 5
# rows: holds the common weight of the other parts where few rows choose
_PRIOR = 1.0


@torch.no_grad()
def initialise_image_branch(
    model: MriModel, rows: dict[str, Any], labels: Int[Tensor, " n"], groups: Sequence[str]
) -> list[str]:
    """Scale the projection by training rows and initialise it by ridge regression on the CPU; returns warnings."""
    image_branch, visual = model.image_branch, model.config.visual
    assert image_branch is not None
    model.eval()
    rows = send_to_device(rows, model.device)
    if image_branch.tower is not None and "slices" not in rows:
        # the tower is the frozen one before the first step
        rows = {**rows, "slices": image_branch.tower.encode(rows["pixels"], batch_size=PIXEL_BATCH)}
    pooled = image_branch.pooling(rows["slices"])
    image_branch.projection.fit_scale(pooled)
    image_branch.projection.learned.requires_grad_(visual.finetune_projection)
    texts = image_branch.texts()
    classes = image_branch.class_texts(texts).cpu()
    apart = classes - classes.mean(0)
    targets = F.normalize(apart, dim=-1)[labels]
    prior = image_branch.prior(rows["slices"], texts).cpu()
    # the map sees centred numbers: what is the same for all scans is none of its business
    varying = prior - prior.mean(0)
    block = RidgeBlock(image_branch.projection.standardise(pooled).cpu(), visual.ridge_alpha, image_branch.projection)
    choice = RidgeSetting(1.0, visual.logit_weight)
    warnings: list[str] = []
    if visual.tune:
        others = (
            model.biomarkers(rows["biomarkers"], _covariates(model, rows)).sum(-1).cpu()
            if model.biomarkers is not None
            else None
        )
        choice, warnings = _select(model, block, targets - varying, prior, apart, labels, groups, others)
    image_branch.logit_weight.fill_(choice.prior_weight)
    initialise_ridge([block], targets, varying, setting=RidgeSetting(choice.factor, 1.0))
    return warnings


def _covariates(model: MriModel, rows: dict[str, Tensor]) -> Tensor | None:
    adjusts = model.biomarkers is not None and len(model.biomarkers.slope)
    return model.covariates(rows) if adjusts else None


def _select(
    model: MriModel,
    block: RidgeBlock,
    targets: Float[Tensor, "n d"],
    prior: Float[Tensor, "n d"],
    apart: Float[Tensor, "c d"],
    labels: Int[Tensor, " n"],
    groups: Sequence[str],
    others: Float[Tensor, "n c"] | None,
) -> tuple[RidgeSetting, list[str]]:
    """Penalty and weight of the smallest cross-validated loss, with the weight of the other parts fitted to each."""
    image_branch, visual = model.image_branch, model.config.visual
    assert image_branch is not None
    samples = Samples(
        ids=[str(row) for row in range(len(labels))],
        labels=labels.numpy(),
        class_names=list(model.labels),
        groups=list(groups),
    )
    try:
        folds = list(stratified_groups(samples, np.arange(len(labels)), _FOLDS, model.config.train.seed))
    except InputError as error:
        return RidgeSetting(1.0, visual.logit_weight), [f"Penalty and weight of the image branch are as set: {error}."]
    scale = float(scale_of(image_branch.log_scale))
    # variables have not been trained yet: where they alone are beside it the picture is not given up
    logit_weights = LOGIT_WEIGHTS if others is None else LOGIT_WEIGHTS_BESIDE
    best: tuple[float, RidgeSetting] | None = None
    parts = [torch.as_tensor(part) for _, part in folds]
    for factor, terms in zip(FACTORS, leave_groups_out([block], targets, parts, FACTORS), strict=True):
        logits = scale * F.normalize(prior + terms.float(), dim=-1) @ apart.T
        for logit_weight in logit_weights:
            loss = _fitted_loss(logit_weight * logits, others, labels)
            if best is None or loss < best[0] - 1e-6:
                best = (loss, RidgeSetting(factor, logit_weight))
    assert best is not None
    return best[1], []


def _fitted_loss(logits: Float[Tensor, "n c"], others: Float[Tensor, "n c"] | None, labels: Int[Tensor, " n"]) -> float:
    """Mean loss with a bias of each class and, where there are other parts, their common weight fitted."""
    from scipy.optimize import minimize

    fixed = logits.double().numpy()
    beside = None if others is None else others.double().numpy()
    target = labels.numpy()
    rows, classes = fixed.shape

    def objective(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        z = fixed + parameters[:classes]
        if beside is not None:
            z = z + np.exp(parameters[classes]) * beside
        top = z.max(1, keepdims=True)
        powers = np.exp(z - top)
        p = powers / powers.sum(1, keepdims=True)
        loss = -np.log(p[np.arange(rows), target]).sum() + _PRIOR / 2 * (parameters**2).sum()
        p[np.arange(rows), target] -= 1
        gradient = p.sum(0)
        if beside is not None:
            gradient = np.append(gradient, np.exp(parameters[classes]) * (p * beside).sum())
        return float(loss), gradient + _PRIOR * parameters

    start = np.zeros(classes + (beside is not None))
    return float(minimize(objective, start, jac=True, method="L-BFGS-B").fun) / rows
