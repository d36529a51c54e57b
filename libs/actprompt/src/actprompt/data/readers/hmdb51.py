"""HMDB51 (Kuehne, Jhuang, Garrote, Poggio, Serre, ICCV 2011): 51 classes, ``<class>/<name>.avi``.

The three official splits are ``<class>_test_split<1-3>.txt`` (test_train_splits.rar), lines ``name.avi 0|1|2``: 1 is
in the training part, 2 in the test part, 0 in neither (70 and 30 clips a class); or the flat lists of frame-based code.
"""

from __future__ import annotations

import re
from pathlib import Path

from actprompt.data.manifest import Clip
from actprompt.data.readers.base import ReaderResult, Rejection, find_videos, ids_of, in_order
from actprompt.data.readers.lists.splits import FLAT, Splits, find_split_files, lines_of, read_class_lists
from actprompt.data.readers.ucf101 import missing, split_protocols
from icube_common.data.reader import require_folder
from icube_common.errors import InputError, unknown

CITATION = "Kuehne, Jhuang, Garrote, Poggio, Serre: HMDB, ICCV 2011"
PARTS = {"1": "train", "2": "test"}

_OFFICIAL = re.compile(r"(?P<label>\w+)_test_split(?P<number>[123])\.txt")


def find(source: Path, splits: Path | None = None) -> ReaderResult:
    """One clip a video in a class folder, with its part of each split; one in neither part of any is kept as well.

    Raises:
        InputError: no video, no file of splits, or a damaged one.
    """
    root = require_folder(source, "HMDB51's class folders")
    files, media = find_videos(root, "HMDB51's videos <class>/<name>.avi")
    lists = read_splits([require_folder(splits, "HMDB51's split files")] if splits else [root])
    classes = sorted(set(lists.labels.values()))
    clips, rejected, matched = [], [], set()
    for path, name in ids_of(files, root).items():
        below = path.relative_to(root).as_posix()
        label, key = path.parent.name, (path.parent.name.lower(), path.stem.lower())
        if label not in classes:
            rejected.append(Rejection(name, below, str(unknown("class", label, classes))))
        elif key in matched:
            rejected.append(Rejection(name, below, "the same clip in another folder or format was there before"))
        else:
            clips.append(Clip(id=name, path=below, label=label, splits=lists.columns(key)))
        matched.add(key)
    return ReaderResult(
        title="HMDB51",
        citation=CITATION,
        root=root,
        clips=clips,
        rejected=rejected + media + missing(lists, matched),
        class_names=in_order(classes, clips),
        protocols=split_protocols(lists, CITATION),
    )


def read_splits(folders: list[Path]) -> Splits:
    """The official files, else the flat lists, of the first folder that has any.

    Raises:
        InputError: none is there, or one is damaged.
    """
    files = find_split_files(folders, _OFFICIAL)
    if not files:
        flat = find_split_files(folders, FLAT)
        if not flat:
            raise InputError(f"{folders[0]}: no <class>_test_split1.txt below it: name their folder with --splits")
        lists = read_class_lists(flat)
        lists.check(folders[0])
        return lists
    lists = Splits()
    for path, match in files:
        number = int(match["number"])
        lists.origin.setdefault(number, []).append(path.name)
        for line, text in lines_of(path):
            words = text.split()
            if len(words) != 2 or words[1] not in ("0", "1", "2"):
                raise InputError(f"{path}: line {line}: {text!r} is not a file name and 0, 1 or 2")
            if words[1] in PARTS:
                lists.put(number, match["label"], words[0], PARTS[words[1]], f"{path}: line {line}")
    lists.check(folders[0])
    return lists
