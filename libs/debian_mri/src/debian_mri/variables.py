"""Variables of people that cohorts publish: what each means, its unit, and its tier.

Tiers say what a model may be given: A what one knows of anybody (age, sex, education), B what was measured beside the
image or from it (volumes, genotype), C what is close to the diagnosis by construction (cognitive scores, ratings,
biomarkers that define a diagnosis).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

TIERS = ("A", "B", "C")
KINDS = ("number", "category")
# what nobody has described may be derived from the diagnosis
UNKNOWN_TIER = "C"
# how tables in the field write "not measured"
MISSING = frozenset(
    [
        *("", "na", "n/a", "n.a.", "n.a", "n/d", "nd", "nan", "none", "null", "nil", "nat", "<na>", "missing"),
        *(".", "-", "--", "---", "?", "??", "unknown", "unk", "unbekannt", "inconnu"),
        *("not available", "not applicable", "not done", "not known", "not measured"),
        *("#n/a", "#na", "#null!", "#value!", "#ref!", "#name?", "#div/0!", "#num!"),
    ]
)
# numbers that stand for "not measured" where they cannot be a value
MISSING_CODES = frozenset((-1.0, -4.0, -5.0, -6.0, -7.0, -8.0, -9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0, 99999.0))


@dataclass(frozen=True, kw_only=True)
class Column:
    """One variable.

    Attributes:
        name: as in ``participants.csv``.
        tier: "A", "B" or "C".
        unit: "years", "mL", ...; empty for none.
        kind: "number" or "category".
        values: of a category, in the order of their numbers 0 to k - 1.
        meaning: one line.
    """

    name: str
    tier: str
    unit: str = ""
    kind: str = "number"
    values: tuple[str, ...] = ()
    meaning: str = ""

    def about(self) -> dict[str, Any]:
        """What ``dataset.json`` says under the column's name."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


def _scale(name: str, meaning: str) -> Column:
    return Column(name=name, tier="C", meaning=meaning)


def _volume(name: str, meaning: str) -> Column:
    return Column(name=name, tier="B", unit="mm3", meaning=meaning)


VARIABLES: Mapping[str, Column] = {
    column.name: column
    for column in (
        Column(name="age", tier="A", unit="years", meaning="age at the scan"),
        Column(name="sex", tier="A", kind="category", values=("F", "M"), meaning="sex"),
        Column(name="education", tier="A", unit="years", meaning="years of education"),
        Column(
            name="education_level",
            tier="A",
            meaning="OASIS-1's code: 1 less than high school, 2 high school, 3 some college, 4 college, 5 beyond",
        ),
        Column(name="handedness", tier="B", kind="category", values=("L", "R", "A"), meaning="dominant hand"),
        Column(name="nWBV", tier="B", meaning="whole-brain volume as a share of the intracranial volume"),
        Column(name="eTIV", tier="B", unit="mL", meaning="estimated total intracranial volume"),
        Column(name="ASF", tier="B", meaning="factor of the scaling to the atlas"),
        Column(name="SES", tier="B", meaning="socioeconomic status after Hollingshead, 1 highest to 5 lowest"),
        Column(name="APOE4", tier="B", meaning="number of APOE e4 alleles, 0 to 2"),
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


def canonical(name: str) -> str:
    """Our name of a variable that a table spells in its own way; an unknown one stays as it is."""
    return SYNONYMS.get(name.strip().lower(), name.strip())


def is_missing(text: str) -> bool:
    """Whether a cell is blank or one of the words for "not measured"."""
    return text.strip().casefold() in MISSING


def is_missing_name(text: str) -> bool:
    """Whether a cell names nothing: `is_missing`, or a number that stands for it; of classes, people, visits, sites."""
    return is_missing(text) or (is_number(text) and float(text) in MISSING_CODES and text.strip()[:1] != "0")


def tidy(name: str, text: str) -> str:
    """A cell as it is written: empty where missing, words of known categories as ours.

    A word of sex or handedness that is none counts as missing: there is no guess. Numbers for a sex are read a column
    at a time (`sex_codes`).
    """
    value = text.strip()
    if is_missing(value):
        return ""
    if name in _WORDS:
        return _WORDS[name].get(value.casefold(), "")
    return value


def sex_codes(cells: Iterable[str]) -> Mapping[str, str]:
    """Sexes that numbers stand for in a column: 1 male, 2 female, as in ISO 5218, ADNI and OASIS-3.

    A column with 0 and without 2 is one of 0 and 1, which have no meaning of their own: nothing is read then.
    """
    numbers = {float(cell) for cell in cells if is_number(cell)}
    if 0.0 in numbers and 2.0 not in numbers:
        return {}
    return {"1": "M", "1.0": "M", "01": "M", "2": "F", "2.0": "F", "02": "F"}


def is_possible(name: str, text: str) -> bool:
    """Whether a number can be a value of a described variable: in its range, and no code for a missing value."""
    if not is_number(text):
        return False
    value = float(text)
    low, high = RANGES.get(name, (-float("inf"), float("inf")))
    # an eTIV of 999 mL can be; an age of 0 is that of nobody in these cohorts
    coded = (value in MISSING_CODES and name in RANGES and name != "eTIV") or (name == "age" and value == 0)
    return low <= value <= high and not coded


def is_number(text: str) -> bool:
    """Whether a cell is a finite number."""
    try:
        value = float(text)
    except ValueError:
        return False
    return value == value and abs(value) != float("inf")


def column_of(name: str, cells: Sequence[str], *, tier: str | None = None) -> Column:
    """The description of a table's column.

    Args:
        name: `canonical`.
        cells: its values, `tidy`, empty where missing.
        tier: in place of the known one; a variable that nobody has described is of tier C.
    """
    known = VARIABLES.get(name)
    if known is not None:
        return known if tier is None else replace(known, tier=tier)
    present = [cell for cell in cells if cell]
    if all(map(is_number, present)):
        return Column(name=name, tier=tier or UNKNOWN_TIER)
    return Column(name=name, tier=tier or UNKNOWN_TIER, kind="category", values=tuple(sorted(set(present))))
