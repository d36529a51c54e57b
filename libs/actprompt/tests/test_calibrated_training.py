"""Calibrated training: held-out groups only, saved with the model, and no change of what is uncalibrated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from act_world import settings, world, write_knowledge, write_set

from actprompt.evaluation.runner import evaluate
from actprompt.models.action_model import ActionModel
from actprompt.training.calibration import train_calibrated
from actprompt.training.run import train
from actprompt.training.trainer import predict_logits, predict_probabilities
from icube_common.evaluation import leave_one_group_out
from icube_common.io.runs import RunFolder
from icube_common.vlm import FrozenVLM

SECTIONS: dict[str, dict[str, Any]] = {
    "captions": {"skeleton": {"enabled": True}},
    "fusion": {"skeleton": {"enabled": True, "fusion_mode": "fusion"}},
    "validated": {"train": {"eval_steps": 1, "early_stopping_patience": 1}},
}


@pytest.mark.parametrize("name", SECTIONS)
def test_temperature_from_held_out_groups(name: str, tiny: FrozenVLM, tmp_path: Path) -> None:
    config = settings(calibrate=True, **SECTIONS[name])
    made = world(subjects=5, takes=1)
    fold = next(iter(leave_one_group_out(made.samples, validation=0.25 if name == "validated" else 0.0)))
    run = RunFolder.create(tmp_path / "run", config_yaml="", environment={})
    found = train_calibrated(made.seen_by(config), fold, config, tiny, made.texts, run).model
    assert found.calibration.rows == len(fold.train) and found.calibration.temperature != 1
    assert found.calibration.after is not None and found.calibration.before is not None
    assert found.calibration.after <= found.calibration.before
    assert found.rejection is not None and 0.95 <= found.rejection.accepted <= 1
    run = RunFolder.create(tmp_path / "plain", config_yaml="", environment={})
    plain = train_calibrated(made.seen_by(config), fold, replace(config, calibrate=False), tiny, made.texts, run).model
    assert plain.calibration.temperature == 1 and plain.rejection is None
    tensors = found.clip_tensors(fold.test_ids, made.seen_by(config))
    logits = predict_logits(found, tensors)
    assert torch.equal(logits, predict_logits(plain, tensors))
    np.testing.assert_allclose(
        predict_probabilities(found, tensors), (logits / found.calibration.temperature).softmax(-1).numpy()
    )
    assert (predict_probabilities(plain, tensors) == logits.softmax(-1).numpy()).all()


def test_one_group_is_not_calibrated(tiny: FrozenVLM, tmp_path: Path) -> None:
    config = settings(calibrate=True)
    made = world(subjects=2, takes=2)
    fold = next(iter(leave_one_group_out(made.samples, validation=0.0)))
    run = RunFolder.create(tmp_path / "run", config_yaml="", environment={})
    trained = train_calibrated(made.seen_by(config), fold, config, tiny, made.texts, run)
    assert trained.model.rejection is None and trained.model.calibration.temperature == 1
    assert trained.warnings[-1].startswith("Not calibrated")


def test_it_is_saved_with_the_model(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", people=("p1", "p2", "p3", "p4"), takes=1)
    config = settings(knowledge=str(write_knowledge(tmp_path / "knowledge.yaml")), calibrate=True)
    result = train(config, data, tmp_path / "run", exclude_subjects=["p1"])
    loaded = ActionModel.from_pretrained(tmp_path / "run")
    assert loaded.calibration == result.model.calibration and loaded.calibration.rows > 0
    assert loaded.rejection == result.model.rejection is not None
    assert result.to_dict()["temperature"] == pytest.approx(loaded.calibration.temperature, abs=1e-4)
    assert loaded.description["data"]["clip_seconds"] == pytest.approx(0.6)
    assert "temperature" in (tmp_path / "run" / "model" / "README.md").read_text()
    options: dict[str, Any] = {"protocol": "leave-one-subject-out"}
    calibrated = evaluate(data, config, **options).predictions
    plain = evaluate(data, replace(config, calibrate=False), **options).predictions
    assert (calibrated.predicted == plain.predicted).all()
    assert not np.allclose(calibrated.probabilities, plain.probabilities)
