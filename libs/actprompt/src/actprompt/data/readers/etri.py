"""ETRI-Activity3D (Jang et al., IROS 2020): ``Aaaa_Pppp_Gggg_Cccc.mp4``, 55 daily activities of 100 people.

Action, person, camera group, camera. Persons 1 to 50 are elderly (64 to 88 years), 51 to 100 young adults. Which
persons the paper's cross-subject figures test on is in no file of the set; what is offered is a split between its two
age groups, which is of interest for assistive robots and not a published protocol. Persons stand as subjects, so that
any grouped cross-validation can be made.
"""

from __future__ import annotations

import re
from pathlib import Path

from actprompt.data.manifest import Clip, Protocol
from actprompt.data.readers.base import ReaderResult, Rejection, in_order, read_names, require_folder
from icube_common.data.class_lists import ETRI_ACTIVITY3D

CITATION = "Jang et al.: ETRI-Activity3D, IROS 2020, arXiv:2003.01920"
ELDERLY = range(1, 51)
CLASSES = ETRI_ACTIVITY3D

_NAME = re.compile(r"A(?P<action>\d{3})_?P(?P<person>\d{3})_?G(?P<group>\d{3})_?C(?P<camera>\d{3})\.\w+", re.IGNORECASE)
LIMITS = {"action": len(CLASSES), "person": 100, "camera": 8}


def find(source: Path, splits: Path | None = None) -> ReaderResult:
    """One clip a video whose name is understood.

    Raises:
        InputError: no video.
    """
    root = require_folder(source, "ETRI-Activity3D's videos")
    clips, rejected = read_names(root, "ETRI-Activity3D's videos Aaaa_Pppp_Gggg_Cccc.mp4", read_name)
    ages = "the set's two age groups; not a published protocol"
    return ReaderResult(
        title="ETRI-Activity3D",
        citation=CITATION,
        root=root,
        clips=clips,
        rejected=rejected,
        class_names=in_order(CLASSES, clips),
        protocols=[
            Protocol(name="adults-to-elderly", kind="split", column="adults_to_elderly", source=ages),
            Protocol(name="elderly-to-adults", kind="split", column="elderly_to_adults", source=ages),
        ],
    )


def read_name(name: str, path: str) -> Clip | Rejection:
    """Clip of a file name, or its rejection."""
    match = _NAME.fullmatch(name)
    if match is None:
        return Rejection(name, path, "the name is not Aaaa_Pppp_Gggg_Cccc.mp4")
    number = {key: int(value) for key, value in match.groupdict().items()}
    for key, most in LIMITS.items():
        if not 1 <= number[key] <= most:
            return Rejection(name, path, f"{key} {number[key]} is not from 1 to {most}")
    old = number["person"] in ELDERLY
    return Clip(
        id=name,
        path=path,
        label=CLASSES[number["action"] - 1],
        subject=str(number["person"]),
        camera=str(number["camera"]),
        setup=str(number["group"]),
        splits={"adults_to_elderly": "test" if old else "train", "elderly_to_adults": "train" if old else "test"},
    )
