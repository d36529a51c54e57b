"""State of a training: accelerator, model on its device, optimiser, moving average."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn

from icube_common.errors import InputError
from icube_common.io.runs import RunFolder
from icube_common.losses.logit_scale import is_logit_scale
from icube_common.training.config import TrainConfig, trajectory
from icube_common.training.ema import MovingAverage
from icube_common.training.loss_tracker import LossTracker
from icube_common.training.sampler import BatchOrder


@dataclass(frozen=True)
class TrainingState:
    """State of a training, for steps, checkpoints and logs."""

    config: TrainConfig
    run: RunFolder | None
    accelerator: Accelerator
    module: nn.Module
    wrapped: nn.Module
    optimizer: Any  # accelerate's wrapper of AdamW
    ema: MovingAverage | None
    loss_tracker: LossTracker
    logit_scales: Sequence[nn.Parameter]
    fingerprint: Mapping[str, Any]

    @property
    def output(self) -> RunFolder | None:
        """The run folder in the process that writes it, the main one; None elsewhere, or without a run folder."""
        return self.run if self.accelerator.is_main_process else None


def make_accelerator(config: TrainConfig, run: RunFolder | None, device_type: str) -> Accelerator:
    """A fresh accelerator, whatever trained earlier in this process."""
    # accelerate keeps precision and device in process-wide state and refuses a second training that differs
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        cpu=device_type == "cpu",
        log_with=None if config.report_to == "none" else config.report_to,
        project_dir=None if run is None else str(run.path),
    )


def assemble(
    model: nn.Module, config: TrainConfig, run: RunFolder | None, accelerator: Accelerator, order: BatchOrder
) -> TrainingState:
    """Model on its device, optimiser, average and loss tracker."""
    # moved before the optimiser and the average take references
    model.to(accelerator.device)
    groups = parameter_groups(model, config.learning_rate)
    if not groups:
        raise InputError(f"{type(model).__name__}: has no trainable parameter")
    optimizer = torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )
    wrapped, prepared = accelerator.prepare(model, optimizer)
    digest = None if order.probabilities is None else hashlib.sha256(order.probabilities.tobytes()).hexdigest()
    return TrainingState(
        config=config,
        run=run,
        accelerator=accelerator,
        module=model,
        wrapped=wrapped,
        optimizer=prepared,
        ema=MovingAverage(model, config.ema_decay) if config.ema_decay else None,
        loss_tracker=LossTracker(),
        logit_scales=[
            value for name, value in model.named_parameters() if value.requires_grad and is_logit_scale(name)
        ],
        fingerprint={
            **trajectory(config),
            "samples": order.size,
            "sample_weights": digest,
            "frozen_parameters": frozen_digest(model),
        },
    )


RELATIVE_RATE = "relative_learning_rate"
"""Key of a parameter group: its peak learning rate over that of the training."""


def parameter_groups(model: nn.Module, learning_rate: float = 1.0) -> list[dict[str, Any]]:
    """The trainable parameters for the optimiser, logit scales without weight decay.

    In the order of the model, so that a parameter has the same number in every checkpoint.

    Args:
        model: parameters of a module with an attribute ``peak_learning_rate`` have that one as their peak.
        learning_rate: peak of all others.
    """
    rates = {
        f"{name}.": rate / learning_rate
        for name, module in model.named_modules()
        if isinstance(rate := getattr(module, "peak_learning_rate", None), float)
    }
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]

    def group(pair: tuple[str, nn.Parameter]) -> tuple[bool, float]:
        inside = [rate for prefix, rate in rates.items() if pair[0].startswith(prefix)]
        return is_logit_scale(pair[0]), inside[-1] if inside else 1.0

    return [
        {
            "params": [value for _, value in run],
            **({"weight_decay": 0.0} if scales else {}),
            **({} if rate == 1.0 else {RELATIVE_RATE: rate}),
        }
        for (scales, rate), run in itertools.groupby(named, key=group)
    ]


def frozen_digest(model: nn.Module) -> str | None:
    """SHA-256 of the parameters that training leaves alone, None where there are none."""
    frozen = [(name, value.detach()) for name, value in model.named_parameters() if not value.requires_grad]
    if not frozen:
        return None
    digest = hashlib.sha256()
    for name, value in frozen:
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
