"""Variables of people that cohorts publish: what each means, its unit, and its tier.

Tiers say what a model may be given: A what one knows of anybody (age, sex, education), B what was measured beside the
image or from it (volumes, genotype), C what is close to the diagnosis by construction (cognitive scores, ratings,
biomarkers that define a diagnosis).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

TIERS = ("A", "B", "C")
KINDS = ("number", "category")
# what nobody has described may be derived from the diagnosis
UNKNOWN_TIER = "C"
# how tables in the field write "not measured"
MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", ".", "unknown"})


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
    "sex": {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M"},
    "handedness": {"r": "R", "right": "R", "l": "L", "left": "L", "a": "A", "ambidextrous": "A", "both": "A"},
}


def canonical(name: str) -> str:
    """Our name of a variable that a table spells in its own way; an unknown one stays as it is."""
    return SYNONYMS.get(name.strip().lower(), name.strip())


def tidy(name: str, text: str) -> str:
    """A cell as it is written: empty where missing, words of known categories as ours.

    A word of sex or handedness that is none counts as missing: there is no guess.
    """
    value = text.strip()
    if value.lower() in MISSING:
        return ""
    if name in _WORDS:
        return _WORDS[name].get(value.lower(), "")
    return value


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
