"""train: the command, the model's folder, and what is read back from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_world import FAST, LABELS, people, settings, texts, write_slices

from debian_mri import RESEARCH_ONLY
from debian_mri.cli import main
from debian_mri.data.inputs import load_inputs, used_by
from debian_mri.data.leakage import check_train_test_overlap
from debian_mri.data.manifest import Manifest
from debian_mri.explanation.explain import explain_inputs
from debian_mri.models.checkpoint import load_model
from debian_mri.training.run import train
from debian_mri.training.trainer import TrainedFold, predict_logits, train_fold
from icube_common.errors import InputError
from icube_common.evaluation import train_on_all
from icube_common.io.runs import RunFolder
from icube_common.vlm import FrozenVLM, load_vlm

ABOUT = {
    "data": {"format": "f", "title": "t", "fingerprint": "", "simulated": True, "classes": {}, "sequences": ["T1w"]},
    "trained_on": {"format": "f", "title": "t", "ids": [], "subjects": [], "images": []},
    "knowledge": {},
    "disclaimers": [],
    "warnings": [],
}


@pytest.fixture(scope="module")
def tiny() -> FrozenVLM:
    return load_vlm("icube-tiny")


CONFIGURATIONS = {
    "biomarkers": ("visual.enabled=false",),
    "table": ("visual.enabled=false", "concepts.enabled=false", "demographics.mode=linear"),
    "all": (
        "demographics.mode=linear",
        "concepts.covariate_adjusted=true",
        "visual.pooling=attention",
        "calibration.method=bias",
    ),
    "film": ("demographics.mode=film", "visual.pooling=concat"),
    "text": ("demographics.mode=text", "train.max_steps=1"),
    "learned prompts": ("concepts.enabled=false", "prompt.learn=true", "prompt.init=template", "train.max_steps=1"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_model_that_is_read_back_predicts_the_same_to_the_last_bit(
    name: str, tmp_path: Path, tiny: FrozenVLM
) -> None:
    samples, inputs = people(16)
    config = settings(*CONFIGURATIONS[name])
    run = RunFolder.create(tmp_path / "run", config_yaml="", environment={})
    vlm = tiny if config.needs_encoder else None
    found: TrainedFold = train_fold(inputs, train_on_all(samples), config, vlm, texts(config), run)
    seen = used_by(inputs, config)
    found.model.description = ABOUT
    found.model.save_pretrained(run.model)
    again = load_model(run.path, vlm=vlm)
    one, other = predict_logits(found.model, seen), predict_logits(again, seen)
    assert (one == other).all()
    assert (found.model.calibration.probabilities(one) == again.calibration.probabilities(other)).all()
    assert again.abstention == found.model.abstention and again.columns == seen.columns
    assert "For research" in (run.model / "README.md").read_text()
    # what explains it holds together, for each scan
    explained = [explain_inputs(again, inputs, scan) for scan in inputs.ids[:3]]
    assert [list(one.logits) for one in explained] == [pytest.approx(row) for row in other[:3].tolist()]


def test_damaged_or_unknown_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trained model"):
        load_model(tmp_path)
    samples, inputs = people(16)
    config = settings("visual.enabled=false")
    run = RunFolder.create(tmp_path / "run", config_yaml="", environment={})
    found = train_fold(inputs, train_on_all(samples), config, None, texts(config), run)
    found.model.description = ABOUT
    found.model.save_pretrained(run.model)
    description = json.loads((run.model / "model.json").read_text())
    (run.model / "model.json").write_text(json.dumps({**description, "labels": ["CN", "AD", "DLB"]}))
    with pytest.raises(InputError, match="damaged model folder"):
        load_model(run.path)
    (run.model / "model.json").write_text(
        json.dumps({key: description[key] for key in description if key != "calibration"})
    )
    with pytest.raises(InputError, match=r"damaged.*calibration"):
        load_model(run.path)


BIOMARKERS = [*FAST, "visual.enabled=false", "demographics.mode=linear"]


def test_train_from_slices_to_a_model_that_explains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_slices(tmp_path / "data", with_missing=True)
    run = tmp_path / "run"
    assert (
        main(["train", "--data", str(data), "--out", str(run), "--exclude-subjects", "p00,p01", "--json", *BIOMARKERS])
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert (result["scans"], result["subjects"], result["simulated"]) == (14, 14, True)
    assert result["notice"] == RESEARCH_ONLY and result["backbone"] is None
    page = (run / "report.html").read_text()
    assert RESEARCH_ONLY in page and "simulated" in page and "medial_temporal_atrophy" in page
    saved = load_model(run)
    manifest = Manifest.load(data)
    inputs = load_inputs(manifest, saved.config)
    missing = explain_inputs(saved, inputs, "scan03", simulated=True)
    age, sex = missing.demographics
    assert (age.name, age.value, age.leakage_tier, sex.value) == ("age", None, "A", "M")
    assert any(note.startswith("age is missing") for note in missing.warnings)
    assert missing.classes == LABELS and missing.n_controls == 0  # seven are too few
    assert {part.percentile for part in missing.concepts} == {None}
    assert missing.not_judged["swallow_tail_loss"] == ("SWI",)
    # the people of the training are no people to test it on
    check_train_test_overlap(manifest, [0, 1], saved.description["trained_on"])
    with pytest.raises(InputError, match="trained on subject 'p02'"):
        check_train_test_overlap(manifest, [0, 2], saved.description["trained_on"])


def test_train_resumes(tmp_path: Path) -> None:
    data = write_slices(tmp_path / "data")
    config = settings("visual.enabled=false", "train.lr_scheduler=constant", "train.checkpointing_steps=2")
    whole = train(config, data, tmp_path / "whole").to_dict()
    train(replace(config, train=replace(config.train, max_steps=2)), data, tmp_path / "parts")
    resumed = train(config, data, tmp_path / "parts", resume=True).to_dict()
    assert (whole["steps"], resumed["steps"], resumed["resumed_from"]) == (4, 4, 2)
    one, other = (load_model(tmp_path / name).learned() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(InputError, match="all samples"):
        train(config, data, tmp_path / "parts", resume=True, exclude_subjects=["p00"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demographics.columns=[age,MMSE]"], "allow_diagnostic"),
        (["demographics.columns=[age,MMS]"], "MMSE"),
        (["--exclude-subjects", "p99"], "no such subject"),
        (["concepts.name=[a]"], "concepts.biomarkers"),
        (["train.eval_steps=1", "train.early_stopping_patience=1", "demographics.mode=film"], "mode=linear"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_slices(tmp_path / "data", count=6)
    run = tmp_path / "run"
    assert main(["train", "--data", str(data), "--out", str(run), *BIOMARKERS, *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error
    assert not run.exists()


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_weight_file_of_unknown_preprocessing_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, weights = write_slices(tmp_path / "data"), tmp_path / "ViT-B-32.pt"
    weights.touch()
    words = ["--folds", "2"] if command == "evaluate" else []
    words += ["vlm.name=ViT-B-32", f"vlm.pretrained={weights}", "concepts.enabled=false"]
    assert main([command, "--data", str(data), "--out", str(tmp_path / "run"), *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(weights) in line and "vlm.weights_of=TAG" in line and "open_clip_config.json" in line
    assert main([command, "--data", str(data), "--out", str(tmp_path / "run"), *words, "vlm.weights_of=opnai"]) == 2
    assert "did you mean 'openai'" in capsys.readouterr().err


def test_a_cognitive_score_is_stamped_everywhere(tmp_path: Path) -> None:
    data = write_slices(tmp_path / "data")
    config = settings(
        "visual.enabled=false",
        "demographics.mode=linear",
        "demographics.columns=[age,MMSE]",
        "demographics.allow_diagnostic=true",
    )
    result = train(config, data, tmp_path / "run").to_dict()
    assert len(result["disclaimers"]) == 1 and "tier C" in result["disclaimers"][0]
    for name in ("report.html", "model/README.md", "model/model.json", "environment.json"):
        assert "tier C" in (tmp_path / "run" / name).read_text(), name
    saved = load_model(tmp_path / "run")
    explained = explain_inputs(saved, load_inputs(Manifest.load(data), config), "scan00")
    assert {part.name: part.leakage_tier for part in explained.demographics} == {"age": "A", "MMSE": "C"}
    assert np.isfinite(explained.logits).all()
