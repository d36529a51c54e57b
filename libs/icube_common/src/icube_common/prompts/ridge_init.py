"""Maps from what is measured of a sample into the space of the texts, and where they start.

A sample's feature is a sum of such maps, each standardised by the training rows and each linear, so that all of them
can start together at the ridge regression to the class texts, in closed form, before a gradient step is made. What is
known without training (sentences about numbers, a trained image tower) is the regression's centre: with few samples the
maps stay near it.

Shapes: N samples, F numbers of a sample, D width of the space of the texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

# standardised numbers beyond this are drawn in: a tracker's outlier has no say over all others
_REACH = 3.0
# A gradient step moves a sample's feature by this share of what it would without: the maps have more inputs than there
# are training samples, and a few steps would take them anywhere. From a regression even less: it is left for a reason.
_GAIN, _GAIN_FROM_RIDGE = 0.02, 0.005


def mean_and_std(values: Float[Tensor, "n p"]) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Of each column, NaN left out; the deviation of a constant or empty column is infinite, which makes it 0."""
    there = ~values.isnan()
    count = there.sum(0).clamp(min=1)
    filled = values.double().nan_to_num()
    center = filled.sum(0) / count
    deviation = (((filled - center) * there) ** 2).sum(0).div(count).sqrt()
    constant = deviation <= 1e-6 * center.abs().clamp(min=1e-3)
    return center, torch.where(constant, torch.full_like(deviation, torch.inf), deviation)


class LinearProjection(nn.Module):
    """A linear map of standardised numbers to the space of the texts: ``z (start + gain learned)``.

    Args:
        features: F.
        dim: D.
    """

    center: Tensor
    deviation: Tensor
    start: Tensor
    gain: Tensor

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("start", torch.zeros(features, dim))
        self.register_buffer("gain", torch.tensor(_GAIN))
        self.learned = nn.Parameter(torch.zeros(features, dim))

    def fit_scale(self, values: Float[Tensor, "n f"]) -> None:
        """Take centre and deviation from training rows; NaN is left out, a constant number is made 0 for good."""
        center, deviation = mean_and_std(values)
        self.center.copy_(center)
        self.deviation.copy_(deviation)

    def standard(self, values: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """Standardised numbers of a row's norm about one; 0 where a number is missing (NaN)."""
        z = ((values - self.center) / self.deviation).clamp(-_REACH, _REACH)
        return z.nan_to_num() / values.shape[-1] ** 0.5

    def forward(self, values: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        """The rows' shares of their samples' features, not normalised."""
        return self.standard(values) @ (self.start + self.gain * self.learned)


class CaptionTerm(nn.Module):
    """What the sentences about a sample's numbers say, as a share of its feature: their mean text feature, centred.

    Args:
        dim: D.
        weight: length of the share.
    """

    center: Tensor

    def __init__(self, dim: int, *, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("center", torch.zeros(dim))

    def fit_center(self, captions: Float[Tensor, "n d"]) -> None:
        """Take the centre from training rows: what all samples' sentences share tells none of them from another."""
        there = captions[~captions.isnan().any(1)]
        if len(there):
            self.center.copy_(there.mean(0))

    def forward(self, captions: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The share of the samples' features; nothing for a sample without sentences (NaN)."""
        return self.weight * F.normalize((captions - self.center).nan_to_num(), dim=-1)


@dataclass(frozen=True)
class RidgeBlock:
    """One map's standardised training rows ``(N, F)``, its shrinkage and the map that is to start there."""

    rows: Float[Tensor, "n f"]
    shrinkage: float
    map: LinearProjection


@dataclass(frozen=True)
class RidgeSetting:
    """What is chosen of a start.

    Attributes:
        factor: on all shrinkages.
        trust: on what is known without training.
    """

    factor: float = 1.0
    trust: float = 1.0


RIDGE_GRID = tuple(RidgeSetting(factor, trust) for factor in (1.0, 1 / 3, 3.0) for trust in (1.0, 0.5, 0.25))
"""Settings that `select_by_group_cv` compares; of equals the first."""


def initialise_ridge(
    blocks: Sequence[RidgeBlock],
    targets: Float[Tensor, "n d"],
    known: Float[Tensor, "n d"],
    *,
    copies: int = 1,
    choice: RidgeSetting | None = None,
) -> None:
    """Let maps start at the joint ridge regression to targets.

    It has the least ``|sum_b Z_b W_b + known - T|^2 + sum_b l_b |W_b|^2``; Hoerl and Kennard, "Ridge Regression:
    Biased Estimation for Nonorthogonal Problems", Technometrics 1970, centred at what is known.

    Args:
        blocks: the maps.
        targets: T, of each row.
        known: what is there without the maps.
        copies: rows of each sample; the shrinkage counts as often.
        choice: of shrinkages and trust in what is known.
    """
    choice = choice or RidgeSetting()
    for block, weight in zip(
        blocks, solve_ridge(blocks, targets - choice.trust * known, copies * choice.factor), strict=True
    ):
        block.map.start.copy_(weight)
        block.map.gain.fill_(_GAIN_FROM_RIDGE)


def solve_ridge(
    blocks: Sequence[RidgeBlock], wanted: Float[Tensor, "n d"], factor: float
) -> list[Float[Tensor, "f d"]]:
    """The weights of `initialise_ridge`, through the smaller of the two systems: of rows, or of numbers."""
    scaled = [block.rows.double() / (factor * block.shrinkage) ** 0.5 for block in blocks]
    whole = torch.cat(scaled, dim=1)
    rows, columns = whole.shape
    unit = torch.eye(min(rows, columns), dtype=torch.float64)
    if rows <= columns:
        joint = whole.T @ torch.linalg.solve(whole @ whole.T + unit, wanted.double())
    else:
        joint = torch.linalg.solve(whole.T @ whole + unit, whole.T @ wanted.double())
    parts = joint.split([block.rows.shape[1] for block in blocks])
    return [(part / (factor * block.shrinkage) ** 0.5).float() for part, block in zip(parts, blocks, strict=True)]


def select_by_group_cv(
    blocks: Sequence[RidgeBlock],
    targets: Float[Tensor, "n d"],
    known: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    groups: Sequence[str],
    classes: Float[Tensor, "c d"],
    *,
    copies: int,
    choices: Sequence[RidgeSetting] = RIDGE_GRID,
) -> RidgeSetting:
    """The choice with which the most samples of each left-out group are told right by the others.

    Args:
        blocks: training rows only, the copies of all samples one after the other: ``copies`` times N rows.
        targets: of each row.
        known: of each row.
        labels: class of each sample, N of them.
        groups: of each sample (the subject).
        classes: text features; a sample's class is the one of the highest cosine.
        copies: rows of each sample, the first without change: those are tested.
        choices: what is tried; of equals the first.

    Returns:
        The first where there are fewer than three groups.
    """
    names = sorted(set(groups))
    if len(names) < 3:
        return choices[0]
    shares: dict[RidgeSetting, list[float]] = {choice: [] for choice in choices}
    count, width = len(labels), targets.shape[1]
    for name in names:
        out = torch.tensor([group == name for group in groups])
        kept = (~out).repeat(copies)
        inner = [RidgeBlock(block.rows[kept], block.shrinkage, block.map) for block in blocks]
        both = torch.cat([targets, known], dim=1)[kept]
        for factor in dict.fromkeys(choice.factor for choice in choices):
            # the solution is linear in what is wanted: one serves every trust
            weights = solve_ridge(inner, both, copies * factor)
            found = sum(block.rows[:count][out] @ weight for block, weight in zip(blocks, weights, strict=True))
            assert isinstance(found, Tensor)
            for choice in choices:
                if choice.factor == factor:
                    feature = found[:, :width] + choice.trust * (known[:count][out] - found[:, width:])
                    right = (feature @ classes.T).argmax(1).eq(labels[out])
                    shares[choice].append(right.float().mean().item())
    return max(choices, key=lambda choice: sum(shares[choice]))


class Projection(nn.Module):
    """Normalised features in a vision-language model's space from any others.

    A linear map, and beside it a small perceptron that starts at half weight: with few samples the linear part carries
    the result, with more the other refines it.

    Args:
        in_features: width of what comes in.
        out_features: width of the shared space, ``vlm.embed_dim``.
        hidden: width of the perceptron, 0 for the linear map alone.
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
