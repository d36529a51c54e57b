"""Interface of the methods: a problem of features, a method with its settings, and the fitted classifier.

A comparison is a loop over methods:

    problem = FeatureProblem(features=..., joint=..., labels=..., groups=..., class_names=..., vlm=..., templates=...)
    for method in methods:
        if reason := method.reason(problem):
            print(method.name, "not applicable:", reason)
            continue
        fitted = tune_and_fit(method, problem)               # inner folds of the training rows only
        logits = fitted.logits(test_features, test_joint)    # (n, C), columns in the order of class_names

Shapes: N training rows, n rows to predict, W width of the features, D width of the space of the texts, C classes.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from icube_common.errors import InputError
from icube_common.prompts.features import class_means
from icube_common.prompts.template import check_templates, fill
from icube_common.vlm.backbone import FrozenVLM

# hyperparameters of one training, of plain values, as they are written to a report
Setting: TypeAlias = Mapping[str, Any]
# settings that the inner selection may compare, the same for each method
BUDGET = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureProblem:
    """Training rows of one fold as features of a frozen model, with the classes and their texts.

    Args:
        features: ``(N, W)`` for learned heads: of an image tower, a pose trajectory, a table. One row for each sample.
        labels: ``(N,)`` positions in ``class_names``.
        class_names: (C,) names in words, the columns of the logits. Classes without a training row are new classes:
            they may be predicted, and nothing is learned of them.
        joint: ``(N, D)`` features in the space of the texts, normalised here; None where there are none.
        groups: (N,) whose each row is (the subject); the inner selection keeps groups whole. Each row is a group of its
            own where not given.
        vlm: the frozen model whose text tower reads the class texts, on the device of the training; None where there is
            none.
        templates: words around the class name, as in `icube_common.prompts.PromptConfig`: the hand-crafted texts of
            all methods; several are an ensemble.
        descriptions: class name -> its sentences, for methods that use them.
        logit_scale: factor on cosine similarities, frozen in every method; that of ``vlm`` where not given.
        seed: of initialisations, of the order of the rows and of the inner folds.

    Raises:
        InputError: lengths differ, a label is no position, a feature is not finite, a class name appears twice.
    """

    features: Float[Tensor, "n w"]
    labels: Int[Tensor, " n"]
    class_names: Sequence[str]
    joint: Float[Tensor, "n d"] | None = None
    groups: Sequence[str] | None = None
    vlm: FrozenVLM | None = None
    templates: str | Sequence[str] = "a photo of a"
    descriptions: Mapping[str, Sequence[str]] | None = None
    logit_scale: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        count = len(self.labels)
        groups = tuple(map(str, range(count) if self.groups is None else self.groups))
        lengths = {"features": len(self.features), "labels": count, "groups": len(groups)}
        lengths |= {} if self.joint is None else {"joint": len(self.joint)}
        if len(set(lengths.values())) > 1:
            raise InputError(f"feature problem: {lengths}, need equally many")
        names = tuple(self.class_names)
        if not names or len(set(names)) < len(names):
            raise InputError(f"feature problem: class names {list(names)}, need at least one, and none twice")
        if count and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(names):
            raise InputError(f"feature problem: labels {self.labels.unique().tolist()}, need 0 to {len(names) - 1}")
        device = self.vlm.device if self.vlm is not None else self.features.device
        values: dict[str, Any] = {"class_names": names, "groups": groups, "templates": check_templates(self.templates)}
        values["labels"] = self.labels.to(device, torch.long)
        for key in ("features", "joint"):
            value = getattr(self, key)
            if value is None:
                continue
            if value.ndim != 2 or not torch.isfinite(value).all():
                raise InputError(f"feature problem: {key} of shape {tuple(value.shape)}, need finite (N, width)")
            values[key] = value.detach().to(device, torch.float32)
        if self.joint is not None:
            values["joint"] = F.normalize(values["joint"], dim=-1)
        if self.logit_scale is None and self.vlm is not None:
            values["logit_scale"] = float(self.vlm.logit_scale)
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def trained_classes(self) -> Int[Tensor, " k"]:
        """Classes with a training row, sorted."""
        return self.labels.unique()

    @property
    def new_classes(self) -> list[str]:
        """Names of the classes without a training row."""
        trained = set(self.trained_classes.tolist())
        return [name for number, name in enumerate(self.class_names) if number not in trained]

    @property
    def shots(self) -> int:
        """Rows of the rarest class that has any; 0 without rows."""
        counts = torch.bincount(self.labels, minlength=1)
        return int(counts[counts > 0].min()) if len(self) else 0

    @property
    def scale(self) -> float:
        """The frozen logit scale."""
        return 1.0 if self.logit_scale is None else float(self.logit_scale)

    @functools.cached_property
    def text_features(self) -> Float[Tensor, "c d"]:
        """Class features of the hand-crafted templates, normalised (`ensemble_features`)."""
        assert self.vlm is not None
        templates = [self.templates] if isinstance(self.templates, str) else self.templates
        return ensemble_features(self.vlm, self.class_names, templates)

    def select(self, rows: Int[Tensor, " m"]) -> FeatureProblem:
        """The problem of some of the rows, with all classes and the same texts."""
        assert self.groups is not None
        result = dataclasses.replace(
            self,
            features=self.features[rows],
            labels=self.labels[rows],
            joint=None if self.joint is None else self.joint[rows],
            groups=[self.groups[row] for row in rows.tolist()],
        )
        if "text_features" in self.__dict__:  # encoded once for all inner folds
            result.__dict__["text_features"] = self.text_features
        return result


@torch.no_grad()
def ensemble_features(vlm: FrozenVLM, class_names: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "c d"]:
    """Class features of an ensemble of templates: the mean of the normalised text features, normalised again.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 3.1.4.

    Args:
        vlm: the frozen model.
        class_names: (C,) in words.
        templates: with ``{}`` as the place of the name, or the words before it.
    """
    count = len(class_names)
    features = torch.cat([vlm.encode_text([fill(template, name) for name in class_names]) for template in templates])
    owner = torch.arange(count, device=features.device).repeat(len(templates))
    return F.normalize(class_means(features, owner, count), dim=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedMethod:
    """A fitted classifier of features.

    Args:
        name: of the method.
        setting: the setting it was fitted with.
        forward: ``(features, joint)`` -> logits ``(n, C)``, differentiable; `logits` is the call from outside.
        trained_parameters: numbers that were learned.
        steps: optimiser steps of the training; 0 for a closed form.
        inner_scores: setting and inner balanced accuracy of each candidate; empty where nothing was selected.
        warnings: lines for the report: a budget of steps that shortened the training, a solver without convergence.
    """

    name: str
    setting: Setting
    forward: Callable[[Float[Tensor, "n w"], Float[Tensor, "n d"] | None], Float[Tensor, "n c"]]
    trained_parameters: int
    steps: int = 0
    inner_scores: tuple[tuple[Setting, float], ...] = ()
    warnings: tuple[str, ...] = ()

    @torch.no_grad()
    def logits(self, features: Float[Tensor, "n w"], joint: Float[Tensor, "n d"] | None = None) -> Float[Tensor, "n c"]:
        """Scores of all classes, float32.

        Args:
            features: as those of the training.
            joint: likewise, in the space of the texts; normalised here.
        """
        return self.forward(features.float(), None if joint is None else F.normalize(joint.float(), dim=-1))


class Method(ABC):
    """A published method: its name and source, its settings, and how it is fitted.

    Attributes:
        name: of the row in a table.
        citation: paper, venue, section.
        requires: of a problem: ``joint``, ``texts``; every method may use ``features``.
        per_class: weights of each class are learned, so that a class without training rows cannot be predicted.
        learns: rows are needed.
    """

    name: str
    citation: ClassVar[str]
    requires: ClassVar[frozenset[str]] = frozenset()
    per_class: bool = False
    learns: ClassVar[bool] = True

    def reason(self, problem: FeatureProblem) -> str:
        """Reason for which the method does not apply to a problem; empty where it does."""
        if "joint" in self.requires and problem.joint is None:
            return "no features in the space of the texts"
        if "texts" in self.requires and problem.vlm is None:
            return "no text tower"
        if self.learns and not len(problem):
            return "no training rows"
        if self.per_class and problem.new_classes:
            return f"learns weights of each class, and {problem.new_classes[0]!r} has no training row"
        return ""

    @abstractmethod
    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """Candidate settings, at most `BUDGET`; the first is that of the paper."""

    @abstractmethod
    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        """Fit on all rows of a problem that `reason` has nothing against."""
