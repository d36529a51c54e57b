"""Configuration of an ACTOR training; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from icube_common.config import Config, option, section
from icube_common.training.config import TrainConfig
from motiondiff.config import DataConfig


@dataclass(frozen=True, kw_only=True)
class ActorModelConfig(Config):
    """Shape of the VAE; the paper's is 8 layers, latent width 256, 4 heads, feed-forward 1024 (section 3.3)."""

    num_layers: int = option(8, "transformer layers of the encoder, and as many of the decoder", ge=1)
    width: int = option(256, "features per token, which is the size of the latent", ge=8)
    num_heads: int = option(4, "attention heads; divides width", ge=1)
    feedforward: int = option(1024, "hidden features of a layer's feed-forward part", ge=8)
    dropout: float = option(0.1, "dropout inside the layers", ge=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class ActorLossConfig(Config):
    """Weights of the losses; the paper's are 1, 1 and 1e-5 (section 3.3)."""

    weight_pose: float = option(1.0, "weight of the loss on rotations and root translation", ge=0)
    weight_positions: float = option(
        1.0, "weight of the loss on joints by forward kinematics, the paper's vertices", ge=0
    )
    weight_kl: float = option(1e-5, "weight of the divergence from the standard normal prior", ge=0)


@dataclass(frozen=True, kw_only=True)
class ActorConfig(Config):
    """All sections of ``motiondiff train-actor``; learning rate and batch size are the paper's."""

    train: TrainConfig = section(TrainConfig, learning_rate=1e-4, batch_size=20)
    model: ActorModelConfig = section(ActorModelConfig)
    data: DataConfig = section(DataConfig)
    loss: ActorLossConfig = section(ActorLossConfig)
