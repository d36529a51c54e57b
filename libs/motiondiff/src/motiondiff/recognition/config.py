"""Configuration of a recogniser; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from icube_common.config import Config, option

MODELS = ("gru", "st-gcn")


@dataclass(frozen=True, kw_only=True)
class RecogniserConfig(Config):
    """Which network, how long it trains, and how training clips are varied."""

    model: str = option("gru", "network", choices=MODELS)
    device: str = option("cpu", "torch device of the network; on a CPU the same clips and seed give the same one")
    frames: int = option(48, "every clip is resampled to this many frames", ge=8)
    steps: int = option(300, "optimiser steps", ge=1)
    batch_size: int = option(32, "clips per step", ge=2)
    extra_share: float = option(
        0.5,
        "share of the draws of a class that are further clips (--with, or generated), where it has both",
        gt=0,
        lt=1,
    )
    learning_rate: float = option(3e-3, "peak learning rate of AdamW", gt=0)
    weight_decay: float = option(0.01, "decoupled weight decay of AdamW", ge=0)
    dropout: float = option(0.2, "dropout before the classifier", ge=0, lt=1)
    label_smoothing: float = option(0.1, "share of each target spread over all classes", ge=0, lt=1)
    ema_decay: float = option(0.98, "decay of the moving average of the weights, 0 = off", ge=0, lt=1)
    rotation_degrees: float = option(30.0, "training clips are turned about y by up to this", ge=0, le=180)
    scale_range: float = option(0.15, "and scaled by 1 +- this", ge=0, lt=1)
    shortest_crop: float = option(0.7, "and cut to between this share of their length and all of it", gt=0, le=1)
    joint_noise: float = option(0.01, "and each joint moved by a constant of this deviation, m", ge=0)
