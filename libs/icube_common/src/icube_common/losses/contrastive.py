"""Contrastive losses of features: pairs, classes, and prompts with their descriptions.

Features are normalised here, so a caller's may or may not be. Shapes: N samples, D dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from icube_common.errors import InputError


def gather_rows(values: Tensor) -> Tensor:
    """Rows (N, ...) of all processes of a training, in their order: for a loss over the pairs of the whole batch.

    Every process has the same loss then, and its gradient is that of its own rows times the number of processes: the
    mean over processes, which a distributed training takes, is the gradient of one process with the whole batch. In
    one process the rows themselves.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return values
    return _GatherRows.apply(values) if values.is_floating_point() else _gather(values)


def _gather(values: Tensor) -> Tensor:
    # bool and the like do not travel by every backend
    sent = values.detach().contiguous() if values.dtype != torch.bool else values.to(torch.uint8)
    parts = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, sent)
    return torch.cat(parts).to(values.dtype)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        context.rows = len(values)
        return _gather(values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        first = dist.get_rank() * context.rows
        return gradients[0][first : first + context.rows] * dist.get_world_size()


def info_nce(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "n d"],
    *,
    scale: float | Float[Tensor, ""],
    labels: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Symmetric contrastive loss between two views of the same samples: Radford et al. (CLIP), ICML 2021, fig. 3.

    With ``labels`` every pair of one class is a positive one: Khosla et al., "Supervised Contrastive Learning",
    NeurIPS 2020, eq. 2, with anchors in one view and all candidates in the other. Labels that are all different give
    the plain loss.

    Args:
        left: one view.
        right: the other, row for row.
        scale: inverse temperature.
        labels: classes, for the label-aware variant.

    Returns:
        The mean of both directions; 0 for a single pair, which has no negative.

    Raises:
        InputError: the views do not match, or hold no pair.
    """
    if left.shape != right.shape or left.ndim != 2 or not len(left):
        raise InputError(f"views of shape {tuple(left.shape)} and {tuple(right.shape)}: both must be (N, D), N > 0")
    similarity = scale * _cosines(left, right)
    if labels is None:
        labels = torch.arange(len(left), device=left.device)
    positive = (labels[:, None] == labels[None, :]).to(similarity)
    positive = positive / positive.sum(1, keepdim=True)
    # cross-entropy to a distribution: the mean over an anchor's positives
    return (F.cross_entropy(similarity, positive) + F.cross_entropy(similarity.T, positive)) / 2


def supervised_contrastive(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], *, temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, eq. 2 (the sum outside of the logarithm).

    Anchors that are alone in their class have no positive and do not count; a batch of such anchors only gives 0.

    Raises:
        InputError: shapes do not match.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise InputError(
            f"features of shape {tuple(features.shape)} and labels of shape {tuple(labels.shape)}: (N, D) and (N,)"
        )
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    # a finite floor: the gradient of a softmax over -inf only is not a number
    similarity = (_cosines(features, features) / temperature).masked_fill(itself, torch.finfo(torch.float32).min)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    counts = positive.sum(1)
    log_p = F.log_softmax(similarity, dim=1).masked_fill(~positive, 0.0)
    return -(log_p.sum(1) / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)


def kgcoop(learned: Float[Tensor, "*c d"], frozen: Float[Tensor, "*c d"]) -> Float[Tensor, ""]:
    """``1 - mean cosine`` of the learned class features to those of the frozen descriptions.

    Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023, whose squared
    distance of unit vectors is twice this. No gradient flows into ``frozen``.

    Raises:
        InputError: shapes do not match.
    """
    if learned.shape != frozen.shape:
        raise InputError(f"learned features {tuple(learned.shape)}, frozen ones {tuple(frozen.shape)}: must match")
    return 1 - F.cosine_similarity(learned.float(), frozen.detach().float(), dim=-1).mean()


def _cosines(left: Float[Tensor, "n d"], right: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """All cosines in float32, also under autocast: at a scale of 100, a bfloat16 cosine is off by .4."""
    with torch.autocast(left.device.type, enabled=False):
        return F.normalize(left.float(), dim=1) @ F.normalize(right.float(), dim=1).T
