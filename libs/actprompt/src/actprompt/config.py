"""Configuration of a training: every key with its range and meaning; imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from actprompt.data.frame_sampling import MODES, Sampling
from icube_common.config import Config, option, section
from icube_common.errors import InputError
from icube_common.losses import LossConfig
from icube_common.prompts import PromptConfig
from icube_common.tabular import TabularConfig
from icube_common.training import TrainConfig
from icube_common.vlm import FinetuneConfig, VLMConfig

SKELETON_SOURCES = ("auto", "recorded", "pose", "both")
HEADS = ("mean", "mean_std", "segment_difference", "transformer", "cross_frame")
FUSIONS = ("joint", "late")
TARGETS = ("texts", "one_hot")
ENTRIES = ("captions", "contrastive", "memory", "fusion")


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Config):
    """Frame sampling of a video."""

    frames: int = option(8, "frames of a clip (TSN segments)", ge=1)
    mode: str = option(
        "uniform",
        "frame of each segment, or dense windows",
        choices=MODES,
    )
    views: int = option(1, "views of a video whose logits are averaged", ge=1)

    @property
    def sampling(self) -> Sampling:
        """The frame sampling of these keys."""
        return Sampling(frames=self.frames, mode=self.mode, views=self.views)


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(Config):
    """Feature extraction: backbone and frames."""

    vlm: VLMConfig = section(VLMConfig)
    video: VideoConfig = section(VideoConfig)


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig(Config):
    """Zero-shot recognition: untrained class prompts against frame features."""

    vlm: VLMConfig = section(VLMConfig)
    prompt: PromptConfig = section(PromptConfig)
    video: VideoConfig = section(VideoConfig)


@dataclass(frozen=True, kw_only=True)
class VisualConfig(Config):
    """Visual branch: frame features to a clip feature."""

    enabled: bool = option(True, "use of the frames")
    head: str = option("mean", "temporal head: pooling of the frame features of a clip", choices=HEADS)
    layers: int = option(1, "layers of the transformer or cross-frame head", ge=1)
    dropout: float = option(0.0, "dropout inside the transformer or cross-frame head", ge=0, lt=1)
    prompts: int = option(0, "learned global prompt tokens of each layer (Vita-CLIP); 0 = none; no cache", ge=0)
    local_prompts: bool = option(True, "visual prompts: also one token for each frame")
    summary_prompt: bool = option(True, "visual prompts: also a summary token of all frames")


@dataclass(frozen=True, kw_only=True)
class SkeletonConfig(TabularConfig):
    """Skeleton branch: named parameters of a clip and the trajectory of its joints."""

    fusion_mode: str = option(
        "captions",
        "fusion of named parameters: as captions of the body in the space of the texts, or by a module of icube_common",
        choices=ENTRIES,
    )
    source: str = option(
        "auto",
        "recorded skeletons, poses estimated from the videos (actprompt pose), both, or auto: recorded ones if there",
        choices=SKELETON_SOURCES,
    )
    trajectory: bool = option(True, "use of the skeleton trajectory beside the named parameters")
    frames: int = option(16, "time points of the trajectory (at least 8, the finest parts of its pyramid)", ge=8)
    num_time_warps: int = option(
        8, "augmented copies of each training trajectory, warped in time, with displaced joints", ge=0
    )
    jitter: float = option(0.1, "standard deviation of a copy's joints, in their unit (directions have length 1)", ge=0)
    caption_weight: float = option(1.0, "captions: norm of the captions' term in the clip feature", ge=0)

    def plain(self) -> TabularConfig:
        """The keys of the base class, for the modules of icube_common."""
        names = [field.name for field in dataclasses.fields(TabularConfig)]
        return TabularConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class RidgeInitConfig(Config):
    """Initialisation of the projections into the space of the texts by ridge regression to the class texts."""

    enabled: bool = option(True, "initialise by ridge regression on the training rows (false: zero)")
    visual_alpha: float = option(10.0, "ridge penalty of the projection of the frames' feature", gt=0)
    trajectory_alpha: float = option(0.1, "ridge penalty of the projection of the skeleton trajectory", gt=0)
    parameters_alpha: float = option(3.0, "ridge penalty of the projection of the named parameters", gt=0)
    targets: str = option(
        "texts",
        "targets of the regression: class texts, or the one-hot dual basis of these, which holds similar texts apart",
        choices=TARGETS,
    )
    fusion: str = option(
        "joint",
        "joint: one regression of all inputs; late: one of each, and a sum with weights selected by leaving out each "
        "training subject in turn",
        choices=FUSIONS,
    )
    tune: bool = option(
        True, "select the penalties and the weight of the captions by leaving out each training subject in turn"
    )


@dataclass(frozen=True, kw_only=True)
class ActLossConfig(LossConfig):
    """Loss of the logits, and a contrastive term on the clips' features."""

    contrastive: float = option(0.0, "weight of the supervised contrastive loss of the clips' features; 0 = off", ge=0)
    temperature: float = option(0.1, "temperature of the contrastive loss", gt=0)


@dataclass(frozen=True, kw_only=True)
class ActConfig(Config):
    """All settings of a training."""

    vlm: VLMConfig = section(VLMConfig)
    knowledge: str = option("", "class descriptions: a file or a shipped name (empty: the data set's own)")
    shuffle_class_texts: int = option(
        0, "control experiment: seed of a permutation of the classes' texts; 0 = no permutation", ge=0
    )
    prompt: PromptConfig = section(PromptConfig, init="descriptions")
    video: VideoConfig = section(VideoConfig)
    visual: VisualConfig = section(VisualConfig)
    finetune: FinetuneConfig = section(FinetuneConfig)
    skeleton: SkeletonConfig = section(SkeletonConfig)
    ridge_init: RidgeInitConfig = section(RidgeInitConfig)
    loss: ActLossConfig = section(ActLossConfig)
    calibrate: bool = option(
        False,
        "temperature and threshold of rejection from held-out training groups (up to five more trainings)",
    )
    train: TrainConfig = section(TrainConfig, max_steps=100, batch_size=64, learning_rate=1e-3, checkpointing_steps=100)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt.seed:
            raise InputError(f"prompt.seed={self.prompt.seed}: a training takes train.seed for its prompts; set that")
        if self.ridge_init.fusion == "late" and not self.ridge_init.tune:
            raise InputError("ridge_init.fusion=late: its weights are always selected; set ridge_init.tune=true")
        if not self.visual.enabled and not self.skeleton.enabled:
            raise InputError("visual.enabled=false with skeleton.enabled=false: no input is left")
        if self.finetune.enabled and not self.visual.enabled:
            raise InputError(f"finetune.mode={self.finetune.mode}: trains the image tower, and visual.enabled=false")
        if self.finetune.enabled and self.visual.prompts:
            raise InputError(
                f"finetune.mode={self.finetune.mode} with visual.prompts={self.visual.prompts}: both change the image "
                "tower; set visual.prompts=0 or finetune.mode=none"
            )
        joins = self.skeleton.enabled and self.skeleton.fusion_mode != "captions"
        if joins and self.prompt.conditional:
            raise InputError(
                f"prompt.conditional=true: skeleton.fusion_mode={self.skeleton.fusion_mode} takes class features "
                "that do not depend on the clip, so the meta-net would never be trained; take "
                "skeleton.fusion_mode=captions or set it false"
            )
        if joins and not self.visual.enabled and not self.skeleton.trajectory:
            raise InputError(
                f"skeleton.fusion_mode={self.skeleton.fusion_mode}: fuses parameters with a clip feature, and there is "
                "none; set visual.enabled or skeleton.trajectory, or take skeleton.fusion_mode=captions"
            )

    @property
    def needs_pixels(self) -> bool:
        """True where the image tower runs in each step, on pixels: for visual prompts and fine-tuning."""
        return self.visual.enabled and (self.finetune.enabled or self.visual.prompts > 0)


_TRAJECTORY_KEYS = ("frames", "num_time_warps", "jitter")
_TEXT_KEYS = ("kind", "missing", "template", "scaling", "max_correlation", "group_size", "frequencies", "hidden")


def unused_keys(config: ActConfig) -> dict[str, str]:
    """Keys of a training without effect under its other keys -> the reason."""
    visual, skeleton, prompt = config.visual, config.skeleton, config.prompt
    unused = {f"prompt.{key}": why for key, why in prompt.unused_keys().items()}
    unused |= {f"loss.{key}": why for key, why in config.loss.unused_keys().items()}
    unused |= {f"finetune.{key}": why for key, why in config.finetune.unused_keys().items()}
    if prompt.init in ("random", "template"):
        unused["knowledge"] = f"prompt.init={prompt.init}"
    if not config.loss.contrastive:
        unused["loss.temperature"] = "loss.contrastive=0"
    if visual.head not in ("transformer", "cross_frame"):
        unused |= {f"visual.{key}": f"visual.head={visual.head}" for key in ("layers", "dropout")}
    if not visual.prompts:
        unused |= {f"visual.{key}": "visual.prompts=0" for key in ("local_prompts", "summary_prompt")}
    entry = f"skeleton.fusion_mode={skeleton.fusion_mode}"
    if skeleton.fusion_mode == "captions":
        unused |= {f"skeleton.{key}": entry for key in (*_TEXT_KEYS, "label_aware", "weight", "fusion")}
    else:
        unused |= {"skeleton.caption_weight": entry, "ridge_init.parameters_alpha": entry}
        if skeleton.fusion_mode != "contrastive":
            unused |= {"skeleton.label_aware": entry, "skeleton.weight": entry}
        if skeleton.fusion_mode != "fusion":
            unused["skeleton.fusion"] = entry
    if not skeleton.trajectory:
        unused |= {f"skeleton.{key}": "skeleton.trajectory=false" for key in _TRAJECTORY_KEYS}
        unused["ridge_init.trajectory_alpha"] = "skeleton.trajectory=false"
    if not config.ridge_init.enabled:
        unused |= {
            f"ridge_init.{field.name}": "ridge_init.enabled=false" for field in dataclasses.fields(RidgeInitConfig)
        }
        del unused["ridge_init.enabled"]
    for name, part, more in (
        (
            "visual",
            visual,
            ("ridge_init.visual_alpha", *(f"video.{field.name}" for field in dataclasses.fields(VideoConfig))),
        ),
        ("skeleton", skeleton, ("ridge_init.trajectory_alpha", "ridge_init.parameters_alpha")),
    ):
        if not part.enabled:
            keys = (f"{name}.{field.name}" for field in dataclasses.fields(part) if field.name != "enabled")
            unused |= {key: f"{name}.enabled=false" for key in (*keys, *more)}
    return unused
