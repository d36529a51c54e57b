"""Selection of ridge penalties and fusion weights by the predictions of left-out groups.

Shapes: N samples, F numbers of a sample, D width of the text space, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icube_common.prompts.ridge_init.regression import RidgeBlock, RidgeSetting, leave_groups_out

RIDGE_GRID = tuple(RidgeSetting(factor, weight) for factor in (1.0, 1 / 3, 3.0) for weight in (1.0, 0.5, 0.25))
"""Settings that `select_by_group_cv` compares; of equals the first."""


def select_by_group_cv(
    blocks: Sequence[RidgeBlock],
    targets: Float[Tensor, "n d"],
    prior: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    groups: Sequence[str],
    classes: Float[Tensor, "c d"],
    *,
    copies: int,
    settings: Sequence[RidgeSetting] = RIDGE_GRID,
) -> RidgeSetting:
    """Setting with the best accuracy in leave-one-group-out cross-validation.

    Args:
        blocks: training rows only, the copies of all samples one after the other: ``copies`` times N rows.
        targets: (copies N, D).
        prior: (copies N, D).
        labels: class of each sample, (N,).
        groups: subject of each sample, (N,).
        classes: text features; the predicted class has the highest cosine.
        copies: rows of each sample; the first, without augmentation, are tested.
        settings: candidates; of equals the first.

    Returns:
        The best setting; the first one for fewer than three groups.
    """
    names = sorted(set(groups))
    if len(names) < 3:
        return settings[0]
    members = [torch.tensor([row for row, group in enumerate(groups) if group == name]) for name in names]
    # the solution is linear in targets and prior: their cosines with the classes serve every prior weight
    scores = torch.cat([targets, prior], dim=1).double().unflatten(1, (2, -1)) @ classes.double().T
    fixed = scores[: len(labels), 1]
    accuracies: dict[RidgeSetting, float] = {}
    factors = list(dict.fromkeys(setting.factor for setting in settings))
    held_out = leave_groups_out(blocks, scores.flatten(1), members, factors, copies=copies)
    for factor, values in zip(factors, held_out, strict=True):
        predicted, of_prior = values.chunk(2, dim=1)
        for setting in settings:
            if setting.factor == factor:
                correct = (predicted + setting.prior_weight * (fixed - of_prior)).argmax(1).eq(labels)
                accuracies[setting] = sum(correct[rows].float().mean().item() for rows in members)
    return max(settings, key=accuracies.__getitem__)
