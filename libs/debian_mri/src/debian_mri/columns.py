"""The people's variables as ``participants.csv`` has them: which there are, of which tier, and which stay out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from debian_mri.variables import (
    MISSING_CODES,
    RANGES,
    TIERS,
    VARIABLES,
    Column,
    canonical,
    column_of,
    is_number,
    is_possible,
    sex_codes,
)
from icube_common.errors import InputError, unknown

# names of columns that say who or when
_PRIVATE = re.compile(
    r"(^|[^a-z])(name|surname|forename|mrn|dob|birth\w*|date|\w*date|time|acq_time|address|phone|email|zip|ptid|rid|"
    r"\w+_id|id|initials)($|[^a-z])",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}.*|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}.*|(19|20)\d{6}")
MOST_WORDS = 20  # of a category


def describe_columns(
    rows: Mapping[str, Mapping[str, str]], tiers: Mapping[str, str]
) -> tuple[list[Column], dict[str, dict[str, str]], list[str]]:
    """Columns and rows to write, and notes on what was left out or taken as missing.

    Left out: names, ids, dates and free text. A cell of a known number that is none, or outside the range of the
    variable, counts as missing; of a number without a description, a code such as 999 far from all other values.

    Args:
        rows: scan id -> variable -> text.
        tiers: variable -> tier, in place of the known one or of C for what nobody has described.

    Raises:
        InputError: a tier for a variable that is not there, an unknown tier, or a known variable of tier C that is to
            be of another.
    """
    names = sorted({name for row in rows.values() for name in row}, key=_place)
    wanted = check_tiers(tiers, names)
    columns: list[Column] = []
    table: dict[str, dict[str, str]] = {scan_id: {} for scan_id in rows}
    notes: list[str] = []
    undescribed: list[str] = []
    for name in names:
        cells = {scan_id: row.get(name, "") for scan_id, row in rows.items()}
        if reason := _private(name, list(cells.values())):
            notes.append(f"column {name!r} is left out: {reason}")
            continue
        if name not in VARIABLES:
            codes = _codes(list(cells.values()))
            if coded := sum(text in codes for text in cells.values()):
                notes.append(f"{name}: {coded} values {', '.join(sorted(codes))} are taken as codes for missing")
            cells = {scan_id: "" if text in codes else text for scan_id, text in cells.items()}
        column = column_of(name, list(cells.values()), tier=wanted.get(name))
        notes += _unfit(column, list(cells.values()))
        if name not in VARIABLES and name not in wanted:
            undescribed.append(name)
        columns.append(column)
        for scan_id, text in cells.items():
            if text and _fits(column, text):
                table[scan_id][name] = text
    if undescribed:
        listed = ", ".join(undescribed)
        notes.append(f"not described, so of tier C (--tiers COLUMN=A or B says otherwise): {listed}")
    return columns, table, notes


def decode_sexes(rows: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Rows with the sex as F or M where it is given by number (`debian_mri.variables.sex_codes`)."""
    known = sex_codes(row.get("sex", "") for row in rows.values())
    return {
        scan_id: {**row, "sex": known.get(row["sex"], row["sex"])} if "sex" in row else dict(row)
        for scan_id, row in rows.items()
    }


def _unfit(column: Column, cells: list[str]) -> list[str]:
    """Notes on cells that cannot be a value."""
    unfit = [text for text in cells if text and not _fits(column, text)]
    outside = [text for text in unfit if column.kind == "number" and is_number(text)]
    words = len(unfit) - len(outside)
    notes = []
    if words and column.name == "sex":
        notes.append(
            f"sex: {words} values of no known word count as unknown (M, F, male, female; as numbers 1 male, 2 female; "
            "a column of 0 and 1 is not read)"
        )
    elif words:
        notes.append(f"{column.name}: {words} values that are no {column.kind} of it count as missing")
    if outside:
        low, high = RANGES[column.name]
        notes.append(f"{column.name}: {len(outside)} values outside {low:g} to {high:g}, or codes, count as missing")
    return notes


def _codes(cells: list[str]) -> frozenset[str]:
    """Codes for missing values among the cells of a column without a description.

    A negative code counts where no other value is negative, 999 and the like where they are three times beyond all
    others; beside words every one counts.
    """
    coded = {text for text in cells if is_number(text) and float(text) in MISSING_CODES}
    others = [text for text in cells if text and text not in coded]
    numbers = [float(text) for text in others if is_number(text)]
    if not others:
        return frozenset()
    if len(numbers) < len(others):
        return frozenset(coded)
    low, high = min(numbers), max(numbers)
    return frozenset(text for text in coded if (low >= 0 if float(text) < 0 else float(text) > 3 * max(high, 0)))


def _place(name: str) -> tuple[int, str]:
    known = list(VARIABLES)
    return (known.index(name) if name in VARIABLES else len(known), name)


def check_tiers(tiers: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Tiers by our names of the variables.

    Args:
        tiers: as asked for.
        names: variables that are there.

    Raises:
        InputError: as `describe_columns`.
    """
    names = set(names)
    wanted = {canonical(name): tier for name, tier in tiers.items()}
    for name, tier in wanted.items():
        if name not in names:
            raise unknown("column of --tiers", name, names)
        if tier not in TIERS:
            raise InputError(f"--tiers {name}={tier}: must be one of {', '.join(TIERS)}")
        if name in VARIABLES and VARIABLES[name].tier == "C" and tier != "C":
            raise InputError(
                f"--tiers {name}={tier}: {VARIABLES[name].meaning} is close to the diagnosis by construction and stays "
                "of tier C (a model takes it with demographics.allow_tier_c=true)"
            )
    return wanted


def _private(name: str, cells: list[str]) -> str:
    """Why a column does not go into the table; empty where it may."""
    if name in VARIABLES:
        return ""
    if _PRIVATE.search(name):
        return "its name says that it tells who or when"
    present = [cell for cell in cells if cell]
    if any(_DATE.fullmatch(cell) for cell in present):
        return "holds dates"
    if not all(map(is_number, present)) and len(set(present)) > MOST_WORDS:
        return f"free text ({len(set(present))} different words)"
    return ""


def _fits(column: Column, text: str) -> bool:
    return text in column.values if column.kind == "category" else is_possible(column.name, text)
