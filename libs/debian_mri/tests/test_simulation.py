"""Simulated cohorts: determinism, volumes that change as declared, truth, and the quality page of it all."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from brains import brain, prepared, save
from PIL import Image

from debian_mri.cli import main
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.data.qc import robust_z, write_qc_page
from debian_mri.imaging.preprocess import PreprocessConfig
from debian_mri.simulation import CohortConfig, shows_change, simulate_cohort
from debian_mri.simulation.cohort import assign_classes_and_sites, simulate_brain
from debian_mri.simulation.deformation import COARSE, coarse_mask, displacement, random_field, volumes
from debian_mri.simulation.effects import CLASSES, STRUCTURES, sample_person
from debian_mri.simulation.scanner import make_sites
from icube_common.errors import InputError


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    for name in ("icube_common", "debian_mri"):
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "data"
    simulate_cohort(out, CohortConfig(subjects=8, spacing=6.0, seed=3))
    return out


@pytest.mark.parametrize("label", [name for name in CLASSES if name != "CN"])
def test_volumes_change_as_declared(label: str) -> None:
    declared = CLASSES[label]
    normal, changed = volumes(displacement({})), volumes(displacement(declared))
    for name in STRUCTURES:
        found = np.log(changed[name] / normal[name])
        # to first order only, and as far as 3 mm resolve it
        assert found == pytest.approx(declared.get(name, 0.0), abs=0.02 + 0.35 * abs(declared.get(name, 0.0))), name


def jacobian(field: np.ndarray) -> np.ndarray:
    """Jacobian determinant of ``x + field(x)``: template volume per brain volume."""
    derivative = np.stack([np.stack(np.gradient(part, COARSE)) for part in field])
    derivative += np.eye(3, dtype=np.float32)[:, :, None, None, None]
    return np.linalg.det(np.moveaxis(derivative, (0, 1), (-2, -1)))


def test_the_hippocampus_is_smaller_in_ad_than_in_a_control_of_the_same_seed() -> None:
    ratios = []
    for seed in range(4):
        fields = []
        for label in ("CN", "AD"):
            generator = np.random.default_rng(seed)
            person = sample_person(label, generator)
            fields.append(displacement(person.changes, random_field(generator)))
        mask = coarse_mask("hippocampus")
        # template volume per volume of the brain, where the hippocampus is
        grown = [float((jacobian(field) * mask).sum() / mask.sum()) for field in fields]
        ratios.append(volumes(fields[1])["hippocampus"] / volumes(fields[0])["hippocampus"])
        assert grown[1] > grown[0]
        assert all(jacobian(field).min() > 0 for field in fields), "a deformation folds"
    assert min(ratios) > 0.5 and max(ratios) < 0.85


def test_no_effect_gives_the_template() -> None:
    assert not displacement({}).any()
    assert volumes(displacement({}), head=1.1)["brain"] == pytest.approx(1.331 * volumes(displacement({}))["brain"])


def test_one_seed_one_brain() -> None:
    def made(seed: int) -> Any:
        generator = np.random.default_rng(seed)
        return simulate_brain(sample_person("DLB", generator), make_sites(2)[1], 6.0, generator)[0]

    np.testing.assert_array_equal(made(5), made(5))
    assert (made(5) != made(6)).mean() > 0.1


def test_a_cohort_is_a_prepared_set(cohort: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(cohort)
    assert manifest.simulated and manifest.description["title"].startswith("Simulated brains")
    assert manifest.description["space"] == "mni" and manifest.class_names == ("CN", "AD", "DLB", "PD")
    assert manifest.targets().tolist() == [0, 1, 2, 3] * 2
    people = manifest.participants()
    tiers = {column.name: column.leakage_tier for column in people.columns}
    assert [tiers[name] for name in ("age", "sex", "education", "MMSE")] == ["A", "A", "A", "C"]
    with pytest.raises(InputError, match="MMSE"):
        people.select(["age", "MMSE"])
    again = simulate_cohort(tmp_path / "again", CohortConfig(subjects=8, spacing=6.0, seed=3))
    assert again.fingerprint == manifest.fingerprint
    image = nibabel.load(manifest.paths_of(manifest.scans[0])[0])
    assert image.get_data_dtype() == np.int16 and int(image.header["sform_code"]) == 4


def test_sites_are_associated_with_the_class_only_on_request(cohort: Path) -> None:
    def pairs(confound: bool) -> set[tuple[str, int]]:
        return set(
            zip(
                *assign_classes_and_sites(CohortConfig(subjects=8, classes=["CN", "AD"], confound_sites=confound)),
                strict=True,
            )
        )

    assert pairs(False) == {("CN", 0), ("CN", 1), ("AD", 0), ("AD", 1)}
    assert pairs(True) == {("CN", 0), ("AD", 1)}
    assert {(scan.label, scan.site) for scan in Manifest.load(cohort).scans} == {
        (label, site) for label in ("CN", "AD", "DLB", "PD") for site in ("site-1", "site-2")
    }


def test_the_truth_is_kept(cohort: Path) -> None:
    one = json.loads((cohort / "truth" / "sim3-0002.json").read_text())
    assert one["simulated"] and one["label"] == "AD" and "hippocampus" in one["changed"]
    disease, severity = one["of_which_disease"]["hippocampus"], one["severity"]
    assert disease == pytest.approx(severity * CLASSES["AD"]["hippocampus"], abs=1e-4)
    # planes through the hippocampus and away from everything that AD changes
    assert shows_change(cohort, "AD", "coronal", -22.0) and not shows_change(cohort, "AD", "coronal", 60.0)
    assert not shows_change(cohort, "CN", "coronal", -22.0)
    with pytest.raises(InputError, match="no ground truth of class 'XY'"):
        shows_change(cohort, "XY", "axial", 0.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"classes": ["CN", "Ad"]}, "did you mean 'AD'"),
        ({"classes": ["CN"]}, "at least two"),
        ({"subjects": 3}, "at least one for each of 4 classes"),
        ({"spacing": 0.5}, "spacing=0.5"),
    ],
)
def test_cohorts_out_of_range(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        CohortConfig(**values)


def test_robust_z_by_hand() -> None:
    # median 3, absolute deviations 2 1 0 1 97, their median 1
    column = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    values = np.stack([column, column, np.ones(5), np.ones(5), np.ones(5)], axis=1)
    scores = robust_z(values, ["a"] * 5)
    np.testing.assert_allclose(scores[:, 0], np.array([2, 1, 0, 0, 0]) / 1.4826)
    np.testing.assert_allclose(scores[:, 1], np.array([2, 1, 0, 1, 97]) / 1.4826)
    assert not scores[:, 2:].any()


def test_the_quality_page_puts_the_odd_one_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    scans = []
    for number in range(1, 13):
        voxels, affine = brain(6.0, seed=number)
        # the fifth lies upside down
        save(data / f"{number}.nii.gz", voxels[:, :, ::-1].copy() if number == 5 else voxels, affine)
        name = f"sim-{number:04d}"
        scans.append(Scan(id=name, subject=name, label="CN", paths=(f"{number}.nii.gz",), sha256=f"{number:064x}"))
    prepared(data, scans)
    (data / "7.nii.gz").write_bytes(b"broken")
    page = tmp_path / "qc.html"
    assert main(["qc", str(data), "--out", str(page), "--spacing", "6", "--json", "--quiet"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert next(iter(answer["most_outlying"])) == "sim-0005" and answer["rejected"] == 1 and answer["scans"] == 11
    html = page.read_text()
    assert "For research, not for clinical use." in html and answer["marked"] == 1
    assert html.index("<h3>sim-0005") < html.index("<h3>sim-0001")
    assert "sim-0007" in html and "damaged" in html and "http" not in html.replace("http-equiv", "")
    assert main(["qc", str(data), "--out", str(page)]) == 2 and "--overwrite" in capsys.readouterr().err


def test_the_quality_page_of_slice_images(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    generator = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    scans = []
    for number in range(6):
        disc = (x**2 + y**2 < 0.5) * 180 + generator.normal(0, 5, x.shape) + 20
        picture = disc if number != 3 else 255 - disc
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(data / f"{number}.png")
        scans.append(
            Scan(
                id=f"s{number}",
                subject=f"s{number}",
                label="CN",
                kind="slices",
                paths=(f"{number}.png",),
                planes=("axial",),
            )
        )
    prepared(data, scans)
    answer = write_qc_page(data, tmp_path / "qc.html", PreprocessConfig())
    assert next(iter(answer["most_outlying"])) == "s3" and answer["marked"] >= 1


def test_the_command_simulates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data"
    words = [
        "simulate",
        "--subjects",
        "4",
        "--classes",
        "CN,MCI",
        "--spacing",
        "8",
        "--out",
        str(out),
        "--json",
        "--quiet",
    ]
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["classes"] == {"CN": 2, "MCI": 2} and "clinical" in answer["notice"]
    assert main(words) == 2 and "exists already" in capsys.readouterr().err
