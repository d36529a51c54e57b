"""Losses of class logits, each a mean over the batch, computed in float32 whatever the precision of the logits.

Shapes: N samples, C classes. Logits are scaled cosines or any other unnormalised scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from icube_common.errors import InputError

# below this, (1 - p) ** gamma with gamma < 1 would have an infinite slope
_MIN_MISS = 1e-12


def cross_entropy(
    logits: Float[Tensor, "n c"],
    labels: Int[Tensor, " n"],
    *,
    label_smoothing: float = 0.0,
    class_weights: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy with label smoothing: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, sec. 7.

    The target is ``(1 - e) onehot + e / C``. A class weight multiplies its samples' terms and the sum is divided by N,
    not by the batch's sum of weights: a sample's gradient does not depend on who else is in its batch.
    """
    _check(logits, labels)
    terms = F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=label_smoothing)
    return _mean(terms, labels, class_weights)


def focal(
    logits: Float[Tensor, "n c"],
    labels: Int[Tensor, " n"],
    *,
    gamma: float = 2.0,
    class_weights: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, ""]:
    """``-(1 - p_y)^gamma log p_y``: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4 and 5.

    The softmax form; ``class_weights`` are the paper's alpha. ``gamma = 0`` is the cross-entropy.
    """
    _check(logits, labels)
    log_likelihood = -F.cross_entropy(logits.float(), labels, reduction="none")
    # expm1 keeps the digits of 1 - p where p is nearly 1
    missed = (-torch.expm1(log_likelihood)).clamp(min=_MIN_MISS)
    return _mean(-(missed**gamma) * log_likelihood, labels, class_weights)


def focal_ordinal(
    logits: Float[Tensor, "n c"],
    labels: Int[Tensor, " n"],
    *,
    gamma: float = 2.0,
    class_weights: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, ""]:
    """Focal loss of the C - 1 questions "is the grade above k?", their mean: every grade of distance is a wrong answer.

    The questions are those of Niu et al., "Ordinal Regression with Multiple Output CNN", CVPR 2016, under the focal
    factor as in Lu et al., "Vision-based Estimation of MDS-UPDRS Gait Scores", MICCAI 2020. Their answers come from the
    softmax, ``P(above k) = sum_{j > k} p_j``, so that they never contradict each other and class logits stay the only
    head. With two classes this is `focal`.

    Args:
        logits: scores, the classes in order of their grade.
        labels: true grades.
        gamma: focal exponent.
        class_weights: factor of each true class.

    Raises:
        InputError: there are fewer than two classes, or shapes do not match.
    """
    _check(logits, labels)
    if logits.shape[1] < 2:
        raise InputError(f"logits of shape {tuple(logits.shape)}: graded classes are at least two")
    log_p = F.log_softmax(logits.float(), dim=1)
    above = log_p.flip(1).logcumsumexp(1).flip(1)[:, 1:]
    below = log_p.logcumsumexp(1)[:, :-1]
    is_above = labels[:, None] > torch.arange(logits.shape[1] - 1, device=labels.device)
    right, wrong = torch.where(is_above, above, below), torch.where(is_above, below, above)
    return _mean(-((gamma * wrong).exp() * right).mean(1), labels, class_weights)


def focal_distance(
    logits: Float[Tensor, "n c"],
    labels: Int[Tensor, " n"],
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    beta: float = 0.2,
    class_weights: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, ""]:
    """GaVA-CLIP's loss of gait grades: cross-entropy under a focal factor plus the predicted grade's distance.

    ``(alpha (1 - p_y)^gamma + beta |argmax p - y| / (C - 1)) (-log p_y)``, as in the published code of Wang et al.,
    "Enhancing Gait Video Analysis in Neurodegenerative Diseases by Knowledge Augmentation in Vision Language Model",
    MICCAI 2024, after the ordinal focal loss of Lu et al., MICCAI 2020. The gradient passes through the focal factor
    and not through the distance. It differs from `focal_ordinal` in that only the most probable grade enters the
    distance, whose term is a step in the logits; the authors set beta = 0 for classes without an order.

    Args:
        logits: scores, the classes in order of their grade.
        labels: true grades.
        gamma: focal exponent.
        alpha: weight of the focal factor.
        beta: weight of the distance.
        class_weights: factor of each true class.

    Raises:
        InputError: there are fewer than two classes, or shapes do not match.
    """
    _check(logits, labels)
    if logits.shape[1] < 2:
        raise InputError(f"logits of shape {tuple(logits.shape)}: graded classes are at least two")
    log_likelihood = -F.cross_entropy(logits.float(), labels, reduction="none")
    missed = (-torch.expm1(log_likelihood)).clamp(min=_MIN_MISS)
    distance = (logits.argmax(1) - labels).abs() / (logits.shape[1] - 1)
    return _mean(-(alpha * missed**gamma + beta * distance) * log_likelihood, labels, class_weights)


def class_balanced_weights(class_counts: Sequence[int], beta: float) -> Float[Tensor, " c"]:
    """Weights inversely proportional to the effective number of samples ``(1 - beta^n) / (1 - beta)``, summing to C.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019. ``beta = 0`` weighs all
    classes alike, ``beta -> 1`` by ``1 / n``.

    Args:
        class_counts: training samples of each class.
        beta: in [0, 1).

    Raises:
        InputError: a class has no training sample, or there are no classes.
    """
    if not class_counts or min(class_counts) < 1:
        empty = [number for number, count in enumerate(class_counts) if count < 1]
        raise InputError(f"class counts {list(class_counts)}: class {empty} has no training sample to be weighed by")
    if beta == 0:
        return torch.ones(len(class_counts))
    # 1 - beta^n without cancellation where beta is nearly 1
    effective = [-math.expm1(count * math.log(beta)) for count in class_counts]
    weights = torch.tensor([1 / value for value in effective], dtype=torch.float64)
    return (weights / weights.sum() * len(class_counts)).float()


def _mean(
    terms: Float[Tensor, " n"], labels: Int[Tensor, " n"], class_weights: Float[Tensor, " c"] | None
) -> Float[Tensor, ""]:
    return terms.mean() if class_weights is None else (terms * class_weights.to(terms)[labels]).mean()


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise InputError(
            f"logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)}: (N, C) and (N,), N > 0"
        )
