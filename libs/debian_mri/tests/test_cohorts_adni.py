"""A download from LONI as it comes: ids with and without I, repeats, gaps, contradictions, conversions."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from cohort_files import COLLECTION, cell, rejected, rows_of, voxels, write_csv, write_volume
from dicom_phantoms import Phantom, save_as

from debian_mri.cohorts.adni import reader as adni
from debian_mri.cohorts.adni.loni import image_key, visit_code
from debian_mri.cohorts.base import ReaderOptions
from debian_mri.cohorts.mri_sequence.description import sequence_of
from debian_mri.data.manifest import Manifest
from debian_mri.data.prepare import prepare
from debian_mri.dicom import hash_subject
from icube_common.errors import InputError

SALT = bytes(range(32))
P1, P2, P3, P4, P5, P6, P7 = (
    f"{site}_S_{n:04d}" for site, n in zip(("002",) * 3 + ("011",) * 4, range(1, 8), strict=True)
)


def _row(image: str, subject: str, group: str, sex: str, age: str, visit: str, **changes: str) -> list[str]:
    cells = {
        "Image Data ID": image,
        "Subject": subject,
        "Group": group,
        "Sex": sex,
        "Age": age,
        "Visit": visit,
        "Modality": "MRI",
        "Description": "MP-RAGE",
        "Type": "Original",
        "Acq Date": "1/10/2006",
        "Format": "DCM",
        "Downloaded": "11/02/2025",
        **changes,
    }
    return [cells[name] for name in COLLECTION]


LATER = {"Acq Date": "9/04/2010"}
ROWS = [
    _row("I101", P1, "CN", "F", "70", "bl"),
    _row("102", P1, "CN", "F", "70", "bl", Description="MP-RAGE REPEAT"),
    _row("I103", P1, "CN", "F", "70", "bl", Type="Processed", Description="MPR; GradWarp; B1 Correction; N3; Scaled"),
    _row("I104", P1, "MCI", "F", "72", "m24", **{"Acq Date": "1/20/2008"}),
    _row("I105", P2, "AD", "M", "80", "bl"),
    _row("I106", P3, "MCI", "M", "75", "bl"),
    _row("I107", P3, "AD", "M", "75", "bl"),
    _row("I108", P4, "EMCI", "F", "65", "ADNI2 Month 6-New Pt", Description="Accelerated SAG IR-FSPGR"),
    _row("I108", P4, "EMCI", "F", "65", "ADNI2 Month 6-New Pt", Description="Accelerated SAG IR-FSPGR"),
    _row("I109", P5, "AD", "M", "", "", **{"Acq Date": "3/04/2010"}),
    _row("I110", P5, "AD", "M", "81", "m06", Type="Processed", Description="MPR; ; N3; Scaled", **LATER),
    _row("I111", P5, "AD", "M", "81", "m06", Description="3 Plane Localizer", **LATER),
    _row("I112", P5, "AD", "M", "81", "m06", Modality="PET", Description="ADNI_new_AV45", **LATER),
    _row("I113", P6, "CN", "F", "66", "bl"),
    _row("I114", P6, "CN", "M", "66", "m06"),
    _row("I115", P7, "CN", "F", "61", "bl"),
    _row("I116", P7, "CN", "F", "62", "m12"),
    _row("I116", P7, "AD", "F", "62", "m12"),
    _row("I117", P7, "CN", "F", "63", "m24"),
    _row("I118", P7, "CN", "F", "63", "m36", Description="Axial T2 FLAIR"),
]


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """``ADNI/`` and ``collection.csv``: one DICOM series in a folder of its series, the others NIfTI."""
    tree = tmp_path / "ADNI"

    def place(subject: str, image: str, seed: int, date: str = "2006-01-10_08_20_30.0") -> None:
        name = f"ADNI_{subject}_MR_MP-RAGE_br_raw_20060110_{image}.nii"
        write_volume(tree / subject / "MP-RAGE" / date / image / name, seed)

    place(P1, "I101", 1)
    series = tree / P1 / "MP-RAGE_REPEAT" / "2006-01-10_08_30_30.0" / "S18402"
    series.mkdir(parents=True)
    phantom = Phantom(slices=9, seed=2)
    for number, (_, dataset) in enumerate(phantom.files()):
        save_as(dataset, series / f"ADNI_{P1}_MR_MP-RAGE_REPEAT_br_raw_20060110_{number}_S18402_I102.dcm")
    place(P1, "I103", 3)
    place(P1, "I104", 4, "2008-01-20_09_00_00.0")
    for image, seed, subject in (("I106", 6, P3), ("I107", 7, P3), ("I108", 8, P4), ("I109", 9, P5), ("I110", 10, P5)):
        place(subject, image, seed)
    place(P6, "I113", 13)
    (tree / P7 / "MP-RAGE" / "2006-01-10_08_20_30.0" / "I115").mkdir(parents=True)
    place(P6, "I117", 17)
    place(P7, "I999", 99)
    write_csv(tmp_path / "collection.csv", COLLECTION, ROWS)
    return tmp_path


def _prepare(download: Path, **changes: object) -> Manifest:
    options = ReaderOptions(**{"collection_csv": download / "collection.csv", "salt": SALT, **changes})  # type: ignore[arg-type]
    return prepare("adni", download / "ADNI", download / "data", options=options)


def test_the_manifest_is_exactly_this(download: Path) -> None:
    manifest = _prepare(download)
    one, four, five = (hash_subject(person, SALT) for person in (P1, P4, P5))
    got = [(s.id, s.subject, s.session, s.label, s.sequence, s.kind, s.paths) for s in manifest.scans]
    assert got == [
        (scan_id, subject, session, label, "T1w", "volume", (f"nifti/{scan_id}.nii.gz",))
        for scan_id, subject, session, label in (
            (f"{one}_ses-bl_run-1_T1w", one, "bl", "CN"),
            (f"{one}_ses-bl_run-2_T1w", one, "bl", "CN"),
            (f"{one}_ses-m24_T1w", one, "m24", "MCI"),
            (f"{four}_ses-m06_T1w", four, "m06", "EMCI"),
            (f"{five}_ses-visit1_T1w", five, "visit1", "AD"),
        )
    ]
    sites = [scan.site for scan in manifest.scans]
    assert sites[0] == sites[1] == sites[2] != sites[3] == sites[4]
    assert manifest.class_names == ("CN", "EMCI", "MCI", "AD")
    assert [row["age"] for row in rows_of(download / "data" / "participants.csv")] == ["70", "70", "72", "65", ""]
    assert [row["sex"] for row in rows_of(download / "data" / "participants.csv")] == ["F", "F", "F", "F", "M"]
    assert manifest.description["conversions"] == [{"subject": one, "labels": {"bl": "CN", "m24": "MCI"}}]
    assert any("1 subjects change their group" in note for note in manifest.description["warnings"])
    assert all(path.is_file() for scan in manifest.scans for path in manifest.paths_of(scan))


def test_the_rejections_are_exactly_these(download: Path) -> None:
    _prepare(download)
    line = "line {} of the collection's CSV".format
    got = rejected(download / "data")
    extra = next(source for source, reason in got.items() if reason == "is not in the collection's CSV")
    assert re.fullmatch(r"image folder \d+ of the tree", extra)
    same = "lines 18, 19 are one image and contradict each other"
    assert got == {
        extra: "is not in the collection's CSV",
        line(4): "processed image: the original is taken (--image-type processed or all takes it)",
        line(6): "is in the CSV and not in the tree",
        line(7): "the CSV gives one visit several groups: AD, MCI",
        line(8): "the CSV gives one visit several groups: AD, MCI",
        line(10): "repeats line 9",
        line(12): "processed image: no original one of its visit is there (--image-type processed or all takes it)",
        line(13): "a localiser by its description",
        line(14): "modality 'PET' is not MRI",
        line(15): "the CSV gives this person two sexes",
        line(16): "the CSV gives this person two sexes",
        line(17): "its folder is empty",
        line(18): same,
        line(19): same,
        line(20): "the tree has it under another subject than the CSV",
        line(21): "FLAIR was not requested (--sequences T1w)",
    }


def test_voxels_and_affine_stay_and_nothing_else(download: Path) -> None:
    manifest = _prepare(download)
    image = nibabel.load(manifest.paths_of(manifest.scans[0])[0])
    assert isinstance(image, nibabel.Nifti1Image)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), voxels(1))
    np.testing.assert_allclose(image.affine[:3, 3], [-9, -11, -8])
    assert not image.header["descrip"].item()
    dicom = nibabel.load(manifest.paths_of(manifest.scans[1])[0])
    np.testing.assert_array_equal(np.asanyarray(dicom.dataobj), Phantom(slices=9, seed=2).expected)  # type: ignore[attr-defined]


def test_no_name_id_or_date_is_written(download: Path, caplog: pytest.LogCaptureFixture) -> None:
    _prepare(download)
    written = [path for path in (download / "data").rglob("*") if path.is_file()]
    texts = [path.read_text() for path in written if path.suffix in (".csv", ".json")]
    texts += [str(path.relative_to(download)) for path in written] + caplog.messages
    private = re.compile(r"_S_\d{4}|\bI?1(0[1-9]|1[0-8])\b|2006|2008|2010|Simulated\^|18402|1/10|SIM-0042")
    # hashes are no dates
    plain = [re.sub(r"sub-[0-9a-f]{16}|site-[0-9a-f]{8}|\b[0-9a-f]{64}\b", "", text) for text in texts]
    plain = [text.replace(str(download), "") for text in plain]
    assert [match[0] for text in plain for match in [private.search(text)] if match] == []


def test_processed_images_on_request(download: Path) -> None:
    manifest = _prepare(download, image_type="processed")
    assert [(scan.session, scan.label) for scan in manifest.scans] == [("bl", "CN"), ("m06", "AD")]


def test_classes_can_be_merged(download: Path) -> None:
    options = ReaderOptions(collection_csv=download / "collection.csv", salt=SALT)
    manifest = prepare(
        "adni", download / "ADNI", download / "d", options=options, labels={"EMCI": "MCI"}, classes=["CN", "MCI"]
    )
    assert [scan.label for scan in manifest.scans] == ["CN", "CN", "MCI", "MCI"]
    assert "class 'AD' is none of --classes CN,MCI" in rejected(download / "d").values()


def test_keys_are_of_the_project(download: Path) -> None:
    first = {scan.subject for scan in _prepare(download).scans}
    options = ReaderOptions(collection_csv=download / "collection.csv", salt=bytes(32))
    other = {scan.subject for scan in prepare("adni", download / "ADNI", download / "d", options=options).scans}
    assert not first & other and len(first) == len(other) == 3


MERGE = ("RID", "PTID", "VISCODE", "EXAMDATE", "DX", "AGE", "PTGENDER", "PTEDUCAT", "APOE4", "MMSE", "Hippocampus")


def test_adnimerge_adds_the_columns_of_the_visit(download: Path) -> None:
    table = write_csv(
        download / "ADNIMERGE.csv",
        MERGE,
        [
            (1, P1, "bl", "2006-01-03", "CN", 69.7, "Female", 16, 1, 29, 7000.5),
            (1, P1, "m24", "2008-01-15", "MCI", 69.7, "Female", 16, 1, 26, -4),
            (4, P4, "m06", "2006-01-15", "CN", 64.8, "Female", 12, 0, 30, 7100),
            (5, P5, "bl", "2010-02-15", "Dementia", 79.9, "Male", 10, 2, 20, 5000),
        ],
    )
    manifest = _prepare(download, adnimerge=table)
    people = manifest.participants()
    cells = [
        [cell(people, scan.id, name) for name in ("age", "education", "MMSE", "Hippocampus")] for scan in manifest.scans
    ]
    assert cells == [
        ["70 years", "16 years", "29", "7000.5 mm3"],
        ["70 years", "16 years", "29", "7000.5 mm3"],
        ["72 years", "16 years", "26", ""],
        ["65 years", "12 years", "30", "7100 mm3"],
        ["79.9 years", "10 years", "20", "5000 mm3"],  # no visit code: the visit 17 days before the scan
    ]
    assert {column.name: column.leakage_tier for column in people.columns} == {
        **{"age": "A", "sex": "A", "education": "A", "APOE4": "B", "Hippocampus": "B", "MMSE": "C"}
    }
    assert any("1 scans: Group is not ADNIMERGE's diagnosis" in note for note in manifest.description["warnings"])
    assert any(
        note.startswith("1 scans take the row of ADNIMERGE whose date") for note in manifest.description["warnings"]
    )
    assert "EXAMDATE" not in json.dumps(manifest.description)


def test_the_diagnosis_of_the_visit_as_label(download: Path) -> None:
    rows = [(1, P1, "bl", "2006-01-03", "CN", 69.7, "Female", 16, 1, 29, 7000.5)]
    table = write_csv(download / "ADNIMERGE.csv", MERGE, rows)
    manifest = _prepare(download, adnimerge=table, label_column="DX")
    assert [scan.label for scan in manifest.scans] == ["CN", "CN"]
    assert list(rejected(download / "data").values()).count("has no diagnosis of its visit in ADNIMERGE") == 7


@pytest.mark.parametrize(
    ("visit", "day", "label"),
    [
        *(("v03", "1/10/2011", "MCI"), ("init", "4/1/2011", "MCI"), ("y2", "1/20/2013", "Dementia")),
        ("ADNI3 Initial Visit-Cont Pt", "1/10/2013", "Dementia"),
        ("bl", "1/12/2006", "CN"),
        ("bl", "1/10/2011", "MCI"),  # a later phase begins with a baseline, too
        ("y4", "7/1/2012", None),  # a year and a half from the one, half a year from the other
        ("v03", "", None),
    ],
)
def test_visits_of_later_phases_by_the_nearest_date(download: Path, visit: str, day: str, label: str | None) -> None:
    table = write_csv(
        download / "ADNIMERGE.csv",
        MERGE,
        [
            (1, P1, "bl", "2006-01-03", "CN", 69.7, "Female", 16, 1, 29, 7000),
            (1, P1, "m60", "2011-01-15", "MCI", 69.7, "Female", 16, 1, 26, 6500),
            (1, P1, "m84", "2013-01-15", "Dementia", 69.7, "Female", 16, 1, 20, 6000),
        ],
    )
    row = _row("I101", P1, "CN", "F", "75", visit, **{"Acq Date": day})
    write_csv(download / "collection.csv", COLLECTION, [row])
    options = ReaderOptions(collection_csv=download / "collection.csv", adnimerge=table, label_column="DX", salt=SALT)
    found = adni.find(download / "ADNI", options)
    assert [one.scan.label for one in found.candidates] == ([label] if label else [])


def test_the_collection_may_be_a_semicolon_table_with_sexes_in_words(download: Path) -> None:
    rows = [_row("I101", P1, "CN", "Female", "70", "bl"), _row("I104", P1, "MCI", "n/a", "72,5", "m24")]
    table = download / "collection.csv"
    table.write_text("\ufeff" + "\n".join(";".join(row) + ";;" for row in [[*COLLECTION], *rows]) + "\n;;;\n")
    manifest = _prepare(download)
    people = manifest.participants()
    assert [[cell(people, scan.id, name) for name in ("age", "sex")] for scan in manifest.scans] == [
        ["70 years", "F"],
        ["72.5 years", ""],
    ]


def test_another_sex_in_adnimerge_is_a_contradiction(download: Path) -> None:
    table = write_csv(download / "M.csv", MERGE, [(1, P1, "bl", "", "CN", 69.7, "Male", 16, 1, 29, 7000.5)])
    manifest = _prepare(download, adnimerge=table)
    assert hash_subject(P1, SALT) not in {scan.subject for scan in manifest.scans}


@pytest.mark.parametrize(
    ("column", "message"),
    [("Subject", "line 1: no column 'Subject'"), ("Image Data ID", "line 1: no column 'Image Data ID'")],
)
def test_a_table_of_another_kind_is_refused(download: Path, column: str, message: str) -> None:
    table = download / "collection.csv"
    table.write_text(table.read_text().replace(f'"{column}"', '"X"', 1))
    with pytest.raises(InputError, match=re.escape(message)):
        _prepare(download)
    assert not (download / "data").exists()


def test_a_damaged_table_is_read_or_refused(download: Path) -> None:
    table = download / "collection.csv"
    whole = bytearray(table.read_bytes())
    generator = np.random.default_rng(0)
    for _ in range(100):
        changed = bytearray(whole)
        for place in generator.integers(0, len(whole), generator.integers(1, 6)):
            changed[place] = generator.integers(0, 256)
        table.write_bytes(changed)
        options = ReaderOptions(collection_csv=table, salt=SALT)
        try:
            found = adni.find(download / "ADNI", options)
        except InputError:
            continue
        # every image of the tree and every row is answered for, once or in both
        assert len(found.candidates) + len(found.rejected) >= 19


def test_strict_stops_at_a_fault_and_not_at_a_rule(download: Path) -> None:
    options = ReaderOptions(collection_csv=download / "collection.csv", salt=SALT)
    with pytest.raises(InputError, match=r"lines 18, 19 are one image"):
        prepare("adni", download / "ADNI", download / "d", options=options, strict=True)
    write_csv(download / "collection.csv", COLLECTION, [ROWS[0], ROWS[2], ROWS[12]])
    for extra in (P3, P4, P5, P6, P7):
        shutil.rmtree(download / "ADNI" / extra)
    for extra in ("MP-RAGE_REPEAT", "MP-RAGE/2008-01-20_09_00_00.0"):
        shutil.rmtree(download / "ADNI" / P1 / extra)
    assert len(prepare("adni", download / "ADNI", download / "d", options=options, strict=True).scans) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *(("bl", "bl"), ("M06", "m06"), ("ADNI1/GO Month 12", "m12"), ("ADNI Screening", "sc"), ("22", "22")),
        *(("ADNI2 Baseline-New Pt", "bl"), ("ADNI2 Initial Visit-Cont Pt", "adni2initialvisitcontpt")),
        *(("", ""), ("1/10/2006", ""), ("2006-01-10", ""), ("20060110", "")),
    ],
)
def test_visits(text: str, code: str) -> None:
    assert visit_code(text) == code


@pytest.mark.parametrize(
    ("text", "key"), [("I118671", "I118671"), ("118671", "I118671"), ("i0012", "I12"), ("S7", "S7"), ("x", "")]
)
def test_image_ids(text: str, key: str) -> None:
    assert image_key(text) == key


@pytest.mark.parametrize(
    ("description", "sequence"),
    [
        *(("MP-RAGE", "T1w"), ("MPR; GradWarp; B1 Correction; N3; Scaled_2", "T1w"), ("MT1; GradWarp; N3m", "T1w")),
        *(("Accelerated Sagittal MPRAGE_ND", "T1w"), ("IR-SPGR", "T1w"), ("Sagittal 3D FLAIR", "FLAIR")),
        *(("Axial T2 FLAIR", "FLAIR"), ("Axial T2-Star", "T2starw"), ("Axial T2*", "T2starw"), ("Ax T2 TSE", "T2w")),
        *(
            ("Axial PD/T2 FSE", None),
            ("Hippocampal Mask", None),
            ("Field Mapping", None),
            ("B1-calibration Head", None),
        ),
    ],
)
def test_sequences(description: str, sequence: str | None) -> None:
    assert sequence_of(description) == sequence
