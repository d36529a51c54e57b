"""The keys of a training loss, with their ranges and meanings; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from icube_common.config import Config, option
from icube_common.errors import InputError


@dataclass(frozen=True, kw_only=True)
class LossConfig(Config):
    """Loss of the logits, weights of the classes, and regularisation of prompts towards their descriptions.

    Raises:
        InputError: a value out of range, or one that the chosen ``name`` does not use.
    """

    name: str = option(
        "cross_entropy",
        "loss of the logits; of graded classes focal_ordinal, or focal_distance as in GaVA-CLIP",
        choices=("cross_entropy", "focal", "focal_ordinal", "focal_distance"),
    )
    label_smoothing: float = option(0.0, "share of the target spread over all classes (cross_entropy)", ge=0, lt=1)
    class_balanced_beta: float = option(
        0.0, "beta of the effective number of samples that weighs classes: 0.9 to 0.9999; 0 = off", ge=0, lt=1
    )
    gamma: float = option(2.0, "focal exponent: 0 = none (focal, focal_ordinal, focal_distance)", ge=0)
    kgcoop: float = option(0.0, "weight of the KgCoOp regulariser (8 in its paper); 0 = off", ge=0)

    def unused_keys(self) -> dict[str, str]:
        """Keys that have no effect with the others -> why."""
        return {"gamma": f"loss.name={self.name}"} if self.name == "cross_entropy" else {}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_smoothing and self.name != "cross_entropy":
            raise InputError(
                f"label_smoothing={self.label_smoothing}: name={self.name} has none; take name=cross_entropy or set 0"
            )
