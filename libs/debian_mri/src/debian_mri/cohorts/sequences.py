"""Which sequence a series is, from the words of its description; where they do not say it, nobody knows."""

from __future__ import annotations

import re
from collections.abc import Iterable

from icube_common.errors import InputError, unknown

SEQUENCES = ("T1w", "T2w", "FLAIR", "PDw", "T2starw", "SWI", "dwi", "bold", "asl")

# the first that fits counts: "t2 flair" is FLAIR, "t2 star" is no T2w
_WORDS = (
    ("dwi", r"dwi|dti|dki|diffusion|adc|tracew|hardi"),
    ("bold", r"bold|fmri|rsfmri|resting|task"),
    ("asl", r"asl|pasl|pcasl|cbf|perfusion"),
    ("FLAIR", r"flair|dark ?fluid"),
    ("SWI", r"swi|swan|swip|qsm"),
    ("T2starw", r"t2 ?star|t2 \*|t2s"),
    ("T1w", r"t1|mt1|t1w|mprage|mp ?rage|rage|mpr|spgr|fspgr|bravo|tfl|tfe"),
    ("PDw", r"pd|pdw|proton"),
    ("T2w", r"t2|t2w"),
)
_NO_SCAN = r"locali[sz]er|scout|survey|plane|field ?map|mapping|mask|b1|calibration|phase|segmentation|label|labels"


def check_sequences(asked: Iterable[str]) -> None:
    """Hold sequences that are asked for against those that a description can name.

    Raises:
        InputError: one is none; the nearest is given.
    """
    for name in asked:
        if name not in SEQUENCES:
            raise InputError(f"--sequences: {unknown('sequence', name, SEQUENCES)}")


def sequence_of(description: str) -> str | None:
    """One of `SEQUENCES`, or None where the words name none, two that differ, or something that is no image of a brain.

    >>> sequence_of("MPR; GradWarp; B1 Correction; N3; Scaled"), sequence_of("Axial PD/T2 FSE")
    ('T1w', None)
    """
    text = description.lower().replace("t2*", "t2 star").replace("t2_*", "t2 star")
    # steps of LONI's processing, not of the scanner
    text = re.sub(r"\bb1[ -]correction\b", " ", text)
    words = " ".join(re.split(r"[^a-z0-9]+", text)).strip()
    if _has(_NO_SCAN, words):
        return None
    if _has("pd|pdw|proton", words) and _has("t2|t2w", words):
        return None  # both echoes of one series: which of the two a file holds is not said
    return next((name for name, pattern in _WORDS if _has(pattern, words)), None)


def _has(pattern: str, words: str) -> bool:
    return re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", words) is not None
