"""Cases of a comparison of methods: trainings of a protocol with their test sides, feature tables, class texts.

Shapes: N training rows, n test rows, W width of the features, D width of the space of the texts, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from icube_common.evaluation import BaseToNew, Fold
from icube_common.evaluation.runner import fold_name
from icube_common.prompts.ridge_init import mean_and_std

if TYPE_CHECKING:
    from icube_common.vlm import FrozenVLM


class FeatureRows(NamedTuple):
    """Features of some rows: (n, W) for learned heads, and (n, D) in the space of the texts, or None."""

    features: Float[Tensor, "n w"]
    joint: Float[Tensor, "n d"] | None


View: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Restriction of a table to the rows of a part: `Fold.training_rows` or `Fold.test_inputs`."""
FeatureSource: TypeAlias = Callable[[Fold], Callable[[View], FeatureRows]]
"""Fold -> encoder, fitted to training rows where it has anything to fit -> features of a part's rows."""


def cached_features(features: Mapping[str, Tensor], joint: Mapping[str, Tensor] | None = None) -> FeatureSource:
    """Source of features that no fold changes: id -> (W,), and id -> (D,) in the space of the texts."""

    def encode(view: View) -> FeatureRows:
        first = torch.stack(list(view(features).values()))
        return FeatureRows(first, None if joint is None else torch.stack(list(view(joint).values())))

    return lambda fold: encode


def standardised_features(fold: Fold, vectors: Callable[[View], Float[Tensor, "n w"]]) -> Callable[[View], FeatureRows]:
    """Encoder of features standardised by the training rows; a missing value (NaN) is 0, their mean.

    Args:
        fold: whose training rows give mean and standard deviation.
        vectors: features of a part's rows.
    """
    mean, std = mean_and_std(vectors(fold.training_rows))

    def encode(view: View) -> FeatureRows:
        return FeatureRows(((vectors(view).double() - mean) / std).nan_to_num().float(), None)

    return encode


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassWords:
    """Texts that every method is given.

    Attributes:
        words: class name of the samples -> name in words.
        vlm: with the text tower; None where no features are in the space of its texts.
        templates: as of `FeatureProblem`.
        descriptions: class name of the samples -> sentences.
        logit_scale: as of `FeatureProblem`.
    """

    words: Mapping[str, str]
    vlm: FrozenVLM | None = None
    templates: str | Sequence[str] = "a photo of a"
    descriptions: Mapping[str, Sequence[str]] | None = None
    logit_scale: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodCase:
    """One training of a protocol, and the test sides that its model predicts.

    Attributes:
        train: fold of the training rows.
        tests: condition (a column of the table: ``"4 shots"``, ``"new"``) -> fold of the test rows.
        repeat: number of the draw.
        name: of the folder.
    """

    train: Fold
    tests: Mapping[str, Fold]
    repeat: int
    name: str


def plain_cases(folds: Sequence[Fold], condition: str = "all classes") -> list[MethodCase]:
    """Cases of a protocol with one condition."""
    return [MethodCase(train=fold, tests={condition: fold}, repeat=fold.repeat, name=fold_name(fold)) for fold in folds]


def few_shot_cases(folds: Sequence[tuple[int, Fold]]) -> list[MethodCase]:
    """Cases of few-shot folds with their numbers of shots: a condition for each number."""
    return [
        MethodCase(
            train=fold, tests={f"{shots} shot{'s' if shots > 1 else ''}": fold}, repeat=fold.repeat, name=f"{index:03d}"
        )
        for index, (shots, fold) in enumerate(folds)
    ]


def base_to_new_cases(pairs: Sequence[tuple[int, BaseToNew]]) -> list[MethodCase]:
    """Cases of base-to-new pairs with the number of the draw: conditions ``base`` and ``new``."""
    return [
        MethodCase(train=pair.base, tests={"base": pair.base, "new": pair.new}, repeat=draw, name=f"{index:03d}")
        for index, (draw, pair) in enumerate(pairs)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelOutput:
    """Result of a model with a training of its own.

    Attributes:
        probabilities: condition -> (n, C) in the order of the fold's test rows and test classes.
        trained_parameters: numbers that were learned.
        warnings: lines for the report.
    """

    probabilities: Mapping[str, npt.NDArray[np.float64]]
    trained_parameters: int
    warnings: Sequence[str] = ()


TrainedModel: TypeAlias = Callable[[MethodCase, int, Path], ModelOutput]
"""Case, seed and a folder for the records of a training -> its output; trains on the same folds as the methods."""
