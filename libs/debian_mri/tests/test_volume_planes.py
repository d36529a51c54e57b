"""Volumes by plane: sums over planes, evidence of slices from them, and tables that were changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from debian_mri import predict, train
from debian_mri.biomarkers.measurement import BiomarkerMeasurement
from debian_mri.biomarkers.volumes import VolumeTable
from debian_mri.biomarkers.volumes.atlas import Atlas, load_atlas
from debian_mri.biomarkers.volumes.planes import VolumePlanes
from debian_mri.biomarkers.volumes.regional import AtlasGrid, ScanVolumes, affine_scale, measure_regions
from debian_mri.biomarkers.volumes.scores import measure_table
from debian_mri.cli import main
from debian_mri.config import MriConfig
from debian_mri.data.dataset import to_tensors
from debian_mri.data.manifest import Manifest
from debian_mri.explanation.explain import contributions, explain_scan, probabilities_without_slices
from debian_mri.explanation.slice_attribution import attribute_to_slices, mask_slices
from debian_mri.explanation.verify import verify_files
from debian_mri.imaging.nifti import RawVolume
from debian_mri.imaging.preprocess import PreprocessConfig, preprocess_volume
from debian_mri.imaging.template import Grid, mni_grid, template_on_grid
from debian_mri.inference.scan_input import load_scan_input, scan_of_set
from debian_mri.models.mri_model import BIOMARKER, MriModel
from debian_mri.simulation.cohort import CohortConfig, simulate_cohort
from icube_common.config import load_config
from icube_common.errors import InputError

SPACING = 4.0
NAMES = ("hippocampal_volume_loss", "ventricular_enlargement")
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated cohorts at 4 mm, the names of the label map, and volumes of both."""
    folder = tmp_path_factory.mktemp("planes")
    for name, people, seed in (("data", 12, 3), ("others", 12, 4)):
        simulate_cohort(folder / name, CohortConfig(subjects=people, classes=["CN", "AD"], spacing=SPACING, seed=seed))
    structures = json.loads((folder / "data" / "truth" / "classes.json").read_text())["structures"]
    names = {"lateral_ventricles": "lateral_ventricle"}
    rows = [f"{one['number']};{names.get(name, name)}" for name, one in structures.items()]
    (folder / "names.csv").write_text("\n".join(["ROIid;ROIname", *rows]) + "\n")
    for name in ("data", "others"):
        words = ["--atlas", folder / "data" / "truth" / "structures.nii.gz", "--labels", folder / "names.csv"]
        words += ["--spacing", SPACING, "--out", folder / f"{name}.csv"]
        assert main(["volumes", str(folder / name), *map(str, words), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def atlas(place: Path) -> Atlas:
    return load_atlas(place / "data" / "truth" / "structures.nii.gz", place / "names.csv")


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    overrides = [
        "visual.enabled=false",
        "demographics.mode=linear",
        "demographics.columns=[age,sex]",
        "concepts.covariate_adjusted=true",
        f"concepts.volumes={place / 'data.csv'}",
        f"concepts.biomarkers=[{','.join(NAMES)}]",
        "preprocess.spacing=4",
        "slices.mode=even",
        "slices.planes=[coronal]",
        "slices.count=16",
        "calibration.folds=2",
        "train.max_steps=3",
        "train.device=cpu",
    ]
    train(load_config(MriConfig, overrides=overrides), place / "data", out=place / "run")
    return place / "run"


def regions(atlas: Atlas, shift: int = 0) -> ScanVolumes:
    """The template's brain, moved towards the front by some voxels."""
    template = template_on_grid(SPACING)
    image = np.roll(np.where(template.brain, 800 * template.t1, 0).astype(np.float32), shift, axis=1)
    volume = preprocess_volume(RawVolume(image, mni_grid(SPACING).affine), PreprocessConfig(spacing=SPACING))
    return measure_regions(volume, AtlasGrid(atlas, Grid(volume.data.shape, volume.affine)), scale=affine_scale(volume))


def middle(result: ScanVolumes, row: int, column: str) -> float:
    planes = result.planes[column][row]
    return float((planes * result.positions_mm).sum() / planes.sum())


def test_planes_sum_to_the_volume_and_lie_in_the_scan(atlas: Atlas) -> None:
    result, moved = regions(atlas), regions(atlas, 1)
    assert set(result.planes) == set(result.columns) - {"intracranial_volume"}
    for one in (result, moved):
        for column, planes in one.planes.items():
            assert planes[0].sum() == pytest.approx(one.columns[column], rel=1e-9)
    # the hippocampus lies 25 to 15 mm behind the origin; the moved one in the planes of the moved brain
    assert -35 < middle(result, 0, "hippocampus_left") < -15
    for row in (0, 1):
        step = middle(moved, row, "hippocampus_left") - middle(result, row, "hippocampus_left")
        assert step == pytest.approx(SPACING, abs=1.0)
    # of the template itself the profile is its own
    scan, own = result.planes["hippocampus_right"]
    np.testing.assert_allclose(scan / scan.sum(), own / own.sum(), atol=0.04)


def table_by_hand(**changes: Any) -> VolumeTable:
    """Hippocampi of 1, 2 and 3 mL in three planes on each side, 1500 mL of the skull."""
    ml = np.array([[[1.0, 2.0, 3.0, 0.0]] * 2])
    atlas_ml = np.array([[[2.0, 2.0, 1.0, 0.0]] * 2])
    names = ("hippocampus_left", "hippocampus_right")
    planes = VolumePlanes(
        ids=("a",), names=names, positions_mm=np.array([-30.0, -20.0, -10.0, 0.0]), ml=ml, atlas_ml=atlas_ml
    )
    options = {"values": np.array([[6.0, 6.0, 1500.0]]), "planes": planes, **changes}
    return VolumeTable(ids=("a",), names=(*names, "intracranial_volume"), sources=("simulated",), **options)


def test_shares_of_planes_by_hand() -> None:
    measured = measure_table(table_by_hand(), "a", ("hippocampal_volume_loss",))
    value = -np.log(12 / 1500)
    assert measured.values.tolist() == pytest.approx([value])
    expected = np.array([value - 0.5])
    # share of the atlas .4, .4, .2 of the difference .5, minus what the scan's own share exceeds it
    deviations = measured.deviations(expected)[0]
    np.testing.assert_allclose(deviations[:3], [0.2 + 0.4 - 1 / 6, 0.2 + 0.4 - 1 / 3, 0.1 + 0.2 - 0.5])
    assert np.isnan(deviations[3:]).all() and np.nansum(deviations) == pytest.approx(0.5)
    for plane in range(3):
        removed = np.arange(5) == plane
        left = measured.without(removed, expected)
        assert value - left[0] == pytest.approx(deviations[plane])
    assert np.isnan(measured.without(np.ones(5, dtype=bool), expected)).all()
    assert measured.without(np.zeros(5, dtype=bool), expected)[0] == pytest.approx(value)


def test_structures_without_planes_have_no_place() -> None:
    table = table_by_hand(planes=None)
    measured = measure_table(table, "a", ("hippocampal_volume_loss",))
    assert measured.weights is None and not measured.has_places
    by_plane = measure_table(table_by_hand(), "a", ("hippocampal_volume_loss", "third_ventricle_enlargement"))
    assert by_plane.has_places and np.isnan(by_plane.values[1])
    # slices that do not lie in MNI space
    assert not measure_table(table_by_hand(), "a", ("hippocampal_volume_loss",), by_plane=False).has_places


def test_slice_signs_are_means_as_before() -> None:
    measured = BiomarkerMeasurement(np.array([[1.0, 2.0, 6.0]]), np.array([0.0, 4.0, 8.0]), np.full(3, -1))
    assert measured.values.tolist() == [3.0]
    assert measured.without(np.array([False, False, True]), np.array([9.0])).tolist() == [1.5]
    assert measured.deviations(np.array([1.0])).tolist() == [[0.0, 1.0, 5.0]]


def test_tables_are_bound_to_their_planes(place: Path, tmp_path: Path) -> None:
    table = VolumeTable.read(place / "others.csv")
    assert table.planes is not None
    column = table.names.index("hippocampus_left")
    sums = table.planes.ml[:, table.planes.names.index("hippocampus_left")].sum(1)
    np.testing.assert_allclose(sums, table.values[:, column], rtol=1e-9)
    for name in ("csv", "json", "planes.npz"):
        shutil.copy(place / f"others.{name}", tmp_path / f"others.{name}")
    value = repr(float(table.values[0, column]))
    text = (tmp_path / "others.csv").read_text()
    assert text.count(value) == 1
    (tmp_path / "others.csv").write_text(text.replace(value, repr(1.01 * float(value))))
    with pytest.raises(InputError, match=r"others\.csv: sim4-0001: hippocampus_left is .*the sum of its planes"):
        VolumeTable.read(tmp_path / "others.csv")
    shutil.copy(place / "others.csv", tmp_path / "others.csv")
    changed = replace(table.planes, ml=table.planes.ml * np.linspace(0.9, 1.1, table.planes.ml.shape[2]))
    changed.write(tmp_path / "others.planes.npz", overwrite=True)
    with pytest.raises(InputError, match="table or planes were changed; measure the volumes again"):
        VolumeTable.read(tmp_path / "others.csv")
    (tmp_path / "others.planes.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"others\.planes\.npz: no volumes by plane .*measure the volumes again"):
        VolumeTable.read(tmp_path / "others.csv")
    fewer = replace(table.planes, ids=table.planes.ids[:1], ml=table.planes.ml[:1], atlas_ml=table.planes.atlas_ml[:1])
    with pytest.raises(InputError, match="planes are of other scans"):
        replace(table, planes=fewer)


def test_evidence_of_slices_is_that_of_the_volumes(place: Path, run: Path) -> None:
    model = MriModel.from_pretrained(run)
    model.use_volumes(place / "others.csv")
    manifest = Manifest.load(place / "others")
    source = scan_of_set(model, manifest, manifest.scans[1])
    one = load_scan_input(model, source)
    assert one.measured is not None and one.measured.weights is not None
    batch = to_tensors(one.inputs)
    evidence = attribute_to_slices(model, batch, one.infos, one.measured)
    terms = contributions(model, batch)
    whole = sum(v[0] for kind, v in zip(terms.kinds, terms.values, strict=True) if kind == BIOMARKER)
    np.testing.assert_allclose(evidence.values.sum(0) + evidence.unplaced, whole, atol=1e-5)
    # nothing of the structures lies far from the slices
    np.testing.assert_allclose(evidence.unplaced, 0, atol=1e-9)
    # without a slice the logits fall by its share: no score is clamped
    with torch.no_grad():
        before = model(batch)[0].double().numpy()
        for at in range(len(one.infos)):
            after = model(mask_slices(model, batch, one.infos, one.measured, [at]))[0].double().numpy()
            np.testing.assert_allclose(before - after, evidence.values[at], atol=2e-5)
        nothing = mask_slices(model, batch, one.infos, one.measured, range(len(one.infos)))
        assert nothing["biomarkers"].isnan().all()
    explanation = explain_scan(model, one)
    assert not any("whole structures" in line or "no slice is shown" in line for line in explanation.warnings)
    assert sum(part.weight for part in explanation.slices) == pytest.approx(1)
    shown = [part.position_mm for part in explanation.slices if part.weight > 0]
    assert shown and all(position is not None for position in shown)
    assert probabilities_without_slices(model, batch, one, [0]).sum() == pytest.approx(1)


def test_reports_are_verified_and_edited_ones_are_not(place: Path, run: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    scan = Manifest.load(place / "others").scans[1].id
    prediction = predict(run, data=place / "others", scan_id=scan, volumes=place / "others.csv", report=report)
    assert verify_files(report)["problems"] == {}
    value = json.loads(report.read_text())
    share = next(line for line in value["text"].splitlines() if "of the evidence" in line)
    digit = next(at for at in reversed(range(len(share))) if share[at].isdigit())
    edited = share[:digit] + str((int(share[digit]) + 1) % 10) + share[digit + 1 :]
    report.write_text(json.dumps({**value, "text": value["text"].replace(share, edited)}))
    assert verify_files(report)["problems"]
    # the recomputation finds a share that was moved from one slice to another
    slices = value["explanation"]["slices"]
    top = max(range(len(slices)), key=lambda at: slices[at]["weight"])
    low = min(range(len(slices)), key=lambda at: slices[at]["weight"])
    slices[top]["weight"], slices[low]["weight"] = slices[low]["weight"], slices[top]["weight"]
    report.write_text(json.dumps(value))
    assert verify_files(report)["problems"]
    assert prediction.explanation.deletion is not None


def test_explanations_of_volumes_are_evaluated(
    place: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate-explanations", str(run), "--data", str(place / "others"), "--out", str(tmp_path / "test")]
    words += ["--draws", "5", "--json"]
    assert main(words) == 2
    assert "--volumes TABLE" in capsys.readouterr().err
    assert main([*words, "--volumes", str(place / "others.csv")]) == 0
    result = json.loads(capsys.readouterr().out)
    # named slices lie at the hippocampus, and the margin falls by more without them than without random ones
    assert result["location"]["ratio"]["mean"] > 1.5
    assert result["deletion_logit"]["difference"]["mean"] > 0


def test_an_atlas_is_registered_to_the_scan_of_a_prediction(
    place: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Volumes measured with the prediction are those of the table, and the page shows their structures."""
    scan = Manifest.load(place / "others").scans[0].id
    atlas = ["--atlas", str(place / "data" / "truth" / "structures.nii.gz"), "--labels", str(place / "names.csv")]
    words = ["predict", str(run), "--data", str(place / "others"), "--id", scan, "--json"]
    page = tmp_path / "page.html"
    assert main([*words, *atlas, "--html", str(page)]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert main([*words, "--volumes", str(place / "others.csv")]) == 0
    of_table = json.loads(capsys.readouterr().out)
    assert measured["probabilities"] == pytest.approx(of_table["probabilities"], abs=1e-6)
    assert measured["text"] == of_table["text"]
    text = page.read_text()
    assert "an atlas registered to this scan" in text and len(text) < 8_000_000
    data = json.loads(text[text.index("{", text.index('id="viewer-data"')) : text.index("</script>")])
    assert {one["label"] for one in data["structures"]} == {"hippocampus", "lateral ventricle"}
    assert data["boxes"] == []
    out = tmp_path / "pred"
    image = place / "others" / Manifest.load(place / "others").scans[1].paths[0]
    many = ["predict", str(run), str(image), str(place / "others" / "nifti" / f"{scan}_T1w.nii.gz")]
    assert main([*many, *atlas, "--age", "70", "--sex", "F", "--out", str(out), "--pages", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scans"] == 2
    assert all("an atlas registered" in file.read_text() for file in (out / "pages").iterdir())


def test_atlases_that_do_not_fit_a_prediction(place: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", str(run), "--data", str(place / "others"), "--id", "sim4-0001"]
    assert main([*words, "--labels", str(place / "names.csv")]) == 2
    assert "go with --atlas ATLAS" in capsys.readouterr().err
    few = place / "few.csv"
    few.write_text("\n".join(line for line in (place / "names.csv").read_text().splitlines() if "hippo" not in line))
    labels = str(place / "data" / "truth" / "structures.nii.gz")
    other = place / "parcels.nii.gz"
    shutil.copy(labels, other)
    assert main([*words, "--atlas", str(other), "--labels", str(place / "names.csv")]) == 2
    assert "--atlas parcels: Volumes of structures by" in capsys.readouterr().err
