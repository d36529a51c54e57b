"""Forward kinematics and the 6D representation of rotations, batched and differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from motiondiff.skeleton.motion import Motion


@dataclass(frozen=True, eq=False)
class _Level:
    """Joints of one depth below the root.

    Attributes:
        joints: number of them.
        parents: (joints,) of each, its parent's place among the joints with a world rotation one depth above.
        rotated: (n,) of those that get a world rotation, their places among ``joints``.
    """

    joints: int
    parents: Tensor
    rotated: Tensor


@dataclass(frozen=True, eq=False)
class _Order:
    """A tree by depth; on the device, since a list of numbers would be copied there at every use.

    Attributes:
        joints: (J,) joints by depth.
        places: (J,) the inverse permutation.
        rotated: joints whose rotation is used, by depth.
        levels: of each depth below the root.
    """

    joints: Tensor
    places: Tensor
    rotated: Tensor
    levels: tuple[_Level, ...]


@lru_cache(maxsize=64)
def _by_depth(parents: tuple[int, ...], device: torch.device, leaves: bool) -> _Order:
    """A tree by depth; without ``leaves`` the rotation of a joint that has no child is not used."""
    depth = [0] * len(parents)
    for joint, parent in enumerate(parents[1:], start=1):
        depth[joint] = depth[parent] + 1
    groups = [[joint for joint in range(len(parents)) if depth[joint] == level] for level in range(max(depth) + 1)]
    rotated = [[joint for joint in group if leaves or joint in parents or joint == 0] for group in groups]

    def indices(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    levels = tuple(
        _Level(
            joints=len(group),
            parents=indices([above.index(parents[joint]) for joint in group]),
            rotated=indices([group.index(joint) for joint in turning]),
        )
        for above, group, turning in zip(rotated, groups[1:], rotated[1:], strict=False)
    )
    joints = torch.tensor([joint for group in groups for joint in group])
    turning = indices([joint for group in rotated for joint in group])
    return _Order(joints.to(device), joints.argsort().to(device), turning, levels)


def _walk(
    root: Float[Tensor, "3 N"], rotations: Float[Tensor, "3 3 K N"], offsets: Float[Tensor, "3 J N"], order: _Order
) -> tuple[Float[Tensor, "3 J N"], Float[Tensor, "3 3 K N"]]:
    """Positions and world rotations, both by depth: one step for each depth of the tree, not for each joint.

    The axes of space come first, so that each product of 3 x 3 matrices is 27 products of long rows: a third of the
    time of batched products of small matrices, with the gradient.
    """
    offsets = offsets.index_select(1, order.joints)
    # split, since the gradient of a slice is a whole tensor
    first, *local = rotations.split([1, *(len(level.rotated) for level in order.levels)], dim=2)
    world = [first]
    positions = [root[:, None]]
    joint = 1
    above = torch.zeros(1, dtype=torch.long, device=root.device)
    for level, rotation in zip(order.levels, local, strict=True):
        turns = world[-1].index_select(2, level.parents)
        base = positions[-1].index_select(1, above.index_select(0, level.parents))
        positions.append(base + (turns * offsets[None, :, joint : joint + level.joints]).sum(1))
        joint += level.joints
        if len(level.rotated):
            world.append((turns.index_select(2, level.rotated)[:, :, None] * rotation[None]).sum(1))
        above = level.rotated
    return torch.cat(positions, dim=1), torch.cat(world, dim=2)


def forward_kinematics(
    root: Float[Tensor, "... 3"],
    rotations: Float[Tensor, "... J 3 3"],
    offsets: Float[Tensor, "... J 3"],
    parents: Sequence[int],
) -> tuple[Float[Tensor, "... J 3"], Float[Tensor, "... J 3 3"]]:
    """World positions and world rotations of every joint.

    ``p_root = root``; ``R_j = R_parent R_j^local``; ``p_j = p_parent + R_parent offset_j``.

    Args:
        root: root positions, metres, y-up.
        rotations: each joint's rotation in its parent's frame; the root's in the world.
        offsets: rest offsets in the parent's frame, metres; broadcasts over the leading dimensions.
        parents: parent of each joint, -1 for joint 0; parents precede children.

    Returns:
        ``(positions, world rotations)``, metres.
    """
    order = _by_depth(tuple(parents), rotations.device, leaves=True)
    leading = rotations.shape[:-3]
    offsets = offsets.expand(*leading, len(parents), 3)
    positions, world = _walk(
        root.expand(*leading, 3).reshape(-1, 3).T,
        rearrange(rotations.reshape(-1, *rotations.shape[-3:]), "n j row column -> row column j n").index_select(
            2, order.rotated
        ),
        rearrange(offsets.reshape(-1, *offsets.shape[-2:]), "n j space -> space j n"),
        order,
    )
    positions = rearrange(positions.index_select(1, order.places), "space j n -> n j space")
    world = rearrange(world.index_select(2, order.places), "row column j n -> n j row column")
    return positions.reshape(*leading, -1, 3), world.reshape(*leading, -1, 3, 3)


def positions_from_6d(
    root: Float[Tensor, "... 3"],
    rotations: Float[Tensor, "... J 6"],
    offsets: Float[Tensor, "... J 3"],
    parents: Sequence[int],
) -> Float[Tensor, "... J 3"]:
    """World positions of every joint from the 6D representation; the rotations of leaves have no part in them.

    The same positions as `forward_kinematics` of `rotation_6d_to_matrix`, in less time.
    """
    order = _by_depth(tuple(parents), rotations.device, leaves=False)
    leading = rotations.shape[:-2]
    offsets = offsets.expand(*leading, len(parents), 3)
    six = (
        rearrange(rotations.reshape(-1, *rotations.shape[-2:]), "n j six -> six j n")
        .index_select(1, order.rotated)
        .contiguous()
    )
    positions, _ = _walk(
        root.expand(*leading, 3).reshape(-1, 3).T,
        torch.stack(_orthonormal(*six.split(3), dim=0), dim=1),
        rearrange(offsets.reshape(-1, *offsets.shape[-2:]), "n j space -> space j n"),
        order,
    )
    return rearrange(positions.index_select(1, order.places), "space j n -> n j space").reshape(*leading, -1, 3)


def rotation_6d_to_matrix(features: Float[Tensor, "... 6"]) -> Float[Tensor, "... 3 3"]:
    """Gram-Schmidt on two 3-vectors: Zhou et al., "On the Continuity of Rotation Representations", CVPR 2019, eq. 15.

    The six numbers are the first two *columns* of the matrix, one after the other. Any input that is not degenerate
    gives a proper rotation (orthonormal, determinant 1).
    """
    return torch.stack(_orthonormal(*features.split(3, dim=-1), dim=-1), dim=-1)


def _orthonormal(first: Tensor, second: Tensor, *, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Columns of a rotation by Gram-Schmidt; the axes of space are dimension ``dim``."""

    def unit(vectors: Tensor) -> Tensor:
        # 1e-16: the square of normalize's own smallest norm, whose gradient at 0 would be NaN
        return vectors * (vectors * vectors).sum(dim, keepdim=True).clamp(min=1e-16).rsqrt()

    x = unit(first)
    y = unit(second - (x * second).sum(dim, keepdim=True) * x)
    # from sums and slices: vector_norm and cross of torch take ten times as long where the axes of space come first
    (x0, x1, x2), (y0, y1, y2) = x.unbind(dim), y.unbind(dim)
    return x, y, torch.stack([x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0], dim=dim)


def matrix_to_rotation_6d(matrix: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 6"]:
    """The first two columns, one after the other; the inverse of `rotation_6d_to_matrix` on rotations."""
    return rearrange(matrix[..., :2], "... row column -> ... (column row)")


def joint_speeds(motion: Motion) -> npt.NDArray[np.float32]:
    """(T - 1, J) speeds of the joints in m/s, from each frame to the next."""
    return np.asarray(np.linalg.norm(np.diff(motion.positions, axis=0), axis=-1) * motion.fps, dtype=np.float32)
