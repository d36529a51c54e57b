"""Forward kinematics, batched and differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


@lru_cache(maxsize=64)
def _levels(parents: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Joints grouped by depth, and for each joint its place in the concatenation of the groups."""
    depth = [0] * len(parents)
    for joint, parent in enumerate(parents[1:], start=1):
        depth[joint] = depth[parent] + 1
    groups = tuple(
        tuple(joint for joint in range(len(parents)) if depth[joint] == level) for level in range(max(depth) + 1)
    )
    order = [joint for group in groups for joint in group]
    return groups, tuple(order.index(joint) for joint in range(len(parents)))


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
    groups, places = _levels(tuple(parents))
    offsets = offsets.expand(*rotations.shape[:-2], 3)
    level_rotations = [rotations[..., list(groups[0]), :, :]]
    level_positions = [root.unsqueeze(-2)]
    for above, group in pairwise(groups):
        parent_place = [above.index(parents[joint]) for joint in group]
        parent_rotation = level_rotations[-1][..., parent_place, :, :]
        moved = (parent_rotation * offsets[..., list(group), None, :]).sum(-1)
        level_positions.append(level_positions[-1][..., parent_place, :] + moved)
        level_rotations.append(parent_rotation @ rotations[..., list(group), :, :])
    place = list(places)
    return torch.cat(level_positions, dim=-2)[..., place, :], torch.cat(level_rotations, dim=-3)[..., place, :, :]
