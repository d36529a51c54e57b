"""Folders as public collections have them: objects of all kinds beside images, damage, links, anonymised headers."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_phantoms import CORONAL, SAGITTAL, Phantom, blank, enhanced, save_as, set_pixels
from pydicom import uid as uids
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from debian_mri.cli import main
from debian_mri.dicom import convert_folder

Edit = Callable[[int, pydicom.FileDataset], "pydicom.FileDataset | None"]


def setting(**values: Any) -> Edit:
    """Sets attributes; None removes one."""

    def edit(_: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, about values that are no UIDs
            for keyword, value in values.items():
                if value is not None:
                    setattr(dataset, keyword, value)
                elif keyword in dataset:
                    delattr(dataset, keyword)
        return dataset

    return edit


def answers(folder: Path, out: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Converted and refused series."""
    series = convert_folder(folder, out, overwrite=True)["series"]
    return [one for one in series if one["status"] == "converted"], [one for one in series if one["reason"]]


def is_phantom(one: dict[str, Any], phantom: Phantom) -> bool:
    image = nibabel.load(one["path"])
    last = [phantom.columns - 1, phantom.rows - 1, phantom.slices - 1]
    placed = np.allclose(image.affine @ [*last, 1], [*phantom.place(*last), 1], atol=1e-3)
    return placed and np.array_equal(np.asarray(image.dataobj), phantom.expected)


OBJECTS = {
    "raw data": uids.RawDataStorage,
    "a presentation state": uids.GrayscaleSoftcopyPresentationStateStorage,
    "a structured report": uids.XRayRadiationDoseSRStorage,
    "a key object selection": uids.KeyObjectSelectionDocumentStorage,
    "spectroscopy": uids.MRSpectroscopyStorage,
    "an encapsulated document": uids.EncapsulatedPDFStorage,
    "a waveform": uids.GeneralECGWaveformStorage,
    "a radiotherapy object": uids.RTStructureSetStorage,
    "a registration": uids.SpatialRegistrationStorage,
    "an object of a maker's own kind": uids.UID("1.3.46.670589.11.0.0.99.2"),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_without_image_under_the_series_uid(kind: str, tmp_path: Path) -> None:
    phantom = Phantom()
    folder = phantom.write(tmp_path / "in")
    save_as(blank(OBJECTS[kind], phantom.series_uid, "object"), folder / "XX_0001")
    (volume,), (aside,) = answers(folder, tmp_path / "out")
    assert is_phantom(volume, phantom) and volume["n_files"] == 5
    assert aside["reason"] == f"no pixel data: {kind}" and aside["n_files"] == 1
    assert aside["source"] == str(folder / "XX_0001")
    with (tmp_path / "out" / "rejected.csv").open() as handle:
        assert [row["reason"] for row in csv.DictReader(handle)] == [aside["reason"]]
    assert "XX_0001" not in (tmp_path / "out" / "rejected.csv").read_text()


@pytest.mark.parametrize("kind", ["segmentation", "dose", "capture", "colour", "burnt in", "colour slice", "no class"])
def test_secondary_image_or_mask_under_the_series_uid(kind: str, tmp_path: Path) -> None:
    phantom = Phantom()
    folder = phantom.write(tmp_path / "in")
    classes = {
        "segmentation": uids.SegmentationStorage,
        "dose": uids.RTDoseStorage,
        "colour slice": uids.MRImageStorage,
    }
    other = blank(classes.get(kind, uids.SecondaryCaptureImageStorage), phantom.series_uid, "other")
    if kind == "no class":
        del other.SOPClassUID, other.file_meta.MediaStorageSOPClassUID
        other.Modality = "SR"
        save_as(other, folder / "other.dcm", force_encoding=True, implicit_vr=False, little_endian=True)
    else:
        set_pixels(other, np.ones((9, 9), "<u2"))
        if kind in ("segmentation", "dose"):  # with a geometry of its own
            other.ImageOrientationPatient, other.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 500]
            other.PixelSpacing, other.SliceThickness = [1, 1], 1
        if kind.startswith("colour"):
            other.SamplesPerPixel, other.PhotometricInterpretation, other.PlanarConfiguration = 3, "RGB", 0
        if kind == "burnt in":
            other.BurnedInAnnotation = "YES"
        save_as(other, folder / "other.dcm")
    (volume,), (aside,) = answers(folder, tmp_path / "out")
    assert is_phantom(volume, phantom)
    assert aside["reason"].startswith(
        {
            "segmentation": "not a scan: a segmentation",
            "dose": "not a scan: a radiotherapy object",
            "capture": "missing geometry",
            "colour": "not a scan: a colour image",
            "colour slice": "not a scan: a colour image",
            "burnt in": "burnt-in annotation",
            "no class": "no pixel data: a structured report",
        }[kind]
    )


def test_many_objects_are_one_line_and_do_not_hide_a_lost_slice(tmp_path: Path) -> None:
    phantom = Phantom()
    folder = phantom.write(tmp_path / "in", lambda number, dataset: None if number == 2 else dataset)
    for number in range(7):
        state = blank(uids.GrayscaleSoftcopyPresentationStateStorage, phantom.series_uid, f"state{number}")
        save_as(state, folder / f"PS_{number}")
    found, (series, states) = answers(folder, tmp_path / "out")
    assert not found and series["reason"].startswith("missing slices")
    assert states["n_files"] == 7 and states["reason"] == "no pixel data: a presentation state"
    # in a folder of their own they are no part of the series either
    (folder / "states").mkdir()
    for path in folder.glob("PS_*"):
        path.rename(folder / "states" / path.name)
    phantom.write(folder)
    (volume,), (states,) = answers(folder, tmp_path / "out")
    assert is_phantom(volume, phantom) and states["n_files"] == 7


@pytest.mark.parametrize("dtype", ["<u2", "<i2"])
@pytest.mark.parametrize("high", [11, 13, 15])
@pytest.mark.parametrize("compressed", [False, True])
def test_bits_beside_those_stored(dtype: str, high: int, compressed: bool, tmp_path: Path) -> None:
    """Overlays and garbage above and below twelve bits, of either sign, wherever these lie in the sixteen."""
    phantom = Phantom(dtype=dtype)
    phantom.data = np.clip(phantom.data, -2048, 2047) if dtype == "<i2" else phantom.data
    generator = np.random.default_rng(4)

    def edit(_: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        values = np.frombuffer(dataset.PixelData, dtype).astype(int) & 0xFFF
        shift = high - 11
        garbage = generator.integers(0, 1 << 16, values.shape) & ~(0xFFF << shift) & 0xFFFF
        dataset.PixelData = (values << shift | garbage).astype("<u2").tobytes()
        dataset.BitsStored, dataset.HighBit = 12, high
        if compressed:
            dataset.compress(RLELossless, generate_instance_uid=False)
        return dataset

    (volume,), refused = answers(phantom.write(tmp_path / "in", edit), tmp_path / "out")
    assert is_phantom(volume, phantom) and not refused


def test_fifteen_signed_bits_and_a_misnamed_highest_bit(tmp_path: Path) -> None:
    phantom = Phantom(dtype="<i2")

    def edit(_: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") & 0x7FFF).astype("<u2").tobytes()
        return setting(BitsStored=15, HighBit=14)(0, dataset)  # type: ignore[return-value]

    (volume,), _ = answers(phantom.write(tmp_path / "in", edit), tmp_path / "out")
    assert is_phantom(volume, phantom)
    # values of twelve bits that begin at the lowest one, and a header that says they end at the highest
    folder = Phantom().write(tmp_path / "misnamed", setting(BitsStored=12, HighBit=15))
    found, (refused,) = answers(folder, tmp_path / "out")
    assert not found and refused["reason"] == "damaged pixels: the highest bit of the header is above all values"


def two_series(folder: Path, **changes: Any) -> tuple[Phantom, Phantom]:
    """Two series in one folder, their files numbered on."""
    first = Phantom(seed=1, changes={"SeriesNumber": 1, "SeriesDescription": "t1 mprage", **changes})
    second = Phantom(seed=2, orientation=SAGITTAL, changes={"SeriesNumber": 2, "SeriesDescription": "t2", **changes})
    folder.mkdir()
    for start, phantom in ((1, first), (6, second)):
        for number, (_, dataset) in enumerate(phantom.files()):
            save_as(dataset, folder / f"IM-{start + number:04d}.dcm")
    return first, second


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("kept", [0.6, 0.8, 0.95])
def test_a_cut_file_of_a_series(kept: float, gzipped: bool, tmp_path: Path) -> None:
    """Its last slice's: no gap shows that it is missing, and the other series of the folder lacks nothing."""
    first, _ = two_series(tmp_path / "in")
    victim = tmp_path / "in" / "IM-0010.dcm"
    whole = victim.read_bytes()
    place = whole.index(b"\x20\x00\x0e\x00")  # of the series' UID
    cut = whole[: place + 80 + int(kept * (len(whole) - place - 80))]
    victim.write_bytes(gzip.compress(whole, 0)[: len(cut)] if gzipped else cut)
    (volume,), refused = answers(tmp_path / "in", tmp_path / "out")
    assert is_phantom(volume, first)
    assert [one["n_files"] for one in refused] == [5]
    assert refused[0]["reason"].split(":")[0] in ("unreadable file", "damaged pixels", "no pixel data")


@pytest.mark.parametrize("length", [0, 100, 140, 340, 600])
def test_a_file_cut_before_its_series_is_named(length: int, tmp_path: Path) -> None:
    """Its name, between those of the second series' files, shows that the first one cannot miss it."""
    first, _ = two_series(tmp_path / "in")
    victim = tmp_path / "in" / "IM-0010.dcm"
    victim.write_bytes(victim.read_bytes()[:length])
    assert b"\x20\x00\x0e\x00" not in victim.read_bytes()
    (volume,), refused = answers(tmp_path / "in", tmp_path / "out")
    assert is_phantom(volume, first)
    (series,) = [one for one in refused if one["n_files"] == 4]
    assert series["reason"].startswith("unreadable file: 1 damaged file beside it may belong to it")
    (file,) = [one for one in refused if one["n_files"] == 1]
    assert file["source"] == str(victim) and "(file 10 of 10 of its folder by name)" in file["reason"]
    assert "IM-0010" not in (tmp_path / "out" / "rejected.csv").read_text()


def test_the_first_slice_of_a_series_is_empty(tmp_path: Path) -> None:
    """Between the names of two series: either may miss it, unless the headers announce what is there."""
    two_series(tmp_path / "in")
    (tmp_path / "in" / "IM-0006.dcm").write_bytes(b"")
    assert not answers(tmp_path / "in", tmp_path / "out")[0]
    first, _ = two_series(tmp_path / "counted", ImagesInAcquisition=5)
    (tmp_path / "counted" / "IM-0006.dcm").write_bytes(b"")
    (volume,), refused = answers(tmp_path / "counted", tmp_path / "out")
    assert is_phantom(volume, first) and len(refused) == 2


def test_remaining_header_identifies_the_series(tmp_path: Path) -> None:
    """Names are uninformative here; the file ends after its series' description."""
    first, second = two_series(tmp_path / "in")
    for number, path in enumerate(sorted((tmp_path / "in").iterdir())):
        path.rename(tmp_path / "in" / f"x{(37 * number) % 101:03d}.dcm")
    headers = {path: pydicom.dcmread(path) for path in (tmp_path / "in").iterdir()}
    victim = next(path for path, header in headers.items() if header.SeriesNumber == 2 and header.InstanceNumber == 5)
    whole = victim.read_bytes()
    victim.write_bytes(whole[: whole.index(b"\x10\x00\x10\x00")])
    (volume,), refused = answers(tmp_path / "in", tmp_path / "out")
    assert is_phantom(volume, first) and not is_phantom(volume, second)
    assert sorted(one["n_files"] for one in refused) == [1, 4]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.dcm", b""),
        ("zeros.dcm", bytes(4000)),
        ("preview.dcm", b"\xff\xd8\xff\xe0" + bytes(300)),
        ("im028.jpg", b"\xff\xd8\xff\xe0" + bytes(300)),
        ("im999", b"\x89PNG\r\n" + bytes(300)),
        ("im100.dcm", b"%PDF-1.4\n\xff"),
        ("im101.dcm", b"PK\x03\x04" + bytes(30)),
        ("im102.dcm", b"<html>error</html>"),
        ("volume.nii.gz", gzip.compress(bytes(344) + b"n+1\0" + bytes(80), mtime=0)),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0" + bytes(300)),
        ("._im000.dcm", bytes(100)),
        (".DS_Store", bytes(100)),
        ("noise.bin", bytes(range(256))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_empty_and_foreign_files_concern_no_series(name: str, content: bytes, tmp_path: Path) -> None:
    phantom = Phantom()
    folder = phantom.write(tmp_path / "in")
    (folder / name).write_bytes(content)
    (volume,), refused = answers(folder, tmp_path / "out")
    assert is_phantom(volume, phantom)
    assert len(refused) == (not name.startswith("."))


def test_remains_of_a_file_that_is_there_whole(tmp_path: Path) -> None:
    """A copy that ended early: its image UID is that of a whole file, so no slice is missing."""
    phantom = Phantom()
    folder = phantom.write(tmp_path / "in")
    whole = (folder / "im014.dcm").read_bytes()
    (folder / "im015.dcm").write_bytes(whole[: whole.index(b"\x20\x00\x32\x00") + 3])
    (folder / "im016.dcm").write_bytes(whole[: whole.index(b"\x10\x00\x10\x00")])
    (volume,), refused = answers(folder, tmp_path / "out")
    assert is_phantom(volume, phantom)
    assert {Path(one["source"]).name for one in refused} == {"im015.dcm", "im016.dcm"}


def test_slices_stored_as_captures_or_in_colour_are_slices(tmp_path: Path) -> None:
    capture = setting(SOPClassUID=uids.SecondaryCaptureImageStorage)
    phantom = Phantom()
    (volume,), refused = answers(phantom.write(tmp_path / "whole", capture), tmp_path / "out")
    assert is_phantom(volume, phantom) and not refused

    def spoiled(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset | None:
        dataset = capture(number, dataset)  # type: ignore[assignment]
        return setting(ImagePositionPatient=None)(number, dataset) if number == 4 else dataset

    def coloured(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset | None:
        return setting(SamplesPerPixel=3, PhotometricInterpretation="RGB")(number, dataset) if number == 4 else dataset

    for name, edit in (("spoiled", spoiled), ("coloured", coloured)):
        found, (series,) = answers(phantom.write(tmp_path / name, edit), tmp_path / "out")
        assert not found and "in 1 of 5 files (the first is file 5 of its folder by name)" in series["reason"]


def test_single_files_that_hold_a_series_are_whole(tmp_path: Path) -> None:
    phantom = Phantom()
    (tmp_path / "in").mkdir()
    save_as(enhanced(phantom), tmp_path / "in" / "IM_0001")
    whole = (tmp_path / "in" / "IM_0001").read_bytes()
    (tmp_path / "in" / "IM_0002").write_bytes(whole[:300])
    (tmp_path / "in" / "IM_0003").write_bytes(b"")
    (volume,), refused = answers(tmp_path / "in", tmp_path / "out")
    assert is_phantom(volume, phantom) and [one["reason"].split(":")[0] for one in refused] == ["unreadable file"] * 2


def test_archives_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scans.zip").write_bytes(b"PK\x03\x04" + bytes(30))
    assert main(["convert", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert "holds no DICOM file but archives: unpack them first" in capsys.readouterr().err


ANONYMISED: dict[str, Edit] = {
    "no image UID": setting(SOPInstanceUID=None),
    "an empty image UID": setting(SOPInstanceUID=""),
    "one image UID for all": setting(SOPInstanceUID="1.2.3"),
    "letters in UIDs": setting(SOPInstanceUID="ANON123", SeriesInstanceUID="ANON_0042", StudyInstanceUID="x"),
    "no photometric interpretation": setting(PhotometricInterpretation=None, SamplesPerPixel=None),
    "no study UID": setting(StudyInstanceUID=None),
    "no series UID": setting(SeriesInstanceUID=None),
    "no UID at all": setting(SOPInstanceUID=None, SeriesInstanceUID=None, StudyInstanceUID=None, SOPClassUID=None),
    "an empty series UID": setting(SeriesInstanceUID="", SOPInstanceUID=""),
    "no numbers": setting(InstanceNumber=None, SeriesNumber=None, AcquisitionNumber=None),
    "words for numbers": setting(InstanceNumber="1"),
    "no dates, names, types": setting(StudyDate="", PatientName="", PatientID="", ImageType=None, Manufacturer=""),
    "long UIDs": setting(SeriesInstanceUID="1." * 40 + "7", SOPInstanceUID="2." * 40 + "7"),
}


@pytest.mark.parametrize("kind", ANONYMISED)
def test_anonymised_headers(kind: str, tmp_path: Path) -> None:
    phantom = Phantom()

    def edit(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset | None:
        dataset = ANONYMISED[kind](number, dataset)  # type: ignore[assignment]
        if kind == "words for numbers":
            dataset.add_new("InstanceNumber", "LO", "ANONYMIZED")
            dataset.add_new("AcquisitionNumber", "LO", "ANONYMIZED")
        return dataset

    options = {"force_encoding": True, "implicit_vr": False, "little_endian": True}
    (volume,), refused = answers(phantom.write(tmp_path / "in", edit, **options), tmp_path / "out")
    assert is_phantom(volume, phantom) and not refused


def test_anonymised_time_series_and_series_without_uids(tmp_path: Path) -> None:
    series = Phantom(volumes=3, slices=4)
    numbered = lambda number, dataset: setting(SOPInstanceUID="1", TemporalPositionIdentifier=number // 4 + 1)(  # noqa: E731
        number, dataset
    )
    (volume,), _ = answers(series.write(tmp_path / "time", numbered), tmp_path / "out")
    assert is_phantom(volume, series)
    for uid, constant in {"none": (None, "1"), "letters": ("ANON", "1.2"), "number": ("1.2.3", "1.2.4")}.items():
        folder, named = tmp_path / uid, {"SeriesInstanceUID": constant[0], "SOPInstanceUID": constant[1]}
        first, second = Phantom(seed=1), Phantom(seed=2)
        first.write(folder, setting(**named, SeriesNumber=1), suffix=".1")
        second.write(folder, setting(**named, SeriesNumber=2), suffix=".2")
        (a, b), refused = answers(folder, tmp_path / "out")
        assert is_phantom(a, first) and is_phantom(b, second) and not refused


def test_people_with_one_uid_in_two_folders_are_not_put_together(tmp_path: Path) -> None:
    """Their slices lie between each other's: together they would be one even stack."""
    people = Phantom(seed=1, step=4.0), Phantom(seed=2, step=4.0, origin=(-31.5, 12.25, -5.0))
    for number, person in enumerate(people):
        person.write(
            tmp_path / "in" / str(number), setting(SeriesInstanceUID="ANON", PatientID="", SOPInstanceUID=None)
        )
    found, _ = answers(tmp_path / "in", tmp_path / "out")
    assert [is_phantom(one, person) for one, person in zip(found, people, strict=True)] == [True, True]


def test_copies_are_still_refused(tmp_path: Path) -> None:
    for kind in ("one image UID for all", "no image UID", "no numbers"):
        folder = Phantom().write(tmp_path / kind, ANONYMISED[kind])
        (folder / "copy.dcm").write_bytes((folder / "im014.dcm").read_bytes())
        found, refused = answers(folder, tmp_path / "out")
        assert not found and refused[0]["reason"].startswith("duplicate slices"), kind


@pytest.mark.parametrize("thickness", [5.0, 3.0])
@pytest.mark.parametrize("spacing", [1.0, -6.0, 0.0, 0.5, 3.0, 600.0])
@pytest.mark.parametrize("numbered", ["in turn", "descending", "interleaved", "not"])
def test_positions_decide_where_the_header_has_another_spacing(
    thickness: float, spacing: float, numbered: str, tmp_path: Path
) -> None:
    phantom = Phantom(step=6.0, changes={"SliceThickness": thickness, "SpacingBetweenSlices": spacing})
    order = {"in turn": [1, 2, 3, 4, 5], "descending": [5, 4, 3, 2, 1], "interleaved": [1, 4, 2, 5, 3]}.get(numbered)

    def edit(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset | None:
        return setting(InstanceNumber=order[number] if order else None)(number, dataset)

    (volume,), _ = answers(phantom.write(tmp_path / "in", edit), tmp_path / "out")
    assert is_phantom(volume, phantom)
    assert json.loads(Path(volume["path"].replace(".nii.gz", ".json")).read_text())["SpacingBetweenSlices"] == 6.0


def test_a_time_series_numbered_slice_by_slice_with_the_gap_as_spacing(tmp_path: Path) -> None:
    phantom = Phantom(volumes=6, step=6.0, changes={"SliceThickness": 5.0, "SpacingBetweenSlices": 1.0})
    edit = lambda number, dataset: setting(InstanceNumber=number % 5 * 6 + number // 5 + 1)(number, dataset)  # noqa: E731
    (volume,), _ = answers(phantom.write(tmp_path / "in", edit), tmp_path / "out")
    assert is_phantom(volume, phantom)


@pytest.mark.parametrize(("spacing", "reach"), [(1.0, 5.0), (6.0, 6.0), (-6.0, 5.0), (5000.0, 5.0)])
def test_a_single_slice_with_an_implausible_spacing(spacing: float, reach: float, tmp_path: Path) -> None:
    phantom = Phantom(slices=1, step=5.0, changes={"SpacingBetweenSlices": spacing})
    (volume,), _ = answers(phantom.write(tmp_path / "in"), tmp_path / "out")
    assert nibabel.load(volume["path"]).affine[2, 2] == reach


def test_linked_folders_and_files(tmp_path: Path) -> None:
    first, second = Phantom(seed=1), Phantom(seed=2)
    first.write(tmp_path / "store" / "a")
    second.write(tmp_path / "store" / "b")
    folder = tmp_path / "in"
    (folder / "files").mkdir(parents=True)
    (folder / "linked").symlink_to(tmp_path / "store" / "a", target_is_directory=True)
    (folder / "again").symlink_to(tmp_path / "store" / "a", target_is_directory=True)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "itself").symlink_to("itself")
    (tmp_path / "store" / "a" / "up").symlink_to(tmp_path / "in", target_is_directory=True)
    for path in (tmp_path / "store" / "b").iterdir():
        (folder / "files" / path.name).symlink_to(path)
    found, refused = answers(folder, tmp_path / "out")
    assert {is_phantom(one, first) for one in found} == {True, False} and len(found) == 2
    assert any(is_phantom(one, second) for one in found) and [one["reason"] for one in refused] == ["not DICOM"]
    # hidden stores of version control, as git-annex has them
    (folder / ".git").mkdir()
    third = Phantom(seed=3)
    third.write(folder / ".git" / "annex")
    (folder / "kept").mkdir()
    for path in (folder / ".git" / "annex").iterdir():
        (folder / "kept" / path.name).symlink_to(Path("..") / ".git" / "annex" / path.name)
    assert any(is_phantom(one, third) for one in answers(folder, tmp_path / "out")[0])
    shutil.rmtree(folder / "kept")
    # a link to a file of the same tree is that file; one to a file that is gone may be a lost slice
    (folder / "files" / "alias.dcm").symlink_to(folder / "files" / "im000.dcm")
    assert len(answers(folder, tmp_path / "out")[0]) == 2
    (tmp_path / "store" / "b" / "im028.dcm").unlink()
    found, refused = answers(folder, tmp_path / "out")
    assert len(found) == 1 and any("a link to a file that is not there" in one["reason"] for one in refused)


def test_stacks_of_an_enhanced_file(tmp_path: Path) -> None:
    """Three planes in one file, each a stack by the header."""
    parts = [Phantom(seed=seed, slices=3 + seed, orientation=plane) for seed, plane in enumerate((SAGITTAL, CORONAL))]
    files = [enhanced(part, shuffle=False) for part in parts]
    whole = files[0]
    frames = []
    for number, file in enumerate(files):
        for frame in file.PerFrameFunctionalGroupsSequence:
            frame.FrameContentSequence[0].StackID = str(number + 1)
            frame.PlaneOrientationSequence = file.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
            frames.append(frame)
    del whole.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    whole.PerFrameFunctionalGroupsSequence, whole.NumberOfFrames = Sequence(frames), len(frames)
    set_pixels(whole, np.concatenate([part.data[0] for part in parts]))
    (tmp_path / "in").mkdir()
    save_as(whole, tmp_path / "in" / "one.dcm")
    found, refused = answers(tmp_path / "in", tmp_path / "out")
    assert [is_phantom(one, part) for one, part in zip(found, parts, strict=True)] == [True, True] and not refused
