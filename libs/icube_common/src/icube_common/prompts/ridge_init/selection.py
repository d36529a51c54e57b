"""Selection of ridge penalties and fusion weights by the predictions of left-out groups.

Shapes: N samples, F numbers of a sample, D width of the text space, C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icube_common.prompts.ridge_init.regression import RidgeBlock, RidgeSetting, leave_groups_out

# smallest decrease of the mean cross-entropy for which a further source is taken, above the tolerance of the fit
_GAIN = 1e-4
MAX_PARTS = 10
"""Parts of the groups that `select_sources` leaves out in turn, at most."""

FACTORS = (1.0, 1 / 3, 3.0, 1 / 9, 9.0)
"""Factors on the penalty of each source that `select_late_fusion` compares; of equals the first."""

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


@dataclass(frozen=True)
class LateFusion:
    """Weights of sources that are regressed one by one, and of the prior.

    Attributes:
        factors: factor on the ridge penalty of each block.
        weights: weight of each block's prediction, not negative; their sum is 1.
        prior_weight: factor on the prior.
    """

    factors: tuple[float, ...]
    weights: tuple[float, ...]
    prior_weight: float


def select_late_fusion(
    blocks: Sequence[RidgeBlock],
    targets: Float[Tensor, "n d"],
    prior: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    groups: Sequence[str],
    classes: Float[Tensor, "c d"],
    *,
    copies: int,
    factors: Sequence[float] = FACTORS,
) -> LateFusion:
    """Weights of a late fusion by the cross-entropy of left-out groups.

    The stacking of Wolpert, "Stacked Generalization" (Neural Networks 1992), with weights that are not negative after
    Breiman, "Stacked Regressions" (Machine Learning 1996). Each block is regressed alone, with the penalty of the
    smallest cross-entropy of its own; no sample is predicted by a regression on its group. Of all sets of sources, the
    one is weighted whose sum has the smallest cross-entropy with weights from other groups: weights of many sources
    fitted to few people do not carry over, and a source that adds nothing gets weight 0.

    A sample whose class has no sample in another group cannot be predicted so and is left out: with one clip of each
    class, weights selected by such samples would prefer the source that learned least. Where fewer than half of the
    samples are left, nothing is selected.

    Args:
        blocks: as for `select_by_group_cv`, as all further arguments.
        targets: (copies N, D).
        prior: (copies N, D).
        labels: class of each sample, (N,).
        groups: subject of each sample, (N,).
        classes: text features.
        copies: rows of each sample.
        factors: candidates for each block.

    Returns:
        The weights; where nothing is selected the first factor and equal weights, that of the prior among them.
    """
    names = sorted(set(groups))
    members = [torch.tensor([row for row, group in enumerate(groups) if group == name]) for name in names]
    usable = _class_in_other_group(labels.numpy(), groups)
    if 2 * usable.sum() < len(labels):
        equal = 1 / len(blocks)
        return LateFusion((factors[0],) * len(blocks), (equal,) * len(blocks), equal if prior.any() else 1.0)
    target, chosen, sources = labels.numpy()[usable], [], []
    scores = targets.double() @ classes.double().T
    for block in blocks:
        results = leave_groups_out([block], scores, members, factors, copies=copies)
        held_out = [result.numpy()[usable] for result in results]
        losses = [stacking_weights([values], target)[1] for values in held_out]
        best = int(np.argmin(losses))
        chosen.append(factors[best])
        sources.append(held_out[best])
    if prior.any():
        sources.append((prior[: len(labels)].double() @ classes.double().T).numpy()[usable])
    chosen_sources = select_sources(sources, target, np.asarray(groups)[usable])
    weights = np.zeros(len(sources))
    weights[chosen_sources] = stacking_weights([sources[index] for index in chosen_sources], target)[0]
    total = weights[: len(blocks)].sum()
    if not total:
        # no source is better than chance on left-out groups
        return LateFusion(tuple(chosen), (0.0,) * len(blocks), 1.0)
    shares = (weights / total).tolist()
    return LateFusion(tuple(chosen), tuple(shares[: len(blocks)]), shares[-1] if prior.any() else 1.0)


def select_sources(
    scores: Sequence[npt.NDArray[np.float64]], labels: npt.NDArray[np.int64], groups: npt.NDArray[np.str_]
) -> list[int]:
    """Indices of the sources whose weighted sum has the smallest cross-entropy on groups left out of the weights.

    Args:
        scores: (N, C) of each source, by samples that it was not fitted to.
        labels: (N,) classes.
        groups: (N,) subject of each sample; more than ten subjects are left out in ten parts.

    Returns:
        The best set, the smaller of equals; all sources where there is a single group.
    """
    names = sorted(set(groups.tolist()))
    if len(names) < 2:
        return list(range(len(scores)))
    part = {name: number % MAX_PARTS for number, name in enumerate(names)}
    parts = np.array([part[name] for name in groups.tolist()])
    best, smallest = list(range(len(scores))), np.inf
    for size in range(1, len(scores) + 1):
        for chosen in itertools.combinations(range(len(scores)), size):
            stacked = np.stack([scores[index] for index in chosen])
            total = 0.0
            for number in range(max(parts) + 1):
                rest, held_out = parts != number, parts == number
                weights, _ = stacking_weights(list(stacked[:, rest]), labels[rest])
                total += held_out.sum() * _cross_entropy(weights, stacked[:, held_out], labels[held_out])[0]
            if total < smallest - _GAIN * len(labels):
                best, smallest = list(chosen), total
    return best


def _class_in_other_group(labels: npt.NDArray[np.int64], groups: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(N,) samples whose class has a sample in another group."""
    names = np.asarray(groups)
    return np.array([bool(np.any(names[labels == label] != name)) for label, name in zip(labels, names, strict=True)])


def stacking_weights(
    scores: Sequence[npt.NDArray[np.float64]], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], float]:
    """Weights, not negative, of the sum of scores (N, C) with the smallest mean cross-entropy, and that cross-entropy.

    Args:
        scores: of each source, by samples that it was not fitted to.
        labels: classes.
    """
    from scipy.optimize import minimize

    stacked = np.stack(scores)
    result = minimize(
        _cross_entropy,
        np.ones(len(stacked)),
        args=(stacked, labels),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, 1e3)] * len(stacked),
    )
    return result.x, float(result.fun)


def _cross_entropy(
    weights: npt.NDArray[np.float64], stacked: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> tuple[float, npt.NDArray[np.float64]]:
    """Mean cross-entropy of the weighted sum of scores (S, N, C), and its gradient by the weights (S,)."""
    rows = np.arange(len(labels))
    z = np.tensordot(weights, stacked, 1)
    z -= z.max(1, keepdims=True)
    p = np.exp(z)
    p /= p.sum(1, keepdims=True)
    loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    return float(loss), (stacked * p).sum((1, 2)) / len(labels)
