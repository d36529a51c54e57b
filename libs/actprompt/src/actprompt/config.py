"""The configuration of a training: every key with its range and meaning; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from actprompt.sampling import MODES, Sampling
from icube_common.config import Config, option, section
from icube_common.losses import LossConfig
from icube_common.numeric import NumericConfig
from icube_common.prompts import PromptConfig
from icube_common.training import TrainConfig
from icube_common.vlm import VLMConfig

HEADS = ("mean", "transformer", "messages")


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Config):
    """Which frames of a video are looked at."""

    frames: int = option(8, "frames of a clip (TSN segments)", ge=1)
    mode: str = option("uniform", "where in its segment a frame is taken", choices=MODES)
    views: int = option(1, "clips of a video whose logits are averaged", ge=1)

    @property
    def sampling(self) -> Sampling:
        """The choice of frames that these keys describe."""
        return Sampling(frames=self.frames, mode=self.mode, views=self.views)


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(Config):
    """Features of which backbone, for which frames."""

    vlm: VLMConfig = section(VLMConfig)
    video: VideoConfig = section(VideoConfig)


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig(Config):
    """Prompts that nobody has trained, against the frames' features."""

    vlm: VLMConfig = section(VLMConfig)
    prompt: PromptConfig = section(PromptConfig)
    video: VideoConfig = section(VideoConfig)


@dataclass(frozen=True, kw_only=True)
class VisualConfig(Config):
    """What is made of the frames' features."""

    enabled: bool = option(True, "whether the picture enters at all")
    head: str = option("mean", "how frames become one feature", choices=HEADS)
    layers: int = option(1, "layers of the transformer or message head", ge=1)
    prompts: int = option(0, "learned visual prompt tokens of each kind (Vita-CLIP); 0 = none, else no cache", ge=0)


@dataclass(frozen=True, kw_only=True)
class MotionConfig(NumericConfig):
    """What is made of the numbers of a clip: its skeleton's parameters and their course."""

    entry: str = option(
        "statements",
        "how numbers enter: as sentences about the body in the space of the texts, or as icube_common.numeric does",
        choices=("statements", "contrastive", "memory", "fusion"),
    )
    course: bool = option(True, "statements: use the course of the skeleton over time beside the named parameters")
    frames: int = option(16, "points in time of the course", ge=2)
    warps: int = option(4, "training copies of each course, warped in time", ge=0)
    prior: float = option(0.5, "statements: weight of what the sentences say before training", ge=0)
    ridge: float = option(0.3, "shrinkage of the map from the course to the texts", gt=0)
    ridge_parameters: float = option(3.0, "shrinkage of the map from the named parameters to the texts", gt=0)


@dataclass(frozen=True, kw_only=True)
class ActConfig(Config):
    """A whole training of actprompt."""

    vlm: VLMConfig = section(VLMConfig)
    knowledge: str = option("", "class descriptions: a YAML file or a shipped name (empty: the data set's own)")
    prompt: PromptConfig = section(PromptConfig, init="descriptions")
    video: VideoConfig = section(VideoConfig)
    visual: VisualConfig = section(VisualConfig)
    numeric: MotionConfig = section(MotionConfig)
    loss: LossConfig = section(LossConfig)
    train: TrainConfig = section(TrainConfig, max_steps=200, batch_size=64, learning_rate=1e-3, checkpoint_every=200)
