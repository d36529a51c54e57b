"""Tables in the dialects of spreadsheets, and texts in their encodings."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icube_common.errors import InputError
from icube_common.io.csv import read_spreadsheet, read_text

ROWS = [{"id": "a", "age": "70.5", "sex": ""}, {"id": "b", "age": "", "sex": "F"}]


def read(path: Path, *required: str) -> list[dict[str, str]]:
    return [row for _, row in read_spreadsheet(path, required or ("id", "age"), is_missing=lambda text: text == "NA")]


@pytest.mark.parametrize(
    "content",
    [
        b"id,age,sex\na,70.5,\nb,NA,F\n",
        b"\xef\xbb\xbfid;age;sex\r\na;70,5;\r\nb;NA;F\r\n",
        b"sep=;\nid;age;sex;;\na;70,5;;;\n\nb;NA;F;;\n",
        b"id\tage\tsex\na\t70.5\t\nb\tNA\tF\n",
        codecs.BOM_UTF16_LE + "id\tage\tsex\na\t70,5\t\nb\tNA\tF\n".encode("utf-16-le"),
        b'"id","age","sex"\n"a","70,5",""\n"b","NA","F"\n',
    ],
    ids=["commas", "semicolons", "sep line and empty columns", "tabs", "utf-16", "quotes"],
)
def test_dialects_give_the_same_rows(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert read(tmp_path / "t.csv") == ROWS


def test_a_spreadsheet(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["notes"])
    sheet = book.create_sheet()
    for row in (["id", "age", "sex"], ["a", 70.5, None], ["b", None, "F"], ["c", 71.0, "M"]):
        sheet.append(row)
    book.save(tmp_path / "t.xlsx")
    assert read(tmp_path / "t.xlsx") == [*ROWS, {"id": "c", "age": "71", "sex": "M"}]
    (tmp_path / "half.xlsx").write_bytes(b"PK half")
    with pytest.raises(InputError, match="cannot be read as a spreadsheet"):
        read(tmp_path / "half.xlsx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,sex\na,F\n", r"t.csv: line 1: no column 'age' in the head line 'id,sex'"),
        (b"id,age,age\na,1,2\n", "a column is there twice"),
        (b"id,age\na,1\nb,2,3\n", "line 3: 3 fields, 2 expected"),
        (b"id,age\na\n", "line 2: 1 fields, 2 expected"),
        (b"id,age\n\xff\n", r"line 2: not UTF-8 text \(byte 7\)"),
        (b"id,age\n\0\n", "zero bytes in it"),
        (b"", "no column 'id'"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "t.csv")


def test_other_kinds_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="a spreadsheet of a kind that is not read"):
        read(tmp_path / "t.ods")
    with pytest.raises(InputError, match="no such file; expected a list"):
        read_text(tmp_path / "gone.txt", expected="a list")
    with pytest.raises(InputError, match="is a folder"):
        read_text(tmp_path)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match="needs openpyxl"):
        read(tmp_path / "t.xlsx")


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "t.csv"
    path.write_bytes(b"id,age\n" + content)
    try:
        rows = read(path)
    except InputError as error:
        assert "\n" not in str(error).replace(repr(content), "") or "head line" in str(error)
    else:
        assert all(set(row) >= {"id", "age"} for row in rows)
