"""A training loss from its configuration."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from icube_common.errors import InputError
from icube_common.losses.classification import (
    class_balanced_weights,
    cross_entropy,
    focal,
    focal_distance,
    focal_ordinal,
)
from icube_common.losses.config import LossConfig
from icube_common.losses.contrastive import kgcoop


class Loss:
    """Loss of `make_loss`: logits and labels in, named scalar terms out, as a training step returns them.

    Args:
        config: name and weights.
        class_weights: factor of each class, None where all weigh alike.
    """

    def __init__(self, config: LossConfig, *, class_weights: Float[Tensor, " c"] | None) -> None:
        self.config = config
        self.class_weights = class_weights

    def __call__(
        self,
        logits: Float[Tensor, "n c"],
        labels: Int[Tensor, " n"],
        *,
        learned: Float[Tensor, "*c d"] | None = None,
        frozen: Float[Tensor, "*c d"] | None = None,
    ) -> dict[str, Tensor]:
        """The terms: ``loss`` is what to minimise, ``classification`` and ``kgcoop`` (unweighted) are for the log.

        Args:
            logits: scores.
            labels: true classes.
            learned: class features of the learned prompts, needed where ``config.kgcoop`` is not 0.
            frozen: class features of the frozen descriptions, likewise.

        Raises:
            InputError: shapes do not match, or ``config.kgcoop`` is set and the features are not given.
        """
        classification = self._classification(logits, labels)
        terms = {"loss": classification, "classification": classification}
        if self.config.kgcoop:
            if learned is None or frozen is None:
                raise InputError(
                    f"kgcoop={self.config.kgcoop}: needs learned and frozen class features, and this model gives none"
                )
            terms["kgcoop"] = kgcoop(learned, frozen)
            terms["loss"] = classification + self.config.kgcoop * terms["kgcoop"]
        return terms

    def _classification(self, logits: Tensor, labels: Tensor) -> Tensor:
        config, weights = self.config, self.class_weights
        if config.name == "cross_entropy":
            return cross_entropy(logits, labels, label_smoothing=config.label_smoothing, class_weights=weights)
        if config.name == "focal":
            return focal(logits, labels, gamma=config.gamma, class_weights=weights)
        if config.name == "focal_distance":
            return focal_distance(logits, labels, gamma=config.gamma, class_weights=weights)
        return focal_ordinal(logits, labels, gamma=config.gamma, class_weights=weights)


def make_loss(config: LossConfig, class_counts: Sequence[int]) -> Loss:
    """The loss of a configuration.

    Args:
        config: name and weights.
        class_counts: samples of each class among the *training* rows; its length is the number of classes.

    Raises:
        InputError: ``class_balanced_beta`` is set and a class has no sample.
    """
    weights = class_balanced_weights(class_counts, config.class_balanced_beta) if config.class_balanced_beta else None
    return Loss(config, class_weights=weights)
