"""Training by two processes: the losses of one with the same batch, contrastive terms and dropout included."""

from __future__ import annotations

from pathlib import Path

import two_processes
from act_world import settings, write_knowledge, write_set

from icube_common.config import config_to_yaml


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    write_set(tmp_path / "data", takes=1)
    write_knowledge(tmp_path / "knowledge.yaml")
    config = settings(
        knowledge=str(tmp_path / "knowledge.yaml"),
        visual={"head": "transformer", "dropout": 0.1},
        loss={"contrastive": 0.5, "kgcoop": 0.5},
        train={"max_steps": 4, "learning_rate": 1e-3, "logging_steps": 1, "checkpointing_steps": 2},
        calibrate=True,
    )
    (tmp_path / "config.yaml").write_text(config_to_yaml(config))
    words = ["--data", str(tmp_path / "data"), "--config", str(tmp_path / "config.yaml"), "--out"]
    # features are computed by one of the two, and read by the other
    two_processes.train("actprompt", [*words, str(tmp_path / "two")], two_processes.TORCHRUN)
    two_processes.train("actprompt", [*words, str(tmp_path / "one")])
    two_processes.assert_same_losses(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "report.html").is_file()
    rejected = list((tmp_path / "data" / "features").glob("*/rejected.csv"))
    assert [path.read_text().count("\n") for path in rejected] == [1]
