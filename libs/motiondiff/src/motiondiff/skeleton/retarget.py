"""Retargeting: a motion on another skeleton, by corresponding joints, the target's bone lengths and new rotations.

Joints have roles (left knee, neck, ...) by the tree and their names (`icube_common.data.skeleton_roles`), or by a joint
map of the user. Where source and target both have a joint of a role, the target's joint has a goal position: from its
nearest such ancestor, in the direction of the source, at the source's distance, scaled to the target. Where several
bones leave a joint of the source together (hips from the pelvis), the target's keep the target's shape and rotate with
the source's: sensors differ in where hips are. Knees and ankles have goals from the centre of the hips, so that
narrower hips do not cross the legs. Joints that only the target has are left to the fit
(`motiondiff.skeleton.inverse_kinematics.fit_rotations`) and found by turns with it; at the ends of limbs they stay
straight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from icube_common.data.skeleton_roles import ancestors
from motiondiff.skeleton.inverse_kinematics import body_axes, fit_rotations
from motiondiff.skeleton.joint_matching import JointCorrespondence, match_joints
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton, left_right_pairs

Array = npt.NDArray[np.float64]

NUM_ROUNDS = 3
"""Rounds in which joints without a counterpart are taken from the fit, and the fit is repeated."""


@dataclass(frozen=True)
class RetargetingResult:
    """A motion on another body.

    Attributes:
        motion: on the target's skeleton.
        joint_residuals: target joint -> mean distance in metres from its goal position; includes the distance of
            further joints of the source inside the limb from the target's bone.
        correspondence: the joints that were paired.
    """

    motion: Motion
    joint_residuals: dict[str, float]
    correspondence: JointCorrespondence


def retarget(motion: Motion, target: Skeleton, joints: Mapping[str, str | None] | None = None) -> Motion:
    """The motion on the target's body; see `retarget_with_residuals`."""
    return retarget_with_residuals(motion, target, joints).motion


def retarget_with_residuals(
    motion: Motion, target: Skeleton, joints: Mapping[str, str | None] | None = None
) -> RetargetingResult:
    """The motion on the target's body, with the residual of every joint.

    The root trajectory is scaled with the legs. ``residual`` grows by the mean distance of all paired joints from their
    goals, and of the source's other joints inside limbs from the target's bones: an elbow without a counterpart counts,
    so it stays an upper bound of the distance from the recording.

    Args:
        motion: the clip.
        target: the body.
        joints: role or joint of the target -> joint of the source, instead of the match by name; None leaves it free.

    Raises:
        InputError: one of `REQUIRED_ROLES` is missing on either side, or a name in ``joints`` is unknown.
    """
    match = match_joints(motion.skeleton, target, joints)
    pairs = match.pairs
    goals = _goal_positions(motion, target, match)
    subset = _with_ancestors(target, list(pairs))
    body = Skeleton(
        tuple(target.names[joint] for joint in subset),
        tuple(-1 if joint == 0 else subset.index(target.parents[joint]) for joint in subset),
        target.offsets[subset],
    )
    free = [index for index, joint in enumerate(subset) if joint not in pairs]
    observed = goals[:, subset]
    root, local, _ = fit_rotations(observed, body)
    for _ in range(NUM_ROUNDS if free else 0):
        fitted = Motion(root.astype(np.float32), local.astype(np.float32), body, motion.fps).positions
        observed[:, free] = fitted[:, free]
        root, local, _ = fit_rotations(observed, body)
    rotations = np.tile(np.eye(3), (len(motion), len(target), 1, 1))
    rotations[:, subset] = local
    moved = replace(
        motion, root=root.astype(np.float32), rotations=rotations.astype(np.float32), skeleton=target, residual=0.0
    )
    distances = {joint: [float(_distance(goals[:, joint], moved.positions[:, joint]))] for joint in pairs}
    for joint, inside in _inside_limbs(motion, target, match).items():
        bones = [joint, *ancestors(target.parents, joint)]
        bones = bones[: bones.index(_nearest_pair(target, joint, pairs)) + 1]
        for other in inside:
            there = _expected(motion, target, match, goals, joint, other)
            distances[joint].append(_distance_from_bones(there, moved.positions[:, bones].astype(np.float64)))
    residual = float(np.mean([value for values in distances.values() for value in values]))
    return RetargetingResult(
        replace(moved, residual=motion.residual + residual),
        {target.names[joint]: float(np.mean(values)) for joint, values in sorted(distances.items())},
        match,
    )


def _inside_limbs(motion: Motion, target: Skeleton, match: JointCorrespondence) -> dict[int, list[int]]:
    """Target joint of a limb -> joints of the source without counterpart, inside the bones that lead to it."""
    limbs = {joint for role, joint in match.target_roles.items() if role.startswith(("left ", "right "))}
    paired = set(match.pairs.values())
    inside: dict[int, list[int]] = {}
    for joint in sorted(limbs & match.pairs.keys() - {0}):
        path = ancestors(motion.skeleton.parents, match.pairs[joint])
        start = match.pairs[_nearest_pair(target, joint, match.pairs)]
        if start in path and not paired & (between := {*path[: path.index(start)]}):
            inside[joint] = sorted(between)
    return inside


def _expected(
    motion: Motion, target: Skeleton, match: JointCorrespondence, goals: Array, joint: int, other: int
) -> Array:
    """(T, 3) a joint of the source at the target's size, relative to the goal of the next paired joint outwards."""
    rest, own_rest = target.rest_positions, motion.skeleton.rest_positions
    start = _nearest_pair(target, joint, match.pairs)
    source, own_start = match.pairs[joint], match.pairs[start]
    apart = max(float(np.linalg.norm(own_rest[source] - own_rest[own_start])), 1e-6)
    scale = float(np.linalg.norm(rest[joint] - rest[start])) / apart
    positions = motion.positions.astype(np.float64)
    return np.asarray(goals[:, joint] + scale * (positions[:, other] - positions[:, source]))


def _distance(a: Array, b: npt.NDArray[np.floating]) -> float:
    """Mean distance of (T, 3) points, metres."""
    return float(np.linalg.norm(a - b, axis=-1).mean())


def _distance_from_bones(points: Array, joints: Array) -> float:
    """Mean distance of (T, 3) points from the line through (T, K, 3) joints, metres."""
    nearest = np.full(len(points), np.inf)
    for a, b in pairwise(joints.transpose(1, 0, 2)):
        along = ((points - a) * (b - a)).sum(-1) / np.maximum(((b - a) ** 2).sum(-1), 1e-12)
        foot = a + along.clip(0, 1)[:, None] * (b - a)
        nearest = np.minimum(nearest, np.linalg.norm(points - foot, axis=-1))
    return float(nearest.mean())


def _goal_positions(motion: Motion, target: Skeleton, match: JointCorrespondence) -> Array:
    """(T, J, 3) goal positions of the target's joints; those without a counterpart are interpolated in between."""
    pairs, source_roles, target_roles = match.pairs, match.source_roles, match.target_roles
    positions = motion.positions.astype(np.float64)
    turns = _world_rotations(motion)
    rest, own_rest = target.rest_positions, motion.skeleton.rest_positions
    goals = np.zeros((len(motion), len(target), 3))
    legs = _leg(rest, target_roles) / max(_leg(own_rest, source_roles), 1e-6)
    pelvis = target_roles["pelvis"]
    goals[:, 0] = positions[:, pairs[0]] * legs
    placed = {0}
    if pelvis and pairs[0] == pairs.get(pelvis):  # a frame of the world above the target's pelvis alone: below it
        goals[:, pelvis] = goals[:, 0]
        goals[:, 0] = goals[:, pelvis] - rest[pelvis]
        placed.add(pelvis)
    lower = {target_roles[role] for role in target_roles if role.endswith((" knee", " ankle"))}
    hips, own_hips = ([roles["left hip"], roles["right hip"]] for roles in (target_roles, source_roles))
    # both rest poses in one frame, left, up and front: a rest pose may stand anyhow
    own_axes = body_axes(own_rest[None], motion.skeleton, left_right_pairs(source_roles))[0]
    common = own_axes @ body_axes(rest[None], target)[0].T
    above = {joint: _nearest_pair(target, joint, pairs) for joint in range(1, len(target))}
    # the girdle of the shoulders keeps the target's shape beside the neck and turns as the source's chest does: rigs
    # begin their clavicles anywhere. Clavicles, or upper arms on a target that has no clavicles
    neck = target_roles.get("neck", 0)
    girdle: dict[int, int] = {}  # target joint -> the source's chest
    for side in ("left", "right") if neck in pairs and neck else ():
        joint = target_roles.get(f"{side} collar", target_roles[f"{side} shoulder"])
        if f"{side} collar" in source_roles and joint in pairs:
            girdle[joint] = max(motion.skeleton.parents[source_roles[f"{side} collar"]], 0)
    # bones that lead to no pair, such as attached meshes and twist bones, have no say
    leading = set(_with_ancestors(motion.skeleton, list(pairs.values()))) - {0}
    branches = [motion.skeleton.parents[joint] for joint in leading]
    # both hips before either knee
    first = [*hips, *(joint for joint in reversed(ancestors(target.parents, neck)) if joint), neck] if girdle else hips
    for joint in [*first, *(joint for joint in range(1, len(target)) if joint not in first)]:
        if joint in pairs and joint not in placed:
            start = above[joint]
            own_start = pairs[start]
            if joint in girdle:
                goals[:, joint] = goals[:, neck] + turns[:, girdle[joint]] @ (common @ (rest[joint] - rest[neck]))
                continue
            together = branches.count(own_start) > 1
            if together and motion.skeleton.parents[pairs[joint]] == own_start:
                goals[:, joint] = goals[:, start] + turns[:, own_start] @ (common @ (rest[joint] - rest[start]))
                continue
            if joint in lower:
                from_hips = positions[:, pairs[joint]] - positions[:, own_hips].mean(axis=1)
                goals[:, joint] = goals[:, hips].mean(axis=1) + legs * from_hips
                continue
            ours_apart = float(np.linalg.norm(rest[joint] - rest[start]))
            theirs_apart = float(np.linalg.norm(own_rest[pairs[joint]] - own_rest[own_start]))
            scale = ours_apart / max(theirs_apart, 1e-6)
            goals[:, joint] = goals[:, start] + scale * (positions[:, pairs[joint]] - positions[:, own_start])
    for joint in range(1, len(target)):
        if joint not in pairs:
            end = next((other for other in pairs if joint in ancestors(target.parents, other)), None)
            start = above[joint]
            if end is not None:
                whole = float(np.linalg.norm(rest[end] - rest[start]))
                share = float(np.linalg.norm(rest[joint] - rest[start])) / max(whole, 1e-6)
                goals[:, joint] = goals[:, start] + min(share, 1.0) * (goals[:, end] - goals[:, start])
    return goals


def _world_rotations(motion: Motion) -> Array:
    """(T, J, 3, 3): every joint's rotation in the world."""
    world = motion.rotations.astype(np.float64)
    for joint, parent in enumerate(motion.skeleton.parents[1:], start=1):
        world[:, joint] = world[:, parent] @ world[:, joint]
    return world


def _leg(rest: Array, roles: dict[str, int]) -> float:
    """Metres from hip to knee to ankle (where there is one) in the rest pose, mean of both sides."""
    total = 0.0
    for side in ("left", "right"):
        joints = [roles[f"{side} {part}"] for part in ("hip", "knee", "ankle") if f"{side} {part}" in roles]
        total += sum(float(np.linalg.norm(rest[b] - rest[a])) for a, b in pairwise(joints))
    return total / 2


def _nearest_pair(skeleton: Skeleton, joint: int, pairs: dict[int, int]) -> int:
    return next(other for other in ancestors(skeleton.parents, joint) if other in pairs)


def _with_ancestors(skeleton: Skeleton, joints: list[int]) -> list[int]:
    return sorted({0, *joints, *(above for joint in joints for above in ancestors(skeleton.parents, joint))})
