"""ADNIMERGE: one row a person and visit. Ages there are those at baseline, so the collection's are preferred."""

from __future__ import annotations

from pathlib import Path

from debian_mri.cohorts.base import require_file
from debian_mri.variables import VARIABLES, canonical, tidy
from icube_common.errors import InputError
from icube_common.tables import read_table

BASELINE = "bl"
REQUIRED = ("PTID", "VISCODE")
# what does not change with the visit
LASTING = ("PTEDUCAT", "PTGENDER", "APOE4")
NOT_MEASURED = ("-4", "-1", "-4.0", "-1.0")
# diagnoses of different fineness
FAMILIES = {
    **dict.fromkeys(("CN", "SMC", "NL"), "CN"),
    **dict.fromkeys(("EMCI", "MCI", "LMCI"), "MCI"),
    **dict.fromkeys(("AD", "Dementia"), "AD"),
}


class Visits:
    """Rows of ADNIMERGE by person and visit.

    Args:
        rows: (PTID, VISCODE) -> column -> text, empty where missing.
    """

    def __init__(self, rows: dict[tuple[str, str], dict[str, str]]) -> None:
        self.rows = rows
        self.lasting: dict[str, dict[str, str]] = {}
        for (person, _), cells in rows.items():
            known = self.lasting.setdefault(person, {})
            for column in LASTING:
                if cells.get(column):
                    # a person whose rows differ has no such value
                    same = known.setdefault(column, cells[column]) == cells[column]
                    known[column] = known[column] if same else "n/a"

    @classmethod
    def read(cls, path: Path) -> Visits:
        """Read the table.

        Raises:
            InputError: no such file, not readable, a column is missing, or a visit is there twice with other values.
        """
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for line, cells in read_table(require_file(path, "--adnimerge", "ADNIMERGE.csv"), REQUIRED):
            clean = {name: "" if text in NOT_MEASURED else text for name, text in cells.items()}
            key = (clean["PTID"], clean["VISCODE"].lower())
            if rows.setdefault(key, clean) != clean:
                raise InputError(f"{path}: line {line}: this person's visit is there twice, with other values")
        return cls(rows)

    def _row(self, person: str, session: str) -> dict[str, str]:
        return self.rows.get((person, BASELINE if session == "sc" else session), {})

    def has(self, person: str, session: str) -> bool:
        """Whether there is a row of the visit."""
        return bool(self._row(person, session))

    def diagnosis(self, person: str, session: str) -> str:
        """DX of the visit, empty where unknown."""
        return tidy("DX", self._row(person, session).get("DX", ""))

    def contradicts_sex(self, person: str, sex: str) -> bool:
        """Whether the person's sex is another one here."""
        known = tidy("sex", self.lasting.get(person, {}).get("PTGENDER", ""))
        return bool(sex and known and sex != known)

    def complete(self, person: str, session: str, row: dict[str, str]) -> dict[str, str]:
        """The person's row with the variables that are described (`debian_mri.variables`); what it has stays."""
        visit = self._row(person, session)
        lasting = self.lasting.get(person, {})
        answer = dict(row)
        for column, text in {**visit, **lasting}.items():
            name = canonical(column)
            # AGE is that at baseline
            if name in VARIABLES and not answer.get(name) and (name != "age" or session in ("sc", BASELINE)):
                answer[name] = tidy(name, text)
        return answer
