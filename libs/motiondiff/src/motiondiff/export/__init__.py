"""Motions as files: BVH for Blender, npz for training scripts, GIF and MP4 for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from icube_common.errors import unknown

if TYPE_CHECKING:
    from motiondiff.motion import Motion

FORMATS = ("bvh", "npz", "gif", "mp4")


def write(
    motion: Motion,
    path: str | Path,
    format: str | None = None,
    *,
    caption: str | None = None,
    clip_id: str | None = None,
) -> Path:
    """Write a motion in one of `FORMATS`; the file appears whole or not at all and replaces an older one.

    Args:
        motion: the clip, metres, y-up.
        path: the file to write.
        format: one of `FORMATS`; by default what the suffix of ``path`` says.
        caption: text on the pictures of ``gif`` and ``mp4``; by default the motion's action.
        clip_id: the clip's name in its collection, recorded in ``npz``.

    Returns:
        The path written.

    Raises:
        InputError: unknown format, or a file that cannot be written.
    """
    name = Path(path).suffix.lstrip(".").lower() if format is None else format.lower()
    if name == "bvh":
        from motiondiff.export.bvh import write_bvh

        return write_bvh(motion, path)
    if name == "npz":
        from motiondiff.export.npz import write_npz

        return write_npz(motion, path, clip_id=clip_id)
    if name == "gif":
        from motiondiff.export.render import write_gif

        return write_gif(motion, path, caption=caption)
    if name == "mp4":
        from motiondiff.export.render import write_mp4

        return write_mp4(motion, path, caption=caption)
    raise unknown("format", name, FORMATS)
