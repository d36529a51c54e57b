"""Regional volumes by registration: simulated brains with known volumes, atlases of any axis direction, one table."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brains import brain, save
from scipy.ndimage import distance_transform_edt

from debian_mri.biomarkers.volumes import VolumeTable
from debian_mri.biomarkers.volumes import atlas as atlases
from debian_mri.biomarkers.volumes.atlas import (
    Atlas,
    Region,
    column_of,
    fetch_atlas,
    find_atlas,
    load_atlas,
    read_regions,
)
from debian_mri.biomarkers.volumes.regional import (
    DISCLAIMERS,
    AtlasGrid,
    affine_scale,
    label_structures,
    measure_regions,
    register_to_atlas,
)
from debian_mri.cli import main
from debian_mri.imaging.nifti import RawVolume
from debian_mri.imaging.preprocess import OTSU, PreprocessConfig, preprocess_volume
from debian_mri.imaging.registration import (
    invert_deformation,
    jacobian_determinant,
    map_levels,
    register_deformable,
    tissue_levels,
)
from debian_mri.imaging.template import Grid, mni_grid, template_on_grid
from debian_mri.simulation.cohort import CohortConfig, simulate_brain, simulate_cohort
from debian_mri.simulation.effects import STRUCTURES, Person
from debian_mri.simulation.scanner import make_sites
from icube_common.errors import InputError

SPACING = 3.0
NAMES = {"lateral_ventricles": "lateral_ventricle"}
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated cohort at 3 mm with its label map, and a table of its names."""
    folder = tmp_path_factory.mktemp("regional") / "cohort"
    simulate_cohort(folder, CohortConfig(subjects=4, classes=["CN", "AD"], spacing=SPACING, seed=5))
    structures = json.loads((folder / "truth" / "classes.json").read_text())["structures"]
    rows = [f"{one['number']};{NAMES.get(name, name)}" for name, one in structures.items()]
    (folder / "names.csv").write_text("\n".join(["ROIid;ROIname", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def atlas(truth: Path) -> Atlas:
    return load_atlas(truth / "truth" / "structures.nii.gz", truth / "names.csv")


def person(**changes: float) -> Person:
    whole = {name: changes.get(name, 0.0) for name in STRUCTURES}
    return Person(label="CN", age=70, sex="F", education=12, mmse=29, severity=1, head=1.0, changes=whole, disease={})


def measured(
    atlas: Atlas, seed: int = 0, spacing: float = SPACING, **changes: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Columns of a simulated brain, and its true volumes."""
    data, true = simulate_brain(person(**changes), make_sites(1)[0], spacing, np.random.default_rng(seed))
    volume = preprocess_volume(
        RawVolume(data.astype(np.float32), mni_grid(spacing).affine), PreprocessConfig(spacing=spacing)
    )
    grid = AtlasGrid(atlas, Grid(volume.data.shape, volume.affine))
    return dict(measure_regions(volume, grid, scale=affine_scale(volume)).columns), true


def both(columns: dict[str, float], name: str) -> float:
    return columns[f"{name}_left"] + columns[f"{name}_right"]


def test_jacobian_determinant_by_hand() -> None:
    """x stretched by 1.5, y by 0.8, z sheared along x: the determinant is 1.2 everywhere."""
    x, y, z = np.meshgrid(*(2.0 * np.arange(6) for _ in range(3)), indexing="ij")
    field = np.stack([0.5 * x + 0.3 * z, -0.2 * y, np.zeros_like(z)]).astype(np.float32)
    np.testing.assert_allclose(jacobian_determinant(field, 2.0), 1.2, rtol=1e-5)


def test_levels_of_three_tissues() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(level, 4, 500) for level in (100, 200, 300)]).astype(np.float32)
    np.testing.assert_allclose(tissue_levels(values), [100, 200, 300], atol=2)
    mapped = map_levels(values[:, None, None], np.ones((1500, 1, 1), bool), np.array([0.3, 0.6, 0.9]))
    np.testing.assert_allclose(tissue_levels(mapped.ravel()), [0.3, 0.6, 0.9], atol=0.01)
    with pytest.raises(InputError, match="no contrast between fluid, grey and white matter"):
        tissue_levels(np.full(100, 7, np.float32))


def test_a_brain_is_registered_to_itself_and_to_a_shifted_one() -> None:
    template = template_on_grid(SPACING)
    image = np.where(template.brain, template.t1, 0).astype(np.float32)
    same = register_deformable(image, template.brain, image, template.brain, template.affine)
    assert np.abs(same.displacement[:, template.brain]).max() < 0.3 and same.correlation > 0.99
    assert same.jacobian_range[0] > 0.9 and same.jacobian_range[1] < 1.1
    # the brain lies one voxel to the right of the template
    moved = np.roll(image, 1, axis=0)
    result = register_deformable(moved, np.roll(template.brain, 1, 0), image, template.brain, template.affine)
    inner = template.white > 0.9
    assert np.median(result.displacement[0][inner]) == pytest.approx(SPACING, abs=0.5)
    assert abs(np.median(result.displacement[1][inner])) < 0.3
    again = register_deformable(moved, np.roll(template.brain, 1, 0), image, template.brain, template.affine)
    assert np.array_equal(again.displacement, result.displacement)


def test_the_inverse_of_a_deformation() -> None:
    """A shift of 3 mm along x and a stretch along z: each voxel's point in the template by hand."""
    shape = (24, 20, 22)
    z = 2.0 * np.arange(shape[2], dtype=np.float32) - 22
    field = np.zeros((3, *shape), dtype=np.float32)
    field[0] = 3.0
    field[2] = 0.5 * z
    inside = np.zeros(shape, dtype=bool)
    inside[6:18, 6:14, 7:15] = True
    points, error = invert_deformation(field, 2.0, inside)
    voxels = np.stack(np.nonzero(inside))
    np.testing.assert_allclose(points[0], voxels[0] - 1.5, atol=1e-3)
    np.testing.assert_allclose(points[1], voxels[1], atol=1e-3)
    np.testing.assert_allclose(points[2], 11 + (voxels[2] - 11) / 1.5, atol=1e-3)
    assert error.max() < 1e-3


def test_labels_of_the_scan_have_the_measured_volumes(atlas: Atlas) -> None:
    """Voxels of a structure have about its volume, and lie where the brain was moved to."""
    data, _ = simulate_brain(person(lateral_ventricles=0.5), make_sites(1)[0], SPACING, np.random.default_rng(2))
    raw = RawVolume(np.roll(data.astype(np.float32), 2, axis=0), mni_grid(SPACING).affine)
    volume = preprocess_volume(raw, PreprocessConfig(spacing=SPACING))
    grid = AtlasGrid(atlas, Grid(volume.data.shape, volume.affine))
    deformation = register_to_atlas(volume, grid)
    columns = measure_regions(volume, grid, scale=affine_scale(volume), deformation=deformation).columns
    names = ("lateral_ventricle_left", "lateral_ventricle_right", "hippocampus_left", "third_ventricle")
    result = label_structures(volume, grid, deformation, names)
    assert result.names == names[:3] and result.citations[:-1] == atlas.citations
    for number, name in enumerate(result.names, 1):
        drawn = (result.labels == number).sum() * SPACING**3 / 1000 / affine_scale(volume)
        assert drawn == pytest.approx(columns[name], rel=0.35)
    x = np.argwhere(result.labels == 2).mean(0)[0] * SPACING + volume.affine[0, 3]
    left = np.argwhere(result.labels == 1).mean(0)[0] * SPACING + volume.affine[0, 3]
    # the template's are at about 13 mm on each side of the midline, which lies at 6 mm here
    assert 10 < x < 28 and -16 < left < 2


def test_known_changes_are_measured(atlas: Atlas) -> None:
    """Changes come out smaller than they are, that of the ventricles by less, and in no other structure."""
    plain, true_plain = measured(atlas, spacing=2.0)
    shrunk, true_shrunk = measured(atlas, spacing=2.0, hippocampus=-0.35)
    wide, true_wide = measured(atlas, spacing=2.0, lateral_ventricles=0.5)
    assert both(plain, "hippocampus") == pytest.approx(true_plain["hippocampus"], rel=0.2)
    assert both(plain, "lateral_ventricle") == pytest.approx(true_plain["lateral_ventricles"], rel=0.3)

    def change(columns: dict[str, float], name: str) -> float:
        return float(np.log(both(columns, name) / both(plain, name)))

    true = float(np.log(true_shrunk["hippocampus"] / true_plain["hippocampus"]))
    assert 0.35 < change(shrunk, "hippocampus") / true < 1.1
    true = float(np.log(true_wide["lateral_ventricles"] / true_plain["lateral_ventricles"]))
    assert 0.6 < change(wide, "lateral_ventricle") / true < 1.1
    assert abs(change(shrunk, "lateral_ventricle")) < 0.1 and abs(change(wide, "hippocampus")) < 0.1
    assert plain["intracranial_volume"] == pytest.approx(true_plain["brain"], rel=0.1)


def mirrored(folder: Path, atlas: Atlas, *, flip: bool) -> Path:
    """The label map with x running the other way in the file, or (flip) the anatomy exchanged as well."""
    labels = atlas.labels.astype(np.float32)
    right = np.zeros(labels.shape, dtype=bool)
    right[labels.shape[0] // 2 :] = True
    two = np.where((labels == 1) & right, 12, np.where(labels == 1, 11, 0)).astype(np.float32)
    affine = atlas.affine.copy()
    if not flip:
        affine[0, 3] += affine[0, 0] * (labels.shape[0] - 1)
        affine[0, 0] *= -1
    return save(folder / f"{'flipped' if flip else 'reversed'}.nii.gz", two[::-1], affine)


def test_left_and_right_follow_the_affine(atlas: Atlas, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("id,name\n11,Left Hippocampus\n12,Right Hippocampus\n")
    two = load_atlas(mirrored(tmp_path, atlas, flip=False), tmp_path / "two.csv")
    columns, _ = measured(two)
    whole, _ = measured(atlas)
    for side in ("left", "right"):
        assert columns[f"hippocampus_{side}"] == pytest.approx(whole[f"hippocampus_{side}"], rel=0.02)
    # the left is the left: the template's own label lies at negative x
    grid = mni_grid(SPACING)
    share = two.share(two.regions[0], grid)
    assert two.regions[0].side == "left" and share[: share.shape[0] // 2].sum() > 0.95 * share.sum()
    with pytest.raises(InputError, match=r"lies at x = .*mirrored"):
        load_atlas(mirrored(tmp_path, atlas, flip=True), tmp_path / "two.csv")


def test_levels_do_not_depend_on_the_fluid_of_the_mask() -> None:
    """Without the fluid around the brain the darkest class is grey matter, unless voxels of tissue are named."""
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(level, 9, 900) for level in (100, 200, 300)]).astype(np.float32)
    data, everything = values[:, None, None], np.ones((2700, 1, 1), bool)
    mask = everything.copy()
    mask[:890] = False
    levels = np.array([0.3, 0.6, 0.9])
    right, wrong = (map_levels(data, mask, levels, tissue)[900:1800].mean() for tissue in (everything, None))
    assert right == pytest.approx(0.6, abs=0.01) and abs(wrong - 0.6) > 0.05


def test_volumes_with_a_mask_that_loses_fluid(atlas: Atlas) -> None:
    """The fallback mask ends at the tissue: volumes are nearly those of the whole brain, fluid around it."""
    data, _ = simulate_brain(person(), make_sites(1)[0], SPACING, np.random.default_rng(4))
    raw = RawVolume(data.astype(np.float32), mni_grid(SPACING).affine)
    volume = preprocess_volume(raw, PreprocessConfig(spacing=SPACING))
    grid = AtlasGrid(atlas, Grid(volume.data.shape, volume.affine))
    fluid, grey, _ = tissue_levels(volume.data[volume.mask])
    volume = volume._replace(data=np.where(volume.mask, volume.data, fluid).astype(np.float32))
    inner = distance_transform_edt(volume.mask) * SPACING > 12
    tight = volume.mask & (inner | (volume.data > (fluid + grey) / 2))
    assert tight.sum() < 0.95 * volume.mask.sum()
    whole, fallback, other = (
        measure_regions(one, grid, scale=affine_scale(volume)).columns
        for one in (volume, volume._replace(mask=tight, mask_source=OTSU), volume._replace(mask=tight))
    )

    def apart(columns: dict[str, float]) -> float:
        return float(abs(np.log(both(columns, "lateral_ventricle") / both(dict(whole), "lateral_ventricle"))))

    assert apart(dict(fallback)) < 0.02 < apart(dict(other))


def test_a_template_of_tissue_maps(atlas: Atlas, truth: Path, tmp_path: Path) -> None:
    template = template_on_grid(2.0)
    maps = np.stack([template.grey, template.white], axis=-1)
    path = save(tmp_path / "maps.nii.gz", maps, template.affine)
    other = load_atlas(truth / "truth" / "structures.nii.gz", truth / "names.csv", path)
    one, two = (measured(each)[0] for each in (atlas, other))
    assert both(two, "hippocampus") == pytest.approx(both(one, "hippocampus"), rel=0.15)
    assert not any("ICBM152" in line for line in other.citations)


@pytest.mark.parametrize(
    ("name", "side", "column"),
    [
        ("Right Hippocampus", "right", "hippocampus_right"),
        ("Left Inf Lat Vent", "left", "inferior_lateral_ventricle_left"),
        ("3rd Ventricle", "", "third_ventricle"),
        ("hippocampus", "", "hippocampus"),
        ("hippocampus", "left", "hippocampus_left"),
        ("Left PHG parahippocampal gyrus", "left", "parahippocampal_gyrus_left"),
        ("Optic Chiasm", "", ""),
    ],
)
def test_columns_of_regions(name: str, side: str, column: str) -> None:
    assert column_of(Region(number=1, name=name, side=side)) == column


def test_tables_of_names(tmp_path: Path) -> None:
    table = tmp_path / "names.csv"
    table.write_text("index\tname\themisphere\n1\tLeft Basal Forebrain\tright\n2\tputamen\tright\n3\tVermis\tboth\n")
    # a name's own side is trusted before the column's: published tables contradict themselves
    assert [region.side for region in read_regions(table)] == ["left", "right", ""]
    for text, message in (
        ("id,what\n1,a\n", "no column of names"),
        ("name\na\n", "no column of numbers"),
        ("id,name\nx,a\n", "line 2: 'x' is no number of a region"),
        ("", "no column of numbers"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=message):
            read_regions(table)


def test_atlases_that_cannot_be_used(atlas: Atlas, truth: Path, tmp_path: Path) -> None:
    names = truth / "names.csv"
    data, affine = brain(4.0)
    with pytest.raises(InputError, match="is no label map"):
        load_atlas(save(tmp_path / "t1.nii.gz", data, affine), names)
    with pytest.raises(InputError, match="none of its numbers is in"):
        load_atlas(save(tmp_path / "none.nii.gz", np.where(data > 0, 99, 0).astype(np.float32), affine), names)
    with pytest.raises(InputError, match="no such file"):
        load_atlas(tmp_path / "absent.nii.gz", names)
    (tmp_path / "text.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read"):
        load_atlas(tmp_path / "text.nii.gz", names)
    c, s = np.cos(0.2), np.sin(0.2)
    oblique = affine @ np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(InputError, match="oblique"):
        load_atlas(save(tmp_path / "oblique.nii.gz", np.ones_like(data), oblique), names)
    far = replace(atlas, affine=atlas.affine + np.array([[0, 0, 0, 900.0]] * 3 + [[0, 0, 0, 0]]))
    with pytest.raises(InputError, match="none of its regions lies in the volumes' field of view"):
        AtlasGrid(far, mni_grid(SPACING))


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_table_of_a_set(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "volumes.csv"
    labels = truth / "truth" / "structures.nii.gz"
    words = ("volumes", truth, "--atlas", labels, "--labels", truth / "names.csv", "--spacing", "3", "--out", out)
    code, printed, error = run(capsys, *words)
    assert code == 0, error
    assert "4 scans" in printed and DISCLAIMERS[0] in printed and "licence and citations" in printed
    table = VolumeTable.read(out)
    assert len(table.ids) == 4 and table.disclaimers == DISCLAIMERS
    assert {"hippocampus_left", "lateral_ventricle_right", "intracranial_volume"} <= set(table.names)
    first = json.loads((truth / "truth" / f"{table.ids[0]}.json").read_text())["volumes_ml"]
    assert table.column("lateral_ventricle")[0] == pytest.approx(first["lateral_ventricles"], rel=0.35)
    quality = table.quality[0]
    assert float(quality["registration_correlation"]) > 0.85 and float(quality["jacobian_min"]) > 0
    assert quality["mask"] == "stripped" and quality["quality"] == "ok"
    assert 0.05 < float(quality["evans_like_index"]) < 0.6
    ratio = table.values[0, table.names.index("hippocampus_left")] / table.column("intracranial_volume")[0]
    assert float(quality["hippocampus_left_per_icv"]) == pytest.approx(ratio, rel=1e-4)
    rows = (tmp_path / "volumes.regions.csv").read_text().splitlines()
    assert rows[0].startswith("id,region,side,tissue_ml,fluid_ml") and len(rows) == 1 + 4 * 10
    assert json.loads(out.with_suffix(".json").read_text())["citations"][-1].startswith("Registration: diffeomorphic")
    code, _, error = run(capsys, *words)
    assert code == 2 and "exists" in error
    code, _, error = run(capsys, "volumes", truth, "--atlas", labels, "--out", tmp_path / "x.csv")
    assert code == 2 and "--labels LABELS.csv" in error


def test_a_scan_without_contrast_is_named(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, affine = brain(4.0)
    flat = save(tmp_path / "flat.nii.gz", np.where(data > 0, 500, 0).astype(np.float32), affine)
    labels = truth / "truth" / "structures.nii.gz"
    words = ("--atlas", labels, "--labels", truth / "names.csv", "--registration", "none", "--spacing", "4")
    code, _, error = run(capsys, "volumes", flat, *words, "--out", tmp_path / "x.csv")
    assert (
        code == 2 and "flat.nii.gz: all of the brain has one intensity" in error and not (tmp_path / "x.csv").exists()
    )


def fake_pip(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], code: int = 0) -> None:
    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command
        if not code:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "deepmriprep-0.3.0-py3-none-any.whl", "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
        return subprocess.CompletedProcess(command, code, "", "ERROR: No matching distribution found")

    monkeypatch.setattr(subprocess, "run", pip)


def test_an_atlas_is_taken_out_of_its_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "neuromorphometrics"
    known = atlases.ATLASES[name]
    content = {member: file.encode() for file, member in known.members.items()}
    fake_pip(monkeypatch, content)
    with pytest.raises(InputError, match="SHA-256 differs"):
        fetch_atlas(name, tmp_path)
    hashes = {file: hashlib.sha256(file.encode()).hexdigest() for file in known.members}
    monkeypatch.setattr(atlases, "ATLASES", {name: replace(known, digests=hashes)})
    monkeypatch.setenv("ICUBE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="debian-mri atlas --fetch neuromorphometrics"):
        find_atlas(name)
    code, printed, _ = run(capsys, "atlas", "--fetch", name)
    assert code == 0 and "CC BY-NC" in printed and "OASIS" in printed
    fake_pip(monkeypatch, {}, code=1)
    assert fetch_atlas(name) == find_atlas(name), "files that are there are not fetched again"
    code, _, error = run(capsys, "atlas", "--fetch", name, "--folder", tmp_path / "other")
    assert code == 2 and "--atlas, --labels and --template" in error
    code, _, error = run(capsys, "atlas", "--fetch", "neuromorphometric")
    assert code == 2 and "did you mean 'neuromorphometrics'" in error
