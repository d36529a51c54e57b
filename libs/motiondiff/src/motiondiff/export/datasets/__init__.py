"""Export of data sets for action recognition: pyskl, CTR-GCN and NTU files, videos with skeletons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from icube_common.errors import InputError, unknown

if TYPE_CHECKING:
    from motiondiff.data.clips import ClipSet

VIDEO_FOLDER = "video-folder"
"""Format of `motiondiff.export.datasets.video_folder`, which takes a store."""
FORMATS = ("pyskl", "ctr-gcn", "ntu-skeleton", VIDEO_FOLDER)


def export_dataset(clips: ClipSet, path: str | Path, format: str, *, joint_names: tuple[str, ...] = ()) -> None:
    """Write a data set: ``pyskl`` and ``ctr-gcn`` a file and a list of class names, ``ntu-skeleton`` a folder.

    Args:
        clips: with unique ids and with splits.
        path: the file, or the (existing, empty) folder.
        format: one of `FORMATS`.
        joint_names: written beside the files of ``ntu-skeleton``.

    Raises:
        InputError: an unknown format, or a data set that the format cannot represent.
    """
    if not len(clips) or not clips.splits or len(set(clips.ids)) < len(clips):
        raise InputError(f"data set: {len(clips)} clips; at least one, unique ids and a split of each are needed")
    if format == "pyskl":
        from motiondiff.export.datasets.pyskl import write_pyskl

        write_pyskl(clips, path)
    elif format == "ctr-gcn":
        from motiondiff.export.datasets.ctr_gcn import write_ctr_gcn

        write_ctr_gcn(clips, path)
    elif format == "ntu-skeleton":
        from motiondiff.export.datasets.ntu_skeleton import write_ntu_skeletons

        write_ntu_skeletons(clips, path, joint_names)
    else:
        raise unknown("format", format, FORMATS)
