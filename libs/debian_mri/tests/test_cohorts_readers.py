"""BIDS, OASIS, DICOM folders and CSV lists: each in its published layout, with what goes wrong in it."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from cohort_files import SHAPE, cell, rejected, rows_of, voxels, write_csv, write_volume
from dicom_phantoms import Phantom
from PIL import Image

from debian_mri.cohorts.base import ReaderOptions
from debian_mri.data.manifest import Manifest
from debian_mri.data.prepare import prepare
from debian_mri.dicom import hash_subject
from icube_common.errors import InputError

DATA = Path(os.environ.get("ICUBE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")) / "mri"
SALT = bytes(range(32))


def _people(manifest: Manifest, *names: str) -> list[list[str]]:
    people = manifest.participants()
    return [[cell(people, scan.id, name) for name in names] for scan in manifest.scans]


# --- BIDS


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    root = tmp_path / "bids"
    root.mkdir()
    description = {"Name": "Simulated", "BIDSVersion": "1.9.0", "HowToAcknowledge": "cite Smith 2020"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    write_csv(
        root / "participants.tsv",
        ("participant_id", "age", "sex", "diagnosis", "site", "ledd"),
        [
            ("sub-01", "70", "F", "CN", "A", "n/a"),
            ("sub-02", "n/a", "male", "PD", "B", "300"),
            ("sub-03", "61", "M", "n/a", "B", "n/a"),
            ("sub-04", "63", "M", "PD", "B", "200"),
            ("sub-06", "650", "M", "PD", "B", "200"),
        ],
        delimiter="\t",
    )
    head = ("session_id", "acq_time", "age", "diagnosis")
    sessions = [("ses-1", "2011-03-04T10:00:00", "70", "CN"), ("ses-2", "2013-03-04T10:00:00", "72", "PD")]
    write_csv(root / "sub-01" / "sub-01_sessions.tsv", head, sessions, delimiter="\t")
    write_volume(root / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", 1)
    write_volume(root / "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii", 2)
    write_volume(root / "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz", 3)
    write_volume(root / "sub-02/anat/sub-02_acq-mprage_run-1_T1w.nii.gz", 4)
    write_volume(root / "sub-03/anat/sub-03_T1w.nii.gz", 5)
    write_volume(root / "sub-05/anat/sub-05_T1w.nii.gz", 6)
    write_volume(root / "sub-06/anat/sub-06_T1w.nii.gz", 7)
    write_volume(root / "derivatives/x/sub-01/anat/sub-01_T1w.nii.gz", 8)
    return root


def test_bids(bids: Path, tmp_path: Path) -> None:
    manifest = prepare("bids", bids, tmp_path / "data")
    assert [(s.id, s.subject, s.session, s.label, s.site, s.paths) for s in manifest.scans] == [
        ("sub-01_ses-1_T1w", "sub-01", "ses-1", "CN", "A", ("sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",)),
        ("sub-01_ses-2_T1w", "sub-01", "ses-2", "PD", "A", ("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii",)),
        (
            *("sub-02_acq-mprage_run-1_T1w", "sub-02", None, "PD", "B"),
            ("sub-02/anat/sub-02_acq-mprage_run-1_T1w.nii.gz",),
        ),
    ]
    assert _people(manifest, "age", "sex", "ledd") == [["70 years", "F", ""], ["72 years", "F", ""], ["", "M", "300"]]
    assert {column.name: column.leakage_tier for column in manifest.participants().columns} == {
        "age": "A",
        "sex": "A",
        "ledd": "C",
    }
    assert (manifest.description["title"], manifest.description["citation"]) == ("Simulated", "cite Smith 2020")
    assert rejected(tmp_path / "data") == {
        "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz": "FLAIR was not requested (--sequences T1w)",
        "sub-03/anat/sub-03_T1w.nii.gz": "diagnosis is n/a",
        "sub-04": "has a row in participants.tsv and no image in anat/",
        "sub-05/anat/sub-05_T1w.nii.gz": "has no row in participants.tsv",
        "sub-06/anat/sub-06_T1w.nii.gz": "age is not between 0 and 120 years",
    }
    assert "2011" not in "".join(path.read_text() for path in (tmp_path / "data").iterdir())


def test_bids_sequences_and_label_column(bids: Path, tmp_path: Path) -> None:
    options = ReaderOptions(label_column="site", sequences=("T1w", "FLAIR"))
    manifest = prepare("bids", bids, tmp_path / "data", options=options)
    assert [(scan.sequence, scan.label) for scan in manifest.scans][:3] == [("T1w", "A"), ("FLAIR", "A"), ("T1w", "A")]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: (root / "participants.tsv").unlink(), "no participants.tsv"),
        (lambda root: (root / "participants.tsv").write_text("participant_id\tage\nsub-02\t3\n"), "--label-column"),
        (
            lambda root: (root / "participants.tsv").write_text("participant_id\tgroup\nsub-01\n"),
            "1 fields, 2 expected",
        ),
        (
            lambda root: (root / "participants.tsv").write_text("participant_id\tgroup\n01\tCN\n"),
            "not of the form sub-",
        ),
        (lambda root: (root / "participants.tsv").write_bytes(b"participant_id\tgroup\n\xff\t\n"), "not UTF-8"),
        (lambda root: (root / "dataset_description.json").write_text("{"), "is not JSON"),
    ],
)
def test_damaged_bids_is_refused(bids: Path, tmp_path: Path, break_it: Callable[[Path], object], message: str) -> None:
    break_it(bids)
    with pytest.raises(InputError, match=re.escape(message)):
        prepare("bids", bids, tmp_path / "data")
    assert not (tmp_path / "data").exists()


# --- OASIS

OASIS1 = ("ID", "M/F", "Hand", "Age", "Educ", "SES", "MMSE", "CDR", "eTIV", "nWBV", "ASF", "Delay")
OASIS1_ROWS = [
    ("OAS1_0001_MR1", "F", "R", 74, 2, 3, 29, 0, 1344, 0.743, 1.306, "N/A"),
    ("OAS1_0003_MR1", "F", "R", 73, 4, 3, 27, 0.5, 1454, 0.708, 1.207, "N/A"),
    ("OAS1_0003_MR2", "F", "R", 73, 4, 3, 27, 0.5, 1454, 0.708, 1.207, 40),
    ("OAS1_0004_MR1", "M", "R", 28, "", "", "", "", 1588, 0.803, 1.105, "N/A"),
]


def write_analyze(path: Path, seed: int) -> None:
    """A pair as OASIS-1 has them: Analyze 7.5, big-endian, 16 bits, orient 0, four dimensions of which one is 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytearray(348)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 4, *SHAPE, 1, 0, 0, 0)
    struct.pack_into(">hh", header, 70, 4, 16)
    struct.pack_into(">8f", header, 76, 0, 1, 1, 1, 0, 0, 0, 0)
    path.with_suffix(".hdr").write_bytes(bytes(header))
    path.with_suffix(".img").write_bytes(voxels(seed).astype(">i2").tobytes(order="F"))


@pytest.fixture
def oasis(tmp_path: Path) -> Path:
    root = tmp_path / "oasis"
    for number, (session, *_) in enumerate(OASIS1_ROWS):
        folder = root / f"disc{1 + number // 2}" / session
        name = f"{session}_mpr_n4_anon_111_t88"
        write_analyze(folder / "PROCESSED/MPRAGE/T88_111" / f"{name}_masked_gfc.img", number)
        write_analyze(folder / "PROCESSED/MPRAGE/T88_111" / f"{name}_gfc.img", 50 + number)
        write_analyze(folder / "FSL_SEG" / f"{name}_masked_gfc_fseg.img", 60 + number)
        write_analyze(folder / "RAW" / f"{session}_mpr-1_anon.img", 70 + number)
    write_csv(root / "oasis_cross-sectional.csv", OASIS1, OASIS1_ROWS)
    return root


def test_oasis1_as_downloaded(oasis: Path, tmp_path: Path) -> None:
    manifest = prepare("oasis1", oasis, tmp_path / "data")
    assert [(s.id, s.subject, s.session, s.label) for s in manifest.scans] == [
        ("OAS1_0001_MR1", "OAS1_0001", "MR1", "CN"),
        ("OAS1_0003_MR1", "OAS1_0003", "MR1", "AD"),
        ("OAS1_0003_MR2", "OAS1_0003", "MR2", "AD"),
    ]
    assert rejected(tmp_path / "data") == {"OAS1_0004_MR1": "CDR is blank: not rated, which does not mean normal"}
    assert _people(manifest, "age", "sex", "education_level", "eTIV", "CDR")[0] == [
        "74 years",
        "F",
        "2",
        "1344 mL",
        "0",
    ]
    assert "education" not in manifest.participants().names  # a code is no number of years
    image = nibabel.load(manifest.paths_of(manifest.scans[0])[0])
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), voxels(0))  # type: ignore[attr-defined]
    assert nibabel.aff2axcodes(image.affine) == ("L", "A", "S")  # type: ignore[attr-defined]
    # the origin is in the middle of the grid
    np.testing.assert_allclose(image.affine @ [4.5, 5.5, 4, 1], [0, 0, 0, 1])  # type: ignore[attr-defined]


def test_oasis1_as_nifti_with_an_index(tmp_path: Path) -> None:
    root = tmp_path / "volumes"
    write_volume(root / "sub-0001_T1w_2mm.nii.gz", 1)
    write_volume(root / "sub-0003_T1w_2mm.nii.gz", 2)
    write_volume(root / "sub-0009_T1w_2mm.nii.gz", 3)
    write_volume(root / "template.nii.gz", 4)
    write_csv(root / "index.csv", ("file", "ID", "CDR"), [("sub-0003_T1w.nii.gz", "OAS1_0003_MR2", 0.5)])
    (root / "index.csv").write_text((root / "index.csv").read_text().replace("sub-0003_T1w.nii.gz", "sub-0003_T1w"))
    table = write_csv(tmp_path / "table.csv", OASIS1, OASIS1_ROWS)
    manifest = prepare("oasis1", root, tmp_path / "data", options=ReaderOptions(participants=table))
    assert [scan.id for scan in manifest.scans] == ["OAS1_0001_MR1", "OAS1_0003_MR2"]
    assert rejected(tmp_path / "data") == {
        "OAS1_0009_MR1": "has no row in table.csv",
        "template.nii.gz": "unknown session of OASIS",
    }


def test_oasis2(tmp_path: Path) -> None:
    root = tmp_path / "oasis2"
    head = ("Subject ID", "MRI ID", "Group", "Visit", "MR Delay", "M/F", "Hand", "Age", "EDUC", "SES", "MMSE", "CDR")
    write_csv(
        root / "oasis_longitudinal.csv",
        head,
        [
            ("OAS2_0002", "OAS2_0002_MR1", "Converted", 1, 0, "M", "R", 75, 12, "", 23, 0),
            ("OAS2_0002", "OAS2_0002_MR2", "Converted", 2, 560, "M", "R", 76, 12, "", 28, 0.5),
        ],
    )
    for visit in (1, 2):
        for run in (1, 2):
            path = root / f"OAS2_RAW_PART1/OAS2_0002_MR{visit}/RAW/mpr-{run}.nifti.hdr"
            write_volume(path.with_name("x.nii"), 10 * visit + run)
            image = nibabel.load(path.with_name("x.nii"))
            nibabel.save(nibabel.Nifti1Pair(np.asanyarray(image.dataobj), image.affine), path)  # type: ignore[attr-defined]
            path.with_name("x.nii").unlink()
    manifest = prepare("oasis1", root, tmp_path / "data")
    assert [(s.id, s.subject, s.label) for s in manifest.scans] == [
        ("OAS2_0002_MR1", "OAS2_0002", "CN"),
        ("OAS2_0002_MR2", "OAS2_0002", "AD"),
    ]
    assert _people(manifest, "education") == [["12 years"], ["12 years"]]


def test_oasis_slices(tmp_path: Path) -> None:
    root = tmp_path / "slices"
    (root / "images").mkdir(parents=True)
    head = ("ID", "label", "M/F", "Hand", "Age", "Educ", "SES", "MMSE", "CDR", "axial", "coronal", "sagittal")
    rows = []
    for number, (session, label, rating) in enumerate(
        [
            ("OAS1_0001_MR1", "CN", "0"),
            ("OAS1_0003_MR1", "AD", "0.5"),
            ("OAS1_0005_MR1", "CN", "1"),
            ("OAS1_0006_MR1", "CN", ""),
        ]
    ):
        files = [f"{session}_{plane}.jpg" for plane in "acs"]
        for k, name in enumerate(files):
            Image.fromarray(voxels(10 * number + k)[:, :, 0].astype(np.uint8)).save(root / "images" / name)
        rows.append((session, label, "F", "R", 74, 2, 3, 29, rating, *files))
    write_csv(root / "index.csv", head, rows)
    manifest = prepare("oasis-slices", root, tmp_path / "data")
    assert [(s.id, s.label, s.kind, s.planes) for s in manifest.scans] == [
        ("OAS1_0001_MR1", "CN", "slices", ("axial", "coronal", "sagittal")),
        ("OAS1_0003_MR1", "AD", "slices", ("axial", "coronal", "sagittal")),
    ]
    assert rejected(tmp_path / "data") == {
        "OAS1_0005_MR1": "label 'CN' contradicts CDR 1",
        "OAS1_0006_MR1": "CDR is blank: not rated, which does not mean normal",
    }
    leakage_tiers = {column.name: column.leakage_tier for column in manifest.participants().columns}
    assert leakage_tiers == {
        **{"age": "A", "sex": "A", "education_level": "A", "handedness": "B", "SES": "B", "MMSE": "C", "CDR": "C"}
    }


@pytest.mark.real_data
def test_real_oasis(tmp_path: Path) -> None:
    if not (DATA / "oasis1_slices").is_dir():
        pytest.skip(f"{DATA / 'oasis1_slices'} is not there (ICUBE_DATA names the folder with the data)")
    slices = prepare("oasis-slices", DATA / "oasis1_slices", tmp_path / "slices")
    assert (
        slices.description["counts"]["classes"] == {"CN": 69, "AD": 69}
        and slices.description["counts"]["subjects"] == 138
    )
    volumes = prepare("oasis1", DATA / "oasis1_t1_2mm", tmp_path / "volumes")
    assert (
        volumes.description["counts"]["classes"] == {"CN": 4, "AD": 2}
        and volumes.description["counts"]["rejected"] == 8
    )


# --- DICOM


@pytest.fixture
def scanner(tmp_path: Path) -> Path:
    root = tmp_path / "dicom"
    patient = {"PatientAge": "071Y", "PatientSex": "F"}

    def series(folder: str, seed: int, **changes: object) -> None:
        changes = {**patient, "PatientID": folder.split("/")[0], **changes}
        Phantom(slices=9, seed=seed, changes=changes).write(root / folder)

    series("Anna/first", 1, StudyDate="20110304", StudyInstanceUID="1.2.1")
    series("Anna/second", 2, StudyDate="20100304", StudyInstanceUID="1.2.2")
    series("Anna/third", 3, SeriesDescription="t2 tse", StudyDate="20100304", StudyInstanceUID="1.2.2")
    series("Berta/a", 4)
    series("Berta/b", 5, PatientID="Clara")
    series("Dora/a", 6, PatientSex="M")
    series("Emma/a", 7, SeriesDescription="localizer")
    series("Frieda/a", 8)
    series("Gerda/a", 9, PatientAge="")
    series("Gerda/b", 10, PatientAge="", ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])
    return root


def test_a_dicom_folder(scanner: Path, tmp_path: Path) -> None:
    table = write_csv(
        tmp_path / "people.csv",
        ("subject", "label", "age", "sex"),
        [
            ("Anna", "AD", "", ""),
            ("Berta", "CN", "", ""),
            ("Dora", "CN", "71", "F"),
            ("Emma", "CN", "", ""),
            ("Gerda", "PD", "", "F"),
            ("Nobody", "CN", "", ""),
        ],
    )
    manifest = prepare("dicom", scanner, tmp_path / "data", options=ReaderOptions(participants=table, salt=SALT))
    keys = {name: hash_subject(name, SALT) for name in ("Anna", "Berta", "Dora", "Emma", "Frieda", "Gerda")}
    anna, gerda = keys["Anna"], keys["Gerda"]
    assert [(s.id, s.subject, s.session, s.label) for s in manifest.scans] == [
        (f"{anna}_ses-visit2_T1w", anna, "visit2", "AD"),
        (f"{anna}_ses-visit1_T1w", anna, "visit1", "AD"),
        (f"{gerda}_ses-visit1_T1w", gerda, "visit1", "PD"),
    ]
    assert _people(manifest, "age", "sex") == [["71 years", "F"], ["71 years", "F"], ["", "F"]]
    assert rejected(tmp_path / "data") == {
        "line 7 of --participants": "names a folder that is not there",
        f"{anna}, series 3": "T2w was not requested (--sequences T1w)",
        f"{gerda}, series 2": "not the magnitude image as scanned (P)",
        f"{keys['Berta']}, series 1": "the headers in its folder are of 2 people",
        f"{keys['Berta']}, series 2": "the headers in its folder are of 2 people",
        f"{keys['Dora']}, series 1": "the table and the headers contradict each other about sex",
        f"{keys['Emma']}, series 1": "localiser: 9 images for planning",
        f"{keys['Frieda']}, series 1": "its folder has no row in --participants that can be used",
    }
    written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    texts = [path.read_text() for path in written if path.suffix in (".csv", ".json")] + [path.name for path in written]
    assert not re.search(r"Anna|Berta|Dora|Emma|Frieda|Gerda|Clara|2011|2010", " ".join(texts))


def test_one_patient_in_two_folders(scanner: Path, tmp_path: Path) -> None:
    Phantom(slices=9, seed=20, changes={"PatientID": "Anna"}).write(scanner / "Hanna" / "a")
    rows = [("Anna", "AD"), ("Hanna", "CN"), ("Gerda", "PD")]
    table = write_csv(tmp_path / "people.csv", ("subject", "label"), rows)
    manifest = prepare("dicom", scanner, tmp_path / "data", options=ReaderOptions(participants=table, salt=SALT))
    assert {scan.subject for scan in manifest.scans} == {hash_subject("Gerda", SALT)}


@pytest.mark.parametrize("patient", ["anonymous", "the same for all"])
def test_an_anonymisers_id_is_nobodys(tmp_path: Path, patient: str) -> None:
    for seed, name in enumerate("abc"):
        changes = {"PatientID": patient, "SeriesDescription": ""}
        Phantom(slices=9, seed=seed, changes=changes).write(tmp_path / "dicom" / name)
    rows = [("a", "AD", "T1w"), ("b", "CN", "T1w"), ("c", "CN", "")]
    table = write_csv(tmp_path / "people.csv", ("subject", "label", "sequence"), rows)
    options = ReaderOptions(participants=table, salt=SALT)
    manifest = prepare("dicom", tmp_path / "dicom", tmp_path / "data", options=options)
    assert [scan.label for scan in manifest.scans] == ["AD", "CN"]
    assert list(rejected(tmp_path / "data").values()) == ["the description names no sequence that is known"]
    assert any("one id" in note for note in manifest.description["warnings"]) == (patient != "anonymous")


# --- CSV


def test_a_csv_list(tmp_path: Path) -> None:
    for seed in range(1, 4):
        write_volume(tmp_path / f"v{seed}.nii.gz", seed)
    for plane in "ac":
        Image.fromarray(voxels(ord(plane))[:, :, 0].astype(np.uint8)).save(tmp_path / f"{plane}.png")
    head = ("path", "label", "subject", "site", "planes", "age", "Gender", "moca", "grade", "name", "visit day")
    end = ("", "71", "Female", "25", "2", "Anna", "2010-03-04")
    table = write_csv(
        tmp_path / "list.csv",
        head,
        [
            ("v1.nii.gz", "CN", "a", "x", *end),
            ("v2.nii.gz", "DLB", "b", "y", "", "n/a", "X", "12+", "1", "Berta", "2010-03-05"),
            ("a.png;c.png", "CN", "c", "x", "axial;coronal", *end[1:]),
            ("gone.nii.gz", "CN", "d", "x", *end),
            ("v3.nii.gz", "", "e", "x", *end),
            ("a.png", "CN", "f", "x", *end),
        ],
    )
    manifest = prepare("csv", table, tmp_path / "data", leakage_tiers={"grade": "B"})
    assert [(s.id, s.subject, s.label, s.site, s.kind) for s in manifest.scans] == [
        ("v1", "a", "CN", "x", "volume"),
        ("v2", "b", "DLB", "y", "volume"),
        ("c_a", "c", "CN", "x", "slices"),  # the name is in another row as well
    ]
    assert rejected(tmp_path / "data") == {
        "line 5": "path names a file that is not there",
        "line 6": "label is empty",
        "line 7": "1 images and 0 planes: the column 'planes' names one for each",
    }
    people = manifest.participants()
    leakage_tiers = {column.name: column.leakage_tier for column in people.columns}
    assert leakage_tiers == {"age": "A", "sex": "A", "MOCA": "C", "grade": "B"}
    assert people.missing() == {"age": 1, "sex": 1, "MOCA": 1, "grade": 0}
    warnings = "\n".join(manifest.description["warnings"])
    assert "MOCA: 1 values that are no number" in warnings and "column 'name' is excluded" in warnings
    assert "column 'visit day' is excluded: holds dates" in warnings
    assert "Anna" not in (tmp_path / "data" / "participants.csv").read_text()


def test_undescribed_columns_are_of_tier_c(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.nii.gz", 1)
    table = write_csv(tmp_path / "l.csv", ("path", "label", "subject", "gait"), [("v.nii.gz", "PD", "a", "0.7")])
    manifest = prepare("csv", table, tmp_path / "data")
    assert manifest.participants().column("gait").leakage_tier == "C"
    assert any("not described, so of tier C" in note and "gait" in note for note in manifest.description["warnings"])
    with pytest.raises(InputError, match="MMSE"):
        table = write_csv(tmp_path / "m.csv", ("path", "label", "subject", "mmse"), [("v.nii.gz", "PD", "a", "20")])
        prepare("csv", table, tmp_path / "data2", leakage_tiers={"MMSE": "A"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nv.nii,CN\n", "no column 'subject'"),
        ("label,subject\nCN,a\n", "no column 'path'"),
        ("path,label,subject\n", "no row below"),
        ("path,label,subject\nv.nii,CN\n", "2 fields, 3 expected"),
        ("path,path,label,subject\n", "a column is there twice"),
        ("", "no column 'label'"),
    ],
)
def test_damaged_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        prepare("csv", tmp_path / "list.csv", tmp_path / "data")


def test_repeated_ids_are_all_rejected(tmp_path: Path) -> None:
    for seed in range(1, 4):
        write_volume(tmp_path / f"v{seed}.nii.gz", seed)
    rows = [("s1", "v1.nii.gz", "CN", "a"), ("s1", "v2.nii.gz", "CN", "b"), ("s2", "v3.nii.gz", "CN", "c")]
    table = write_csv(tmp_path / "list.csv", ("id", "path", "label", "subject"), rows)
    manifest = prepare("csv", table, tmp_path / "data")
    assert [scan.id for scan in manifest.scans] == ["s2"]
    assert rows_of(tmp_path / "data" / "rejected.csv")[0]["reason"] == "id 's1' occurs 2 times"
