"""Registration of heads that lie otherwise than in their affine, and refusals of what is no head."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from brains import brain, one_scan, save

from debian_mri.imaging.nifti import RawVolume, read_volume
from debian_mri.imaging.orientation import (
    MAX_HEAD_ROTATION,
    angle_between,
    head_rotation,
    mutual_information,
    registration_starts,
    right_angles,
    similarity,
)
from debian_mri.imaging.preprocess import PreprocessConfig
from debian_mri.imaging.registration import MIN_SIMILARITY, register_affine
from debian_mri.imaging.volume_cache import cached_head_rotation, cached_volume
from debian_mri.inference.scan_input import rotation_warnings
from icube_common.errors import InputError

DATA = Path(os.environ.get("ICUBE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
HEADS = DATA / "mri" / "oasis1_t1_2mm"
# in the template's world, mm
CORNERS = np.array([[x, y, z, 1.0] for x in (-50, 50) for y in (-80, 50) for z in (-30, 60)])
MIDDLE = np.array([4.0, -20.0, 12.0])


def about_the_middle(rotation: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = MIDDLE - rotation @ MIDDLE
    return matrix


def turned(degrees: float, axis: int) -> np.ndarray:
    angle = np.radians(degrees)
    first, second = (at for at in range(3) if at != axis)
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = np.cos(angle)
    rotation[first, second], rotation[second, first] = -np.sin(angle), np.sin(angle)
    return rotation


def head(name: str) -> RawVolume:
    files = sorted(HEADS.glob(f"sub-{name}*"))
    if not files:
        pytest.skip(f"{HEADS} is not there (ICUBE_DATA names the folder with the data)")
    return read_volume(files[0])


def difference(found: np.ndarray, upright: np.ndarray) -> tuple[float, float]:
    """Degrees, and the largest distance in mm, between two matrices into MNI space."""
    between = found @ np.linalg.inv(upright)
    apart = np.linalg.norm(CORNERS @ between.T - CORNERS, axis=1).max()
    return head_rotation(between), float(apart)


def test_there_are_24_right_angles() -> None:
    found = right_angles()
    assert len({tuple(matrix.ravel()) for matrix in found}) == 24
    np.testing.assert_array_equal(found[0], np.eye(3))
    assert all(np.isclose(np.linalg.det(matrix), 1) for matrix in found)
    # 6 quarter turns about an axis, 3 + 6 half turns, 8 of a third about a diagonal
    angles = [round(angle_between(np.eye(3), matrix)) for matrix in found]
    assert [angles.count(angle) for angle in (0, 90, 120, 180)] == [1, 6, 8, 9]


def test_mutual_information_by_hand() -> None:
    """Of 4 voxels 3 agree: p = 1/2, 1/4, 1/4 against 1/2 * 3/4, 1/2 * 1/4, 1/2 * 3/4 in each cell."""
    wanted = 0.5 * np.log(0.5 / 0.375) + 0.25 * np.log(0.25 / 0.375) + 0.25 * np.log(0.25 / 0.125)
    assert mutual_information(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])) == pytest.approx(wanted)


def test_right_angle_rotations_are_distinguished() -> None:
    data, affine = brain()
    for rotation in right_angles()[1::6]:
        start = registration_starts(RawVolume(data, about_the_middle(rotation) @ affine))[0]
        assert angle_between(start.rotation, rotation) < 1e-3
        np.testing.assert_allclose(start.shift, MIDDLE - rotation @ MIDDLE, atol=8)


@pytest.mark.parametrize("number", [3, 11, 22])
def test_a_brain_that_lies_wrong_is_registered_as_the_upright_one(number: int) -> None:
    data, affine = brain(3.0)
    world = about_the_middle(right_angles()[number] @ turned(12, 0))
    found = register_affine(RawVolume(data, world @ affine))
    degrees, apart = difference(found @ world, np.eye(4))
    assert degrees < 5 and apart < 3
    assert head_rotation(found) == pytest.approx(angle_between(np.eye(3), world[:3, :3]), abs=5)


def test_registration_is_the_same_each_time() -> None:
    data, affine = brain()
    volume = RawVolume(data, about_the_middle(right_angles()[7]) @ affine)
    np.testing.assert_array_equal(register_affine(volume), register_affine(volume))


def test_a_ball_is_no_head() -> None:
    x, y, z = np.ogrid[-1:1:48j, -1:1:48j, -1:1:48j]
    noise = np.random.default_rng(0).standard_normal((48, 48, 48))
    data = (100.0 * (x**2 + y**2 + z**2 < 0.6) + 3 * noise).astype(np.float32)
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -94
    with pytest.raises(InputError, match=r"registration to MNI failed: mutual information of 0\.\d+ with the template"):
        register_affine(RawVolume(data, affine))


def test_a_small_piece_is_no_head() -> None:
    data, affine = brain()
    with pytest.raises(InputError, match="registration to MNI failed: the image is smaller than a brain"):
        register_affine(RawVolume(data[10:20, 10:20, 10:20], affine))


def test_rotation_angle_is_recorded(tmp_path: Path) -> None:
    manifest, scan = one_scan(tmp_path / "data")
    config = PreprocessConfig(spacing=4.0, registration="affine")
    assert cached_head_rotation(cached_volume(manifest, scan, config)) < MAX_HEAD_ROTATION
    data, affine = brain()
    manifest, scan = one_scan(tmp_path / "turned", sha256="b" * 64)
    save(tmp_path / "turned" / "brain.nii.gz", data, about_the_middle(turned(180, 0)) @ affine)
    assert cached_head_rotation(cached_volume(manifest, scan, config)) == pytest.approx(180, abs=3)


@pytest.mark.real_data
def test_a_real_head_that_lies_upside_down() -> None:
    """sub-0198, whose affine is wrong by more than a right angle: as like the template as any other head."""
    volume = head("0198")
    found = register_affine(volume)
    # 180 degrees about x, less its own tilt
    assert 130 < head_rotation(found) < 180
    axis = (found[:3, :3] @ [1, 0, 0]) / np.linalg.norm(found[:3, 0])
    assert axis[0] > 0.95
    assert similarity(volume, found) > 2.5 * MIN_SIMILARITY


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ICUBE_SLOW"), reason="minutes: ICUBE_SLOW=1 runs it")
@pytest.mark.parametrize("name", ["0061", "0260"])
def test_right_angles_of_a_real_head(name: str) -> None:
    """Each of 24 is recovered within 5 degrees and 3 mm, or refused; 20 at least are recovered."""
    volume = head(name)
    upright = register_affine(volume)
    recovered = 0
    for rotation in right_angles():
        world = about_the_middle(rotation)
        try:
            found = register_affine(RawVolume(volume.data, world @ volume.affine))
        except InputError:
            continue
        degrees, apart = difference(found @ world, upright)
        assert degrees < 5 and apart < 3, rotation
        recovered += 1
    assert recovered >= 20


def test_rotated_head_gives_a_warning_and_a_tilted_one_none() -> None:
    assert rotation_warnings(29.9) == []
    assert rotation_warnings(147.8) == [
        "The head lies 148 degrees from the file's affine; registration turned it upright."
    ]
