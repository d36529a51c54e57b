"""Learned logit scales (inverse temperatures): kept as logarithms, not decayed, at most 100.

As CLIP trains its own (Radford et al., ICML 2021, section 2.5): weight decay would pull the scale towards 1, and above
100 training becomes unstable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

MAX_SCALE = 100.0
_MAX_LOG = math.log(MAX_SCALE)
# clamping has no gradient at its bound: a logarithm that was brought back to the cap lies inside this
_BOUND = _MAX_LOG + 1e-6
_NAMES = ("log_scale", "logit_scale")


def is_logit_scale(name: str) -> bool:
    """True for the name of a logit scale's logarithm (``branch.fusion.log_scale``)."""
    return name.rpartition(".")[2] in _NAMES


def scale_of(log_scale: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The scale of its logarithm, at most 100."""
    return log_scale.clamp(max=_BOUND).exp()


@torch.no_grad()
def cap_logit_scales(log_scales: Iterable[Tensor]) -> None:
    """Bring logarithms back to the cap in place, after each optimiser step, so that their gradient stays alive."""
    for value in log_scales:
        value.clamp_(max=_MAX_LOG)
