"""Configuration of a training run; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from icube_common.config import Config, option, section
from icube_common.errors import InputError
from icube_common.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """Which windows of which clips are shown."""

    max_frames: int = option(160, "longest window, frames; longer clips are cut at random", ge=8)
    min_frames: int = option(12, "shortest window that a random crop may leave, frames", ge=2)
    crop_probability: float = option(0.25, "share of clips shown as a random window although they fit", ge=0, le=1)
    balance: float = option(0.5, "0: as often as clips come; 1: every action equally often", ge=0, le=1)
    mirror: float = option(
        0.0, "share of windows shown with left and right exchanged, in motion, labels and captions", ge=0, le=1
    )
    stature_range: float = option(
        0.05, "bodies are scaled at random by 1 +- this, the shape condition with them", ge=0, lt=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_frames > self.max_frames:
            raise InputError(f"data.min_frames={self.min_frames}: must be at most data.max_frames={self.max_frames}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """Shape of the denoiser; MDM's is 8 layers, width 512, 4 heads, feed-forward 1024."""

    num_layers: int = option(6, "transformer layers", ge=1)
    width: int = option(256, "features per token", ge=8)
    num_heads: int = option(4, "attention heads; divides width", ge=1)
    feedforward: int = option(1024, "hidden features of a layer's feed-forward part", ge=8)
    dropout: float = option(0.1, "dropout inside the layers", ge=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Config):
    """Noise schedule, condition dropout and loss weights."""

    num_train_timesteps: int = option(1000, "diffusion steps of training", ge=10)
    beta_schedule: str = option(
        "squaredcos_cap_v2", "diffusers' name of the noise schedule", choices=("squaredcos_cap_v2", "linear")
    )
    drop_action: float = option(0.1, "how often the action is replaced by its learned null", ge=0, le=1)
    drop_tag: float = option(0.3, "how often the style is replaced by its learned null", ge=0, le=1)
    drop_text: float = option(
        0.2, "how often the text, where there is one, is replaced by its learned null", ge=0, le=1
    )
    drop_shape: float = option(0.1, "how often the body shape is replaced by its learned null", ge=0, le=1)
    show_held: float = option(
        0.0,
        "share of windows shown with held frames or joints, for editing; 0: no input for them",
        ge=0,
        le=1,
    )
    weight_simple: float = option(1.0, "weight of the loss on normalised features", ge=0)
    weight_positions: float = option(1.0, "weight of the loss on joint positions by forward kinematics", ge=0)
    weight_velocity: float = option(1.0, "weight of the loss on joint velocities", ge=0)
    weight_contact: float = option(1.0, "weight of the loss on feet that should stand", ge=0)


@dataclass(frozen=True, kw_only=True)
class TextConfig(Config):
    """The text condition and the frozen encoder whose embeddings it takes."""

    enabled: bool = option(False, "train with captions: those of the store, else made of action labels")
    encoder: str = option(
        "icube-minilm",
        "sentence encoder icube-minilm (offline), open_clip name such as ViT-B-32, hf-hub:..., or folder",
    )
    pretrained: str | None = option(None, "open_clip tag or weight file of the encoder; icube-minilm brings its own")
    weights_of: str | None = option(None, "open_clip tag that a weight file is of: its activation is taken")
    tokenizer: str | None = option(None, "folder of a Hugging Face tokenizer, for encoders whose own one is on a hub")
    cache: str | None = option(None, "folder of cached embeddings, shared by runs; default: text_cache in the run")
    labels: bool = option(False, "captions made of the label also for clips that have texts of their own")
    hide_action: float = option(0.5, "how often the action is left out, so that text alone has to do", ge=0, le=1)
    noise: float = option(0.5, "deviation of noise on embeddings in training, relative to their own size", ge=0)
    blend: float = option(0.5, "how often two captions of a clip are blended into one", ge=0, le=1)


@dataclass(frozen=True, kw_only=True)
class MotionDiffConfig(Config):
    """All sections of ``motiondiff train``."""

    train: TrainConfig = section(TrainConfig, learning_rate=3e-4, warmup_steps=100, ema_decay=0.995)
    model: ModelConfig = section(ModelConfig)
    data: DataConfig = section(DataConfig)
    diffusion: DiffusionConfig = section(DiffusionConfig)
    text: TextConfig = section(TextConfig)


@dataclass(frozen=True, kw_only=True)
class DistillConfig(Config):
    """All settings of ``motiondiff distill``."""

    guidance: float = option(2.5, "classifier-free guidance of the teacher that is folded in, 1 = none", ge=0, lt=1000)
    lcm_steps: int = option(10, "skipped steps over the noise schedule; the most that can be sampled in", ge=4, le=1000)
    solver_steps: int = option(3, "DDIM steps of the teacher within a skipped step", ge=1, le=100)
    train: TrainConfig = section(
        TrainConfig,
        max_steps=500,
        batch_size=24,
        learning_rate=5e-4,
        warmup_steps=20,
        lr_scheduler="cosine",
        ema_decay=0.98,
        checkpointing_steps=100,
        checkpoints_total_limit=1,
    )
