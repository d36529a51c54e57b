"""A model on disk: the same probabilities after loading, and damage that is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from act_world import LABELS, settings, world

from actprompt.models.action_model import ActionModel
from actprompt.training.trainer import predict_probabilities, train_fold
from icube_common.errors import InputError
from icube_common.evaluation import train_on_all
from icube_common.io.runs import RunFolder
from icube_common.vlm import FrozenVLM, load_vlm

ABOUT = {
    "data": {"format": "simulated", "title": "simulated actions", "classes": {label: label for label in LABELS}},
    "trained_on": {"clips": 8, "subjects": ["p1", "p2"], "ids": ["a.avi"]},
    "knowledge": {},
    "warnings": ["simulated videos, not recordings of people"],
}
ON = {"enabled": True}
OFF = {"enabled": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "mean": {},
    "mean_std": {"visual": {"head": "mean_std"}},
    "segment_difference": {"visual": {"head": "segment_difference"}, "skeleton": ON},
    "transformer": {"visual": {"head": "transformer", "layers": 2}},
    "cross_frame": {"visual": {"head": "cross_frame"}},
    "visual prompts": {"visual": {"prompts": 2}},
    "captions": {"skeleton": ON},
    "captions alone": {"skeleton": {**ON, "trajectory": False}, "visual": OFF},
    "numbers alone": {"skeleton": ON, "visual": OFF},
    "contrastive": {"skeleton": {**ON, "fusion_mode": "contrastive"}},
    "memory": {"skeleton": {**ON, "fusion_mode": "memory", "kind": "mlp"}},
    "fusion": {"skeleton": {**ON, "fusion_mode": "fusion", "missing": "word"}},
    "random": {"prompt": {"init": "random", "num_context": "4"}},
    "template": {"prompt": {"init": "template"}},
    "own contexts": {"prompt": {"init": "template", "class_specific": True}},
    "knowledge": {"prompt": {"init": "knowledge"}},
    "conditional": {"prompt": {"init": "template", "conditional": True}},
    "exchanged": {"shuffle_class_texts": 1},
}


def save(folder: Path, vlm: FrozenVLM, **sections: Any) -> tuple[ActionModel, Callable[[ActionModel], np.ndarray]]:
    """Train for a moment and save; what was saved, and the probabilities that a model gives of all clips."""
    config = settings(**sections, train={"max_steps": 2, "batch_size": 8, "report_to": "none", "device": "cpu"})
    made = world(subjects=2, takes=1, views=2, pixels=96 if config.visual.prompts else 0)
    assert made.inputs.parameters is not None
    made.inputs.parameters.values[1, 3] = np.nan
    inputs = made.seen_by(config)
    texts = made.texts.exchanged(config.shuffle_class_texts) if config.shuffle_class_texts else made.texts
    run = RunFolder.create(folder.parent / "run", config_yaml="", environment={}, overwrite=True)
    model = train_fold(inputs, train_on_all(made.samples), config, vlm, texts, run).model
    model.description = ABOUT
    model.save_pretrained(folder)

    def probabilities(found: ActionModel) -> np.ndarray:
        return predict_probabilities(found, found.clip_tensors(made.samples.ids, inputs))

    return model, probabilities


@pytest.fixture
def model(tiny: FrozenVLM, tmp_path: Path) -> Path:
    save(tmp_path / "model", tiny, skeleton=ON)
    return tmp_path / "model"


@pytest.mark.parametrize("name", CONFIGS)
def test_loaded_model_predicts_the_same(name: str, tiny: FrozenVLM, tmp_path: Path) -> None:
    saved, probabilities = save(tmp_path / "model", tiny, **CONFIGS[name])
    loaded = ActionModel.from_pretrained(tmp_path / "model", vlm=tiny)
    np.testing.assert_array_equal(probabilities(loaded), probabilities(saved))
    assert loaded.config == saved.config and not loaded.training
    assert loaded.labels == LABELS and loaded.description["warnings"] == ABOUT["warnings"]
    files = {str(path.relative_to(tmp_path / "model")) for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert files == {
        "config.yaml",
        "model.json",
        "model.safetensors",
        "README.md",
        "prompts/config.json",
        "prompts/model.safetensors",
    }
    # the frozen backbone is not in it: 5 million numbers
    assert sum(path.stat().st_size for path in (tmp_path / "model").rglob("*.safetensors")) < 4e6


def test_the_backbone_comes_from_the_settings(tiny: FrozenVLM, tmp_path: Path) -> None:
    saved, probabilities = save(tmp_path / "run" / "model", tiny)
    loaded = ActionModel.from_pretrained(tmp_path / "run")
    assert loaded.vlm is not tiny and loaded.vlm.fingerprint == tiny.fingerprint
    np.testing.assert_allclose(probabilities(loaded), probabilities(saved), atol=1e-6)


def test_model_card_content(model: Path) -> None:
    card = (model / "README.md").read_text()
    assert "simulated videos, not recordings of people" in card and "untrained" in card
    assert "frames, skeleton trajectory, named parameters" in card and "bow, clap, sit down, wave" in card
    with pytest.raises(InputError, match="exists already"):
        ActionModel.from_pretrained(model).save_pretrained(model)


def test_another_backbone_is_refused(model: Path) -> None:
    with pytest.raises(InputError, match=r"the prompts were learned on icube-tiny.*fingerprint"):
        ActionModel.from_pretrained(model, vlm=load_vlm("icube-tiny", seed=7))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.json", "no trained model in it"),
        ("config.yaml", "config.yaml"),
        ("model.safetensors", "damaged model folder"),
        ("prompts/config.json", "config.json"),
        ("prompts/model.safetensors", "damaged one"),
    ],
)
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_damaged_files(model: Path, tiny: FrozenVLM, file: str, message: str, damage: str) -> None:
    path = model / file
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(b"[1, 2]")
    with pytest.raises(InputError) as caught:
        ActionModel.from_pretrained(model, vlm=tiny)
    assert damage != "gone" or message in str(caught.value)
    assert str(model) in str(caught.value)


def test_a_configuration_that_was_cut_between_two_lines(model: Path, tiny: FrozenVLM) -> None:
    path = model / "config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    start = lines.index("train:\n")
    for end in (start // 2, start):
        path.write_text("".join(lines[:end]))
        with pytest.raises(InputError, match=r"config.yaml: section \w+ is missing: the file is cut off"):
            ActionModel.from_pretrained(model, vlm=tiny)


@pytest.mark.parametrize(
    "key",
    ["labels", "parameters", "encoder", "captioner", "branch", "data", "trained_on", "warnings"],
)
def test_a_record_without_a_key(model: Path, tiny: FrozenVLM, key: str) -> None:
    description = json.loads((model / "model.json").read_text())
    del description[key]
    (model / "model.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match=f"damaged model folder.*{key}"):
        ActionModel.from_pretrained(model, vlm=tiny)


def test_weights_of_another_model(model: Path, tiny: FrozenVLM, tmp_path: Path) -> None:
    save(tmp_path / "other", tiny)
    (model / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="missing or unknown tensors"):
        ActionModel.from_pretrained(model, vlm=tiny)
