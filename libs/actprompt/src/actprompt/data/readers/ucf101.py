"""UCF101 (Soomro, Zamir, Shah, CRCV-TR-12-01, 2012): 101 classes, ``v_<Class>_g<group>_c<clip>.avi``.

The three official splits are ``trainlist01.txt`` to ``testlist03.txt`` of UCF101TrainTestSplits-RecognitionTask.zip, or
the flat lists of frame-based code. Clips of one group come from one long video: a group (g01 to g25 of a class) is
what a split must not cut, and stands as subject. ``HandstandPushups`` is spelt otherwise in its file names; a class is
found whatever the case.
"""

from __future__ import annotations

import re
from pathlib import Path

from actprompt.data.manifest import Clip, Protocol
from actprompt.data.readers.base import ReaderResult, Rejection, find_videos, first_of_each, in_order
from actprompt.data.readers.lists.splits import FLAT, Splits, find_split_files, lines_of, read_class_lists
from icube_common.data.reader import require_folder
from icube_common.errors import InputError, nearest

CITATION = "Soomro, Zamir, Shah: UCF101, CRCV-TR-12-01, 2012"

_NAME = re.compile(r"v_(?P<label>\w+)_g(?P<group>\d\d)_c(?P<clip>\d\d)\.\w+")
_OFFICIAL = re.compile(r"(?P<part>train|test)list(?P<number>0[123])\.txt")
_CLASSES = re.compile(r"classInd\.txt")


def find(source: Path, splits: Path | None = None) -> ReaderResult:
    """One clip a video that is in a list; clips that are listed and not there are rejected as such.

    Raises:
        InputError: no video, no list, or a damaged one.
    """
    root = require_folder(source, "UCF101's videos")
    videos, media = find_videos(root, "UCF101's videos v_<Class>_gXX_cXX.avi")
    files, rejected = first_of_each(videos, root)
    rejected += media
    folders = [require_folder(splits, "UCF101's lists")] if splits else [root]
    lists = read_splits(folders)
    spelt = {key: label for (key, _), label in lists.labels.items()}
    clips: list[Clip] = []
    matched = set()
    for path in files:
        below = path.relative_to(root).as_posix()
        match = _NAME.fullmatch(path.name)
        if match is None:
            rejected.append(Rejection(path.name, below, "the name is not v_<Class>_gXX_cXX.avi"))
            continue
        key = (match["label"].lower(), path.stem.lower())
        if key[0] not in spelt:
            close = nearest(match["label"], spelt.values())
            hint = f": did you mean {close}?" if close else ""
            rejected.append(Rejection(path.name, below, f"unknown class {match['label']!r}{hint}"))
            continue
        matched.add(key)
        label = spelt[key[0]]
        group = f"{label}_g{match['group']}"
        clips.append(Clip(id=path.name, path=below, label=label, subject=group, splits=lists.columns(key)))
    rejected += missing(lists, matched)
    return ReaderResult(
        title="UCF101",
        citation=CITATION,
        root=root,
        clips=clips,
        rejected=rejected,
        class_names=in_order(_class_order(folders, sorted(set(spelt.values()))), clips),
        protocols=split_protocols(lists, CITATION),
    )


def read_splits(folders: list[Path]) -> Splits:
    """The official lists, else the flat ones, of the first folder that has any.

    Raises:
        InputError: none is there, or one is damaged.
    """
    files = find_split_files(folders, _OFFICIAL) or find_split_files(folders, FLAT)
    if not files:
        raise InputError(f"{folders[0]}: no trainlist01.txt below it: name the lists' folder with --splits")
    lists = read_class_lists(files)
    lists.check(folders[0])
    return lists


def missing(lists: Splits, matched: set[tuple[str, str]]) -> list[Rejection]:
    """A rejection for each clip that is listed and not there."""
    listed = {key: number for number, parts in sorted(lists.parts.items(), reverse=True) for key in parts}
    return [
        Rejection(key[1], f"{lists.labels[key]}/{key[1]}", f"listed in {lists.origin[number][0]} and not there")
        for key, number in sorted(listed.items())
        if key not in matched
    ]


def split_protocols(lists: Splits, citation: str) -> list[Protocol]:
    """One protocol for each official split; what papers quote is the mean over the three."""
    return [
        Protocol(
            name=f"split-{number}",
            kind="split",
            column=f"split_{number}",
            source=f"{citation}; {', '.join(lists.origin[number][:2])}",
        )
        for number in sorted(lists.parts)
    ]


def _class_order(folders: list[Path], names: list[str]) -> list[str]:
    """The classes as ``classInd.txt`` numbers them; in the order of the alphabet, which is the same, without it."""
    files = find_split_files(folders, _CLASSES)
    if not files:
        return names
    path = files[0][0]
    order = []
    for line, text in lines_of(path):
        number, _, name = text.partition(" ")
        if not number.isdigit() or not name.strip():
            raise InputError(f"{path}: line {line}: {text!r} is not a number and a class")
        order.append((int(number), name.strip()))
    left = set(names) - {name for _, name in order}
    if left:
        raise InputError(f"{path}: class {min(left)!r} of the lists is not in it")
    return [name for _, name in sorted(order)]
