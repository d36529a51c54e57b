"""Tabular branch: scaling, sentences and one mode of fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.tabular.config import TabularConfig
from icube_common.tabular.fusion import ClassPrototypeMemory, Fusion, TabularContrastiveLoss, class_means
from icube_common.tabular.groups import group_features
from icube_common.tabular.scaling import Scaler
from icube_common.tabular.table import TabularData
from icube_common.tabular.text import TabularText

if TYPE_CHECKING:
    from icube_common.evaluation.folds import Fold
    from icube_common.vlm.backbone import FrozenVLM


class TabularOutput(NamedTuple):
    """Output of the branch: features for the logits, and its weighted loss term where it has one."""

    sample: Float[Tensor, "n d"]
    classes: Float[Tensor, "k *s d"]
    loss: Float[Tensor, ""] | None


class TabularBranch(nn.Module):
    """Measured numbers in, features out; `fit` makes one for a fold, `from_dict` for saved weights.

    Args:
        vlm: the frozen backbone; referred to, not owned.
        config: settings.
        scaler: fitted on a fold.
        units: of each column.
        groups: column numbers of each sentence.
        class_values: (C, P) scaled class means, for ``fusion_mode="memory"``.
        generator: of the first weights.
    """

    center: Tensor
    scale: Tensor

    def __init__(
        self,
        vlm: FrozenVLM,
        config: TabularConfig,
        *,
        scaler: Scaler,
        units: Sequence[str],
        groups: Sequence[Sequence[int]],
        class_values: Float[Tensor, "c p"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.scaler = scaler
        self.units = tuple(units)
        self.groups = tuple(tuple(group) for group in groups)
        self.register_buffer("center", torch.tensor(scaler.center), persistent=False)
        self.register_buffer("scale", torch.tensor(scaler.scale), persistent=False)
        self.text = TabularText(vlm, scaler.names, units, groups=groups, config=config, generator=generator)
        self.fusion: TabularContrastiveLoss | ClassPrototypeMemory | Fusion
        if config.fusion_mode == "contrastive":
            self.fusion = TabularContrastiveLoss(label_aware=config.label_aware)
        elif config.fusion_mode == "memory":
            if class_values is None:
                raise InputError("fusion_mode=memory: needs the mean numbers of each class")
            self.fusion = ClassPrototypeMemory(class_values, vlm.embed_dim)
        else:
            self.fusion = Fusion(vlm.embed_dim, kind=config.fusion, generator=generator)

    @classmethod
    def fit(
        cls,
        vlm: FrozenVLM,
        config: TabularConfig,
        table: TabularData,
        fold: Fold,
        *,
        generator: torch.Generator | None = None,
    ) -> TabularBranch:
        """The branch of a fold: scaling, groups and class means see its training rows only.

        Args:
            vlm: the frozen backbone.
            config: what to build; callers build nothing where it is not ``enabled``.
            table: all samples.
            fold: the only source of training rows and of their labels.
            generator: of the first weights.

        Raises:
            InputError: a column has no training value, a sentence does not fit the tower, or the memory has too few
                classes with numbers.
        """
        scaler = Scaler.fit(table, fold, method=config.scaling)
        groups = group_features(table, fold, max_correlation=config.max_correlation, size=config.group_size)
        means = None
        if config.fusion_mode == "memory":
            means = torch.from_numpy(class_means(table, fold, scaler)).float()
        return cls(
            vlm, config, scaler=scaler, units=table.units, groups=groups, class_values=means, generator=generator
        )

    def forward(
        self,
        sample: Float[Tensor, "n d"],
        classes: Float[Tensor, "k *s d"],
        values: Float[Tensor, "n p"],
        *,
        labels: Int[Tensor, " n"] | None = None,
        class_rows: Int[Tensor, " k"] | None = None,
    ) -> TabularOutput:
        """Let the numbers in.

        Args:
            sample: features of images, videos or scans.
            classes: features of the class prompts.
            values: the samples' numbers as measured, not scaled, NaN where missing.
            labels: classes, needed in training by a label-aware contrastive entry.
            class_rows: for a memory and other classes than the trained ones: the trained class that each of them is,
                -1 for none.

        Returns:
            ``contrastive``: the features as they came and, in training, the loss term. ``memory``: other class
            features. ``fusion``: other sample features.
        """
        scaled = (values.to(self.center) - self.center) / self.scale
        if isinstance(self.fusion, ClassPrototypeMemory):
            return TabularOutput(sample, self.fusion(classes, self.text, rows=class_rows), None)
        if isinstance(self.fusion, Fusion):
            return TabularOutput(self.fusion(sample, self.text(scaled)), classes, None)
        if not self.training:
            return TabularOutput(sample, classes, None)
        present = ~scaled.isnan().all(1)
        loss = self.fusion(sample, self.text(scaled), labels=labels, present=present)
        return TabularOutput(sample, classes, self.config.weight * loss)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values that, with the `state_dict`, `from_dict` restores."""
        return {
            "config": config_to_dict(self.config),
            "scaler": self.scaler.to_dict(),
            "units": list(self.units),
            "groups": [list(group) for group in self.groups],
            "num_classes": len(self.fusion.values) if isinstance(self.fusion, ClassPrototypeMemory) else None,
        }

    @classmethod
    def from_dict(cls, vlm: FrozenVLM, record: Mapping[str, Any]) -> TabularBranch:
        """The branch of a `record`, ready for `load_state_dict`."""
        scaler = Scaler.from_dict(record["scaler"])
        classes = record["num_classes"]
        return cls(
            vlm,
            TabularConfig(**record["config"]),
            scaler=scaler,
            units=record["units"],
            groups=record["groups"],
            class_values=None if classes is None else torch.zeros(classes, len(scaler.names)),
        )
