"""No identity or date of a scan leaks: byte searches for values planted in every attribute."""

from __future__ import annotations

import functools
import gzip
import json
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_phantoms import Phantom, save_as
from pydicom.datadict import DicomDictionary
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from debian_mri.cli import main
from debian_mri.dicom import convert_folder, deidentify_dataset, deidentify_file, hash_subject, project_salt, remap_uid
from debian_mri.dicom.privacy.deidentify import profile
from icube_common.errors import InputError

SALT = bytes(range(16))
NAME, DATE, TIME, UID, AGE = "ZZSECRET", "19470819", "234517", "1.2.826.0.1.98765432155", "077Y"
SECRETS = (NAME, NAME.lower(), DATE, "1947-08-19", TIME, UID, AGE)
PLANTED: dict[str, str] = {
    **dict.fromkeys(("LO", "SH", "PN", "ST", "LT", "UT", "UC", "AE", "CS", "UR"), NAME),
    **{"DA": DATE, "TM": TIME, "DT": DATE + TIME, "UI": UID, "AS": AGE},
}
# without these the file is no image of a volume
NEEDED = {"SOPClassUID", "ImageType", "PhotometricInterpretation", "SpecificCharacterSet", "SOPInstanceUID"}


@functools.cache
def planted() -> tuple[pydicom.Dataset, pydicom.Dataset]:
    """A value of its own kind in every attribute of the dictionary that can hold text; and some for a sequence."""
    flat, nested = pydicom.Dataset(), pydicom.Dataset()
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr in PLANTED and keyword and keyword not in NEEDED and 0x0008 <= tag >> 16 < 0x5000:
            flat.add_new(tag, vr, PLANTED[vr])
    for keyword in ("PatientName", "PersonName", "TextValue", "Date", "ReferencedSOPInstanceUID", "LongCodeValue"):
        setattr(nested, keyword, flat[keyword].value)
    return flat, nested


def plant(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
    """The planted values at the top, in sequences, in private attributes and around the data set."""
    flat, nested = planted()
    dataset.update(dict(flat.items()))
    dataset.SeriesInstanceUID = UID
    dataset.SeriesDescription = f"t1 {NAME} mprage {DATE}"
    dataset.SOPInstanceUID = f"{UID}.{number}"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", NAME]
    for keyword in ("ReferencedImageSequence", "RequestAttributesSequence", "AnatomicRegionSequence"):
        setattr(dataset, keyword, Sequence([nested]))
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", NAME.encode() * 20)
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "1000")
    dataset.private_block(0x0011, NAME, create=True).add_new(0x10, "LO", NAME)
    dataset.add_new((0x6000, 0x3000), "OW", NAME.encode())
    dataset.file_meta.SourceApplicationEntityTitle = NAME
    dataset.preamble = NAME.encode() * 16
    return dataset


def found_in(content: bytes) -> list[str]:
    return [secret for secret in SECRETS if secret.encode() in content or secret.encode("utf-16-le") in content]


def found_below(folder: Path) -> list[str]:
    """Secrets in any file's bytes (unzipped too) or name."""
    found = []
    for path in folder.rglob("*"):
        found += found_in(path.relative_to(folder).as_posix().encode())
        if path.is_file():
            content = path.read_bytes()
            found += found_in(content)
            if path.suffix == ".gz":
                found += found_in(gzip.decompress(content))
    return found


@pytest.mark.parametrize("broken", [None, "slice", "value", "pixels"])
@pytest.mark.parametrize("salted", [True, False])
def test_conversion_leaks_no_identity(
    broken: str | None, salted: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def edit(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset | None:
        plant(number, dataset)
        if broken == "value":
            dataset.add_new("ImagePositionPatient", "LO", NAME)
        if broken == "pixels":
            dataset.PixelData = NAME.encode()
        return None if broken == "slice" and number == 2 else dataset

    source = tmp_path / f"in-{NAME}"
    Phantom().write(source / f"{NAME}_{DATE}", edit)
    assert found_in(next(source.rglob("*.dcm")).read_bytes()) != []
    words = ["--salt-file", str(tmp_path / "salt")] if salted else []
    assert main(["convert", str(source), "--out", str(tmp_path / "out"), "--json", *words]) == 0
    answer, log = capfd.readouterr()
    series = json.loads(answer)["series"]
    assert [one["status"] for one in series] == ["refused" if broken else "converted"]
    assert all(NAME in one.pop("source") for one in series)  # as the user gave it, in the answer and nowhere else
    assert found_in(json.dumps(series).encode()) == found_in(log.encode()) == []
    assert found_below(tmp_path / "out") == []
    if not broken:
        written = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
        assert written["SeriesDescription"] == "t1 mprage" and written["ImageType"] == ["ORIGINAL", "PRIMARY", "M"]
        assert ("SubjectKey" in written) == salted


def test_the_answer_for_people_does_not_name_the_input(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Phantom().write(tmp_path / f"in-{NAME}", plant)
    assert main(["convert", str(tmp_path / f"in-{NAME}"), "--out", str(tmp_path / "out")]) == 0
    answer, log = capfd.readouterr()
    assert found_in(answer.encode()) == found_in(log.encode()) == []


@pytest.mark.parametrize("dates", ["remove", "shift"])
@pytest.mark.parametrize("compressed", [False, True])
def test_deidentified_file_holds_no_identity(dates: Any, compressed: bool, tmp_path: Path) -> None:
    phantom = Phantom()

    def edit(number: int, dataset: pydicom.FileDataset) -> pydicom.FileDataset:
        if compressed:
            dataset.compress(RLELossless, generate_instance_uid=False)
        return plant(number, dataset)

    phantom.write(tmp_path / "in", edit)
    for path in sorted((tmp_path / "in").iterdir()):
        deidentify_file(path, tmp_path / "clean" / path.name, SALT, dates=dates)
    assert found_below(tmp_path / "clean") == []
    clean = [pydicom.dcmread(path) for path in sorted((tmp_path / "clean").iterdir())]
    assert len({dataset.SeriesInstanceUID for dataset in clean}) == 1
    assert len({dataset.SOPInstanceUID for dataset in clean}) == len(clean)
    for dataset in clean:
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.PatientID == dataset.PatientName == hash_subject(NAME, SALT)
        assert dataset.PatientBirthDate == "" and dataset.PatientIdentityRemoved == "YES"
        assert dataset.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert {element.tag.group for element in dataset if element.tag.is_private} == {0x0019}
        assert dataset[0x0019, 0x100C].value == 1000
        reference = dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID
        assert reference == remap_uid(UID, SALT)
        assert (dataset.StudyDate != "") == (dates == "shift")
    # and it still is the same volume
    answer = convert_folder(tmp_path / "clean", tmp_path / "out")["series"][0]
    import nibabel

    np.testing.assert_array_equal(np.asarray(nibabel.load(answer["path"]).dataobj), phantom.expected)


def test_every_action_of_the_profile() -> None:
    """Each attribute of the table, one at a time, is gone, empty, a dummy or another UID afterwards."""
    assert len(profile()) > 600 and set(profile().values()) == {
        "X",
        "Z",
        "D",
        "U",
        "X/Z",
        "X/D",
        "Z/D",
        "X/Z/D",
        "X/Z/U*",
    }
    for tag, action in profile().items():
        entry = DicomDictionary.get(tag)
        if entry is None or entry[0] not in PLANTED or not 0x0008 <= tag >> 16 < 0x5000 or "Patient's" in entry[2]:
            continue
        dataset = Phantom().header(0, 0)
        dataset.add_new(tag, entry[0], PLANTED[entry[0]])
        left = deidentify_dataset(dataset, SALT).get(tag)
        if action == "X":
            assert left is None or left.keyword == "DeidentificationMethodCodeSequence", entry
        else:
            assert left is None or PLANTED[entry[0]] not in str(left.value), entry
        if action in ("Z", "D", "U"):
            assert left is not None, entry


def test_shifted_dates_keep_their_distance() -> None:
    first, second, other = (Phantom().header(0, 0) for _ in range(3))
    first.StudyDate, second.StudyDate, other.StudyDate = "20200228", "20210301", "20200228"
    other.PatientID = "somebody else"
    dates = [deidentify_dataset(one, SALT, dates="shift").StudyDate for one in (first, second, other)]
    days = [np.datetime64(f"{one[:4]}-{one[4:6]}-{one[6:]}") for one in dates]
    assert (days[1] - days[0]).astype(int) == 367  # 29 February 2020 lies between
    assert days[0] < np.datetime64("2020-02-28") and days[0] != days[2]


def test_burnt_in_annotations_and_wrong_files(tmp_path: Path) -> None:
    dataset = Phantom().header(0, 0)
    dataset.BurnedInAnnotation = "YES"
    save_as(dataset, tmp_path / "burnt.dcm")
    (tmp_path / "text.dcm").write_text("text")
    for name, words in (("burnt.dcm", "burnt-in annotation"), ("text.dcm", "is no DICOM file")):
        with pytest.raises(InputError, match=words):
            deidentify_file(tmp_path / name, tmp_path / "out.dcm", SALT)
    with pytest.raises(InputError, match="'remove' or 'shift'"):
        deidentify_dataset(dataset, SALT, dates="keep")  # type: ignore[arg-type]
    assert not (tmp_path / "out.dcm").exists()


def test_keys() -> None:
    key = hash_subject("SIM-0042", SALT)
    assert re.fullmatch("sub-[0-9a-f]{16}", key) and key == hash_subject(" SIM-0042 ", SALT)
    assert key not in (hash_subject("SIM-0043", SALT), hash_subject("SIM-0042", SALT[::-1]))
    # an independent HMAC-SHA256: printf 'subject\0SIM-0042' | openssl dgst -sha256 -mac HMAC -macopt hexkey:00..0f
    assert key == "sub-bd7e2ada4e8cda4d"
    with pytest.raises(InputError, match="too short"):
        hash_subject("SIM-0042", b"short")
    with pytest.raises(InputError, match="without an id"):
        hash_subject("  ", SALT)
    uid = remap_uid("1.2.3.4", SALT)
    assert pydicom.uid.UID(uid).is_valid and uid == remap_uid("1.2.3.4\0", SALT) != remap_uid("1.2.3.4", SALT[::-1])
    assert remap_uid("1.2.840.10008.1.2", SALT) == "1.2.840.10008.1.2" and remap_uid("", SALT) == ""


def test_salt_file(tmp_path: Path) -> None:
    salt = project_salt(tmp_path / "salt")
    assert len(salt) == 32 and project_salt(tmp_path / "salt") == salt != project_salt(tmp_path / "other")
    assert stat.S_IMODE((tmp_path / "salt").stat().st_mode) == 0o600
    (tmp_path / "bad").write_text("no salt")
    (tmp_path / "short").write_text("0102")
    for name in ("bad", "short", "."):
        with pytest.raises(InputError):
            project_salt(tmp_path / name)


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID"])
def test_a_file_without_uids_is_refused_in_one_line(keyword: str, tmp_path: Path) -> None:
    dataset = Phantom().header(0, 0)
    delattr(dataset, keyword)
    save_as(dataset, tmp_path / "one.dcm", force_encoding=True, implicit_vr=False, little_endian=True)
    with pytest.raises(InputError, match=r"one\.dcm: invalid header: no class or UID"):
        deidentify_file(tmp_path / "one.dcm", tmp_path / "out.dcm", SALT)
