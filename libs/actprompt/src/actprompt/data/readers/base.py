"""Interface of readers (a folder in, clips with labels and protocols out), and the search for files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import numpy.typing as npt

from actprompt.data.manifest import Clip, Protocol
from actprompt.data.video.frame_folder import is_image
from actprompt.skeleton.io import read_skeleton_file
from actprompt.skeleton.joint_angles import LIMB_JOINTS
from icube_common.errors import InputError


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
        times: clip id -> (T,) as shares of the clip's duration, or in s.
        seconds: the times are in s.
    """

    joint_names: Sequence[str]
    unit: str
    sequences: Mapping[str, npt.NDArray[np.float32]]
    times: Mapping[str, npt.NDArray[np.float32]]
    seconds: bool = False


@dataclass(frozen=True, kw_only=True)
class ReaderResult:
    """Result of a reader, before any video is opened.

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
        description: further entries of ``dataset.json``.
        warnings: about the set, one line each.
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
    description: Mapping[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Reader(Interface):
    """Interface of a reader module."""

    def find(self, source: Path, splits: Path | None = None) -> ReaderResult:
        """The clips of a source; opens no video.

        InputError where nothing of the format is there, or a file of splits is damaged.
        """
        ...


def read_skeletons(files: Mapping[str, Path]) -> Skeletons | None:
    """Skeletons of clips from their files (`actprompt.skeleton.io`), in metres; None without any.

    Args:
        files: clip id -> its skeleton file.

    Raises:
        InputError: a file that cannot be read, has no ``joint_names``, or other ones than the first file.
    """
    remedy = "give an .npz with joints (T, J, 3), time (T,) in s and joint_names (J,)"
    names: tuple[str, ...] = ()
    sequences, times = {}, {}
    for clip, path in files.items():
        joints, time, file_names = read_skeleton_file(path, remedy=remedy)
        if file_names is None:
            raise InputError(f"{path}: no joint_names in it: {remedy}")
        names = names or file_names
        if file_names != names:
            first = next(iter(files.values()))
            odd = next((f"{a!r} and {b!r}" for a, b in zip(names, file_names, strict=False) if a != b), "")
            counts = f"{len(names)} and {len(file_names)} joints" if len(names) != len(file_names) else odd
            raise InputError(f"{path}: other joint_names than {first} ({counts}): a set has one skeleton")
        # a clip without any tracked joint has no skeleton
        if not np.isnan(joints).all():
            sequences[clip], times[clip] = joints, time
    unit = "unit directions" if names == LIMB_JOINTS else "m"
    if not sequences:
        return None
    return Skeletons(joint_names=names, unit=unit, sequences=sequences, times=times, seconds=True)


def find_videos(root: Path, expected: str) -> tuple[list[Path], list[Rejection]]:
    """Every file below a folder that may be a video, and images and audio files as rejected.

    Side files (hidden ones, lists, annotations, documents) are in neither; see `actprompt.data.readers.base`.

    Raises:
        InputError: there is no such file, or a folder cannot be read.
    """
    scan = scan_folder(root)
    if not scan.files:
        others = f" ({len(scan.images)} images, {len(scan.sounds)} audio files)" if scan.images + scan.sounds else ""
        raise InputError(f"{root}: no video in it{others}; expected {expected}")
    return scan.files, reject_media(scan, root)


def reject_media(scan: FolderScan, root: Path) -> list[Rejection]:
    """Rejections of single images and audio files."""
    reasons = [(path, "an image, not a video") for path in scan.images]
    reasons += [(path, "an audio file, not a video") for path in scan.sounds]
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
    unique: dict[str, Path] = {}
    rejected = []
    for path in files:
        stem = path.stem.lower()
        if stem in unique:
            reason = f"the same clip as {unique[stem].relative_to(root).as_posix()}"
            rejected.append(Rejection(path.name, path.relative_to(root).as_posix(), reason))
        else:
            unique[stem] = path
    return list(unique.values()), rejected


def read_names(
    root: Path, expected: str, read_name: Callable[[str, str], Clip | Rejection]
) -> tuple[list[Clip], list[Rejection]]:
    """Clips and rejections of a set with all labels in its file names.

    Args:
        root: the set's folder.
        expected: what its files are called, for messages.
        read_name: (file name, path below the root) -> clip, or rejection of an unreadable name.

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


VIDEO_SUFFIXES = (
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg",
    ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogg", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm",
    ".wmv", ".xvid",
)  # fmt: skip
"""The usual suffixes of videos: what a list that names no suffix may mean, and what comes first among equal names."""
AUDIO_SUFFIXES = (".aac", ".aif", ".aiff", ".amr", ".flac", ".m4a", ".mp3", ".oga", ".opus", ".wav", ".wma")
SIDE_SUFFIXES = (
    ".ass", ".bat", ".bvh", ".c3d", ".cfg", ".cff", ".csv", ".doc", ".docx", ".eaf", ".h5", ".hdf5", ".htm", ".html",
    ".ini", ".ipynb", ".json", ".jsonl", ".log", ".m", ".mat", ".md", ".md5", ".nfo", ".npy", ".npz", ".parquet",
    ".pdf", ".pickle", ".pkl", ".py", ".rst", ".rtf", ".sh", ".sha1", ".sha256", ".skeleton", ".srt", ".ssa", ".tex",
    ".toml", ".tsv", ".txt", ".url", ".vtt", ".xls", ".xlsx", ".xml", ".yaml", ".yml",
)  # fmt: skip
"""Lists, annotations, subtitles, documents, scripts and arrays that lie beside videos."""
SIDE_NAMES = ("authors", "citation", "copying", "desktop.ini", "license", "licence", "notice", "readme", "thumbs.db")


@dataclass
class FolderScan:
    """Files below a folder.

    Attributes:
        files: candidates for a clip, sorted; among files that differ only in their suffix the usual ones come first.
        images: still images that belong to no folder of frames.
        sounds: audio files.
        frame_folders: folders of frames, sorted.
        side_files: how many hidden files, lists, annotations and documents were passed over.
        empty: folders directly below the root without anything that could be a clip in them.
    """

    files: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    sounds: list[Path] = field(default_factory=list)
    frame_folders: list[Path] = field(default_factory=list)
    side_files: int = 0
    empty: list[Path] = field(default_factory=list)


def scan_folder(root: Path, *, frames: bool = False) -> FolderScan:
    """Look through a folder, through links to folders too.

    Args:
        root: the folder.
        frames: whether folders of frames below it are clips; otherwise their images are single ones.

    Raises:
        InputError: a folder cannot be read.
    """
    scan = FolderScan()
    tops = []
    for folder, names in _walk(root):
        if folder.parent == root:
            tops.append(folder)
        others = [name for name in names if not is_side_file(name)]
        scan.side_files += len(names) - len(others)
        if frames and folder != root and len(others) > 1 and all(is_image(name) for name in others):
            scan.frame_folders.append(folder)
            continue
        for name in others:
            if is_image(name):
                scan.images.append(folder / name)
            elif os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                scan.sounds.append(folder / name)
            else:
                scan.files.append(folder / name)
    scan.files.sort(
        key=lambda path: (path.with_name(path.stem), path.suffix.lower() not in VIDEO_SUFFIXES, path.suffix)
    )
    for paths in (scan.images, scan.sounds, scan.frame_folders):
        paths.sort()
    used = {*scan.files, *scan.frame_folders}
    filled = {parent for path in used for parent in (path, *path.parents)}
    scan.empty = sorted(path for path in tops if path not in filled)
    return scan


def is_side_file(name: str) -> bool:
    """True for the name of a hidden file, or of a list, document or annotation beside the videos."""
    small = name.lower()
    return name.startswith(".") or os.path.splitext(small)[1] in SIDE_SUFFIXES or small in SIDE_NAMES


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """(folder, names of its files) of a folder and all below it but hidden ones; a link into itself is not followed."""
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(root, (root.resolve(),))]
    while waiting:
        folder, above = waiting.pop()
        names = []
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if not entry.is_dir():
                        names.append(entry.name)
                    elif not entry.name.startswith("."):
                        below = folder / entry.name
                        if (place := below.resolve()) not in above:
                            waiting.append((below, (*above, place)))
        except OSError as error:
            raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
        yield folder, names
