"""HumanML3D's vectors of 263 numbers a frame, from joints and back (Guo et al., CVPR 2022, section 3.2 and appendix).

A frame, for 22 joints (`motiondiff.skeleton.smpl`) at 20 frames per second, metres, y up:

    0         half the rotation about +y until the next frame, rad, negative to the left
    1, 2      displacement of the root until the next frame, along x and z of the body's own heading
    3         height of the root
    4-66      the other 21 joints, x and z relative to the root, turned so that the body faces +z
    67-192    rotations of 21 joints as 6D, the first two columns one after the other
    193-258   displacement of the 22 joints until the next frame, turned so that the body faces +z
    259-262   ground contact of left ankle, left foot, right ankle, right foot: squared displacement below
              `CONTACT_THRESHOLD`

The heading follows the set's published code: of hips and shoulders it subtracts one from the other where a front
would add them, smooths the sum over time (Gaussian of `SMOOTHING_SIGMA` frames), and calls the first frame's heading
+z. It is reproduced here because the published vectors have it; a twist of the body turns them less than expected. The
rotations are of the set's own rest pose (`REST_DIRECTIONS`) by the smallest swing of each bone, without twist; chains
that leave the chest start from the root's heading again. A vector needs the next frame, so T joints give T - 1 vectors.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from einops import rearrange, repeat
from scipy.ndimage import gaussian_filter1d

from icube_common.errors import InputError
from motiondiff.skeleton.inverse_kinematics import swing_rotation
from motiondiff.skeleton.smpl import PARENTS

Array = npt.NDArray[np.float64]

FPS = 20.0
NUM_JOINTS = 22
VECTOR_SIZE = 263
SMOOTHING_SIGMA = 20
"""Standard deviation of the Gaussian over the heading, frames; it is cut off at four of them."""
CONTACT_THRESHOLD = 0.002
"""Square metres: a foot with a smaller squared displacement until the next frame is in contact."""
FEET = (7, 10, 8, 11)
CHAINS = ((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20))
"""Kinematic chains in the set's order."""
REST_DIRECTIONS = np.array(
    [
        (0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, -1, 0), (0, 1, 0), (0, -1, 0), (0, -1, 0),
        (0, 1, 0), (0, 0, 1), (0, 0, 1), (0, 1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, -1, 0), (0, -1, 0),
        (0, -1, 0), (0, -1, 0), (0, -1, 0), (0, -1, 0),
    ],
    dtype=np.float64,
)  # fmt: skip
"""(22, 3) direction of the bone that ends in each joint, in the set's rest pose: arms hang, the head is in front."""

_FRONT = ((2, 1), (17, 16))
"""(right, left) hips and shoulders."""
_HEADING = ((1, 2), (17, 16))
"""The pairs of the set's code for the heading: the hips are exchanged."""


def joints_to_vectors(joints: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """(T - 1, 263) float32 from (T, 22, 3) joints, metres, y up.

    The body is put on the floor, over the origin and facing +z in its first frame, as the set does. The set also
    brings every body to one person's bone lengths; `set_bone_lengths` does that first.

    Raises:
        InputError: another shape, fewer than 2 frames, or values that are not finite.
    """
    positions = _checked(joints)
    positions[..., 1] -= positions[..., 1].min()
    positions[..., [0, 2]] -= positions[0, 0, [0, 2]]
    positions = positions @ yaw_matrix(-_angles(_forward(positions[:1], _FRONT)))[0].T
    heading = _angles(gaussian_filter1d(_forward(positions, _HEADING), SMOOTHING_SIGMA, axis=0, mode="nearest"))
    heading[0] = 0
    to_front = yaw_matrix(-heading)
    moved = np.diff(positions, axis=0)
    turned = np.diff(heading)
    root_moved = np.einsum("tij,tj->ti", to_front[1:], moved[:, 0])
    relative = positions - positions[:, :1] * (1.0, 0.0, 1.0)
    local = np.einsum("tij,tkj->tki", to_front, relative)
    velocity = np.einsum("tij,tkj->tki", to_front[:-1], moved)
    stands = (moved[:, FEET] ** 2).sum(-1) < CONTACT_THRESHOLD
    parts = [
        # the quaternion's y component, whose arcsine the set stores, is that of half the angle, to the front's front
        np.arcsin(np.sin(-turned / 2))[:, None],
        root_moved[:, [0, 2]],
        positions[:-1, 0, 1:2],
        rearrange(local[:-1, 1:], "t joint xyz -> t (joint xyz)"),
        rearrange(bone_rotations(positions, to_front)[:-1], "t joint row column -> t (joint column row)"),
        rearrange(velocity, "t joint xyz -> t (joint xyz)"),
        stands.astype(np.float64),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def vectors_to_joints(vectors: npt.ArrayLike, joints: int = NUM_JOINTS) -> npt.NDArray[np.float32]:
    """(T, 22, 3) float32 joints, metres, from (T, 263) vectors: headings and steps of the root are added up.

    Args:
        vectors: (T, 12 J - 1).
        joints: J; KIT-ML's vectors of 251 numbers are the same for 21 joints, in the set's own unit.

    Raises:
        InputError: another shape, no frames, or values that are not finite.
    """
    array = np.asarray(vectors, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 12 * joints - 1 or len(array) == 0:
        raise InputError(f"HumanML3D vectors {array.shape} given, (frames, {12 * joints - 1}) expected")
    if not np.isfinite(array).all():
        raise InputError(f"HumanML3D vectors: frame {int(np.argmin(np.isfinite(array).all(1)))} holds NaN or infinity")
    half = np.concatenate([[0.0], np.cumsum(array[:-1, 0])])
    to_world = yaw_matrix(-2 * half)
    steps = np.zeros((len(array), 3))
    steps[1:, [0, 2]] = array[:-1, 1:3]
    root = np.cumsum(np.einsum("tij,tj->ti", to_world, steps), axis=0)
    root[:, 1] = array[:, 3]
    local = rearrange(array[:, 4 : 3 * joints + 1], "t (joint xyz) -> t joint xyz", xyz=3)
    others = np.einsum("tij,tkj->tki", to_world, local) + root[:, None] * (1.0, 0.0, 1.0)
    return np.concatenate([root[:, None], others], axis=1).astype(np.float32)


def set_bone_lengths(joints: npt.ArrayLike, lengths: npt.ArrayLike) -> Array:
    """(T, 22, 3) joints of a body with other bone lengths: same directions, root trajectory scaled with the legs.

    Args:
        joints: (T, 22, 3) metres.
        lengths: (22,) metres, the bone that ends in each joint; e.g. `bone_lengths` of any clip of HumanML3D, whose
            clips all have one body.

    Raises:
        InputError: shapes that do not fit, or lengths that are not positive.
    """
    positions = _checked(joints, least=1)
    target_lengths = np.asarray(lengths, dtype=np.float64)
    if target_lengths.shape != (NUM_JOINTS,) or not (
        np.isfinite(target_lengths).all() and (target_lengths[1:] > 0).all()
    ):
        raise InputError(
            f"bone lengths {target_lengths.shape}: {NUM_JOINTS} positive numbers expected (the root's is not read)"
        )
    present_lengths = bone_lengths(positions[:1])
    bones = positions[:, 1:] - positions[:, PARENTS[1:NUM_JOINTS]]
    bones *= (target_lengths[1:] / np.maximum(np.linalg.norm(bones, axis=-1), 1e-9))[..., None]
    out = np.empty_like(positions)
    out[:, 0] = (
        positions[:, 0] * (target_lengths[5] + target_lengths[8]) / max(present_lengths[5] + present_lengths[8], 1e-9)
    )
    for joint in range(1, NUM_JOINTS):
        out[:, joint] = out[:, PARENTS[joint]] + bones[:, joint - 1]
    return out


def bone_lengths(joints: npt.ArrayLike) -> Array:
    """(22,) metres: median over frames of the bone that ends in each joint; 0 for the root."""
    positions = _checked(joints, least=1)
    bones = positions[:, 1:] - positions[:, PARENTS[1:NUM_JOINTS]]
    return np.concatenate([[0.0], np.median(np.linalg.norm(bones, axis=-1), axis=0)])


def bone_rotations(positions: Array, to_front: Array) -> Array:
    """(T, 21, 3, 2) first two columns of each joint's rotation after its predecessor in the chain.

    Along a chain each bone is swung from its rest direction to where it points; the chain starts from the root's
    rotation, which in the set turns the body to the front.
    """
    columns = np.empty((len(positions), NUM_JOINTS - 1, 3, 2))
    for chain in CHAINS:
        above = to_front
        for start, end in pairwise(chain):
            rest = repeat(REST_DIRECTIONS[end], "xyz -> t xyz", t=len(positions))
            world = swing_rotation(rest, positions[:, end] - positions[:, start])
            columns[:, end - 1] = (above.transpose(0, 2, 1) @ world)[..., :2]
            above = world
    return columns


def yaw_matrix(yaw: npt.ArrayLike) -> Array:
    """(T, 3, 3) rotations about +y by (T,) rad, counter-clockwise seen from above."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    return np.stack(
        [np.stack([cos, zero, sin], -1), np.stack([zero, one, zero], -1), np.stack([-sin, zero, cos], -1)], axis=-2
    )


def _forward(positions: Array, pairs: tuple[tuple[int, int], ...]) -> Array:
    """(T, 3) horizontal vectors: up crossed with the unit vector of the summed differences of pairs of joints."""
    across = sum((positions[:, a] - positions[:, b] for a, b in pairs), np.zeros((len(positions), 3)))
    across = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-9)
    return np.cross((0.0, 1.0, 0.0), across)


def _angles(forward: Array) -> Array:
    """(T,) yaw of front vectors from +z, rad, without jumps of a full turn."""
    return np.unwrap(np.arctan2(forward[:, 0], forward[:, 2]))


def _checked(joints: npt.ArrayLike, least: int = 2) -> Array:
    array = np.array(joints, dtype=np.float64)
    if array.ndim != 3 or array.shape[1:] != (NUM_JOINTS, 3) or len(array) < least:
        raise InputError(f"HumanML3D joints {array.shape} given, ({least} or more frames, {NUM_JOINTS}, 3) wanted")
    if not np.isfinite(array).all():
        raise InputError(f"HumanML3D joints: frame {int(np.argmin(np.isfinite(array).all((1, 2))))} is not finite")
    return array
