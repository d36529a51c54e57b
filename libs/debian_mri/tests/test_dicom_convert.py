"""Simulated series whose voxels and place in space are known, in every encoding."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_phantoms import AXIAL, CORONAL, SAGITTAL, Phantom, enhanced, save_as, turned
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from debian_mri.cli import main
from debian_mri.dicom import convert_folder


def only(folder: Path, out: Path) -> tuple[Any, dict[str, Any]]:
    """The one volume that a folder gives, and the answer about it."""
    series = convert_folder(folder, out)["series"]
    assert [one["status"] for one in series] == ["converted"], series
    return nibabel.load(series[0]["path"]), series[0]


def check(image: Any, phantom: Phantom) -> None:
    np.testing.assert_array_equal(np.asarray(image.dataobj), phantom.expected)
    for index in np.ndindex(2, 2, 2):
        voxel = np.array(index) * (phantom.columns - 1, phantom.rows - 1, phantom.slices - 1)
        np.testing.assert_allclose(image.affine @ [*voxel, 1], [*phantom.place(*voxel), 1], atol=1e-4)
    assert image.header["qform_code"] == image.header["sform_code"] == 1
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    assert image.header.get_xyzt_units() == ("mm", "sec")


@pytest.mark.parametrize(
    "orientation",
    [AXIAL, CORONAL, SAGITTAL, turned(180, 0, 0), turned(12, -20, 33), turned(95, 5, -170), turned(0, 0, 90)],
)
def test_voxel_positions_follow_the_headers(orientation: tuple[float, ...], tmp_path: Path) -> None:
    phantom = Phantom(orientation=orientation)
    image, answer = only(phantom.write(tmp_path / "in"), tmp_path / "out")
    check(image, phantom)
    assert answer["n_files"] == 5 and answer["description"] == "t1 mprage sag"
    assert answer["source"] == str(tmp_path / "in")


def test_hand_computed_affine(tmp_path: Path) -> None:
    phantom = Phantom(origin=(10.0, 20.0, 30.0), spacing=(1.5, 2.0), step=3.0)
    image, _ = only(phantom.write(tmp_path / "in"), tmp_path / "out")
    assert image.affine.tolist() == [[-2, 0, 0, -10], [0, -1.5, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]


def test_signed_values(tmp_path: Path) -> None:
    phantom = Phantom(dtype="<i2")
    image, _ = only(phantom.write(tmp_path / "in"), tmp_path / "out")
    check(image, phantom)
    assert np.asarray(image.dataobj).min() < 0 and image.get_data_dtype() == np.int16


def test_values_above_int16(tmp_path: Path) -> None:
    phantom = Phantom()
    phantom.data[0, 0, 0, 0] = 65_000
    image, _ = only(phantom.write(tmp_path / "in"), tmp_path / "out")
    check(image, phantom)


def test_rescaling_to_whole_numbers_and_to_fractions(tmp_path: Path) -> None:
    phantom = Phantom(changes={"RescaleSlope": 2, "RescaleIntercept": -1024})
    image, _ = only(phantom.write(tmp_path / "in"), tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(image.dataobj), phantom.expected.astype(int) * 2 - 1024)
    phantom = Phantom(changes={"RescaleSlope": "0.25", "RescaleIntercept": "3.5"})
    image, _ = only(phantom.write(tmp_path / "in2"), tmp_path / "out2")
    np.testing.assert_array_equal(np.asarray(image.dataobj), phantom.expected * 0.25 + 3.5)


def test_philips_values_are_those_of_the_scanner(tmp_path: Path) -> None:
    def edit(_: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        dataset.RescaleSlope, dataset.RescaleIntercept = "1.6", "-8"
        block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 0.05)
        return dataset

    phantom = Phantom()
    image, _ = only(phantom.write(tmp_path / "in", edit), tmp_path / "out")
    # stored 100: displayed 100 * 1.6 - 8 = 152; over 1.6 * 0.05 = 0.08: 1900
    wanted = (phantom.expected * 1.6 - 8) / 0.08
    np.testing.assert_allclose(np.asarray(image.dataobj), wanted, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("encoding", ["implicit", "big endian", "deflated", "gzipped", "no suffix", "no meta header"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    phantom = Phantom()
    folder = tmp_path / "in"
    if encoding == "implicit":
        phantom.write(folder, implicit_vr=True, little_endian=True, edit=syntax(ImplicitVRLittleEndian))
    elif encoding == "big endian":

        def swapped(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            return syntax(ExplicitVRBigEndian)(number, dataset)

        phantom.write(folder, swapped, implicit_vr=False, little_endian=False, force_encoding=True)
    elif encoding == "deflated":
        phantom.write(folder, syntax(DeflatedExplicitVRLittleEndian))
    elif encoding == "no meta header":
        folder.mkdir()
        for name, dataset in phantom.files():
            del dataset.file_meta
            dataset.save_as(folder / name, implicit_vr=True, little_endian=True, enforce_file_format=False)
    else:
        phantom.write(folder, suffix="" if encoding == "no suffix" else ".dcm")
    if encoding == "gzipped":
        for path in list(folder.iterdir()):
            path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    image, _ = only(folder, tmp_path / "out")
    check(image, phantom)


def syntax(uid: Any) -> Any:
    def edit(_: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        dataset.file_meta.TransferSyntaxUID = uid
        return dataset

    return edit


@pytest.mark.parametrize("uid", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("dtype", ["<u2", "<i2"])
def test_lossless_compression(uid: Any, dtype: str, tmp_path: Path) -> None:
    if uid == JPEGLSLossless and dtype == "<i2":
        pytest.skip("pydicom does not encode signed values as JPEG-LS")

    def edit(_: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        dataset.compress(uid, generate_instance_uid=False)
        return dataset

    phantom = Phantom(dtype=dtype, rows=64, columns=48)  # JPEG 2000 wants more pixels than the other tests have
    image, _ = only(phantom.write(tmp_path / "in", edit), tmp_path / "out")
    check(image, phantom)


@pytest.mark.parametrize("source", ["temporal", "acquisition", "instance", "slice by slice"])
def test_time_series(source: str, tmp_path: Path) -> None:
    phantom = Phantom(volumes=4, slices=3)

    def edit(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        t, k = divmod(number, 3)
        if source == "temporal":
            dataset.TemporalPositionIdentifier = t + 1
            dataset.InstanceNumber = 1
        elif source == "acquisition":
            dataset.AcquisitionNumber = t + 1
        elif source == "slice by slice":
            dataset.InstanceNumber = (2 - k) * 4 + t + 1
        return dataset

    image, answer = only(phantom.write(tmp_path / "in", edit), tmp_path / "out")
    check(image, phantom)
    assert image.shape == (10, 12, 3, 4) and image.header.get_zooms()[3] == pytest.approx(2.4)
    assert json.loads(Path(answer["path"].replace(".nii.gz", ".json")).read_text())["RepetitionTime"] == 2.4


@pytest.mark.parametrize("volumes", [1, 3])
def test_enhanced_multiframe(volumes: int, tmp_path: Path) -> None:
    phantom = Phantom(volumes=volumes, orientation=turned(12, -20, 33))
    (tmp_path / "in").mkdir()
    save_as(enhanced(phantom), tmp_path / "in" / "one.dcm")
    image, answer = only(tmp_path / "in", tmp_path / "out")
    check(image, phantom)
    assert answer["n_files"] == 1
    if volumes > 1:
        assert image.header.get_zooms()[3] == pytest.approx(2.4)


def test_multiframe_whose_frames_have_nothing_but_their_order(tmp_path: Path) -> None:
    phantom = Phantom(volumes=3)
    dataset = enhanced(phantom, shuffle=False)
    del dataset.DimensionIndexSequence, dataset.InstanceNumber
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.FrameContentSequence
    (tmp_path / "in").mkdir()
    save_as(dataset, tmp_path / "in" / "one.dcm")
    image, _ = only(tmp_path / "in", tmp_path / "out")
    check(image, phantom)


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmcjpeg (dcmtk) is not installed")
@pytest.mark.parametrize("process", ["+el", "+e1"])
def test_lossless_jpeg(process: str, tmp_path: Path) -> None:
    phantom = Phantom(rows=64, columns=48)
    phantom.write(tmp_path / "plain")
    (tmp_path / "in").mkdir()
    for path in (tmp_path / "plain").iterdir():
        subprocess.run(["dcmcjpeg", process, "+ua", path, tmp_path / "in" / path.name], check=True, capture_output=True)
    assert pydicom.dcmread(next((tmp_path / "in").iterdir())).file_meta.TransferSyntaxUID.is_compressed
    image, _ = only(tmp_path / "in", tmp_path / "out")
    check(image, phantom)


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmcjpeg (dcmtk) is not installed")
def test_lossy_jpeg_of_12_bits_is_refused(tmp_path: Path) -> None:
    Phantom(rows=64, columns=48).write(tmp_path / "plain", changed_bits(12))
    (tmp_path / "in").mkdir()
    for path in (tmp_path / "plain").iterdir():
        subprocess.run(["dcmcjpeg", "+ee", path, tmp_path / "in" / path.name], check=True, capture_output=True)
    (series,) = convert_folder(tmp_path / "in", tmp_path / "out")["series"]
    assert series["reason"].startswith("unsupported compression: lossy JPEG of 12 bits")


def changed_bits(bits: int) -> Any:
    def edit(_: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        return dataset

    return edit


def test_lossy_jpeg_of_8_bits(tmp_path: Path) -> None:
    """Compared with Pillow's decoder, an independent one."""
    from PIL import Image
    from pydicom.encaps import encapsulate

    phantom = Phantom(rows=64, columns=48, dtype="<u2")
    decoded: dict[str, np.ndarray[Any, Any]] = {}

    def edit(_: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        buffer = io.BytesIO()
        smooth = np.add.outer(np.arange(64), np.arange(48)) + len(decoded)
        Image.fromarray(smooth.astype(np.uint8)).save(buffer, "JPEG", quality=90)
        decoded[dataset.SOPInstanceUID] = np.asarray(Image.open(buffer))
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([buffer.getvalue()])
        return dataset

    image, _ = only(phantom.write(tmp_path / "in", edit), tmp_path / "out")
    found = np.asarray(image.dataobj)
    assert found.dtype == np.uint8 and found.shape == (48, 64, phantom.slices)
    wanted = sorted((array.T.astype(int) for array in decoded.values()), key=lambda array: array.sum())
    ours = sorted((found[..., k].astype(int) for k in range(phantom.slices)), key=lambda array: array.sum())
    assert max(abs(a - b).max() for a, b in zip(wanted, ours, strict=True)) <= 1


def test_one_slice_with_a_thickness(tmp_path: Path) -> None:
    phantom = Phantom(slices=1, step=4.5)
    image, _ = only(phantom.write(tmp_path / "in"), tmp_path / "out")
    check(image, phantom)
    assert image.shape == (10, 12, 1) and image.affine[2, 2] == 4.5


def test_a_mixed_folder_is_taken_apart(tmp_path: Path) -> None:
    """Two series, one of them with two echoes and with magnitude and phase."""
    plain, tilted = Phantom(seed=1), Phantom(seed=2, orientation=SAGITTAL, rows=9)
    plain.write(tmp_path / "in" / "a")
    tilted.write(tmp_path / "in" / "a", suffix=".ima")
    kinds = []
    for seed, (echo, kind) in enumerate([(3.5, "M"), (3.5, "P"), (7.0, "M"), (7.0, "P")], 10):
        image_type = ["ORIGINAL", "PRIMARY", kind, "ND"]
        made = Phantom(seed=seed, series_uid="1.2.3", changes={"EchoTime": echo, "ImageType": image_type})
        made.write(tmp_path / "in" / "b", suffix=f".{seed}")
        kinds.append(made)
    series = convert_folder(tmp_path / "in", tmp_path / "out")["series"]
    assert [one["status"] for one in series] == ["converted"] * 6
    images = [np.asarray(nibabel.load(one["path"]).dataobj) for one in series]
    for phantom in (plain, tilted, *kinds):
        assert sum(np.array_equal(image, phantom.expected) for image in images) == 1
    echoes = [json.loads(Path(one["path"].replace(".nii.gz", ".json")).read_text())["EchoTime"] for one in series[2:]]
    assert sorted(echoes) == [0.0035, 0.0035, 0.007, 0.007]


def test_a_series_spread_over_folders_and_a_copy_of_a_slice(tmp_path: Path) -> None:
    phantom = Phantom(slices=6)
    phantom.write(tmp_path / "in")
    (tmp_path / "in" / "rest").mkdir()
    for path in sorted((tmp_path / "in").glob("*.dcm"))[::2]:
        path.rename(tmp_path / "in" / "rest" / path.name)
    image, answer = only(tmp_path / "in", tmp_path / "out")
    check(image, phantom)
    assert answer["n_files"] == 6 and answer["source"] == str(tmp_path / "in")
    # a copy of the whole series beside it stays a series of its own
    phantom.write(tmp_path / "twice" / "one")
    phantom.write(tmp_path / "twice" / "two")
    series = convert_folder(tmp_path / "twice", tmp_path / "out2")["series"]
    assert [one["status"] for one in series] == ["converted", "converted"]


def test_command_answers_in_json_and_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Phantom().write(tmp_path / "in" / "good")
    Phantom(seed=2).write(tmp_path / "in" / "bad", lambda number, dataset: None if number == 2 else dataset)
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    assert main(["convert", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["status"] for one in answer["series"]] == ["refused", "refused", "converted"]
    assert answer["series"][0]["reason"] == "not DICOM"
    assert answer["series"][1]["reason"].startswith("missing slices: 6 mm between slices 2 and 3 of 4")
    assert set(answer["series"][2]) >= {"status", "path", "reason", "source", "n_files", "description"}
    assert "missing slices" in (tmp_path / "out" / "rejected.csv").read_text()
    assert main(["convert", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr().out.endswith("1 converted, 2 refused\n")


def test_wrong_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Phantom(slices=1, changes={"SliceThickness": None}).write(tmp_path / "in")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("no image")
    out = ["--out", str(tmp_path / "out")]
    for arguments, words in [
        ([str(tmp_path / "nowhere"), *out], "is no folder"),
        ([str(tmp_path / "empty"), *out], "holds no files"),
        ([str(tmp_path / "text"), *out], "holds no DICOM file"),
        ([str(tmp_path / "in"), *out, "--strict"], "neither thickness nor spacing"),
        ([str(tmp_path / "in"), "--out", str(tmp_path / "text")], "exists already"),
    ]:
        assert main(["convert", *arguments]) == 2
        answer = capsys.readouterr()
        assert words in answer.err and answer.err.count("\n") == 1 and answer.out == ""
    assert not (tmp_path / "out").exists()
