"""Files below a folder: candidates for a clip, folders of frames, and side files that are only counted.

Whether a candidate is a video is decided by opening it, not by its suffix: phones, cameras and screen recorders write
``.MTS``, ``.m2ts``, ``.3gp``, ``.vob``, ``.dat`` and many more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from actprompt.frame_folder import is_image
from icube_common.errors import InputError

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
class Scan:
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


def scan_folder(root: Path, *, frames: bool = False) -> Scan:
    """Look through a folder, through links to folders too.

    Args:
        root: the folder.
        frames: whether folders of frames below it are clips; otherwise their images are single ones.

    Raises:
        InputError: a folder cannot be read.
    """
    found = Scan()
    tops = []
    for folder, names in _walk(root):
        if folder.parent == root:
            tops.append(folder)
        others = [name for name in names if not is_side_file(name)]
        found.side_files += len(names) - len(others)
        if frames and folder != root and len(others) > 1 and all(is_image(name) for name in others):
            found.frame_folders.append(folder)
            continue
        for name in others:
            if is_image(name):
                found.images.append(folder / name)
            elif os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                found.sounds.append(folder / name)
            else:
                found.files.append(folder / name)
    found.files.sort(
        key=lambda path: (path.with_name(path.stem), path.suffix.lower() not in VIDEO_SUFFIXES, path.suffix)
    )
    for paths in (found.images, found.sounds, found.frame_folders):
        paths.sort()
    used = {*found.files, *found.frame_folders}
    filled = {parent for path in used for parent in (path, *path.parents)}
    found.empty = sorted(path for path in tops if path not in filled)
    return found


def is_side_file(name: str) -> bool:
    """Whether a name is of a hidden file, or of one that lies beside videos and is none."""
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
