"""Prompts in the training loop: two processes, mixed precision, checkpoints without the frozen model."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from prompts_job import train
from training_job import losses

from icube_common.errors import InputError

JOB = Path(__file__).parent / "prompts_job.py"


def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    train(tmp_path / "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(JOB), json.dumps({"run": str(tmp_path / "two")})],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    environment = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert environment["processes"] == 2
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(one) == list(two) == [1, 2, 3, 4, 5, 6]
    assert max(abs(one[number] - two[number]) for number in one) < 1e-5
    assert one[6] < one[1]


def test_a_resumed_training_is_the_uninterrupted_one_and_stores_no_backbone(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", max_steps=3, checkpointing_steps=3)
    parts = train(tmp_path / "parts", resume=True, checkpointing_steps=3)
    assert parts.resumed_from == 3
    assert torch.equal(parts.model.learner.context, whole.model.learner.context)
    stored = (tmp_path / "whole" / "checkpoints" / "step-6" / "model.safetensors").stat().st_size
    context = whole.model.learner.context
    assert stored < 4 * context.numel() + 1000


def test_bf16_trains_without_nan_inside_the_loop(tmp_path: Path) -> None:
    trained = train(tmp_path / "run", mixed_precision="bf16", max_steps=20)
    found = losses(tmp_path / "run")
    assert all(math.isfinite(value) for value in found.values()) and found[20] < found[1]
    assert trained.model.learner.context.dtype == torch.float32
    with pytest.raises(InputError, match="fp16"):
        train(tmp_path / "half", mixed_precision="fp16")
