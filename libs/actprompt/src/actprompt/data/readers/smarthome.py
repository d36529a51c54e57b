"""Toyota Smarthome, trimmed (Das et al., ICCV 2019): ``<Label>_p<subject>_r<repetition>_v<video>_c<camera>.mp4``.

Protocols of the paper, all reported as mean accuracy over classes: cross-subject (31 classes, 11 training subjects, the
other 7 for testing), cross-view 1 (19 classes, camera 1 for training, 2 for testing) and cross-view 2 (19 classes,
cameras 1, 3, 4, 6, 7 for training, 2 for testing); camera 5 is for validation in both.
"""

from __future__ import annotations

import re
from pathlib import Path

from actprompt.data.manifest import Clip, Protocol
from actprompt.data.readers.base import ReaderResult, Rejection, in_order, read_names
from icube_common.data.reader import require_folder
from icube_common.errors import unknown

CITATION = "Das et al.: Toyota Smarthome, ICCV 2019"
TRAIN_SUBJECTS = frozenset({3, 4, 6, 7, 9, 12, 13, 15, 17, 19, 25})
TEST_SUBJECTS = frozenset({2, 10, 11, 14, 16, 18, 20})
CAMERA_PARTS = {
    "cross_view_1": {1: "train", 5: "validation", 2: "test"},
    "cross_view_2": {1: "train", 3: "train", 4: "train", 6: "train", 7: "train", 5: "validation", 2: "test"},
}
CLASSES = {
    "Cook.Cleandishes": "clean dishes", "Cook.Cleanup": "clean up in the kitchen", "Cook.Cut": "cut food",
    "Cook.Stir": "stir in a pot", "Cook.Usestove": "use the stove", "Cutbread": "cut bread",
    "Drink.Frombottle": "drink from a bottle", "Drink.Fromcan": "drink from a can", "Drink.Fromcup": "drink from a cup",
    "Drink.Fromglass": "drink from a glass", "Eat.Attable": "eat at the table", "Eat.Snack": "eat a snack",
    "Enter": "enter", "Getup": "get up", "Laydown": "lie down", "Leave": "leave",
    "Makecoffee.Pourgrains": "make coffee, pour grains", "Makecoffee.Pourwater": "make coffee, pour water",
    "Maketea.Boilwater": "make tea, boil water", "Maketea.Insertteabag": "make tea, insert a tea bag",
    "Pour.Frombottle": "pour from a bottle", "Pour.Fromcan": "pour from a can", "Pour.Fromkettle": "pour from a kettle",
    "Readbook": "read a book", "Sitdown": "sit down", "Takepills": "take pills", "Uselaptop": "use a laptop",
    "Usetablet": "use a tablet", "Usetelephone": "use a telephone", "Walk": "walk", "WatchTV": "watch TV",
}  # fmt: skip
"""The 31 classes of the cross-subject protocol, and their names in words."""
CROSS_VIEW_CLASSES = frozenset({
    "Cutbread", "Drink.Frombottle", "Drink.Fromcan", "Drink.Fromcup", "Drink.Fromglass", "Eat.Attable", "Eat.Snack",
    "Enter", "Getup", "Leave", "Pour.Frombottle", "Pour.Fromcan", "Readbook", "Sitdown", "Takepills", "Uselaptop",
    "Usetablet", "Usetelephone", "Walk",
})  # fmt: skip
"""The 19 classes that the cross-view protocols keep."""

_NAME = re.compile(r"(?P<label>[A-Za-z.]+)_p(?P<subject>\d\d)_r(?P<take>\d\d)_v(?P<video>\d\d)_c(?P<camera>\d\d)\.\w+")


def find(source: Path, splits: Path | None = None) -> ReaderResult:
    """One clip a video whose name is understood.

    Raises:
        InputError: no video.
    """
    root = require_folder(source, "Toyota Smarthome's videos")
    expected = "Toyota Smarthome's videos Label_pXX_rXX_vXX_cXX.mp4"
    clips, rejected = read_names(root, expected, read_name)
    protocols = [
        Protocol(name=name, kind="split", column=name.replace("-", "_"), metric="mean_class_accuracy", source=CITATION)
        for name in ("cross-subject", "cross-view-1", "cross-view-2")
    ]
    return ReaderResult(
        title="Toyota Smarthome",
        citation=CITATION,
        root=root,
        clips=clips,
        rejected=rejected,
        class_names=in_order(CLASSES, clips),
        class_texts=CLASSES,
        protocols=protocols,
    )


def read_name(name: str, path: str) -> Clip | Rejection:
    """Clip of a file name, or its rejection."""
    match = _NAME.fullmatch(name)
    if match is None:
        return Rejection(name, path, "the name is not Label_pXX_rXX_vXX_cXX.mp4")
    label, subject, camera = match["label"], int(match["subject"]), int(match["camera"])
    if label not in CLASSES:
        return Rejection(name, path, str(unknown("class", label, CLASSES)))
    if subject not in TRAIN_SUBJECTS | TEST_SUBJECTS:
        return Rejection(name, path, f"subject {subject} is none of the 18 of the set")
    if not 1 <= camera <= 7:
        return Rejection(name, path, f"camera {camera} is none of the 7 of the set")
    splits = {"cross_subject": "train" if subject in TRAIN_SUBJECTS else "test"}
    if label in CROSS_VIEW_CLASSES:
        splits |= {column: parts[camera] for column, parts in CAMERA_PARTS.items() if camera in parts}
    return Clip(id=name, path=path, label=label, subject=str(subject), camera=str(camera), splits=splits)
