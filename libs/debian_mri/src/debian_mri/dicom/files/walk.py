"""Files below a folder, through links to folders and files, each once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def walk(folder: Path) -> Iterator[tuple[Path, list[Path], str]]:
    """Walk over a folder and its subfolders, with files sorted by name and without hidden ones.

    Linked folders are followed, each folder once however many links lead to it. A link to a file counts as that file
    unless the file itself is found as well.

    Yields:
        Folder, its files, and the error of an unreadable folder (empty if none).
    """
    real_root = folder.resolve()
    visited: set[str] = set()
    linked: set[str] = set()
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        real = os.path.realpath(parent)
        if real in visited:
            continue
        visited.add(real)
        folders: list[Path] = []
        files: list[Path] = []
        try:
            with os.scandir(parent) as scan:
                entries = sorted((one for one in scan if not one.name.startswith(".")), key=lambda one: one.name)
        except OSError as error:
            yield parent, [], type(error).__name__
            continue
        for entry in entries:
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                # a linked folder that lies below the root is found there
                if not entry.is_symlink() or not _is_below_root(Path(entry.path), real_root):
                    folders.append(Path(entry.path))
            elif not entry.is_symlink():
                files.append(Path(entry.path))
            else:
                target = os.path.realpath(entry.path)
                if not os.path.exists(target) or (
                    target not in linked and not _is_below_root(Path(entry.path), real_root)
                ):
                    files.append(Path(entry.path))
                    linked.add(target)
        waiting += reversed(folders)
        yield parent, files, ""


def _is_below_root(link: Path, real_root: Path) -> bool:
    """True for a link to a path below the root that is not hidden."""
    target = link.resolve()
    if not target.is_relative_to(real_root):
        return False
    return not any(part.startswith(".") for part in target.relative_to(real_root).parts)
