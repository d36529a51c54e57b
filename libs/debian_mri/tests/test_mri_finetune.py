"""MRI models whose image tower is trained in part, on slices or volumes as pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brains import brain, prepared, save
from model_world import settings, write_slices
from user_encoders import VolumeNet

from debian_mri import MriModel, MriPipeline, ProtocolOptions, ScanDataset, evaluate, evaluate_run, train
from debian_mri.config import MriConfig, unused_keys
from debian_mri.data.inputs import PixelRows, load_inputs
from debian_mri.data.manifest import Scan
from icube_common.errors import InputError

pytest.importorskip("peft", reason="the extra icube-common[finetune] is not installed")

KEYS = ("concepts.enabled=false", "visual.tune=false", "finetune.learning_rate=0.01", "train.batch_size=4")


def config(*keys: str, mode: str = "lora", steps: int = 2) -> MriConfig:
    return settings(*KEYS, f"finetune.mode={mode}", f"train.max_steps={steps}", "preprocess.spacing=8", *keys)


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slices(tmp_path_factory.mktemp("slices") / "data", count=10)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("volumes") / "data"
    out.mkdir()
    scans = []
    for number in range(8):
        save(out / f"{number}.nii.gz", *brain(8.0, seed=number))
        paths, label = (f"{number}.nii.gz",), ("CN", "AD")[number % 2]
        scans.append(Scan(id=f"scan{number}", subject=f"p{number}", label=label, paths=paths, sha256=f"{number}" * 64))
    prepared(out, scans)
    return out


@pytest.mark.parametrize(
    ("kind", "mode", "encoder"),
    [
        ("slices", "lora", None),
        ("slices", "last_blocks", None),
        ("volumes", "lora", VolumeNet),
        ("volumes", "lora", None),
    ],
)
def test_a_trained_part_is_saved_and_used(
    kind: str, mode: str, encoder: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(kind)
    data, chosen = ScanDataset(folder), config(mode=mode)
    model = MriModel.for_dataset(data, chosen, encoder=encoder)
    assert model.image_branch is not None and model.image_branch.tower is not None
    tower, fingerprint = model.image_branch.tower, model.image_branch.vlm.fingerprint
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    subjects = sorted({scan.subject for scan in data.manifest.scans})[:2]
    result = train(model, data, out=tmp_path / "RUN", exclude_subjects=subjects)
    after = tower.state_dict()
    assert result.model is model and any(not torch.equal(value, before[name]) for name, value in after.items())
    tower.check_frozen()
    model.image_branch.vlm.__dict__.pop("fingerprint")
    assert model.image_branch.vlm.fingerprint == fingerprint
    assert not list(folder.glob("features/*/*/*.half.safetensors"))
    assert {name for name in model.learned() if ".tower." in name} == {f"image_branch.tower.{name}" for name in after}

    loaded = MriModel.from_pretrained(tmp_path / "RUN", encoder=encoder)
    for name, value in model.learned().items():
        assert torch.equal(value.cpu(), loaded.learned()[name].cpu()), name
    scan = next(scan for scan in data.manifest.scans if scan.subject in subjects)
    found, mine = (MriPipeline(one)(data=data, scan_id=scan.id) for one in (loaded, model))
    assert found.probabilities == mine.probabilities
    assert len(found.explanation.slices) == len(found.images)
    judged = evaluate_run(tmp_path / "RUN", data, tmp_path / "EVAL", encoder=encoder, subjects=subjects)
    row = list(judged.predictions.ids).index(scan.id)
    np.testing.assert_allclose(
        judged.predictions.probabilities[row], [found.probabilities[name] for name in model.labels], atol=1e-5
    )


def test_a_resumed_training_equals_one_without_a_break(slices: Path, tmp_path: Path) -> None:
    files = []
    for name, parts in (("whole", (3,)), ("broken", (2, 3))):
        for index, steps in enumerate(parts):
            chosen = config("train.checkpointing_steps=1", "train.lr_scheduler=constant", steps=steps)
            train(chosen, slices, out=tmp_path / name, resume=index > 0)
        files.append((tmp_path / name / "checkpoints" / "step-3" / "model.safetensors").read_bytes())
    assert files[0] == files[1]


def test_folds_share_one_frozen_tower(slices: Path, tmp_path: Path) -> None:
    options = ProtocolOptions(folds=2, repeats=1)
    first = evaluate(slices, config(), tmp_path / "EVAL", options=options, comparisons="slice-mean,image")
    again = evaluate(slices, config(), options=options)
    np.testing.assert_array_equal(first.predictions.probabilities, again.predictions.probabilities)
    assert set(first.comparisons) >= {"slice-mean"}


def test_before_the_first_step_the_features_are_the_frozen_ones(slices: Path) -> None:
    manifest = ScanDataset(slices).manifest
    model = MriModel.for_dataset(slices, config())
    assert model.image_branch is not None and model.image_branch.tower is not None
    inputs = load_inputs(manifest, config(), model.image_branch.vlm, encode=True)
    assert inputs.tower_inputs is not None and inputs.features is not None
    ids = inputs.ids[:3]
    rows = PixelRows(inputs.tower_inputs, ids)
    encoded = model.image_branch.tower.encode(rows, batch_size=2)
    expected = torch.stack([inputs.features[name] for name in ids])
    # pixels and cached features are kept in half precision
    torch.testing.assert_close(encoded, expected, atol=2e-3, rtol=0)


def test_pixels_of_scans_with_fewer_slices() -> None:
    pixels = {"a": torch.ones(2, 3, 4, 4).half(), "b": torch.ones(1, 3, 4, 4).half()}
    rows = PixelRows(pixels, ["a", "b"])
    for batch in (rows[0:2], rows[torch.tensor([0, 1])]):
        assert batch.shape == (2, 2, 3, 4, 4) and batch[1, 1].isnan().all() and not batch[1, 0].isnan().any()
    assert len(rows) == 2 and rows[1].shape == (1, 3, 4, 4)


def test_the_keys_of_a_command() -> None:
    assert "finetune.rank" in unused_keys(MriConfig()) and "finetune.rank" not in unused_keys(config())
    with pytest.raises(InputError, match=r"trains the image tower, and visual.enabled=false"):
        config("visual.enabled=false", "concepts.enabled=true")
