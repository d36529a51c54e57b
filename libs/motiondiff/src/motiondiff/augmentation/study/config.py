"""Configuration of the augmentation study; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from icube_common.config import Config, option, section
from icube_common.errors import InputError, unknown
from icube_common.training.config import TrainConfig
from motiondiff.augmentation.config import FilterConfig
from motiondiff.config import (
    ActorConfig,
    ActorLossConfig,
    ActorModelConfig,
    ClassifierConfig,
    DataConfig,
    DiffusionConfig,
    ModelConfig,
    MotionDiffConfig,
)

MOTIONDIFF, SDEDIT, ACTOR, MDM, CROSS_SET = "motiondiff", "sdedit", "actor", "mdm", "cross-set"
EQUAL_TIME = "-time"
METHODS = (MOTIONDIFF, SDEDIT, ACTOR, ACTOR + EQUAL_TIME, MDM, MDM + EQUAL_TIME, CROSS_SET)
CONTROL = "control"

_TRAIN = TrainConfig(
    max_steps=1200,
    batch_size=16,
    learning_rate=1e-3,
    warmup_steps=100,
    lr_scheduler="cosine",
    ema_decay=0.998,
    beta2=0.99,
    mixed_precision="bf16",
    report_to="none",
    checkpointing_steps=10_000,
    checkpoints_total_limit=1,
)
_DATA = DataConfig(max_frames=100, mirror=0.5, tempo_range=0.2, posture_degrees=2)


@dataclass(frozen=True, kw_only=True)
class MixtureConfig(Config):
    """Combination of real and synthetic clips, chosen for each cell on people inside its training clips."""

    shares: list[float] = option(
        [0.0, 0.25, 0.5], "candidates: shares of synthetic clips in a classifier's samples; 0: none", ge=0, lt=1
    )
    pretrain: bool = option(True, "a further candidate: training on synthetic clips, then on the real ones alone")
    weighted: bool = option(True, "sample synthetic clips in proportion to the confidence of the filter's classifier")
    inner_folds: int = option(2, "parts of the training people; generators are trained without each part", ge=2)
    inner_seeds: int = option(2, "classifier seeds of each candidate on each part", ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0.0 not in self.shares or len(set(self.shares)) < len(self.shares):
            raise InputError(f"mixture.shares={self.shares}: needs 0, the control, and each share once")


@dataclass(frozen=True, kw_only=True)
class PrimaryConfig(Config):
    """The one comparison that is named before the study runs; all others are descriptive."""

    fraction: float | None = option(
        None, "share of the real training clips (default: the smallest of the study)", gt=0, le=1
    )
    first: str | None = option(
        None,
        "row of the table (default: the first whose mixture is chosen, else the first of real and synthetic clips)",
    )
    second: str = option(CONTROL, "row of the table; control: real clips with their mirror images, else real clips")


@dataclass(frozen=True, kw_only=True)
class StudyConfig(Config):
    """All sections of ``motiondiff augmentation-study``."""

    fractions: list[float] = option(
        [0.1, 0.25, 0.5, 1.0], "shares of the real training clips that subsets hold", gt=0, le=1
    )
    folds: int = option(
        3, "parts of the people, each of them tested once; 1, or with test_subjects: a single test set", ge=1
    )
    test_subjects: list[str] = option(
        [], "subjects of a single test set (default with folds=1: the test split of the store)"
    )
    subset_seed: int = option(0, "random seed of the subsets of real clips", ge=0)
    seeds: int = option(5, "number of classifier seeds of every row, from 0", ge=1)
    generator_seeds: int = option(2, "number of seeds of every generator, from 0", ge=1)
    methods: list[str] = option(
        [MOTIONDIFF, SDEDIT, ACTOR, MDM, MDM + EQUAL_TIME],
        "compared generators: the diffusion model from noise, its variations of real clips, ACTOR and MDM with as many "
        "steps or (-time) as much time, the diffusion model pre-trained on other data sets",
        choices=METHODS,
    )
    noise_strengths: list[float] = option(
        [0.3, 0.6], "shares of the noise schedule that variations start from", gt=0, lt=1
    )
    chosen: list[str] = option(
        [MOTIONDIFF], "methods with a row whose mixture is chosen on inner people, where they are compared"
    )
    pretraining: str | None = option(None, "store of other data sets that cross-set is pre-trained on")
    pretraining_steps: int = option(3000, "optimiser steps of that training", ge=1)
    probe_steps: int = option(20, "steps that a probe takes to estimate the time of trainings", ge=1)
    mixture: MixtureConfig = section(MixtureConfig)
    primary: PrimaryConfig = section(PrimaryConfig)
    motiondiff: MotionDiffConfig = section(
        MotionDiffConfig,
        train=_TRAIN,
        model=ModelConfig(num_layers=4, width=128, feedforward=256, dropout=0.0),
        data=_DATA,
    )
    mdm: MotionDiffConfig = section(
        MotionDiffConfig,
        train=replace(_TRAIN, learning_rate=3e-4, beta2=0.999),
        model=ModelConfig(architecture="mdm", num_layers=5, width=104, feedforward=416, dropout=0.1),
        data=_DATA,
        diffusion=DiffusionConfig(losses="mdm", action_dropout=0.0, shape_dropout=0.0, joint_dropout=0.1),
    )
    actor: ActorConfig = section(
        ActorConfig,
        train=replace(_TRAIN, batch_size=20, beta2=0.999, ema_decay=0.99),
        model=ActorModelConfig(num_layers=4, width=128, feedforward=512),
        data=_DATA,
        loss=ActorLossConfig(weight_kl=1e-3),
    )
    filter: FilterConfig = section(FilterConfig, fill=True, steps=10, guidance=1.0, oversample_factor=2.0)
    classifier: ClassifierConfig = section(ClassifierConfig, mirror="auto")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("fractions", "methods", "noise_strengths"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name}={values}: needs at least one, each once")
        if CROSS_SET in self.methods and self.pretraining is None:
            raise InputError(f"methods: {CROSS_SET} needs a store of other data sets: set pretraining=STORE")
        for name in self.chosen:
            if name not in {*METHODS, *self.labels} or name == SDEDIT:
                raise unknown("value of chosen", name, [*self.labels, *(one for one in METHODS if one != SDEDIT)])

    @property
    def labels(self) -> list[str]:
        """Names of the generators in the table: a method, or ``sdedit`` with its noise strength."""
        variations = [f"{SDEDIT} {strength:g}" for strength in self.noise_strengths]
        return [label for method in self.methods for label in (variations if method == SDEDIT else [method])]

    @property
    def chosen_labels(self) -> list[str]:
        """Compared generators with a row whose mixture is chosen."""
        return [label for label in self.labels if label in self.chosen]
