"""MRI sequence of a series from the words of its description and from its timing.

Words are evidence for one contrast each. Two that contradict each other ("CISS MPR") leave the sequence unknown, and so
does a word for something that is no weighted image (a map, a mask, a phase image, a localiser). T1 FLAIR is
a T1-weighted inversion recovery spin echo, for which BIDS has no word of its own and which tools leave to the user:
unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from debian_mri.biomarkers.knowledge import SEQUENCES

# whole words, parts of a word where the part can mean nothing else
_WORDS = {
    "T1w": r"t1|t1w|t1wi?|t1we|[msw]t1w?|3dt1w?|t1 ?w(eighted)?|t1(tfe|ffe|vibe|space|cube|tse|fse|se|gre|mpr|fl[23]d)",
    "T2w": r"t2|t2w|t2weighted|t2wi|st2w?|3dt2w?|t2(tse|fse|space|cube|spc|spair)|spc ?t2|t2w spc\d*",
    "PDw": r"pd|pdw|pdweighted|pdwi|spdw?|proton|protondensity|pd(tse|fse)",
    "FLAIR": r"tirm|spcir|dark ?fluid",
    "T2starw": r"t2star|t2s|merge|medic|hemo",
    "SWI": r"swi\w*|swan|qsm|swip|t2swi\w*|venobold",
    "dwi": r"dwi|dmri|dti\w*|dki|diff|diffusion|adc|tracew?|hardi|noddi|ivim",
    "bold": r"bold|resting|task",
    "asl": r"asl|p?casl|pasl|cbf|perfusion|perf|dsc|dce",
    "angiography": r"tof|mra|mrv|angio\w*|time of flight|venography",
    "spectroscopy": r"mrs|mrsi|svs|spectroscopy|csi|press",
    "steady state": r"ciss|fiesta|trufi|bssfp|b ?ffe|b ?tfe|balanced|fisp",
    "MP2RAGE": r"mp2 ?rage|inv[12]|unit1|t1rho",
    "magnetisation transfer": r"mtr|gre mt|nm|neuromelanin|mtc",
}
_PARTS = {"T1w": r"mp ?rage|f?spgr|bravo", "FLAIR": r"flair", "bold": r"fmri"}
# words of a gradient echo or a reformat: T1w where nothing else is said; beside another contrast a reformat leaves it
# open of what it was made, a gradient echo says nothing
_REFORMAT = r"mpr|mpr ?r?\d*"
_GRADIENT_ECHO = r"tfe|tfl\w*|vibe|lava"
_T2_GRADIENT_ECHO = r"ffe|t2ffe|gre|fl2d\w*|fl3d\w*|flash|hemo"
# in a file's name these may be people, sites and diagnoses: PD_017.nii.gz
_NOT_IN_NAMES = frozenset(
    ["pd", "cal", "loc", "ref", "nm", "real", "report", "merge", "bias", "csi", "press", "plane", "noise", "hemo"]
)
# a more special word goes before a more general one
_STRONGER = {
    "FLAIR": ("T2w",),
    "T2starw": ("T2w",),
    "SWI": ("T2starw", "T2w"),
    "dwi": ("T2w",),
    "bold": ("T2w", "T2starw"),
    "asl": ("T2w", "T2starw"),
}
_NO_IMAGE = {
    "a localiser": r"loc|locs|locali[sz]er\w*|loca|scout\w*|survey|plane|3plane|3 ?pl|pilot|smartbrain|aahead|vscout",
    "a calibration or field map": r"calibration|cal|asset cal|field ?map(ping)?|\w*fieldmap\w*|gre field|"
    r"b1|b1(map|cal)\w*|b0 ?map|tb1\w*|setter|vnav|bias|ref (scan|head|body)|shim|noise|sbref|magnitude[12]",
    "a parametric map": r"\w*map|maps|mapping|mapit|molli|r1|r2|r2s|r2star|jacobian|t1rho|relaxometry",
    "a mask or label image": r"mask|\w+mask|seg|dseg|probseg|segmentation|label|labels|aseg|aparc|wmparc|"
    r"ribbon|atlas|parcellation",
    "a phase image": r"phase|phases|pha|pha images|imaginary|real",
    "a derived picture": r"mip|minip|subtract\w*|screenshot|screen|report|phoenixzipreport|dose|3d render\w*",
}


@dataclass(frozen=True)
class SequenceFinding:
    """Sequence of an image, or the reason that it is unknown.

    Attributes:
        sequence: one of `SEQUENCES`, None where unknown.
        reason: reason for None, empty without any evidence.
    """

    sequence: str | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Timing of a series in ms as its header gives it, None where it does not.

    Attributes:
        echo: echo time.
        repetition: repetition time.
        inversion: inversion time.
        technique: DICOM's ScanningSequence: SE, GR, EP, IR, or several.
    """

    echo: float | None = None
    repetition: float | None = None
    inversion: float | None = None
    technique: str = ""

    def __str__(self) -> str:
        times = (("TE", self.echo), ("TR", self.repetition), ("TI", self.inversion))
        return ", ".join(f"{title} {value:g} ms" for title, value in times if value)


def sequence_of(description: str, timing: Timing | None = None) -> str | None:
    """One of `SEQUENCES`, or None: see `read_description`.

    >>> sequence_of("MPR; GradWarp; B1 Correction; N3; Scaled"), sequence_of("Axial PD/T2 FSE")
    ('T1w', None)
    """
    return read_description(description, timing).sequence


def read_description(description: str, timing: Timing | None = None, *, source: str = "description") -> SequenceFinding:
    """Sequence that the words of a description name, compared with the timing.

    Where the words name none the timing may: an inversion recovery gradient echo of short echo time is T1w, a long
    inversion and echo time FLAIR, a long echo time of a spin echo T2w.

    Args:
        description: words in any order.
        timing: of the header, where there is one.
        source: what the words are, for reasons.
    """
    words = _words(description)
    for kind, pattern in _NO_IMAGE.items():
        if _has(pattern, words):
            return SequenceFinding(reason=f"{kind} by its {source}")
    contrasts = {name for name, pattern in _WORDS.items() if _has(pattern, words)}
    contrasts |= {name for name, pattern in _PARTS.items() if re.search(pattern, words)}
    if "T2w" in contrasts and _has(_T2_GRADIENT_ECHO, words):
        contrasts.add("T2starw")
    for name, weaker in _STRONGER.items():
        if name in contrasts:
            contrasts -= set(weaker)
    reformat = _has(_REFORMAT, words) and (contrasts or _is_reformat_alone(words))
    if reformat or (not contrasts and _has(_GRADIENT_ECHO, words)):
        contrasts.add("T1w")
    if len(contrasts) > 1:
        named = " and ".join(sorted(contrasts))
        return SequenceFinding(reason=f"its {source} names {named}, which contradict each other")
    by_timing = _by_timing(timing) if timing else None
    if not contrasts:
        return SequenceFinding(by_timing)
    (name,) = contrasts
    if name not in SEQUENCES:
        return SequenceFinding(reason=f"{name} by its {source}")
    if timing and not timing_allows(name, timing):
        return SequenceFinding(reason=f"its {source} names {name}, its timing ({timing}) contradicts that")
    return SequenceFinding(name)


def read_name(name: str) -> SequenceFinding:
    """Sequence by the words of a file's name."""
    words = re.split(r"[^A-Za-z0-9*]+", name)
    return read_description(" ".join(word for word in words if word.lower() not in _NOT_IN_NAMES), source="name")


def _words(description: str) -> str:
    """Lower-case words separated by single spaces, without words that do not describe the contrast."""
    text = description.lower().replace("*", "star ")
    text = re.sub(r"\bt2[ _-]*star", " t2star ", text)
    # direction of the phase encoding, and a step of LONI's processing
    text = re.sub(r"phase[ _-]*(enc\w*[ _-]*)?(dir\w*[ _-]*)?[aprlhfsi][ _>-]*[aprlhfsi](?![a-z])", " ", text)
    text = re.sub(r"\bb1[ _-]correction\b", " ", text)
    return " ".join(re.split(r"[^a-z0-9]+", text)).strip()


def _is_reformat_alone(words: str) -> bool:
    """True if MPR is ADNI's MP-RAGE: alone, or before LONI's steps; with a plane it is any reformat."""
    return (
        re.fullmatch(r"mpr( r)?( \d)?( (gradwarp|n3m?|scaled|scaled 2|2|distortion correction|nd))*", words) is not None
    )


def _has(pattern: str, words: str) -> bool:
    return re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", words) is not None


def _by_timing(timing: Timing) -> str | None:
    """Contrast that the timing alone allows and no other; echo planar images are left out."""
    technique = timing.technique.upper()
    echo, repetition, inversion = timing.echo, timing.repetition, timing.inversion
    if echo is None or "EP" in technique:
        return None
    if inversion is not None and inversion > 0:
        if 400 <= inversion <= 1400 and echo <= 10 and "SE" not in technique:
            return "T1w"
        if inversion >= 1500 and echo >= 60:
            return "FLAIR"
        return None
    if "SE" in technique and "GR" not in technique and repetition is not None and "IR" not in technique:
        if echo >= 60 and repetition >= 2000:
            return "T2w"
        if echo <= 30 and repetition <= 900:
            return "T1w"
    return None


def timing_allows(name: str, timing: Timing) -> bool:
    """True if a contrast is possible with a timing; only plain contradictions count."""
    echo, inversion = timing.echo, timing.inversion
    if name == "T1w" and echo is not None:
        # a long inversion time nulls the fluid of a long echo, and a long echo is no T1 contrast
        return echo < 40
    if name == "FLAIR" and inversion is not None and inversion > 0:
        return inversion >= 1400
    if name == "T2w" and echo is not None and "SE" in timing.technique.upper():
        return echo >= 40
    return True
