"""The small networks beside the context vectors: knowledge into the context, and the image into the context."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# share of a token embedding's norm that a shift has at the start: it is felt from the first step, and small
_START = 0.1


class Shift(nn.Module):
    """A shift of context vectors computed from a feature, residual and started small but never at nothing.

    The direction comes from a perceptron, the length from one learned number in units of the tower's token norm. With
    a direction that is normalised and a length that is not zero, every parameter has a gradient at the first step;
    a perceptron that starts at zero in two layers would never have one.

    Args:
        in_features: width of the feature.
        token_width: width of a token embedding.
        token_norm: mean norm of the tower's token embeddings.
        hidden: width of the perceptron's middle.
        seed: of its weights.
    """

    def __init__(self, in_features: int, token_width: int, *, token_norm: float, hidden: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(in_features, hidden), nn.GELU(), nn.Linear(hidden, token_width))
        self.length = nn.Parameter(torch.tensor(_START))
        self.token_norm = token_norm

    def forward(self, features: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch w"]:
        """The shift of each feature, float32."""
        return self.length * self.token_norm * F.normalize(self.net(features).float(), dim=-1)


class MetaNet(nn.Module):
    """CoCoOp's meta-net: a shift of context vectors from an image's feature, added as it is.

    Linear, ReLU, linear, with a bottleneck of a sixteenth of the feature (Zhou et al., "Conditional Prompt Learning for
    Vision-Language Models", CVPR 2022, sections 3.2 and 4); torch's initialisation of linear layers. Neither length nor
    direction is normalised.

    Args:
        in_features: width of the feature.
        token_width: width of a token embedding.
        seed: of its weights.
    """

    def __init__(self, in_features: int, token_width: int, *, seed: int) -> None:
        super().__init__()
        hidden = max(1, in_features // 16)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, token_width))

    def forward(self, features: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch w"]:
        """The shift of each feature, float32."""
        return self.net(features).float()
