"""BVH export: rotations unchanged, so that reading the file gives the motion again.

The file is in metres by default (``scale=1``), the unit of everything else here and of Blender, where
*File > Import > Motion Capture (.bvh)* with *Scale* 1 then gives a person of natural size. Programs that think in
centimetres want ``scale=100``. Axes stay y-up, which BVH importers expect.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from einops import rearrange

from icube_common.errors import InputError
from motiondiff.export.body import leaf_tip, median_bone_length
from motiondiff.export.output import check_rotations, output_file
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

_ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
_LOCKED = 1e-7  # cosine of the middle angle below which the other two angles are undetermined (as in scipy)


def write_bvh(motion: Motion, path: str | Path, *, scale: float = 1.0, order: str = "ZXY") -> Path:
    """Write a motion as BVH: six channels for the root, three rotations for every other joint.

    Joints are depth first, as the format requires, so their order may differ from the skeleton's; names are unchanged
    (white space and braces, invalid in BVH, become ``_``). Leaf joints have an End Site in the direction of their own
    bone, so that they are visible.

    Args:
        motion: the clip, metres, y-up.
        path: the file to write, and the result; replaced where it exists.
        scale: file units per metre: 1 metres, 100 centimetres.
        order: order of the rotation channels; ``"ZXY"`` means ``R = Rz Rx Ry``.

    Raises:
        InputError: unknown order, scale not positive, matrices that are not rotations, or a file that cannot be
            written.
    """
    order = order.upper()
    if order not in _ORDERS:
        raise InputError(f"order {order!r}: must be one of {', '.join(_ORDERS)}")
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale {scale}: must be a positive number of file units per metre")
    check_rotations(motion, "BVH")
    skeleton = motion.skeleton
    decimals = max(2, 7 - math.floor(math.log10(scale)))  # a tenth of a micrometre, whatever the unit
    rotation_channels = " ".join(f"{axis}rotation" for axis in order)
    sequence = _depth_first(skeleton.parents)
    lines = ["HIERARCHY", *_hierarchy(skeleton, _bvh_names(skeleton.names), rotation_channels, scale, decimals)]
    lines += ["MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / motion.fps:.10f}"]
    angles = np.degrees(continuous_euler(motion.rotations, order))[:, sequence]
    root = motion.root.astype(np.float64) * scale
    for position, row in zip(root, rearrange(angles, "t j angle -> t (j angle)"), strict=True):
        lines.append(f"{_numbers(position, decimals)} {_numbers(row, 7)}")
    with output_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(path)


def continuous_euler(rotations: npt.ArrayLike, order: str) -> npt.NDArray[np.float64]:
    """Intrinsic Euler angles that run on smoothly over time, so that interpolated frames do not spin.

    Of the two triples that give the same rotation, ``(a, b, c)`` and ``(a + pi, pi - b, c + pi)``, each with any
    number of whole turns, every frame takes the one nearest to the frame before. In gimbal lock, where only the sum
    or the difference of the outer angles is determined, the last angle stays what it was.

    Args:
        rotations: (T, J, 3, 3) rotation matrices.
        order: three different letters of ``XYZ``; ``"ZXY"`` means ``R = Rz(a) Rx(b) Ry(c)``.

    Returns:
        (T, J, 3) radians, not limited to one turn.
    """
    from scipy.spatial.transform import Rotation

    matrices = np.asarray(rotations, dtype=np.float64)
    frames, joints = matrices.shape[:2]
    with warnings.catch_warnings():
        # in gimbal lock scipy warns that it set the last angle to zero; the loop below sets it anew
        warnings.filterwarnings("ignore", message="Gimbal lock")
        flat = Rotation.from_matrix(rearrange(matrices, "t j row column -> (t j) row column")).as_euler(order)
    angles = rearrange(flat, "(t j) angle -> t j angle", t=frames, j=joints)
    parity = 1.0 if order in ("XYZ", "YZX", "ZXY") else -1.0
    for previous, current in itertools.pairwise(angles):
        locked = np.abs(np.cos(current[:, 1])) < _LOCKED
        sign = parity * np.sign(current[locked, 1])
        current[locked, 0] += sign * (current[locked, 2] - previous[locked, 2])
        current[locked, 2] = previous[locked, 2]
        twin = np.stack((current[:, 0] + np.pi, np.pi - current[:, 1], current[:, 2] + np.pi), axis=-1)
        both = np.stack((current, twin))
        both += 2 * np.pi * np.round((previous - both) / (2 * np.pi))
        use_twin = np.abs(both[1] - previous).sum(-1) < np.abs(both[0] - previous).sum(-1)
        current[:] = np.where(use_twin[:, None], both[1], both[0])
    return angles


def _depth_first(parents: Sequence[int]) -> list[int]:
    """Joints in the order in which the hierarchy names them: parent, then each child with all that hangs on it."""
    sequence, stack = [], [0]
    while stack:
        joint = stack.pop()
        sequence.append(joint)
        stack += [child for child in reversed(range(len(parents))) if parents[child] == joint]
    return sequence


def _bvh_names(names: Sequence[str]) -> list[str]:
    """Names that survive a format whose words end at white space; unique, and unchanged where they already are fit."""
    fit = [re.sub(r"[\s{}]+", "_", name) or "_" for name in names]
    taken = {name for name, original in zip(fit, names, strict=True) if name == original}
    for index, original in enumerate(names):
        if fit[index] != original:
            base, number = fit[index], 2
            while fit[index] in taken:
                fit[index], number = f"{base}_{number}", number + 1
            taken.add(fit[index])
    return fit


def _hierarchy(
    skeleton: Skeleton, names: Sequence[str], rotation_channels: str, scale: float, decimals: int
) -> Iterator[str]:
    """Lines of the HIERARCHY section after its heading."""
    offsets = skeleton.offsets.astype(np.float64)
    typical = median_bone_length(skeleton)

    def joint_lines(joint: int, indent: str) -> Iterator[str]:
        yield f"{indent}{'JOINT' if joint else 'ROOT'} {names[joint]}"
        yield f"{indent}{{"
        inner = indent + "  "
        yield f"{inner}OFFSET {_numbers(offsets[joint] * scale, decimals)}"
        position_channels = "" if joint else "Xposition Yposition Zposition "
        yield f"{inner}CHANNELS {3 if joint else 6} {position_channels}{rotation_channels}"
        children = [child for child, parent in enumerate(skeleton.parents) if parent == joint]
        for child in children:
            yield from joint_lines(child, inner)
        if not children:
            yield f"{inner}End Site"
            yield f"{inner}{{"
            yield f"{inner}  OFFSET {_numbers(leaf_tip(offsets[joint], typical) * scale, decimals)}"
            yield f"{inner}}}"
        yield f"{indent}}}"

    return joint_lines(0, "")


def _numbers(values: npt.NDArray[np.float64], decimals: int) -> str:
    """Fixed-point words; adding zero turns -0 into 0."""
    return " ".join(f"{value:.{decimals}f}" for value in np.round(values, decimals) + 0.0)
