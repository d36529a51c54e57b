"""A value as a vector of the length that the text tower's own tokens have.

Shapes: N samples, P numbers, W width of a token embedding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import skip_init

# scaled values beyond this are drawn in, smoothly and in order: an outlier does not come round to the middle again
REACH = 4.0
# of the sinusoids: the longest is monotone over (-REACH, REACH), the shortest tells a fifth of a deviation
_LONGEST, _SHORTEST = 4 * REACH, 1.0
# how far values of one deviation move the vector away from that of a written number, before any training
_FIRST_SPREAD = 0.5


class ValueEmbedding(nn.Module):
    """Scaled numbers -> token embeddings of a given norm: ``norm * unit(anchor + f(value))``.

    ``f`` is a linear map of sines and cosines of several frequencies (Vaswani et al., "Attention Is All You Need",
    NeurIPS 2017, sec. 3.5, here of a real number) or a small MLP. Values are first drawn into (-4, 4) by
    ``4 tanh(value / 4)``.

    Args:
        anchor: (W,) where all values start from: the embedding of a written number.
        norm: length of every result.
        kind: ``"sinusoidal"`` or ``"mlp"``.
        frequencies: number of sinusoids.
        hidden: width of the MLP.
        generator: of the first weights.
    """

    angular: Tensor

    def __init__(
        self,
        anchor: Float[Tensor, " w"],
        *,
        norm: float,
        kind: str = "sinusoidal",
        frequencies: int = 4,
        hidden: int = 64,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm
        periods = torch.logspace(math.log10(_LONGEST), math.log10(_SHORTEST), frequencies)
        self.register_buffer("angular", 2 * math.pi / periods if kind == "sinusoidal" else None, persistent=False)
        self.hidden = None if kind == "sinusoidal" else skip_init(nn.Linear, 1, hidden)
        self.out = skip_init(nn.Linear, 2 * frequencies if kind == "sinusoidal" else hidden, len(anchor))
        with torch.no_grad():
            if self.hidden is not None:
                # kinks of the units spread over the range of the values
                self.hidden.weight.normal_(generator=generator)
                self.hidden.bias.uniform_(-REACH / 2, REACH / 2, generator=generator)
            self.out.weight.normal_(generator=generator)
            self.out.bias.zero_()
            # over two deviations to either side, the mean is the anchor's direction and the spread as wanted
            moved = self.out(self._features(torch.linspace(-2, 2, 41)[:, None]))
            factor = _FIRST_SPREAD / (moved - moved.mean(0)).norm(dim=1).mean()
            self.out.weight.mul_(factor)
            self.out.bias.copy_(F.normalize(anchor.float(), dim=0) - factor * moved.mean(0))

    def _features(self, values: Float[Tensor, "*n 1"]) -> Float[Tensor, "*n k"]:
        values = REACH * torch.tanh(values / REACH)
        if self.hidden is not None:
            return F.gelu(self.hidden(values))
        angles = values * self.angular
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def forward(self, values: Float[Tensor, "n p"]) -> Float[Tensor, "n p w"]:
        """Embeddings of scaled values; none of them may be NaN."""
        return self.norm * F.normalize(self.out(self._features(values.float().unsqueeze(-1))), dim=-1)
