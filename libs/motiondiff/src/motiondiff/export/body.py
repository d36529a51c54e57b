"""Body proportions for display: height, side colours, rest positions, tips of leaf bones, head."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from motiondiff.skeleton.skeleton import Skeleton

Points = npt.NDArray[np.float64]

LEFT, RIGHT, TORSO = "#1f77c8", "#e8702a", "#3a4150"


def side_colour(name: str) -> str:
    """Colour by the side in a joint's name: blue for left, orange for right, dark grey otherwise."""
    for word, colour in (("left", LEFT), ("right", RIGHT)):
        small, large = word[0], word[0].upper()
        if re.search(rf"(?i:{word})|(^|[_\-. :])[{small}{large}]([_\-. ]|$)|^{large}[A-Z]|[a-z]{large}$", name):
            return colour
    return TORSO


def body_height(skeleton: Skeleton) -> float:
    """Approximate height of the body, metres: twice the longest chain from the root to a leaf."""
    reach = np.zeros(len(skeleton))
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        reach[joint] = reach[parent] + skeleton.bone_lengths[joint]
    return max(2 * float(reach.max()), 0.1)


def median_bone_length(skeleton: Skeleton) -> float:
    """Metres: the median bone; 0.1 where no bone has a length."""
    lengths = skeleton.bone_lengths[1:]
    return float(np.median(lengths[lengths > 0])) if (lengths > 0).any() else 0.1


def leaf_tip(offset: Points, typical: float) -> Points:
    """Tip of a leaf joint's bone for display, relative to the leaf.

    Args:
        offset: (3,) metres: the leaf's own offset from its parent.
        typical: metres: `median_bone_length` of the skeleton.

    Returns:
        (3,) metres: half the length of the leaf's own bone, at least a quarter of a typical bone; upwards without one.
    """
    length = float(np.linalg.norm(offset))
    if length < 1e-3:
        return np.array([0.0, typical / 2, 0.0])
    return offset / length * max(length / 2, typical / 4)


def head_joint(skeleton: Skeleton) -> int | None:
    """Joint of the head by name, or None."""
    return next((joint for joint, name in enumerate(skeleton.names) if "head" in name.lower()), None)


def head_centre(bone: Points, size: float) -> Points:
    """Centre of the skull relative to the head joint, which is at the skull's base in most skeletons.

    Args:
        bone: (3,) metres: from the parent to the head joint, the direction of the skull; upwards without one.
        size: metres: `body_height` of the skeleton.

    Returns:
        (3,) metres in the axes of ``bone``.
    """
    length = float(np.linalg.norm(bone))
    up = bone / length if length > 1e-6 else np.array([0.0, 1.0, 0.0])
    return np.asarray(0.025 * size * up)
