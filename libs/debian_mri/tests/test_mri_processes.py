"""Training by two processes: the losses of one with the same batch, of heads alone and of learned prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import two_processes
from model_world import settings, write_slices

from icube_common.config import config_to_yaml

CONFIGURATIONS = {
    "all": ("demographics.mode=linear", "visual.pooling=attention"),
    "text": ("demographics.mode=text", "prompt.learn=true", "prompt.init=template"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_two_processes_give_the_losses_of_one(name: str, tmp_path: Path) -> None:
    write_slices(tmp_path / "data")
    config = settings(
        "train.learning_rate=1e-3", "train.logging_steps=1", "train.report_to=none", *CONFIGURATIONS[name]
    )
    (tmp_path / "config.yaml").write_text(config_to_yaml(config))
    words = ["--data", str(tmp_path / "data"), "--config", str(tmp_path / "config.yaml"), "--out"]
    two_processes.train("debian_mri", [*words, str(tmp_path / "two")], two_processes.TORCHRUN)
    two_processes.train("debian_mri", [*words, str(tmp_path / "one")])
    two_processes.assert_same_losses(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "report.html").is_file()
