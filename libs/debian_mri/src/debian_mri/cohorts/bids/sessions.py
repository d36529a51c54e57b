"""Sessions of BIDS: rows of ``sessions.tsv``, or of a ``participants.tsv`` with a session column, by session folder.

A session's label and time-dependent variables come from its own row, constant ones (sex, education, genotype) from the
person's row where the session's has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from debian_mri.data.clinical_variables import canonical_name

SESSION_COLUMNS = ("session_id", "session", "ses", "visit_id", "visit")
TIME_INVARIANT = ("sex", "education", "education_level", "handedness", "APOE4")
Row = dict[str, str]


@dataclass
class Sessions:
    """Rows of one person's sessions.

    Attributes:
        table: name of the table, for reasons.
        rows: session as the table spells it -> its cells.
        repeated: sessions whose rows differ.
    """

    table: str
    rows: dict[str, Row] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)

    def add(self, session: str, cells: Row) -> None:
        """Add a row of the table."""
        if self.rows.setdefault(session, cells) != cells:
            self.repeated.add(session)

    @property
    def columns(self) -> set[str]:
        """Columns of the table."""
        return {name for cells in self.rows.values() for name in cells}

    def row(self, folder: str, folders: Iterable[str]) -> tuple[Row | None, str]:
        """Row of a session folder, or the reason that there is none.

        Args:
            folder: ``ses-M012``.
            folders: all session folders of the person: ``ses-M00`` and ``ses-M000`` are one session where nothing else
                can be meant.
        """
        named = [name for name in self.rows if _plain(name) == _plain(folder)]
        if not named:
            alike = [name for name in folders if _number(name) == _number(folder)]
            named = [name for name in self.rows if _number(name) == _number(folder)]
            if len(alike) > 1 or len(named) > 1:
                return None, f"session {folder} is not spelt in {self.table} as its folder, and several are alike"
        if not named:
            return None, f"session {folder} has no row in {self.table}"
        if set(named) & self.repeated or len(named) > 1:
            return None, f"session {folder} has several rows in {self.table} that differ"
        return self.rows[named[0]], ""


def merge_rows(person: Mapping[str, str], session: Row | None, columns: Iterable[str]) -> Row:
    """Cells of a scan: the session's, and the person's constant ones and those without a session column."""
    changing = {name for name in columns if canonical_name(name) not in TIME_INVARIANT}
    constant = {name: text for name, text in person.items() if name not in changing}
    return {**constant, **{name: text for name, text in (session or {}).items() if text or name in changing}}


def _plain(session: str) -> str:
    return session.strip().removeprefix("ses-").casefold()


def _number(session: str) -> str:
    """A session's name without the zeros before its numbers."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", _plain(session))
