"""Forward kinematics and the 6D representation of rotations, batched and differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from motiondiff.skeleton.motion import Motion


@lru_cache(maxsize=64)
def _levels(parents: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, tuple[tuple[int, Tensor], ...]]:
    """Joints by depth: a permutation, its inverse, and for each depth below the root its joints.

    Of a depth: the number of joints, and the indices of their parents among the joints of the depth above. Cached on
    the device: a list of numbers would be copied there at every use.
    """
    depth = [0] * len(parents)
    for joint, parent in enumerate(parents[1:], start=1):
        depth[joint] = depth[parent] + 1
    groups = [[joint for joint in range(len(parents)) if depth[joint] == level] for level in range(max(depth) + 1)]
    order = torch.tensor([joint for group in groups for joint in group])
    levels = tuple(
        (len(group), torch.tensor([above.index(parents[joint]) for joint in group], device=device))
        for above, group in pairwise(groups)
    )
    return order.to(device), order.argsort().to(device), levels


def forward_kinematics(
    root: Float[Tensor, "... 3"],
    rotations: Float[Tensor, "... J 3 3"],
    offsets: Float[Tensor, "... J 3"],
    parents: Sequence[int],
) -> tuple[Float[Tensor, "... J 3"], Float[Tensor, "... J 3 3"]]:
    """World positions and world rotations of every joint.

    ``p_root = root``; ``R_j = R_parent R_j^local``; ``p_j = p_parent + R_parent offset_j``. One step per depth of the
    tree, not per joint.

    Args:
        root: root positions, metres, y-up.
        rotations: each joint's rotation in its parent's frame; the root's in the world.
        offsets: rest offsets in the parent's frame, metres; broadcasts over the leading dimensions.
        parents: parent of each joint, -1 for joint 0; parents precede children.

    Returns:
        ``(positions, world rotations)``, metres.
    """
    order, places, levels = _levels(tuple(parents), rotations.device)
    # in order of depth each level is a slice; index_select's gradient adds up, that of [...] would sort first
    offsets = offsets.expand(*rotations.shape[:-2], 3).index_select(-2, order)
    rotations = rotations.index_select(-3, order)
    level_rotations = [rotations[..., :1, :, :]]
    level_positions = [root.unsqueeze(-2)]
    first = 1
    for count, parent_place in levels:
        level = slice(first, first + count)
        parent_rotation = level_rotations[-1].index_select(-3, parent_place)
        moved = (parent_rotation * offsets[..., level, None, :]).sum(-1)
        level_positions.append(level_positions[-1].index_select(-2, parent_place) + moved)
        level_rotations.append(parent_rotation @ rotations[..., level, :, :])
        first += count
    return (
        torch.cat(level_positions, dim=-2).index_select(-2, places),
        torch.cat(level_rotations, dim=-3).index_select(-3, places),
    )


def rotation_6d_to_matrix(features: Float[Tensor, "... 6"]) -> Float[Tensor, "... 3 3"]:
    """Gram-Schmidt on two 3-vectors: Zhou et al., "On the Continuity of Rotation Representations", CVPR 2019, eq. 15.

    The six numbers are the first two *columns* of the matrix, one after the other. Any input that is not degenerate
    gives a proper rotation (orthonormal, determinant 1).
    """
    first, second = features[..., :3], features[..., 3:]
    x = torch.nn.functional.normalize(first, dim=-1, eps=1e-8)
    y = torch.nn.functional.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1, eps=1e-8)
    return torch.stack((x, y, torch.linalg.cross(x, y)), dim=-1)


def matrix_to_rotation_6d(matrix: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 6"]:
    """The first two columns, one after the other; the inverse of `rotation_6d_to_matrix` on rotations."""
    return rearrange(matrix[..., :2], "... row column -> ... (column row)")


def joint_speeds(motion: Motion) -> npt.NDArray[np.float32]:
    """(T - 1, J) speeds of the joints in m/s, from each frame to the next."""
    return np.asarray(np.linalg.norm(np.diff(motion.positions, axis=0), axis=-1) * motion.fps, dtype=np.float32)
