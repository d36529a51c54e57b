"""`ActorVae`: a transformer encoder to one latent for a whole clip, and a transformer decoder back.

Shapes: B batch, T frames, D features per frame, W width and size of the latent, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from motiondiff.models.denoiser import sinusoidal_positions


class ActorVae(ModelMixin, ConfigMixin):
    """Petrovich, Black and Varol, "Action-Conditioned 3D Human Motion Synthesis with Transformer VAE", ICCV 2021.

    Args:
        feature_size: D.
        actions: vocabulary, in index order; at least one.
        width: W.
        num_layers: layers of the encoder, and of the decoder.
        num_heads: attention heads, must divide the width.
        feedforward: hidden features of the feed-forward parts.
        dropout: dropout inside the layers.
        max_frames: longest motion, frames.

    Raises:
        ValueError: no action, or a width that is odd or not a multiple of the number of heads.
    """

    @register_to_config
    def __init__(
        self,
        feature_size: int,
        actions: Sequence[str],
        width: int = 256,
        num_layers: int = 8,
        num_heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
        max_frames: int = 160,
    ) -> None:
        super().__init__()
        if width % num_heads or width % 2:
            raise ValueError(f"model.width={width}: must be even and a multiple of model.num_heads={num_heads}")
        if not actions:
            raise ValueError("ACTOR is conditioned on actions, and there are none")
        shape: dict[str, Any] = {
            "nhead": num_heads,
            "dim_feedforward": feedforward,
            "dropout": dropout,
            "activation": "gelu",
            "batch_first": True,
            # The paper does not say where the norms are. One after the last layer would give every clip's mean the same
            # length and its log variances a mean of 0: in minutes of training the noise would drown what is encoded.
            "norm_first": True,
        }
        self.embed_frames = nn.Linear(feature_size, width)
        # one pair of tokens for each action: what the encoder makes of them is the clip's distribution
        self.mu_token = nn.Parameter(torch.randn(len(actions), width))
        self.sigma_token = nn.Parameter(torch.randn(len(actions), width))
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, **shape), num_layers, enable_nested_tensor=False
        )
        self.action_bias = nn.Parameter(torch.randn(len(actions), width))
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(width, **shape), num_layers, norm=nn.LayerNorm(width)
        )
        self.predict = nn.Linear(width, feature_size)
        self.register_buffer("position", sinusoidal_positions(max_frames + 2, width), persistent=False)

    def encode(
        self, features: Float[Tensor, "B T D"], action: Int[Tensor, " B"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B W"], Float[Tensor, "B W"]]:
        """Mean and log variance of a clip's latent (section 3.2, "Encoder").

        Args:
            features: normalised features.
            action: indices into the vocabulary.
            mask: True on a clip's own frames; padding is never attended to.
        """
        tokens = torch.stack([self.mu_token[action], self.sigma_token[action]], dim=1)
        sequence = torch.cat([tokens, self.embed_frames(features.masked_fill(~mask[..., None], 0.0))], dim=1)
        attended = torch.cat([mask.new_ones(len(mask), 2), mask], dim=1)
        encoded = self.encoder(sequence + self.position[: sequence.shape[1]], src_key_padding_mask=~attended)
        return encoded[:, 0], encoded[:, 1]

    def decode(
        self, latent: Float[Tensor, "B W"], action: Int[Tensor, " B"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Normalised features from latents: time codes ask, the latent shifted by the action answers (section 3.2).

        Args:
            latent: one for each clip.
            action: indices into the vocabulary.
            mask: True on the frames wanted; what stands at padding means nothing.
        """
        memory = (latent + self.action_bias[action])[:, None]
        queries = self.position[: mask.shape[1]].expand(len(mask), -1, -1)
        return self.predict(self.decoder(queries, memory, tgt_key_padding_mask=~mask))

    def forward(
        self,
        features: Float[Tensor, "B T D"],
        action: Int[Tensor, " B"],
        mask: Bool[Tensor, "B T"],
        noise: Float[Tensor, "B W"],
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B W"], Float[Tensor, "B W"]]:
        """Reconstruct through a drawn latent; also its mean and log variance."""
        mean, log_variance = self.encode(features, action, mask)
        latent = mean + noise * torch.exp(0.5 * log_variance)
        return self.decode(latent, action, mask), mean, log_variance


def kl_divergence(mean: Float[Tensor, "B W"], log_variance: Float[Tensor, "B W"]) -> Float[Tensor, ""]:
    """KL from N(mean, variance) to N(0, 1), summed over the latent, mean over the batch, nats.

    Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B.
    """
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1).mean()
