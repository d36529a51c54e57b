"""Configuration of balanced sets and of the study around them; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, fields

from icube_common.config import Config, option, section
from icube_common.errors import InputError
from icube_common.training.config import TrainConfig
from motiondiff.actor.config import ActorConfig, ActorModelConfig
from motiondiff.config import DataConfig, ModelConfig, MotionDiffConfig, TextConfig
from motiondiff.recognition.config import RecogniserConfig
from motiondiff.schedulers import SCHEDULERS

METHODS = ("ours", "variations", "actor")


@dataclass(frozen=True, kw_only=True)
class SamplerConfig(Config):
    """How motions are drawn from a trained generator."""

    steps: int = option(20, "denoising steps (a diffusion model)", ge=1)
    scheduler: str = option("dpmsolver++", "diffusion sampler", choices=tuple(SCHEDULERS))
    guidance: float = option(2.5, "classifier-free guidance, 1 = none (a diffusion model)", ge=0, lt=1000)
    mix_styles: bool = option(False, "each motion with a style of its own, any of a diffusion model's; else left open")
    device: str = option("cpu", "torch device of the generator")
    seed: int = option(0, "of the motions", ge=0)


@dataclass(frozen=True, kw_only=True)
class FilterConfig(SamplerConfig):
    """How many motions are generated, and which are kept; the seed is the filter's recogniser's, too."""

    per_class: int = option(30, "motions kept of every class", ge=1)
    overgenerate: float = option(3.0, "motions generated for each one kept", ge=1)
    min_confidence: float = option(0.5, "least probability that the recogniser gives the class asked for", ge=0, le=1)
    quantile: float = option(0.95, "of the training clips' foot skate, jitter, bone drift and penetration", gt=0, le=1)
    slack: float = option(1.25, "a motion may exceed that quantile by this factor", ge=1)
    copy_share: float = option(
        0.1, "nearer to a training clip than this share of training clips' median distance is a copy", ge=0
    )
    fill: bool = option(False, "fill a class that falls short with the most confident of its rejected, except copies")
    strength: float = option(
        1.0,
        "1: motions from noise; below: variations of training clips, noised this share of the way (a diffusion model)",
        gt=0,
        le=1,
    )
    mirror: float = option(0.0, "share of variations that begin from a clip seen in a mirror", ge=0, le=1)
    batch_size: int = option(32, "motions generated together", ge=1)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Config):
    """All sections of ``motiondiff augment``."""

    filter: FilterConfig = section(FilterConfig)
    recogniser: RecogniserConfig = section(RecogniserConfig)


@dataclass(frozen=True, kw_only=True)
class SampleConfig(SamplerConfig):
    """How the motions of a cell are made."""

    per_class: int = option(20, "motions of every class", ge=2)


@dataclass(frozen=True, kw_only=True)
class CellConfig(MotionDiffConfig):
    """All sections of one cell of ``motiondiff ablate`` and ``tune``: a training, and how its motions are judged."""

    sample: SampleConfig = section(SampleConfig)
    recogniser: RecogniserConfig = section(RecogniserConfig)


def unused_keys(config: CellConfig) -> dict[str, str]:
    """Keys of a trial that have no effect under its configuration -> why."""
    found = {"recogniser.extra_share": "a trial's recogniser has no further clips"}
    if not config.text.enabled:
        found |= {key: "text.enabled=false" for key in _TEXT_KEYS}
    return found


_TEXT_KEYS = (*(f"text.{field.name}" for field in fields(TextConfig) if field.name != "enabled"), "diffusion.drop_text")


@dataclass(frozen=True, kw_only=True)
class StudyConfig(Config):
    """All sections of ``motiondiff augmentation-study``; generators have three minutes for each fraction."""

    fractions: list[float] = option([0.1, 0.25, 0.5, 1.0], "shares of the real training clips", gt=0, le=1)
    seeds: int = option(5, "recogniser seeds of every row, 0, 1, 2 ...", ge=2)
    methods: list[str] = option(
        list(METHODS),
        "what to compare: motions of our model from noise, its variations of the real clips, ACTOR's",
        choices=METHODS,
    )
    strength: float = option(0.5, "filter.strength of the variations", gt=0, lt=1)
    test_subjects: list[str] = option([], "held out; the store's test split where none is named")
    draw_seed: int = option(0, "which clips a fraction draws", ge=0)
    ours: MotionDiffConfig = section(
        MotionDiffConfig,
        train=TrainConfig(
            max_steps=700,
            max_minutes=3.0,
            batch_size=32,
            learning_rate=1e-3,
            warmup_steps=50,
            lr_scheduler="cosine",
            ema_decay=0.99,
            mixed_precision="bf16",
            report_to="none",
            checkpointing_steps=10_000,
        ),
        model=ModelConfig(num_layers=4, width=128, feedforward=512, dropout=0.0),
        data=DataConfig(max_frames=120),
    )
    actor: ActorConfig = section(
        ActorConfig,
        train=TrainConfig(
            max_steps=600,
            max_minutes=3.0,
            batch_size=20,
            learning_rate=1e-3,
            warmup_steps=50,
            lr_scheduler="cosine",
            ema_decay=0.99,
            mixed_precision="bf16",
            report_to="none",
            checkpointing_steps=10_000,
        ),
        model=ActorModelConfig(num_layers=4, width=128, feedforward=512),
        data=DataConfig(max_frames=120),
    )
    filter: FilterConfig = section(FilterConfig, fill=True)
    recogniser: RecogniserConfig = section(RecogniserConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("fractions", "methods"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name}={values}: needs at least one, each once")
