"""motiondiff's own .npz files, one clip each: rotations, or positions to fit.

Keys of an ``.npz`` (metres, y up):

    root (T, 3), rotations (T, J, 3, 3), offsets (J, 3)     the motion; `positions` is then compared with it
    positions (T, J, 3)                                     alone: rotations by `skeleton.inverse_kinematics`
    joint_names (J,), parents (J,), fps                     always
    action, tag (the style), subject, clip_id               text, optional; empty is none
    texts (N,)                                              captions, optional

Nothing is unpickled: a file with object arrays is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, file_references, load_arrays, resample
from motiondiff.skeleton.inverse_kinematics import estimate_skeleton, fit_motion
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

MAX_FILE_BYTES = 2 * 1024**3
"""Bytes, unpacked; a clip is far smaller."""
POSITION_TOLERANCE = 0.01
"""Metres: maximum mean distance between ``positions`` and the motion of one file."""

_NUMBERS = ("root", "rotations", "offsets", "positions", "parents", "fps")
_TEXTS = ("action", "tag", "subject", "clip_id")


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per .npz file below a folder, or the file itself."""
    return file_references("npz", folder, ".npz", "motion files (*.npz)")


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """The one clip of a file, with the reference's id: ids inside files may repeat in a folder."""
    return [Clip(ref.clip_id, resample(read_npz(ref.files[0]), fps))]


def read_npz(path: Path) -> Motion:
    """A motion from one of motiondiff's own files.

    Raises:
        InputError: not such a file, missing keys, wrong shapes, values that are not finite, matrices that are not
            rotations, or positions that contradict the rotations.
    """
    path = Path(path)
    arrays = load_arrays(path, (*_NUMBERS, *_TEXTS, "texts", "joint_names"), max_bytes=MAX_FILE_BYTES)
    for key in ("joint_names", "parents", "fps"):
        if key not in arrays:
            raise InputError(f"{path}: no {key!r} in it (has {', '.join(sorted(arrays)) or 'nothing'})")
    for key in _NUMBERS:
        if key in arrays and arrays[key].dtype.kind not in "fiu":
            raise InputError(f"{path}: {key} holds {arrays[key].dtype}, numbers expected")
    texts = {key: _text(arrays, key, path) for key in _TEXTS}
    if arrays["fps"].size != 1:
        raise InputError(f"{path}: fps holds {arrays['fps'].size} values, one expected")
    names = tuple(str(name) for name in arrays["joint_names"].ravel())
    parents = tuple(int(parent) for parent in arrays["parents"].ravel())
    labels: dict[str, Any] = {"action": texts["action"], "style": texts["tag"], "subject": texts["subject"]}
    labels |= {"fps": float(arrays["fps"].ravel()[0]), "source": path.name}
    described = arrays.get("texts", np.array([], dtype=np.str_))
    if described.ndim != 1 or described.dtype.kind != "U":
        raise InputError(f"{path}: texts must be a list of texts")
    labels["texts"] = tuple(str(text) for text in described if str(text).strip())
    try:
        if "rotations" in arrays:
            motion = _from_rotations(arrays, names, parents, labels)
        elif "positions" in arrays:
            motion = fit_motion(arrays["positions"], estimate_skeleton([arrays["positions"]], names, parents), **labels)
        else:
            raise InputError("neither 'rotations' nor 'positions' in it")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return motion


def _from_rotations(
    arrays: dict[str, Any], names: tuple[str, ...], parents: tuple[int, ...], labels: dict[str, Any]
) -> Motion:
    for key in ("root", "offsets"):
        if key not in arrays:
            raise InputError(f"rotations without {key!r}")
    motion = Motion(arrays["root"], arrays["rotations"], Skeleton(names, parents, arrays["offsets"]), **labels)
    turns = motion.rotations.astype(np.float64)
    off = np.abs(turns @ np.swapaxes(turns, -1, -2) - np.eye(3)).max(axis=(1, 2, 3))
    improper = (np.linalg.det(turns) < 0).any(axis=1)
    if off.max() > 1e-2 or improper.any():
        frame = int(np.argmax(np.where(improper, np.inf, off)))
        raise InputError(f"frame {frame}: a matrix in rotations is not a rotation")
    # rounding leaves matrices slightly off: the nearest rotations
    turns = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_matrix().reshape(turns.shape)
    motion = Motion(motion.root, turns, motion.skeleton, **labels)
    if "positions" in arrays:
        positions = np.asarray(arrays["positions"], dtype=np.float64)
        if positions.shape != motion.positions.shape:
            raise InputError(f"positions {positions.shape} and rotations {motion.rotations.shape} do not fit together")
        distance = float(np.linalg.norm(positions - motion.positions, axis=-1).mean())
        if not distance <= POSITION_TOLERANCE:
            raise InputError(f"positions and rotations are {distance:.3f} m apart on average: not the same clip")
    return motion


def _text(arrays: dict[str, Any], key: str, path: Path) -> str | None:
    if key not in arrays:
        return None
    if arrays[key].size != 1 or arrays[key].dtype.kind != "U":
        raise InputError(f"{path}: {key} must be one text")
    return str(arrays[key].ravel()[0]).strip() or None
