"""Importer of CAT12: ``label/catROI_*.xml``, ``report/cat_*.xml`` and the tables ``ROI_catROI_*_V*.csv``; mL.

Volumes of the Neuromorphometrics regions are summed from the map of the tissue that a structure consists of: grey
matter (``Vgm``), white matter (``Vwm``) or fluid (``Vcsf``). Totals come from the report: ``vol_TIV``, and
``vol_abs_CGW`` in the order fluid, grey matter, white matter. Gaser et al., "CAT", GigaScience 2024.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from debian_mri.biomarkers.volumes.structures import INTRACRANIAL, plain_name, region_columns
from icube_common.errors import InputError
from icube_common.io.csv import read_text

CITATIONS = (
    "Gaser C et al. CAT: a computational anatomy toolbox for the analysis of structural MRI data. GigaScience 2024;13",
    "Neuromorphometrics atlas: MRI scans of OASIS, labels by Neuromorphometrics, Inc.; CC BY-NC",
)
ATLAS = "neuromorphometrics"
_TISSUES = {"Vgm": "grey", "Vwm": "white", "Vcsf": "fluid"}
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|inf)", re.IGNORECASE)
_TABLE = re.compile(rf"^ROI_.*{ATLAS}_(Vgm|Vwm|Vcsf)\.csv$", re.IGNORECASE)

Regions = Mapping[str, Mapping[str, float]]


def is_cat12(path: Path) -> bool:
    """True for a region or report file of CAT12, or a table of its regions, by its name."""
    return (path.suffix == ".xml" and path.name.startswith(("catROI_", "cat_"))) or _TABLE.match(path.name) is not None


def read_xml(path: Path) -> tuple[str, dict[str, float]]:
    """Scan and volumes, column -> mL, of a region file (``catROI_``) or a report (``cat_``).

    Raises:
        InputError: no XML, or it holds neither regions of the atlas nor volumes.
    """
    try:
        root = ElementTree.fromstring(read_text(path, expected="an XML file of CAT12"))
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: no XML file ({error})") from error
    scan = path.stem.split("_", 1)[1]
    if path.name.startswith("cat_"):
        return scan, _totals(root, path)
    atlas = next((element for element in root.iter() if element.tag.lower() == ATLAS), None)
    if atlas is None:
        raise InputError(f"{path}: holds no regions of the atlas {ATLAS}; estimate them in CAT12 with that atlas")
    names = [plain_region(item.text or "") for item in atlas.iterfind("names/item")]
    tissues: dict[str, dict[str, float]] = {}
    for measure, tissue in _TISSUES.items():
        element = atlas.find(f"data/{measure}")
        if element is not None:
            values = _numbers(element)
            if len(values) != len(names):
                raise InputError(f"{path}: {measure}: {len(values)} values for {len(names)} names of regions")
            tissues[tissue] = dict(zip(names, values, strict=True))
    return scan, sum_regions(tissues)


def read_region_table(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Scans and volumes, column -> mL, of a table of one tissue (``ROI_catROI_neuromorphometrics_Vgm.csv``).

    Raises:
        InputError: another name of a file, a row of another length, or no number; the line is named.
    """
    name = _TABLE.match(path.name)
    if name is None:
        raise InputError(f"{path}: the tissue is read from the name: ROI_catROI_{ATLAS}_Vgm.csv, _Vwm.csv or _Vcsf.csv")
    tissue = next(value for key, value in _TISSUES.items() if key.lower() == name[1].lower())
    lines = read_text(path, expected="a table of CAT12").splitlines()
    delimiter = next((char for char in "\t;," if lines and char in lines[0]), None)
    heads = _cells(lines[0], delimiter) if lines else []
    regions = [plain_region(head) for head in heads[1:]]
    for number, line in enumerate(lines[1:], start=2):
        cells = _cells(line, delimiter)
        if not any(cells):
            continue
        if len(cells) != len(heads):
            raise InputError(f"{path}: line {number}: {len(cells)} fields, {len(heads)} expected")
        try:
            values = [float(cell) if cell else math.nan for cell in cells[1:]]
        except ValueError as error:
            raise InputError(f"{path}: line {number}: {error}") from error
        yield re.sub(r"^catROI_", "", cells[0]), sum_regions({tissue: dict(zip(regions, values, strict=True))})


def plain_region(name: str) -> str:
    """Plain name of a region with its side as a word: ``lHip`` -> ``left hip``."""
    plain = plain_name(name)
    abbreviated = name[:1] in ("l", "r") and (name[1:2].isupper() or name[1:2].isdigit())
    return f"{'left' if name[0] == 'l' else 'right'} {plain[1:]}" if abbreviated else plain


def sum_regions(tissues: Regions) -> dict[str, float]:
    """Volumes of the columns: sums over regions in the map of a structure's tissue; NaN is missing.

    Args:
        tissues: tissue -> plain name of a region -> mL.
    """
    volumes: dict[str, float] = {}
    for column, tissue, names in region_columns():
        regions = tissues.get(tissue, {})
        values = [regions[name] for name in names if name in regions]
        if len(values) == len(names) and all(math.isfinite(value) for value in values):
            volumes.setdefault(column, sum(values))
    return volumes


def _totals(root: ElementTree.Element, path: Path) -> dict[str, float]:
    volumes: dict[str, float] = {}
    for element in root.iterfind(".//vol_TIV"):
        if numbers := _numbers(element):
            volumes[INTRACRANIAL] = numbers[0]
    for element in root.iterfind(".//vol_abs_CGW"):
        numbers = _numbers(element)
        if len(numbers) >= 3:
            fluid, grey, white = numbers[:3]
            volumes |= {"cerebrospinal_fluid": fluid, "grey_matter": grey, "white_matter": white, "brain": grey + white}
    if not volumes:
        raise InputError(f"{path}: holds neither vol_TIV nor vol_abs_CGW")
    return volumes


def _numbers(element: ElementTree.Element) -> list[float]:
    """Numbers of a vector as CAT12 writes it: ``[1.2;3.4]``, or one item each."""
    return [float(number) for text in element.itertext() for number in _NUMBER.findall(text)]


def _cells(line: str, delimiter: str | None) -> list[str]:
    cells = [cell.strip().strip('"') for cell in line.split(delimiter)]
    # CAT12 ends each line with a delimiter
    return cells[:-1] if len(cells) > 1 and not cells[-1] else cells
