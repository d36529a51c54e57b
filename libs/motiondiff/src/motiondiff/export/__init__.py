"""Export of motions: BVH, glTF, .blend, npz (also AMASS's), GIF, MP4 and HTML."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, cast

from icube_common.errors import InputError, unknown

if TYPE_CHECKING:
    from motiondiff.skeleton.motion import Motion

FORMATS = ("bvh", "npz", "gif", "mp4", "gltf", "glb", "blend", "html", "amass")
_WRITERS = {
    "bvh": ("bvh", "write_bvh", "scale"),
    "npz": ("npz", "write_npz", "clip_id"),
    "gif": ("images.render", "write_gif", "caption"),
    "mp4": ("images.render", "write_mp4", "caption"),
    "gltf": ("meshes.gltf", "write_gltf", "container"),
    "glb": ("meshes.gltf", "write_gltf", "container"),
    "blend": ("meshes.blend", "write_blend"),
    "amass": ("amass", "write_amass"),
}
"""Format -> module, function and the options it has."""


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
        path: the file to write, and the result.
        format: one of `FORMATS`; by default the suffix of ``path``.
        caption: text on the images of ``gif`` and ``mp4``; by default the motion's action.
        clip_id: id of the clip, a key of ``npz`` and the heading of the ``html`` page.
        scale: file units per metre, for ``bvh`` alone: 100 for centimetres.

    Raises:
        InputError: unknown format, a scale for another format than ``bvh``, a skeleton that is not SMPL's for
            ``amass``, no Blender for ``blend``, or a file that cannot be written.
    """
    name = Path(path).suffix.lstrip(".").lower() if format is None else format.lower()
    check_scale(name, scale)
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    if name == "html":
        from motiondiff.export.html.page import write_html

        return write_html([motion], path, names=[clip_id] if clip_id else None)
    options = {"scale": scale, "clip_id": clip_id, "caption": caption, "container": name}
    module, function, *keys = _WRITERS[name]
    writer = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return cast(Path, writer(motion, path, **{key: options[key] for key in keys}))


def check_scale(format: str, scale: float) -> None:
    """Raise InputError unless the scale is 1, or positive for a format without a fixed unit."""
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"--scale {scale:g}: must be a positive number of file units per metre (100: centimetres)")
    if scale != 1 and format != "bvh":
        raise InputError(f"--scale {scale:g}: {format} files are in metres, which programs convert; only bvh is scaled")
