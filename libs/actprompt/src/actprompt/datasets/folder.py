"""A folder per class: ``<class>/.../<any name>.mp4``. The first folder below the source names the class."""

from __future__ import annotations

from pathlib import Path

from actprompt.datasets.base import Found, Rejection, find_videos, ids_of, require_folder
from actprompt.manifest import Clip


def find(source: Path, splits: Path | None = None) -> Found:
    """One clip a video; a video that lies in no class folder is rejected.

    Raises:
        InputError: no folder, or no video in it.
    """
    root = require_folder(source, "a folder with one folder of videos per class")
    files = find_videos(root, "one folder of videos per class")
    clips, rejected = [], []
    for path, name in ids_of(files, root).items():
        parts = path.relative_to(root).parts
        if len(parts) > 1:
            clips.append(Clip(id=name, path="/".join(parts), label=parts[0]))
        else:
            rejected.append(Rejection(name, parts[0], "in no class folder"))
    return Found(
        title=root.name,
        citation="",
        root=root,
        clips=clips,
        rejected=rejected,
        class_names=sorted({clip.label for clip in clips}),
        protocols=[],
    )
