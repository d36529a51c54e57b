"""The reader of volumes: values of NIfTI and MGH headers, with values that are worked out by hand."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from brains import brain, prepared, save
from cohort_files import rejected, write_csv

from debian_mri.data.manifest import Manifest, Scan
from debian_mri.data.prepare import prepare
from debian_mri.imaging.nifti import open_volume, read_affine, read_volume
from debian_mri.imaging.preprocess import PreprocessConfig
from debian_mri.imaging.volume_cache import cached_volume, load_volume
from debian_mri.inference.batch import volumes_below
from debian_mri.inference.single_image import is_volume, stem
from icube_common.errors import InputError

SHAPE = (10, 12, 9)
# voxels of 2 mm; the first lies at (-9, -11, -8)
PLACED = np.array([[2.0, 0, 0, -9], [0, 2, 0, -11], [0, 0, 2, -8], [0, 0, 0, 1]])
FLIPPED = np.array([[-2.0, 0, 0, 9], [0, 2, 0, -11], [0, 0, 2, -8], [0, 0, 0, 1]])


def counted(dtype: Any = np.int16) -> np.ndarray[Any, Any]:
    """Voxel (x, y, z) holds 108 x + 9 y + z."""
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)


def header_of(sform: Any = None, qform: Any = None, unit: str = "mm", **fields: Any) -> nibabel.Nifti1Header:
    header = nibabel.Nifti1Header()
    header.set_data_shape(SHAPE)
    header.set_data_dtype(np.int16)
    header.set_qform(qform, 1 if qform is not None else 0)
    header.set_sform(sform, 1 if sform is not None else 0)
    header.set_xyzt_units(unit)
    for name, value in fields.items():
        header[name] = value
    return header


def write(path: Path, header: nibabel.Nifti1Header, data: np.ndarray[Any, Any] | None = None) -> Path:
    """A file with exactly this header: nibabel's own writing would replace codes and scaling."""
    data = counted() if data is None else data
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    path.write_bytes(
        header.binaryblock + b"\0" * 4 + data.astype(data.dtype.newbyteorder(header.endianness)).tobytes("F")
    )
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr", "a.img", "a.mgz", "a.mgh"])
def test_one_volume_in_each_kind_of_file(tmp_path: Path, name: str) -> None:
    if name.startswith("a.mg"):
        content = nibabel.MGHImage(counted(np.int32), PLACED).to_bytes()
        (tmp_path / name).write_bytes(gzip.compress(content) if name == "a.mgz" else content)
    elif name in ("a.hdr", "a.img"):
        nibabel.save(nibabel.Nifti1Pair(counted(), PLACED), tmp_path / "a.img")
    else:
        nibabel.save(nibabel.Nifti1Image(counted(), PLACED), tmp_path / name)
    found = read_volume(tmp_path / name)
    # 108 * 3 + 9 * 4 + 5
    assert found.data[3, 4, 5] == 365 and found.data.dtype == np.float32
    np.testing.assert_allclose(found.affine @ [3, 4, 5, 1], [-3, -3, 2, 1], atol=1e-5)
    np.testing.assert_allclose(read_affine(tmp_path / name), found.affine)
    assert is_volume(tmp_path / name) and stem(tmp_path / name) == "a"
    data, affine = open_volume(tmp_path / name)
    assert data[3, 4, 5] == 365
    np.testing.assert_allclose(affine, found.affine)


def test_a_pair_is_one_volume(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(counted(), PLACED), tmp_path / "a.img")
    assert volumes_below(tmp_path) == [tmp_path / "a.hdr"]
    (tmp_path / "a.img").unlink()
    with pytest.raises(InputError, match=r"a\.hdr: its \.img is missing"):
        read_volume(tmp_path / "a.hdr")


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_units_of_length(tmp_path: Path, unit: str, factor: float) -> None:
    scaled = PLACED / [[factor], [factor], [factor], [1]]
    path = write(tmp_path / "a.nii", header_of(sform=scaled, unit=unit))
    np.testing.assert_allclose(read_volume(path).affine, PLACED, atol=1e-4)


def test_a_unit_that_makes_voxels_of_metres_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", header_of(sform=PLACED, unit="meter"))
    with pytest.raises(InputError, match=r"voxels of 2e\+03 x 2e\+03 x 2e\+03 mm: 0.1 to 20 mm are believed"):
        read_volume(path)


def test_one_form_is_enough(tmp_path: Path) -> None:
    for number, header in enumerate((header_of(sform=PLACED), header_of(qform=PLACED), header_of(PLACED, PLACED))):
        np.testing.assert_allclose(read_volume(write(tmp_path / f"{number}.nii", header)).affine, PLACED, atol=1e-4)


def test_forms_that_differ_by_less_than_a_millimetre(tmp_path: Path) -> None:
    near = PLACED + np.array([[0, 0, 0, 0.9], [0] * 4, [0] * 4, [0] * 4])
    path = write(tmp_path / "a.nii", header_of(sform=PLACED, qform=near))
    np.testing.assert_allclose(read_volume(path).affine, PLACED)


MOVED = PLACED + np.array([[0, 0, 0, 1.1], [0] * 4, [0] * 4, [0] * 4])
# 2.2 mm voxels along y: the first corner is the same, the last 11 * 0.2 = 2.2 mm away
STRETCHED = PLACED * [[1, 1, 1, 1], [1, 1.1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("sform", "qform", "words"),
    [
        (
            PLACED,
            FLIPPED,
            r"differ about left and right: sform RAS from \(-9, -11, -8\), qform LAS from \(9, -11, -8\)",
        ),
        (FLIPPED, PLACED, r"differ about left and right: sform LAS .*, qform RAS "),
        (PLACED, MOVED, r"a corner of the volume 1\.1 mm apart: sform RAS from \(-9, .* qform RAS from \(-7\.9, "),
        (PLACED, STRETCHED, r"a corner of the volume 2\.2 mm apart"),
        (PLACED, np.diag([-1.0, -1, 1, 1]) @ PLACED, r"a corner of the volume .* mm apart: sform RAS .* qform LPS"),
        (None, None, "no orientation"),
        (np.eye(4), None, "its affine is the identity"),
        (None, np.diag([-1.0, -1.0, 1.0, 1.0]), "its affine is the identity"),
    ],
)
def test_headers_without_orientation(tmp_path: Path, sform: Any, qform: Any, words: str) -> None:
    path = write(tmp_path / "a.nii", header_of(sform=sform, qform=qform))
    with pytest.raises(InputError, match=words):
        read_volume(path)
    with pytest.raises(InputError, match=words):
        read_affine(path)
    # the same reader when a set is prepared: the reason without the file's name
    write(tmp_path / "good.nii", header_of(sform=PLACED), counted() + 1)
    rows = [("a.nii", "CN", "a"), ("good.nii", "CN", "b")]
    write_csv(tmp_path / "list.csv", ("path", "label", "subject"), rows)
    prepare("csv", tmp_path / "list.csv", tmp_path / "data")
    (reason,) = rejected(tmp_path / "data").values()
    assert str(tmp_path) not in reason
    with pytest.raises(InputError, match=words):
        raise InputError(reason)


@pytest.mark.parametrize(
    ("slope", "inter", "wanted"),
    [(2.0, -5.0, 725.0), (np.nan, np.nan, 365.0), (0.0, 7.0, 365.0), (0.5, 0.0, 182.5)],
)
def test_scaling(tmp_path: Path, slope: float, inter: float, wanted: float) -> None:
    path = write(tmp_path / "a.nii", header_of(sform=PLACED, scl_slope=slope, scl_inter=inter))
    assert read_volume(path).data[3, 4, 5] == wanted


def test_a_big_endian_file(tmp_path: Path) -> None:
    header = header_of(sform=PLACED).as_byteswapped(">")
    found = read_volume(write(tmp_path / "a.nii", header))
    assert found.data[3, 4, 5] == 365
    np.testing.assert_allclose(found.affine, PLACED)


def test_four_dimensions(tmp_path: Path) -> None:
    save(tmp_path / "one.nii", counted()[..., None, None], PLACED)
    assert read_volume(tmp_path / "one.nii").data.shape == SHAPE
    save(tmp_path / "two.nii", np.stack([counted()] * 2, -1), PLACED)
    with pytest.raises(InputError, match="4-D, 10 x 12 x 9 x 2 voxels: one 3-D volume is needed"):
        read_volume(tmp_path / "two.nii")


def test_files_that_were_cut_off(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz", "a.mgz"):
        if name == "a.mgz":
            content = nibabel.MGHImage(counted(np.int32), PLACED).to_bytes()
            (tmp_path / name).write_bytes(gzip.compress(content))
        else:
            nibabel.save(nibabel.Nifti1Image(counted(np.int32), PLACED), tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(InputError, match=rf"{name}: damaged, or no NIfTI or MGH file"):
            read_volume(tmp_path / name)


def test_colour_and_complex_numbers(tmp_path: Path) -> None:
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for number, data in enumerate((colour, counted(np.complex64))):
        nibabel.save(nibabel.Nifti1Image(data, PLACED), tmp_path / f"{number}.nii")
        with pytest.raises(InputError, match="no real numbers"):
            read_volume(tmp_path / f"{number}.nii")


def test_an_mgh_file_without_orientation(tmp_path: Path) -> None:
    content = bytearray(nibabel.MGHImage(counted(np.int32), PLACED).to_bytes())
    content[28:30] = b"\0\0"  # goodRASFlag
    (tmp_path / "a.mgh").write_bytes(content)
    with pytest.raises(InputError, match="no good RAS flag"):
        read_volume(tmp_path / "a.mgh")


def test_numbers_that_are_too_large_are_infinite(tmp_path: Path) -> None:
    data = counted(np.float64)
    data[1, 2, 3] = 1e300
    save(tmp_path / "a.nii", data, PLACED)
    with pytest.raises(InputError, match="1 of 1080 voxels are infinite"):
        read_volume(tmp_path / "a.nii")


def masked() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A brain with NaN around it, as many programs write it."""
    data, affine = brain()
    return np.where(data == 0, np.nan, data).astype(np.float32), affine


def test_nan_around_the_head_is_filled_when_asked_for(tmp_path: Path) -> None:
    data, affine = masked()
    path = save(tmp_path / "a.nii.gz", data, affine)
    count = int(np.isnan(data).sum())
    with pytest.raises(InputError, match=rf"{count} voxels are not finite \(NaN\): --fill-nan "):
        read_volume(path)
    np.testing.assert_array_equal(read_volume(path, fill_nan=True).data, brain()[0])
    write_csv(tmp_path / "list.csv", ("path", "label", "subject"), [("a.nii.gz", "CN", "a")])
    with pytest.raises(InputError, match="--fill-nan"):
        prepare("csv", tmp_path / "list.csv", tmp_path / "none")
    prepare("csv", tmp_path / "list.csv", tmp_path / "data", fill_nan=True)
    # whatever reads the set later does the same
    manifest = Manifest.load(tmp_path / "data")
    found = load_volume(cached_volume(manifest, manifest.scans[0], PreprocessConfig(spacing=4.0)))
    whole = prepared(tmp_path, [Scan(id="b", subject="b", label="CN", paths=("b.nii.gz",))])
    save(tmp_path / "b.nii.gz", *brain())
    wanted = load_volume(cached_volume(whole, whole.scans[0], PreprocessConfig(spacing=4.0)))
    np.testing.assert_array_equal(found.data, wanted.data)


def test_below_zero_the_background_is_the_darkest_voxel(tmp_path: Path) -> None:
    data, affine = masked()
    inside = ~np.isnan(data)
    path = save(tmp_path / "a.nii.gz", (data - 500) / 100, affine)
    found = read_volume(path, fill_nan=True).data
    darkest = np.float32((data[inside].min() - 500) / 100)
    np.testing.assert_allclose(found[~inside], darkest, rtol=1e-6)


def test_nan_inside_the_head_is_never_filled(tmp_path: Path) -> None:
    data, affine = masked()
    data[21, 26, 24:26] = np.nan
    path = save(tmp_path / "a.nii.gz", data, affine)
    with pytest.raises(InputError, match="2 NaN voxels lie inside the head, which --fill-nan does not fill"):
        read_volume(path, fill_nan=True)
