"""Motions as files: BVH, glTF and .blend for programs, npz for training scripts, GIF, MP4 and HTML for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from icube_common.errors import unknown

if TYPE_CHECKING:
    from motiondiff.motion import Motion

FORMATS = ("bvh", "npz", "gif", "mp4", "gltf", "glb", "blend", "html")


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
        clip_id: the clip's name in its collection, recorded in ``npz`` and heading of the ``html`` page.

    Returns:
        The path written.

    Raises:
        InputError: unknown format, no Blender for ``blend``, or a file that cannot be written.
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
    if name in ("gltf", "glb"):
        from motiondiff.export.gltf import write_gltf

        return write_gltf(motion, path, container=name)
    if name == "blend":
        from motiondiff.export.blend import write_blend

        return write_blend(motion, path)
    if name == "html":
        from motiondiff.export.html import write_html

        return write_html([motion], path, names=[clip_id] if clip_id else None)
    raise unknown("format", name, FORMATS)
