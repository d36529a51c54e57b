"""Preprocessing: orientation, world coordinates, normalisation, registration, refusals, the cache."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from brains import brain, index_of, one_scan, prepared, save

import debian_mri.imaging.volume_cache
from debian_mri.data.manifest import Scan
from debian_mri.imaging.masks import signal_mask
from debian_mri.imaging.nifti import RawVolume, read_volume
from debian_mri.imaging.preprocess import PreprocessConfig, preprocess, preprocess_volume
from debian_mri.imaging.registration import register_affine
from debian_mri.imaging.template import load_template, mni_grid
from debian_mri.imaging.volume_cache import cached_volume, load_volume, preprocess_all
from icube_common.errors import InputError

COARSE = PreprocessConfig(spacing=4.0)


def test_the_grid_is_that_of_clinicadl_at_one_millimetre() -> None:
    assert mni_grid(1.0).shape == (169, 208, 179)
    assert mni_grid(2.0).shape == (85, 104, 90)
    for spacing in (1.0, 2.0, 3.0):
        grid = mni_grid(spacing)
        middle = grid.affine @ [*((np.array(grid.shape) - 1) / 2), 1]
        np.testing.assert_allclose(middle[:3], (0, -16.5, 5))


def test_axes_that_are_flipped_and_permuted_give_the_same_volume(tmp_path: Path) -> None:
    data, affine = brain()
    straight = preprocess(save(tmp_path / "a.nii.gz", data, affine), COARSE)
    for axes, flips in (((1, 2, 0), (0, 2)), ((2, 0, 1), (1,)), ((0, 1, 2), (0, 1, 2))):
        turn = np.zeros((4, 4))
        turn[3, 3] = 1
        for new, old in enumerate(axes):
            turn[old, new] = -1 if new in flips else 1
            turn[old, 3] = data.shape[old] - 1 if new in flips else 0
        other = np.flip(data.transpose(axes), flips)
        again = preprocess(save(tmp_path / "b.nii.gz", other, affine @ turn), COARSE)
        np.testing.assert_allclose(again.data, straight.data, atol=2e-3)
        np.testing.assert_allclose(again.affine, straight.affine)


def test_a_landmark_stays_at_its_millimetre() -> None:
    spot = (-30.0, -24.0, -12.0)
    data, affine = brain(2.0)
    data[index_of(spot, 2.0)] = 9000
    # voxels of another size, axes tilted, in the same world
    config = PreprocessConfig(spacing=1.5)
    found = preprocess_volume(RawVolume(data, affine), config)
    peak = np.unravel_index(found.data.argmax(), found.data.shape)
    where = (found.affine @ [*peak, 1])[:3]
    actual = (affine @ [*index_of(spot, 2.0), 1])[:3]
    assert np.abs(where - actual).max() <= 0.75 + 1e-6


def test_scores_have_mean_0_and_deviation_1_inside_the_mask() -> None:
    found = preprocess_volume(RawVolume(*brain()), COARSE)
    inside = found.data[found.mask]
    assert inside.mean() == pytest.approx(0, abs=1e-3) and inside.std() == pytest.approx(1, abs=1e-3)
    brain_volume = (load_template().brain).sum() / 1000
    assert found.mask.sum() * 64 / 1000 == pytest.approx(brain_volume, rel=0.1)
    plain = preprocess_volume(RawVolume(*brain()), PreprocessConfig(spacing=4.0, normalise="none"))
    np.testing.assert_allclose(plain.data, brain()[0], atol=1e-2)


def test_native_space_is_cropped_around_the_brain() -> None:
    data, affine = brain()
    far = affine.copy()
    far[:3, 3] += 300
    found = preprocess_volume(RawVolume(data, far), PreprocessConfig(space="native", spacing=4.0))
    assert found.data.shape == mni_grid(4.0).shape
    middle = np.argwhere(found.mask).mean(0) * 4 + found.affine[:3, 3]
    np.testing.assert_allclose(middle, np.argwhere(signal_mask(data)).mean(0) * 4 + far[:3, 3], atol=4)


def test_volume_outside_mni_space_is_refused() -> None:
    data, affine = brain()
    affine = affine.copy()
    affine[:3, 3] += 90
    with pytest.raises(InputError, match=r"does not lie in MNI space: .* set registration=affine"):
        preprocess_volume(RawVolume(data, affine), COARSE)


def test_registration_finds_the_way_back() -> None:
    data, affine = brain(3.0)
    c, s = np.cos(0.12), np.sin(0.12)
    moved = np.array([[c, -s, 0, 9.0], [s, c, 0, -14.0], [0, 0, 1.06, 11.0], [0, 0, 0, 1]])
    found = register_affine(RawVolume(data, moved @ affine)) @ moved
    corners = np.array([[x, y, z, 1.0] for x in (-50, 50) for y in (-80, 50) for z in (-30, 60)])
    errors = np.linalg.norm(corners @ found.T - corners, axis=1)
    assert errors.max() < 3.0, found


def test_n4_evens_out_a_bias_field() -> None:
    data, affine = brain(4.0)
    slope = np.exp(np.linspace(-0.4, 0.4, data.shape[1], dtype=np.float32))[None, :, None]
    even, biased, corrected = (
        preprocess_volume(RawVolume(voxels, affine), PreprocessConfig(spacing=4.0, n4=n4))
        for voxels, n4 in ((data, False), (data * slope, False), (data * slope, True))
    )
    both = even.mask & biased.mask & corrected.mask
    before = np.corrcoef(even.data[both], biased.data[both])[0, 1]
    assert np.corrcoef(even.data[both], corrected.data[both])[0, 1] > max(0.95, before)


def spoil(kind: str, path: Path) -> None:
    data, affine = brain()
    if kind == "4D":
        save(path, np.stack([data, data], -1), affine)
    elif kind == "flat":
        save(path, np.full((9, 9, 1), 2.0, np.float32), affine)
    elif kind == "empty":
        save(path, np.zeros_like(data), affine)
    elif kind == "nan":
        data[4, 5, 6] = np.nan
        save(path, data, affine)
    elif kind == "no codes":
        save(path, data, affine, code=0)
    elif kind == "identity":
        save(path, data, np.eye(4), code=2)
    elif kind == "cut":
        whole = save(path, data, affine).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "text":
        path.write_bytes(gzip.compress(b"no volume at all"))
    elif kind == "colour":
        voxels = np.zeros((9, 9, 9), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("4D", "4-D, 43 x 52 x 45 x 2 voxels: one 3-D volume is needed"),
        ("flat", "9 x 9"),
        ("empty", "empty: all voxels are 0"),
        ("nan", "1 voxels are not finite"),
        ("no codes", "has no orientation"),
        ("identity", "its affine is the identity"),
        ("cut", "damaged"),
        ("text", "no NIfTI"),
        ("colour", "voxels of type"),
        ("absent", "no such file"),
    ],
)
def test_bad_files_are_refused_with_the_reason(kind: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.nii.gz"
    spoil(kind, path)
    with pytest.raises(InputError) as caught:
        preprocess(path, COARSE)
    assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)


def test_damaged_copies_are_refused_or_read(tmp_path: Path) -> None:
    """Bytes of the header changed at random: a clear refusal, or a finite volume."""
    whole = bytearray(save(tmp_path / "a.nii", *brain(8.0)).read_bytes())
    generator = np.random.default_rng(2)
    for _ in range(60):
        spoiled = whole.copy()
        for place in generator.integers(0, 352, 3):
            spoiled[place] = int(generator.integers(256))
        (tmp_path / "b.nii").write_bytes(spoiled)
        try:
            assert np.isfinite(read_volume(tmp_path / "b.nii").data).all()
        except InputError as error:
            assert str(error).startswith(str(tmp_path / "b.nii"))


@pytest.mark.parametrize(
    "values",
    [
        {"field_of_view": [100.0, 100.0]},
        {"space": "native", "registration": "affine"},
        {"spacing": 0.1},
        {"space": "x"},
    ],
)
def test_configurations_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        PreprocessConfig(**values)


def test_the_cache_computes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, scan = one_scan(tmp_path / "data")
    calls = []

    def counted(volume: RawVolume, config: PreprocessConfig, **source: Any) -> Any:
        calls.append(config)
        return preprocess_volume(volume, config, **source)

    monkeypatch.setattr(debian_mri.imaging.volume_cache, "preprocess_volume", counted)
    path = cached_volume(manifest, scan, COARSE)
    assert cached_volume(manifest, scan, COARSE) == path and len(calls) == 1
    assert path.parent == tmp_path / "data" / "volumes"
    stored, fresh = load_volume(path), preprocess(manifest.paths_of(scan)[0], COARSE)
    np.testing.assert_array_equal(stored.data, fresh.data)
    np.testing.assert_array_equal(stored.mask, fresh.mask)
    np.testing.assert_array_equal(stored.affine, fresh.affine)
    assert cached_volume(manifest, scan, PreprocessConfig(spacing=5.0)) != path and len(calls) == 2
    # another date, the same voxels: read again, not computed again
    os.utime(manifest.paths_of(scan)[0], (1, 1))
    assert cached_volume(manifest, scan, COARSE) == path and len(calls) == 2
    # a run that was killed before the volume was written
    path.unlink()
    assert cached_volume(manifest, scan, COARSE) == path and len(calls) == 3


def test_changed_voxels_are_noticed(tmp_path: Path) -> None:
    manifest, scan = one_scan(tmp_path / "data")
    cached_volume(manifest, scan, COARSE)
    save(tmp_path / "data" / "brain.nii.gz", *brain(seed=1))
    with pytest.raises(InputError, match="have changed since the set was prepared"):
        cached_volume(manifest, scan, COARSE)


def test_in_bulk_bad_scans_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    save(folder / "good.nii.gz", *brain())
    spoil("nan", folder / "bad.nii.gz")
    scans = [
        Scan(id=name, subject=name, label="CN", paths=(f"{name}.nii.gz",), sha256=digit * 64)
        for name, digit in (("good", "1"), ("bad", "2"))
    ]
    manifest = prepared(folder, scans)
    assert list(preprocess_all(manifest, COARSE)) == ["good"]
    assert "bad," in (folder / "volumes" / "rejected.csv").read_text()
    with pytest.raises(InputError, match="not finite"):
        preprocess_all(manifest, COARSE, strict=True)
    with pytest.raises(InputError, match="none of 1 scans can be used"):
        preprocess_all(manifest, COARSE, scans=scans[1:])


@pytest.mark.real_data
def test_real_volumes_cover_the_template_better_after_registration() -> None:
    data = Path(os.environ.get("ICUBE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
    files = sorted((data / "mri" / "oasis1_t1_2mm").glob("*.nii.gz"))
    if not files:
        pytest.skip(f"{data / 'mri' / 'oasis1_t1_2mm'} is not there (ICUBE_DATA names the folder with the data)")
    from debian_mri.imaging.template import template_on_grid

    template = template_on_grid(4.0)
    similar = []
    for registration in ("none", "affine"):
        found = preprocess(files[0], PreprocessConfig(spacing=4.0, registration=registration))
        similar.append(np.corrcoef(found.data[template.brain], template.t1[template.brain])[0, 1])
    assert similar[1] > max(similar[0], 0.5)
