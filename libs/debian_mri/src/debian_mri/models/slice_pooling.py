"""Slice pooling: slice features to one feature of the scan, by a fixed rule, gated attention or a user's module.

Shapes: B scans, S slices, D width, F width of the pooled feature; slices that a scan does not have
are NaN; pixel features are NaN outside the columns of their plane.
"""

from __future__ import annotations

import copy
from typing import TypeAlias

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import skip_init

from icube_common.errors import InputError

Pooling: TypeAlias = "type[nn.Module] | nn.Module"
"""A pooling of the user: a class, called with ``width=D``, or an instance that is copied for each training."""


class SlicePooling(nn.Module):
    """One feature of a scan, and the share that each slice has in it.

    ``attention`` is gated (Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018,
    eq. 9): ``softmax_s w^T (tanh(V h_s) * sigmoid(U h_s))``. w starts at 0, so that it starts as the mean.

    Args:
        kind: ``"mean"``, ``"attention"``, ``"max"`` or ``"concat"``.
        dim: D.
        slices: S of every scan, for ``concat``; 0 where they differ.
        width: hidden width of the attention.
        seed: of its first weights.
        by_plane: for pixel features: the mean is that of each plane, NaN for a plane without slices.

    Raises:
        InputError: ``concat`` and scans that have different numbers of slices.
    """

    def __init__(
        self, kind: str, dim: int, *, slices: int, width: int = 32, seed: int = 0, by_plane: bool = False
    ) -> None:
        super().__init__()
        if kind == "concat" and not slices:
            raise InputError("visual.pooling=concat: scans have different numbers of slices; take mean or attention")
        self.kind = kind
        self.by_plane = by_plane
        self.slices = slices
        self.features = dim * slices if kind == "concat" else dim
        self.value: nn.Linear | None = None
        if kind == "attention":
            generator = torch.Generator().manual_seed(seed)
            self.value, self.gate = (_linear(dim, width, generator) for _ in range(2))
            self.score = skip_init(nn.Linear, width, 1, bias=False)
            nn.init.zeros_(self.score.weight)

    def weights(self, slices: Float[Tensor, "b s d"]) -> Float[Tensor, "b s"]:
        """Shares of the slices, which sum to 1; of ``max``, how many entries of the feature come from each."""
        there = ~slices.isnan().all(-1)
        if self.kind == "max":
            winner = slices.nan_to_num(nan=-torch.inf).argmax(1)
            return torch.stack([(winner == at).float().mean(1) for at in range(slices.shape[1])], dim=1)
        if self.value is None:
            return there / there.sum(1, keepdim=True)
        # slice features have length 1: brought to entries near 1 for the layers
        hidden = slices.nan_to_num() * slices.shape[-1] ** 0.5
        scores = self.score(torch.tanh(self.value(hidden)) * torch.sigmoid(self.gate(hidden))).squeeze(-1)
        return scores.masked_fill(~there, -torch.inf).softmax(1)

    def forward(self, slices: Float[Tensor, "b s d"]) -> Float[Tensor, "b f"]:
        """The feature of each scan, F wide.

        Raises:
            InputError: ``concat`` and another number of slices than in training.
        """
        if self.kind == "concat":
            if slices.shape[1] != self.slices or slices.isnan().all(-1).any():
                raise InputError(
                    f"visual.pooling=concat: trained on {self.slices} slices a scan, here it is another number"
                )
            return rearrange(slices, "b s d -> b (s d)")
        if self.kind == "max":
            # a column without a number is one of a plane without slices
            return slices.nan_to_num(nan=-torch.inf).amax(1).masked_fill(slices.isnan().all(1), torch.nan)
        if self.kind == "mean" and self.by_plane:
            return slices.nanmean(1)
        return torch.einsum("bs,bsd->bd", self.weights(slices), slices.nan_to_num())


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Torch's own starts from the global generator."""
    layer = skip_init(nn.Linear, inputs, outputs)
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.normal_(std=inputs**-0.5, generator=generator)
        layer.bias.zero_()
    return layer


class CustomPooling(nn.Module):
    """A user's pooling of slice features (B, S, D) to scan features (B, F).

    Scans are pooled together where they have the same slices, so that the module never meets a missing one. A method
    ``weights`` of the module, from (B, S, D) to shares (B, S), attributes evidence to slices; without it all slices
    have the same share.

    Args:
        pooling: class or instance.
        dim: D.
        slices: S of every scan, 0 where they differ.
        seed: of a class's weights; the global generator is left as it is.

    Raises:
        InputError: an instance of another width, or features that are not (B, F).
    """

    kind = "custom"
    by_plane = False

    def __init__(self, pooling: Pooling, dim: int, *, slices: int, seed: int = 0) -> None:
        super().__init__()
        self.name = pooling.__name__ if isinstance(pooling, type) else type(pooling).__name__
        self.slices = slices
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = pooling(width=dim) if isinstance(pooling, type) else copy.deepcopy(pooling)
        module_width = getattr(self.module, "width", dim)
        if module_width != dim:
            raise InputError(
                f"pooling {self.name}: takes slice features of width {module_width}, those of the backbone have {dim}"
            )
        parameter = next(self.module.parameters(), torch.zeros(()))
        trial = torch.zeros(2, max(slices, 1), dim, device=parameter.device, dtype=parameter.dtype)
        training = self.module.training
        try:
            with torch.no_grad():
                pooled = self.module.eval()(trial)
        except RuntimeError as error:
            raise InputError(f"pooling {self.name}: does not take slice features of width {dim} ({error})") from error
        self.module.train(training)
        if not isinstance(pooled, Tensor) or pooled.ndim != 2 or len(pooled) != 2:
            shape = tuple(pooled.shape) if isinstance(pooled, Tensor) else type(pooled).__name__
            raise InputError(f"pooling {self.name}: returns {shape} for features {tuple(trial.shape)}, need (2, F)")
        self.features = pooled.shape[1]

    def forward(self, slices: Float[Tensor, "b s d"]) -> Float[Tensor, "b f"]:
        """The feature of each scan, F wide."""
        pooled = slices.new_zeros(len(slices), self.features)
        for scans, present in _groups(slices):
            pooled = pooled.index_copy(0, scans, self.module(slices[scans][:, present].nan_to_num()).to(pooled.dtype))
        return pooled

    def weights(self, slices: Float[Tensor, "b s d"]) -> Float[Tensor, "b s"]:
        """Shares of the slices, which sum to 1."""
        shares = slices.new_zeros(slices.shape[:2])
        for scans, present in _groups(slices):
            weights_of = getattr(self.module, "weights", None)
            there = slices[scans][:, present].nan_to_num()
            weights = there.new_full(there.shape[:2], 1 / there.shape[1]) if weights_of is None else weights_of(there)
            shares[scans[:, None], present.nonzero().squeeze(1)] = weights.to(shares.dtype)
        return shares


def _groups(slices: Float[Tensor, "b s d"]) -> list[tuple[Tensor, Tensor]]:
    """Scans that have the same slices: their indices, and (S,) which slices these are."""
    present = ~slices.isnan().all(-1)
    patterns, owner = present.unique(dim=0, return_inverse=True)
    return [((owner == at).nonzero().squeeze(1), pattern) for at, pattern in enumerate(patterns)]
