"""Tables about people in the dialects that spreadsheets write.

Comma, semicolon or tab; UTF-8 with or without byte order mark, UTF-16 with one; empty cells after the last column;
decimal commas; words for missing values as empty cells; ``.xlsx``.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from debian_mri.data.clinical_variables import is_missing
from icube_common.errors import InputError

DELIMITERS = (",", ";", "\t")
SPREADSHEETS = (".xlsx", ".xlsm")
# with commas between cells, or tabs, three digits after one may be thousands
_DECIMAL_COMMA = {";": re.compile(r"[+-]?\d+,\d+"), "": re.compile(r"[+-]?\d+,\d{1,2}")}
Row = dict[str, str]


def read_people(path: Path, required: Iterable[str], *, missing: bool = True) -> Iterator[tuple[int, Row]]:
    """Rows of a table with a head line, as (line number, column -> text); rows without any text are passed over.

    Args:
        path: the file.
        required: columns that it must have.
        missing: turn words for missing values into empty cells.

    Raises:
        InputError: missing, of another encoding or kind, a column is missing or twice there, or a row is too short or
            too long.
    """
    required = list(required)
    if path.suffix.lower() in SPREADSHEETS:
        lines, delimiter = _read_spreadsheet(path, required), ""
    elif path.suffix.lower() in (".xls", ".ods", ".numbers"):
        raise InputError(f"{path}: a spreadsheet of a kind that is not read: save the sheet as CSV (UTF-8)")
    else:
        lines, delimiter = _read_text(path, required)
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
        cells = [_cell(text, delimiter, missing) for text in row[: len(head)]]
        yield line, dict(zip(head, cells, strict=True))


def _cell(text: str, delimiter: str, missing: bool) -> str:
    text = text.strip()
    if missing and is_missing(text):
        return ""
    if _DECIMAL_COMMA.get(delimiter, _DECIMAL_COMMA[""]).fullmatch(text):
        return text.replace(",", ".")
    return text


def _read_text(path: Path, required: Sequence[str]) -> tuple[list[tuple[int, list[str]]], str]:
    """Lines of a text table, and what stands between its cells."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}): save it as CSV (UTF-8)") from error
    if "\0" in text:
        raise InputError(f"{path}: not UTF-8 text (zero bytes in it): save it as CSV (UTF-8)")
    skip = 0
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

    def fits(delimiter: str) -> tuple[int, int]:
        head = [name.strip() for name in tables[delimiter][0][1]] if tables[delimiter] else []
        return sum(name in head for name in required), len(head)

    # the first of those that find most of the columns
    chosen = max(tables, key=fits)
    return tables[chosen], chosen


def _read_spreadsheet(path: Path, required: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Rows of the first sheet that has the columns, else of the first."""
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(f"{path}: needs openpyxl (pip install openpyxl), or save the sheet as CSV (UTF-8)") from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheets = [
            [(line, [_text(cell) for cell in row]) for line, row in enumerate(sheet.iter_rows(values_only=True), 1)]
            for sheet in book.worksheets
        ]
        book.close()
    except Exception as error:  # damaged files fail in any way there is
        raise InputError(f"{path}: cannot be read as a spreadsheet ({type(error).__name__})") from error
    filled = [[(line, row) for line, row in sheet if any(row)] for sheet in sheets]
    filled = [sheet for sheet in filled if sheet]
    return next((sheet for sheet in filled if set(required) <= set(sheet[0][1])), filled[0] if filled else [])


def _text(cell: object) -> str:
    """A cell of a spreadsheet as text; a date without its time of day where that is midnight."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip().removesuffix(" 00:00:00")
