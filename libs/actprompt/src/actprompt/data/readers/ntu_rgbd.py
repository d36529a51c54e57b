"""NTU RGB+D 60 (Shahroudy et al., CVPR 2016) and 120 (Liu et al., TPAMI 2020): ``SsssCcccPpppRrrrAaaa_rgb.avi``.

Setup, camera, performer, replication, action. Setups 1 to 17 and actions 1 to 60 are NTU 60; both together NTU 120.
Protocols of the papers: cross-subject (20 and 53 training performers), cross-view of NTU 60 (cameras 2 and 3 for
training, 1 for testing), cross-setup of NTU 120 (even setups for training, odd ones for testing). The protocols of NTU
120 are offered where clips of setup 18 or later are there.

The published lists ``NTU_RGBD*_samples_with_missing_skeletons.txt`` name samples whose skeleton is missing; their video
is whole. They are kept, and named in ``dataset.json`` under ``missing_skeletons``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from actprompt.data.manifest import Clip, Protocol
from actprompt.data.readers.base import ReaderResult, Rejection, in_order, read_names
from actprompt.data.readers.lists.splits import find_split_files, lines_of
from icube_common.data.class_lists import NTU_RGBD
from icube_common.data.file_names import NTU_RGBD_NAME
from icube_common.data.reader import require_folder
from icube_common.errors import InputError

CITATION_60 = "Shahroudy, Liu, Ng, Wang: NTU RGB+D, CVPR 2016"
CITATION_120 = "Liu et al.: NTU RGB+D 120, TPAMI 2020"
TRAIN_60 = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
"""Training performers of the 40 of NTU 60."""
TRAIN_120 = TRAIN_60 | frozenset({
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
})  # fmt: skip
"""Training performers of the 106 of NTU 120."""

_MISSING = re.compile(r"NTU_RGBD(?:120)?_samples_with_missing_skeletons\.txt")


def find(source: Path, splits: Path | None = None) -> ReaderResult:
    """One clip a video whose name is understood.

    Raises:
        InputError: no video, or a line of a list that is no sample's name.
    """
    root = require_folder(source, "NTU RGB+D's videos")
    clips, rejected = read_names(root, "NTU RGB+D's videos SsssCcccPpppRrrrAaaa_rgb.avi", read_name)
    whole = any(int(clip.setup or 0) > 17 for clip in clips)
    offered = [
        ("cross-subject-60", CITATION_60),
        ("cross-view-60", CITATION_60),
        *([("cross-subject-120", CITATION_120), ("cross-setup-120", CITATION_120)] if whole else []),
    ]
    protocols = [
        Protocol(name=name, kind="split", column=name.replace("-", "_"), source=source) for name, source in offered
    ]
    columns = {protocol.column for protocol in protocols}
    clips = [replace(clip, splits={key: part for key, part in clip.splits.items() if key in columns}) for clip in clips]
    lost = missing_skeletons([require_folder(splits, "NTU's lists of missing skeletons")] if splits else [root])
    return ReaderResult(
        root=root,
        title="NTU RGB+D 120" if whole else "NTU RGB+D",
        citation=CITATION_120 if whole else CITATION_60,
        clips=clips,
        rejected=rejected,
        class_names=in_order(NTU_RGBD, clips),
        protocols=protocols,
        description={"missing_skeletons": sorted(clip.id for clip in clips if clip.id[:20].upper() in lost)},
    )


def read_name(name: str, path: str) -> Clip | Rejection:
    """Clip of a file name with its part in each of the four protocols, or its rejection."""
    try:
        number = NTU_RGBD_NAME.parse(re.sub("_rgb$", "", Path(name).stem, flags=re.IGNORECASE))
    except InputError as error:
        return Rejection(name, path, str(error))
    splits = {
        "cross_subject_120": "train" if number["performer"] in TRAIN_120 else "test",
        "cross_setup_120": "train" if number["setup"] % 2 == 0 else "test",
    }
    if number["setup"] <= 17 and number["action"] <= 60:
        splits["cross_subject_60"] = "train" if number["performer"] in TRAIN_60 else "test"
        splits["cross_view_60"] = "train" if number["camera"] in (2, 3) else "test"
    return Clip(
        id=name,
        path=path,
        label=NTU_RGBD[number["action"] - 1],
        subject=str(number["performer"]),
        camera=str(number["camera"]),
        setup=str(number["setup"]),
        splits=splits,
    )


def missing_skeletons(folders: list[Path]) -> set[str]:
    """Samples of the published lists, if any is there: ``S001C002P005R002A008``.

    Raises:
        InputError: a line is no sample's name.
    """
    names = set()
    for path, _ in find_split_files(folders, _MISSING):
        for line, text in lines_of(path):
            if not NTU_RGBD_NAME.match(text):
                raise InputError(f"{path}: line {line}: {text!r} is not SsssCcccPpppRrrrAaaa")
            names.add(text)
    return names
