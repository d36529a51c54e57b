"""Inverse kinematics: joint rotations from joint positions, on a skeleton of constant bone lengths.

Two steps: `estimate_skeleton` estimates one person's rest offsets from all clips of that person; `fit_rotations` fits
the root and the rotations of that skeleton to the positions of one clip.

Legend: T frames, J joints, C children of one joint. Metres; y up; the rest pose is a T-pose, x to the subject's left,
z to the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.data.skeleton_roles import read_joint_name
from icube_common.errors import InputError
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

Array = npt.NDArray[np.float64]

_PRIOR = 1e-6
"""Weight of the parent's orientation against the observed bones: it decides only what the bones leave open."""
_DOWN, _UP, _FRONT, _LEFT = (0.0, -1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)
_REST_BY_PART = {
    **dict.fromkeys(("toe", "foot"), _FRONT),
    **dict.fromkeys(("knee", "ankle", "leg?"), _DOWN),
    **dict.fromkeys(("elbow", "wrist", "hand", "thumb", "finger", "tip", "upperarm", "arm?"), _LEFT),
    **dict.fromkeys(("spine", "neck", "head"), _UP),
}
"""Direction of the bone that ends in a joint, by the part of the body in the joint's name; `_LEFT` is turned round on
the right."""


def estimate_skeleton(clips: Sequence[npt.ArrayLike], names: Sequence[str], parents: Sequence[int]) -> Skeleton:
    """One person's skeleton: median bone lengths, and rest directions close to a T-pose.

    The bones that leave a joint together (hips and spine from the pelvis) keep the shape they have on average once
    frames are turned onto each other; it is placed by the body's own axes (left from hips and shoulders, up along the
    trunk). A single bone that leaves a joint is straight for limbs (by name), and has its mean direction in those axes
    otherwise.

    Args:
        clips: (T, J, 3) metres each, finite, y up; all of the same person.
        names: J joint names, which give sides and limbs (`Skeleton.left_right_pairs`).
        parents: -1 for joint 0; parents first.

    Raises:
        InputError: no frames, shapes that do not fit, or values that are not finite.
    """
    topology = Skeleton(tuple(names), tuple(parents), np.zeros((len(names), 3), dtype=np.float32))
    checked = [_checked(clip, topology) for clip in clips]
    if not checked:
        raise InputError("inverse kinematics: no clips to estimate bone lengths from")
    positions = np.concatenate(checked)
    bones = positions - positions[:, [max(parent, 0) for parent in topology.parents]]
    lengths = np.median(np.linalg.norm(bones, axis=-1), axis=0)
    axes = body_axes(positions, topology)
    in_body = np.einsum("tki,tjk->tji", axes, bones)
    offsets = np.zeros((len(topology), 3))
    for children in topology.children:
        if len(children) > 1:
            directions = _mean_shape(in_body[:, children])
        else:
            directions = np.array([_rest_direction(topology.names[child], in_body[:, child]) for child in children])
        for child, direction in zip(children, directions, strict=True):
            offsets[child] = lengths[child] * unit_vectors(direction)
    return Skeleton(topology.names, topology.parents, offsets.astype(np.float32))


def fit_rotations(positions: npt.ArrayLike, skeleton: Skeleton, *, refinements: int = 5) -> tuple[Array, Array, Array]:
    """Root and rotations whose forward kinematics are closest to given positions.

    From the root outwards each joint first aims its bones at the *observed* children from where the joint itself was
    *reconstructed*, so that errors of length do not add up along a limb. Several bones: the least-squares rotation
    (Kabsch 1976, by batched SVD). One bone: the smallest swing away from the parent's orientation; the twist, which
    positions do not determine, stays the parent's. Each refinement then moves the root by the mean residual and rotates
    every joint, rigid with all its descendants, to their least-squares fit: no step increases the sum of squared
    distances. Measured, root mean square distance after 0, 5 and 20 rounds: UTKinect 5.1, 3.9 and 3.8 cm,
    MSR-Action3D 2.5, 1.9 and 1.7 cm.

    Args:
        positions: (T, J, 3) metres, y up, finite.
        skeleton: rest offsets, e.g. from `estimate_skeleton`.
        refinements: number of refinement rounds.

    Returns:
        ``(root (T, 3), rotations (T, J, 3, 3), residual (T, J))``: rotations in the parent's frame, residual the
        distance of each joint from its observed position, metres.

    Raises:
        InputError: no frames, shapes that do not fit, or values that are not finite.
    """
    observed = _checked(positions, skeleton)
    world, rebuilt = _aim(observed, skeleton)
    for _ in range(refinements):
        _refine(observed, skeleton, world, rebuilt)
    rotations = world.copy()
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        rotations[:, joint] = world[:, parent].transpose(0, 2, 1) @ world[:, joint]
    return rebuilt[:, 0], rotations, np.linalg.norm(observed - rebuilt, axis=-1)


def fit_motion(positions: npt.ArrayLike, skeleton: Skeleton, fps: float, **labels: Any) -> Motion:
    """A motion on ``skeleton`` by `fit_rotations`, with the mean distance (m) as residual; labels are `Motion`'s."""
    root, rotations, residual = fit_rotations(positions, skeleton)
    return Motion(
        root.astype(np.float32), rotations.astype(np.float32), skeleton, fps, residual=float(residual.mean()), **labels
    )


def body_axes(positions: Array, skeleton: Skeleton, pairs: Sequence[tuple[int, int]] | None = None) -> Array:
    """(T, 3, 3) per frame: columns left, up and front of the trunk, orthonormal.

    Left is the mean of hips and shoulders from right to left; up runs from the hips to the shoulders where both are
    known by name, else it is the world's. Identity where names have no sides.

    Args:
        positions: (T, J, 3).
        skeleton: its names give hips and shoulders (`Skeleton.left_right_pairs`).
        pairs: (left, right) joints of hips and shoulders, instead of those by name.
    """
    frames = len(positions)
    pairs = skeleton.left_right_pairs if pairs is None else pairs
    if not pairs:
        return np.broadcast_to(np.eye(3), (frames, 3, 3)).copy()
    left = sum((positions[:, a] - positions[:, b] for a, b in pairs), np.zeros((frames, 3)))
    up = np.broadcast_to(np.asarray(_UP), (frames, 3))
    if len(pairs) > 1:
        middles = [(positions[:, a] + positions[:, b]) / 2 for a, b in pairs]
        up = middles[1] - middles[0]
    left = unit_vectors(left, fallback=_LEFT)
    front = unit_vectors(np.cross(left, up), fallback=_FRONT)
    front = unit_vectors(front - (front * left).sum(-1, keepdims=True) * left, fallback=_FRONT)
    axes = np.stack([left, np.cross(front, left), front], axis=-1)
    # A degenerate frame (all joints in one place) may leave axes that are not orthogonal: the nearest rotation is.
    return nearest_rotation(axes)


def kabsch(source: Array, target: Array, prior: Array) -> Array:
    """(T, 3, 3) rotations R that minimise the sum over C of ``|R source - target|^2`` (Kabsch 1976).

    Args:
        source: (C, 3) or (T, C, 3).
        target: (T, C, 3).
        prior: (T, 3, 3), the rotation where the vectors leave it open (collinear, or of length zero).
    """
    spread = np.einsum("tci,tcj->tij", target, np.broadcast_to(source, target.shape))
    weight = _PRIOR * np.maximum((source**2).sum(axis=(-2, -1)), 1e-12)
    return nearest_rotation(spread + np.reshape(weight, (-1, 1, 1)) * prior)


def nearest_rotation(matrices: Array) -> Array:
    """(..., 3, 3): the rotation R nearest to each matrix M, which maximises ``trace(R^T M)``."""
    u, _, vt = np.linalg.svd(matrices)
    sign = np.linalg.det(u @ vt)
    u[..., :, 2] *= np.where(sign < 0, -1.0, 1.0)[..., None]
    return np.asarray(u @ vt)


def swing_rotation(source: Array, target: Array) -> Array:
    """(T, 3, 3) smallest rotations from the directions of (T, 3) vectors to those of others (Rodrigues).

    Identity where either has no length; a half turn about any axis across where they are opposite.
    """
    a, b = unit_vectors(source), unit_vectors(target)
    defined = (np.linalg.norm(a, axis=-1) > 0.5) & (np.linalg.norm(b, axis=-1) > 0.5)
    cross, cosine = np.cross(a, b), (a * b).sum(-1)
    skew = np.zeros((len(a), 3, 3))
    skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 2] = -cross[:, 2], cross[:, 1], -cross[:, 0]
    skew -= skew.transpose(0, 2, 1)
    opposite = cosine < -1 + 1e-8
    scale = 1 / np.where(opposite, 1.0, 1 + cosine)
    turn = np.eye(3) + skew + skew @ skew * scale[:, None, None]
    if opposite.any():
        across = unit_vectors(np.cross(a, np.eye(3)[np.argmin(np.abs(a), axis=-1)]))
        turn[opposite] = (2 * across[:, :, None] * across[:, None, :] - np.eye(3))[opposite]
    turn[~defined] = np.eye(3)
    return np.asarray(turn)


def _aim(observed: Array, skeleton: Skeleton) -> tuple[Array, Array]:
    """World rotations (T, J, 3, 3) and rebuilt positions (T, J, 3), from the root outwards."""
    offsets = skeleton.offsets.astype(np.float64)
    world = np.empty((*observed.shape, 3))
    rebuilt = np.empty_like(observed)
    rebuilt[:, 0] = observed[:, 0]
    for joint, children in enumerate(skeleton.children):
        above = body_axes(observed, skeleton) if joint == 0 else world[:, skeleton.parents[joint]]
        targets = observed[:, children] - rebuilt[:, [joint]]
        if len(children) > 1:
            world[:, joint] = kabsch(offsets[children], targets, above)
        elif children:
            world[:, joint] = swing_rotation(above @ offsets[children[0]], targets[:, 0]) @ above
        else:
            world[:, joint] = above
        for child in children:
            rebuilt[:, child] = rebuilt[:, joint] + world[:, joint] @ offsets[child]
    return world, rebuilt


def _refine(observed: Array, skeleton: Skeleton, world: Array, rebuilt: Array) -> None:
    """One round of block coordinate descent on the sum of squared distances, in place."""
    upright = np.broadcast_to(np.eye(3), (len(observed), 3, 3))
    rebuilt += (observed - rebuilt).mean(axis=1, keepdims=True)
    for joint, below in enumerate(_descendants(skeleton.parents)):
        if below:
            pivot = rebuilt[:, [joint]]
            arms = rebuilt[:, below] - pivot
            turn = kabsch(arms, observed[:, below] - pivot, upright)
            rebuilt[:, below] = pivot + arms @ turn.transpose(0, 2, 1)
            stiff = [joint, *below]
            world[:, stiff] = turn[:, None] @ world[:, stiff]


def _mean_shape(vectors: Array, rounds: int = 5) -> Array:
    """(C, 3) mean of (T, C, 3) vectors after alignment of each frame to the mean (generalised Procrustes)."""
    mean = np.median(vectors, axis=0)
    upright = np.broadcast_to(np.eye(3), (len(vectors), 3, 3))
    for _ in range(rounds):
        turned = kabsch(vectors, np.broadcast_to(mean, vectors.shape), upright)
        mean = np.median(np.einsum("tij,tcj->tci", turned, vectors), axis=0)
    return np.asarray(mean)


def _rest_direction(name: str, in_body: Array) -> Array:
    """Rest direction of a single bone of a joint; ``in_body`` is (T, 3), its direction in the body's axes."""
    mean = unit_vectors(np.median(unit_vectors(in_body), axis=0), fallback=_UP)
    read = read_joint_name(name)
    direction = _REST_BY_PART.get(read.part or "")
    if direction is None:
        return mean
    # arms hang on average, so the name gives their side, or the side on which they hang
    right = mean[0] < 0 if read.side is None else read.side == "right"
    return -np.asarray(direction) if direction == _LEFT and right else np.asarray(direction)


def _descendants(parents: Sequence[int]) -> list[list[int]]:
    below: list[list[int]] = [[] for _ in parents]
    for joint, parent in reversed(list(enumerate(parents))):
        if parent >= 0:
            below[parent] = [joint, *below[joint], *below[parent]]
    return below


def unit_vectors(vectors: npt.ArrayLike, fallback: npt.ArrayLike = (0.0, 0.0, 0.0)) -> Array:
    """(..., 3) unit vectors; the fallback where there is no direction."""
    array = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(array, axis=-1, keepdims=True)
    return np.asarray(np.where(length > 1e-9, array / np.maximum(length, 1e-9), np.asarray(fallback)))


def _checked(positions: npt.ArrayLike, skeleton: Skeleton) -> Array:
    array = np.asarray(positions, dtype=np.float64)
    if array.ndim != 3 or array.shape[1:] != (len(skeleton), 3) or len(array) == 0:
        raise InputError(f"inverse kinematics: positions {array.shape} given, (frames, {len(skeleton)}, 3) wanted")
    if not np.isfinite(array).all():
        frame = int(np.argmax(~np.isfinite(array).all(axis=(1, 2))))
        raise InputError(f"inverse kinematics: frame {frame} holds NaN or infinite positions")
    return array
