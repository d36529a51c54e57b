"""The people's variables as ``participants.csv`` has them: which there are, of which tier, and which stay out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from debian_mri.variables import TIERS, VARIABLES, Column, canonical, column_of, is_number
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

    Left out: names, ids, dates and free text. A cell of a known number that is none counts as missing.

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
        column = column_of(name, list(cells.values()), tier=wanted.get(name))
        bad = sum(bool(text) and not _fits(column, text) for text in cells.values())
        if bad:
            notes.append(f"{name}: {bad} values that are no {column.kind} of it count as missing")
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
    return text in column.values if column.kind == "category" else is_number(text)
