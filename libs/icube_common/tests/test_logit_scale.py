"""Learned logit scales: no weight decay, a cap of 100 whose gradient stays alive, in the training loop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from icube_common.losses.logit_scale import cap_logit_scales, is_logit_scale, scale_of
from icube_common.tabular.fusion import TabularContrastiveLoss
from icube_common.training import fit
from icube_common.training.state import parameter_groups

from .training_job import Data, make_config, open_run


class Scaled(nn.Module):
    """A weight and a scale between two weights."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.ones(3))
        self.log_scale = nn.Parameter(torch.tensor(start).log())
        self.last = nn.Parameter(torch.ones(2))

    def forward(self) -> Tensor:
        return scale_of(self.log_scale)


def train(run: Path, model: nn.Module, push: float, **changes: Any) -> None:
    config = make_config(**{"max_steps": 5, "learning_rate": 0.1, "weight_decay": 0.5, **changes})

    def step(module: nn.Module, batch: Any, random: Any) -> dict[str, Tensor]:
        zero = sum(value.sum() * 0 for value in module.parameters())
        return {"loss": zero + push * module()}

    fit(model, step, Data(), config=config, run=open_run(run, config=config, config_yaml=""))


def test_a_scale_is_not_decayed_and_other_weights_are(tmp_path: Path) -> None:
    model = Scaled(20.0)
    train(tmp_path / "run", model, 0.0)
    assert model.log_scale.item() == pytest.approx(math.log(20.0), abs=1e-6)
    assert model.first.detach().tolist() == pytest.approx([0.95**5] * 3)
    groups = parameter_groups(model)
    assert [group.get("weight_decay") for group in groups] == [None, 0.0, None]
    assert [id(value) for group in groups for value in group["params"]] == [id(value) for value in model.parameters()]


def test_a_scale_stops_at_100_and_can_come_back(tmp_path: Path) -> None:
    model = Scaled(95.0)
    train(tmp_path / "up", model, -1.0)
    assert scale_of(model.log_scale).item() == pytest.approx(100.0, rel=1e-5)
    assert model.log_scale.item() <= math.log(100.0) + 1e-6
    train(tmp_path / "down", model, 1.0)
    assert scale_of(model.log_scale).item() < 70


def test_the_gradient_at_the_cap_is_alive() -> None:
    value = nn.Parameter(torch.tensor(9.0))
    assert scale_of(value).item() == pytest.approx(100.0, rel=1e-5)
    cap_logit_scales([value])
    scale_of(value).backward()
    assert value.grad is not None and value.grad.item() == pytest.approx(100.0, rel=1e-4)


def test_scale_parameters() -> None:
    assert is_logit_scale("log_scale") and is_logit_scale("branch.entry.log_scale") and is_logit_scale("a.logit_scale")
    assert not is_logit_scale("scale") and not is_logit_scale("log_scale.weight")
    assert [name for name, _ in TabularContrastiveLoss().named_parameters() if is_logit_scale(name)] == ["log_scale"]
