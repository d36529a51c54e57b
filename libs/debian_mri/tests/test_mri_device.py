"""Device and batch size of the frozen tower in each command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from command_line import Command, as_json, command_fixture
from device_checks import rows_fixture, run_device_job
from model_world import FAST, drawn_brain, settings, write_slices

import debian_mri.evaluation.explanation_eval as explanation_module
from debian_mri.cli import main
from debian_mri.data.feature_store import HEAD, ScanImages, encode_scans, features_folder
from debian_mri.data.inputs import load_inputs
from debian_mri.data.manifest import Manifest
from debian_mri.models.checkpoint import load_model
from icube_common.errors import InputError
from icube_common.io.runs import read_json
from icube_common.knowledge.commands import load_encoder
from icube_common.vlm import VLMConfig, load_vlm

CONFIG = settings("concepts.enabled=false", "slices.planes=[coronal]")
PICTURE = (*FAST, "concepts.enabled=false")

command = command_fixture(main, "debian_mri")


rows = rows_fixture()


def volume(path: Path, *, seed: int) -> Path:
    """A volume of drawn slices in MNI space."""
    drawn = np.random.default_rng(seed)
    slices = [np.flipud(drawn_brain(3.0, drawn)).T for _ in range(40)]
    affine = np.array([[1.0, 0, 0, -88], [0, 4.0, 0, -80], [0, 0, 1.0, -74], [0, 0, 0, 1]])
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.stack(slices, axis=1).astype(np.float32), affine), path)
    return path


def test_each_command_joins_scans_in_a_batch(tmp_path: Path, rows: list[int], command: Command) -> None:
    data, run = write_slices(tmp_path / "data", count=16), tmp_path / "run"
    batch = (*PICTURE, "vlm.batch_size=6")
    own = ["--features", tmp_path / "trained", "--exclude-subjects", "p00,p01"]
    assert command("train", "--data", data, "--out", run, *own, *batch)[0] == 0
    assert rows == [6, 6, 4]
    rows.clear()
    own = ["--features", tmp_path / "predicted"]
    assert command("predict", run, "--data", data, "--out", tmp_path / "all", *own)[0] == 0
    assert rows == [6, 6, 4]
    rows.clear()
    own = ["--features", tmp_path / "judged features", "--subjects", "p00,p01", "--comparisons", "none"]
    assert command("evaluate", run, "--data", data, "--out", tmp_path / "judged", *own)[0] == 0
    assert rows == [6, 6, 4]
    rows.clear()
    folds = ["--folds", "2", "--repeats", "1", "--comparisons", "none"]
    own = ["--data", data, "--out", tmp_path / "folds", "--features", tmp_path / "evaluated", *folds]
    assert command("evaluate", *own, *batch)[0] == 0
    assert rows == [6, 6, 4]
    rows.clear()
    # another size of batches is no other question, and what is stored answers for all of them
    assert command("evaluate", *own, *PICTURE, "vlm.batch_size=2")[0] == 0
    assert rows == []


def test_many_files_are_joined_and_a_bad_one_is_listed(tmp_path: Path, rows: list[int], command: Command) -> None:
    data, run = write_slices(tmp_path / "data", count=16), tmp_path / "run"
    words = (*PICTURE, "vlm.batch_size=8", "slices.mode=even", "slices.planes=[coronal]", "slices.count=5")
    assert command("train", "--data", data, "--out", run, *words)[0] == 0
    files = [volume(tmp_path / "volumes" / f"{number}_T1w.nii.gz", seed=number) for number in range(4)]
    files[1].write_bytes(b"no volume")
    rows.clear()
    found = as_json(command("predict", run, tmp_path / "volumes", "--out", tmp_path / "joined", "--json"))
    assert (found["scans"], found["rejected"]) == (3, 1)
    assert rows == [8, 7]
    with (tmp_path / "joined" / "rejected.csv").open(newline="") as handle:
        (_, rejected) = csv.reader(handle)
    assert rejected[0] == str(files[1])
    joined = read_json(tmp_path / "joined" / "predictions.json")["scans"]
    for row, file in zip(joined, (files[0], files[2], files[3]), strict=True):
        alone = as_json(command("predict", run, file, "--json"))
        assert row["probability_AD"] == pytest.approx(alone["probabilities"]["AD"], abs=1e-3)


def test_explanations_are_joined_too(tmp_path: Path, rows: list[int]) -> None:
    data = write_slices(tmp_path / "data", count=16)
    assert main(["train", "--data", str(data), "--out", str(tmp_path / "run"), *FAST, "vlm.batch_size=6"]) == 0
    saved, manifest = load_model(tmp_path / "run"), Manifest.load(data)
    for file in (data / "features").glob("*/??/*.half.safetensors"):
        file.unlink()
    rows.clear()
    read = list(explanation_module._read(saved, manifest, manifest.scans[:8]))
    assert rows == [6, 2]
    assert [scan.id for scan, _ in read] == [scan.id for scan in manifest.scans[:8]]


def test_joined_scans_have_the_features_that_they_have_alone(tmp_path: Path) -> None:
    manifest = Manifest.load(write_slices(tmp_path / "data", count=6))
    vlm = VLMConfig(name="icube-tiny", batch_size=4).load("cpu")
    scans = [(scan.id, ScanImages(manifest, scan, CONFIG)) for scan in manifest.scans]
    joined = list(encode_scans(scans, vlm, None))
    for (name, images), found in zip(scans, joined, strict=True):
        (alone,) = encode_scans([(name, images)], vlm, None)
        assert found.item == name and found.features is not None and alone.features is not None
        torch.testing.assert_close(found.features, alone.features, atol=5e-4, rtol=0)


def test_a_scan_that_cannot_be_read_keeps_its_neighbours(tmp_path: Path, rows: list[int]) -> None:
    data = write_slices(tmp_path / "data", count=4)
    (data / "images" / "01.png").write_bytes(b"no image")
    manifest, vlm = Manifest.load(data), load_vlm("icube-tiny")
    scans = [(scan.id, ScanImages(manifest, scan, CONFIG)) for scan in manifest.scans]
    found = list(encode_scans(scans, vlm, None))
    assert [result.error is None for result in found] == [True, False, True, True] and rows == [3]
    assert "01.png: cannot be read" in str(found[1].error)
    assert [result.features is None for result in found] == [False, True, False, False]


def test_features_of_mixed_precision_are_others(tmp_path: Path) -> None:
    manifest = Manifest.load(write_slices(tmp_path / "data", count=4))
    whole, half = (VLMConfig(name="icube-tiny").load("cpu") for _ in range(2))
    # as `VLMConfig.load` sets it on a GPU
    half.mixed_precision = "bf16"
    first, second = (load_inputs(manifest, CONFIG, vlm).features for vlm in (whole, half))
    assert first is not None and second is not None
    assert not any(torch.equal(first[name], second[name]) for name in first)
    folders = [features_folder(manifest.folder, None, CONFIG, vlm) for vlm in (whole, half)]
    assert folders[0] is not None and folders[1] is not None and folders[0] != folders[1]
    assert folders[0].name.startswith(whole.fingerprint[:12])
    with pytest.raises(InputError, match=r"its features.* mixed_precision=no, this run .* mixed_precision=bf16 on cpu"):
        load_inputs(manifest, CONFIG, half, features=folders[0])
    with pytest.raises(InputError, match=r"mixed_precision=no on cpu; set train.mixed_precision=bf16"):
        load_inputs(manifest, CONFIG, whole, features=folders[1])
    # a folder of before there was a mixed precision
    head = read_json(folders[0] / HEAD)
    assert head["backbone"].pop("mixed_precision") == "no"
    (folders[0] / HEAD).write_text(json.dumps(head))
    again = load_inputs(manifest, CONFIG, whole, features=folders[0]).features
    assert again is not None and all(torch.equal(again[name], first[name]) for name in first)


def test_describe_scores_on_the_device_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    try:
        assert load_encoder("icube-tiny", None, None).device.type == "meta"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(
    "overrides",
    [("demographics.mode=linear", "visual.pooling=attention"), ("demographics.mode=text", "prompt.learn=true")],
    ids=["frozen texts", "learned prompts and text"],
)
def test_all_commands_run_on_the_device_of_the_process(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    cpu, second = run_device_job(Path(__file__).with_name("device_job_mri.py"), tmp_path, overrides)
    for one, other in zip(cpu, second, strict=True):
        if isinstance(one, list) and one and isinstance(one[0], list):
            assert np.array(other) == pytest.approx(np.array(one), abs=2e-4)
        else:
            assert other == pytest.approx(one, abs=2e-4)
