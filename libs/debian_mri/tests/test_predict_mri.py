"""predict, evaluate-explanations and demo, on one small demo: what is written agrees with what was computed."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from cohort_files import cell
from dicom_phantoms import Phantom
from model_world import SIGNS_ONLY, settings, write_slices

import debian_mri.cli.demo as demo_module
from debian_mri import RESEARCH_ONLY
from debian_mri.cli import main
from debian_mri.cli.demo import HELD_OUT, demo
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.evaluation.explanation_eval import ExplanationScore, evaluate_explanations, figures
from debian_mri.explanation.explain import DRAWS
from debian_mri.explanation.record import Explanation
from debian_mri.explanation.report_text import explain
from debian_mri.explanation.verify import verify_files, verify_report
from debian_mri.inference.pipeline import predict
from debian_mri.inference.scan_input import without_sides
from debian_mri.simulation.effects import most_affected_structure
from debian_mri.simulation.truth import shows_change, shows_structure
from debian_mri.training.run import train
from icube_common.errors import InputError
from icube_common.io.runs import read_json


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    for name in ("icube_common", "debian_mri"):
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("demo") / "demo"
    quick = replace(
        demo_module.CONFIG,
        calibration=replace(demo_module.CONFIG.calibration, folds=2),
        train=replace(demo_module.CONFIG.train, max_steps=20),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "CONFIG", quick)
        return out, demo(out, subjects=28, spacing=4.0, workers=1)


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slice images of drawn brains, a run with the image beside the signs, all in one folder."""
    folder = tmp_path_factory.mktemp("slices")
    write_slices(folder / "data", count=16)
    settings_ = settings("visual.pooling=attention", "demographics.mode=linear", "visual.tune=false")
    train(settings_, folder / "data", folder / "run", exclude_subjects=["p01"])
    return folder


def explained(run: Path, image: Any = None, **options: Any) -> Explanation:
    return predict(run, image, **options).explanation


def volume_of(out: Path, label: str = "AD") -> tuple[Scan, Path]:
    manifest = Manifest.load(out / "data")
    scan = [scan for scan in manifest.scans if scan.label == label][-1]
    return scan, manifest.paths_of(scan)[0]


def test_the_demo_makes_all_that_it_names(world: tuple[Path, dict[str, Any]]) -> None:
    out, result = world
    assert result["notice"] == RESEARCH_ONLY and result["simulated"] and result["note"].startswith("simulated")
    for path in result["open"].values():
        page = Path(path).read_text(encoding="utf-8")
        assert "imulated" in page and RESEARCH_ONLY in page
    assert read_json(out / "run" / "model" / "model.json")["data"]["simulated"] is True
    assert len(read_json(out / "run" / "model" / "model.json")["trained_on"]["subjects"]) == 28 - 2 * HELD_OUT
    assert verify_files(out / "prediction.json") == {"reports": 1, "problems": {}}
    with pytest.raises(InputError, match="exists already"):
        demo(out)
    with pytest.raises(InputError, match="at least"):
        demo(out.parent / "small", subjects=4)


def test_a_file_and_the_same_scan_of_the_set_agree(
    world: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = world
    scan, path = volume_of(out)
    people = Manifest.load(out / "data").participants()
    age, sex = (cell(people, scan.id, name).split()[0] for name in ("age", "sex"))
    files = ["--html", str(tmp_path / "p.html"), "--tsv", str(tmp_path / "p.tsv"), "--report", str(tmp_path / "p.json")]
    assert main(["predict", str(out / "run"), str(path), "--age", age, "--sex", sex, *files, "--json"]) == 0
    by_file = json.loads(capsys.readouterr().out)
    assert main(["predict", str(out / "run"), "--data", str(out / "data"), "--id", scan.id, "--json"]) == 0
    by_id = json.loads(capsys.readouterr().out)
    assert by_file["probabilities"] == pytest.approx(by_id["probabilities"], abs=1e-6)
    assert by_file["simulated"] and by_id["simulated"]
    found = by_file["explanation"]
    assert found["weighting"] == "evidence" and len(found["slices"]) == 24
    assert "Slice 1: T1w coronal at y = " in by_file["text"] and by_file["text"].startswith(RESEARCH_ONLY)
    assert found["deletion"]["draws"] == DRAWS
    margin = found["logits"][1] - found["logits"][0]
    parts = [part["contributions"] for part in (*found["concepts"], *found["demographics"], *found["rest"])]
    assert margin == pytest.approx(sum(b - a for a, b in [found["bias"], *parts]), abs=1e-4)
    # all signs were measured where slices are: their shares add up to the signs' part
    shares = sum(part["contributions"][1] for part in found["slices"])
    assert shares == pytest.approx(sum(part["contributions"][1] for part in found["concepts"]), abs=1e-4)
    assert "Slices by evidence" in (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "evidence" in (tmp_path / "p.tsv").read_text(encoding="utf-8")
    assert verify_files(tmp_path / "p.json")["problems"] == {}


def test_warnings_about_missing_values_and_training_scans(world: tuple[Path, dict[str, Any]]) -> None:
    out, _ = world
    _, path = volume_of(out)
    warnings = " ".join(explained(out / "run", path, values={"MMSE": "22"}).warnings)
    assert "age is missing" in warnings and "sex is missing" in warnings and "MMSE was given" in warnings
    manifest = Manifest.load(out / "data")
    known = set(read_json(out / "run" / "model" / "model.json")["trained_on"]["ids"])
    seen = next(scan for scan in manifest.scans if scan.id in known)
    found = explained(out / "run", data=out / "data", scan_id=seen.id)
    assert any(note.startswith("The model was trained on this image") for note in found.warnings)
    copied = explained(out / "run", manifest.paths_of(seen)[0])
    assert any(note.startswith("The model was trained on this image") for note in copied.warnings)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.nii.gz"], "no such file"),
        (["IMAGE", "--age", "old"], "age=old: must be a number of years"),
        (["IMAGE", "--age", "740"], "between 0 and 120 years"),
        (["IMAGE", "--sex", "X"], "sex=X: must be one of F, M"),
        (["IMAGE", "--variable", "agee=3"], "did you mean 'age'"),
        (["IMAGE", "--variable", "age"], "must be COLUMN=VALUE"),
        (["IMAGE", "--age", "70", "--variable", "age=71"], "--age gives it as well"),
        (["IMAGE", "--planes", "axial"], "is a volume"),
        (["IMAGE", "--id", "sim-0001"], "goes with --data"),
        (["IMAGE", "--data", "DATA"], "give images, or a prepared set"),
        (["IMAGE", "--out", "PRED"], "are for many scans"),
        (["--data", "DATA", "--id", "sim-9999"], "sim-"),
        (["--data", "DATA"], "--out PRED"),
        (["IMAGE", "--html", "FOLDER"], "is a folder"),
        ([], "one image"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    message: str,
    world: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, _ = world
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    names = {"IMAGE": str(volume_of(out)[1]), "DATA": str(out / "data"), "FOLDER": str(tmp_path / "full")}
    words = [names.get(word, word) for word in words]
    assert main(["predict", str(out / "run"), *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error


def test_many_go_on_past_the_bad_ones(
    world: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = world
    folder = tmp_path / "in" / "deeper"
    folder.mkdir(parents=True)
    shutil.copy(volume_of(out, "CN")[1], folder / "one_T1w.nii.gz")
    shutil.copy(volume_of(out)[1], tmp_path / "in" / "two.nii.gz")
    (folder / "cut.nii.gz").write_bytes((folder / "one_T1w.nii.gz").read_bytes()[:2000])
    pred = tmp_path / "pred"
    assert main(["predict", str(out / "run"), str(tmp_path / "in"), "--out", str(pred), "--pages", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["scans"] == 2 and result["rejected"] == 1 and sum(result["predicted"].values()) == 2
    with (pred / "rejected.csv").open(encoding="utf-8") as handle:
        rejected = list(csv.DictReader(handle))
    assert len(rejected) == 1 and rejected[0]["source"].endswith("cut.nii.gz") and "damaged" in rejected[0]["reason"]
    assert verify_files(pred) == {"reports": 2, "problems": {}}
    assert sorted(file.name for file in (pred / "pages").iterdir()) == ["one_T1w.html", "two.html"]
    with (pred / "predictions.tsv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert [row["id"] for row in rows] == ["one_T1w", "two"] and {row["notice"] for row in rows} == {RESEARCH_ONLY}
    assert all(abs(float(row["probability_CN"]) + float(row["probability_AD"]) - 1) < 1e-6 for row in rows)
    for file in folder.iterdir():
        file.write_bytes(b"no image")
    assert main(["predict", str(out / "run"), str(folder), "--out", str(tmp_path / "none")]) == 2
    assert "none of 2 scans" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_a_whole_set_as_it_is_one_by_one(slices: Path, tmp_path: Path) -> None:
    assert main(["predict", str(slices / "run"), "--data", str(slices / "data"), "--out", str(tmp_path / "pred")]) == 0
    rows = {row["id"]: row for row in read_json(tmp_path / "pred" / "predictions.json")["scans"]}
    assert len(rows) == 16 and rows["scan03"]["label"] == "AD"
    alone = explained(slices / "run", data=slices / "data", scan_id="scan01")
    assert rows["scan01"]["probability_AD"] == pytest.approx(alone.probability("AD"), abs=1e-6)
    assert not any("was trained on this image" in note for note in alone.warnings)
    assert "was trained on this image" in rows["scan03"]["warnings"]


def test_slice_images_need_their_planes(slices: Path) -> None:
    image = slices / "data" / "images" / "01.png"
    values = {"age": "66", "sex": "F"}
    found = explained(slices / "run", [image], planes=["coronal"], values=values)
    of_set = explained(slices / "run", data=slices / "data", scan_id="scan01")
    assert found.probability("AD") == pytest.approx(of_set.probability("AD"), abs=1e-6)
    assert not found.trained and [part.attention for part in found.slices] == [1.0]
    assert found.slices[0].weight in (0.0, 1.0) and "hippocampus" not in found.slices[0].regions[:0]
    with pytest.raises(InputError, match="name the plane of each"):
        explained(slices / "run", [image])
    with pytest.raises(InputError, match="did you mean 'coronal'"):
        explained(slices / "run", [image], planes=["coronel"])
    with pytest.raises(InputError, match="neither a volume nor a slice image"):
        explained(slices / "run", [slices / "data" / "manifest.csv"], planes=["coronal"])


def test_a_report_is_recomputed_from_the_image(slices: Path) -> None:
    """The recomputation agrees; where one logit is a thousandth higher it does not."""

    def compute() -> Explanation:
        return explained(slices / "run", data=slices / "data", scan_id="scan01")

    found = compute()
    assert verify_report(explain(found), found, compute) == []
    changed = replace(
        found,
        bias=(found.bias[0] + 1e-3, *found.bias[1:]),
        logits=(found.logits[0] + 1e-3, *found.logits[1:]),
        temperature=None,
    )
    assert any("computed again" in problem for problem in verify_report(explain(changed), changed, compute))


def test_a_model_that_refuses_missing_values(tmp_path: Path) -> None:
    write_slices(tmp_path / "data", count=12)
    config = settings(*SIGNS_ONLY, "demographics.mode=linear", "demographics.missing=refuse")
    train(config, tmp_path / "data", tmp_path / "run")
    image = tmp_path / "data" / "images" / "01.png"
    with pytest.raises(InputError, match="sex is missing"):
        explained(tmp_path / "run", [image], planes=["coronal"], values={"age": "70"})


def test_explanations_beside_the_truth(world: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, _ = world
    result = read_json(out / "explanation" / "explanation.json")
    assert result["simulated"] and result["structures"] == {"AD": "hippocampus"} and result["people"] <= HELD_OUT
    assert result["left_out"]["trained_on"] == 6
    lost = result["deletion_logit"]
    assert lost["difference"]["mean"] == pytest.approx(lost["named"]["mean"] - lost["random"]["mean"])
    with (out / "explanation" / "explanation.tsv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert result["location"]["named"]["mean"] == pytest.approx(np.mean([float(row["named"]) for row in rows]))
    assert {row["total"] for row in rows} == {"24"}
    write_slices(tmp_path / "drawn", count=4)
    description = read_json(tmp_path / "drawn" / "dataset.json")
    with pytest.raises(InputError, match="no ground truth"):
        evaluate_explanations(out / "run", tmp_path / "drawn", tmp_path / "test")
    (tmp_path / "drawn" / "dataset.json").write_text(json.dumps({**description, "simulated": False}))
    with pytest.raises(InputError, match="is not simulated"):
        evaluate_explanations(out / "run", tmp_path / "drawn", tmp_path / "test")


def test_figures_by_hand() -> None:
    scan = Scan(id="a", subject="a", label="AD", paths=("a",))

    def tried(name: str, named: float, lost: float) -> ExplanationScore:
        row = Scan(**{**vars(scan), "id": name})
        return ExplanationScore(row, "hippocampus", named, 0.25, 1.0, 0.5, 0.5, 3, 24, lost, 0.1, lost / 10, 0.01)

    found = figures([tried("a", 1.0, 0.5), tried("b", 0.5, 0.7)])
    assert found["location"]["named"]["mean"] == 0.75 and found["location"]["ratio"]["mean"] == 3
    assert found["location"]["largest_possible_ratio"] == 4
    assert found["location_of_all_that_is_changed"]["ratio"]["mean"] == 2
    assert found["location_by_attention"]["ratio"]["mean"] == 2
    assert found["deletion_logit"]["difference"]["mean"] == pytest.approx(0.5)
    assert found["deletion_probability"]["random"]["mean"] == pytest.approx(0.01)
    assert next(iter(found["as_wanted"].values()))


def test_truth_of_one_structure(world: tuple[Path, dict[str, Any]]) -> None:
    """The hippocampus lies between y = -40 and -4 mm, and what AD changes reaches further back and up."""
    data = world[0] / "data"
    assert (
        most_affected_structure("AD") == "hippocampus"
        and most_affected_structure("DLB") == "midbrain"
        and most_affected_structure("CN") is None
    )
    assert shows_structure(data, "AD", "hippocampus", "coronal", -22.0)
    assert not shows_structure(data, "AD", "hippocampus", "coronal", -60.0)
    assert shows_change(data, "AD", "coronal", -60.0)  # parietal
    with pytest.raises(InputError, match="did you mean 'hippocampus'"):
        shows_structure(data, "AD", "hippocampi", "coronal", 0.0)
    with pytest.raises(InputError, match="no ground truth of class 'DLB'"):
        shows_structure(data, "DLB", "midbrain", "coronal", 0.0)


def test_sides_are_stated_for_shown_slices() -> None:
    both = ("hippocampus", "hippocampus_left", "hippocampus_right", "medial_temporal")
    assert without_sides(both) == ("hippocampus", "medial_temporal")
    assert without_sides(both[:2]) == ("hippocampus_left",) and without_sides(("midbrain",)) == ("midbrain",)


def test_a_dicom_folder_is_converted_first(world: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """A simulated volume as an axial series: the same probabilities, and the sequence by its description."""
    _, path = volume_of(world[0])
    image: Any = nibabel.load(path)
    voxels, affine = np.asarray(image.dataobj), image.affine
    # columns of an axial series run to the left, rows to the back
    planes = (voxels - voxels.min())[::-1, ::-1].transpose(2, 1, 0)
    last = affine @ [voxels.shape[0] - 1, voxels.shape[1] - 1, 0, 1]
    phantom = Phantom(
        slices=planes.shape[0],
        rows=planes.shape[1],
        columns=planes.shape[2],
        origin=(-last[0], -last[1], last[2]),
        spacing=(affine[1, 1], affine[0, 0]),
        step=affine[2, 2],
    )
    phantom.data = planes[None].astype("<u2")
    folder = phantom.write(tmp_path / "series")
    found = explained(world[0] / "run", folder, values={"age": "70", "sex": "F"})
    by_file = explained(world[0] / "run", path, values={"age": "70", "sex": "F"})
    assert found.probabilities == pytest.approx(by_file.probabilities, abs=0.01)
    assert found.id == "series" and not any("gives the sequence" in note for note in found.warnings)
    other = Phantom(slices=5, rows=12, columns=12, seed=4, changes={"SeriesDescription": "t1 mprage again"})
    other.write(folder / "more")
    with pytest.raises(InputError, match="2 volumes, of which 2 are T1w"):
        explained(world[0] / "run", folder)
    phantom.changes = {"SeriesDescription": "AX T1 FLAIR"}
    phantom.write(tmp_path / "flair")
    with pytest.raises(InputError, match=r"flair: its description names FLAIR and T1w, which contradict each other"):
        explained(world[0] / "run", tmp_path / "flair")
    stated = explained(world[0] / "run", tmp_path / "flair", sequence="T1w", values={"age": "70", "sex": "F"})
    assert stated.probabilities == pytest.approx(found.probabilities, abs=1e-6)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "note.txt").write_text("no image")
    with pytest.raises(InputError, match="holds no DICOM file"):
        explained(world[0] / "run", tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sub-01_FLAIR.nii.gz", "is FLAIR: the model was trained on T1w (--sequence T1w takes the image for one)"),
        ("sub-01_part-phase_T1w.nii.gz", "a complex image by its name (part-phase)"),
        ("T1_FLAIR.nii.gz", "FLAIR and T1w, which contradict each other"),
        ("sub-01_desc-brain_mask.nii.gz", "a mask or label image by its name"),
    ],
)
def test_another_sequence_is_refused_and_can_be_overridden(
    name: str, message: str, world: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(world[0] / "run")
    image = tmp_path / name
    shutil.copy(volume_of(world[0])[1], image)
    assert main(["predict", run, str(image)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error and name in error
    assert main(["predict", run, str(image), "--sequence", "T1w", "--json"]) == 0
    assert "The sequence was given by the user: T1w (--sequence)." in json.loads(capsys.readouterr().out)["text"]
    assert main(["predict", run, str(image), "--sequence", "FLAIR"]) == 2
    assert "--sequence FLAIR: the model was trained on T1w" in capsys.readouterr().err
    assert main(["predict", run, str(image), "--sequence", "T1"]) == 2
    assert "did you mean 'T1w'" in capsys.readouterr().err


def test_of_an_anat_folder_only_the_sequence_of_the_run_is_predicted(
    world: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    for name in ("T1w", "FLAIR", "part-phase_T1w", "T2w"):
        shutil.copy(volume_of(world[0])[1], anat / f"sub-01_{name}.nii.gz")
    assert main(["predict", str(world[0] / "run"), str(anat), "--out", str(tmp_path / "pred")]) == 0
    assert [row["id"] for row in read_json(tmp_path / "pred" / "predictions.json")["scans"]] == ["sub-01_T1w"]
    with (tmp_path / "pred" / "rejected.csv").open(encoding="utf-8") as handle:
        assert len(list(csv.DictReader(handle))) == 3


def test_a_mask_is_refused_whatever_its_name(world: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    image: Any = nibabel.load(volume_of(world[0])[1])
    voxels = np.asarray(image.dataobj)
    nibabel.save(nibabel.Nifti1Image((voxels > 0).astype(np.uint8), image.affine), tmp_path / "brain.nii.gz")
    with pytest.raises(InputError, match=r"brain.nii.gz: a mask or label image: 2 different values"):
        explained(world[0] / "run", tmp_path / "brain.nii.gz", sequence="T1w")
