"""`MDMDenoiser`: the denoiser of Tevet et al., "Human Motion Diffusion Model", ICLR 2023, section 3, as a baseline.

Shapes: B batch, T frames, D features per frame, J joints, S numbers of a text's embedding, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Bool, Float
from torch import Tensor, nn

from motiondiff.models.conditioning import Conditions
from motiondiff.models.denoiser import MotionDenoiser, sinusoidal_positions


class ConditionSum(nn.Module):
    """Sum of the embeddings of all conditions; one that is not given adds nothing.

    The paper has a class or a text; style and body shape are added in the same way. Of a text the embedding is
    projected linearly, a class has a learned embedding.

    Args:
        num_actions: size of the action vocabulary (may be 0).
        num_styles: size of the style vocabulary (may be 0).
        shape_size: J.
        width: W.
        text_size: S, 0 for a model without text.
    """

    def __init__(self, num_actions: int, num_styles: int, shape_size: int, width: int, text_size: int = 0) -> None:
        super().__init__()
        # a table without rows cannot be: the row of an empty vocabulary is never looked up
        self.action = nn.Embedding(max(num_actions, 1), width)
        self.style = nn.Embedding(max(num_styles, 1), width)
        self.shape = nn.Linear(shape_size, width)
        self.text = nn.Linear(text_size, width) if text_size else None

    def forward(self, conditions: Conditions) -> Float[Tensor, "B W"]:
        """Embed a batch of conditions.

        Raises:
            ValueError: texts are given to a model without text.
        """
        weight = self.action.weight
        result = weight.new_zeros(len(conditions.action), weight.shape[1])
        for table, index in ((self.action, conditions.action), (self.style, conditions.style)):
            result = result + table(index.clamp(min=0)) * (index >= 0)[:, None]
        result = result + self.shape(conditions.shape.to(weight.dtype)) * conditions.has_shape[:, None]
        if conditions.text is not None and conditions.has_text is not None:
            if self.text is None:
                raise ValueError("texts were given to a model that was trained without text")
            # an embedding has length 1: its numbers are brought to the size that layers are made for
            text = self.text(conditions.text.to(weight.dtype) * math.sqrt(conditions.text.shape[1]))
            result = result + text * conditions.has_text[:, None]
        return result


class MDMDenoiser(MotionDenoiser):
    """Predicts x0 with an encoder-only transformer behind one token of timestep and condition.

    Section 3 of the paper: the noisy frames are projected linearly and take a position code; timestep and condition
    have networks of their own, whose sum is one token ``z_tk`` in front of the frames; the layers are those of Vaswani
    et al., NeurIPS 2017 (normalisation after each part), with GELU; the outputs of the frames are projected linearly.
    Without the preconditioning, convolutions and input for conditioned parts of `MotionDenoiser`.

    Args:
        feature_size: D.
        shape_size: J, numbers of the body-shape condition.
        actions: vocabulary of the action condition, in index order.
        styles: vocabulary of the style or subject condition, in index order.
        width: W, features per token; 512 in the paper.
        num_layers: transformer layers; 8 in the paper.
        num_heads: must divide the width.
        feedforward: hidden features of the feed-forward parts.
        dropout: dropout inside the layers and on the sum of frames and position code.
        max_frames: longest motion, frames.
        inpainting_input: False.
        text_size: S, numbers of a text's embedding; 0: no text condition.
        text_encoder: what the texts were embedded with: `motiondiff.models.text_encoder.TextEncoder.facts`.
        num_train_timesteps: length of the noise schedule.

    Raises:
        ValueError: the width is odd or not a multiple of the number of heads; an input for conditioned parts.
    """

    guided_share: ClassVar[float | None] = 1.0

    @register_to_config
    def __init__(
        self,
        feature_size: int,
        shape_size: int,
        actions: Sequence[str] = (),
        styles: Sequence[str] = (),
        width: int = 512,
        num_layers: int = 8,
        num_heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
        max_frames: int = 160,
        inpainting_input: bool = False,
        text_size: int = 0,
        text_encoder: dict[str, Any] | None = None,
        num_train_timesteps: int = 1000,
    ) -> None:
        ModelMixin.__init__(self)  # none of the layers of the parent; diffusers looks for the name in this module
        if width % num_heads or width % 2:
            raise ValueError(f"model.width={width}: must be even and a multiple of model.num_heads={num_heads}")
        if inpainting_input:
            raise ValueError(
                "model.architecture=mdm: has no input for conditioned parts; set diffusion.inpainting_probability=0"
            )
        self.spectral = False
        self.embed_frames = nn.Linear(feature_size, width)
        self.timestep_features = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embed_timestep = TimestepEmbedding(width, width)
        self.condition_sum = ConditionSum(len(actions), len(styles), shape_size, width, text_size)
        self.register_buffer("action_texts", torch.zeros(len(actions), text_size), persistent=text_size > 0)
        self.register_buffer("frame_position", sinusoidal_positions(max_frames, width), persistent=False)
        self.embedding_dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(width, num_heads, feedforward, dropout, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        for weight in self.encoder.parameters():  # `TransformerEncoder` copies one layer
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        self.predict = nn.Linear(width, feature_size)

    def network(
        self,
        inputs: Float[Tensor, "B T D"],
        timestep: Tensor,
        conditions: Conditions,
        valid: Bool[Tensor, "B T"],
        inpainting: Tensor | None = None,
    ) -> Float[Tensor, "B T D"]:
        """The clean features.

        Args:
            inputs: noisy normalised features.
            timestep: (B,) diffusion timestep.
            conditions: B rows of conditions.
            valid: True on a motion's own frames.
            inpainting: None.
        """
        assert inpainting is None, "this denoiser has no input for conditioned parts"
        dtype = self.predict.weight.dtype
        token = self.embed_timestep(self.timestep_features(timestep).to(dtype)) + self.condition_sum(conditions)
        frames = self.embedding_dropout(self.embed_frames(inputs) + self.frame_position[: inputs.shape[1]])
        tokens = torch.cat([token[:, None], frames], dim=1)
        padding = ~torch.cat([valid.new_ones(len(valid), 1), valid], dim=1)
        encoded = self.encoder(tokens, src_key_padding_mask=padding)[:, 1:]
        return self.predict(encoded)
