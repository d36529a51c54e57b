"""Output of exporters: files written whole, rotation matrices checked, quaternions continuous over time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from einops import rearrange

from icube_common.errors import InputError
from icube_common.io.runs import atomic_file
from motiondiff.skeleton.motion import Motion


@contextlib.contextmanager
def output_file(path: str | Path) -> Iterator[Path]:
    """A temporary file, renamed to ``path`` at the end of the block without an error; an existing file is replaced.

    Raises:
        InputError: ``path`` is a folder, or the system refuses to write there.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target}: is a folder, a file expected")
    try:
        with atomic_file(target) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error


def check_rotations(motion: Motion, format: str) -> None:
    """Raise InputError for matrices that are not rotations, up to float32 rounding.

    Args:
        motion: the clip.
        format: name of the format, for the message.

    Raises:
        InputError: a matrix is not orthonormal with determinant 1; the message has joint and frame.
    """
    matrices = motion.rotations
    error = np.abs(matrices @ matrices.swapaxes(-1, -2) - np.eye(3, dtype=np.float32)).max((-2, -1))
    bad = (error > 1e-3) | (np.linalg.det(matrices) < 0)
    if bad.any():
        frame, joint = (int(index) for index in np.argwhere(bad)[0])
        raise InputError(
            f"{motion.source or 'motion'}: joint {motion.skeleton.names[joint]!r} in frame {frame} is not a rotation "
            f"(orthonormal with determinant 1), as {format} requires"
        )


def continuous_quaternions(rotations: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Unit quaternions with signs for the short interpolation between neighbouring frames.

    Args:
        rotations: (T, J, 3, 3) rotation matrices.

    Returns:
        (T, J, 4) in the order x, y, z, w; of ``q`` and ``-q`` the one nearer to the previous frame.
    """
    from scipy.spatial.transform import Rotation

    matrices = np.asarray(rotations, dtype=np.float64)
    flat = Rotation.from_matrix(rearrange(matrices, "t j row column -> (t j) row column")).as_quat()
    quaternions = rearrange(flat, "(t j) xyzw -> t j xyzw", t=len(matrices))
    turned = (quaternions[1:] * quaternions[:-1]).sum(-1) < 0
    signs = np.cumprod(np.where(turned, -1.0, 1.0), axis=0)
    quaternions[1:] *= signs[..., None]
    return np.asarray(quaternions, dtype=np.float64)
