"""The frozen backbone of a run: where its configuration trains, in its mixed precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icube_common.training.config import TrainConfig
from icube_common.vlm.config import VLMConfig

if TYPE_CHECKING:
    from icube_common.vlm.backbone import FrozenVLM


def load_backbone(vlm: VLMConfig, train: TrainConfig, *, predict: bool = False) -> FrozenVLM:
    """Load a frozen backbone on the device of a training.

    Args:
        vlm: which backbone.
        train: gives device and mixed precision.
        predict: for a trained model, which may be used on another machine than it was trained on: ``device=cuda``
            counts as ``auto``.

    Raises:
        InputError: there is no such device, or as `icube_common.vlm.VLMConfig.load`.
    """
    from icube_common.vlm.device import default_device

    choice = "auto" if predict and train.device == "cuda" else train.device
    return vlm.load(default_device(choice), mixed_precision=train.mixed_precision)
