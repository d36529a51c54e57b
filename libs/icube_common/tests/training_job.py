"""A small training that the tests run in their own process, in a killed one and in two at once.

python training_job.py '{"run": "RUN", "config": {"max_steps": 20}, "resume": false, "delay": 0.0}'
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from icube_common.io.runs import RunFolder
from icube_common.training import FitResult, SampleRef, StepRandom, TrainConfig, fit, open_run

BASE = {
    "max_steps": 20,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "checkpointing_steps": 8,
    "logging_steps": 5,
    "device": "cpu",
    "report_to": "none",
    "seed": 7,
}


class Stop(Exception):
    """Breaks a training in the middle of a step."""


class Data:
    """Points whose inputs are augmented from the draw's own seed, and their sum."""

    def __init__(self, size: int = 50) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, draw: SampleRef) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(draw.seed)
        x = torch.randn(6, generator=generator) + draw.index / self.size
        return x, x.sum()


def make_config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{**BASE, **changes})


def make_model(dropout: float = 0.2, width: int = 12) -> nn.Sequential:
    """Layers with dropout and a batch norm, whose running statistics a checkpoint has to hold."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers: list[nn.Module] = [nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
        if dropout == 0:
            layers = [nn.Linear(6, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, 1))


def step(model: nn.Module, batch: tuple[Tensor, Tensor], random: StepRandom) -> dict[str, Tensor]:
    x, y = batch
    noisy = x + 0.1 * random.normal(6)
    error = model(noisy).squeeze(-1) - y
    return {"loss": error.square().mean(), "absolute": error.abs().mean()}


def train(path: Path, config: TrainConfig, *, model: nn.Module | None = None, **options: Any) -> FitResult:
    """`fit` on `Data`, into a new or resumed folder."""
    run = open_run(path, config=config, config_yaml="", environment={}, resume=options.get("resume", False))
    options = {"step": step, "dataset": Data(), **options}
    return fit(model or make_model(), options.pop("step"), options.pop("dataset"), config=config, run=run, **options)


def weights_of(result: FitResult) -> dict[str, Tensor]:
    return dict(result.model.state_dict())


def losses(path: Path) -> dict[int, float]:
    """Step -> logged training loss."""
    return {record["step"]: record["loss"] for record in RunFolder(path).read_metrics() if "loss" in record}


def main(job: dict[str, Any]) -> None:
    def slow_step(*arguments: Any) -> dict[str, Tensor]:
        time.sleep(job.get("delay", 0.0))
        return step(*arguments)

    config = make_config(**job["config"])
    model = make_model(job.get("dropout", 0.2))
    train(Path(job["run"]), config, model=model, step=slow_step, resume=job.get("resume", False))
    if job.get("twice"):
        train(Path(job["run"] + "-second"), config, model=make_model(job.get("dropout", 0.2)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
