"""Biomarkers from tables of volumes: their values, a training, its prediction, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from judge_world import write_cohort

from debian_mri import predict, train
from debian_mri.biomarkers.concepts import load_concepts
from debian_mri.biomarkers.volumes import VOLUME_BIOMARKERS, VolumeTable
from debian_mri.biomarkers.volumes.scores import measure_table, read_volumes
from debian_mri.cli import main
from debian_mri.config import MriConfig
from debian_mri.explanation.verify import verify_files
from debian_mri.models.mri_model import MriModel
from icube_common.config import load_config
from icube_common.errors import InputError

NAMES = (
    "hippocampus_left",
    "hippocampus_right",
    "lateral_ventricle_left",
    "lateral_ventricle_right",
    "third_ventricle",
    "cerebral_cortex_left",
    "cerebral_cortex_right",
    "intracranial_volume",
)
EXPECTED = ("hippocampal_volume_loss", "medial_temporal_sparing", "ventricular_enlargement",
            "third_ventricle_enlargement", "global_cortical_atrophy")  # fmt: skip
SETTINGS = (
    "visual.enabled=false",
    "demographics.mode=none",
    "calibration.folds=2",
    "train.max_steps=3",
    "train.device=cpu",
)


def write_volumes(path: Path, ids: list[str], *, source: str = "FreeSurfer", seed: int = 0) -> VolumeTable:
    """Simulated volumes: every second person has a smaller hippocampus and larger ventricles."""
    generator = np.random.default_rng(seed)
    rows = []
    for number, _ in enumerate(ids):
        loss = 1 - 0.25 * (number % 2)
        volumes = [3.5 * loss, 3.7 * loss, 12 / loss, 13 / loss, 1.2 / loss, 230.0, 231.0, 1450.0]
        rows.append(np.array(volumes) * generator.uniform(0.95, 1.05, len(volumes)))
    table = VolumeTable(
        ids=tuple(ids), names=NAMES, values=np.array(rows), sources=(source,) * len(ids), citations=("Author 2026",)
    )
    table.write(path, overwrite=True)
    return table


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    manifest = write_cohort(folder / "data")
    write_volumes(folder / "volumes.csv", [scan.id for scan in manifest.scans])
    others = write_cohort(folder / "others", people=8, prefix="q", seed=7)
    write_volumes(folder / "others.csv", [scan.id for scan in others.scans], seed=1)
    write_volumes(folder / "other_program.csv", [scan.id for scan in others.scans], source="CAT12")
    return folder


def settings(place: Path, *overrides: str) -> MriConfig:
    volumes = f"concepts.volumes={place / 'volumes.csv'}"
    return load_config(MriConfig, overrides=[*SETTINGS, volumes, *overrides])


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    train(settings(place), place / "data", out=place / "run")
    return place / "run"


def test_values_by_hand(place: Path) -> None:
    table = read_volumes(place / "volumes.csv")
    names = ("hippocampal_volume_loss", "ventricular_enlargement", "medial_temporal_sparing", "sylvian_widening")
    measured = measure_table(table, table.ids[1], names)
    volumes = dict(zip(NAMES, table.values[1], strict=True))
    hippocampus = volumes["hippocampus_left"] + volumes["hippocampus_right"]
    ventricles = volumes["lateral_ventricle_left"] + volumes["lateral_ventricle_right"]
    cortex = volumes["cerebral_cortex_left"] + volumes["cerebral_cortex_right"]
    assert measured.values[:3].tolist() == pytest.approx(
        [
            -math.log(hippocampus / volumes["intracranial_volume"]),
            math.log(ventricles / volumes["intracranial_volume"]),
            math.log(hippocampus / cortex),
        ]
    )
    # no insula in the table
    assert math.isnan(measured.values[3])


def test_names_are_concepts_with_a_direction() -> None:
    concepts = load_concepts()
    for name, biomarker in VOLUME_BIOMARKERS.items():
        assert biomarker.name == name and any(concepts[name].expected.values())
        assert "T1w" in concepts[name].requires


def test_training_uses_the_biomarkers_of_the_table(run: Path) -> None:
    model = MriModel.from_pretrained(run)
    assert model.biomarkers is not None and model.biomarkers.names == EXPECTED
    assert "Volumes of structures by FreeSurfer." in model.description["disclaimers"]
    assert "Author 2026" in model.description["disclaimers"]


def test_prediction_of_other_people_takes_their_table(place: Path, run: Path) -> None:
    options = {"data": place / "others", "scan_id": "q01-0"}
    with pytest.raises(InputError, match=r"volumes\.csv: has no row of the scan q01-0; .*--volumes TABLE"):
        predict(run, **options)
    prediction = predict(run, volumes=place / "others.csv", report=place / "report.json", **options)
    concepts = {part.name: part for part in prediction.explanation.concepts}
    head = MriModel.from_pretrained(run).biomarkers
    assert head is not None
    value = measure_table(read_volumes(place / "others.csv"), "q01-0", EXPECTED).values[0]
    score = (value - float(head.mean[0])) / float(head.std[0])
    assert concepts["hippocampal_volume_loss"].score == pytest.approx(max(-4.0, min(4.0, score)), abs=1e-4)
    assert any("Volumes are of whole structures" in text for text in prediction.explanation.warnings)
    assert verify_files(place / "report.json")["problems"] == {}


def test_volumes_of_another_program_are_refused(place: Path, run: Path) -> None:
    with pytest.raises(InputError, match=r"by CAT12\. The model was trained with others\. .*by FreeSurfer\."):
        predict(run, data=place / "others", scan_id="q01-0", volumes=place / "other_program.csv")


def test_evaluation_by_fold_and_of_a_run(place: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "--data", str(place / "data"), "--out", str(place / "eval"), "--folds", "2"]
    names = "logistic-biomarkers,cnn-3d"
    arguments += ["--comparisons", names, "--json", *SETTINGS, f"concepts.volumes={place / 'volumes.csv'}"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    rival = result["comparisons"]["logistic-biomarkers"]
    assert rival["auc"]["mean"] == 1.0 and rival["delong"]["mean"] == 0.0
    assert result["comparisons"]["cnn-3d"]["skipped"] == "the set has slices, not volumes"
    # the classes are separate in the simulated volumes
    assert result["auc"]["mean"] == 1.0
    others = ["evaluate", str(run), "--data", str(place / "others"), "--comparisons", "none"]
    assert main([*others, "--out", str(place / "e2")]) == 2
    assert "--volumes TABLE" in capsys.readouterr().err
    assert main([*others, "--out", str(place / "e2"), "--volumes", str(place / "others.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["auc"]["mean"] == 1.0


def test_a_changed_table_is_another_evaluation(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = place / "changing.csv"
    ids = [scan for scan in read_volumes(place / "volumes.csv").ids]
    arguments = ["evaluate", "--data", str(place / "data"), "--out", str(place / "eval3"), "--folds", "2"]
    arguments += ["--comparisons", "none", *SETTINGS, f"concepts.volumes={table}"]
    write_volumes(table, ids)
    assert main(arguments) == 0
    write_volumes(table, ids, seed=3)
    assert main(arguments) == 2
    assert "holds an evaluation of other settings or data" in capsys.readouterr().err


def test_wrong_tables_are_refused(place: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.csv: no such table of volumes"):
        train(settings(place, f"concepts.volumes={place / 'nothing.csv'}"), place / "data", out=place / "r2")
    bare = VolumeTable(ids=("p00-0",), names=("amygdala_left",), values=np.array([[1.0]]), sources=("CAT12",))
    bare.write(place / "bare.csv", overwrite=True)
    with pytest.raises(InputError, match=r"bare\.csv: no biomarker: it lacks the structures or the intracranial"):
        train(settings(place, f"concepts.volumes={place / 'bare.csv'}"), place / "data", out=place / "r2")
