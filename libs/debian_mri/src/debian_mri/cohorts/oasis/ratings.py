"""Session names, diagnosis from the CDR, and variables of OASIS-1 and OASIS-2.

A session is ``OAS1_0001_MR1``: set, person, visit. In OASIS-1 ``MR2`` is a rescan of the same person within 90 days.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from debian_mri.cohorts.base import participant_row
from debian_mri.data.clinical_variables import is_missing, is_number

SESSION = re.compile(r"(?P<subject>OAS(?P<set>[12])_\d{4})_(?P<session>MR\d)")
CITATION = "Marcus et al., Open Access Series of Imaging Studies (OASIS), J Cogn Neurosci 19(9):1498-1507, 2007"
CITATION_2 = "Marcus et al., OASIS: longitudinal MRI data in nondemented and demented older adults, 2010"
RATINGS = (0.0, 0.5, 1.0, 2.0, 3.0)
NOTES = (
    "labels: CN where CDR is 0, AD where it is above 0; subjects without a CDR are excluded",
    "education of OASIS-1 is a code of 5 levels, not years: education_level",
)


def oasis_label(rating: str) -> tuple[str, str]:
    """Diagnosis of a CDR, and the reason for a rejection."""
    text = rating.strip()
    if is_missing(text):
        return "", "CDR is blank: not rated, which does not mean normal"
    if not is_number(text) or float(text) not in RATINGS:
        return "", f"CDR {text!r} is none of 0, 0.5, 1, 2, 3"
    return ("CN" if float(text) == 0 else "AD"), ""


def oasis_row(cells: Mapping[str, str]) -> dict[str, str]:
    """Variables of a row of the published tables (``ID``, ``M/F``, ``Hand``, ``Age``, ``Educ`` or ``EDUC``, ...)."""
    skip = ("ID", "Subject ID", "MRI ID", "label", "file", "Delay", "MR Delay", "Visit", "Group")
    row = participant_row({name: text for name, text in cells.items() if name not in ("Educ", "EDUC")}, skip)
    for column, name in (("Educ", "education_level"), ("EDUC", "education")):
        if column in cells:
            row |= participant_row({name: cells[column]}, ())
    return row
