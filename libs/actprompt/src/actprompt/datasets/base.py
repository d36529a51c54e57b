"""What every reader takes and gives: a folder in, clips with their labels and protocols out; and finding files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import numpy.typing as npt

from actprompt.datasets.scan import Scan, scan_folder
from actprompt.manifest import Clip, Protocol
from icube_common.errors import InputError


@dataclass(frozen=True)
class ReaderInfo:
    """A format by name, the module that reads it, one line for people.

    Attributes:
        split_files: it has official files of splits, which ``--splits`` names.
        lists: its source is a list of clips, or one for each part of a split.
        official: its classes are those of a published set; ``--class-names`` does not go with it.
    """

    name: str
    module: str
    description: str
    split_files: bool = False
    lists: bool = False
    official: bool = True


@dataclass(frozen=True)
class Rejection:
    """A clip that cannot be used, and why, in one line."""

    id: str
    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Skeletons:
    """Joint sequences that come with a set.

    Attributes:
        joint_names: J names.
        unit: what the coordinates are in.
        sequences: clip id -> (T, J, 3), NaN where a joint was not tracked.
        times: clip id -> (T,) as shares of the clip's duration.
    """

    joint_names: Sequence[str]
    unit: str
    sequences: Mapping[str, npt.NDArray[np.float32]]
    times: Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a reader has found, before any video is opened.

    Attributes:
        title: the set's name.
        citation: the paper that defines it.
        root: what the clips' paths start from.
        clips: without frames, fps and duration.
        rejected: files and rows that are no clip.
        class_names: all classes of the set, in its own order.
        class_texts: classes whose name in words is not plain from their label.
        protocols: how the set is divided.
        skeletons: its joint sequences, where it has some.
        notes: further entries of ``dataset.json``.
        warnings: what a user has to know about the set, one line each.
    """

    title: str
    citation: str
    root: Path
    clips: list[Clip]
    rejected: list[Rejection]
    class_names: list[str]
    protocols: list[Protocol]
    class_texts: Mapping[str, str] = field(default_factory=dict)
    skeletons: Skeletons | None = None
    notes: Mapping[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Reader(Interface):
    """Interface of a reader module."""

    def find(self, source: Path, splits: Path | None = None) -> Found:
        """The clips of a source; opens no video.

        InputError where nothing of the format is there, or a file of splits is damaged.
        """
        ...


def require_folder(path: Path, expected: str) -> Path:
    """The folder, with links resolved.

    Raises:
        InputError: it is none.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected {expected}")
    return path.resolve()


def find_videos(root: Path, expected: str) -> tuple[list[Path], list[Rejection]]:
    """Every file below a folder that may be a video, and images and audio files as rejected.

    Side files (hidden ones, lists, annotations, documents) are in neither; see `actprompt.datasets.scan`.

    Raises:
        InputError: there is no such file, or a folder cannot be read.
    """
    found = scan_folder(root)
    if not found.files:
        others = (
            f" ({len(found.images)} images, {len(found.sounds)} audio files)" if found.images + found.sounds else ""
        )
        raise InputError(f"{root}: no video in it{others}; expected {expected}")
    return found.files, reject_media(found, root)


def reject_media(found: Scan, root: Path) -> list[Rejection]:
    """Rejections of single images and audio files."""
    reasons = [(path, "an image, not a video") for path in found.images]
    reasons += [(path, "an audio file, not a video") for path in found.sounds]
    return [Rejection(path.name, path.relative_to(root).as_posix(), reason) for path, reason in reasons]


def ids_of(files: Iterable[Path], root: Path) -> dict[Path, str]:
    """An id for each file: its name where no other file has it, else its path below the root."""
    files = list(files)
    times = Counter(path.name for path in files)
    return {path: path.name if times[path.name] == 1 else path.relative_to(root).as_posix() for path in files}


def first_of_each(files: Iterable[Path], root: Path) -> tuple[list[Path], list[Rejection]]:
    """Files of distinct names; a further file of a name that is there already is rejected.

    For sets whose file names are unique: a copy of a clip in another folder would stand on both sides of a split.
    """
    kept: dict[str, Path] = {}
    rejected = []
    for path in files:
        stem = path.stem.lower()
        if stem in kept:
            reason = f"the same clip as {kept[stem].relative_to(root).as_posix()}"
            rejected.append(Rejection(path.name, path.relative_to(root).as_posix(), reason))
        else:
            kept[stem] = path
    return list(kept.values()), rejected


def read_names(
    root: Path, expected: str, read_name: Callable[[str, str], Clip | Rejection]
) -> tuple[list[Clip], list[Rejection]]:
    """Clips and rejections of a set whose file names say everything.

    Args:
        root: the set's folder.
        expected: what its files are called, for messages.
        read_name: (file name, path below the root) -> what the name says, or why it says nothing.

    Raises:
        InputError: no video.
    """
    videos, media = find_videos(root, expected)
    files, rejected = first_of_each(videos, root)
    rejected += media
    clips = []
    for path in files:
        item = read_name(path.name, path.relative_to(root).as_posix())
        if isinstance(item, Clip):
            clips.append(item)
        else:
            rejected.append(item)
    return clips, rejected


def in_order(names: Iterable[str], clips: Iterable[Clip]) -> list[str]:
    """Those names that are a label of a clip, in the order given."""
    present = {clip.label for clip in clips}
    return [name for name in names if name in present]
