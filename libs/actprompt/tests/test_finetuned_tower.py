"""Action models whose image tower is trained in part: training, checkpoints, resumed runs, prediction, folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from act_world import settings, write_knowledge, write_set
from user_encoders import ClipNet

from actprompt import ActConfig, ActionModel, ActionPipeline, VideoDataset, evaluate, train
from actprompt.config import unused_keys
from icube_common.config import load_config
from icube_common.errors import InputError
from icube_common.vlm import FinetuneConfig, FinetunedTower

pytest.importorskip("peft", reason="the extra icube-common[finetune] is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    write_set(folder / "data", takes=1, labels=("bow", "wave"))
    write_knowledge(folder / "knowledge.yaml")
    return folder


def config(place: Path, mode: str, *, steps: int = 2, **keys: Any) -> ActConfig:
    made = settings(
        knowledge=str(place / "knowledge.yaml"),
        skeleton={"enabled": False},
        train={"max_steps": steps, "batch_size": 4, "checkpointing_steps": 1},
    )
    return replace(made, finetune=FinetuneConfig(mode=mode, learning_rate=1e-2, **keys))


def tower_of(model: ActionModel) -> FinetunedTower:
    assert model.visual is not None and isinstance(model.visual.tower, FinetunedTower)
    return model.visual.tower


@pytest.mark.parametrize(("mode", "encoder"), [("lora", None), ("last_blocks", None), ("lora", ClipNet)])
def test_a_trained_part_is_saved_and_used(place: Path, tmp_path: Path, mode: str, encoder: Any) -> None:
    data = VideoDataset(place / "data")
    model = ActionModel.for_dataset(data, config(place, mode), encoder=encoder)
    before = {name: value.clone() for name, value in tower_of(model).state_dict().items()}
    fingerprint = model.vlm.fingerprint
    result = train(model, data, out=tmp_path / "RUN", exclude_subjects=["p3"])
    after = tower_of(model).state_dict()
    assert result.model is model and after.keys() == before.keys()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    tower_of(model).check_frozen()
    model.vlm.__dict__.pop("fingerprint")
    assert model.vlm.fingerprint == fingerprint
    # no features of the frozen tower are computed or stored
    assert not list((place / "data").glob("features/*/*/*.safetensors"))
    # neither the model nor a checkpoint holds the frozen tower
    frozen = sum(value.numel() for value in tower_of(model).visual.parameters() if not value.requires_grad)
    learned = model.learned()
    assert {name for name in learned if ".tower." in name} == {f"visual.tower.{name}" for name in after}
    for file in (tmp_path / "RUN" / "model" / "model.safetensors", *(tmp_path / "RUN").glob("checkpoints/*/model.*")):
        assert file.stat().st_size < 4 * sum(value.numel() for value in model.state_dict().values()) or frozen < 100

    loaded = ActionModel.from_pretrained(tmp_path / "RUN", encoder=encoder)
    for name, value in learned.items():
        assert torch.equal(value.cpu(), loaded.learned()[name].cpu()), name
    video = place / "data" / "videos" / "p3-wave-0.avi"
    found, mine = ActionPipeline(loaded)(video), ActionPipeline(model)(video)
    np.testing.assert_array_equal(found.probabilities, mine.probabilities)


def test_a_resumed_training_equals_one_without_a_break(place: Path, tmp_path: Path) -> None:
    data, files = place / "data", []
    for name, parts in (("whole", (3,)), ("broken", (2, 3))):
        for index, steps in enumerate(parts):
            result = train(config(place, "lora", steps=steps), data, out=tmp_path / name, resume=index > 0)
        assert result.fit.steps == 3
        files.append((tmp_path / name / "checkpoints" / "step-3" / "model.safetensors").read_bytes())
    assert files[0] == files[1]


def test_folds_share_one_frozen_tower(place: Path) -> None:
    """Each fold trains adapters of its own: the same fold gives the same predictions wherever it stands."""
    chosen = config(place, "lora")
    first = evaluate(place / "data", chosen, protocol="leave-one-subject-out")
    again = evaluate(place / "data", chosen, protocol="leave-one-subject-out")
    np.testing.assert_array_equal(first.predictions.probabilities, again.predictions.probabilities)
    frozen = evaluate(place / "data", config(place, "none"), protocol="leave-one-subject-out")
    assert not np.array_equal(first.predictions.probabilities, frozen.predictions.probabilities)


def test_the_keys_of_a_command() -> None:
    made = load_config(ActConfig, overrides=["finetune.mode=lora", "finetune.rank=2", "finetune.targets=[c_fc]"])
    assert made.needs_pixels and made.finetune.targets == ["c_fc"] and "finetune.blocks" in unused_keys(made)
    assert not ActConfig().needs_pixels and "finetune.rank" in unused_keys(ActConfig())
    with pytest.raises(InputError, match=r"both change the image tower; set visual.prompts=0 or finetune.mode=none"):
        load_config(ActConfig, overrides=["finetune.mode=lora", "visual.prompts=2"])
    with pytest.raises(InputError, match=r"trains the image tower, and visual.enabled=false"):
        load_config(ActConfig, overrides=["finetune.mode=lora", "visual.enabled=false", "skeleton.enabled=true"])
