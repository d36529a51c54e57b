"""Clinical variables of cohorts: meaning, unit and leakage tier; columns of ``participants.csv``.

Leakage tiers limit the inputs of a model: A demographics (age, sex, education), B measurements beside the image or from
it (volumes, genotype), C variables close to the diagnosis by construction (cognitive scores, ratings, biomarkers that
define a diagnosis).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from icube_common.errors import InputError, unknown

LEAKAGE_TIERS = ("A", "B", "C")
KINDS = ("number", "category")
# a variable without a description may be derived from the diagnosis
DEFAULT_LEAKAGE_TIER = "C"
# words of tables for "not measured"
MISSING = frozenset(
    [
        *("", "na", "n/a", "n.a.", "n.a", "n/d", "nd", "nan", "none", "null", "nil", "nat", "<na>", "missing"),
        *(".", "-", "--", "---", "?", "??", "unknown", "unk", "unbekannt", "inconnu"),
        *("not available", "not applicable", "not done", "not known", "not measured"),
        *("#n/a", "#na", "#null!", "#value!", "#ref!", "#name?", "#div/0!", "#num!"),
    ]
)
# codes for "not measured", outside the range of values
MISSING_CODES = frozenset((-1.0, -4.0, -5.0, -6.0, -7.0, -8.0, -9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0, 99999.0))


@dataclass(frozen=True, kw_only=True)
class Column:
    """Clinical variable.

    Attributes:
        name: as in ``participants.csv``.
        leakage_tier: "A", "B" or "C".
        unit: "years", "mL", ...; empty for none.
        kind: "number" or "category".
        values: of a category, in the order of their numbers 0 to k - 1.
        meaning: one line.
    """

    name: str
    leakage_tier: str
    unit: str = ""
    kind: str = "number"
    values: tuple[str, ...] = ()
    meaning: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Description for ``dataset.json``."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


def _scale(name: str, meaning: str) -> Column:
    return Column(name=name, leakage_tier="C", meaning=meaning)


def _volume(name: str, meaning: str) -> Column:
    return Column(name=name, leakage_tier="B", unit="mm3", meaning=meaning)


VARIABLES: Mapping[str, Column] = {
    column.name: column
    for column in (
        Column(name="age", leakage_tier="A", unit="years", meaning="age at the scan"),
        Column(name="sex", leakage_tier="A", kind="category", values=("F", "M"), meaning="sex"),
        Column(name="education", leakage_tier="A", unit="years", meaning="years of education"),
        Column(
            name="education_level",
            leakage_tier="A",
            meaning="OASIS-1's code: 1 less than high school, 2 high school, 3 some college, 4 college, 5 beyond",
        ),
        Column(name="handedness", leakage_tier="B", kind="category", values=("L", "R", "A"), meaning="dominant hand"),
        Column(name="nWBV", leakage_tier="B", meaning="whole-brain volume as a share of the intracranial volume"),
        Column(name="eTIV", leakage_tier="B", unit="mL", meaning="estimated total intracranial volume"),
        Column(name="ASF", leakage_tier="B", meaning="factor of the scaling to the atlas"),
        Column(name="SES", leakage_tier="B", meaning="socioeconomic status after Hollingshead, 1 highest to 5 lowest"),
        Column(name="APOE4", leakage_tier="B", meaning="number of APOE e4 alleles, 0 to 2"),
        _volume("Ventricles", "volume of the ventricles (FreeSurfer)"),
        _volume("Hippocampus", "volume of the hippocampi (FreeSurfer)"),
        _volume("WholeBrain", "volume of the brain (FreeSurfer)"),
        _volume("Entorhinal", "volume of the entorhinal cortex (FreeSurfer)"),
        _volume("Fusiform", "volume of the fusiform gyrus (FreeSurfer)"),
        _volume("MidTemp", "volume of the middle temporal gyrus (FreeSurfer)"),
        _volume("ICV", "intracranial volume (FreeSurfer)"),
        _scale("MMSE", "Mini-Mental State Examination, 0 to 30"),
        _scale("CDR", "Clinical Dementia Rating, 0 to 3"),
        _scale("CDRSB", "Clinical Dementia Rating, sum of boxes"),
        _scale("ADAS11", "ADAS-Cog, 11 items"),
        _scale("ADAS13", "ADAS-Cog, 13 items"),
        _scale("MOCA", "Montreal Cognitive Assessment, 0 to 30"),
        _scale("FAQ", "Functional Activities Questionnaire"),
        _scale("UPDRS3", "Unified Parkinson's Disease Rating Scale, part III"),
    )
}

# lowest and highest value that can be
RANGES: Mapping[str, tuple[float, float]] = {
    "age": (0.0, 120.0),
    "education": (0.0, 40.0),
    "education_level": (1.0, 5.0),
    "nWBV": (0.01, 1.0),
    "eTIV": (1.0, 1e7),
    "ASF": (0.1, 10.0),
    "SES": (1.0, 5.0),
    "APOE4": (0.0, 2.0),
    "MMSE": (0.0, 30.0),
    "CDR": (0.0, 3.0),
    "CDRSB": (0.0, 18.0),
    "ADAS11": (0.0, 70.0),
    "ADAS13": (0.0, 85.0),
    "MOCA": (0.0, 30.0),
    "FAQ": (0.0, 30.0),
    "UPDRS3": (0.0, 132.0),
    **{name: (1.0, 1e8) for name, column in VARIABLES.items() if column.unit == "mm3"},
}
# other spellings, in lower case -> our name
SYNONYMS: Mapping[str, str] = {
    **{name.lower(): name for name in VARIABLES},
    **dict.fromkeys(("m/f", "gender", "ptgender"), "sex"),
    **dict.fromkeys(("hand", "pthand"), "handedness"),
    "pteducat": "education",
    "educat": "education",
    "education_years": "education",
    "years_of_education": "education",
    "age_years": "age",
    "moca_total": "MOCA",
    "apoe_e4": "APOE4",
}
_WORDS: Mapping[str, Mapping[str, str]] = {
    "sex": {
        **dict.fromkeys(("f", "female", "w", "woman", "weiblich", "femme", "feminin", "féminin"), "F"),
        **dict.fromkeys(("m", "male", "man", "männlich", "homme", "masculin", "h"), "M"),
    },
    "handedness": {"r": "R", "right": "R", "l": "L", "left": "L", "a": "A", "ambidextrous": "A", "both": "A"},
}

# column names of identifiers and dates
_PRIVATE = re.compile(
    r"(^|[^a-z])(name|surname|forename|mrn|dob|birth\w*|date|\w*date|time|acq_time|address|phone|email|zip|ptid|rid|"
    r"\w+_id|id|initials)($|[^a-z])",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}.*|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}.*|(19|20)\d{6}")
MAX_CATEGORIES = 20  # of a category


def canonical_name(name: str) -> str:
    """Canonical name of a table's variable; an unknown name is unchanged."""
    return SYNONYMS.get(name.strip().lower(), name.strip())


def is_missing(text: str) -> bool:
    """True if a cell is blank or one of the words for "not measured"."""
    return text.strip().casefold() in MISSING


def is_missing_name(text: str) -> bool:
    """True for a missing name of a class, person, visit or site: `is_missing`, or a code for it."""
    return is_missing(text) or (is_number(text) and float(text) in MISSING_CODES and text.strip()[:1] != "0")


def normalise_value(name: str, text: str) -> str:
    """Normalise a cell: empty if missing, words of known categories as ours.

    An unknown word for sex or handedness counts as missing. Numeric codes of sex are decoded by column (`sex_codes`).
    """
    value = text.strip()
    if is_missing(value):
        return ""
    if name in _WORDS:
        return _WORDS[name].get(value.casefold(), "")
    return value


def sex_codes(cells: Iterable[str]) -> Mapping[str, str]:
    """Numeric codes of sex in a column: 1 male, 2 female, as in ISO 5218, ADNI and OASIS-3.

    Codes of a column of 0 and 1 are ambiguous and stay undecoded.
    """
    numbers = {float(cell) for cell in cells if is_number(cell)}
    if 0.0 in numbers and 2.0 not in numbers:
        return {}
    return {"1": "M", "1.0": "M", "01": "M", "2": "F", "2.0": "F", "02": "F"}


def is_plausible(name: str, text: str) -> bool:
    """True if a number is in the range of a described variable and no code for a missing value."""
    if not is_number(text):
        return False
    value = float(text)
    low, high = RANGES.get(name, (-float("inf"), float("inf")))
    # an eTIV of 999 mL can be; an age of 0 is a missing value in these cohorts
    coded = (value in MISSING_CODES and name in RANGES and name != "eTIV") or (name == "age" and value == 0)
    return low <= value <= high and not coded


def is_number(text: str) -> bool:
    """True if a cell is a finite number."""
    try:
        value = float(text)
    except ValueError:
        return False
    return value == value and abs(value) != float("inf")


def column_of(name: str, cells: Sequence[str], *, leakage_tier: str | None = None) -> Column:
    """Description of a table's column."""
    described = VARIABLES.get(name)
    if described is not None:
        return described if leakage_tier is None else replace(described, leakage_tier=leakage_tier)
    present = [cell for cell in cells if cell]
    if all(map(is_number, present)):
        return Column(name=name, leakage_tier=leakage_tier or DEFAULT_LEAKAGE_TIER)
    return Column(
        name=name,
        leakage_tier=leakage_tier or DEFAULT_LEAKAGE_TIER,
        kind="category",
        values=tuple(sorted(set(present))),
    )


def describe_columns(
    rows: Mapping[str, Mapping[str, str]], leakage_tiers: Mapping[str, str]
) -> tuple[list[Column], dict[str, dict[str, str]], list[str]]:
    """Columns and rows to write, and warnings about excluded columns and imputed codes.

    Excluded: names, ids, dates and free text. A cell of a known number that is none, or outside the range of the
    variable, counts as missing; of a number without a description, a code such as 999 far from all other values.

    Args:
        rows: scan id -> variable -> text.
        leakage_tiers: variable -> tier, in place of the described one, or of C without a description.

    Raises:
        InputError: a tier for a variable that is not there, an unknown tier, or a known variable of tier C that is to
            be of another.
    """
    names = sorted({name for row in rows.values() for name in row}, key=_sort_key)
    requested = check_leakage_tiers(leakage_tiers, names)
    columns: list[Column] = []
    table: dict[str, dict[str, str]] = {scan_id: {} for scan_id in rows}
    warnings: list[str] = []
    undescribed: list[str] = []
    for name in names:
        cells = {scan_id: row.get(name, "") for scan_id, row in rows.items()}
        if reason := _private(name, list(cells.values())):
            warnings.append(f"column {name!r} is excluded: {reason}")
            continue
        if name not in VARIABLES:
            codes = _codes(list(cells.values()))
            if coded := sum(text in codes for text in cells.values()):
                warnings.append(f"{name}: {coded} values {', '.join(sorted(codes))} are taken as codes for missing")
            cells = {scan_id: "" if text in codes else text for scan_id, text in cells.items()}
        column = column_of(name, list(cells.values()), leakage_tier=requested.get(name))
        warnings += _unfit(column, list(cells.values()))
        if name not in VARIABLES and name not in requested:
            undescribed.append(name)
        columns.append(column)
        for scan_id, text in cells.items():
            if text and _fits(column, text):
                table[scan_id][name] = text
    if undescribed:
        listed = ", ".join(undescribed)
        warnings.append(f"not described, so of tier C (--leakage-tiers COLUMN=A or B changes it): {listed}")
    return columns, table, warnings


def decode_sex_codes(rows: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Rows with the sex as F or M where it is given by number (`debian_mri.data.clinical_variables.sex_codes`)."""
    codes = sex_codes(row.get("sex", "") for row in rows.values())
    return {
        scan_id: {**row, "sex": codes.get(row["sex"], row["sex"])} if "sex" in row else dict(row)
        for scan_id, row in rows.items()
    }


def _unfit(column: Column, cells: list[str]) -> list[str]:
    """Notes on cells that cannot be a value."""
    unfit = [text for text in cells if text and not _fits(column, text)]
    outside = [text for text in unfit if column.kind == "number" and is_number(text)]
    words = len(unfit) - len(outside)
    warnings = []
    if words and column.name == "sex":
        warnings.append(
            f"sex: {words} values of no known word count as unknown (M, F, male, female; as numbers 1 male, 2 female; "
            "a column of 0 and 1 is not read)"
        )
    elif words:
        warnings.append(f"{column.name}: {words} values that are no {column.kind} of it count as missing")
    if outside:
        low, high = RANGES[column.name]
        warnings.append(f"{column.name}: {len(outside)} values outside {low:g} to {high:g}, or codes, count as missing")
    return warnings


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


def _sort_key(name: str) -> tuple[int, str]:
    described = list(VARIABLES)
    return (described.index(name) if name in VARIABLES else len(described), name)


def check_leakage_tiers(leakage_tiers: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Leakage tiers by canonical names.

    Raises:
        InputError: as `describe_columns`.
    """
    names = set(names)
    requested = {canonical_name(name): leakage_tier for name, leakage_tier in leakage_tiers.items()}
    for name, leakage_tier in requested.items():
        if name not in names:
            raise unknown("column of --leakage-tiers", name, names)
        if leakage_tier not in LEAKAGE_TIERS:
            raise InputError(f"--leakage-tiers {name}={leakage_tier}: must be one of {', '.join(LEAKAGE_TIERS)}")
        if name in VARIABLES and VARIABLES[name].leakage_tier == "C" and leakage_tier != "C":
            raise InputError(
                f"--leakage-tiers {name}={leakage_tier}: {VARIABLES[name].meaning} is close to the diagnosis by "
                "construction and stays of tier C (a model takes it with demographics.allow_diagnostic=true)"
            )
    return requested


def _private(name: str, cells: list[str]) -> str:
    """Reason to exclude a column, empty to include it."""
    if name in VARIABLES:
        return ""
    if _PRIVATE.search(name):
        return "its name is that of an identifier or date"
    present = [cell for cell in cells if cell]
    if any(_DATE.fullmatch(cell) for cell in present):
        return "holds dates"
    if not all(map(is_number, present)) and len(set(present)) > MAX_CATEGORIES:
        return f"free text ({len(set(present))} different words)"
    return ""


def _fits(column: Column, text: str) -> bool:
    return text in column.values if column.kind == "category" else is_plausible(column.name, text)
