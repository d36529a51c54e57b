"""`fit` as its callers see it: logs, early stopping, budgets, refusals."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.io.runs import RunFolder, read_json
from icube_common.training import checkpoints, fit, open_run

from .training_job import Data, losses, make_config, make_model, step, train, weights_of


def test_fit_learns_logs_and_leaves_the_caller_as_it_was(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    model = make_model(dropout=0.0)
    forward = nn.Sequential.forward
    result = train(tmp_path / "run", make_config(max_steps=60, logging_steps=20), model=model)
    assert torch.equal(before, torch.get_rng_state())
    assert result.model is model and not model.training and model.forward.__func__ is forward
    assert (result.steps, result.stopped_because, result.resumed_from) == (60, "max_steps", None)
    records = RunFolder(tmp_path / "run").read_metrics()
    assert [record["step"] for record in records] == [20, 40, 60]
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    assert {"absolute", "grad_norm", "learning_rate", "seconds", "samples_per_second"} <= set(records[0])
    environment = read_json(tmp_path / "run" / "environment.json")
    assert environment["seed"] == 7 and environment["device"] == "cpu" and environment["budget_stopped_at"] is None


def test_without_a_run_folder_the_weights_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(ema_decay=0.9, eval_steps=10)
    monkeypatch.setattr("icube_common.io.progress.FIRST_SECONDS", 0.0)
    folder = train(tmp_path / "run", config, validate=lambda _: {"loss": 1.0})
    monkeypatch.chdir(tmp_path)
    assert "training: 20/20 step" in capsys.readouterr().err
    bare = fit(make_model(), step, Data(), config=config, run=None, validate=lambda _: {"loss": 1.0}, name="classifier")
    assert "classifier: 20/20 step" in capsys.readouterr().err
    assert (bare.steps, bare.stopped_because) == (20, "max_steps") and not bare.model.training
    for name, value in weights_of(folder).items():
        assert torch.equal(weights_of(bare)[name], value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    for change in ({"early_stopping_patience": 1}, {"report_to": "tensorboard"}):
        with pytest.raises(InputError, match="training without a run folder"):
            fit(make_model(), step, Data(), config=replace(config, **change), run=None, validate=lambda _: {"loss": 1})
    with pytest.raises(InputError, match="training without a run folder"):
        fit(make_model(), step, Data(), config=make_config(), run=None, resume=True)


def test_logged_loss_is_the_mean_over_steps(tmp_path: Path) -> None:
    train(tmp_path / "each", make_config(logging_steps=1))
    train(tmp_path / "four", make_config(logging_steps=4))
    each = losses(tmp_path / "each")
    expected = {n: sum(each[i] for i in range(n - 3, n + 1)) / 4 for n in (4, 8, 12, 16, 20)}
    assert losses(tmp_path / "four") == pytest.approx(expected)


def test_accumulating_equals_one_large_batch(tmp_path: Path) -> None:
    def plain(model: nn.Module, batch: tuple[Tensor, Tensor], random: Any) -> dict[str, Tensor]:
        return {"loss": (model(batch[0]).squeeze(-1) - batch[1]).square().mean()}

    one = train(tmp_path / "one", make_config(), model=make_model(0.0), step=plain)
    two = train(tmp_path / "two", make_config(gradient_accumulation_steps=2), model=make_model(0.0), step=plain)
    for name, value in weights_of(one).items():
        torch.testing.assert_close(weights_of(two)[name], value, rtol=0, atol=1e-6)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)


def test_early_stopping_returns_the_best_averaged_weights(tmp_path: Path) -> None:
    values = iter([3.0, 1.0, 2.0, 1.5, 0.1])
    seen: list[dict[str, Tensor]] = []

    def validate(module: nn.Module) -> dict[str, float]:
        assert not module.training and not torch.is_grad_enabled()
        seen.append({name: value.clone() for name, value in module.state_dict().items()})
        return {"loss": next(values), "accuracy": 0.5}

    config = make_config(
        max_steps=50, eval_steps=3, early_stopping_patience=2, ema_decay=0.9, checkpoints_total_limit=1
    )
    result = train(tmp_path / "run", config, validate=validate)
    assert (result.stopped_because, result.steps, result.best_step) == ("early_stopping_patience", 12, 6)
    for name, value in weights_of(result).items():
        assert torch.equal(value, seen[1][name]), name
    run = RunFolder(tmp_path / "run")
    assert checkpoints.steps_on_disk(run) == [6, 12]
    lines = [record for record in run.read_metrics() if "validation_loss" in record]
    assert [line["validation_loss"] for line in lines] == [3.0, 1.0, 2.0, 1.5] and lines[0][
        "validation_accuracy"
    ] == 0.5
    again = train(tmp_path / "run", config, validate=validate, resume=True)
    assert (again.stopped_because, again.steps) == ("early_stopping_patience", 12)
    assert all(torch.equal(value, seen[1][name]) for name, value in weights_of(again).items())


def test_final_weights_are_the_average_and_checkpoints_hold_both(tmp_path: Path) -> None:
    result = train(tmp_path / "run", make_config(ema_decay=0.95))
    folder = tmp_path / "run" / "checkpoints" / "step-20"
    average, live = load_file(folder / "ema.safetensors"), load_file(folder / "model.safetensors")
    final = weights_of(result)
    assert all(torch.equal(final[name], value) for name, value in average.items())
    assert not torch.equal(final["0.weight"], live["0.weight"])
    assert torch.equal(final["1.running_mean"], live["1.running_mean"])


def test_budget_stops_cleanly_and_is_recorded(tmp_path: Path) -> None:
    def slow(*arguments: Any) -> dict[str, Tensor]:
        time.sleep(0.02)
        return step(*arguments)

    config = make_config(max_steps=10_000, max_minutes=0.3 / 60)
    result = train(tmp_path / "run", config, step=slow)
    assert result.stopped_because == "max_minutes" and 1 <= result.steps <= 20
    environment = read_json(tmp_path / "run" / "environment.json")
    assert environment["budget_stopped_at"] == result.steps and environment["reproducible"].startswith(
        "no: max_minutes"
    )
    assert checkpoints.newest_whole(RunFolder(tmp_path / "run")) == result.steps
    more = train(tmp_path / "run", make_config(max_steps=result.steps + 2), resume=True)
    assert more.stopped_because == "max_steps"
    assert read_json(tmp_path / "run" / "environment.json")["budget_stopped_at"] is None


def test_nan_names_step_and_term_and_writes_no_checkpoint(tmp_path: Path) -> None:
    calls = 0

    def broken(*arguments: Any) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        terms = step(*arguments)
        return {**terms, "velocity": torch.tensor(float("nan")) if calls == 8 else terms["loss"].detach()}

    with pytest.raises(InputError, match="step 8: velocity is nan, the training stopped"):
        train(tmp_path / "run", make_config(), step=broken)
    assert checkpoints.steps_on_disk(RunFolder(tmp_path / "run")) == []


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    def broken(model: nn.Module, batch: tuple[Tensor, Tensor], random: Any) -> dict[str, Tensor]:
        return {"loss": (model(batch[0]) * 0.0).abs().sum().sqrt()}  # 0, with an infinite slope

    with pytest.raises(InputError, match="step 1: grad_norm is nan"):
        train(tmp_path / "run", make_config(), step=broken)


def test_input_errors_of_loading_processes_stay_one_line(tmp_path: Path) -> None:
    class Broken(Data):
        def __getitem__(self, draw: Any) -> tuple[Tensor, Tensor]:
            raise InputError("clips/a.npz: is empty; remove it")

    with pytest.raises(InputError) as caught:
        train(tmp_path / "run", make_config(num_workers=1), dataset=Broken())
    assert str(caught.value) == "clips/a.npz: is empty; remove it"


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="eval_steps=3: there is no validation set"):
        train(tmp_path / "a", make_config(eval_steps=3))
    with pytest.raises(InputError, match="Linear: has no trainable parameter"):
        train(tmp_path / "b", make_config(), model=nn.Linear(6, 1).requires_grad_(False))
    with pytest.raises(InputError, match="is no run folder to resume"):
        open_run(tmp_path / "c", config=make_config(), config_yaml="", resume=True)
    train(tmp_path / "d", make_config(max_steps=2))
    with pytest.raises(InputError, match="exists already"):
        train(tmp_path / "d", make_config())


def test_checkpoints_of_another_run_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    train(path, make_config(max_steps=4))
    with pytest.raises(
        InputError, match=r"step-4: was written with learning_rate=0\.01, this run has learning_rate=0\.1"
    ):
        train(path, make_config(learning_rate=0.1), resume=True)
    with pytest.raises(InputError, match="samples=50, this run has samples=49"):
        train(path, make_config(), dataset=Data(49), resume=True)
    with pytest.raises(InputError, match=r"model\.safetensors: 0\.bias is \(12,\) .*model \(13,\)"):
        train(path, make_config(), model=make_model(width=13), resume=True)
    with pytest.raises(InputError, match="past max_steps=3"):
        train(path, make_config(max_steps=3), resume=True)
    frozen = make_model()
    frozen[0].requires_grad_(False)
    with pytest.raises(InputError, match="frozen_parameters=None"):
        train(path, make_config(), model=frozen, resume=True)


def test_no_pickle_and_pruned_checkpoints(tmp_path: Path) -> None:
    train(
        tmp_path / "run",
        make_config(checkpointing_steps=2, checkpoints_total_limit=3, ema_decay=0.9, report_to="tensorboard"),
    )
    files = {path.relative_to(tmp_path / "run").parts for path in (tmp_path / "run").rglob("*") if path.is_file()}
    names = {parts[-1] for parts in files}
    assert {name for name in names if not name.startswith("events.out.tfevents")} == {
        "config.yaml", "environment.json", "metrics.jsonl", "state.json",
        "model.safetensors", "ema.safetensors", "optimizer.safetensors",
    }  # fmt: skip
    assert {parts[1] for parts in files if parts[0] == "checkpoints"} == {"step-16", "step-18", "step-20"}
    assert any(parts[0] == "tensorboard" for parts in files)
