"""The tree and the table of a download from LONI's Image and Data Archive (ADNI, PPMI, ...).

Tree: ``<subject>/<series description>/<date>/<I...|S...>/``: the last folder is named after the image (``I118671``)
or, in older downloads, after the series (``S18402``), and then file names end in ``_S18402_I118671.dcm``.
Table: one row an image. Image ids are written with and without the leading ``I``.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

from debian_mri.cohorts.base import read_rows
from debian_mri.data.clinical_variables import normalise_value
from debian_mri.data.manifest import Rejection
from icube_common.errors import InputError

COLUMNS = ("Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality", "Description", "Type", "Acq Date")
DATE_FORMATS = ("%m/%d/%Y", "%Y-%m-%d", "%m/%d/%y")
_LEAF = re.compile(r"[IS]\d+")
_IMAGE_OF_FILE = re.compile(r"_(I\d+)(?:\.[A-Za-z]+)*$")
_DATE_LIKE = re.compile(r"\d+[-/.]\d+[-/.]\d+|(19|20)\d{6}")


@dataclass(frozen=True)
class TreeImage:
    """One image of the tree.

    Attributes:
        number: of its folder, in the order of paths.
        folder: where its files are.
        files: their names.
        subject: subject.
        problem: reason for a rejection, empty if usable.
    """

    number: int
    folder: Path
    files: tuple[str, ...]
    subject: str
    problem: str = ""

    @property
    def name(self) -> str:
        """Name in a rejection, without the folder's name, which holds the subject and a date."""
        return f"image folder {self.number} of the tree"


@dataclass(frozen=True)
class TableRow:
    """One image of the table."""

    line: int
    image: str
    cells: dict[str, str]
    acquired: date | None

    @property
    def name(self) -> str:
        """Name in a rejection, without ids."""
        return f"line {self.line} of the collection's CSV"

    @property
    def subject(self) -> str:
        """Subject as spelled by LONI."""
        return self.cells["Subject"]


def image_key(text: str) -> str:
    """An image id in one spelling: ``118671``, ``I118671`` and ``i0118671`` are ``I118671``; empty for what is none."""
    match = re.fullmatch(r"([IiSsDd]?)0*(\d+)", text.strip())
    return (match[1].upper() or "I") + match[2] if match else ""


def read_tree(root: Path) -> dict[str, TreeImage]:
    """Images of the tree by id.

    Raises:
        InputError: no folder of an image.
    """
    images: dict[str, list[TreeImage]] = defaultdict(list)
    number = 0
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        path = Path(folder)
        if not _LEAF.fullmatch(path.name):
            continue
        below.clear()
        number += 1
        subject = path.parents[2].name if path != root else ""
        files = sorted(name for name in names if not name.startswith("."))
        by_image: dict[str, list[str]] = defaultdict(list)
        for name in files:
            match = _IMAGE_OF_FILE.search(name)
            image_name = path.name if path.name.startswith("I") or not match else match[1]
            by_image[image_key(image_name)].append(name)
        if not files:
            by_image[image_key(path.name)] = []
        for key, members in by_image.items():
            problem = "" if members else "its folder is empty"
            images[key].append(TreeImage(number, path, tuple(members), subject, problem))
    if not number:
        raise InputError(f"{root}: no folder of an image in it; expected <subject>/<description>/<date>/<I...|S...>/")
    return {
        key: folders[0]
        if len(folders) == 1
        else replace(folders[0], problem=f"is in {len(folders)} folders: ambiguous")
        for key, folders in images.items()
    }


def read_collection(path: Path) -> tuple[list[TableRow], list[Rejection]]:
    """The table's rows, each image once; of an image whose rows differ none.

    Raises:
        InputError: not readable, or a column is missing.
    """
    by_image: dict[str, list[TableRow]] = defaultdict(list)
    rejected: list[Rejection] = []
    for line, cells in read_rows(path, COLUMNS):
        row = TableRow(line, image_key(cells["Image Data ID"]), cells, parse_date(cells["Acq Date"]))
        if not row.image or not row.subject:
            rejected.append(Rejection(row.name, "has no image id or no subject"))
        else:
            by_image[row.image].append(row)
    rows: list[TableRow] = []
    for same in by_image.values():
        first, *others = same
        facts = [{**row.cells, "Image Data ID": "", "Downloaded": ""} for row in same]
        if any(fact != facts[0] for fact in facts):
            lines = ", ".join(str(row.line) for row in same)
            rejected += [Rejection(row.name, f"lines {lines} are one image and contradict each other") for row in same]
            continue
        rows.append(first)
        rejected += [Rejection(row.name, f"repeats line {first.line}", by_rule=True) for row in others]
    return sorted(rows, key=lambda row: row.line), sorted(rejected, key=lambda one: one.source)


def contradictions(rows: Iterable[TableRow]) -> dict[str, str]:
    """Image id -> contradiction in the table about the person or the visit."""
    rows = list(rows)
    people: dict[str, set[str]] = defaultdict(set)
    visits: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        people[row.subject] |= {normalise_value("sex", row.cells["Sex"])} - {""}
        visits[row.subject, visit_code(row.cells["Visit"])] |= {row.cells["Group"]} - {""}
    problems = {}
    for row in rows:
        visit = visit_code(row.cells["Visit"])
        if len(people[row.subject]) > 1:
            problems[row.image] = "the CSV gives this person two sexes"
        elif visit and len(groups := visits[row.subject, visit]) > 1:
            problems[row.image] = f"the CSV gives one visit several groups: {', '.join(sorted(groups))}"
    return problems


def parse_date(text: str) -> date | None:
    """A date of the table, None for what is none; only the order of dates is ever used."""
    for form in DATE_FORMATS:
        try:
            return datetime.strptime(text.strip(), form).date()
        except ValueError:
            continue
    return None


def visit_code(text: str) -> str:
    """A visit as a short word: codes as they are, LONI's phrases as their codes, else its letters.

    Empty where there is none, or where it is a date.

    >>> [visit_code(text) for text in ("m06", "ADNI1/GO Month 12", "ADNI Screening", "ADNI2 Year 1 Visit")]
    ['m06', 'm12', 'sc', 'adni2year1visit']
    """
    words = text.strip().lower()
    if not words or _DATE_LIKE.search(words):
        return ""
    if "cont pt" not in words:
        if match := re.search(r"\bmonth (\d+)\b", words):
            return f"m{int(match[1]):02d}"
        # the screening scan comes first in every phase
        for phrase, code in (("screening", "sc"), ("baseline", "bl")):
            if re.search(rf"\b{phrase}\b", words):
                return code
    return re.sub(r"[^a-z0-9]+", "", words)[:32]
