"""The public Python API: data set, a user's own model, training, pipeline from a folder or a hub, results, export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import motiondiff
from icube_common.errors import InputError
from motiondiff import (
    EvaluateOptions,
    MotionDataset,
    MotionDenoiser,
    MotionDiffusionPipeline,
    MotionStore,
    SampleOptions,
    TrainConfig,
    evaluate,
    export,
    sample,
    train,
)
from motiondiff.config import ClassifierConfig, DataConfig, DiffusionConfig, MotionDiffConfig
from motiondiff.data.dataset import collate
from motiondiff.data.readers.bvh.reader import read_bvh
from motiondiff.data.synthetic import simulate_motion
from motiondiff.models.conditioning import Conditions
from motiondiff.results import Results

FEW = TrainConfig(max_steps=2, batch_size=4, device="cpu", report_to="none")
SMALL = {"num_layers": 1, "width": 16, "num_heads": 2, "feedforward": 16}


class MyDenoiser(MotionDenoiser):
    """A subclass of a user."""

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        predicted: Tensor = super().forward(*inputs, **named)
        return predicted + 0.25


class MyModule(nn.Module):
    """A module of a user: frame by frame, with the action alone."""

    def __init__(self, width: int, output: int | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(width + 1, output or width)

    def forward(self, sample: Tensor, timestep: Tensor, conditions: Conditions, mask: Tensor) -> Tensor:
        action = conditions.action[:, None, None].expand(*sample.shape[:2], 1).to(sample.dtype)
        predicted: Tensor = self.layer(torch.cat([sample, action], dim=-1))
        return predicted


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> MotionDataset:
    motions = [simulate_motion(action, n, fps=10, subject=n % 3) for action in ("walk", "wave") for n in range(6)]
    config = DataConfig(max_frames=32, min_frames=8)
    return MotionDataset.from_motions(motions, tmp_path_factory.mktemp("api") / "store", config=config, fps=None)


@pytest.fixture(scope="module")
def trained(data: MotionDataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = MyDenoiser.for_dataset(data, **SMALL)
    return train(model, data, FEW, out=tmp_path_factory.mktemp("api") / "run")


def test_a_data_set_is_indexed_by_int(data: MotionDataset) -> None:
    item = data[0]
    assert set(item) == {"features", "offsets", "action", "style"}
    assert item["features"].shape[1] == data.feature_size == 3 + 6 * len(data.store.joint_names)
    np.testing.assert_array_equal(data[-1]["features"], data[len(data) - 1]["features"])
    with pytest.raises(IndexError):
        data[len(data)]
    batch = next(iter(DataLoader(data, batch_size=2, collate_fn=collate)))
    assert batch["features"].shape[0] == 2 and batch["mask"].dtype == torch.bool
    assert next(iter(DataLoader(data)))["action"].tolist() == [item["action"]]
    shown = MotionDataset(data.store.path, config=data.config, augment=True)
    torch.manual_seed(0)
    first, second = shown[0], shown[0]
    torch.manual_seed(0)
    np.testing.assert_array_equal(shown[0]["features"], first["features"])
    assert not np.array_equal(first["offsets"], second["offsets"])  # another stature


def test_a_data_set_of_motions_of_a_folder_and_of_a_store(data: MotionDataset, tmp_path: Path) -> None:
    for subject in range(2):
        (tmp_path / f"s{subject}").mkdir()
        export(simulate_motion("walk", subject, fps=20), tmp_path / f"s{subject}" / "walk.bvh")
    made = MotionDataset.prepare("bvh", tmp_path, tmp_path / "store", split=None, action_from="folder")
    assert len(made) == 2 and made.store.actions == ["s0", "s1"]
    splits = data.store.info()["splits"]
    assert len(data) == splits["train"] < len(MotionDataset(data.store, split=None)) == 12
    with pytest.raises(InputError, match="exists already"):
        MotionDataset.from_motions([simulate_motion("walk", 0)], data.store.path)
    with pytest.raises(InputError, match="is not a motion store"):
        MotionDataset(tmp_path)


def test_a_subclass_is_trained_saved_and_loaded(data: MotionDataset, trained: Any, tmp_path: Path) -> None:
    assert isinstance(trained.model, MyDenoiser) and not trained.model.training and trained.fit.steps == 2
    assert trained.to_dict()["model"] == str(trained.run.model) and json.dumps(trained.to_dict())
    call: dict[str, Any] = {"actions": ["walk"], "num_frames": 20, "num_inference_steps": 2}
    motions = {}
    for name, denoiser in {"instance": trained.model, "class": MyDenoiser, "base": MotionDenoiser}.items():
        pipeline = MotionDiffusionPipeline.from_pretrained(trained.run.model, denoiser=denoiser)
        pipeline.set_progress_bar_config(disable=True)
        motions[name] = pipeline(**call, generator=torch.Generator().manual_seed(0)).motions[0]
    np.testing.assert_array_equal(motions["instance"].positions, motions["class"].positions)
    assert not np.array_equal(motions["instance"].positions, motions["base"].positions)
    export(motions["instance"], tmp_path / "walk.bvh")
    np.testing.assert_allclose(read_bvh(tmp_path / "walk.bvh").positions, motions["instance"].positions, atol=1e-4)


@pytest.mark.parametrize("as_class", [True, False])
def test_a_module_of_the_user(data: MotionDataset, tmp_path: Path, as_class: bool) -> None:
    model = MyModule if as_class else MyModule(width=data.feature_size)
    run = train(model, data, FEW, out=tmp_path / "run")
    assert isinstance(run.model, MyModule)
    pipeline = MotionDiffusionPipeline.from_pretrained(tmp_path / "run" / "model", denoiser=run.model)
    pipeline.set_progress_bar_config(disable=True)
    assert len(pipeline(actions=["wave"], num_frames=12, num_inference_steps=2).motions[0]) == 12
    with pytest.raises(InputError, match="trained with a module of your own"):
        MotionDiffusionPipeline.from_pretrained(tmp_path / "run")


def test_a_model_of_another_width_is_refused_with_both_numbers(data: MotionDataset, tmp_path: Path) -> None:
    size = data.feature_size
    models = {
        f"predicts 5 features a frame, the data have {size}": MyModule(size, output=5),
        f"cannot be called with {size} features a frame .*7": MyModule(6),
        f"made for 9 features a frame, the data have {size}": MotionDenoiser(9, 1, data.store.actions, [], **SMALL),
    }
    for words, model in models.items():
        with pytest.raises(InputError, match=words):
            train(model, data, FEW, out=tmp_path / "run")
    others = MotionDenoiser(size, 1, ["jump"], [], **SMALL)
    with pytest.raises(InputError, match="other actions or styles"):
        train(others, data, FEW, out=tmp_path / "run")
    with pytest.raises(InputError, match=r"takes 16 frames at most, data\.max_frames=32"):
        train(MotionDenoiser.for_dataset(data, max_frames=16, **SMALL), data, FEW, out=tmp_path / "run")
    with pytest.raises(InputError, match="has no input for the mask"):
        config = MotionDiffConfig(train=FEW, data=data.config, diffusion=DiffusionConfig(inpainting_probability=0.5))
        train(MotionDenoiser.for_dataset(data, **SMALL), data, config, out=tmp_path / "run")
    with pytest.raises(InputError, match=r"model\.width=15: must be even"):
        MotionDenoiser.for_dataset(data, width=15)
    assert not (tmp_path / "run").exists()


def test_a_pipeline_comes_from_a_hub(trained: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def download(name: str, **options: Any) -> str:
        asked.append(name)
        if name != "lab/motions":
            raise OSError(f"{name}: 404")
        return str(shutil.copytree(trained.run.model, tmp_path / "snapshot"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    pipeline = MotionDiffusionPipeline.from_pretrained("lab/motions", denoiser=MyDenoiser)
    assert asked == ["lab/motions"] and pipeline.denoiser.config.actions == ["walk", "wave"]
    with pytest.raises(InputError, match="lab/other: no such folder, and no download from the Hugging Face hub"):
        MotionDiffusionPipeline.from_pretrained("lab/other")


def test_a_saved_model_of_an_earlier_format_is_refused(trained: Any, tmp_path: Path) -> None:
    old = shutil.copytree(trained.run.model, tmp_path / "model")
    file = old / "representation" / "config.json"
    config = json.loads(file.read_text())
    del config["format_version"]
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json: saved model of format 1, .* `motiondiff train --data STORE"):
        MotionDiffusionPipeline.from_pretrained(old)


def test_results_have_attributes(run_path: Path, store: MotionStore, tmp_path: Path) -> None:
    made = sample(run_path, tmp_path / "samples", SampleOptions(actions=["walk"], steps=2))
    assert isinstance(made, Results) and made.motions == made.to_dict()["motions"] == 1
    options = EvaluateOptions(seeds=1, per_action=2, steps=2, classifier=ClassifierConfig(frames=12, steps=2))
    found = evaluate(run_path, store.path, tmp_path / "evaluation", options)
    assert found.metrics["accuracy"] == found["accuracy"]["mean"]
    with pytest.raises(AttributeError, match="results have no 'acuracy'"):
        _ = found.acuracy


def test_public_names_are_there() -> None:
    for name in dir(motiondiff):
        assert getattr(motiondiff, name) is not None
    assert callable(motiondiff.export) and callable(motiondiff.train) and callable(motiondiff.prepare)
