"""Golden values of whole runs: slices of OASIS-1 (real data), simulated volumes, a DICOM phantom, registration."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from brains import brain, save
from dicom_phantoms import AXIAL, Phantom, turned
from golden_values import check
from safetensors.numpy import load_file

from debian_mri.biomarkers.measure import measure_volume
from debian_mri.cli import main
from debian_mri.data.manifest import Manifest
from debian_mri.imaging.nifti import RawVolume
from debian_mri.imaging.preprocess import PreprocessConfig, preprocess
from debian_mri.imaging.registration import register_affine

GOLDEN = Path(__file__).with_name("golden.json")
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DATA = Path(os.environ.get("ICUBE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")) / "mri"
EXPLAIN_TEST = "evaluate-explanations"
LEAVE_OUT = "--exclude-subjects"
SHORT = ("train.max_steps=10", "train.device=cpu", "calibration.folds=2")
FEW_VARIANTS = (
    *("base", "pooling attention", "texts and directions exchanged", "demographics by FiLM"),
    "signs adjusted for demographics",
)


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    """The JSON of one command, in this process."""
    code = main([*map(str, words), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result: dict[str, Any] = json.loads(captured.out)
    return result


def numbers(value: Any) -> list[float]:
    """All finite numbers of a result in their order, whatever their keys are; durations are left out."""
    if isinstance(value, Mapping):
        return [number for key, item in value.items() if "seconds" not in key for number in numbers(item)]
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in numbers(item)]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return [float(value)] if is_number and math.isfinite(value) else []


def read_csv(path: Path, columns: Iterable[str] | None = None) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    return [[row[name] for name in columns or row] for row in rows]


def predictions(path: Path) -> dict[str, Any]:
    """``predictions.csv`` of an evaluation: its rows of words, its probabilities as an array."""
    with path.open(encoding="utf-8", newline="") as file:
        names = next(csv.reader(file))
    chances = [name for name in names if name.startswith("p_")]
    return {
        "rows": len(read_csv(path)),
        "first": read_csv(path, ("id", "predicted", "fold", "repeat"))[:20],
        "probabilities": np.array(read_csv(path, chances), dtype=np.float64),
    }


def weights(folder: Path) -> list[np.ndarray[Any, Any]]:
    """Every tensor of a saved model that has values, whatever it is called."""
    files = sorted((folder / "model").glob("*.safetensors"))
    tensors = [array for file in files for array in load_file(file).values() if array.size]
    return sorted(tensors, key=lambda array: (array.shape, array.astype(np.float64).sum()))


def explanation(report: Path) -> dict[str, Any]:
    """The numbers of one saved report, and those in its text."""
    value = json.loads(report.read_text(encoding="utf-8"))
    found = value["explanation"]
    return {
        "logits": found["logits"],
        "probabilities": found["probabilities"],
        "predicted": found["predicted"],
        "all": sorted(numbers(found)),
        "text": re.findall(r"[+\N{MINUS SIGN}]?\d+(?:\.\d+)?", value["text"]),
    }


def figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """AUC, interval and difference of an evaluation's model and of each comparison."""
    found: dict[str, Any] = {"model": result["auc"], "balanced": result["balanced_accuracy"]}
    for name, row in result["comparisons"].items():
        found[name] = row["skipped"] if "skipped" in row else [row["auc"], numbers(row.get("difference", {}))]
    return found


def few(folder: Path, count: int) -> list[str]:
    """Subjects of a prepared set, evenly over its rows."""
    subjects = list(dict.fromkeys(row[0] for row in read_csv(folder / "manifest.csv", ("subject",))))
    return subjects[:: max(1, len(subjects) // count)][:count]


@pytest.fixture(scope="module")
def oasis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (DATA / "oasis1_slices" / "index.csv").is_file():
        pytest.skip(f"{DATA / 'oasis1_slices'} is not there (ICUBE_DATA names the folder with the data)")
    source = tmp_path_factory.mktemp("golden")
    lines = (DATA / "oasis1_slices" / "index.csv").read_text(encoding="utf-8").splitlines()
    (source / "index.csv").write_text("\n".join([lines[0], *lines[1::4]]) + "\n", encoding="utf-8")
    (source / "images").symlink_to(DATA / "oasis1_slices" / "images")
    out = source / "data"
    assert main(["prepare", "--format", "oasis-slices", str(source), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("golden") / "simulated"
    words = ("--subjects", "18", "--classes", "CN,AD", "--spacing", "6", "--seed", "3")
    assert main(["simulate", *words, "--out", str(out)]) == 0
    return out


@pytest.mark.real_data
def test_slices_are_prepared(oasis: Path) -> None:
    rows = read_csv(oasis / "manifest.csv", ("id", "subject", "label", "sha256"))
    table = Manifest.load(oasis).participants().select(["age", "sex", "education_level"]).values
    check(GOLDEN, "slices prepared", {"rows": len(rows), "first": rows[:5], "last": rows[-1], "variables": table})


@pytest.mark.real_data
def test_a_model_of_slices(oasis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ("--config", CONFIGS / "oasis_slices.yaml", *SHORT)
    left_out = few(oasis, 4)
    trained, report = tmp_path / "run", tmp_path / "report.json"
    run(capsys, "train", "--data", oasis, "--out", trained, LEAVE_OUT, ",".join(left_out), *config)
    many = run(capsys, "predict", trained, "--data", oasis, "--out", tmp_path / "all")
    scan, images = read_csv(oasis / "manifest.csv", ("id", "paths"))[0]
    run(capsys, "predict", trained, "--data", oasis, "--id", scan, "--report", report)
    image = oasis / json.loads((oasis / "dataset.json").read_text())["root"] / images.split(";")[1]
    alone = tmp_path / "alone.json"
    run(capsys, "predict", trained, image, "--planes", "coronal", "--age", "74", "--sex", "F", "--report", alone)
    verified = run(capsys, "verify", tmp_path / "all")
    table = read_csv(tmp_path / "all" / "predictions.tsv")
    values = {
        "weights": weights(trained),
        "predicted": many["predicted"],
        "table": [[word for word in row if re.fullmatch(r"[-+]?\d+(\.\d+)?", word)] for row in table[:10]],
        "one": explanation(report),
        "alone": explanation(alone),
        "verified": verified,
    }
    check(GOLDEN, "model of slices", values)


@pytest.mark.real_data
def test_evaluation_of_slices(oasis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ("--config", CONFIGS / "oasis_slices.yaml", *SHORT)
    out = tmp_path / "evaluation"
    folds = ("--folds", "2", "--protocol-seed", "3")
    compared = ("--comparisons", "image,table,permutation,confounds,logistic-table,logistic-pixels,daft")
    result = run(capsys, "evaluate", "--data", oasis, "--out", out, *folds, *compared, *config)
    check(GOLDEN, "evaluation of slices", {**figures(result), "predictions": predictions(out / "predictions.csv")})


@pytest.mark.real_data
def test_ablation_of_slices(oasis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = yaml.safe_load((CONFIGS / "ablation_oasis_slices.yaml").read_text(encoding="utf-8"))
    grid["variants"] = [variant for variant in grid["variants"] if variant["name"] in FEW_VARIANTS]
    assert len(grid["variants"]) == len(FEW_VARIANTS)
    grid["base"] |= {"vlm.name": "icube-tiny", "train.max_steps": 3, "calibration.folds": 2}
    grid["seeds"] = [0, 1]
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False), encoding="utf-8")
    study = ("--grid", tmp_path / "grid.yaml", "--out", tmp_path / "study", "--folds", "2")
    result = run(capsys, "ablate", "--data", oasis, *study)
    check(GOLDEN, "ablation of slices", {"result": numbers(result)})


def test_signs_of_a_volume(tmp_path: Path) -> None:
    volume = preprocess(save(tmp_path / "brain.nii.gz", *brain(3.0, seed=1)), PreprocessConfig(spacing=3.0))
    names = ("hippocampal_volume_loss", "medial_temporal_atrophy", "ventricular_enlargement", "parietal_atrophy")
    found = measure_volume(volume, names)
    check(GOLDEN, "signs of a volume", {"volume": volume.data, "signs": found.values, "planes": found.planes})


def test_a_model_of_volumes(simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ("--config", CONFIGS / "mni_volumes.yaml", "preprocess.spacing=6", *SHORT)
    trained = tmp_path / "run"
    subjects = few(simulated, 18)[-6:]
    run(capsys, "train", "--data", simulated, "--out", trained, LEAVE_OUT, ",".join(subjects), *config)
    scan, path = next(row for row in read_csv(simulated / "manifest.csv", ("id", "paths")))
    report, alone = tmp_path / "report.json", tmp_path / "alone.json"
    run(capsys, "predict", trained, "--data", simulated, "--id", scan, "--report", report)
    run(capsys, "predict", trained, simulated / path, "--age", "70", "--sex", "M", "--report", alone)
    verified = run(capsys, "verify", report)
    tested = run(capsys, EXPLAIN_TEST, trained, "--data", simulated, "--out", tmp_path / "test", "--draws", "5")
    evaluated = run(
        capsys, "evaluate", "--data", simulated, "--out", tmp_path / "evaluation", "--folds", "2",
        "--comparisons", "image,table,linear-voxels", *config,
    )  # fmt: skip
    values = {
        "weights": weights(trained),
        "one": explanation(report),
        "alone": explanation(alone),
        "verified": verified,
        "tested": numbers(tested),
        "evaluated": figures(evaluated),
        "predictions": predictions(tmp_path / "evaluation" / "predictions.csv"),
    }
    check(GOLDEN, "model of volumes", values)


def test_a_dicom_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for number, orientation in enumerate((AXIAL, turned(12, -20, 33))):
        Phantom(orientation=orientation, seed=number).write(tmp_path / f"in{number}")
        result = run(capsys, "convert", tmp_path / f"in{number}", "--out", tmp_path / f"out{number}")
        image = nibabel.load(result["series"][0]["path"])
        found.append({"data": np.asarray(image.dataobj), "affine": image.affine})
    check(GOLDEN, "DICOM series", {"images": found})


def test_registration() -> None:
    data, affine = brain(6.0, seed=2)
    cos, sin = math.cos(math.radians(12)), math.sin(math.radians(12))
    world = np.array([[1, 0, 0, 6], [0, cos, -sin, -4], [0, sin, cos, 3], [0, 0, 0, 1.0]])
    check(GOLDEN, "registration", {"matrix": register_affine(RawVolume(data, world @ affine))})
