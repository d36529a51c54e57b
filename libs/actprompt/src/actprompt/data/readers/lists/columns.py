"""Columns of lists of clips: the head lines that people and published code write, and which column means what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icube_common.errors import InputError

# spelt without case, spaces, underscores and hyphens; the first of several that are there is taken
COLUMNS: dict[str, tuple[str, ...]] = {
    "path": (
        "path", "videopath", "filepath", "clippath", "framepath", "relpath", "relativepath", "fullpath", "video",
        "videofile", "file", "filename", "videofilename", "clip", "clipfile", "clipname", "videoname", "framefolder",
        "framedir", "framesdir", "folder", "dir", "directory", "vidname", "name", "videoid", "clipid",
    ),
    "label": (
        "labelname", "classname", "actionname", "labeltext", "label", "class", "action", "category", "activity",
        "actionlabel", "classlabel", "target", "groundtruth", "gt", "y", "labels", "classid", "labelid", "actionid",
        "categoryid", "classidx", "labelidx", "labelindex", "classindex",
    ),
    "subject": (
        "subject", "subjectid", "subj", "person", "personid", "participant", "participantid", "performer", "actor",
        "actorid", "patient", "patientid", "user", "userid",
    ),
    "camera": ("camera", "cameraid", "cam", "view", "viewid", "viewpoint"),
    "setup": ("setup", "setupid"),
    "skeleton": ("skeleton", "skeletonpath", "skeletonfile"),
    "split": ("split", "subset", "partition", "set", "part", "phase", "usage"),
    "n_frames": ("nframes", "numframes", "totalframes", "framecount", "numberofframes", "frames"),
}  # fmt: skip
# parts of longer videos, which would be read whole
SEGMENTS = (
    "start", "end", "begin", "stop", "startframe", "endframe", "starttime", "endtime", "timestart", "timeend", "tstart",
    "tend", "startsec", "endsec", "startindex", "endindex", "offset", "framestart", "frameend", "startseconds",
    "endseconds",
)  # fmt: skip
# row numbers that pandas writes: no information, so no warning
_INDEX = ("", "unnamed:0", "index")
DELIMITERS = ("\t", ";", ",", "|")
_KNOWN = {word: kind for kind, words in COLUMNS.items() for word in words}


@dataclass(frozen=True)
class Head:
    """A head line.

    Attributes:
        delimiter: between cells; a space means any white space.
        names: of the columns, as the file spells them.
        places: what a column means ("path", "label", ...) -> its place; for labels all places, in order of preference.
    """

    delimiter: str
    names: tuple[str, ...]
    places: dict[str, tuple[int, ...]]

    def ignored(self, label: int) -> list[str]:
        """Names of the columns that are not read, without pandas' index."""
        used = {label, *(places[0] for kind, places in self.places.items() if kind != "label")}
        return [name for at, name in enumerate(self.names) if at not in used and plain(name) not in _INDEX]


def plain(name: str) -> str:
    """A column's name without case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]", "", name).lower()


def find_head(line: str, path: Path, number: int) -> Head | None:
    """The head line of a list, or None where its first line is a clip already.

    Raises:
        InputError: it is a head line without a column of paths or of labels, has a column twice, or columns for parts
            of longer videos.
    """
    best: Head | None = None
    for delimiter in (*DELIMITERS, " "):
        cells = (
            line.split() if delimiter == " " else [cell.strip().strip('"').strip() for cell in line.split(delimiter)]
        )
        head = _places(delimiter, cells)
        if len(cells) > 1 and (best is None or len(head.places) > len(best.places)):
            best = head
    if best is None or not best.places.keys() & {"path", "label"}:
        return None
    words = [plain(name) for name in best.names]
    if {"path", "label"} - best.places.keys():
        # one word of a clip's line may be a column's name by chance; a clip's line has a path or a number too
        if any("/" in name or "." in name or name.isdigit() for name in best.names):
            return None
        missing = "paths (path, video, file, clip ...)" if "path" not in best.places else "labels (label, class ...)"
        hint = ": this is a Kinetics list, see --format kinetics" if "youtubeid" in words else ": rename it"
        raise InputError(f"{path}: line {number}: no column of {missing} in the head line {line.strip()!r}{hint}")
    if len(set(words) - set(_INDEX)) < len([word for word in words if word not in _INDEX]):
        raise InputError(f"{path}: line {number}: a column is there twice in the head line {line.strip()!r}")
    if segment := next((name for name in best.names if plain(name) in SEGMENTS), None):
        raise InputError(
            f"{path}: line {number}: column {segment!r}: parts of longer videos are not read; cut them into files, or "
            "remove the column where each file is a clip"
        )
    return best


def _places(delimiter: str, cells: Sequence[str]) -> Head:
    """Columns that a line has as a head line."""
    places: dict[str, list[tuple[int, int]]] = {}
    for at, cell in enumerate(cells):
        if kind := _KNOWN.get(plain(cell)):
            places.setdefault(kind, []).append((COLUMNS[kind].index(plain(cell)), at))
    ordered = {kind: tuple(at for _, at in sorted(candidates)) for kind, candidates in places.items()}
    return Head(delimiter, tuple(cells), ordered)
