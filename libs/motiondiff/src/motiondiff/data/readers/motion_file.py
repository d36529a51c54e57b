"""Motion files of users: one .npz, .bvh or .npy file, read by its suffix."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from icube_common.errors import InputError
from motiondiff.skeleton.motion import Motion

# suffix -> format
READABLE = {".npz": "npz", ".bvh": "bvh", ".npy": "npy"}


def read_motion(path: str | Path, *, up: str = "auto", unit: str = "auto", source_fps: float | None = None) -> Motion:
    """The motion of an .npz, .bvh or .npy file.

    Args:
        path: the file.
        up: up axis of a BVH file, or ``auto``.
        unit: unit of length of a BVH file, or ``auto``.
        source_fps: frames per second, replacing a BVH file's own.

    Raises:
        InputError: missing, another kind of file, broken, or several motions; or an option for a file that needs
            none.
    """
    motions = read_motions(path, up=up, unit=unit, source_fps=source_fps)
    if len(motions) > 1:
        raise InputError(
            f"{path}: holds {len(motions)} motions, one expected: `motiondiff export {path} --to npz --out DIR` "
            "makes a file of each"
        )
    return next(iter(motions.values()))


def read_motions(
    path: str | Path, *, up: str = "auto", unit: str = "auto", source_fps: float | None = None
) -> dict[str, Motion]:
    """Motions of an .npz (motiondiff's or AMASS's), .bvh or .npy file by name; a single one has the file's name.

    Args:
        path: the file.
        up: as `read_motion`, like the next two.
        unit: unit of length.
        source_fps: frames per second.

    Raises:
        InputError: missing, another kind of file, or broken; or an option for a file that needs none.
    """
    from motiondiff.data.readers import check_conventions, get_reader
    from motiondiff.data.readers.base import Rejection

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix.lower() not in READABLE:
        raise InputError(f"{path}: only .npz, .bvh and .npy files can be read as motions")
    format = "amass" if _is_amass(path) else READABLE[path.suffix.lower()]
    options: dict[str, Any] = {"up": up, "unit": unit, "source_fps": source_fps}
    check_conventions(format, options)
    set_options = {name: value for name, value in options.items() if value not in ("auto", None)}
    reader = get_reader(format)
    # label files of AMASS beside the file are for `prepare`
    reference = replace(reader.find_clips(path)[0], files=(path,))
    motions: dict[str, Motion] = {}
    for clip in reader.read_clips(reference, **set_options):
        if isinstance(clip, Rejection):
            raise InputError(f"{'' if str(path) in clip.reason else f'{path}: '}{clip.reason}")
        motions[clip.clip_id.removeprefix(f"{reference.clip_id}/")] = clip.motion
    return motions


def _is_amass(path: Path) -> bool:
    """True for an .npz with AMASS's arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"poses.npy", "trans.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
