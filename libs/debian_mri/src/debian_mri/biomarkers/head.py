"""Biomarker head: linear terms of the logits with a prior on the direction of each biomarker.

    contribution of biomarker k to class c:  A[c, k] s_k        A = exp(log_prior_weight) * prior + delta

``prior`` is the published direction (+1, 0, -1) over the number of biomarkers; training learns the common weight of
the prior and, against a penalty, a small deviation ``delta``: a hundred subjects do not support a free weight for every
biomarker.

``s`` is a biomarker's z-score relative to the training controls; with covariates its w-score, relative to the
controls' regression on the clinical variables (La Joie et al., J Neurosci 2012).

Shapes: B scans, K biomarkers, C classes, Q covariates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from icube_common.prompts.ridge_init import mean_and_std

# fewer controls give no stable standard deviation: all training subjects replace them
MIN_CONTROLS = 10
# scores are clamped to this: a failed measurement must not dominate
_REACH = 4.0
_PERCENTILES = 101
# ridge penalty of the regression on the covariates, in subjects
_RIDGE = 1.0


class BiomarkerHead(nn.Module):
    """Biomarker head; see the module's docstring.

    Attributes:
        control_count: number of training controls; 0 if all training subjects replaced them.

    Args:
        names: names of the K biomarkers.
        directions: (C, K) of +1, 0, -1.
        prior_weight: initial weight of the prior, log-odds per standard deviation.
        learn_prior_weight: train that weight.
        covariates: Q, 0 for scores without adjustment.
    """

    prior: Tensor
    mean: Tensor
    std: Tensor
    slope: Tensor
    controls: Tensor
    control_count: Tensor

    def __init__(
        self,
        names: Sequence[str],
        directions: Float[Tensor, "c k"],
        *,
        prior_weight: float,
        learn_prior_weight: bool = True,
        covariates: int = 0,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        classes, count = directions.shape
        assert count == len(names)
        self.register_buffer("prior", directions.float() / count)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))
        self.register_buffer("slope", torch.zeros(covariates, count))
        self.register_buffer("controls", torch.full((_PERCENTILES, count), torch.nan))
        self.register_buffer("control_count", torch.zeros((), dtype=torch.int64))
        self.log_prior_weight = nn.Parameter(torch.tensor(math.log(prior_weight)), requires_grad=learn_prior_weight)
        self.delta = nn.Parameter(torch.zeros(classes, count))

    def fit(
        self, values: Float[Tensor, "n k"], controls: Bool[Tensor, " n"], covariates: Float[Tensor, "n q"] | None = None
    ) -> str:
        """Fit mean, standard deviation and covariate slopes of the controls on training scans.

        Args:
            values: biomarkers, NaN where missing.
            controls: mask of the healthy controls.
            covariates: clinical variables, for w-scores.

        Returns:
            A warning where all training subjects replace too few controls, else an empty text.
        """
        few = int(controls.sum()) < MIN_CONTROLS
        samples = torch.ones_like(controls) if few else controls
        base = values[samples].double()
        mean, _ = mean_and_std(base)
        if len(self.slope):
            assert covariates is not None
            z = covariates[samples].double()
            imputed = torch.where(base.isnan(), mean, base) - mean
            # covariates are standardised over all training subjects: their mean over the controls is not 0
            mean_z = z.mean(0)
            system = (z - mean_z).T @ (z - mean_z) + _RIDGE * torch.eye(z.shape[1], dtype=torch.float64)
            slope = torch.linalg.solve(system, (z - mean_z).T @ imputed)
            self.slope.copy_(slope)
            base = base - (z - mean_z) @ slope
            mean = mean - mean_z @ slope
            _, std = mean_and_std(base)
        else:
            _, std = mean_and_std(base)
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.control_count.fill_(0 if few else int(controls.sum()))
        scores = self.scores(values[samples], None if covariates is None else covariates[samples], missing=torch.nan)
        quantiles = torch.linspace(0, 1, _PERCENTILES)
        self.controls.copy_(torch.nanquantile(scores, quantiles, dim=0))
        return "Fewer than ten training controls: biomarkers are scored against all training subjects." if few else ""

    def scores(
        self, values: Float[Tensor, "b k"], covariates: Float[Tensor, "b q"] | None = None, *, missing: float = 0.0
    ) -> Float[Tensor, "b k"]:
        """z-scores or w-scores of biomarkers; ``missing`` for a biomarker that is NaN."""
        expected = self.mean if not len(self.slope) or covariates is None else self.mean + covariates @ self.slope
        scores = ((values - expected) / self.std).clamp(-_REACH, _REACH)
        return torch.where(values.isnan(), torch.full_like(scores, missing), scores)

    def weights(self) -> Float[Tensor, "c k"]:
        """A, log-odds per standard deviation."""
        return self.log_prior_weight.exp() * self.prior + self.delta

    def forward(
        self, values: Float[Tensor, "b k"], covariates: Float[Tensor, "b q"] | None = None
    ) -> Float[Tensor, "b c k"]:
        """Contribution of each biomarker to the logit of each class; 0 where it is missing."""
        return torch.einsum("bk,ck->bck", self.scores(values, covariates), self.weights())

    def penalty(self) -> Float[Tensor, ""]:
        """Sum of the squared deviations from the prior."""
        return self.delta.square().sum()

    def percentiles(self, scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """Percentage of the training controls with a lower score, 0 to 100."""
        below = (self.controls[None] < scores[:, None]).double().sum(1)
        return (below / (_PERCENTILES - 1) * 100).clamp(max=100.0)
