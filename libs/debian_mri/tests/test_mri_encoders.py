"""A user's own encoder of slices or volumes: features, training, evaluation, prediction, explanation, refusals."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brains import brain, prepared, save
from model_world import settings, write_slices
from user_encoders import ClipNet, SmallNet, VolumeNet

from debian_mri import MriModel, MriPipeline, ProtocolOptions, ScanDataset, evaluate, evaluate_run, predict, train
from debian_mri.cli import main
from debian_mri.config import MriConfig
from debian_mri.data.inputs import load_inputs
from debian_mri.data.manifest import Scan
from debian_mri.explanation.verify import verify_report
from icube_common.errors import InputError

UNTRAINED = "untrained encoder: random weights of seed 0"
VOLUMES = ("preprocess.spacing=8", "visual.tune=false")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("volumes") / "data"
    out.mkdir()
    scans = []
    for number in range(8):
        data, affine = brain(8.0, seed=number)
        # the second class is darker in one half: enough for a feature to tell
        data[: len(data) // 2] *= 1 - 0.3 * (number % 2)
        save(out / f"{number}.nii.gz", data, affine)
        scans.append(
            Scan(
                id=f"scan{number}",
                subject=f"p{number}",
                label=("CN", "AD")[number % 2],
                paths=(f"{number}.nii.gz",),
                sha256=f"{number}" * 64,
            )
        )
    prepared(out, scans)
    return out


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slices(tmp_path_factory.mktemp("slices") / "data", count=12)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    for name in ("icube_common", "debian_mri"):
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


def signs(*more: str) -> MriConfig:
    return settings(*VOLUMES, *more)


@pytest.mark.parametrize(
    ("encoder", "width", "concepts"), [(VolumeNet, 6, False), (VolumeNet, 6, True), (SmallNet, 5, False)]
)
def test_an_encoder_of_volumes(volumes: Path, tmp_path: Path, encoder: Any, width: int, concepts: bool) -> None:
    data, config = ScanDataset(volumes), signs(f"concepts.enabled={str(concepts).lower()}")
    model = MriModel.for_dataset(data, config, encoder=encoder)
    assert model.image_branch is not None and model.image_branch.vlm.feature_dim == width
    subjects = ["p0", "p1"]
    result = train(model, data, out=tmp_path / "RUN", exclude_subjects=subjects)
    assert any(UNTRAINED in warning for warning in result.warnings)
    assert f"{encoder.__name__} ({UNTRAINED})" in (tmp_path / "RUN" / "model" / "README.md").read_text()

    scan = next(scan for scan in data.manifest.scans if scan.subject in subjects)
    loaded = MriPipeline.from_pretrained(tmp_path / "RUN", encoder=encoder)
    found = loaded(data=data, scan_id=scan.id)
    mine = MriPipeline(model)(data=data, scan_id=scan.id)
    assert found.probabilities == mine.probabilities and sum(found.probabilities.values()) == pytest.approx(1)
    # the same volume as a file, its features computed and not read from the set
    alone = loaded(data.manifest.paths_of(scan)[0])
    for label, value in found.probabilities.items():
        assert alone.probabilities[label] == pytest.approx(value, abs=1e-4)
    note = "The image encoder takes the whole volume: the slices do not have its part of the evidence."
    whole = encoder is VolumeNet
    assert (note in found.explanation.warnings) == whole
    attention = {part.attention is None for part in found.explanation.slices}
    assert attention == {whole} and len(found.explanation.slices) == len(found.images)
    found.save_html(tmp_path / "page.html")
    assert verify_report(found.text, found.explanation) == []
    with pytest.raises(InputError, match=f"was trained with the encoder {encoder.__name__}; load it with encoder="):
        MriPipeline.from_pretrained(tmp_path / "RUN")
    judged = evaluate_run(tmp_path / "RUN", data, tmp_path / "EVAL", encoder=encoder, subjects=subjects)
    assert len(judged.predictions) == len([scan for scan in data.manifest.scans if scan.subject in subjects])
    assert predict(tmp_path / "RUN", data=data, scan_id=scan.id, encoder=encoder).label == found.label


def test_the_features_are_those_of_the_encoder(volumes: Path) -> None:
    """One feature of a scan, of the preprocessed volume of the data set, cached under the encoder's fingerprint."""
    data, config = ScanDataset(volumes, preprocess=signs().preprocess), signs("concepts.enabled=false")
    model = MriModel.for_dataset(data, config, encoder=VolumeNet)
    assert model.image_branch is not None and model.image_branch.vlm.encoder is not None
    encoder = model.image_branch.vlm.encoder
    inputs = load_inputs(data.manifest, config, model.image_branch.vlm)
    assert inputs.features is not None and len(list((volumes / "features").glob(f"{encoder.fingerprint[:12]}-*"))) == 1
    for index in (0, 3):
        expected = encoder(encoder.preprocess(data.image(index))[None])
        torch.testing.assert_close(inputs.features[data[index]["id"]], expected.half().float(), atol=1e-3, rtol=1e-3)


def test_an_encoder_in_each_fold(volumes: Path, tmp_path: Path) -> None:
    options = ProtocolOptions(folds=2, repeats=1)
    config = signs("concepts.enabled=false")
    result = evaluate(
        volumes, config, tmp_path / "EVAL", encoder=VolumeNet, options=options, comparisons="zero-shot,slice-mean"
    )
    assert len(result.predictions) == 8 and UNTRAINED in str(result.facts["backbone"])
    compared = result.comparisons
    assert "no joint space" in json.dumps(compared, default=str)
    again = evaluate(volumes, config, encoder=VolumeNet(), options=options)
    # another draw of random weights: an instance is not seeded by the configuration
    assert not np.array_equal(again.predictions.probabilities, result.predictions.probabilities)


def test_the_commands(volumes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "volume.pth"
    torch.save(VolumeNet().state_dict(), weights)
    keys = ["vlm.name=icube-tiny", "vlm.encoder=user_encoders:VolumeNet", f"vlm.encoder_weights={weights}"]
    keys += [*VOLUMES, "train.max_steps=2", "calibration.folds=2", "train.device=cpu"]
    out = tmp_path / "run"
    assert main(["train", "--data", str(volumes), "--out", str(out), *keys]) == 0
    scan = ScanDataset(volumes)[0]["id"]
    capsys.readouterr()
    assert main(["predict", str(out), "--data", str(volumes), "--id", scan, "--json"]) == 0
    assert str(weights) in capsys.readouterr().out


REFUSED: list[tuple[str, Any, str]] = [
    ("slices", VolumeNet, "is an encoder of volumes, and scans are slice images; take one of images"),
    ("slices", ClipNet, "is an encoder of clips; scans take encoders of images or volumes"),
    ("volumes", ClipNet, "is an encoder of clips; scans take encoders of images or volumes"),
]


@pytest.mark.parametrize(("kind", "encoder", "message"), REFUSED)
def test_encoders_that_do_not_fit(kind: str, encoder: Any, message: str, volumes: Path, slices: Path) -> None:
    data = volumes if kind == "volumes" else slices
    with pytest.raises(InputError, match=message) as error:
        MriModel.for_dataset(data, signs("concepts.enabled=false"), encoder=encoder)
    assert "\n" not in str(error.value)


def test_an_encoder_of_slice_images(slices: Path, tmp_path: Path) -> None:
    config = settings("concepts.enabled=false", "visual.tune=false")
    result = train(config, slices, out=tmp_path / "RUN", encoder=SmallNet)
    assert result.model.image_branch.vlm.feature_dim == 5
    with pytest.raises(InputError, match="the model has its own"):
        train(result.model, slices, out=tmp_path / "AGAIN", encoder=SmallNet)
