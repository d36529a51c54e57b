"""Projections of measurements into the text space: linear with a start and a learned part, captions, a perceptron.

Shapes: N samples, F numbers of a sample, D width of the text space.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# standardised numbers are clipped to this range: outliers of a tracker
_REACH = 3.0
# Factor of a gradient step on a sample's feature: projections have more inputs than there are training samples, and
# would overfit in a few steps. Smaller after a ridge initialisation.
_GAIN, GAIN_FROM_RIDGE = 0.02, 0.005


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
