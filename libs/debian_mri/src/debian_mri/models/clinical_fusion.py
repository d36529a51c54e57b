"""Clinical variables: scaling, imputation of missing values, linear terms, and FiLM of the image feature.

A missing value becomes 0 in the scaled space, the middle of the training values, and an indicator beside it becomes 1:
the model can learn what missing means, and where nothing was missing in training the indicator has no weight. The
other declared way is to refuse (``demographics.missing=refuse``).

Shapes: B scans, P variables, C classes, D width of the image feature.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icube_common.prompts.ridge_init import mean_and_std

# scaled values beyond this are drawn in: a typing error has no say over all others
_REACH = 4.0


class VariableScaler(nn.Module):
    """Scaling and imputation of missing values; `fit` takes training rows only.

    Args:
        names: of the P variables.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("std", torch.ones(len(names)))

    @property
    def width(self) -> int:
        """Numbers that come out: each variable and its indicator."""
        return 2 * len(self.names)

    def fit(self, values: Float[Tensor, "n p"]) -> None:
        """Take mean and deviation from training rows; a constant variable is made 0 for good."""
        mean, std = mean_and_std(values)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, values: Float[Tensor, "b p"]) -> Float[Tensor, "b q"]:
        """(B, 2 P): scaled values, 0 where missing, then the indicators of missing values."""
        scaled = ((values - self.mean) / self.std).clamp(-_REACH, _REACH)
        return torch.cat([scaled.nan_to_num(), values.isnan().to(scaled)], dim=1)


class LinearTerms(nn.Module):
    """A linear term of each variable in each class's logit; starts at 0.

    Args:
        variables: P.
        classes: C.
    """

    def __init__(self, variables: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, 2 * variables))

    def forward(self, covariates: Float[Tensor, "b q"]) -> Float[Tensor, "b c p"]:
        """Contribution of each variable, present or missing, to each class's logit."""
        values, absent = torch.einsum("bq,cq->bcq", covariates, self.weight).chunk(2, dim=-1)
        return values + absent

    def penalty(self) -> Float[Tensor, ""]:
        """Sum of the squared weights."""
        return self.weight.square().sum()


class Film(nn.Module):
    """Scale and shift of the image feature by the variables; the identity at the start.

    Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018, eq. 2; for MRI and
    demographics: Wolf et al., "DAFT", NeuroImage 2022.

    Args:
        width: of the numbers.
        dim: D.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width, dim))
        self.shift = nn.Parameter(torch.zeros(width, dim))

    def forward(self, feature: Float[Tensor, "b d"], covariates: Float[Tensor, "b q"]) -> Float[Tensor, "b d"]:
        """Another feature, not normalised."""
        return feature * (1 + covariates @ self.scale) + covariates @ self.shift

    def penalty(self) -> Float[Tensor, ""]:
        """Sum of the squared weights."""
        return self.scale.square().sum() + self.shift.square().sum()
