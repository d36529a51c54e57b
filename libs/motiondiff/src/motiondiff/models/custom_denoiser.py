"""`CustomDenoiser`: a module of the user's own as a pipeline's denoiser.

Shapes: B batch, T frames, D features per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Bool, Float
from torch import Tensor, nn

from icube_common.errors import InputError
from motiondiff.data.dataset import MotionDataset, collate
from motiondiff.models.conditioning import Conditions


class CustomDenoiser(ModelMixin, ConfigMixin):
    """A denoiser around any module that predicts the clean features (B, T, D).

    Args:
        feature_size: D.
        actions: vocabulary of the action condition.
        styles: vocabulary of the style condition.
        max_frames: longest motion, frames.
        module: called as `MotionDenoiser.forward` is, without ``inpainting``; not part of the saved configuration.
        inpainting_input: always False.
        text_size: always 0: the module has no text condition.
    """

    ignore_for_config: ClassVar[list[str]] = ["module"]

    @register_to_config
    def __init__(
        self,
        feature_size: int,
        actions: Sequence[str],
        styles: Sequence[str],
        max_frames: int,
        module: nn.Module | None = None,
        inpainting_input: bool = False,
        text_size: int = 0,
    ) -> None:
        super().__init__()
        if module is None:
            raise InputError(
                "the model was trained with a module of your own: give it as from_pretrained(..., denoiser=)"
            )
        self.module = module
        self.register_buffer("action_texts", torch.zeros(len(actions), 0), persistent=False)

    @classmethod
    def for_dataset(cls, data: MotionDataset, module: nn.Module) -> CustomDenoiser:
        """The module, checked on noise of the data's width.

        Raises:
            InputError: it fails, or predicts another number of features; both numbers are named.
        """
        size = data.feature_size
        batch = collate([data[0]])
        conditions = Conditions(
            action=batch["action"],
            style=batch["style"],
            shape=torch.zeros(1, len(data.store.joint_names)),
            has_shape=torch.ones(1, dtype=torch.bool),
        )
        sample = batch["features"][:, : data.config.min_frames]
        mask = batch["mask"][:, : data.config.min_frames]
        training = module.training
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            try:
                predicted = module.eval()(sample, torch.zeros(1, dtype=torch.long), conditions, mask)
            except (RuntimeError, ValueError, TypeError) as error:
                words = str(error).splitlines()[0]
                raise InputError(f"model: cannot be called with {size} features a frame ({words})") from error
            finally:
                module.train(training)
        if predicted.shape != sample.shape:
            raise InputError(f"model: predicts {predicted.shape[-1]} features a frame, the data have {size}")
        return cls(
            feature_size=size,
            actions=data.store.actions,
            styles=data.store.styles,
            max_frames=data.config.max_frames,
            module=module,
        )

    def forward(
        self, sample: Float[Tensor, "B T D"], timestep: Tensor, conditions: Conditions, mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Prediction of the module."""
        predicted: Tensor = self.module(sample, timestep, conditions, mask)
        return predicted
