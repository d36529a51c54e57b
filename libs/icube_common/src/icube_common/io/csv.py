"""Tables with a head line (CSV, TSV, XLSX), texts in the encodings of spreadsheets, digests of files."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from icube_common.errors import InputError

DELIMITERS = (",", ";", "\t")
SPREADSHEETS = (".xlsx", ".xlsm")
# with commas between cells, or tabs, three digits after one may be thousands
_DECIMAL_COMMA = {";": re.compile(r"[+-]?\d+,\d+"), "": re.compile(r"[+-]?\d+,\d{1,2}")}


def read_table(path: Path, required: Iterable[str], *, strip: bool = True) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with a head line, as (line number, column -> text); empty lines are passed over.

    Args:
        path: the file.
        required: columns that it must have.
        strip: take spaces around values away, as people's files want it; file names keep theirs without.

    Raises:
        InputError: missing, not UTF-8, a column is missing or twice there, or a row is too short or too long.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            head = [name.strip() for name in next(reader, [])]
            missing = [name for name in required if name not in head]
            if missing or len(set(head)) < len(head):
                problem = f"no column {missing[0]!r}" if missing else "a column is there twice"
                raise InputError(f"{path}: line 1: {problem} in the head line {','.join(head)!r}")
            for row in reader:
                if not row:
                    continue
                if len(row) != len(head):
                    raise InputError(f"{path}: line {reader.line_num}: {len(row)} fields, {len(head)} expected")
                cells = [cell.strip() for cell in row] if strip else row
                yield reader.line_num, dict(zip(head, cells, strict=True))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def read_text(path: Path, *, expected: str = "") -> str:
    """Text of a file in UTF-8, with or without byte order mark, or in UTF-16 with one; lines end as in the file.

    Args:
        path: the file.
        expected: description of the right file, for messages: ``"a table of labels"``.

    Raises:
        InputError: missing, a folder, binary, or in another encoding.
    """
    wish = f"; expected {expected}" if expected else ""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file{wish}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder{wish}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line}: not UTF-8 text (byte {error.start}): save it as UTF-8{wish}") from error
    if "\0" in text:
        raise InputError(f"{path}: not UTF-8 text (zero bytes in it): save it as UTF-8{wish}")
    return text


def read_spreadsheet(
    path: Path, required: Iterable[str], *, is_missing: Callable[[str], bool] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table in the dialects of spreadsheets, as (line number, column -> text); empty rows are skipped.

    Cells divided by commas, semicolons or tabs; an Excel ``sep=`` line; empty cells after the last column; decimal
    commas, which become points; ``.xlsx``.

    Args:
        path: the file.
        required: required columns; the delimiter, or the sheet, with most of them is taken.
        is_missing: which cells become empty: words for missing values.

    Raises:
        InputError: another encoding or kind of file, a missing or repeated column, a row of another width.
    """
    required = list(required)
    if path.suffix.lower() in SPREADSHEETS:
        lines, delimiter = _read_sheets(path, required), ""
    elif path.suffix.lower() in (".xls", ".ods", ".numbers"):
        raise InputError(f"{path}: a spreadsheet of a kind that is not read: save the sheet as CSV (UTF-8)")
    else:
        lines, delimiter = _read_delimited(path, required)
    if not lines:
        lines = [(1, [""])]
    (first, head), *rows = lines
    head = [name.strip() for name in head]
    # empty columns at the end come from cells that were formatted once
    while head and not head[-1] and all(not "".join(row[len(head) - 1 :]).strip() for _, row in rows):
        head.pop()
    absent = [name for name in required if name not in head]
    if absent or len(set(head)) < len(head):
        problem = f"no column {absent[0]!r}" if absent else "a column is there twice"
        raise InputError(f"{path}: line {first}: {problem} in the head line {','.join(head)!r}")
    for line, row in rows:
        if not "".join(row).strip():
            continue
        if len(row) < len(head) or "".join(row[len(head) :]).strip():
            raise InputError(f"{path}: line {line}: {len(row)} fields, {len(head)} expected")
        cells = [_cell(text.strip(), delimiter, is_missing) for text in row[: len(head)]]
        yield line, dict(zip(head, cells, strict=True))


def _cell(text: str, delimiter: str, is_missing: Callable[[str], bool] | None) -> str:
    if is_missing is not None and is_missing(text):
        return ""
    decimal = _DECIMAL_COMMA.get(delimiter, _DECIMAL_COMMA[""]).fullmatch(text)
    return text.replace(",", ".") if decimal else text


def _read_delimited(path: Path, required: Sequence[str]) -> tuple[list[tuple[int, list[str]]], str]:
    """Lines of a text table with their numbers, and its delimiter."""
    text, skip = read_text(path, expected="a table as CSV (UTF-8)"), 0
    if stated := re.match(r"sep=(.)\r?\n", text):  # a line that Excel writes and reads
        text, skip = text[stated.end() :], 1
    tables = {}
    for delimiter in (stated[1],) if stated else DELIMITERS:
        # BIDS has no quotes; a spreadsheet that saves with tabs quotes its head line as well
        plain = delimiter == "\t" and '"' not in text.partition("\n")[0]
        lines = io.StringIO(text, newline="")
        reader = csv.reader(
            lines, delimiter=delimiter, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL, strict=not plain
        )
        try:
            tables[delimiter] = [(reader.line_num + skip, row) for row in reader if row]
        except csv.Error as error:
            if delimiter in text.partition("\n")[0] or stated:
                raise InputError(f"{path}: line {reader.line_num + skip}: {error}") from error
    if not tables:
        raise InputError(f"{path}: no table: no line can be read")

    def fit(delimiter: str) -> tuple[int, int]:
        head = [name.strip() for name in tables[delimiter][0][1]] if tables[delimiter] else []
        return sum(name in head for name in required), len(head)

    # the first of those with most of the columns
    best = max(tables, key=fit)
    return tables[best], best


def _read_sheets(path: Path, required: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Rows of the first sheet with all columns, else of the first."""
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(f"{path}: needs openpyxl (pip install openpyxl), or save the sheet as CSV (UTF-8)") from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheets = [
            [(line, [_text_of(cell) for cell in row]) for line, row in enumerate(sheet.iter_rows(values_only=True), 1)]
            for sheet in book.worksheets
        ]
        book.close()
    except Exception as error:  # damaged files fail in any way there is
        raise InputError(f"{path}: cannot be read as a spreadsheet ({type(error).__name__})") from error
    filled = [[(line, row) for line, row in sheet if any(row)] for sheet in sheets]
    filled = [sheet for sheet in filled if sheet]
    return next((sheet for sheet in filled if set(required) <= set(sheet[0][1])), filled[0] if filled else [])


def _text_of(cell: object) -> str:
    """Text of a spreadsheet's cell; a date without its time of day where that is midnight."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip().removesuffix(" 00:00:00")
