"""Configuration, average, meter and checkpoint files, each on its own."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from icube_common.errors import InputError
from icube_common.io.runs import RunFolder
from icube_common.training import TrainConfig, check_config, checkpoints, open_run
from icube_common.training.config import learning_rate_at, trajectory
from icube_common.training.ema import MovingAverage
from icube_common.training.loss_tracker import LossTracker
from icube_common.training.state import frozen_digest

from .training_job import make_config


def test_configuration_needs_no_torch() -> None:
    code = "import sys; from icube_common.training import TrainConfig; TrainConfig(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_learning_rate_by_hand() -> None:
    config = TrainConfig(learning_rate=0.1, warmup_steps=4, max_steps=14, lr_scheduler="cosine")
    rates = [learning_rate_at(config, step) for step in (0, 3, 4, 9, 14)]
    assert rates == pytest.approx([0.025, 0.1, 0.1, 0.05, 0.0])
    constant = TrainConfig(learning_rate=0.1, warmup_steps=4)
    assert [learning_rate_at(constant, step) for step in (1, 4, 9999)] == pytest.approx([0.05, 0.1, 0.1])


def test_a_constant_rate_run_may_be_prolonged_and_a_cosine_one_may_not() -> None:
    assert trajectory(make_config(max_steps=5)) == trajectory(make_config(max_steps=9, num_workers=2, logging_steps=1))
    assert trajectory(make_config(lr_scheduler="cosine")) != trajectory(make_config(lr_scheduler="cosine", max_steps=9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixed_precision": "fp16"}, "mixed_precision=fp16: does not exist on a CPU; take mixed_precision=bf16"),
        ({"batch_size": 10, "gradient_accumulation_steps": 4}, "batch_size=10: must be a multiple"),
        ({"early_stopping_patience": 2}, "early_stopping_patience=2: counts validations"),
    ],
)
def test_refusals_come_before_the_run_folder(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    config = make_config(**changes)
    with pytest.raises(InputError, match=message):
        open_run(tmp_path / "run", config=config, config_yaml="")
    assert not (tmp_path / "run").exists()


def test_processes_are_counted_and_fsdp_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(
        InputError, match="batch_size=16: must be a multiple of processes x gradient_accumulation_steps = 3 x 1"
    ):
        check_config(make_config())
    monkeypatch.delenv("WORLD_SIZE")
    assert check_config(make_config()) == "cpu"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="ACCELERATE_USE_FSDP"):
        check_config(make_config())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_absent_cuda_is_refused() -> None:
    with pytest.raises(InputError, match="device=cuda: torch finds no CUDA device"):
        check_config(make_config(device="cuda"))


def test_moving_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    average = MovingAverage(model, decay=0.15)
    model.weight.data.fill_(2.0)
    average.update(0)  # d = min(0.15, 1/10)
    assert average.average["weight"].item() == pytest.approx(0.1 * 1 + 0.9 * 2)
    model.weight.data.fill_(4.0)
    average.update(1)  # d = min(0.15, 2/11)
    assert average.average["weight"].item() == pytest.approx(0.15 * 1.9 + 0.85 * 4)
    with average.applied():
        assert model.weight.item() == pytest.approx(3.685)
    assert model.weight.item() == 4.0


def test_moving_average_leaves_frozen_parameters_out() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    assert list(MovingAverage(model, decay=0.9).average) == ["weight"]


def test_meter_means_and_state() -> None:
    meter = LossTracker()
    for step, value in enumerate((1.0, 2.0, 6.0), start=1):
        meter.add(step, {"loss": torch.tensor(value)})
    meter.add(3, {"grad_norm": torch.tensor(5.0)})
    meter.collect()
    other = LossTracker()
    other.load(json.loads(json.dumps(meter.state())))
    assert other.take() == ({"loss": 9.0, "grad_norm": 5.0}, {"loss": 3, "grad_norm": 1})
    assert other.take() == ({}, {})
    meter.add(4, {"loss": torch.tensor(1.0), "fine": torch.tensor(float("inf"))})
    with pytest.raises(InputError, match="step 4: fine is inf"):
        meter.collect()


def saved(tmp_path: Path, *steps: int) -> RunFolder:
    run = RunFolder(tmp_path)
    for step in steps:
        checkpoints.save_checkpoint(run, step, tensors={"model": {"w": torch.ones(3)}}, state={})
    return run


def test_newest_whole_passes_over_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = saved(tmp_path, 2, 10, 30)
    assert checkpoints.newest_whole(run) == 30
    with (run.checkpoints / "step-30" / "model.safetensors").open("r+b") as handle:
        handle.truncate(5)
    (run.checkpoints / "step-40").mkdir()
    (run.checkpoints / ".step-50.abc").mkdir()
    assert checkpoints.newest_whole(run) == 10
    assert "step-30: is not whole" in caplog.text
    checkpoints.sweep(run)
    assert not (run.checkpoints / ".step-50.abc").exists()
    assert checkpoints.newest_whole(RunFolder(tmp_path / "none")) is None


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    run = saved(tmp_path, 1, 2, 3, 9, 10, 11)
    checkpoints.prune(run, keep=2, best=3)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-10", "step-11", "step-3"]


def test_files_carry_no_metadata_but_the_format(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    raw = (tmp_path / "checkpoints" / "step-1" / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    assert json.loads(raw[8 : 8 + length])["__metadata__"] == {"format": "pt"}


def test_tied_and_frozen_parameters_and_buffers() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))
    model[1].weight = model[0].weight
    model[2].register_buffer("scratch", torch.zeros(1), persistent=False)
    model[2].bias.requires_grad_(False)
    names = {"0.weight", "2.weight", "2.running_mean", "2.running_var", "2.num_batches_tracked"}
    assert set(checkpoints.model_tensors(model)) == names
    before = frozen_digest(model)
    with torch.no_grad():
        model[2].bias.add_(1)
    assert frozen_digest(model) != before
    assert frozen_digest(nn.Linear(1, 1)) is None


def test_copying_other_shapes_changes_nothing() -> None:
    target = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(InputError, match=r"b is \(4,\) torch.float32, in this run's model \(3,\) torch.float32"):
        checkpoints.copy_tensors(Path("f"), {"a": torch.ones(2), "b": torch.ones(4)}, target)
    with pytest.raises(InputError, match="b is absent"):
        checkpoints.copy_tensors(Path("f"), {"a": torch.ones(2)}, target)
    assert target["a"].sum() == 0
