"""Scanners' own files: reference volumes, compressed copies, dcm2niix, and damage."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_phantoms import Phantom, enhanced, save_as, turned
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from debian_mri.dicom import convert_folder, deidentify_file

DATA = Path(os.environ.get("ICUBE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
ARCHIVE = DATA / "mri" / "dicom" / "dicom.tar.xz"
GE, SIEMENS = "dcm_qa_nih/In/20180918GE/mr_0004", "dcm_qa_nih/In/20180918Si/mr_0003"
REFERENCES = {
    GE: "dcm_qa_nih/Ref/DCM2NIIX_regression_test_4.nii",
    SIEMENS: "dcm_qa_nih/Ref/EPI_PE=AP_3.nii",
    "vendors/failing/slicecount/001": "vendors/failing/slicecount/001_ground_truth.nii.gz",
    **{
        f"vendors/{folder}{kind}": f"vendors/{folder}{kind}_ground_truth.nii.gz"
        for folder in ("", "ge/", "philips/", "siemens/", "hitachi/")
        for kind in ("anatomical/001", "anatomical/001_implicit")
    },
}
REFUSED = {
    "vendors/failing/gantrytilting/001": "gantry tilt: slices are stacked at 14.00 degrees from their normal",
    "vendors/failing/notavolume/001": "not a volume: all 4 images have one position (duplicate slices)",
    "vendors/failing/sliceincrement/001": "missing slices: 10 mm between slices 3 and 4 of 4, 5 mm between others",
    "vendors/failing/sliceincrement/002": (
        "missing slices: 1.499 mm between slices 3 and 4 of 4, 0.7497 mm between others"
    ),
    "vendors/failing/sliceorientation/001": "mixed orientations: 4 images in 2 orientations",
    "vendors/ge/anatomical/001_single_slice": "missing geometry: a single slice with neither thickness nor spacing",
}
needs_dcm2niix = pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not ARCHIVE.is_file():
        pytest.skip(f"{ARCHIVE} is not there (ICUBE_DATA names the folder with the data)")
    folder = tmp_path_factory.mktemp("scans") / "unpacked"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def answers(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Result of one conversion of everything, for each folder with DICOM files."""
    series = convert_folder(scans, tmp_path_factory.mktemp("converted") / "out")["series"]
    return {str(Path(one["source"]).relative_to(scans)): one for one in series if one["reason"] != "not DICOM"}


def canonical_name(path: str | Path) -> tuple[Any, Any]:
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj), image.affine


def assert_same(path: str | Path, reference: str | Path, *, rtol: float = 0.0) -> None:
    """The same voxels at the same places, whichever way the axes run."""
    (data, affine), (wanted, wanted_affine) = canonical_name(path), canonical_name(reference)
    np.testing.assert_allclose(affine, wanted_affine, atol=1e-3)
    np.testing.assert_allclose(data, wanted, rtol=rtol)


def only(folder: Path, out: Path) -> str:
    series = convert_folder(folder, out, overwrite=True)["series"]
    paths = [one["path"] for one in series if one["status"] == "converted"]
    assert len(paths) == 1, series
    return str(paths[0])


@pytest.mark.real_data
def test_every_folder_is_answered_for(scans: Path, answers: dict[str, dict[str, Any]]) -> None:
    folders = {str(path.parent.relative_to(scans)) for path in scans.rglob("*.dcm")}
    assert answers.keys() == folders == REFERENCES.keys() | REFUSED.keys()


@pytest.mark.real_data
@pytest.mark.parametrize("folder", REFERENCES)
def test_reference_volume_is_reproduced(folder: str, scans: Path, answers: dict[str, dict[str, Any]]) -> None:
    assert_same(answers[folder]["path"], scans / REFERENCES[folder])


@pytest.mark.real_data
@pytest.mark.parametrize("folder", REFUSED)
def test_refused_with_its_own_reason(folder: str, answers: dict[str, dict[str, Any]]) -> None:
    assert answers[folder]["reason"] == REFUSED[folder]


@pytest.mark.real_data
@pytest.mark.parametrize("folder", [GE, SIEMENS])
def test_header_of_a_time_series(folder: str, scans: Path, answers: dict[str, dict[str, Any]]) -> None:
    mine, reference = (nibabel.load(path).header for path in (answers[folder]["path"], scans / REFERENCES[folder]))
    np.testing.assert_allclose(mine.get_zooms(), reference.get_zooms(), atol=1e-4)
    assert mine.get_xyzt_units() == reference.get_xyzt_units()
    assert (mine["qform_code"], mine["sform_code"]) == (reference["qform_code"], reference["sform_code"])


@pytest.mark.real_data
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("folder", [GE, SIEMENS, "vendors/hitachi/anatomical/001", "vendors/siemens/anatomical/001"])
def test_compressed_copies_give_the_same_volume(
    folder: str, syntax: Any, scans: Path, answers: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for path in sorted((scans / folder).glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        if dataset.PixelRepresentation == 1 and syntax == JPEGLSLossless:
            pytest.skip("pydicom does not encode signed values as JPEG-LS")
        dataset.compress(syntax, generate_instance_uid=False)
        save_as(dataset, tmp_path / "in" / path.name)
    assert_same(only(tmp_path / "in", tmp_path / "out"), answers[folder]["path"])


@pytest.mark.real_data
def test_a_mosaic_whose_protocol_has_a_gap(scans: Path, tmp_path: Path) -> None:
    """The slices of a mosaic lie nowhere but in the protocol text: there, too, every gap is looked at."""
    (tmp_path / "in").mkdir()
    for path in (scans / SIEMENS).glob("*.dcm"):
        content = path.read_bytes()
        assert content.count(b"[2].sPosition.dTra\t = \t40.0") == 1
        (tmp_path / "in" / path.name).write_bytes(content.replace(b"dTra\t = \t40.0", b"dTra\t = \t44.0"))
    series = convert_folder(tmp_path / "in", tmp_path / "out")["series"]
    assert [one["reason"] for one in series] == [
        "missing slices: the protocol has slices 8 to 16 mm apart, the mosaic 12 mm"
    ]


@pytest.mark.real_data
def test_deidentified_copies_give_the_same_volume(
    scans: Path, answers: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    secrets = [b"Regression", b"20180918", b"fmrif", b"NIH", b"1.2.840.113619", b"27018"]
    assert all(any(secret in path.read_bytes() for path in (scans / GE).iterdir()) for secret in secrets)
    for path in (scans / GE).glob("*.dcm"):
        deidentify_file(path, tmp_path / "in" / path.name, b"a salt for the tests")
        content = (tmp_path / "in" / path.name).read_bytes()
        assert not [secret for secret in secrets if secret in content]
    assert_same(only(tmp_path / "in", tmp_path / "out"), answers[GE]["path"])


@pytest.mark.real_data
@pytest.mark.parametrize("folder", [SIEMENS, "vendors/philips/anatomical/001"])
def test_damaged_copies_are_refused_or_right(
    folder: str, scans: Path, answers: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Cut anywhere, or with some bytes of the header changed."""
    shutil.copytree(scans / folder, tmp_path / "in")
    victim = sorted((tmp_path / "in").glob("*.dcm"))[1]
    whole = victim.read_bytes()
    wanted, wanted_affine = canonical_name(answers[folder]["path"])
    generator = np.random.default_rng(5)
    header = len(whole) - pydicom.dcmread(victim).Rows * pydicom.dcmread(victim).Columns * 2
    for round_ in range(24):
        spoiled = bytearray(whole)
        if round_ % 2:
            del spoiled[int(generator.integers(len(whole))) :]
        else:
            for place in generator.integers(0, min(header, 6000), 3):
                spoiled[place] = int(generator.integers(256))
        victim.write_bytes(bytes(spoiled))
        for one in convert_folder(tmp_path / "in", tmp_path / "out", overwrite=True)["series"]:
            if one["status"] == "refused":
                assert one["reason"]
                continue
            data, affine = canonical_name(one["path"])
            np.testing.assert_allclose(affine, wanted_affine, atol=1e-3)
            np.testing.assert_array_equal(data, wanted)


def dcm2niix(folder: Path, out: Path) -> Path:
    out.mkdir()
    command = ["dcm2niix", "-b", "n", "-z", "n", "-f", "volume", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    found = list(out.glob("*.nii"))
    assert len(found) == 1
    return found[0]


@needs_dcm2niix
@pytest.mark.real_data
@pytest.mark.parametrize("folder", [GE, SIEMENS, *(name for name in REFERENCES if name.startswith("vendors"))])
def test_agrees_with_dcm2niix(folder: str, scans: Path, answers: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    assert_same(answers[folder]["path"], dcm2niix(scans / folder, tmp_path / "theirs"))


@needs_dcm2niix
@pytest.mark.parametrize("kind", ["oblique", "time series", "philips", "rescaled", "enhanced"])
def test_agrees_with_dcm2niix_on_simulated_series(kind: str, tmp_path: Path) -> None:
    volumes = 3 if kind == "time series" else 1
    phantom = Phantom(volumes=volumes, orientation=turned(12, -20, 33), rows=32, columns=24)

    def edit(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        dataset.StudyDate, dataset.StudyTime, dataset.AcquisitionTime = "20200101", "101112", "101112"
        if kind == "philips":
            dataset.Manufacturer = "Philips Medical Systems"
            dataset.RescaleSlope, dataset.RescaleIntercept = "1.6", "-8"
            dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.05)
        elif kind == "rescaled":
            dataset.Manufacturer = "GE MEDICAL SYSTEMS"
            dataset.RescaleSlope, dataset.RescaleIntercept = "0.25", "3.5"
        elif kind == "time series":
            dataset.AcquisitionNumber = number // phantom.slices + 1
        return dataset

    if kind == "enhanced":
        (tmp_path / "in").mkdir()
        save_as(edit(0, enhanced(phantom)), tmp_path / "in" / "one.dcm")
    else:
        phantom.write(tmp_path / "in", edit)
    mine, theirs = only(tmp_path / "in", tmp_path / "out"), dcm2niix(tmp_path / "in", tmp_path / "theirs")
    assert_same(mine, theirs, rtol=1e-5)
