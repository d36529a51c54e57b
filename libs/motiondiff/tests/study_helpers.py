"""A study of seconds for the tests."""

from __future__ import annotations

from collections.abc import Callable

from icube_common.training import TrainConfig
from motiondiff.augmentation.config import FilterConfig
from motiondiff.augmentation.study.config import MixtureConfig, PrimaryConfig, StudyConfig
from motiondiff.config import ActorConfig, ActorModelConfig, ClassifierConfig, DataConfig, MotionDiffConfig


def tiny_study(tiny_config: Callable[..., MotionDiffConfig]) -> StudyConfig:
    """Two folds of five simulated people at half of the clips, with every kind of row but cross-set."""
    mdm = {"model": {"architecture": "mdm"}, "diffusion": {"losses": "mdm"}}
    return StudyConfig(
        fractions=[0.5],
        folds=2,
        seeds=2,
        generator_seeds=1,
        methods=["motiondiff", "sdedit", "mdm-time", "actor"],
        noise_strengths=[0.5],
        probe_steps=2,
        mixture=MixtureConfig(shares=[0.0, 0.5], inner_seeds=1),
        primary=PrimaryConfig(fraction=0.5),
        motiondiff=tiny_config(train={"max_steps": 1}, data={"mirror": 0.5}),
        mdm=tiny_config(train={"max_steps": 1}, **mdm),
        actor=ActorConfig(
            train=TrainConfig(max_steps=1, batch_size=4, device="cpu", report_to="none"),
            model=ActorModelConfig(num_layers=1, width=16, num_heads=2, feedforward=16),
            data=DataConfig(max_frames=32, min_frames=8),
        ),
        filter=FilterConfig(per_class=2, oversample_factor=1, steps=2, fill=True, copy_threshold=0),
        classifier=ClassifierConfig(model="gru", frames=16, steps=3, batch_size=8, mirror="auto"),
    )
