"""Regions and slices: planes show their regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from brains import index_of, one_scan, prepared
from PIL import Image

from debian_mri.config import MriConfig
from debian_mri.data.feature_store import ScanImages
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.imaging.preprocess import PreprocessConfig, Volume
from debian_mri.imaging.regions import PLANES, REGIONS, Ellipsoid, get_region, regions_on_plane
from debian_mri.imaging.slices import SliceConfig, SliceImage, read_slice_image, slice_volume, upright
from debian_mri.imaging.template import load_template, mni_grid, template_on_grid
from icube_common.errors import InputError


def slices_of(manifest: Manifest, scan: Scan, preprocess: PreprocessConfig, slices: SliceConfig) -> list[SliceImage]:
    return ScanImages(manifest, scan, MriConfig(preprocess=preprocess, slices=slices)).slices


def test_an_ellipsoid_by_hand() -> None:
    ball = Ellipsoid((10.0, 0.0, 0.0), (4.0, 2.0, 3.0), (0.0, 1.0, 0.0))
    # first radius along y, second across it, third up
    assert [round(ball.half_extent(axis), 9) for axis in range(3)] == [2.0, 4.0, 3.0]
    assert ball.level([np.array([10.0, 12.0]), np.array([4.0, 0.0]), np.array([0.0, 0.0])]).tolist() == [1.0, 1.0]
    assert ball.section(0, 11.0) == pytest.approx(0.75) and ball.section(0, 13.0) == 0


def test_sides_are_mirror_images_at_atlas_positions() -> None:
    for region in REGIONS.values():
        mask = region.mask((91, 109, 91), np.array([[2, 0, 0, -90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1.0]]))
        if region.name not in ("hippocampus_left", "hippocampus_right"):
            np.testing.assert_array_equal(mask, mask[::-1])
    atlas = {"hippocampus_left": (-25, -21, -10), "hippocampus_right": (29, -20, -10)}
    for name, centroid in atlas.items():
        assert np.linalg.norm(np.subtract(get_region(name).shapes[0].middle, centroid)) < 6


def test_regions_hold_the_tissue_that_they_are_named_after() -> None:
    template = load_template()
    tissue = template.grey + template.white
    fluid = (template.t1 < 0.45) & (tissue < 0.4) & (template.t1 > 0.05)
    assert template.grey[REGIONS["hippocampus"].mask(fluid.shape, template.affine)].mean() > 0.6
    assert tissue[REGIONS["midbrain"].mask(fluid.shape, template.affine)].mean() > 0.8
    # the ventricles: 7.9 mL of fluid on each side, nearly all of it inside the region, and no other fluid
    inside = fluid & REGIONS["lateral_ventricles"].mask(fluid.shape, template.affine)
    assert 0.9 * 15898 < inside.sum() <= 15898
    assert (template.brain & ~REGIONS["brain"].mask(fluid.shape, template.affine)).sum() == 0


def test_places_by_hand() -> None:
    occipital = get_region("occipital")  # a box, x -46 to 46, y -106 to -68, z -12 to 36
    assert occipital.slice_positions("coronal", 1) == (-87.0,) and occipital.slice_positions("axial", 3) == (
        0.0,
        12.0,
        24.0,
    )
    nigra = get_region("substantia_nigra")
    assert nigra.slice_positions("sagittal", 1) == (-10.0, 10.0), "one plane for each side"
    assert regions_on_plane("axial", 60.0) == ("parietal",)
    with pytest.raises(InputError, match="did you mean 'hippocampus'"):
        get_region("hipocampus")


@pytest.mark.parametrize("region", ["hippocampus_left", "midbrain", "occipital"])
def test_ball_at_a_region_is_visible_in_its_planes(region: str) -> None:
    """A bright ball of 5 mm: in the slices near its middle, and in no slice further away."""
    spacing = 2.0
    middle = get_region(region).shapes[0].middle
    template = template_on_grid(spacing)
    voxels = np.ix_(*(template.affine[a, 3] + spacing * np.arange(n) for a, n in enumerate(template.t1.shape)))
    apart = sum((axis - place) ** 2 for axis, place in zip(voxels, middle, strict=True))
    data = np.where(apart <= 25, 50.0, 0.0).astype(np.float32)
    data[template.brain] += np.linspace(0, 1, template.brain.sum(), dtype=np.float32)
    config = SliceConfig(regions=[region, "parietal"], count=3, window_high=100.0)
    found = slice_volume(Volume(data, template.affine, template.brain), config)
    shown = 0
    for picture in found:
        axis = PLANES[picture.plane]
        assert picture.position_mm is not None
        distance = abs(picture.position_mm - middle[axis])
        assert (picture.image.max() > 0.9) or distance > 4, picture.words
        assert (picture.image.max() < 0.1) or distance <= 5, picture.words
        if distance <= 4:
            assert region in picture.regions
            shown += 1
    assert shown >= 3
    assert all(picture.image.min() >= 0 and picture.image.max() <= 1 for picture in found)


def test_slice_images_are_upright() -> None:
    spot = index_of((-40.0, 40.0, 50.0), 4.0)  # left, front, top
    data = np.zeros(mni_grid(4.0).shape, dtype=np.float32)
    data[spot] = 1
    x, y, z = data.shape
    row, column = np.argwhere(upright(data, "axial", spot[2]))[0]
    assert (row, column) == (y - 1 - spot[1], spot[0]) and row < y / 2 and column < x / 2
    row, column = np.argwhere(upright(data, "coronal", spot[1]))[0]
    assert (row, column) == (z - 1 - spot[2], spot[0]) and row < z / 2
    row, column = np.argwhere(upright(data, "sagittal", spot[0]))[0]
    assert (row, column) == (z - 1 - spot[2], spot[1]) and column > y / 2


def test_slices_of_a_scan_evenly(tmp_path: Path) -> None:
    manifest, scan = one_scan(tmp_path / "data")
    config = SliceConfig(mode="even", count=4, planes=["axial"])
    found = slices_of(manifest, scan, PreprocessConfig(spacing=4.0), config)
    places = [picture.position_mm for picture in found]
    assert len(places) == 4 and places == sorted(places)  # type: ignore[type-var]
    steps = np.diff(np.array(places, dtype=float))
    assert steps.max() - steps.min() <= 4.0
    assert found[0].words == f"axial, z = {places[0]:g} mm"
    native = PreprocessConfig(space="native", spacing=4.0)
    assert {picture.position_mm for picture in slices_of(manifest, scan, native, config)} == {None}
    with pytest.raises(InputError, match="regions lie in MNI space"):
        slices_of(manifest, scan, native, SliceConfig())


def test_slice_images_as_input(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    grey = np.tile(np.arange(0, 250, 25, dtype=np.uint8), (8, 1))
    Image.fromarray(grey).save(folder / "a.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(folder / "c.jpg", quality=95)
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "s.png")
    scan = Scan(
        id="one",
        subject="one",
        label="CN",
        kind="slices",
        paths=("a.png", "c.jpg", "s.png"),
        planes=("axial", "coronal", "sagittal"),
    )
    manifest = prepared(folder, [scan])
    found = slices_of(manifest, scan, PreprocessConfig(), SliceConfig())
    assert [picture.plane for picture in found] == ["axial", "coronal", "sagittal"]
    for picture in found:
        np.testing.assert_allclose(picture.image, grey / 255, atol=0.02)
        assert picture.image.dtype == np.float32 and picture.position_mm is None
    only = slices_of(manifest, scan, PreprocessConfig(), SliceConfig(planes=["coronal"]))
    assert [picture.plane for picture in only] == ["coronal"]


@pytest.mark.parametrize("kind", ["absent", "empty", "cut", "text"])
def test_bad_slice_images(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    Image.fromarray(noise if kind != "empty" else noise * 0).save(path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "text":
        path.write_text("not a picture")
    elif kind == "absent":
        path.unlink()
    with pytest.raises(InputError, match=r"a\.png: (cannot be read as an image|empty: all pixels are 0)"):
        read_slice_image(path)


def test_slice_configurations_out_of_range() -> None:
    for values in ({"planes": []}, {"regions": ["midbrain", "midbrain"]}, {"regions": ["liver"]}, {"count": 0}):
        with pytest.raises(InputError):
            SliceConfig(**values)
