"""The graph that ST-GCN convolves over, from a skeleton's parents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def hops_to_root(parents: Sequence[int]) -> npt.NDArray[np.int64]:
    """(J,) how many bones lie between each joint and the root."""
    hops: list[int] = []
    for parent in parents:
        hops.append(0 if parent < 0 else hops[parent] + 1)
    return np.array(hops)


def spatial_partition(parents: Sequence[int]) -> npt.NDArray[np.float32]:
    """(3, J, J) adjacency of the spatial-configuration partition, ``[k, i, j]``: how joint j adds to joint i.

    Yan, Xiong, Lin, "Spatial temporal graph convolutional networks for skeleton-based action recognition", AAAI 2018,
    section 3.3 and eq. 8 to 10: a joint's neighbours are itself and those at its own distance from the centre (0),
    those nearer to it (1, centripetal) and those further away (2, centrifugal), each divided by the number of
    neighbours of the joint that gives. The centre is the root.
    """
    joints = len(parents)
    near = np.eye(joints)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            near[joint, parent] = near[parent, joint] = 1
    normal = near / near.sum(axis=0, keepdims=True)
    hops = hops_to_root(parents)
    gives, takes = hops[None, :], hops[:, None]
    return np.stack([normal * (gives == takes), normal * (gives < takes), normal * (gives > takes)]).astype(np.float32)
