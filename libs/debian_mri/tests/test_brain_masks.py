"""Brain masks of heads: deepbet's networks (simulated), thresholds, the user's own files; records and reports."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brains import brain, prepared, save

import debian_mri.imaging.brain_extraction as extraction
import debian_mri.imaging.preprocess as preprocessing
from debian_mri.data.manifest import Scan
from debian_mri.data.qc import write_qc_page
from debian_mri.imaging.brain_extraction import BrainNetworks, deepbet_version, extract_brain
from debian_mri.imaging.masks import mask_file, read_mask, signal_mask, threshold_brain_mask
from debian_mri.imaging.nifti import RawVolume, read_volume
from debian_mri.imaging.preprocess import OTSU, STRIPPED, PreprocessConfig, mask_warnings, preprocess, preprocess_volume
from debian_mri.imaging.template import FIELD_OF_VIEW, template_on_grid
from debian_mri.imaging.volume_cache import cached_mask_source, cached_volume, load_volume, volume_key
from icube_common.errors import InputError

CONFIG = PreprocessConfig(spacing=4.0)
HEADS = (
    Path(os.environ.get("ICUBE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")) / "mri/oasis1_t1_2mm"
)
Array = np.ndarray[Any, Any]


def dice(one: Array, other: Array) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def head(spacing: float = 4.0, *, seed: int = 0) -> tuple[Array, Array]:
    """The brain of `brain` under dark bone with bridges of marrow, and 8 mm of bright scalp."""
    from scipy.ndimage import distance_transform_edt

    data, affine = brain(spacing, seed=seed)
    distance = distance_transform_edt(~template_on_grid(spacing).brain) * spacing
    bridges = (np.arange(len(data)) % 4 == 0)[:, None, None]
    data = np.where((distance > 0) & (distance <= 8) & bridges, 500, data)
    data = np.where((distance > 8) & (distance <= 16), 900, data)
    return data.astype(np.float32), affine


class Bright(torch.nn.Module):
    """Network that marks the tissue of `head`: neither background, fluid nor scalp."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        middle = (image - image.amin()) / (image.amax() - image.amin())
        inside = ((middle > 0.3) & (middle < 0.97)).float()
        return torch.cat([1 - inside, inside], dim=1)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> BrainNetworks:
    """Simulated networks in place of deepbet's."""
    simulated = BrainNetworks(Bright(), Bright())
    monkeypatch.setattr(extraction, "load_networks", lambda: simulated)
    monkeypatch.setattr(preprocessing, "deepbet_version", lambda: "0.test")
    return simulated


def test_thresholds_find_the_brain_with_its_ventricles() -> None:
    data, _ = head(2.0)
    template = template_on_grid(2.0)
    mask = threshold_brain_mask(data, 2.0, FIELD_OF_VIEW)
    assert dice(mask, template.brain) > 0.95
    assert dice(mask, template.brain) > dice(signal_mask(data), template.brain) + 0.1
    ventricle = (template.brain & (template.grey + template.white < 0.2))[38:47, 40:70, 38:50]
    assert ventricle.any() and mask[38:47, 40:70, 38:50][ventricle].mean() > 0.99
    empty = threshold_brain_mask(np.zeros_like(data), 2.0, FIELD_OF_VIEW)
    assert empty.any() and dice(empty, template.brain) < 0.9  # the middle of the template's brain alone


def test_head_or_brain() -> None:
    stripped = preprocess_volume(RawVolume(*brain()), CONFIG)
    assert stripped.mask_source == STRIPPED
    assert stripped.intracranial_ml == pytest.approx(stripped.mask.sum() * 64 / 1000)
    for method in ("auto", "otsu"):
        config = PreprocessConfig(spacing=4.0, mask=method)
        assert preprocess_volume(RawVolume(*brain()), config).mask_source == STRIPPED
    if deepbet_version() is None:
        assert preprocess_volume(RawVolume(*head()), CONFIG).mask_source == OTSU


def test_networks_read_a_head_in_any_orientation(networks: BrainNetworks) -> None:
    data, affine = head()
    mask = extract_brain(RawVolume(data, affine), networks)
    assert mask.shape == data.shape and dice(mask, template_on_grid(4.0).brain) > 0.9
    turned = np.ascontiguousarray(np.flip(data.transpose(1, 2, 0), 1))
    turn = np.zeros((4, 4))
    turn[1, 0], turn[2, 1], turn[0, 2], turn[3, 3], turn[2, 3] = 1, -1, 1, 1, data.shape[2] - 1
    again = extract_brain(RawVolume(turned, affine @ turn), networks)
    assert dice(np.flip(again, 1).transpose(2, 0, 1), mask) > 0.999


def test_deepbet_is_taken_where_it_is_installed(networks: BrainNetworks, tmp_path: Path) -> None:
    volume = RawVolume(*head())
    result = preprocess_volume(volume, CONFIG)
    assert result.mask_source == "deepbet 0.test"
    assert dice(result.mask, extract_brain(volume, networks)) > 0.97
    assert preprocess_volume(RawVolume(*brain()), CONFIG).mask_source == STRIPPED
    assert preprocess_volume(volume, PreprocessConfig(spacing=4.0, mask="otsu")).mask_source == OTSU
    native = PreprocessConfig(space="native", spacing=4.0)
    assert preprocess_volume(volume, native).mask_source == "deepbet 0.test"
    assert preprocess_volume(RawVolume(*brain()), native).mask_source == STRIPPED


def test_no_brain_is_one_line(networks: BrainNetworks) -> None:
    with pytest.raises(InputError, match="one intensity"):
        extract_brain(RawVolume(np.ones((20, 20, 20), np.float32), np.eye(4)), networks)

    class Nothing(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.zeros(1, 2, *image.shape[2:])

    with pytest.raises(InputError, match="no brain in the volume"):
        extract_brain(RawVolume(*head()), BrainNetworks(Nothing(), Nothing()))


def test_without_deepbet_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    extraction.load_networks.cache_clear()
    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(InputError, match=r"pip install 'debian-mri\[brain\]'"):
        preprocess_volume(RawVolume(*head()), PreprocessConfig(spacing=4.0, mask="deepbet"))


def test_other_networks_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in extraction.FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"other")

    class Distribution:
        def locate_file(self, name: str) -> Path:
            return tmp_path / name

    extraction.load_networks.cache_clear()
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    with pytest.raises(InputError, match=r"not the network of deepbet 1\.0\.2"):
        extraction.load_networks()


def test_a_users_mask_by_file_and_by_folder(tmp_path: Path) -> None:
    data, affine = head()
    scan = save(tmp_path / "sub-01_T1w.nii.gz", data, affine)
    masks = tmp_path / "masks" / "sub-01" / "anat"
    masks.mkdir(parents=True)
    # on a grid of its own
    half = template_on_grid(3.0)
    own = save(masks / "sub-01_space-x_desc-brain_mask.nii.gz", half.brain.astype(np.float32), half.affine)
    for place in (own, tmp_path / "masks"):
        result = preprocess(scan, PreprocessConfig(spacing=4.0, mask=str(place)))
        assert result.mask_source == "given" and dice(result.mask, template_on_grid(4.0).brain) > 0.95
    with pytest.raises(InputError, match="no mask of sub-02_T1w; name it sub-02_T1w_mask"):
        mask_file(tmp_path / "masks", Path("sub-02_T1w.nii.gz"))
    save(masks / "sub-01_T1w.nii.gz", half.brain.astype(np.float32), half.affine)
    assert mask_file(tmp_path / "masks", scan).name == "sub-01_T1w.nii.gz"
    save(masks / "sub-01_T1w_mask.nii.gz", half.brain.astype(np.float32), half.affine)
    with pytest.raises(InputError, match="2 masks"):
        mask_file(tmp_path / "masks", scan)
    with pytest.raises(InputError, match="must be auto, deepbet, otsu, or a file or folder"):
        preprocess(scan, PreprocessConfig(spacing=4.0, mask="deepbed"))
    empty = save(tmp_path / "empty.nii.gz", np.zeros((9, 9, 9), np.float32), np.eye(4))
    with pytest.raises(InputError, match="no mask: 3 axes, 0 voxels"):
        read_mask(empty)
    far = half.affine.copy()
    far[:3, 3] += 900
    away = save(tmp_path / "away.nii.gz", half.brain.astype(np.float32), far)
    with pytest.raises(InputError, match="does not overlap the volume"):
        preprocess(scan, PreprocessConfig(spacing=4.0, mask=str(away)))
    (tmp_path / "text.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as a mask"):
        read_mask(tmp_path / "text.nii.gz")


def test_source_of_the_mask_in_cache_and_page(tmp_path: Path, networks: BrainNetworks) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    save(folder / "head.nii.gz", *head())
    save(folder / "brain.nii.gz", *brain())
    scans = [Scan(id=name, subject=name, label="CN", paths=(f"{name}.nii.gz",)) for name in ("head", "brain")]
    manifest = prepared(folder, scans)
    path = cached_volume(manifest, scans[0], CONFIG)
    volume = load_volume(path)
    assert cached_mask_source(path) == volume.mask_source == "deepbet 0.test"
    assert volume.intracranial_ml == pytest.approx(volume.mask.sum() * 64 / 1000, abs=1)
    thresholds = PreprocessConfig(spacing=4.0, mask="otsu")
    assert cached_volume(manifest, scans[0], thresholds) != path
    write_qc_page(folder, tmp_path / "qc.html", CONFIG)
    html = (tmp_path / "qc.html").read_text(encoding="utf-8")
    assert "mask deepbet 0.test" in html and "mask stripped" in html


def test_the_cache_key_follows_deepbet_and_the_users_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = save(tmp_path / "a.nii.gz", *head())
    keys = set()
    for version in (None, "1.0.2"):
        monkeypatch.setattr(preprocessing, "deepbet_version", lambda version=version: version)
        keys.add(volume_key("x", scan, CONFIG))
    own = tmp_path / "mask.nii.gz"
    for spacing in (3.0, 4.0):
        template = template_on_grid(spacing)
        save(own, template.brain.astype(np.float32), template.affine)
        keys.add(volume_key("x", scan, PreprocessConfig(spacing=4.0, mask=str(own))))
    assert len(keys) == 4


def test_reports_name_masks_of_heads_only() -> None:
    assert mask_warnings([STRIPPED, "", STRIPPED]) == []
    assert mask_warnings(["deepbet 1.0.2", "deepbet 1.0.2"]) == ["Brain masks of heads: deepbet 1.0.2."]
    (line,) = mask_warnings(["deepbet 1.0.2", OTSU, STRIPPED])
    assert line.startswith("Brain masks of heads: deepbet 1.0.2 (1), otsu (1); thresholds lose")


@pytest.mark.real_data
def test_deepbet_on_real_heads() -> None:
    if deepbet_version() is None:
        pytest.skip("deepbet is not installed (extra 'brain')")
    if not HEADS.is_dir():
        pytest.skip(f"{HEADS} is not there (ICUBE_DATA names the folder with the data)")
    extraction.load_networks.cache_clear()
    for name in ("sub-0037", "sub-0260"):
        volume = read_volume(HEADS / f"{name}_T1w_jdac_2mm.nii.gz")
        brain_mask = extract_brain(volume)
        size = brain_mask.sum() * abs(np.linalg.det(volume.affine[:3, :3])) / 1000
        assert 1300 < size < 2300
        otsu = preprocess_volume(volume, PreprocessConfig(spacing=2.0, mask="otsu"))
        deepbet = preprocess_volume(volume, PreprocessConfig(spacing=2.0, mask="deepbet"))
        assert otsu.mask_source == OTSU and dice(otsu.mask, deepbet.mask) > 0.92


def test_a_users_package_named_data_is_imported(tmp_path: Path) -> None:
    """The folder ``data`` that deepbet installs beside the packages has no file of a package, and none is made."""
    import subprocess
    import sys

    installed = tmp_path / "installed" / "data" / "models"
    installed.mkdir(parents=True)
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "__init__.py").write_text("OWN = 1\n")
    code = "import data, debian_mri.imaging.brain_extraction; assert data.OWN == 1; import debian_mri.data.manifest"
    places = os.pathsep.join([str(tmp_path / "installed"), str(tmp_path / "mine"), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": places})
