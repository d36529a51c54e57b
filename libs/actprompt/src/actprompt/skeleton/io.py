"""Skeleton files: ``.npz`` with joints and their times, or a motion that motiondiff exported.

Arrays: ``joints`` (T, J, 3), ``time`` (T,) in s and ``joint_names`` (J,); of a motion ``positions``, ``fps`` and
``joint_names``.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.io.arrays import open_arrays

Skeleton = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
_ARRAYS, _MOTION = {"joints", "time"}, {"positions", "fps"}


class SkeletonFile(NamedTuple):
    """Content of a skeleton file: joints (T, J, 3), NaN where not tracked, times (T,) in s, J names or None."""

    joints: npt.NDArray[np.float32]
    time: npt.NDArray[np.float32]
    joint_names: tuple[str, ...] | None


def read_skeleton(path: str | Path, *, remedy: str) -> Skeleton:
    """Joints (T, J, 3), NaN where not tracked, and their times (T,) in s; see `read_skeleton_file`."""
    result = read_skeleton_file(path, remedy=remedy)
    return result.joints, result.time


def is_skeleton_file(path: Path) -> bool:
    """True for an ``.npz`` with the arrays of a skeleton."""
    try:
        with path.open("rb") as handle, zipfile.ZipFile(handle) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return names >= _ARRAYS or names >= _MOTION


def read_skeleton_file(path: str | Path, *, remedy: str) -> SkeletonFile:
    """Read a skeleton file.

    Args:
        path: the file.
        remedy: what its user may do if it is none; ends the message.

    Raises:
        InputError: missing, damaged, or of other arrays or shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file: {remedy}")
    with open_arrays(path, "not a skeleton file", remedy=f": {remedy}") as arrays:
        if set(arrays) >= _MOTION and "joints" not in arrays:
            joints, fps = np.asarray(arrays["positions"], dtype=np.float32), float(arrays["fps"])
            if not fps > 0:
                raise ValueError(f"fps {fps:g}")
            time = (np.arange(len(joints)) / fps).astype(np.float32)
        else:
            joints, time = (np.asarray(arrays[name], dtype=np.float32) for name in ("joints", "time"))
        names = tuple(map(str, arrays["joint_names"])) if "joint_names" in arrays else None
    if joints.ndim != 3 or joints.shape[2] != 3 or time.shape != joints.shape[:1]:
        raise InputError(f"{path}: shapes {joints.shape} and {time.shape}, (T, J, 3) and (T,) expected: {remedy}")
    if names is not None and (len(names) != joints.shape[1] or len(set(names)) < len(names)):
        raise InputError(f"{path}: {len(names)} joint_names, {joints.shape[1]} different ones expected: {remedy}")
    if np.isinf(joints).any() or not np.isfinite(time).all():
        raise InputError(f"{path}: holds infinite coordinates or times that are no numbers: {remedy}")
    return SkeletonFile(joints, time, names)


def spans_other_time(time: npt.NDArray[np.float32], duration: float) -> bool:
    """True for times (T,) in s whose span differs clearly from the duration of the video."""
    return abs(float(time[-1] - time[0]) - duration) > max(0.5, 0.25 * duration) if len(time) else True


def write_skeleton(folder: Path, clip_id: str, joints: npt.NDArray[np.float32], time: npt.NDArray[np.float32]) -> None:
    """Write ``skeleton/<id>.npz``: joints (T, J, 3), NaN where not tracked, and times (T,) in s."""
    target = folder / "skeleton" / skeleton_file(clip_id)
    target.parent.mkdir(exist_ok=True)
    np.savez(target, joints=joints.astype(np.float32), time=time.astype(np.float32))


def skeleton_file(clip_id: str) -> str:
    """The name of a clip's skeleton file: its id, folders made part of the name."""
    return clip_id.replace("%", "%25").replace("/", "%2F") + ".npz"
