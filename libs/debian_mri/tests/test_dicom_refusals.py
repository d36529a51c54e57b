"""Refusals of unconvertible files, each with its own reason; mutated files are refused or right."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_phantoms import AXIAL, CORONAL, SAGITTAL, Phantom, blank, enhanced, save_as, set_pixels, turned
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from debian_mri.dicom import convert_folder

Edit = Callable[[int, pydicom.FileDataset], "pydicom.FileDataset | None"]


def without(*keywords: str, only: int | None = None) -> Edit:
    def edit(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        for keyword in keywords:
            if only in (None, number):
                delattr(dataset, keyword)
        return dataset

    return edit


def changed(only: int | None = None, **values: Any) -> Edit:
    def edit(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        for keyword, value in values.items():
            if only in (None, number):
                setattr(dataset, keyword, value)
        return dataset

    return edit


def leaning(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [float(x), float(y) + 0.4 * number, float(z)]
    return dataset


def smaller(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
    if number == 4:
        set_pixels(dataset, np.ones((6, 5), "<u2"))
    return dataset


def colour(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    return dataset


def turned_last(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
    if number == 4:
        dataset.ImageOrientationPatient = list(turned(0, 0, 2))
    return dataset


def unknown_syntax(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    return dataset


def gap_said(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset | None:
    dataset.SpacingBetweenSlices = 3.0
    return dataset if number % 2 == 0 else None


def copied(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
    """The last slice once more, as an image of its own."""
    if number == 4:
        dataset.ImagePositionPatient = [f"{item:.8f}" for item in Phantom().position(3)]
    return dataset


CASES: list[tuple[str, Edit, str]] = [
    ("one slice missing", lambda number, dataset: None if number == 2 else dataset, "missing slices"),
    ("two of five left out", lambda number, dataset: None if number in (1, 2) else dataset, "missing slices"),
    ("every second slice missing", gap_said, "missing slices"),
    ("one slice twice", copied, "duplicate slices"),
    ("tilt", leaning, "gantry tilt: slices are stacked at 7.59 degrees"),
    ("no orientation", without("ImageOrientationPatient"), "missing geometry: no orientation"),
    ("no position", without("ImagePositionPatient", only=4), "missing geometry: no position"),
    ("no pixel spacing", without("PixelSpacing"), "missing geometry: no pixel spacing"),
    ("skewed axes", changed(ImageOrientationPatient=[1, 0, 0, 0.5, 0.8, 0]), "missing geometry"),
    ("zero spacing", changed(PixelSpacing=[0, 1]), "missing geometry"),
    ("infinite position", changed(ImagePositionPatient=["1e999", 0, 0]), "invalid header"),
    ("orientation turned at the end", turned_last, "mixed orientations"),
    ("a smaller last slice", smaller, "inconsistent sizes: 6 x 5, 12 x 10"),
    ("pixel spacing differs", changed(PixelSpacing=[1.5, 2.3], only=4), "inconsistent sizes"),
    ("localiser by type", changed(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localiser"),
    ("localiser by name", changed(SeriesDescription="3Plane_Loc SSFSE"), "localiser"),
    ("scout by name", changed(SeriesDescription="AAHead_Scout_MPR_sag"), "localiser"),
    ("no pixels", without("PixelData"), "no pixel data"),
    ("no pixels in one", without("PixelData", only=4), "no pixel data: in 1 of 5 files"),
    ("colour", colour, "not a scan"),
    ("burnt in", changed(BurnedInAnnotation="YES"), "burnt-in annotation"),
    ("a compression nobody decodes", unknown_syntax, "unsupported compression"),
    ("too few pixels", changed(PixelData=b"\0" * 100, only=3), "damaged pixels: 100 bytes where 240 were announced"),
    ("highest bit below those stored", changed(HighBit=7), "damaged pixels: the header contradicts itself"),
    ("a cell of twelve bits", changed(BitsAllocated=12, BitsStored=12), "invalid header: 12 bits a pixel"),
    ("echo of one differs", changed(EchoTime=9, only=4), "missing slices"),
    ("type of one differs", changed(ImageType=["DERIVED", "PRIMARY"], only=4), "missing slices"),
    ("slope zero", changed(RescaleSlope=0), "invalid header"),
]


@pytest.mark.parametrize(("edit", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_refused_with_its_own_reason(edit: Edit, reason: str, tmp_path: Path) -> None:
    series = convert_folder(Phantom().write(tmp_path / "in", edit), tmp_path / "out")["series"]
    assert {one["status"] for one in series} == {"refused"}
    assert any(one["reason"].startswith(reason) for one in series), series
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_spacing_that_means_the_free_gap_is_no_reason(tmp_path: Path) -> None:
    """Some scanners write 1 mm between slices of 2 mm whose centres are 3 mm apart."""
    phantom = Phantom(changes={"SpacingBetweenSlices": 1.0, "SliceThickness": 2.0})
    assert convert_folder(phantom.write(tmp_path / "in"), tmp_path / "out")["converted"] == 1


def test_single_slice_without_thickness_or_spacing(tmp_path: Path) -> None:
    phantom = Phantom(slices=1, changes={"SliceThickness": None})
    series = convert_folder(phantom.write(tmp_path / "in"), tmp_path / "out")["series"]
    assert series[0]["reason"] == "missing geometry: a single slice with neither thickness nor spacing"


def test_three_planes_of_one_series(tmp_path: Path) -> None:
    for number, orientation in enumerate((AXIAL, CORONAL, SAGITTAL)):
        phantom = Phantom(orientation=orientation, slices=3, series_uid="1.2.3", seed=number)
        phantom.write(tmp_path / "in", suffix=f".{number}")
    series = convert_folder(tmp_path / "in", tmp_path / "out")["series"]
    assert [one["reason"] for one in series] == ["mixed orientations: 9 images in 3 orientations"]


def test_time_series_with_a_missing_image_or_a_wrong_number(tmp_path: Path) -> None:
    phantom = Phantom(volumes=4, slices=3)
    phantom.write(tmp_path / "gone", lambda number, dataset: None if number == 7 else dataset)
    phantom.write(tmp_path / "number", changed(InstanceNumber=50, only=4))
    phantom.write(tmp_path / "none", without("InstanceNumber"))
    phantom.data[3] = phantom.data[1]
    phantom.write(tmp_path / "same")
    series = {Path(one["source"]).name: one["reason"] for one in convert_folder(tmp_path, tmp_path / ".out")["series"]}
    assert series == {
        "gone": "missing slices: 1 of 3 positions hold fewer than 4 images",
        "number": "mixed volumes: the images are numbered neither volume by volume nor slice by slice",
        "none": "duplicate slices: several images a slice, of unknown volumes",
        "same": "duplicate slices: volumes 2 and 4 are the same image",
    }


def test_the_same_file_twice(tmp_path: Path) -> None:
    folder = Phantom().write(tmp_path / "in")
    for path in list(folder.iterdir()):
        (folder / f"copy-{path.name}").write_bytes(path.read_bytes())
    series = convert_folder(folder, tmp_path / "out")["series"]
    assert [one["reason"] for one in series] == ["duplicate slices: 5 images are there more than once"]


def test_multiframe_without_positions_or_with_a_gap(tmp_path: Path) -> None:
    phantom = Phantom()
    for name in ("none", "few", "gap"):
        (tmp_path / name).mkdir()
    dataset = enhanced(phantom)
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 90]
    save_as(dataset, tmp_path / "gap" / "a.dcm")
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:3]
    save_as(dataset, tmp_path / "few" / "a.dcm")
    del dataset.PerFrameFunctionalGroupsSequence
    save_as(dataset, tmp_path / "none" / "a.dcm")
    reasons = {Path(one["source"]).name: one["reason"] for one in convert_folder(tmp_path, tmp_path / ".out")["series"]}
    assert reasons["none"] == "missing geometry: 5 frames in one file without a position of each"
    assert reasons["few"] == "missing geometry: 3 positions for 5 frames"
    assert reasons["gap"].startswith("missing slices")


def test_a_mosaic_without_its_private_header(tmp_path: Path) -> None:
    phantom = Phantom(slices=1, changes={"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]})
    series = convert_folder(phantom.write(tmp_path / "in"), tmp_path / "out")["series"]
    assert series[0]["reason"] == "missing geometry: a mosaic without its CSA header"


def test_damage_beside_a_series(tmp_path: Path) -> None:
    """A file that might be the lost slice of a series; a text beside it is none."""
    for name in ("empty", "zip", "cut", "text"):
        Phantom().write(tmp_path / name)
    (tmp_path / "empty" / "im100.dcm").write_bytes(b"")
    (tmp_path / "zip" / "im100.dcm.gz").write_bytes(gzip.compress(b"x" * 5000)[:30])
    whole = next((tmp_path / "cut").glob("*.dcm")).read_bytes()
    (tmp_path / "cut" / "im100.dcm").write_bytes(whole[:200])
    (tmp_path / "text" / "README.dcm").write_text("where this comes from")
    for one in convert_folder(tmp_path, tmp_path / ".out")["series"]:
        name = Path(one["source"]).name
        if name == "text":
            assert one["status"] == "converted" or one["reason"] == "not DICOM"
        else:
            assert one["status"] == "refused" and one["reason"].startswith("unreadable file")


def encoded(kind: str) -> Edit:
    def edit(_: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        if kind == "rle":
            dataset.compress(RLELossless, generate_instance_uid=False)
        elif kind != "explicit":
            implicit = kind == "implicit"
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else DeflatedExplicitVRLittleEndian
        return dataset

    return edit


@pytest.mark.parametrize("kind", ["explicit", "implicit", "deflated", "rle"])
def test_truncated_files_are_refused(kind: str, tmp_path: Path) -> None:
    """Whatever is cut off the last slice's file, the series does not come out one slice shorter, or with zeros."""
    options = {"implicit_vr": True, "little_endian": True} if kind == "implicit" else {}
    phantom = Phantom(rows=4, columns=4)
    folder = phantom.write(tmp_path / "in", encoded(kind), **options)
    victim = folder / "im028.dcm"
    whole = victim.read_bytes()
    for length in sorted({*range(0, len(whole) - 1, 37), len(whole) - 2, len(whole) - 9}):
        victim.write_bytes(whole[:length])
        series = convert_folder(folder, tmp_path / "out", overwrite=True)["series"]
        for one in series:
            if one["status"] == "converted":  # only bytes without meaning were cut: the end mark, padding
                assert kind != "explicit" and length > len(whole) - 10
                np.testing.assert_array_equal(np.asarray(nibabel.load(one["path"]).dataobj), phantom.expected)
            else:
                assert one["reason"]


@pytest.mark.parametrize("kind", ["explicit", "implicit", "deflated", "rle"])
def test_flipped_bits_give_a_refusal_or_a_whole_volume(kind: str, tmp_path: Path) -> None:
    """No crash; and what comes out is in place: a grid that is spoiled in one file is noticed."""
    options = {"implicit_vr": True, "little_endian": True} if kind == "implicit" else {}
    phantom = Phantom(rows=4, columns=4, slices=4)
    folder = phantom.write(tmp_path / "in", encoded(kind), **options)
    victim = folder / "im014.dcm"  # a slice in the middle
    whole = victim.read_bytes()
    clean = convert_folder(folder, tmp_path / "out", overwrite=True)["series"]
    affine = nibabel.load(clean[0]["path"]).affine
    generator = np.random.default_rng(8)
    for _ in range(40):
        spoiled = bytearray(whole)
        for place in generator.integers(0, len(whole), generator.integers(1, 4)):
            spoiled[place] ^= 1 << int(generator.integers(8))
        victim.write_bytes(bytes(spoiled))
        for one in convert_folder(folder, tmp_path / "out", overwrite=True)["series"]:
            if one["status"] == "refused":
                assert one["reason"]
                continue
            image = nibabel.load(one["path"])
            if image.shape[2] == 1:
                continue  # a damaged UID makes the file a series of its own; the other files then have a gap
            np.testing.assert_allclose(image.affine, affine, atol=1e-3)
            data = np.asarray(image.dataobj)
            assert data.shape == (4, 4, 4)
            untouched = [k for k in range(4) if k != 2]
            np.testing.assert_array_equal(data[..., untouched], phantom.expected[..., untouched])


def test_a_report_has_no_pixels(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save_as(blank(pydicom.uid.BasicTextSRStorage, "1.2.3", "report"), tmp_path / "in" / "report.dcm")
    series = convert_folder(tmp_path / "in", tmp_path / "out")["series"]
    assert [one["reason"] for one in series] == ["no pixel data: a structured report"]
