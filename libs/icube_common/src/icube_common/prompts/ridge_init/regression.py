"""Joint ridge regression of several blocks of numbers, and its predictions of groups left out, in closed form.

Shapes: N samples, F numbers of a sample, D width of the text space.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from icube_common.prompts.ridge_init.projections import GAIN_FROM_RIDGE, LinearProjection


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


def class_targets(classes: Float[Tensor, "c d"], *, one_hot: bool = False) -> Float[Tensor, "c d"]:
    """Target of a sample of each class: by default its text without the mean of all, of length 1.

    Args:
        classes: text features.
        one_hot: the dual basis of the centred texts instead, of mean length 1: cosines with all classes but the
            sample's own are the same, so that the regression is least-squares classification however near to each
            other some texts are.
    """
    centred = classes - classes.mean(0)
    if not one_hot:
        return F.normalize(centred, dim=-1)
    dual = torch.linalg.pinv(centred.double(), rtol=1e-3).T
    return (dual / dual.norm(dim=-1).mean()).float()


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
        block.projection.gain.fill_(GAIN_FROM_RIDGE)


def initialise_late_fusion(
    blocks: Sequence[RidgeBlock],
    targets: Float[Tensor, "n d"],
    *,
    copies: int,
    factors: Sequence[float],
    weights: Sequence[float],
) -> None:
    """Initialise each projection by a ridge regression of its own, times its weight.

    Args:
        blocks: projections with their training rows.
        targets: (N, D).
        copies: as for `initialise_ridge`.
        factors: on the penalty of each block.
        weights: of each block's prediction in the sum.
    """
    for block, factor, weight in zip(blocks, factors, weights, strict=True):
        block.projection.start.copy_(weight * solve_ridge([block], targets, copies * factor)[0])
        block.projection.gain.fill_(GAIN_FROM_RIDGE)


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
