"""Skeleton files: ``.npz`` with joints and their times."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError

Skeleton = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def read_skeleton(path: str | Path, *, remedy: str) -> Skeleton:
    """Joints (T, J, 3), NaN where not tracked, and their times (T,) in s.

    Args:
        path: the file.
        remedy: what its user may do if it is none; ends the message.

    Raises:
        InputError: missing, damaged, or of other arrays or shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file: {remedy}")
    try:
        with path.open("rb") as handle:
            archive = np.load(handle, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("one array, not an .npz of several")
            with archive as arrays:
                joints, time = (np.asarray(arrays[name], dtype=np.float32) for name in ("joints", "time"))
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not a skeleton file ({error}): {remedy}") from error
    if joints.ndim != 3 or joints.shape[2] != 3 or time.shape != joints.shape[:1]:
        raise InputError(f"{path}: shapes {joints.shape} and {time.shape}, (T, J, 3) and (T,) expected: {remedy}")
    if np.isinf(joints).any() or not np.isfinite(time).all():
        raise InputError(f"{path}: holds infinite coordinates or times that are no numbers: {remedy}")
    return joints, time


def write_skeleton(folder: Path, clip_id: str, joints: npt.NDArray[np.float32], time: npt.NDArray[np.float32]) -> None:
    """Write ``skeleton/<id>.npz``: joints (T, J, 3), NaN where not tracked, and times (T,) in s."""
    target = folder / "skeleton" / skeleton_file(clip_id)
    target.parent.mkdir(exist_ok=True)
    np.savez(target, joints=joints.astype(np.float32), time=time.astype(np.float32))


def skeleton_file(clip_id: str) -> str:
    """The name of a clip's skeleton file: its id, folders made part of the name."""
    return clip_id.replace("%", "%25").replace("/", "%2F") + ".npz"
