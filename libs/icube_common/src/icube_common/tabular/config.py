"""The keys of the tabular branch, with their ranges and meanings; imports no torch."""

from __future__ import annotations

import string
from dataclasses import dataclass

from icube_common.config import Config, option
from icube_common.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TabularConfig(Config):
    """Numbers as text, and their fusion with the features.

    Raises:
        InputError: a value out of range, or a template without its two places.
    """

    enabled: bool = option(False, "use of numbers")
    fusion_mode: str = option(
        "contrastive",
        "fusion of numbers: contrastive loss in training, added to class features, or to sample features",
        choices=("contrastive", "memory", "fusion"),
    )
    kind: str = option("sinusoidal", "embedding of a value", choices=("sinusoidal", "mlp"))
    missing: str = option("learned", "embedding of a missing value", choices=("learned", "word"))
    template: str = option("{name} {value} {unit}", "text of one value; values are joined by commas")
    scaling: str = option(
        "robust",
        "centre and spread of a column: median and quartiles, or mean and deviation",
        choices=("robust", "standard"),
    )
    max_correlation: float = option(0.5, "largest |Spearman| between two numbers of one sentence", gt=0, le=1)
    group_size: int = option(6, "most numbers in one sentence", ge=1)
    frequencies: int = option(4, "frequencies of the sinusoidal embedding", ge=1)
    hidden: int = option(64, "hidden width of the mlp embedding", ge=1)
    label_aware: bool = option(True, "contrastive: samples of one class are not pushed apart")
    weight: float = option(0.5, "contrastive: weight of its term in the loss", gt=0)
    fusion: str = option("gated", "fusion: how the features are joined", choices=("gated", "mlp"))

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            places = [field for _, field, _, _ in string.Formatter().parse(self.template) if field is not None]
        except ValueError as error:
            raise InputError(f"template={self.template!r}: {error}") from error
        if places.count("name") != 1 or places.count("value") != 1 or set(places) - {"name", "value", "unit"}:
            raise InputError(
                f"template={self.template!r}: must hold {{name}} and {{value}} once each, and may hold {{unit}}"
            )
