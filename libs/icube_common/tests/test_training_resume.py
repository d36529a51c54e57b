"""A stopped, killed or divided training ends with the weights of one that was never disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from icube_common.io.runs import RunFolder, read_json
from icube_common.training import FitResult, newest_whole

from .training_job import Stop, losses, make_config, make_model, step, train, weights_of

JOB = Path(__file__).with_name("training_job.py")


def assert_same(first: FitResult, second: FitResult) -> None:
    mine, theirs = weights_of(first), weights_of(second)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


def stopping(after: int) -> Any:
    calls = 0

    def broken(*arguments: Any) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Stop
        return step(*arguments)

    return broken


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_workers": 2},
        {"ema_decay": 0.99, "gradient_accumulation_steps": 2, "lr_scheduler": "cosine", "warmup_steps": 10},
        {"mixed_precision": "bf16"},
    ],
    ids=["dropout", "two-workers", "ema-gradient_accumulation_steps-cosine", "bf16"],
)
def test_resumed_weights_are_bit_identical(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = make_config(**changes)
    unbroken = train(tmp_path / "unbroken", config)
    torch.rand(5)  # the global generator stands elsewhere the second time
    with pytest.raises(Stop):
        train(tmp_path / "broken", config, step=stopping(13 * config.gradient_accumulation_steps))
    resumed = train(tmp_path / "broken", config, resume=True)
    assert resumed.resumed_from == 8 and resumed.steps == 20
    assert_same(unbroken, resumed)
    assert losses(tmp_path / "broken") == losses(tmp_path / "unbroken")
    assert read_json(tmp_path / "broken" / "environment.json")["resumed_from"] == 8


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    first = train(tmp_path / "a", make_config(max_steps=3))
    second = train(tmp_path / "b", make_config(max_steps=3, seed=8))
    with pytest.raises(AssertionError):
        assert_same(first, second)


def test_bf16_is_real_on_a_cpu(tmp_path: Path) -> None:
    first = train(tmp_path / "a", make_config(max_steps=1, mixed_precision="bf16"), model=make_model(0.0))
    train(tmp_path / "b", make_config(max_steps=1), model=make_model(0.0))
    assert first.model[0].weight.dtype == torch.float32  # type: ignore[index]
    assert losses(tmp_path / "a")[1] != losses(tmp_path / "b")[1]
    assert losses(tmp_path / "a")[1] == pytest.approx(losses(tmp_path / "b")[1], rel=0.02)


def test_workers_do_not_change_the_weights(tmp_path: Path) -> None:
    assert_same(train(tmp_path / "a", make_config()), train(tmp_path / "b", make_config(num_workers=1)))


def test_resume_before_the_first_checkpoint_starts_over(tmp_path: Path) -> None:
    unbroken = train(tmp_path / "unbroken", make_config())
    with pytest.raises(Stop):
        train(tmp_path / "broken", make_config(logging_steps=1), step=stopping(5))
    resumed = train(tmp_path / "broken", make_config(), resume=True)
    assert resumed.resumed_from == 0
    assert losses(tmp_path / "broken") == losses(tmp_path / "unbroken")
    assert_same(unbroken, resumed)


def test_a_constant_rate_run_can_be_prolonged(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", make_config(max_steps=15))
    train(tmp_path / "short", make_config(max_steps=6))
    assert_same(whole, train(tmp_path / "short", make_config(max_steps=15), resume=True))


def test_weights_and_frozen_parts_survive_a_resume(tmp_path: Path) -> None:
    def model() -> torch.nn.Sequential:
        made = make_model()
        made[0].requires_grad_(False)
        return made

    options: dict[str, Any] = {"weights": [1.0] * 25 + [3.0] * 25}
    whole = train(tmp_path / "whole", make_config(), model=model(), **options)
    assert torch.equal(whole.model[0].weight, make_model()[0].weight)  # type: ignore[index]
    with pytest.raises(Stop):
        train(tmp_path / "broken", make_config(), model=model(), step=stopping(10), **options)
    assert_same(whole, train(tmp_path / "broken", make_config(), model=model(), resume=True, **options))


def run_job(job: dict[str, Any], *launcher: str, output: int = subprocess.PIPE) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, str(JOB), json.dumps(job)],
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_killed_run_resumes_bit_identically(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"max_steps": 40, "checkpointing_steps": 5, "ema_decay": 0.9, "num_workers": 1}
    unbroken = train(tmp_path / "unbroken", make_config(**changes))
    process = run_job({"run": str(tmp_path / "killed"), "config": changes, "delay": 0.05}, output=subprocess.DEVNULL)
    run = RunFolder(tmp_path / "killed")
    deadline = time.monotonic() + 60
    while newest_whole(run) is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (run.checkpoints / ".step-39.half").mkdir()  # what a kill in the middle of writing leaves
    resumed = train(tmp_path / "killed", make_config(**changes), resume=True)
    assert resumed.resumed_from is not None and 5 <= resumed.resumed_from < 40
    assert_same(unbroken, resumed)
    assert losses(tmp_path / "killed") == losses(tmp_path / "unbroken")
    assert not list(run.checkpoints.glob(".*"))


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    changes = {"logging_steps": 1, "max_steps": 12, "gradient_accumulation_steps": 2}
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    process = run_job({"run": str(tmp_path / "two"), "config": changes, "dropout": 0.0, "twice": True}, *launcher)
    train(tmp_path / "one", make_config(**changes), model=make_model(0.0))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert read_json(tmp_path / "two" / "environment.json")["processes"] == 2
    one = losses(tmp_path / "one")
    assert len(one) == 12
    for folder in ("two", "two-second"):
        assert losses(tmp_path / folder) == pytest.approx(one, abs=1e-5)
