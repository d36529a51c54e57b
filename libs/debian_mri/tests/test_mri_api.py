"""Public API: data sets indexed by int, a user's slice pooling, results as objects, models that save themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brains import brain, save
from model_world import settings, write_slices
from torch import Tensor, nn
from torch.utils.data import DataLoader

from debian_mri import MriModel, MriPipeline, ProtocolOptions, ScanDataset, evaluate, evaluate_run, predict, train
from debian_mri.explanation.verify import verify_report
from icube_common.errors import InputError

CONFIG = settings("demographics.mode=linear", "concepts.enabled=false", "visual.tune=false")
WIDTH = 64  # of icube-tiny


class GatedMean(nn.Module):
    """Mean of the slices, scaled by a learned vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.gate = nn.Parameter(torch.ones(width))

    def forward(self, slices: Tensor) -> Tensor:
        assert not slices.isnan().any()
        return slices.mean(1) * self.gate


class Wide(nn.Module):
    """Not one feature a scan."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, slices: Tensor) -> Tensor:
        return slices


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ScanDataset:
    return ScanDataset(write_slices(tmp_path_factory.mktemp("api") / "data", count=16))


@pytest.fixture(scope="module")
def run(data: ScanDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("api") / "run"
    model = MriModel.for_dataset(data, CONFIG, pooling=GatedMean)
    result = train(model, data, out=out, exclude_subjects=["p00", "p01"])
    assert result.model is model and (result.facts["scans"], result.facts["subjects"]) == (14, 14)
    assert result.to_dict()["steps"] == 4 and result.fit.steps == 4
    return out


def test_a_data_set_is_indexed_by_int(data: ScanDataset) -> None:
    item = data[3]
    assert (len(data), item["id"], item["label"], item["subject"]) == (16, "scan03", 1, "p03")
    assert item["image"].shape == (1, 176, 176) and item["image"].dtype == torch.float32
    assert item["image"].min() >= 0 and item["image"].max() <= 1
    batch = next(iter(DataLoader(data, batch_size=4)))
    assert batch["image"].shape == (4, 1, 176, 176) and batch["label"].tolist() == [0, 1, 0, 1]
    assert data.class_names == ("CN", "AD") and ScanDataset.open(data) is data


def test_a_data_set_of_bids_volumes(tmp_path: Path) -> None:
    rows = ["participant_id\tdiagnosis\tage"]
    for number in range(2):
        anat = tmp_path / "BIDS" / f"sub-{number:02d}" / "anat"
        anat.mkdir(parents=True)
        save(anat / f"sub-{number:02d}_T1w.nii.gz", *brain(6.0, seed=number))
        rows.append(f"sub-{number:02d}\t{('CN', 'AD')[number]}\t{70 + number}")
    (tmp_path / "BIDS" / "participants.tsv").write_text("\n".join(rows) + "\n")
    found = ScanDataset.from_bids(tmp_path / "BIDS", tmp_path / "DATA", label="diagnosis")
    found.preprocess = replace(found.preprocess, spacing=6.0)
    assert [found[at]["label"] for at in range(2)] == [0, 1]
    assert found[0]["image"].ndim == 3 and float(found[0]["image"].max()) > 0.5
    with pytest.raises(InputError, match="exists already"):
        ScanDataset.prepare("bids", tmp_path / "BIDS", tmp_path / "DATA")


def test_a_custom_pooling_is_trained_saved_and_loaded(data: ScanDataset, run: Path) -> None:
    model = MriModel.from_pretrained(run, pooling=GatedMean)
    branch = model.image_branch
    assert branch is not None and branch.pooling.kind == "custom"
    gate = branch.pooling.module.gate
    assert isinstance(gate, Tensor) and gate.shape == (WIDTH,)
    with pytest.raises(InputError, match="custom pooling GatedMean; load it with pooling=GatedMean"):
        MriModel.from_pretrained(run)
    found = MriPipeline(model)(data=data, scan_id="scan00")
    again = predict(run, data=data, scan_id="scan00", pooling=GatedMean)
    assert found.probabilities == again.probabilities and verify_report(found.text, found.explanation) == []
    assert found.probability == max(found.probabilities.values()) and not found.explanation.trained
    assert sum(part.weight for part in found.explanation.slices) in (pytest.approx(1.0), 0.0)


def test_pipeline_of_a_file(data: ScanDataset, run: Path, tmp_path: Path) -> None:
    image = data.manifest.paths_of(data.manifest.scans[0])[0]
    pipeline = MriPipeline.from_pretrained(run, pooling=GatedMean)
    found = pipeline([image], planes=["coronal"], age=65, sex="F")
    page = found.save_html(tmp_path / "page.html")
    assert "untrained" in page.read_text() and found.label in found.probabilities
    assert found.to_dict()["predicted"] == found.label and found.to_dict()["simulated"]
    assert pipeline([image], planes=["coronal"], values={"age": 65, "sex": "F"}).probabilities == found.probabilities
    with pytest.raises(InputError, match="one image, or --data DATA"):
        pipeline()


def test_an_instance_is_copied_and_its_width_checked(data: ScanDataset, tmp_path: Path) -> None:
    own = GatedMean(width=WIDTH)
    model = MriModel.for_dataset(data, CONFIG, pooling=own)
    train(model, data, out=tmp_path / "run")
    assert torch.equal(own.gate, torch.ones(WIDTH))
    for pooling, message in (
        (GatedMean(width=32), "pooling GatedMean: takes slice features of width 32, those of the backbone have 64"),
        (Wide, r"pooling Wide: returns \(2, 1, 64\) for features \(2, 1, 64\), need \(2, F\)"),
    ):
        with pytest.raises(InputError, match=message):
            MriModel.for_dataset(data, CONFIG, pooling=pooling)
    plain = replace(CONFIG, visual=replace(CONFIG.visual, enabled=False))
    with pytest.raises(InputError, match=r"visual\.enabled=false"):
        MriModel.for_dataset(data, plain, pooling=GatedMean)


def test_evaluation_without_a_folder(data: ScanDataset, run: Path, tmp_path: Path) -> None:
    result = evaluate(data, CONFIG, pooling=GatedMean, protocol="group-kfold", options=ProtocolOptions(folds=2))
    assert result.out is None and 0 <= result.metrics["auc"].mean <= 1
    assert "report" not in result.to_dict() and result.to_dict()["auc"]["mean"] == result.metrics["auc"].mean
    model = MriModel.from_pretrained(run, pooling=GatedMean)
    with pytest.raises(InputError, match="trained on"):
        evaluate_run(model, data, tmp_path / "judged")
    others = evaluate_run(model, data, tmp_path / "judged", subjects=["p00", "p01"])
    assert others.out == tmp_path / "judged" and others.to_dict()["scans"] == 2


def test_a_model_of_other_data_is_refused(run: Path, tmp_path: Path) -> None:
    model = MriModel.from_pretrained(run, pooling=GatedMean)
    other = ScanDataset(write_slices(tmp_path / "data", count=8))
    model.labels = ("AD", "CN")
    with pytest.raises(InputError, match=r"the model has the classes AD, CN, the data CN, AD; make one with"):
        train(model, other, out=tmp_path / "run")


def test_models_of_the_hub_and_of_earlier_versions(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(repository: str) -> str:
        if repository != "someone/brains":
            raise OSError("no connection")
        return str(run / "model")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = MriModel.from_pretrained("someone/brains", pooling=GatedMean)
    assert model.labels == ("CN", "AD") and np.isfinite(float(model.bias.detach().sum()))
    with pytest.raises(InputError, match="someone/else: no such folder, and no download from the Hugging Face hub"):
        MriModel.from_pretrained("someone/else", pooling=GatedMean)
    model.save_pretrained(tmp_path / "copy")
    description: Any = (tmp_path / "copy" / "model.json").read_text().replace('"format": 3', '"format": 1', 1)
    (tmp_path / "copy" / "model.json").write_text(description)
    with pytest.raises(
        InputError, match="number 1 format of saved models, here 3: train again with `debian-mri train`"
    ):
        MriModel.from_pretrained(tmp_path / "copy", pooling=GatedMean)
