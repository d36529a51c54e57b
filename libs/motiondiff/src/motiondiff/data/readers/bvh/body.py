"""The body in a BVH hierarchy: without the world frame above it, the props beside it, and other ROOTs."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from motiondiff.data.readers.bvh.limbs import descendants, find_limbs, has_feet, is_upper_body, path_below
from motiondiff.data.readers.bvh.parse import BvhFile

_MESH = re.compile(r"(?i)mesh\d*$|(?:^|[_.: -])geo(?:m|metry)?\d*$")
Array = npt.NDArray[np.float64]


def find_body(file: BvhFile) -> tuple[int, tuple[str, ...]]:
    """Root joint of the body, and warnings about joints that are left out.

    Of several ROOTs the body's is the first with legs, else the first. Below it, a joint with one child is a world
    frame if that child translates against it; a joint with several is one if the whole body is below one of them and
    the others are props. The search ends at the joint of which the legs are children.
    """
    roots = [joint for joint, parent in enumerate(file.parents) if parent < 0]
    lengths = np.linalg.norm(file.positions.mean(axis=0), axis=1)
    trees = {root: descendants(file.parents, root) for root in roots}
    pelvis = {root: _pelvis(file, lengths, tree) for root, tree in trees.items()}
    root = next((one for one in roots if pelvis[one] is not None), roots[0])
    warnings = []
    if len(roots) > 1:
        names = ", ".join(file.names[other] for other in roots if other != root)
        warnings.append(f"several ROOTs: the body is taken from {file.names[root]}, left out: {names}")
    body, stop = root, pelvis[root]
    while body != stop:
        children = [joint for joint in trees[root] if file.parents[joint] == body]
        if len(children) == 1:
            if not _translates(file, body, children[0]):
                break
            body = children[0]
            continue
        if stop is None:
            break
        child = path_below(file.parents, body, stop)[0]
        whole = any(is_upper_body(file.names[joint]) for joint in descendants(file.parents, child))
        beside = {
            other: [file.names[joint] for joint in descendants(file.parents, other)]
            for other in children
            if other != child
        }
        # a second person has feet, a prop has no trunk; a trunk without feet belongs to the legs
        if not whole or any(any(map(is_upper_body, names)) and not has_feet(names) for names in beside.values()):
            break
        left_out = ", ".join(name for names in beside.values() for name in names)
        warnings.append(f"not of the body {file.names[child]}, left out: {left_out}")
        body = child
    return body, tuple(warnings)


def _is_mesh(file: BvhFile, joint: int) -> bool:
    """True for an exported mesh, by its name, with nothing else below it."""
    return all(_MESH.search(file.names[below]) for below in descendants(file.parents, joint))


def _pelvis(file: BvhFile, lengths: Array, tree: list[int]) -> int | None:
    """The joint of a tree of which its legs are children."""
    index = {joint: number for number, joint in enumerate(tree)}
    parents = [index.get(file.parents[joint], -1) for joint in tree]
    limbs = find_limbs([file.names[joint] for joint in tree], parents, lengths[tree])
    return None if limbs is None else tree[limbs.pelvis]


def _translates(file: BvhFile, frame: int, child: int) -> bool:
    """True where a joint's only child translates relative to it, unlike a bone.

    Relative to a static frame any translation counts; relative to a moving one (some loops have the progress on it, and
    the vertical movement on the hips) one beyond 3 % of the body's size, so that a jittery bone stays a bone.
    """
    still = (
        np.ptp(file.positions[:, frame], axis=0).max() < 1e-6 and np.ptp(file.rotations[:, frame], axis=0).max() < 1e-6
    )
    means = np.linalg.norm(file.positions.mean(axis=0), axis=1)
    reach: dict[int, float] = {child: 0.0}
    for joint in descendants(file.parents, child)[1:]:
        reach[joint] = reach[file.parents[joint]] + float(means[joint])
    size = max(reach.values())
    return bool(np.ptp(file.positions[:, child], axis=0).max() > (1e-6 if still else 3e-2) * size)


def take_subtree(file: BvhFile, top: int) -> BvhFile:
    """A joint and its descendants, the joint itself in world coordinates; mesh nodes are left out."""
    tree = [joint for joint in descendants(file.parents, top) if not _is_mesh(file, joint)]
    index = {joint: position for position, joint in enumerate(tree)}
    position, rotation = file.positions[:, top], file.rotations[:, top]
    above = file.parents[top]
    while above >= 0:
        position = file.positions[:, above] + np.einsum("tij,tj->ti", file.rotations[:, above], position)
        rotation = file.rotations[:, above] @ rotation
        above = file.parents[above]
    positions, rotations = file.positions[:, tree], file.rotations[:, tree]
    positions[:, 0], rotations[:, 0] = position, rotation
    return BvhFile(
        tuple(file.names[joint] for joint in tree),
        tuple(index.get(file.parents[joint], -1) for joint in tree),
        positions,
        rotations,
        file.offsets[tree],
    )


def world_transforms(file: BvhFile) -> tuple[Array, Array]:
    """(T, J, 3) positions and (T, J, 3, 3) rotations of every joint in the world."""
    positions, rotations = file.positions.copy(), file.rotations.copy()
    for joint, parent in enumerate(file.parents):
        if parent >= 0:
            positions[:, joint] = positions[:, parent] + np.einsum(
                "tij,tj->ti", rotations[:, parent], file.positions[:, joint]
            )
            rotations[:, joint] = rotations[:, parent] @ file.rotations[:, joint]
    return positions, rotations
