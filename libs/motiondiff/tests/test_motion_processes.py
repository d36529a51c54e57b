"""Training by two processes: the losses of one with the same batch, dropout and resuming included."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import two_processes
from conftest import ConfigMaker

from icube_common.config import config_to_yaml
from icube_common.io.runs import RunFolder

WEIGHTS = "model/denoiser/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("architecture", ["motiondiff", "mdm"])
def test_two_processes_give_the_losses_of_one(
    architecture: str, store_path: Path, tmp_path: Path, tiny_config: ConfigMaker
) -> None:
    """Three interpreters import torch and diffusers."""
    config = tiny_config(
        train={"max_steps": 5, "learning_rate": 1e-3}, model={"architecture": architecture, "dropout": 0.1}
    )
    (tmp_path / "config.yaml").write_text(config_to_yaml(config))
    words = ["--data", str(store_path), "--config", str(tmp_path / "config.yaml"), "--out"]
    two_processes.train("motiondiff", [*words, str(tmp_path / "one")])
    two = tmp_path / "two"
    result = json.loads(two_processes.train("motiondiff", [*words, str(two)], two_processes.TORCHRUN))
    assert result["steps"] == 5
    two_processes.assert_same_losses(tmp_path / "one", two)
    assert (two / "report.html").is_file() and (two / WEIGHTS).is_file()


def test_two_processes_resume_each_other(store_path: Path, tmp_path: Path, tiny_config: ConfigMaker) -> None:
    """A run of accelerate's launcher, resumed by torchrun, has the losses of one process that was never stopped."""
    config = tiny_config(train={"max_steps": 5, "learning_rate": 1e-3})
    short = dataclasses.replace(config, train=dataclasses.replace(config.train, max_steps=2))
    for name, made in (("config", config), ("short", short)):
        (tmp_path / f"{name}.yaml").write_text(config_to_yaml(made))
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["--data", str(store_path), "--config"]
    two_processes.train("motiondiff", [*words, str(tmp_path / "config.yaml"), "--out", str(one)])
    begin = [*words, str(tmp_path / "short.yaml"), "--out", str(two)]
    two_processes.train("motiondiff", begin, two_processes.ACCELERATE)
    go_on = [*words, str(tmp_path / "config.yaml"), "--out", str(two), "--resume"]
    result = json.loads(two_processes.train("motiondiff", go_on, two_processes.TORCHRUN))
    assert result["resumed_from"] == 2
    two_processes.assert_same_losses(one, two)
    assert [record["step"] for record in RunFolder(two).read_metrics() if "loss" in record] == [1, 2, 3, 4, 5]
