"""Export of motions: BVH, glTF, .blend, npz (also AMASS's), GIF, MP4 and HTML."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from icube_common.errors import InputError, unknown

if TYPE_CHECKING:
    from motiondiff.skeleton.motion import Motion

FORMATS = ("bvh", "npz", "gif", "mp4", "gltf", "glb", "blend", "html", "amass")


def file_name(name: str, format: str) -> str:
    """File name of a motion in a folder: ``walk.bvh``; ``walk_poses.npz`` for AMASS."""
    return f"{name}_poses.npz" if format == "amass" else f"{name}.{format}"


def export(
    motion: Motion,
    path: str | Path,
    format: str | None = None,
    *,
    caption: str | None = None,
    clip_id: str | None = None,
    scale: float = 1.0,
) -> Path:
    """Write a motion in one of `FORMATS`, atomically; an older file is replaced.

    Args:
        motion: the clip, metres, y-up.
        path: the file to write.
        format: one of `FORMATS`; by default the suffix of ``path``.
        caption: text on the images of ``gif`` and ``mp4``; by default the motion's action.
        clip_id: id of the clip, a key of ``npz`` and the heading of the ``html`` page.
        scale: file units per metre, for ``bvh`` alone: 100 for centimetres.

    Returns:
        The path written.

    Raises:
        InputError: unknown format, a scale for another format than ``bvh``, a skeleton that is not SMPL's for
            ``amass``, no Blender for ``blend``, or a file that cannot be written.
    """
    name = Path(path).suffix.lstrip(".").lower() if format is None else format.lower()
    check_scale(name, scale)
    if name == "bvh":
        from motiondiff.export.bvh import write_bvh

        return write_bvh(motion, path, scale=scale)
    if name == "amass":
        from motiondiff.export.amass import write_amass

        return write_amass(motion, path)
    if name == "npz":
        from motiondiff.export.npz import write_npz

        return write_npz(motion, path, clip_id=clip_id)
    if name == "gif":
        from motiondiff.export.images.render import write_gif

        return write_gif(motion, path, caption=caption)
    if name == "mp4":
        from motiondiff.export.images.render import write_mp4

        return write_mp4(motion, path, caption=caption)
    if name in ("gltf", "glb"):
        from motiondiff.export.meshes.gltf import write_gltf

        return write_gltf(motion, path, container=name)
    if name == "blend":
        from motiondiff.export.meshes.blend import write_blend

        return write_blend(motion, path)
    if name == "html":
        from motiondiff.export.html.page import write_html

        return write_html([motion], path, names=[clip_id] if clip_id else None)
    raise unknown("format", name, FORMATS)


def check_scale(format: str, scale: float) -> None:
    """Raise InputError unless the scale is 1, or positive for a format without a fixed unit."""
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"--scale {scale:g}: must be a positive number of file units per metre (100: centimetres)")
    if scale != 1 and format != "bvh":
        raise InputError(f"--scale {scale:g}: {format} files are in metres, which programs convert; only bvh is scaled")
