"""Consistency checks of all formats: missing keys, sex of a person, label of a visit."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from debian_mri.cohorts.base import Candidate
from debian_mri.data.clinical_variables import decode_sex_codes, is_missing_name
from debian_mri.data.manifest import Rejection
from icube_common.errors import InputError


def reject_missing(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Rejection]]:
    """Reject candidates without label or subject; a missing session or site becomes None."""
    accepted, rejected = [], []
    for one in candidates:
        scan = one.scan
        if is_missing_name(scan.label):
            rejected.append(Rejection(one.source, f"label is missing ({scan.label!r})"))
        elif is_missing_name(scan.subject):
            rejected.append(Rejection(one.source, f"subject is missing ({scan.subject!r})"))
        else:
            session, site = (None if is_missing_name(text or "") else text for text in (scan.session, scan.site))
            accepted.append(replace(one, scan=replace(scan, session=session, site=site)))
    return accepted, rejected


def check_spelling(labels: Iterable[str]) -> None:
    """Check for two spellings of one class, by case or word separator.

    Raises:
        InputError: two such labels; both are named, and the option that joins them.
    """
    first: dict[str, str] = {}
    for label in sorted(set(labels)):
        key = re.sub(r"(?<=\w)[-_ ]+(?=\w)", "", unicodedata.normalize("NFKC", label)).casefold()
        if first.setdefault(key, label) != label:
            raise InputError(
                f"the labels {first[key]!r} and {label!r} look like two spellings of one class: "
                f"--labels {label}={first[key]} makes them one"
            )


def reject_contradictions(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Rejection]]:
    """Reject subjects with two sexes and visits with two labels; numeric codes of sex are decoded.

    Visits without a name count as one visit.
    """
    rows = decode_sex_codes({str(index): one.row for index, one in enumerate(candidates)})
    candidates = [replace(one, row=rows[str(index)]) for index, one in enumerate(candidates)]
    sexes: dict[str, set[str]] = defaultdict(set)
    labels: dict[tuple[str, str | None], set[str]] = defaultdict(set)
    for one in candidates:
        sexes[one.scan.subject] |= {one.row.get("sex", "")} & {"F", "M"}
        labels[one.scan.subject, one.scan.session].add(one.scan.label)
    accepted, rejected = [], []
    for one in candidates:
        of_visit = sorted(labels[one.scan.subject, one.scan.session])
        if len(sexes[one.scan.subject]) > 1:
            rejected.append(Rejection(one.source, "this person is given two sexes"))
        elif len(of_visit) > 1:
            visit = "one session" if one.scan.session else "a session without a name"
            rejected.append(Rejection(one.source, f"this person has several labels in {visit}: {', '.join(of_visit)}"))
        else:
            accepted.append(one)
    return accepted, rejected
