"""Slices to one feature: their mean, their largest values, side by side, or a learned weight for each.

Shapes: B scans, S slices, D width; slices that a scan does not have are NaN.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import skip_init

from icube_common.errors import InputError


class Pooling(nn.Module):
    """One feature of a scan, and the share that each slice has in it.

    ``attention`` is gated (Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018,
    eq. 9): ``softmax_s w^T (tanh(V h_s) * sigmoid(U h_s))``. w starts at 0, so that it starts as the mean.

    Args:
        kind: ``"mean"``, ``"attention"``, ``"max"`` or ``"concat"``.
        dim: D.
        slices: S of every scan, for ``concat``; 0 where they differ.
        width: hidden width of the attention.
        seed: of its first weights.

    Raises:
        InputError: ``concat`` and scans that have different numbers of slices.
    """

    def __init__(self, kind: str, dim: int, *, slices: int, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        if kind == "concat" and not slices:
            raise InputError("visual.pooling=concat: scans have different numbers of slices; take mean or attention")
        self.kind = kind
        self.slices = slices
        self.features = dim * slices if kind == "concat" else dim
        self.look: nn.Linear | None = None
        if kind == "attention":
            generator = torch.Generator().manual_seed(seed)
            self.look, self.gate = (_linear(dim, width, generator) for _ in range(2))
            self.score = skip_init(nn.Linear, width, 1, bias=False)
            nn.init.zeros_(self.score.weight)

    def weights(self, slices: Float[Tensor, "b s d"]) -> Float[Tensor, "b s"]:
        """Shares of the slices, which sum to 1; of ``max``, how many entries of the feature come from each."""
        there = ~slices.isnan().any(-1)
        if self.kind == "max":
            winner = slices.nan_to_num(nan=-torch.inf).argmax(1)
            return torch.stack([(winner == at).float().mean(1) for at in range(slices.shape[1])], dim=1)
        if self.look is None:
            return there / there.sum(1, keepdim=True)
        # tower features have length 1: brought to entries near 1 for the layers
        hidden = slices.nan_to_num() * slices.shape[-1] ** 0.5
        scores = self.score(torch.tanh(self.look(hidden)) * torch.sigmoid(self.gate(hidden))).squeeze(-1)
        return scores.masked_fill(~there, -torch.inf).softmax(1)

    def forward(self, slices: Float[Tensor, "b s d"]) -> Float[Tensor, "b f"]:
        """The feature of each scan, F wide.

        Raises:
            InputError: ``concat`` and another number of slices than in training.
        """
        if self.kind == "concat":
            if slices.shape[1] != self.slices or slices.isnan().any():
                raise InputError(
                    f"visual.pooling=concat: trained on {self.slices} slices a scan, here it is another number"
                )
            return rearrange(slices, "b s d -> b (s d)")
        if self.kind == "max":
            return slices.nan_to_num(nan=-torch.inf).amax(1)
        return torch.einsum("bs,bsd->bd", self.weights(slices), slices.nan_to_num())


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Torch's own starts from the global generator."""
    layer = skip_init(nn.Linear, inputs, outputs)
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.normal_(std=inputs**-0.5, generator=generator)
        layer.bias.zero_()
    return layer
