"""Fusion of numbers: contrastive loss with their sample, class features, or the sample's feature.

Each starts small and is never dead: no weight starts at a place where its gradient, or that of another one, is zero.

Shapes: N samples, C classes, P numbers, D feature width. All features are normalised, on both sides.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils import skip_init

from icube_common.errors import InputError
from icube_common.evaluation.folds import Fold
from icube_common.losses.contrastive import gather_rows, info_nce
from icube_common.losses.logit_scale import scale_of
from icube_common.tabular.scaling import Scaler
from icube_common.tabular.table import TabularData, training_values
from icube_common.tabular.text import TabularText

# CLIP's (Radford et al., ICML 2021, sec. 2.5)
_FIRST_TEMPERATURE = 0.07
# share of the numbers in the first sum
_FIRST_SHARE = 0.1


class TabularContrastiveLoss(nn.Module):
    """A training term that pulls a sample's feature to that of its numbers, with a learnable temperature.

    The symmetric InfoNCE of CLIP, or its supervised form where samples of one class are all positives (Khosla et al.,
    NeurIPS 2020). Prediction needs no numbers then.

    Args:
        label_aware: take the supervised form.
    """

    def __init__(self, *, label_aware: bool = True) -> None:
        super().__init__()
        self.label_aware = label_aware
        self.log_scale = nn.Parameter(torch.tensor(-math.log(_FIRST_TEMPERATURE)))

    def forward(
        self,
        sample: Float[Tensor, "n d"],
        numbers: Float[Tensor, "n d"],
        *,
        labels: Int[Tensor, " n"] | None = None,
        present: Bool[Tensor, " n"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss, over the rows of all processes of a training.

        Args:
            sample: features of the samples.
            numbers: features of their numbers, row for row.
            labels: classes, needed where ``label_aware``.
            present: samples with at least one number; the others do not count. None: all.

        Raises:
            InputError: ``label_aware`` and no labels.
        """
        if self.label_aware and labels is None:
            raise InputError("label_aware=true: the contrastive term needs the labels of the batch")
        sample, numbers = gather_rows(sample), gather_rows(numbers)
        labels, present = (None if rows is None else gather_rows(rows) for rows in (labels, present))
        if present is not None:
            sample, numbers = sample[present], numbers[present]
            labels = labels if labels is None else labels[present]
        if len(sample) < 2:  # nothing to be told from
            return 0.0 * (sample.sum() + numbers.sum() + self.log_scale)
        return info_nce(sample, numbers, scale=scale_of(self.log_scale), labels=labels if self.label_aware else None)


def class_means(table: TabularData, fold: Fold, scaler: Scaler) -> Float[np.ndarray, "c p"]:
    """Mean scaled numbers of each of a fold's classes over its training rows; NaN where a class has no value.

    Args:
        table: all samples.
        fold: the only source of training rows and of their labels.
        scaler: fitted on the same fold.
    """
    values = scaler.transform(training_values(table, fold))
    present = ~np.isnan(values)
    sums, counts = np.zeros((2, len(fold.train_classes), values.shape[1]))
    np.add.at(sums, fold.train_labels, np.where(present, values, 0.0))
    np.add.at(counts, fold.train_labels, present)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


class ClassPrototypeMemory(nn.Module):
    """Class features plus a projection of their training samples' mean numbers.

    The memory holds the mean numbers of each class; written as text they give one feature a class, and its difference
    from the mean of all classes is added through a learned map that starts at a tenth of the identity. Of single
    training samples it keeps nothing. (GaVA-CLIP averages features instead of numbers, and over all subjects.)

    Args:
        values: (C, P) of `class_means`. A class without any number gets nothing added.
        dim: D.

    Raises:
        InputError: fewer than two classes have numbers.
    """

    values: Tensor

    def __init__(self, values: Float[Tensor, "c p"], dim: int) -> None:
        super().__init__()
        if (~values.isnan()).any(1).sum() < 2:
            raise InputError("class memory: fewer than two classes have numbers in the training part of the fold")
        self.register_buffer("values", values.float())
        self.map = skip_init(nn.Linear, dim, dim, bias=False)
        with torch.no_grad():
            self.map.weight.copy_(_FIRST_SHARE * torch.eye(dim))

    def forward(
        self, classes: Float[Tensor, "k *s d"], text: TabularText, *, rows: Int[Tensor, " k"] | None = None
    ) -> Float[Tensor, "k *s d"]:
        """Class features, of one or of several descriptions per class, with their numbers.

        Args:
            classes: features of the classes.
            text: writes the numbers.
            rows: the memory's row of each class, -1 for a class that was not trained, which stays as it is. None: the
                classes are those of the memory, in its order.

        Raises:
            InputError: there are not as many rows as classes.
        """
        if rows is None:
            rows = torch.arange(len(self.values), device=classes.device)
        if len(rows) != len(classes):
            raise InputError(f"class memory: {len(classes)} class features for {len(rows)} rows of class numbers")
        has_values = ~self.values.isnan().all(1)
        features = text(self.values[has_values])
        residual = torch.zeros(len(self.values) + 1, features.shape[1], device=features.device)
        residual[:-1][has_values] = self.map(features - features.mean(0))
        # the last row, which -1 names, stays 0
        added = residual[rows].to(classes)
        moved = F.normalize(classes + (added.unsqueeze(1) if classes.ndim == 3 else added), dim=-1)
        # the numbers turn a feature; a mean over several descriptions keeps its length, which is below 1
        return moved * classes.norm(dim=-1, keepdim=True)


class Fusion(nn.Module):
    """A sample's feature and that of its numbers as one feature.

    ``gated``: ``sample + sigmoid(gate([sample, numbers])) * map(numbers)``, gates starting near .1 and the map at the
    identity. ``mlp``: ``sample + gain * mlp([sample, numbers])``, the second term starting near a length of .1.

    Args:
        dim: D.
        kind: ``"gated"`` or ``"mlp"``.
        generator: of the first weights.
    """

    def __init__(self, dim: int, *, kind: str = "gated", generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.first = _linear(2 * dim, dim, generator)
        self.second = _linear(dim, dim, generator)
        with torch.no_grad():
            if kind == "gated":
                self.gain = None
                self.first.weight.mul_(_FIRST_SHARE)
                self.first.bias.fill_(math.log(_FIRST_SHARE / (1 - _FIRST_SHARE)))
                self.second.weight.copy_(torch.eye(dim))
                self.second.bias.zero_()
            else:
                self.gain = nn.Parameter(torch.tensor(_FIRST_SHARE))

    def forward(self, sample: Float[Tensor, "n d"], numbers: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The fused, normalised feature."""
        # entries of a unit vector are near 1 / sqrt(D): brought to 1 for the layers, and back
        root = math.sqrt(sample.shape[-1])
        both = torch.cat([F.normalize(sample, dim=-1), F.normalize(numbers, dim=-1)], dim=-1) * root
        if self.gain is None:
            added = torch.sigmoid(self.first(both)) * self.second(F.normalize(numbers, dim=-1))
        else:
            added = self.gain * self.second(F.gelu(self.first(both))) / root
        return F.normalize(F.normalize(sample, dim=-1) + added, dim=-1)


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer that keeps the size of its input; torch's own starts from the global generator."""
    layer = skip_init(nn.Linear, inputs, outputs)
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.normal_(std=1 / math.sqrt(inputs), generator=generator)
        layer.bias.zero_()
    return layer
