"""Configuration of trainings, samplers and evaluations; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from icube_common.config import Config, option, section
from icube_common.errors import InputError
from icube_common.training.config import TrainConfig
from motiondiff.schedulers import SCHEDULERS

PRECONDITIONINGS = ("spectral", "spectral_shared", "edm", "none")
CLASSIFIERS = ("gru", "st-gcn")
MIN_CLIPS = 2
"""Clips of a class: a network learns the person from a single one, and metrics take distances within a class."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """Windows of clips: length, cropping, mirror images, balance."""

    max_frames: int = option(160, "longest window, frames; longer clips are cut at random", ge=8)
    min_frames: int = option(12, "shortest window that a random crop may leave, frames", ge=2)
    crop_probability: float = option(0.25, "probability of a random crop of a clip that fits", ge=0, le=1)
    balance: float = option(0.5, "sampling of actions: 0 as frequent as in the data, 1 equally often", ge=0, le=1)
    mirror: float = option(
        0.0, "share of mirrored windows: left and right exchanged in motion, labels and captions", ge=0, le=1
    )
    tempo_range: float = option(
        0.0, "largest random change of the tempo, a share; it varies smoothly within a clip", ge=0, lt=1
    )
    posture_degrees: float = option(
        0.0, "standard deviation of a random constant rotation of every joint but the root, degrees", ge=0, le=45
    )
    stature_range: float = option(
        0.05, "largest random scaling of bodies, 1 +- this, and of the shape condition", ge=0, lt=1
    )
    height: str = option(
        "feet",
        "vertical feature: feet: height of the lowest foot, from which the root's follows; root: height of the root",
        choices=("feet", "root"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_frames > self.max_frames:
            raise InputError(f"data.min_frames={self.min_frames}: must be at most data.max_frames={self.max_frames}")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(Config):
    """Shape of a transformer."""

    num_layers: int = option(6, "transformer layers", ge=1)
    width: int = option(256, "features per token", ge=8)
    num_heads: int = option(4, "attention heads; divides width", ge=1)
    feedforward: int = option(1024, "hidden features of a layer's feed-forward part", ge=8)
    dropout: float = option(0.1, "dropout inside the layers", ge=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(TransformerConfig):
    """Shape and preconditioning of the denoiser; MDM's shape is 8 layers, width 512, 4 heads, feed-forward 1024."""

    architecture: str = option(
        "motiondiff",
        "motiondiff; mdm: that of Tevet et al., ICLR 2023, which has neither preconditioning nor convolution",
        choices=("motiondiff", "mdm"),
    )
    preconditioning: str = option(
        "spectral",
        "spectral: the network corrects a Wiener filter of each action's training motions; spectral_shared: one for "
        "all actions; edm: one standard deviation for all frequencies (Karras et al., 2022); none: it predicts the "
        "clean motion",
        choices=PRECONDITIONINGS,
    )
    gates: bool = option(True, "gates for the noisy motion, by part of its spectrum; not with preconditioning=none")
    convolution: int = option(7, "frames of a convolution along time in each layer, an odd number; 0: none", ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.convolution and not self.convolution % 2:
            raise InputError(f"model.convolution={self.convolution}: must be odd, or 0")


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Config):
    """Noise schedule, condition dropout and loss weights."""

    num_train_timesteps: int = option(1000, "diffusion steps of training", ge=10)
    beta_schedule: str = option(
        "squaredcos_cap_v2", "diffusers' name of the noise schedule", choices=("squaredcos_cap_v2", "linear")
    )
    action_dropout: float = option(0.1, "probability of replacing the action by its learned null", ge=0, le=1)
    style_dropout: float = option(0.3, "probability of replacing the style by its learned null", ge=0, le=1)
    text_dropout: float = option(
        0.2, "probability of replacing the text, where there is one, by its learned null", ge=0, le=1
    )
    shape_dropout: float = option(0.1, "probability of replacing the body shape by its learned null", ge=0, le=1)
    joint_dropout: float = option(
        0.1, "probability of replacing action, style and text together by their learned nulls", ge=0, le=1
    )
    losses: str = option(
        "motiondiff",
        "motiondiff; mdm: eq. 2 to 5 of Tevet et al., ICLR 2023, in metres and features, every clip weighing the same",
        choices=("motiondiff", "mdm"),
    )
    min_snr_gamma: float = option(
        5.0, "largest weight of the errors at little noise, which is the signal-to-noise ratio; 0: all weigh 1", ge=0
    )
    min_snr_floor: float = option(
        0.5, "smallest weight of the errors at much noise, where min_snr_gamma is not 0 (0 in the paper)", ge=0
    )
    spectral_exponent: float = option(
        0.5,
        "weight of a cosine component in weight_simple's loss: its standard deviation to this power; not with "
        "model.preconditioning=none",
        ge=0,
        le=2,
    )
    inpainting_probability: float = option(
        0.0,
        "share of windows with conditioned frames or joints, for editing; 0: no input for them",
        ge=0,
        le=1,
    )
    weight_simple: float = option(1.0, "weight of the loss on normalised features", ge=0)
    weight_positions: float = option(1.0, "weight of the loss on joint positions by forward kinematics", ge=0)
    weight_root: float = option(1.0, "weight of the loss on the root's place", ge=0)
    weight_velocity: float = option(1.0, "weight of the loss on joint velocities", ge=0)
    weight_contact: float = option(1.0, "weight of the loss on feet that should stand", ge=0)
    weight_feet: float = option(1.0, "weight of the loss on the place of the feet in the world", ge=0)


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
    hide_action: float = option(0.5, "probability of dropping the action of a clip with text", ge=0, le=1)
    noise: float = option(0.5, "standard deviation of noise on embeddings in training, relative to their norm", ge=0)
    blend: float = option(0.5, "probability of blending two captions of a clip into one", ge=0, le=1)


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


@dataclass(frozen=True, kw_only=True)
class ActorModelConfig(TransformerConfig):
    """Shape of the VAE; the paper's is 8 layers, latent width 256, 4 heads, feed-forward 1024 (section 3.3)."""

    num_layers: int = option(8, "transformer layers of the encoder, and as many of the decoder", ge=1)
    width: int = option(256, "features per token, which is the size of the latent", ge=8)


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


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(Config):
    """Action classifier: network, training and augmentation."""

    model: str = option("gru", "network", choices=CLASSIFIERS)
    device: str = option("cpu", "torch device of the network; on a CPU the same clips and seed give the same one")
    frames: int = option(48, "every clip is resampled to this many frames", ge=8)
    steps: int = option(300, "optimiser steps", ge=1)
    batch_size: int = option(32, "clips per step", ge=2)
    synthetic_fraction: float = option(
        0.5,
        "share of further clips (--with, or generated) in the samples of a class that has both",
        gt=0,
        lt=1,
    )
    learning_rate: float = option(3e-3, "peak learning rate of AdamW", gt=0)
    weight_decay: float = option(0.01, "decoupled weight decay of AdamW", ge=0)
    dropout: float = option(0.2, "dropout before the classifier", ge=0, lt=1)
    label_smoothing: float = option(0.1, "share of each target spread over all classes", ge=0, lt=1)
    ema_decay: float = option(0.98, "decay of the moving average of the weights, 0 = off", ge=0, lt=1)
    rotation_degrees: float = option(30.0, "largest random rotation about y, degrees", ge=0, le=180)
    scale_range: float = option(0.15, "largest random scaling, 1 +- this", ge=0, lt=1)
    min_crop: float = option(0.7, "shortest random crop, as a share of the length", gt=0, le=1)
    joint_noise: float = option(0.01, "standard deviation of a random constant offset of each joint, m", ge=0)
    mirror: str = option(
        "never",
        "mirror images of the training clips beside them, not of further ones; auto: where no class names a side",
        choices=("never", "auto", "always"),
    )


@dataclass(frozen=True, kw_only=True)
class SamplerConfig(Config):
    """Diffusion sampler; a value that is not given comes from the run (`motiondiff.pipelines.sampling.resolve`)."""

    steps: int | None = option(None, "denoising steps (default 20; of a distilled run 4)", ge=1)
    scheduler: str | None = option(
        None, "diffusion sampler (default dpmsolver++; of a distilled run lcm)", choices=tuple(SCHEDULERS)
    )
    guidance: float | None = option(
        None,
        "classifier-free guidance, 1 = none (default 2.5, or the run's by action after motiondiff calibrate; of a "
        "distilled run 1)",
        ge=0,
        lt=1000,
    )
    seed: int = option(0, "random seed of the motions", ge=0)
    device: str = option("cpu", "torch device of the generator")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(SamplerConfig):
    """All settings of ``motiondiff evaluate``; 10 denoising steps where none are given."""

    seeds: int = option(20, "number of sets of motions, with seeds from 0; metrics are means over them", ge=1)
    per_action: int = option(10, "motions of each action in a set", ge=MIN_CLIPS)
    split: str = option(
        "test",
        "held-out clips; all: each subject of the validation and test clips in turn, and the mean over them",
        choices=("test", "validation", "all"),
    )
    min_clips: int | None = option(None, "exclude classes with fewer training clips", ge=MIN_CLIPS)
    mix_styles: bool = option(False, "sample the style of each motion from the model's styles")
    batch_size: int = option(32, "motions denoised together", ge=1)
    evaluator_seed: int = option(0, "random seed of the training of feature extractors", ge=0)
    accuracy_seed: int = option(
        1000, "random seed of the independent classifier's training; never that of a filter of motions", ge=0
    )
    accuracy_model: str | None = option(
        None,
        "network of the independent classifier of accuracy (default: not the extractors')",
        choices=CLASSIFIERS,
    )
    classifier: ClassifierConfig = section(ClassifierConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.accuracy_model == self.classifier.model:
            raise InputError(
                f"accuracy_model={self.accuracy_model}: is the network of the extractors and of the filter; choose "
                f"{' or '.join(name for name in CLASSIFIERS if name != self.classifier.model)}"
            )
        if self.accuracy_seed == self.evaluator_seed:
            raise InputError(
                f"accuracy_seed={self.accuracy_seed}: is evaluator_seed; an independent classifier needs another one"
            )

    @property
    def accuracy_classifier(self) -> ClassifierConfig:
        """Settings of the independent classifier: those of the extractors with another network."""
        other = next(name for name in CLASSIFIERS if name != self.classifier.model)
        return replace(self.classifier, model=self.accuracy_model or other)
