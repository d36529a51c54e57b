"""Signs measured on images whose answer is known."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from debian_mri.biomarkers.measure import (
    BIOMARKERS,
    FLOOR,
    SLICE_GEOMETRIES,
    csf_fraction,
    local_white_matter_intensity,
    measure_slices,
    measure_volume,
    slice_geometries,
    white_matter_intensity,
)
from debian_mri.imaging.preprocess import PreprocessConfig, Volume, preprocess
from debian_mri.imaging.regions import REGIONS
from debian_mri.imaging.slices import read_slice_image
from debian_mri.imaging.template import load_template
from icube_common.errors import InputError
from icube_common.io.csv import read_table

FRAME = SLICE_GEOMETRIES["oasis-slices"][0]
NAMES = ("medial_temporal_atrophy", "sylvian_widening", "third_ventricle_enlargement")


def brain() -> np.ndarray:
    """Half grey matter of 0.6, half white of 0.8 with a few pixels at 0.84: the mode of the upper part is 0.8."""
    image = np.full((176, 176), 0.6, dtype=np.float32)
    image[:, ::2] = 0.8
    image[::50, ::2] = 0.84
    return image


def test_white_matter_is_the_mode_of_the_brighter_part() -> None:
    assert white_matter_intensity(brain().ravel()) == pytest.approx(0.8, abs=1e-3)


def test_a_pixel_at_the_threshold_is_half_fluid() -> None:
    white = white_matter_intensity(brain().ravel())
    image = brain()
    image[0, :3] = np.array([0.45, 0.45 + 0.06, 0.0]) * white
    share = csf_fraction(image, image > 0.55)
    assert share[0, 0] == pytest.approx(0.5, abs=1e-6)
    assert share[0, 1] == pytest.approx(1 / (1 + math.e), abs=1e-6)
    assert share[0, 2] == pytest.approx(1 / (1 + math.exp(-7.5)), abs=1e-6)


def test_boxes_lie_in_the_atlas_frame() -> None:
    """By hand: z = 101 - row and |x| = |column - 88|."""
    box = FRAME.box_mask(BIOMARKERS["medial_temporal_atrophy"])
    assert box is not None
    rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
    assert (rows.min(), rows.max()) == (112, 133)
    assert columns.tolist() == [*range(44, 80), *range(97, 133)]
    middle = FRAME.box_mask(BIOMARKERS["third_ventricle_enlargement"])
    assert middle is not None and middle.sum() == 28 * 17
    axial = SLICE_GEOMETRIES["oasis-slices"][1]
    assert axial.box_mask(BIOMARKERS["sylvian_widening"]) is None  # it passes the box, and is no plane it is read on


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("every", [1, 2, 4])
def test_a_sign_is_the_logarithm_of_the_share_of_fluid(name: str, every: int) -> None:
    """A box of white matter in which each ``every``-th pixel is black."""
    image = brain()
    box = FRAME.box_mask(BIOMARKERS[name])
    assert box is not None
    places = np.flatnonzero(box)
    image.flat[places] = 0.8
    image.flat[places[::every]] = 0.0
    found = measure_slices([(image, "coronal")], [FRAME], [name]).values
    black, white = 1 / (1 + math.exp(-7.5)), 1 / (1 + math.exp(0.55 / 0.06))
    share = (len(places[::every]) * black + (len(places) - len(places[::every])) * white) / len(places)
    assert found[0] == pytest.approx(math.log(share + FLOOR), abs=2e-3)


def test_brightness_does_not_matter() -> None:
    image = brain()
    image[110:130, 50:70] = 0.1
    one = measure_slices([(image, "coronal")], [FRAME], NAMES).values
    other = measure_slices([(image * np.float32(0.5), "coronal")], [FRAME], NAMES).values
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_biomarker_without_a_plane_is_missing() -> None:
    assert np.isnan(measure_slices([(brain(), "axial")], [FRAME], NAMES).values).all()
    assert slice_geometries("auto", "somebody's slices") == ()
    with pytest.raises(InputError, match=r"concepts.slice_geometry.*oasis-slices"):
        slice_geometries("oasis-slice", "")


def test_other_sizes_and_images_without_contrast_are_refused() -> None:
    with pytest.raises(InputError, match="64 x 64 pixels"):
        measure_slices([(np.ones((64, 64), dtype=np.float32), "coronal")], [FRAME], NAMES)
    with pytest.raises(InputError, match="no contrast"):
        measure_slices([(np.ones((176, 176), dtype=np.float32), "coronal")], [FRAME], NAMES)


def mm(affine: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return np.ix_(*(affine[axis, 3] + affine[axis, axis] * np.arange(n) for axis, n in enumerate(shape)))


def test_signs_of_a_volume_and_z_scores_will_do() -> None:
    """White matter of 0.8 everywhere, air around it; a quarter of each plane's voxels in a box is at the threshold."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-90, -126, -72)
    data = np.zeros((91, 109, 91), dtype=np.float32)
    data[5:-5, 5:-5, 5:-5] = 0.8
    name = "third_ventricle_enlargement"
    x, y, z = mm(affine, data.shape)
    inside = (np.abs(x) <= 8.5) & (y >= -28) & (y <= 4) & (z >= -14.5) & (z <= 13.5)
    planes = np.flatnonzero(inside.any(axis=(0, 2)))
    for plane in planes:
        places = np.flatnonzero(inside[:, plane])
        part = data[:, plane].copy()
        part.flat[places[::4]] = 0.45 * 0.8
        data[:, plane] = part
    volume = Volume((data - 0.5) / np.float32(0.2), affine, data > 0.05)
    found = measure_volume(volume, [name, "sylvian_widening"])
    white = 1 / (1 + math.exp(0.55 / 0.06))
    count = len(places[::4])
    share = (count * 0.5 + (len(places) - count) * white) / len(places)
    np.testing.assert_allclose(found.values, [math.log(share + FLOOR), math.log(white + FLOOR)], atol=1e-3)
    assert found.planes.shape == (2, 109) and np.flatnonzero(~np.isnan(found.planes[0])).tolist() == planes.tolist()
    np.testing.assert_allclose(found.positions_mm, affine[1, 3] + 2 * np.arange(109))
    away = affine.copy()
    away[1, 3] = 500
    assert np.isnan(measure_volume(volume._replace(affine=away), NAMES).values).all()


def test_white_matter_is_the_persons_own() -> None:
    """Of 100 voxels that are white in the template 60 are fluid or grey: the rest define white."""
    values = np.concatenate([np.full(40, 0.2), np.full(20, 0.6), np.linspace(0.78, 0.82, 40)])
    assert local_white_matter_intensity(values) == pytest.approx(0.8)
    assert local_white_matter_intensity(values * 7) == pytest.approx(5.6)
    assert np.median(values) == pytest.approx(0.6)


def test_a_brain_with_large_ventricles_has_the_most_fluid() -> None:
    """Two thirds of the template's white matter around the ventricles are fluid: the sign rises to what it is by hand.

    Fluid is at 0.1 and the rest at 0.8; with the median of these voxels as the level, fluid would count as tissue.
    """
    template = load_template()
    affine = template.affine
    name = "ventricular_enlargement"
    x, y, z = mm(affine, template.t1.shape)
    near = (np.abs(x) <= 55) & (y >= -71) & (y <= 47) & (z >= -19) & (z <= 51)
    data = np.where(template.brain, np.float32(0.8), np.float32(0))
    white = np.flatnonzero((template.white > 0.9) & near)
    data.flat[np.delete(white, np.s_[::3])] = 0.1
    found = measure_volume(Volume(data, affine, template.brain), [name]).values[0]
    inside = (np.abs(x) <= 40) & (y >= -56) & (y <= 32) & (z >= -4) & (z <= 36)
    planes = np.flatnonzero(inside.any(axis=(0, 2)))
    share = 1 / (1 + np.exp(-(0.45 - data.astype(np.float64) / 0.8) / 0.06))
    wanted = [math.log(share[:, plane][inside[:, plane]].mean() + FLOOR) for plane in planes]
    assert found == pytest.approx(np.mean(wanted), abs=1e-4)


@pytest.mark.real_data
def test_fluid_in_the_ventricles_of_real_heads() -> None:
    """sub-0260, 87 years, has huge ventricles, sub-0061 is 20 years old; both are registered first."""
    data = Path(os.environ.get("ICUBE_DATA", Path(__file__).resolve().parents[3].parent / "shared" / "data"))
    folder = data / "mri" / "oasis1_t1_2mm"
    if not folder.is_dir():
        pytest.skip(f"no oasis1_t1_2mm in {data / 'mri'}")
    config = PreprocessConfig(spacing=2.0, registration="affine")
    names = ["ventricular_enlargement", "sylvian_widening", "medial_temporal_atrophy", "third_ventricle_enlargement"]
    old, young = (
        measure_volume(preprocess(next(folder.glob(f"sub-{number}*")), config), names).values
        for number in ("0260", "0061")
    )
    assert (old > young).all() and old[0] - young[0] > 1


def test_planes_replace_each_other_in_a_normal_brain() -> None:
    """The template: along each box all planes agree, and without half of them a sign stays what it was."""
    template = load_template()
    volume = Volume(template.t1, template.affine, template.brain)
    found = measure_volume(volume, list(BIOMARKERS))
    whole = found.values
    assert not np.isnan(whole).any()
    np.testing.assert_allclose(np.nanstd(found.planes, axis=1), 0, atol=1e-6)
    half = np.arange(len(found.positions_mm)) % 2 == 0
    np.testing.assert_allclose(found.without(half, np.zeros_like(whole)), whole, atol=1e-6)
    assert np.isnan(found.without(np.ones(len(found.positions_mm), dtype=bool), np.zeros_like(whole))).all()


def test_less_grey_matter_is_more_of_the_sign() -> None:
    """The hippocampus, half of it filled with fluid: its share of grey matter halves, about."""
    template = load_template()
    name = "hippocampal_volume_loss"
    before = measure_volume(Volume(template.t1, template.affine, template.brain), [name, "parietal_atrophy"]).values
    x, _, _ = mm(template.affine, template.t1.shape)
    where = REGIONS["hippocampus"].mask(template.t1.shape, template.affine) & (x > 0)
    after = measure_volume(
        Volume(np.where(where, 0, template.t1), template.affine, template.brain), [name, "parietal_atrophy"]
    ).values
    assert after[0] - before[0] == pytest.approx(math.log(2), abs=0.15)
    assert after[1] == pytest.approx(before[1], abs=1e-6)


@pytest.mark.real_data
def test_single_biomarkers_separate_the_oasis_classes() -> None:
    """On the slices: fluid is wider in the ill, each sign alone better than chance by far (AUC 0.73 to 0.77)."""
    data = Path(os.environ.get("ICUBE_DATA", Path(__file__).resolve().parents[3].parent / "shared" / "data"))
    folder = data / "mri" / "oasis1_slices"
    if not (folder / "index.csv").is_file():
        pytest.skip(f"no oasis1_slices in {data / 'mri'}")
    rows = [row for _, row in read_table(folder / "index.csv", ("label", "coronal"))]
    values = np.array(
        [
            measure_slices([(read_slice_image(folder / "images" / row["coronal"]), "coronal")], [FRAME], NAMES).values
            for row in rows
        ]
    )
    ill = np.array([row["label"] == "AD" for row in rows])
    for column in values.T:
        assert (column[ill][:, None] > column[~ill][None]).mean() > 0.7
