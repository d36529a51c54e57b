"""The keys of a training, with their ranges and meanings; imports no torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from icube_common.config import Config, option


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """Length, optimiser, precision and reproducibility of a training; `check_config` checks them for the machine."""

    max_steps: int = option(10_000, "optimiser steps", ge=1)
    batch_size: int = option(64, "samples per optimiser step, over all processes and micro-batches", ge=1)
    gradient_accumulation_steps: int = option(1, "micro-batches per optimiser step", ge=1)
    learning_rate: float = option(1e-4, "peak learning rate of AdamW", gt=0)
    weight_decay: float = option(0.01, "decoupled weight decay of AdamW", ge=0)
    beta1: float = option(0.9, "AdamW's decay of the gradient's mean", ge=0, lt=1)
    beta2: float = option(0.999, "AdamW's decay of the gradient's square", ge=0, lt=1)
    warmup_steps: int = option(0, "steps of linear warm-up of the learning rate", ge=0)
    lr_scheduler: str = option("constant", "learning rate after the warm-up", choices=("constant", "cosine"))
    max_grad_norm: float = option(1.0, "largest norm of the gradient, 0 = no clipping", ge=0)
    ema_decay: float = option(0.0, "decay of the moving average of the weights, 0 = off", ge=0, lt=1)
    mixed_precision: str = option("no", "precision of the forward pass", choices=("no", "bf16", "fp16"))
    device: str = option("auto", "device of the training (auto: cuda if there is one)", choices=("auto", "cpu", "cuda"))
    seed: int = option(0, "seed of the batch order and of every step's randomness", ge=0)
    num_workers: int = option(0, "processes that load data, 0 = in the training process", ge=0)
    checkpointing_steps: int = option(1000, "steps between checkpoints", ge=1)
    checkpoints_total_limit: int = option(5, "newest checkpoints to keep", ge=1)
    logging_steps: int = option(50, "steps averaged into one line of metrics.jsonl", ge=1)
    eval_steps: int = option(0, "steps between validations, 0 = off", ge=0)
    early_stopping_patience: int = option(0, "validations without improvement before stopping, 0 = off", ge=0)
    max_minutes: float = option(0.0, "wall-clock budget of this call, 0 = off", ge=0)
    report_to: str = option("tensorboard", "tracker of the curves", choices=("tensorboard", "wandb", "none"))


# What shapes the weights' trajectory; a checkpoint written with other values is not this run's.
_TRAJECTORY = (
    "batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "weight_decay",
    "beta1",
    "beta2",
    "warmup_steps",
    "lr_scheduler",
    "max_grad_norm",
    "ema_decay",
    "mixed_precision",
    "seed",
)


def trajectory(config: TrainConfig) -> dict[str, int | float | str]:
    """Keys that a resumed run shares with the run that it continues.

    ``max_steps`` is among them only where the schedule depends on it, so that a constant-rate run can be prolonged.
    """
    values = dataclasses.asdict(config)
    names = (*_TRAJECTORY, "max_steps") if config.lr_scheduler == "cosine" else _TRAJECTORY
    return {name: values[name] for name in names}


def learning_rate_at(config: TrainConfig, step: int) -> float:
    """The learning rate of the optimiser step that starts from ``step`` finished ones.

    Linear warm-up over ``warmup_steps``, then constant, or a half cosine that would reach 0 at ``max_steps``.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.lr_scheduler == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
