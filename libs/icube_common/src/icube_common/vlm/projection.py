"""A small learned map into the space of the texts, for a tower or for numbers that do not live there."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


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
