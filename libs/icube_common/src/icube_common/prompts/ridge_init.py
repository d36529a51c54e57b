"""Linear projections of measurements into the text space, with ridge initialisation.

A sample's feature is a sum of such projections, each of numbers standardised by the training rows, so that all of them
can be initialised together, in closed form, by ridge regression to the class texts. The prior of the regression is what
needs no training (sentences about numbers, a trained image tower): with few samples the projections stay near it.

Shapes: N samples, F numbers of a sample, D width of the text space, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

# standardised numbers are clipped to this range: outliers of a tracker
_REACH = 3.0
# Factor of a gradient step on a sample's feature: projections have more inputs than there are training samples, and
# would overfit in a few steps. Smaller after a ridge initialisation.
_GAIN, _GAIN_FROM_RIDGE = 0.02, 0.005


def mean_and_std(values: Float[Tensor, "n p"]) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Mean and standard deviation of each column, without NaN; a constant or empty column has an infinite deviation."""
    there = ~values.isnan()
    count = there.sum(0).clamp(min=1)
    filled = values.double().nan_to_num()
    mean = filled.sum(0) / count
    std = (((filled - mean) * there) ** 2).sum(0).div(count).sqrt()
    constant = std <= 1e-6 * mean.abs().clamp(min=1e-3)
    return mean, torch.where(constant, torch.full_like(std, torch.inf), std)


class LinearProjection(nn.Module):
    """Linear projection of standardised numbers into the text space: ``z (start + gain learned)``.

    Args:
        features: F.
        dim: D.
    """

    mean: Tensor
    std: Tensor
    start: Tensor
    gain: Tensor

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.register_buffer("start", torch.zeros(features, dim))
        self.register_buffer("gain", torch.tensor(_GAIN))
        self.learned = nn.Parameter(torch.zeros(features, dim))

    def fit_scale(self, values: Float[Tensor, "n f"]) -> None:
        """Fit mean and standard deviation on training rows, without NaN; a constant number becomes 0."""
        mean, std = mean_and_std(values)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def standardise(self, values: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """Standardise numbers, with a row's norm about one; 0 where a number is missing (NaN)."""
        z = ((values - self.mean) / self.std).clamp(-_REACH, _REACH)
        return z.nan_to_num() / values.shape[-1] ** 0.5

    def forward(self, values: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        """Terms of the samples' features, not normalised."""
        return self.standardise(values) @ (self.start + self.gain * self.learned)


class CaptionTerm(nn.Module):
    """Caption term of a sample's feature: the mean text feature of its sentences, centred.

    Args:
        dim: D.
        weight: length of the term.
    """

    mean: Tensor

    def __init__(self, dim: int, *, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("mean", torch.zeros(dim))

    def fit_mean(self, captions: Float[Tensor, "n d"]) -> None:
        """Fit the mean on training rows: it is common to all samples and separates no classes."""
        there = captions[~captions.isnan().any(1)]
        if len(there):
            self.mean.copy_(there.mean(0))

    def forward(self, captions: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Terms of the samples' features; 0 for a sample without sentences (NaN)."""
        return self.weight * F.normalize((captions - self.mean).nan_to_num(), dim=-1)


@dataclass(frozen=True)
class RidgeBlock:
    """Block of a joint ridge regression: standardised training rows ``(N, F)``, ridge penalty, projection."""

    rows: Float[Tensor, "n f"]
    ridge_penalty: float
    projection: LinearProjection


@dataclass(frozen=True)
class RidgeSetting:
    """Setting of a ridge initialisation.

    Attributes:
        factor: factor on all ridge penalties.
        prior_weight: factor on the prior.
    """

    factor: float = 1.0
    prior_weight: float = 1.0


RIDGE_GRID = tuple(RidgeSetting(factor, weight) for factor in (1.0, 1 / 3, 3.0) for weight in (1.0, 0.5, 0.25))
"""Settings that `select_by_group_cv` compares; of equals the first."""


def initialise_ridge(
    blocks: Sequence[RidgeBlock],
    targets: Float[Tensor, "n d"],
    prior: Float[Tensor, "n d"],
    *,
    copies: int = 1,
    setting: RidgeSetting | None = None,
) -> None:
    """Initialise projections by joint ridge regression to targets.

    Minimises ``|sum_b Z_b W_b + prior - T|^2 + sum_b l_b |W_b|^2``; Hoerl and Kennard, "Ridge Regression:
    Biased Estimation for Nonorthogonal Problems", Technometrics 1970, with the prior as its centre.

    Args:
        blocks: projections with their training rows.
        targets: T, (N, D).
        prior: feature without the projections, (N, D).
        copies: rows of each sample (augmentations); the penalty is multiplied by them.
        setting: factors on penalties and prior.
    """
    setting = setting or RidgeSetting()
    for block, weight in zip(
        blocks, solve_ridge(blocks, targets - setting.prior_weight * prior, copies * setting.factor), strict=True
    ):
        block.projection.start.copy_(weight)
        block.projection.gain.fill_(_GAIN_FROM_RIDGE)


def solve_ridge(
    blocks: Sequence[RidgeBlock], targets: Float[Tensor, "n d"], factor: float
) -> list[Float[Tensor, "f d"]]:
    """Weights of `initialise_ridge` by the smaller linear system, of rows or of numbers (kernel form).

    Args:
        blocks: projections with their training rows.
        targets: (N, D).
        factor: on all penalties.
    """
    scaled = [block.rows.double() / (factor * block.ridge_penalty) ** 0.5 for block in blocks]
    whole = torch.cat(scaled, dim=1)
    rows, columns = whole.shape
    unit = torch.eye(min(rows, columns), dtype=torch.float64)
    if rows <= columns:
        joint = whole.T @ torch.linalg.solve(whole @ whole.T + unit, targets.double())
    else:
        joint = torch.linalg.solve(whole.T @ whole + unit, whole.T @ targets.double())
    parts = joint.split([block.rows.shape[1] for block in blocks])
    return [(part / (factor * block.ridge_penalty) ** 0.5).float() for part, block in zip(parts, blocks, strict=True)]


def leave_groups_out(
    blocks: Sequence[RidgeBlock],
    targets: Float[Tensor, "m k"],
    members: Sequence[Int[Tensor, " g"]],
    factors: Sequence[float],
    *,
    copies: int = 1,
) -> Iterator[Float[Tensor, "n k"]]:
    """Predictions of `solve_ridge` for each sample without the rows of its group, in closed form; float64.

    With the hat matrix H of all rows and the residuals r of one fit, the residuals of a group G without its rows are
    ``(I - H_GG)^-1 r_G`` (Cook and Weisberg, "Residuals and Influence in Regression", 1982), so that one decomposition
    for each factor serves all groups.

    Args:
        blocks: projections with their rows, the copies of all samples one after the other: ``M = copies N`` rows.
        targets: (M, K).
        members: samples of each group; each sample belongs to one.
        factors: on all penalties, each multiplied by ``copies``; one result for each.
        copies: rows of each sample; the first is predicted, and all are left out together.
    """
    unit = torch.eye(copies, dtype=torch.float64)
    basis = torch.linalg.qr(torch.cat([torch.ones_like(unit[:, :1]), unit[:, 1:]], dim=1)).Q
    rows, equal = _rotate_copies(blocks, basis)
    y = torch.einsum("ca,cnk->ank", basis, targets.double().unflatten(0, (copies, -1)))
    first, rest = rows[0], rows[1:, :, equal:]
    gram, moments = first.T @ first, first.T @ y[0]
    gram[equal:, equal:] += rest.flatten(0, 1).T @ rest.flatten(0, 1)
    moments[equal:] += rest.flatten(0, 1).T @ y[1:].flatten(0, 1)
    predicted = torch.empty_like(y)
    for factor in factors:
        lower = torch.linalg.cholesky(gram + factor * torch.eye(len(gram), dtype=torch.float64))
        weights = torch.cholesky_solve(moments, lower)
        for group in members:
            copied, target = rest[:, group].flatten(0, 1), y[:, group].flatten(0, 1)
            residual = target - torch.cat([first[group] @ weights, copied @ weights[equal:]])
            # H_GG = half.T @ half
            half = torch.zeros(len(gram), len(target), dtype=torch.float64)
            half[:, : len(group)] = torch.linalg.solve_triangular(lower, first[group].T, upper=False)
            half[equal:, len(group) :] = torch.linalg.solve_triangular(lower[equal:, equal:], copied.T, upper=False)
            left_out = torch.linalg.solve(torch.eye(len(target), dtype=torch.float64) - half.T @ half, residual)
            predicted[:, group] = (target - left_out).unflatten(0, (copies, -1))
        yield torch.einsum("a,ank->nk", basis[0], predicted)


def _rotate_copies(
    blocks: Sequence[RidgeBlock], basis: Float[Tensor, "copies copies"]
) -> tuple[Float[Tensor, "copies n f"], int]:
    """Rows, divided by the roots of the penalties, in a basis of the copies; count of numbers that are equal in all.

    An orthonormal basis changes neither hat matrix nor residuals of a group. Its first vector is constant, so that the
    numbers that are equal in all copies of a sample, put first here, are zero in all other rows.
    """
    stacks = [(b.rows.double() / (len(basis) * b.ridge_penalty) ** 0.5).unflatten(0, (len(basis), -1)) for b in blocks]
    equal = [stack for stack in stacks if bool((stack == stack[:1]).all())]
    varied = [stack for stack in stacks if not bool((stack == stack[:1]).all())]
    rows = torch.einsum("ca,cnf->anf", basis, torch.cat([*equal, *varied], dim=2))
    if rows.shape[0] * rows.shape[1] <= rows.shape[2]:
        # fewer rows than numbers: as many numbers as rows give the same kernel
        return torch.linalg.qr(rows.flatten(0, 1).T, mode="r").R.T.unflatten(0, (len(basis), -1)), 0
    return rows, sum(stack.shape[2] for stack in equal)


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


class Projection(nn.Module):
    """Learned projection of features into the space of a vision-language model, normalised.

    A linear layer plus a small perceptron of half weight.

    Args:
        in_features: input width.
        out_features: width of the shared space, ``vlm.embed_dim``.
        hidden: width of the perceptron, 0 for the linear layer alone.
        dropout: probability of dropping an incoming feature.
    """

    def __init__(self, in_features: int, out_features: int, *, hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_features)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_features, out_features)
        self.refine = (
            nn.Sequential(nn.Linear(in_features, hidden), nn.GELU(), nn.Linear(hidden, out_features))
            if hidden
            else None
        )

    def forward(self, features: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch d"]:
        """Map and normalise; float32."""
        x = self.dropout(self.norm(features))
        out = self.linear(x)
        if self.refine is not None:
            out = out + 0.5 * self.refine(x)
        return F.normalize(out.float(), dim=-1)
