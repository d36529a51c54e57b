"""Brain structures with a volume, and their names in the tables of FreeSurfer, FastSurfer, SynthSeg and CAT12.

Names are those of a table's columns: ``hippocampus_left``, ``third_ventricle``, ``intracranial_volume``. A structure
that two programs delineate differently keeps one name; a table names its program, and programs must not be mixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

SIDES = ("left", "right")
INTRACRANIAL = "intracranial_volume"


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Brain structure.

    Attributes:
        name: of its columns, without a side.
        label: words for reports.
        tissue: "grey", "white" or "fluid" (of CAT12, the tissue map that is summed); "total" for sums of tissues.
        bilateral: one volume per side.
        aseg: names in FreeSurfer's ``aseg.stats`` and in SynthSeg's tables, without side, hyphens and capitals.
        cortical: name in FreeSurfer's Desikan-Killiany(-Tourville) parcellation, empty for none.
        rois: names and abbreviations of CAT12's Neuromorphometrics regions, without side; a tuple of regions is a sum.
    """

    name: str
    label: str
    tissue: str = "grey"
    bilateral: bool = True
    aseg: tuple[str, ...] = ()
    cortical: str = ""
    rois: tuple[str | tuple[str, ...], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the structure's columns: with a side for a bilateral one."""
        return tuple(f"{self.name}_{side}" for side in SIDES) if self.bilateral else (self.name,)


def _deep(name: str, *aseg: str, rois: tuple[str | tuple[str, ...], ...] = (), tissue: str = "grey") -> Structure:
    return Structure(name=name, label=name.replace("_", " "), tissue=tissue, aseg=aseg, rois=rois)


def _cortex(name: str, cortical: str, *rois: str | tuple[str, ...]) -> Structure:
    return Structure(name=name, label=name.replace("_", " "), cortical=cortical, rois=rois)


def _midline(name: str, tissue: str, *aseg: str, rois: tuple[str | tuple[str, ...], ...] = ()) -> Structure:
    return Structure(name=name, label=name.replace("_", " "), tissue=tissue, bilateral=False, aseg=aseg, rois=rois)


STRUCTURES: Mapping[str, Structure] = {
    structure.name: structure
    for structure in (
        _deep("hippocampus", "hippocampus", rois=("hippocampus", "hip")),
        _deep("amygdala", "amygdala", rois=("amygdala", "amy")),
        _deep("thalamus", "thalamus", "thalamus proper", rois=("thalamus proper", "thalamus", "thapro")),
        _deep("caudate", "caudate", rois=("caudate", "cau")),
        _deep("putamen", "putamen", rois=("putamen", "put")),
        _deep("pallidum", "pallidum", rois=("pallidum", "pal")),
        _deep("accumbens", "accumbens area", rois=("accumbens area", "accumbens", "acc")),
        _deep("lateral_ventricle", "lateral ventricle", rois=("lateral ventricle", "latv"), tissue="fluid"),
        _deep(
            "inferior_lateral_ventricle",
            "inf lat vent",
            "inferior lateral ventricle",
            rois=("inf lat vent", "inferior lateral ventricle", "inflatv"),
            tissue="fluid",
        ),
        _deep("cerebral_white_matter", "cerebral white matter", tissue="white"),
        _deep("cerebral_cortex", "cerebral cortex"),
        _deep("cerebellum_white_matter", "cerebellum white matter", tissue="white"),
        _deep("cerebellum_cortex", "cerebellum cortex"),
        _cortex("entorhinal_cortex", "entorhinal", "ent entorhinal area", "entorhinal area", "ent"),
        _cortex(
            "parahippocampal_gyrus",
            "parahippocampal",
            "phg parahippocampal gyrus",
            "parahippocampal gyrus",
            "parahippocampus gyrus",
            "parhipg",
        ),
        _cortex("fusiform_gyrus", "fusiform"),
        _cortex("superior_temporal_gyrus", "superiortemporal"),
        _cortex(
            "middle_temporal_gyrus", "middletemporal", "mtg middle temporal gyrus", "middle temporal gyrus", "midtemg"
        ),
        _cortex(
            "inferior_temporal_gyrus",
            "inferiortemporal",
            "itg inferior temporal gyrus",
            "inferior temporal gyrus",
            "inftemg",
        ),
        _cortex("precuneus", "precuneus", "pcu precuneus", "precuneus", "pcu"),
        _cortex(
            "posterior_cingulate_gyrus",
            "posteriorcingulate",
            "pcgg posterior cingulate gyrus",
            "posterior cingulate gyrus",
            "poscing",
        ),
        _cortex(
            "superior_parietal_lobule",
            "superiorparietal",
            "spl superior parietal lobule",
            "superior parietal lobule",
            "superior parietal lobe",
            "supparl",
        ),
        _cortex("inferior_parietal_lobule", "inferiorparietal"),
        _cortex("supramarginal_gyrus", "supramarginal", "smg supramarginal gyrus", "supramarginal gyrus", "supmarg"),
        _cortex(
            "insula",
            "insula",
            ("ains anterior insula", "pins posterior insula"),
            ("anterior insula", "posterior insula"),
            ("antins", "posins"),
        ),
        _cortex("cuneus", "cuneus", "cun cuneus", "cuneus", "cun"),
        _cortex("lingual_gyrus", "lingual", "lig lingual gyrus", "lingual gyrus", "ling"),
        _cortex("pericalcarine_cortex", "pericalcarine"),
        _cortex("lateral_occipital_cortex", "lateraloccipital"),
        _midline(
            "third_ventricle",
            "fluid",
            "3rd ventricle",
            rois=("3rd ventricle", ("left third ventricle", "right third ventricle"), ("left 3thv", "right 3thv")),
        ),
        _midline(
            "fourth_ventricle",
            "fluid",
            "4th ventricle",
            rois=("4th ventricle", ("left fourth ventricle", "right fourth ventricle"), ("left 4thv", "right 4thv")),
        ),
        _midline("brain_stem", "white", "brain stem"),
        _midline("grey_matter", "total"),
        _midline("white_matter", "total"),
        _midline("cerebrospinal_fluid", "total"),
        _midline("brain", "total"),
        _midline(INTRACRANIAL, "total", "total intracranial"),
    )
}


def plain_name(text: str) -> str:
    """Name in lower case with single spaces in place of hyphens and underscores, for the comparison of names."""
    return " ".join(text.replace("-", " ").replace("_", " ").lower().split())


def _sided(names: tuple[str, ...], structure: Structure) -> Iterator[tuple[str, str]]:
    for name in names:
        if structure.bilateral:
            yield from ((f"{side} {name}", f"{structure.name}_{side}") for side in SIDES)
        else:
            yield name, structure.name


@lru_cache(maxsize=1)
def segmentation_columns() -> Mapping[str, str]:
    """Plain name of FreeSurfer, FastSurfer or SynthSeg, with its side, -> column of a table.

    ``left hippocampus`` -> ``hippocampus_left``; ``ctx lh entorhinal`` -> ``entorhinal_cortex_left``.
    """
    names: dict[str, str] = {}
    for structure in STRUCTURES.values():
        names |= dict(_sided(structure.aseg, structure))
        if structure.cortical:
            for hemisphere, side in zip(("lh", "rh"), SIDES, strict=True):
                names[f"ctx {hemisphere} {structure.cortical}"] = f"{structure.name}_{side}"
    return names


@lru_cache(maxsize=1)
def region_columns() -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Column, tissue and plain names of the CAT12 regions whose sum it is, for each way of naming them."""
    sums: list[tuple[str, str, tuple[str, ...]]] = []
    for structure in STRUCTURES.values():
        for regions in structure.rois:
            parts = (regions,) if isinstance(regions, str) else regions
            if structure.bilateral:
                sides = ((f"{structure.name}_{side}", tuple(f"{side} {part}" for part in parts)) for side in SIDES)
                sums += [(column, structure.tissue, names) for column, names in sides]
            else:
                sums.append((structure.name, structure.tissue, parts))
    return tuple(sums)


def cortical_column(hemisphere: str, name: str) -> str | None:
    """Column of a cortical region of a hemisphere (``lh``, ``rh``) of ``aparc.stats``; None for a region not listed."""
    return segmentation_columns().get(f"ctx {hemisphere} {name}")
