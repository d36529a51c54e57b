"""Importer of FreeSurfer and FastSurfer: ``aseg.stats``, ``aparc.stats``, and the tables made of them.

Statistics files have lines ``# Measure NAME, SHORT, description, value, unit``, a line ``# ColHeaders`` with the names
of the columns, and a row a structure; volumes are mm3. ``asegstats2table`` and ``aparcstats2table`` write a row a
subject. Fischl et al., "Whole brain segmentation", Neuron 2002; Desikan et al., NeuroImage 2006; Henschel et al.,
"FastSurfer", NeuroImage 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from debian_mri.biomarkers.volumes.structures import (
    INTRACRANIAL,
    cortical_column,
    plain_name,
    segmentation_columns,
)
from icube_common.errors import InputError
from icube_common.io.csv import read_text

CITATIONS = (
    "FreeSurfer: Fischl B et al. Whole brain segmentation. Neuron 2002;33:341-355",
    "Desikan RS et al. An automated labeling system for subdividing the human cerebral cortex. NeuroImage 2006;31:968",
)
FASTSURFER = "Henschel L et al. FastSurfer. NeuroImage 2020;219:117012"
# files of a subject's stats folder: the first that exists of each line; FastSurfer's names follow FreeSurfer's
_SEGMENTATIONS = ("aseg.stats", "aseg+DKT.stats", "aparc.DKTatlas+aseg.deep.stats")
_PARCELLATIONS = ("{}.aparc.stats", "{}.aparc.DKTatlas.stats", "{}.aparc.DKTatlas.mapped.stats")
_HEMISPHERES = ("lh", "rh")
# measures of the header (short name) -> column; a later line of this table replaces an earlier one
_MEASURES: Mapping[str, str] = {
    "ICV": INTRACRANIAL,
    "eTIV": INTRACRANIAL,
    "BrainSegVolNotVent": "brain",
    "TotalGrayVol": "grey_matter",
    **{
        f"{hemi}CorticalWhiteMatterVol": f"cerebral_white_matter_{side}"
        for hemi, side in (("lh", "left"), ("rh", "right"))
    },
    **{
        f"{hemi}CerebralWhiteMatterVol": f"cerebral_white_matter_{side}"
        for hemi, side in (("lh", "left"), ("rh", "right"))
    },
    **{f"{hemi}CortexVol": f"cerebral_cortex_{side}" for hemi, side in (("lh", "left"), ("rh", "right"))},
}
# the same in tables of asegstats2table, which name the measures by their first field
_TABLE_MEASURES = {**_MEASURES, "EstimatedTotalIntraCranialVol": INTRACRANIAL, "IntraCranialVol": INTRACRANIAL}
MM3_PER_ML = 1000.0


def is_stats(path: Path) -> bool:
    """True for a statistics file by its name."""
    return path.name.endswith(".stats")


def stats_folders(folder: Path) -> list[Path]:
    """Folders ``stats`` below a folder of subjects, or the folder itself, that hold a segmentation's statistics."""
    candidates = [folder, *sorted(path for path in folder.rglob("stats") if path.is_dir())]
    return [path for path in candidates if any((path / name).is_file() for name in _SEGMENTATIONS)]


def read_subject(folder: Path) -> tuple[str, dict[str, float]]:
    """Subject and volumes, column -> mL, of a ``stats`` folder.

    Raises:
        InputError: a file is malformed.
    """
    segmentation = next(folder / name for name in _SEGMENTATIONS if (folder / name).is_file())
    subject, volumes = read_stats(segmentation)
    for hemisphere in _HEMISPHERES:
        names = (folder / pattern.format(hemisphere) for pattern in _PARCELLATIONS)
        parcellation = next((path for path in names if path.is_file()), None)
        if parcellation is not None:
            # the segmentation of FastSurfer has cortical regions, too: those of the surfaces are preferred
            volumes |= read_stats(parcellation)[1]
    # subjects are folders; the header keeps the name under which the program ran
    return (folder.parent.name if folder.name == "stats" else subject), volumes


def read_stats(path: Path) -> tuple[str, dict[str, float]]:
    """Subject and volumes, column -> mL, of a statistics file; regions without a column are passed over.

    Raises:
        InputError: no head of columns, no column of volumes, or a volume that is no number; the line is named.
    """
    subject, hemisphere = "", next((hemi for hemi in _HEMISPHERES if path.name.startswith(f"{hemi}.")), "")
    heads: list[str] = []
    volumes: dict[str, float] = {}
    for number, line in enumerate(read_text(path, expected="a statistics file of FreeSurfer").splitlines(), start=1):
        where = f"{path}: line {number}"
        words = line.lstrip("#").split()
        if line.startswith("#"):
            if words[:1] == ["subjectname"]:
                subject = " ".join(words[1:])
            elif words[:1] == ["hemi"] and len(words) > 1:
                hemisphere = words[1]
            elif words[:1] == ["ColHeaders"]:
                heads = words[1:]
            elif words[:1] == ["Measure"]:
                fields = [field.strip() for field in line.split("Measure", 1)[1].split(",")]
                if len(fields) >= 5 and fields[-1] == "mm^3" and fields[1] in _MEASURES:
                    volumes[_MEASURES[fields[1]]] = _volume(fields[-2], where)
        elif words:
            if "StructName" not in heads:
                raise InputError(f"{where}: no line '# ColHeaders ... StructName ...' stands before the first row")
            if len(words) < len(heads):
                raise InputError(f"{where}: {len(words)} fields, {len(heads)} expected")
            row = dict(zip(heads, words, strict=False))
            name, key = row["StructName"], "GrayVol" if "GrayVol" in heads else "Volume_mm3"
            if key not in row:
                raise InputError(f"{where}: no column Volume_mm3 or GrayVol in {' '.join(heads)!r}")
            column = (
                cortical_column(hemisphere, name) if key == "GrayVol" else segmentation_columns().get(plain_name(name))
            )
            if column is not None:
                volumes[column] = _volume(row[key], where)
    if not volumes:
        raise InputError(f"{path}: no volume of a structure: is it aseg.stats or aparc.stats?")
    return subject, volumes


def read_stats_table(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Subjects and volumes, column -> mL, of a table of ``asegstats2table`` or ``aparcstats2table``.

    Raises:
        InputError: another table, measures other than volumes, a row of another length, or no number.
    """
    lines = read_text(path, expected="a table of asegstats2table").splitlines()
    delimiter = next((char for char in "\t,;" if lines and char in lines[0]), None)
    heads = [head.strip().strip('"') for head in lines[0].split(delimiter)] if lines else [""]
    measure = heads[0]
    if not is_table_head(measure):
        raise InputError(f"{path}: line 1: {measure!r} is not the head of a table of volumes (Measure:volume)")
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip().strip('"') for cell in line.split(delimiter)]
        if not any(cells):
            continue
        if len(cells) != len(heads):
            raise InputError(f"{path}: line {number}: {len(cells)} fields, {len(heads)} expected")
        volumes = {}
        for head, cell in zip(heads[1:], cells[1:], strict=True):
            column = _table_column(head)
            if column is not None and cell:
                volumes[column] = _volume(cell, f"{path}: line {number}: {head}")
        yield cells[0].rstrip("/").rsplit("/", 1)[-1], volumes


def is_table_head(text: str) -> bool:
    """True for the first cell of a table of volumes: ``Measure:volume``, ``lh.aparc.volume``."""
    return text == "Measure:volume" or (text[:3] in ("lh.", "rh.") and text.endswith(".volume"))


def _table_column(head: str) -> str | None:
    if head in _TABLE_MEASURES:
        return _TABLE_MEASURES[head]
    for hemisphere in _HEMISPHERES:
        if head.startswith(f"{hemisphere}_") and head.endswith("_volume"):
            return cortical_column(hemisphere, head[3 : -len("_volume")])
    return segmentation_columns().get(plain_name(head))


def _volume(text: str, where: str) -> float:
    """Volume in mL of a text in mm3."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{where}: {text!r} is no volume in mm3")
    return value / MM3_PER_ML
