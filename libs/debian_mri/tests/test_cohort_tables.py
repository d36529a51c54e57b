"""Tables about people as spreadsheets write them: dialects, missing values, sexes, sessions, contradictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from cohort_files import cell, rejected, rows_of, write_csv, write_volume

from debian_mri.cli import main
from debian_mri.cli.info import describe
from debian_mri.cohorts.base import ReaderOptions, read_rows
from debian_mri.data.clinical_variables import describe_columns, is_missing, is_missing_name, is_plausible
from debian_mri.data.manifest import Manifest
from debian_mri.data.prepare import prepare
from icube_common.errors import InputError

WANTED = [{"path": "a.nii", "label": "CN", "subject": "p1", "age": "70.5"}]
TEXT = "path,label,subject,age\na.nii,CN,p1,70.5\n"
MISSING_WORDS = ("NA", "nan", "n/a", "N/A", "null", "None", "-", "?", "unknown", "", "  ", "NaN", "#N/A", ".")


@pytest.fixture(autouse=True)
def _logs_go_nowhere() -> Iterator[None]:
    """A command line logs to the standard error of its test, which is closed after it."""
    yield
    logging.getLogger("debian_mri").handlers[:] = [logging.NullHandler()]


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.replace(",", ";").replace(".5", ",5").encode(),
        TEXT.replace(",", "\t").replace(".5", ",5").encode(),
        TEXT.replace("70.5", '"70,5"').encode(),
        TEXT.replace("\n", ",,\r\n").encode() + b",,,,,\r\n\r\n",
        b"sep=;\r\n" + TEXT.replace(",", ";").encode(),
        TEXT.replace("age", "age ").replace("p1", " p1 ").encode(),
    ],
)
def test_dialects(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert [cells for _, cells in read_rows(tmp_path / "t.csv", ("path", "label", "subject"))] == WANTED


def test_spreadsheets(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["about this file"])
    sheet = book.create_sheet("people")
    sheet.append(["path", "label", "subject", "age", None])
    sheet.append(["a.nii", "CN", "p1", 70.5, None])
    book.save(tmp_path / "t.xlsx")
    assert [cells for _, cells in read_rows(tmp_path / "t.xlsx", ("path", "label", "subject"))] == WANTED
    (tmp_path / "bad.xlsx").write_bytes(b"PK no spreadsheet")
    with pytest.raises(InputError, match=r"bad\.xlsx: cannot be read as a spreadsheet"):
        list(read_rows(tmp_path / "bad.xlsx", ()))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "path,label,subject\na,é,p\n".encode("latin-1"), r"t\.csv: line 2: not UTF-8 text"),
        ("t.csv", b"path;label\na;CN\n", "no column 'subject' in the head line 'path,label'"),
        ("t.csv", b"path,label,subject\na,CN,p,more\n", "line 2: 4 fields, 3 expected"),
        ("t.csv", b"path,label,subject\na,CN\n", "line 2: 2 fields, 3 expected"),
        ("t.ods", b"", "save the sheet as CSV"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_rows(tmp_path / name, ("path", "label", "subject")))


def test_words_and_codes_for_missing() -> None:
    assert all(map(is_missing, MISSING_WORDS)) and not any(map(is_missing, ("CN", "0", "999", "none of these")))
    assert all(map(is_missing_name, (*MISSING_WORDS, "-4", "-1", "999", "9999", "-4.0")))
    assert not any(map(is_missing_name, ("0999", "1", "0", "AD", "S999")))


@pytest.mark.parametrize(
    ("name", "possible", "impossible"),
    [
        ("MMSE", ("0", "30", "27.5"), ("31", "99", "-1", "-4", "999")),
        ("CDR", ("0", "0.5", "3"), ("4", "9", "-4")),
        ("age", ("0.5", "70", "99", "120"), ("0", "-4", "121", "999")),
        ("education", ("0", "25"), ("99", "-4", "999")),
        ("Hippocampus", ("7000.5",), ("-4", "0", "999", "9999")),
        ("eTIV", ("999", "1500"), ("-4",)),
        ("gait", ("-1", "999"), ("x",)),
    ],
)
def test_values_that_can_be(name: str, possible: tuple[str, ...], impossible: tuple[str, ...]) -> None:
    assert all(is_plausible(name, text) for text in possible)
    assert not any(is_plausible(name, text) for text in impossible)


def _column(name: str, *cells: str) -> tuple[list[str], list[str]]:
    """Cells as written, and warnings."""
    rows = {str(at): {name: cell} for at, cell in enumerate(cells)}
    _, table, warnings = describe_columns(rows, {})
    return [table[str(at)].get(name, "") for at in range(len(cells))], warnings


@pytest.mark.parametrize(
    ("cells", "written"),
    [
        (("0.7", "1.2", "999"), ["0.7", "1.2", ""]),
        (("0.7", "1.2", "-4", "-1"), ["0.7", "1.2", "", ""]),
        (("0.7", "-1.2", "-1"), ["0.7", "-1.2", "-1"]),  # a score that can be negative
        (("850", "1010", "999"), ["850", "1010", "999"]),  # among its neighbours it is a value
        (("low", "high", "999"), ["low", "high", ""]),
    ],
)
def test_codes_in_undescribed_columns(cells: tuple[str, ...], written: list[str]) -> None:
    assert _column("gait", *cells)[0] == written


def _list(folder: Path, head: str, *rows: str) -> Path:
    """A list of volumes ``0.nii.gz``, ``1.nii.gz``, ... with further columns."""
    for seed in range(len(rows)):
        write_volume(folder / f"{seed}.nii.gz", seed)
    lines = [f"{seed}.nii.gz,{row}" for seed, row in enumerate(rows)]
    (folder / "list.csv").write_text("\n".join([f"path,{head}", *lines]) + "\n")
    return folder / "list.csv"


@pytest.mark.parametrize("word", [*MISSING_WORDS, "-4", "-1", "999", "9999"])
def test_a_missing_word_is_no_class_person_site_or_session(tmp_path: Path, word: str) -> None:
    rows = ("CN,a,x,1", "AD,b,x,1", f"{word},c,x,1", f"CN,{word},x,1", f"CN,d,{word},1", f"CN,e,x,{word}")
    manifest = prepare("csv", _list(tmp_path, "label,subject,site,session", *rows), tmp_path / "data")
    assert set(manifest.class_names) == {"CN", "AD"}
    assert [(scan.subject, scan.site, scan.session) for scan in manifest.scans] == [
        *(("a", "x", "1"), ("b", "x", "1"), ("d", None, "1"), ("e", "x", None))
    ]
    assert set(rejected(tmp_path / "data")) == {"line 4", "line 5"}


def test_missing_and_impossible_values_are_counted(tmp_path: Path) -> None:
    rows = ("CN,a,70,M,29,0", "AD,b,999,female,31,9", "AD,c,-4,X,n/a,0.5", "CN,d,0,?,-1,1")
    manifest = prepare("csv", _list(tmp_path, "label,subject,age,sex,mmse,CDR", *rows), tmp_path / "data")
    assert [list(row.values())[1:] for row in rows_of(tmp_path / "data" / "participants.csv")] == [
        *(["70", "M", "29", "0"], ["", "F", "", ""], ["", "", "", "0.5"], ["", "", "", "1"])
    ]
    warnings = "\n".join(describe(tmp_path / "data")["warnings"])
    assert "sex: 1 values of no known word count as unknown" in warnings
    assert (
        "MMSE: 2 values outside 0 to 30, or codes, count as missing" in warnings
        and "CDR: 1 values outside 0 to 3" in warnings
    )
    assert "age: 3 values outside" in warnings and manifest.participants().missing()["sex"] == 2


@pytest.mark.parametrize(
    ("cells", "sexes"),
    [
        (("M", "female", "m", "Woman"), ["M", "F", "M", "F"]),
        (("1", "2", "2", "1"), ["M", "F", "F", "M"]),
        (("0", "1", "2", "9"), ["", "M", "F", ""]),  # ISO 5218: 0 not known, 9 not applicable
        (("0", "1", "1", "0"), ["", "", "", ""]),  # no name gives the side
    ],
)
def test_sexes(tmp_path: Path, cells: tuple[str, ...], sexes: list[str]) -> None:
    table = _list(tmp_path, "label,subject,sex", *(f"CN,p{at},{cell}" for at, cell in enumerate(cells)))
    prepare("csv", table, tmp_path / "data")
    written = [row.get("sex", "") for row in rows_of(tmp_path / "data" / "participants.csv")]
    assert written == sexes


def test_one_class_in_two_spellings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = _list(tmp_path, "label,subject", "CN,a", "cn,b", "AD,c")
    command = ["prepare", "--format", "csv", str(table), "--out", str(tmp_path / "data")]
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "'CN' and 'cn'" in error and "--labels cn=CN makes them one" in error
    assert main([*command, "--labels", "cn=CN", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["CN"]["scans"] == 2


@pytest.mark.parametrize(
    ("head", "rows", "left", "reason"),
    [
        ("label,subject,sex", ("CN,a,F", "CN,a,M", "AD,b,M"), ["b"], "this person is given two sexes"),
        ("label,subject,gender", ("CN,a,1", "CN,a,2", "AD,b,1"), ["b"], "this person is given two sexes"),
        ("label,subject,session", ("CN,a,1", "AD,a,1", "AD,b,1"), ["b"], "several labels in one session: AD, CN"),
        ("label,subject,session", ("CN,a,1", "AD,a,2", "AD,b,1"), ["a", "a", "b"], ""),
        ("label,subject", ("CN,a", "AD,a", "AD,b"), ["b"], "several labels in a session without a name: AD, CN"),
    ],
)
def test_contradictory_rows_are_rejected(
    tmp_path: Path, head: str, rows: tuple[str, ...], left: list[str], reason: str
) -> None:
    manifest = prepare("csv", _list(tmp_path, head, *rows), tmp_path / "data")
    assert [scan.subject for scan in manifest.scans] == left
    assert all(reason in text for text in rejected(tmp_path / "data").values())


def test_the_sequence_of_a_list_by_its_files(tmp_path: Path) -> None:
    names = ("sub-1_T1w", "sub-2_FLAIR", "sub-3_T1w", "scan", "sub-4_desc-brain_mask", "sub-5_T1w")
    rows = []
    for seed, name in enumerate(names):
        write_volume(tmp_path / f"{name}.nii.gz", seed)
        rows.append((f"{name}.nii.gz", "CN", f"p{seed}", "FLAIR" if name == "sub-5_T1w" else ""))
    (tmp_path / "sub-3_T1w.json").write_text(json.dumps({"SeriesDescription": "AX T2"}))
    table = write_csv(tmp_path / "list.csv", ("path", "label", "subject", "sequence"), rows)
    manifest = prepare("csv", table, tmp_path / "data")
    assert [scan.sequence for scan in manifest.scans] == ["T1w", "FLAIR", "T1w"]
    assert rejected(tmp_path / "data") == {
        "line 4": "its BIDS suffix gives T1w, the JSON beside it T2w",
        "line 6": "a mask or label image by its name",
        "line 7": "sequence FLAIR in the table, T1w by the file",
    }
    assert any("assumed T1w" in note for note in manifest.description["warnings"])


# --- BIDS sessions


def _bids(
    root: Path, participants: str, sessions: str = "", folders: tuple[str, ...] = ("ses-M000", "ses-M012")
) -> Path:
    for seed, name in enumerate(folders):
        write_volume(root / "sub-01" / name / "anat" / f"sub-01_{name}_T1w.nii.gz", seed)
    (root / "participants.tsv").write_text(participants.replace(" ", "\t"))
    if sessions:
        (root / "sub-01" / "sub-01_sessions.tsv").write_text(sessions.replace(" ", "\t"))
    return root


PERSON = "participant_id diagnosis age sex\nsub-01 CN 70 F\n"


def _labels(manifest: Manifest) -> dict[str | None, str]:
    return {scan.session: scan.label for scan in manifest.scans}


def test_sessions_of_other_zeros_are_the_same(tmp_path: Path) -> None:
    table = "session_id diagnosis age\nses-M00 CN 70\nses-M12 MCI n/a\n"
    manifest = prepare("bids", _bids(tmp_path / "bids", PERSON, table), tmp_path / "data")
    assert _labels(manifest) == {"ses-M000": "CN", "ses-M012": "MCI"}
    people = manifest.participants()
    cells = [[cell(people, scan.id, name) for name in ("age", "sex")] for scan in manifest.scans]
    assert cells == [["70 years", "F"], ["", "F"]]  # the age at baseline is not that of a later visit


@pytest.mark.parametrize(
    ("sessions", "labels", "reason"),
    [
        ("ses-BL CN\nses-M12 MCI", {"ses-M012": "MCI"}, "session ses-M000 has no row in sub-01_sessions.tsv"),
        ("ses-M000 CN", {"ses-M000": "CN"}, "session ses-M012 has no row in sub-01_sessions.tsv"),
        ("ses-M000 CN\nses-M012 n/a", {"ses-M000": "CN"}, "diagnosis is n/a"),
        ("ses-M000 CN\nses-M012 MCI\nses-M012 AD", {"ses-M000": "CN"}, "several rows in sub-01_sessions.tsv"),
        ("ses-M000 CN\nses-M12 MCI\nses-M0012 AD", {"ses-M000": "CN"}, "several are alike"),
    ],
)
def test_a_visit_without_its_own_row_has_no_label(
    tmp_path: Path, sessions: str, labels: dict[str | None, str], reason: str
) -> None:
    root = _bids(tmp_path / "bids", PERSON, f"session_id diagnosis\n{sessions}\n")
    assert _labels(prepare("bids", root, tmp_path / "data")) == labels
    assert [reason in text for text in rejected(tmp_path / "data").values()] == [True]


def test_a_label_of_the_person_holds_for_all_visits(tmp_path: Path) -> None:
    root = _bids(tmp_path / "bids", PERSON, "session_id acq_time\nses-M000 2010-01-01\n")
    assert _labels(prepare("bids", root, tmp_path / "data")) == {"ses-M000": "CN", "ses-M012": "CN"}


def test_a_table_with_a_row_a_session(tmp_path: Path) -> None:
    table = "participant_id session_id diagnosis age sex\nsub-01 ses-M00 CN 70 F\nsub-01 ses-M12 MCI 71 F\n"
    manifest = prepare("bids", _bids(tmp_path / "bids", table), tmp_path / "data")
    assert _labels(manifest) == {"ses-M000": "CN", "ses-M012": "MCI"}
    assert [row["age"] for row in rows_of(tmp_path / "data" / "participants.csv")] == ["70", "71"]
    table = table.replace("ses-M12 MCI 71 F", "ses-M12 MCI 71 M")
    with pytest.raises(InputError, match="two sexes"):
        prepare("bids", _bids(tmp_path / "two", table), tmp_path / "no")


def test_phase_images_of_bids_are_no_scans(tmp_path: Path) -> None:
    root = _bids(tmp_path / "bids", PERSON, folders=("ses-1",))
    write_volume(root / "sub-01/ses-1/anat/sub-01_ses-1_part-phase_T1w.nii.gz", 9)
    assert len(prepare("bids", root, tmp_path / "data", options=ReaderOptions()).scans) == 1
    assert "a complex image by its name (part-phase)" in rejected(tmp_path / "data").values()


# --- OASIS-3


@pytest.fixture
def oasis3(tmp_path: Path) -> Path:
    root = tmp_path / "oasis3"
    sessions = (("OAS30001", 129), ("OAS30001", 2430), ("OAS30002", 0), ("OAS30003", 50), ("OAS30004", 10))
    for seed, (person, day) in enumerate(sessions):
        folder = root / f"{person}_MR_d{day:04d}" / "anat2"
        write_volume(folder / f"sub-{person}_ses-d{day:04d}_T1w.nii.gz", seed)
    write_volume(folder / "sub-OAS30004_ses-d0010_T2w.nii.gz", 9)
    head = ("OASISID", "OASIS_session_label", "days_to_visit", "age at visit", "MMSE", "CDRTOT", "CDRSUM", "dx1")
    rows = [
        ("OAS30001", "OAS30001_UDSb4_d0000", 0, 65.1, 29, 0, 0, "Cognitively normal"),
        ("OAS30001", "OAS30001_UDSb4_d0250", 250, 65.8, 28, 0.5, 1, "AD Dementia"),
        ("OAS30001", "OAS30001_UDSb4_d2000", 2000, 70, 20, 1, 6, "AD Dementia"),
        ("OAS30002", "OAS30002_UDSb4_d0100", 100, 70, 29, 0, 0, "Cognitively normal"),
        ("OAS30003", "OAS30003_UDSb4_d0060", 60, 80, 22, 0.5, 2, "Vascular Demt prim w/o AD"),
        ("OAS30004", "OAS30004_UDSb4_d0000", 0, 80, 22, "", "", "."),
    ]
    write_csv(tmp_path / "OASIS3_UDSb4_cdr.csv", head, rows)
    people = [("OAS30001", 65.1, 2, 16, "R"), ("OAS30002", 69.7, 1, 12, "L")]
    write_csv(tmp_path / "OASIS3_demographics.csv", ("OASISID", "AgeatEntry", "GENDER", "EDUC", "HAND"), people)
    return root


def test_oasis3_takes_the_nearest_clinical_visit(oasis3: Path, tmp_path: Path) -> None:
    options = ReaderOptions(participants=tmp_path / "OASIS3_UDSb4_cdr.csv")
    manifest = prepare("oasis3", oasis3, tmp_path / "data", options=options)
    assert [(s.id, s.subject, s.session, s.label) for s in manifest.scans] == [
        ("sub-OAS30001_ses-d0129_T1w", "OAS30001", "d0129", "AD"),  # 121 days from d0250, 129 from d0000
        ("sub-OAS30002_ses-d0000_T1w", "OAS30002", "d0000", "CN"),
    ]
    people = manifest.participants()
    cells = [[cell(people, scan.id, name) for name in ("age", "sex", "education", "MMSE")] for scan in manifest.scans]
    assert cells == [["65.45 years", "F", "16 years", "28"], ["69.7 years", "M", "12 years", "29"]]
    reasons = rejected(tmp_path / "data")
    assert {source.rpartition("/")[2]: reason for source, reason in reasons.items()} == {
        "sub-OAS30001_ses-d2430_T1w.nii.gz": "the nearest clinical visit is 430 days away (180 at most)",
        "sub-OAS30003_ses-d0050_T1w.nii.gz": "CDR is above 0, and dx1 is not Alzheimer's disease",
        "sub-OAS30004_ses-d0010_T1w.nii.gz": "CDR is blank: not rated, which does not mean normal",
        "sub-OAS30004_ses-d0010_T2w.nii.gz": "T2w was not requested (--sequences T1w)",
    }
    own = prepare(
        "oasis3", oasis3, tmp_path / "own", options=ReaderOptions(participants=options.participants, label_column="dx1")
    )
    assert own.class_names == ("AD Dementia", "Cognitively normal", "Vascular Demt prim w/o AD")
