"""A small training of class prompts through the training loop, in one process or in two at once.

python prompts_job.py '{"run": "RUN", "config": {"max_steps": 6}}'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icube_common.prompts import PromptLearner
from icube_common.training import FitResult, SampleRef, StepRandom, TrainConfig, fit, open_run
from icube_common.vlm import load_vlm

NAMES = [f"class {letter}" for letter in "abcdefghij"]
BASE = {"max_steps": 6, "batch_size": 8, "learning_rate": 1e-2, "checkpointing_steps": 6, "logging_steps": 1, "seed": 3}


class Features:
    """Simulated image features of ten classes, slightly different at each draw."""

    def __init__(self, width: int) -> None:
        self.centres = F.normalize(torch.randn(10, width, generator=torch.Generator().manual_seed(0)), dim=-1)

    def __len__(self) -> int:
        return 40

    def __getitem__(self, draw: SampleRef) -> tuple[Tensor, Tensor]:
        label = torch.tensor(draw.index % 10)
        noise = torch.randn(self.centres.shape[1], generator=torch.Generator().manual_seed(draw.seed))
        return F.normalize(self.centres[label] + 0.05 * noise, dim=-1), label


class Classifier(nn.Module):
    """Logits of images against learned prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.learner = PromptLearner(load_vlm("icube-tiny"), NAMES, "random", num_context=4, class_specific=True)

    def forward(self, features: Tensor) -> Tensor:
        return self.learner.logits(features)


def step(model: nn.Module, batch: tuple[Tensor, Tensor], random: StepRandom) -> dict[str, Tensor]:
    features, labels = batch
    return {"loss": F.cross_entropy(model(features), labels)}


def train(path: Path, resume: bool = False, **changes: Any) -> FitResult:
    config = TrainConfig(**{**BASE, "device": "cpu", "report_to": "none", **changes})
    run = open_run(path, config=config, config_yaml="", environment={}, resume=resume)
    model = Classifier()
    return fit(model, step, Features(model.learner.vlm.embed_dim), config=config, run=run, resume=resume)


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    train(Path(job["run"]), **job.get("config", {}))
