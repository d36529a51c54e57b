"""Measured signs as terms of the logits, held near what publications say of their directions.

    contribution of sign k to class c:  A[c, k] s_k        A = gain * prior + deviation

``prior`` is the known direction (+1, 0, -1) over the number of signs; training learns the common ``gain`` and, against
a penalty, a small deviation: a hundred people do not carry a free weight for every sign.

``s`` is a sign's score: how many deviations of the training controls it lies above their mean; with ``adjust`` above
what their regression on the people's variables expects (w-scores; La Joie et al., J Neurosci 2012).

Shapes: B scans, K signs, C classes, Q numbers of the people's variables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from icube_common.prompts.textmap import mean_and_deviation

# fewer controls than this give no stable deviation: all training people stand in
MIN_CONTROLS = 10
# scores beyond this are drawn in: a failed measurement has no say over all others
_REACH = 4.0
_PERCENTILES = 101
# shrinkage of the regression on the people's variables, in people
_RIDGE = 1.0


class BiomarkerHead(nn.Module):
    """See the head of this file.

    Attributes:
        control_count: controls that the scores are relative to; 0 where all training people stood in for them.

    Args:
        names: of the K signs.
        directions: (C, K) of +1, 0, -1.
        gain: at the start.
        learn_gain: whether it is trained.
        numbers: Q, 0 for scores that are not adjusted.
    """

    prior: Tensor
    center: Tensor
    deviation: Tensor
    slope: Tensor
    controls: Tensor
    control_count: Tensor

    def __init__(
        self,
        names: Sequence[str],
        directions: Float[Tensor, "c k"],
        *,
        gain: float,
        learn_gain: bool = True,
        numbers: int = 0,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        classes, count = directions.shape
        assert count == len(names)
        self.register_buffer("prior", directions.float() / count)
        self.register_buffer("center", torch.zeros(count))
        self.register_buffer("deviation", torch.ones(count))
        self.register_buffer("slope", torch.zeros(numbers, count))
        self.register_buffer("controls", torch.full((_PERCENTILES, count), torch.nan))
        self.register_buffer("control_count", torch.zeros((), dtype=torch.int64))
        self.log_gain = nn.Parameter(torch.tensor(math.log(gain)), requires_grad=learn_gain)
        self.delta = nn.Parameter(torch.zeros(classes, count))

    def fit(
        self,
        values: Float[Tensor, "n k"],
        controls: Bool[Tensor, " n"],
        numbers: Float[Tensor, "n q"] | None = None,
    ) -> str:
        """Take what scores are relative to from training rows.

        Args:
            values: measured signs, NaN where a structure is not shown.
            controls: which rows are of healthy people.
            numbers: the people's variables, for adjusted scores.

        Returns:
            A note, where there are too few controls and all training people stand in; else nothing.
        """
        few = int(controls.sum()) < MIN_CONTROLS
        rows = torch.ones_like(controls) if few else controls
        base = values[rows].double()
        center, _ = mean_and_deviation(base)
        if len(self.slope):
            assert numbers is not None
            z = numbers[rows].double()
            filled = torch.where(base.isnan(), center, base) - center
            # numbers are scaled by all training people: their mean over the controls is not 0
            middle = z.mean(0)
            system = (z - middle).T @ (z - middle) + _RIDGE * torch.eye(z.shape[1], dtype=torch.float64)
            slope = torch.linalg.solve(system, (z - middle).T @ filled)
            self.slope.copy_(slope)
            base = base - (z - middle) @ slope
            center = center - middle @ slope
            _, deviation = mean_and_deviation(base)
        else:
            _, deviation = mean_and_deviation(base)
        self.center.copy_(center)
        self.deviation.copy_(deviation)
        self.control_count.fill_(0 if few else int(controls.sum()))
        scores = self.scores(values[rows], None if numbers is None else numbers[rows], missing=torch.nan)
        share = torch.linspace(0, 1, _PERCENTILES)
        self.controls.copy_(torch.nanquantile(scores, share, dim=0))
        return "Fewer than ten training controls: signs are scored against all training people." if few else ""

    def scores(
        self, values: Float[Tensor, "b k"], numbers: Float[Tensor, "b q"] | None = None, *, missing: float = 0.0
    ) -> Float[Tensor, "b k"]:
        """Scores of measured signs; ``missing`` stands where a sign was not measured."""
        expected = self.center if not len(self.slope) or numbers is None else self.center + numbers @ self.slope
        scores = ((values - expected) / self.deviation).clamp(-_REACH, _REACH)
        return torch.where(values.isnan(), torch.full_like(scores, missing), scores)

    def weights(self) -> Float[Tensor, "c k"]:
        """A, log-odds a deviation."""
        return self.log_gain.exp() * self.prior + self.delta

    def forward(
        self, values: Float[Tensor, "b k"], numbers: Float[Tensor, "b q"] | None = None
    ) -> Float[Tensor, "b c k"]:
        """What each sign adds to each class's logit; nothing where it was not measured."""
        return torch.einsum("bk,ck->bck", self.scores(values, numbers), self.weights())

    def penalty(self) -> Float[Tensor, ""]:
        """Sum of the squared deviations from the known directions."""
        return self.delta.square().sum()

    def percentiles(self, scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """Share of the training controls with a lower score, 0 to 100."""
        below = (self.controls[None] < scores[:, None]).double().sum(1)
        return (below / (_PERCENTILES - 1) * 100).clamp(max=100.0)
