"""The configuration of a training: every key with its range and meaning; imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from actprompt.sampling import MODES, Sampling
from icube_common.config import Config, option, section
from icube_common.errors import InputError
from icube_common.losses import LossConfig
from icube_common.prompts import PromptConfig
from icube_common.tabular import NumericConfig
from icube_common.training import TrainConfig
from icube_common.vlm import VLMConfig

HEADS = ("mean", "statistics", "transformer", "messages")
ENTRIES = ("statements", "contrastive", "memory", "fusion")


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
    dropout: float = option(0.0, "dropout inside the transformer or message head", ge=0, lt=1)
    prompts: int = option(0, "learned global prompt tokens of each layer (Vita-CLIP); 0 = none, else no cache", ge=0)
    local_prompts: bool = option(True, "visual prompts: one token for each frame too")
    summary_prompt: bool = option(True, "visual prompts: a token that sums up all frames too")


@dataclass(frozen=True, kw_only=True)
class MotionConfig(NumericConfig):
    """What is made of the numbers of a clip: its skeleton's named parameters, and their course over time."""

    fusion_mode: str = option(
        "statements",
        "how named parameters enter: as sentences about the body in the space of the texts, or as icube_common does",
        choices=ENTRIES,
    )
    course: bool = option(True, "the course of the skeleton over time enters beside the named parameters")
    frames: int = option(16, "moments of the course (at least 8, the finest parts of its pyramid)", ge=8)
    warps: int = option(8, "training copies of each course, warped in time and with its joints a little off", ge=0)
    jitter: float = option(0.1, "deviation of a copy's joints, in their own unit (limb directions have length 1)", ge=0)
    prior: float = option(1.0, "statements: length of the share that the sentences about the numbers have", ge=0)

    def plain(self) -> NumericConfig:
        """The keys that icube_common.tabular knows, for the entries that it offers."""
        names = [field.name for field in dataclasses.fields(NumericConfig)]
        return NumericConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class StartConfig(Config):
    """Where the maps into the space of the texts start: at the ridge regression to the class texts, or at nothing."""

    ridge: bool = option(True, "start at the ridge regression on the training rows (false: at nothing)")
    visual: float = option(10.0, "shrinkage of the map from the frames' feature", gt=0)
    course: float = option(0.1, "shrinkage of the map from the skeleton's course", gt=0)
    parameters: float = option(3.0, "shrinkage of the map from the named parameters", gt=0)
    select: bool = option(
        True, "all shrinkages, and the trust in sentences, as does best when each training subject is left out in turn"
    )


@dataclass(frozen=True, kw_only=True)
class ActLossConfig(LossConfig):
    """The loss of the logits, and a contrastive term on the clips' features."""

    contrastive: float = option(0.0, "weight of the supervised contrastive loss of the clips' features; 0 = off", ge=0)
    temperature: float = option(0.1, "of the contrastive loss", gt=0)


@dataclass(frozen=True, kw_only=True)
class ActConfig(Config):
    """A whole training of actprompt."""

    vlm: VLMConfig = section(VLMConfig)
    knowledge: str = option("", "class descriptions: a file or a shipped name (empty: the data set's own)")
    exchange_texts: int = option(
        0, "control: the classes' texts are exchanged among them, drawn from this number; 0 = they are not", ge=0
    )
    prompt: PromptConfig = section(PromptConfig, init="descriptions")
    video: VideoConfig = section(VideoConfig)
    visual: VisualConfig = section(VisualConfig)
    numeric: MotionConfig = section(MotionConfig)
    start: StartConfig = section(StartConfig)
    loss: ActLossConfig = section(ActLossConfig)
    train: TrainConfig = section(TrainConfig, max_steps=100, batch_size=64, learning_rate=1e-3, checkpointing_steps=100)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt.seed:
            raise InputError(f"prompt.seed={self.prompt.seed}: a training takes train.seed for its prompts; set that")
        if not self.visual.enabled and not self.numeric.enabled:
            raise InputError("visual.enabled=false with numeric.enabled=false: nothing is left to tell actions by")
        joins = self.numeric.enabled and self.numeric.fusion_mode != "statements"
        if joins and self.prompt.conditional:
            raise InputError(
                f"prompt.conditional=true: numeric.fusion_mode={self.numeric.fusion_mode} takes class features that "
                "are the same for all clips, so the meta-net would never be trained; take "
                "numeric.fusion_mode=statements or set it false"
            )
        if joins and not self.visual.enabled and not self.numeric.course:
            raise InputError(
                f"numeric.fusion_mode={self.numeric.fusion_mode}: joins numbers to a clip's feature, there is none; "
                "set visual.enabled or numeric.course, or take numeric.fusion_mode=statements"
            )


_OF_COURSE = ("frames", "warps", "jitter")
_OF_SENTENCES = ("kind", "missing", "template", "scaling", "max_correlation", "group_size", "frequencies", "hidden")


def unused_keys(config: ActConfig) -> dict[str, str]:
    """Keys of a training that have no effect under its other keys -> why."""
    visual, numeric, prompt = config.visual, config.numeric, config.prompt
    found = {f"prompt.{key}": why for key, why in prompt.unused_keys().items()}
    found |= {f"loss.{key}": why for key, why in config.loss.unused_keys().items()}
    if prompt.init in ("random", "template"):
        found["knowledge"] = f"prompt.init={prompt.init}"
    if not config.loss.contrastive:
        found["loss.temperature"] = "loss.contrastive=0"
    if visual.head in ("mean", "statistics"):
        found |= {f"visual.{key}": f"visual.head={visual.head}" for key in ("layers", "dropout")}
    if not visual.prompts:
        found |= {f"visual.{key}": "visual.prompts=0" for key in ("local_prompts", "summary_prompt")}
    entry = f"numeric.fusion_mode={numeric.fusion_mode}"
    if numeric.fusion_mode == "statements":
        found |= {f"numeric.{key}": entry for key in (*_OF_SENTENCES, "label_aware", "weight", "fusion")}
    else:
        found |= {"numeric.prior": entry, "start.parameters": entry}
        if numeric.fusion_mode != "contrastive":
            found |= {"numeric.label_aware": entry, "numeric.weight": entry}
        if numeric.fusion_mode != "fusion":
            found["numeric.fusion"] = entry
    if not numeric.course:
        found |= {f"numeric.{key}": "numeric.course=false" for key in _OF_COURSE}
        found["start.course"] = "numeric.course=false"
    if not config.start.ridge:
        found |= {f"start.{field.name}": "start.ridge=false" for field in dataclasses.fields(StartConfig)}
        del found["start.ridge"]
    for name, part, more in (
        ("visual", visual, ("start.visual", *(f"video.{field.name}" for field in dataclasses.fields(VideoConfig)))),
        ("numeric", numeric, ("start.course", "start.parameters")),
    ):
        if not part.enabled:
            keys = (f"{name}.{field.name}" for field in dataclasses.fields(part) if field.name != "enabled")
            found |= {key: f"{name}.enabled=false" for key in (*keys, *more)}
    return found
