"""ETRI-Activity3D (Jang et al., IROS 2020): ``Aaaa_Pppp_Gggg_Cccc.mp4``, 55 daily activities of 100 people.

Action, person, camera group, camera. Persons 1 to 50 are elderly (64 to 88 years), 51 to 100 young adults. Which
persons the paper's cross-subject figures test on is in no file of the set; what is offered is a split between its two
age groups, which is of interest for assistive robots and not a published protocol. Persons stand as subjects, so that
any grouped cross-validation can be made.
"""

from __future__ import annotations

from pathlib import Path

from actprompt.data.manifest import Clip, Protocol
from actprompt.data.readers.base import ReaderResult, Rejection, in_order, read_names
from icube_common.data.class_lists import ETRI_ACTIVITY3D
from icube_common.data.file_names import ETRI_NAME
from icube_common.data.reader import require_folder
from icube_common.errors import InputError

CITATION = "Jang et al.: ETRI-Activity3D, IROS 2020, arXiv:2003.01920"
ELDERLY = range(1, 51)
CLASSES = ETRI_ACTIVITY3D


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
    try:
        number = ETRI_NAME.parse(Path(name).stem)
    except InputError as error:
        return Rejection(name, path, str(error))
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
