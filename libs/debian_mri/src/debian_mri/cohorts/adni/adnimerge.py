"""ADNIMERGE: one row a person and visit. Ages there are those at baseline, so the collection's are preferred."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from pathlib import Path

from debian_mri.cohorts.adni.loni import parse_date
from debian_mri.cohorts.base import read_rows
from debian_mri.data.clinical_variables import VARIABLES, canonical_name, normalise_value
from icube_common.data.reader import require_file
from icube_common.errors import InputError

BASELINE = "bl"
NEAREST_DAYS = 90  # between a scan and the visit whose row it takes
CODED_DAYS = 180  # where the visit code is the same
REQUIRED = ("PTID", "VISCODE")
# the same at all visits
TIME_INVARIANT = ("PTEDUCAT", "PTGENDER", "APOE4")
MISSING_VALUES = ("-4", "-1", "-4.0", "-1.0")
# groups of finer diagnoses
FAMILIES = {
    **dict.fromkeys(("CN", "SMC", "NL"), "CN"),
    **dict.fromkeys(("EMCI", "MCI", "LMCI"), "MCI"),
    **dict.fromkeys(("AD", "Dementia"), "AD"),
}


class Visits:
    """Rows of ADNIMERGE by person and visit.

    A scan's row is that of its visit code (VISCODE, else VISCODE2) where its EXAMDATE is within `CODED_DAYS` of the
    scan or one of the dates is unknown; else the row whose EXAMDATE is nearest to the scan, `NEAREST_DAYS` at most:
    codes of later phases (v03, init, y2) are not those of this table. Where two rows are as near, there is none.

    Args:
        rows: (PTID, VISCODE) -> column -> text, empty where missing.
    """

    def __init__(self, rows: dict[tuple[str, str], dict[str, str]]) -> None:
        self.rows = rows
        self.constant: dict[str, dict[str, str]] = {}
        self.dated: dict[str, list[tuple[date, dict[str, str]]]] = defaultdict(list)
        self.second: dict[tuple[str, str], dict[str, str]] = {}
        for (person, _), cells in rows.items():
            if (day := parse_date(cells.get("EXAMDATE", ""))) is not None:
                self.dated[person].append((day, cells))
            if code := cells.get("VISCODE2", "").lower():
                self.second.setdefault((person, code), cells)
            constant = self.constant.setdefault(person, {})
            for column in TIME_INVARIANT:
                if cells.get(column):
                    # a person with different values has none
                    same = constant.setdefault(column, cells[column]) == cells[column]
                    constant[column] = constant[column] if same else "n/a"

    @classmethod
    def read(cls, path: Path) -> Visits:
        """Read the table.

        Raises:
            InputError: no such file, not readable, a column is missing, or a visit is there twice with other values.
        """
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for line, cells in read_rows(require_file(path, "--adnimerge", "ADNIMERGE.csv"), REQUIRED):
            clean = {name: "" if text in MISSING_VALUES else text for name, text in cells.items()}
            key = (clean["PTID"], clean["VISCODE"].lower())
            if rows.setdefault(key, clean) != clean:
                raise InputError(f"{path}: line {line}: this person's visit is there twice, with other values")
        return cls(rows)

    def row(self, person: str, session: str, scan_date: date | None) -> dict[str, str]:
        """Row of a scan, empty if none matches."""
        return self._coded(person, session, scan_date) or self._nearest(person, scan_date)

    def _coded(self, person: str, session: str, scan_date: date | None) -> dict[str, str]:
        code = BASELINE if session == "sc" else session
        cells = self.rows.get((person, code)) or self.second.get((person, code)) or {}
        examined = parse_date(cells.get("EXAMDATE", ""))
        far = scan_date and examined and abs((scan_date - examined).days) > CODED_DAYS
        return {} if far else cells

    def _nearest(self, person: str, scan_date: date | None) -> dict[str, str]:
        if scan_date is None:
            return {}
        distances = [(abs((day - scan_date).days), cells) for day, cells in self.dated[person]]
        least = min((days for days, _ in distances), default=NEAREST_DAYS + 1)
        nearest = [cells for days, cells in distances if days == least]
        return nearest[0] if least <= NEAREST_DAYS and len(nearest) == 1 else {}

    def by_date(self, person: str, session: str, scan_date: date | None) -> bool:
        """True if the row of a scan was matched by its date."""
        return not self._coded(person, session, scan_date) and bool(self._nearest(person, scan_date))

    def contradicts_sex(self, person: str, sex: str) -> bool:
        """True if ADNIMERGE has another sex for the person."""
        recorded = normalise_value("sex", self.constant.get(person, {}).get("PTGENDER", ""))
        return bool(sex and recorded and sex != recorded)

    def complete(self, person: str, visit: dict[str, str], row: dict[str, str]) -> dict[str, str]:
        """A person's row completed by ADNIMERGE's described variables (`debian_mri.data.clinical_variables`)."""
        constant = self.constant.get(person, {})
        completed = dict(row)
        for column, text in {**visit, **constant}.items():
            name = canonical_name(column)
            # AGE is that at baseline
            at_baseline = visit.get("VISCODE", "").lower() == BASELINE
            if name in VARIABLES and not completed.get(name) and (name != "age" or at_baseline):
                completed[name] = normalise_value(name, text)
        return completed


def diagnosis(visit: dict[str, str]) -> str:
    """DX of a visit's row, empty where unknown."""
    return normalise_value("DX", visit.get("DX", ""))
