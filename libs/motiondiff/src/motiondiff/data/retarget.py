"""Motions of one skeleton on another: joints that correspond, the target's bone lengths, rotations fitted anew.

Joints have roles (left knee, neck, ...) by the tree and their names (`icube_common.data.skeleton_roles`), or by a map
of joints of the user's. Where source and target both have a joint of a role,
the target's joint is aimed at: from the nearest such joint above it, in the direction of the source, as far as the
source is stretched there, at the target's scale. Where several bones leave a joint of the source together (hips from
the pelvis), the target's keep the target's shape and turn as the source's do: sensors put hips in all sorts of places.
Knees and ankles are aimed at from between the hips, so that narrower hips do not cross the legs. Joints that only the
target has are left to the fit (`motiondiff.geometry.fitting.fit_rotations`) and found by turns with it; at the ends of
limbs they stay straight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError, unknown
from motiondiff.data.correspondence import NEEDED, Correspondence, match_joints, roles
from motiondiff.data.readers import kinect
from motiondiff.data.readers.kinect_v2 import KINECT_V2
from motiondiff.geometry.fitting import body_axes, fit_rotations
from motiondiff.geometry.skeleton import Skeleton, sided_pairs
from motiondiff.geometry.smpl import mean_skeleton
from motiondiff.motion import Motion

Array = npt.NDArray[np.float64]

ROUNDS = 3
"""How often joints that the source lacks are taken from the fit, and the fit done again."""

# a standing adult of about 1.7 m: offset from the parent, metres, x left, y up, z front
_KINECT_BODY = {
    "Spine": (0.0, 0.07, 0.0),
    "ShoulderCenter": (0.0, 0.40, 0.0),
    "SpineMid": (0.0, 0.30, 0.0),
    "SpineShoulder": (0.0, 0.21, 0.0),
    "Neck": (0.0, 0.07, 0.0),
    "Shoulder": (0.17, -0.06, 0.0),
    "Elbow": (0.26, 0.0, 0.0),
    "Wrist": (0.24, 0.0, 0.0),
    "Hand": (0.08, 0.0, 0.0),
    "HandTip": (0.08, 0.0, 0.0),
    "Thumb": (0.04, 0.0, 0.04),
    "Knee": (0.0, -0.40, 0.0),
    "Ankle": (0.0, -0.38, 0.0),
    "Foot": (0.0, -0.05, 0.12),
}
_KINECT_V1_ONLY = {"Head": (0.0, 0.20, 0.0), "Hip": (0.08, -0.07, 0.0)}
_KINECT_V2_ONLY = {"Head": (0.0, 0.14, 0.0), "Hip": (0.08, -0.03, 0.0)}


def target_skeleton(name: str | Path) -> Skeleton:
    """A body to put others on.

    Args:
        name: ``kinect-v1``, ``kinect-v2`` (bodies of about 1.7 m), ``smpl-22`` (the mean body), or a motion file (.npz,
            .bvh) whose body is taken.

    Raises:
        InputError: another name, or a file that cannot be read.
    """
    known = {
        "kinect-v1": lambda: _kinect(kinect.KINECT_V1, _KINECT_V1_ONLY),
        "kinect-v2": lambda: _kinect(KINECT_V2, _KINECT_V2_ONLY),
        "smpl-22": lambda: mean_skeleton(22),
    }
    if str(name) in known:
        return known[str(name)]()
    path = Path(name)
    if path.suffix.lower() not in (".npz", ".bvh"):
        raise unknown("skeleton", str(name), [*known, "a .npz or .bvh file"])
    if not path.is_file():
        raise InputError(f"skeleton {path}: no such file")
    from motiondiff.data.readers import npz
    from motiondiff.data.readers.bvh import read_bvh

    motion = npz.read_npz(path) if path.suffix.lower() == ".npz" else read_bvh(path)
    missing = [role for role in NEEDED if role not in roles(motion.skeleton)]
    if missing:
        raise InputError(
            f"skeleton {path}: no joint is its {missing[0]} by name (has {', '.join(motion.skeleton.names)})"
        )
    return motion.skeleton


@dataclass(frozen=True)
class Retargeted:
    """A motion on another body.

    Attributes:
        motion: on the target's skeleton.
        joint_residuals: target joint -> mean distance in metres from where it was aimed at; where the source has
            further joints inside the bone of a limb that leads to it, their distance from that bone counts as well.
        correspondence: the joints that were paired.
    """

    motion: Motion
    joint_residuals: dict[str, float]
    correspondence: Correspondence


def retarget(motion: Motion, target: Skeleton, joints: Mapping[str, str | None] | None = None) -> Motion:
    """The motion on the target's body; see `retarget_in_detail`."""
    return retarget_in_detail(motion, target, joints).motion


def retarget_in_detail(motion: Motion, target: Skeleton, joints: Mapping[str, str | None] | None = None) -> Retargeted:
    """The motion on the target's body, with the residual of every joint.

    The root's path is scaled with the legs. ``residual`` grows by the mean distance of all joints that correspond from
    where they were aimed at, and of the source's other joints inside limbs from the target's bones: an elbow or upper
    arm without a counterpart shows, so it stays an upper bound of the distance from what was recorded.

    Args:
        motion: the clip.
        target: the body.
        joints: role or joint of the target -> joint of the source, where names do not tell; None leaves it free.

    Raises:
        InputError: one of `NEEDED` is missing on either side, or a name in ``joints`` is unknown.
    """
    match = match_joints(motion.skeleton, target, joints)
    pairs = match.pairs
    aims = _aims(motion, target, match)
    kept = _with_ancestors(target, list(pairs))
    body = Skeleton(
        tuple(target.names[joint] for joint in kept),
        tuple(-1 if joint == 0 else kept.index(target.parents[joint]) for joint in kept),
        target.offsets[kept],
    )
    free = [place for place, joint in enumerate(kept) if joint not in pairs]
    observed = aims[:, kept]
    root, local, _ = fit_rotations(observed, body)
    for _ in range(ROUNDS if free else 0):
        fitted = Motion(root.astype(np.float32), local.astype(np.float32), body, motion.fps).positions
        observed[:, free] = fitted[:, free]
        root, local, _ = fit_rotations(observed, body)
    rotations = np.tile(np.eye(3), (len(motion), len(target), 1, 1))
    rotations[:, kept] = local
    moved = replace(
        motion, root=root.astype(np.float32), rotations=rotations.astype(np.float32), skeleton=target, residual=0.0
    )
    distances = {joint: [float(_distance(aims[:, joint], moved.positions[:, joint]))] for joint in pairs}
    for joint, inside in _inside_limbs(motion, target, match).items():
        bones = [joint, *_path(target, joint)]
        bones = bones[: bones.index(_nearest_pair(target, joint, pairs)) + 1]
        for other in inside:
            there = _expected(motion, target, match, aims, joint, other)
            distances[joint].append(_distance_from_bones(there, moved.positions[:, bones].astype(np.float64)))
    residual = float(np.mean([value for values in distances.values() for value in values]))
    return Retargeted(
        replace(moved, residual=motion.residual + residual),
        {target.names[joint]: float(np.mean(values)) for joint, values in sorted(distances.items())},
        match,
    )


def correspondence(
    source: Skeleton, target: Skeleton, joints: Mapping[str, str | None] | None = None
) -> dict[int, int]:
    """Target joint -> source joint; see `match_joints`."""
    return match_joints(source, target, joints).pairs


def _inside_limbs(motion: Motion, target: Skeleton, match: Correspondence) -> dict[int, list[int]]:
    """Target joint of a limb -> joints of the source without counterpart, inside the bones that lead to it."""
    limbs = {joint for role, joint in match.target_roles.items() if role.startswith(("left ", "right "))}
    paired = set(match.pairs.values())
    inside: dict[int, list[int]] = {}
    for joint in sorted(limbs & match.pairs.keys() - {0}):
        path = _path(motion.skeleton, match.pairs[joint])
        start = match.pairs[_nearest_pair(target, joint, match.pairs)]
        if start in path and not paired & (between := {*path[: path.index(start)]}):
            inside[joint] = sorted(between)
    return inside


def _expected(motion: Motion, target: Skeleton, match: Correspondence, aims: Array, joint: int, other: int) -> Array:
    """(T, 3) a joint of the source at the target's size, measured from the aim of the next joint outwards."""
    rest, own_rest = _rest(target), _rest(motion.skeleton)
    start = _nearest_pair(target, joint, match.pairs)
    own, own_start = match.pairs[joint], match.pairs[start]
    apart = max(float(np.linalg.norm(own_rest[own] - own_rest[own_start])), 1e-6)
    scale = float(np.linalg.norm(rest[joint] - rest[start])) / apart
    seen = motion.positions.astype(np.float64)
    return np.asarray(aims[:, joint] + scale * (seen[:, other] - seen[:, own]))


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


def _aims(motion: Motion, target: Skeleton, match: Correspondence) -> Array:
    """(T, J, 3) where the target's joints should be; those without a counterpart in a straight line in between."""
    pairs, own, ours = match.pairs, match.source_roles, match.target_roles
    seen = motion.positions.astype(np.float64)
    turns = _world_rotations(motion)
    rest, own_rest = _rest(target), _rest(motion.skeleton)
    aims = np.zeros((len(motion), len(target), 3))
    legs = _leg(rest, ours) / max(_leg(own_rest, own), 1e-6)
    pelvis = ours["pelvis"]
    aims[:, 0] = seen[:, pairs[0]] * legs
    placed = {0}
    if pelvis and pairs[0] == pairs.get(pelvis):  # a frame of the world above the target's pelvis alone: below it
        aims[:, pelvis] = aims[:, 0]
        aims[:, 0] = aims[:, pelvis] - rest[pelvis]
        placed.add(pelvis)
    lower = {ours[role] for role in ours if role.endswith((" knee", " ankle"))}
    hips, own_hips = ([found["left hip"], found["right hip"]] for found in (ours, own))
    # both rest poses in one frame, left, up and front: a rest pose may stand anyhow
    own_axes = body_axes(own_rest[None], motion.skeleton, sided_pairs(own))[0]
    common = own_axes @ body_axes(rest[None], target)[0].T
    above = {joint: _nearest_pair(target, joint, pairs) for joint in range(1, len(target))}
    # the girdle of the shoulders keeps the target's shape beside the neck and turns as the source's chest does: rigs
    # begin their clavicles anywhere. Clavicles, or upper arms on a target that has no clavicles
    neck = ours.get("neck", 0)
    girdle: dict[int, int] = {}  # target joint -> the source's chest
    for side in ("left", "right") if neck in pairs and neck else ():
        joint = ours.get(f"{side} collar", ours[f"{side} shoulder"])
        if f"{side} collar" in own and joint in pairs:
            girdle[joint] = max(motion.skeleton.parents[own[f"{side} collar"]], 0)
    # bones that lead to no pair, such as attached meshes and twist bones, have no say
    leading = set(_with_ancestors(motion.skeleton, list(pairs.values()))) - {0}
    branches = [motion.skeleton.parents[joint] for joint in leading]
    # both hips before either knee
    first = [*hips, *(joint for joint in reversed(_path(target, neck)) if joint), neck] if girdle else hips
    for joint in [*first, *(joint for joint in range(1, len(target)) if joint not in first)]:
        if joint in pairs and joint not in placed:
            start = above[joint]
            own_start = pairs[start]
            if joint in girdle:
                aims[:, joint] = aims[:, neck] + turns[:, girdle[joint]] @ (common @ (rest[joint] - rest[neck]))
                continue
            together = branches.count(own_start) > 1
            if together and motion.skeleton.parents[pairs[joint]] == own_start:
                aims[:, joint] = aims[:, start] + turns[:, own_start] @ (common @ (rest[joint] - rest[start]))
                continue
            if joint in lower:
                from_hips = seen[:, pairs[joint]] - seen[:, own_hips].mean(axis=1)
                aims[:, joint] = aims[:, hips].mean(axis=1) + legs * from_hips
                continue
            ours_apart = float(np.linalg.norm(rest[joint] - rest[start]))
            theirs_apart = float(np.linalg.norm(own_rest[pairs[joint]] - own_rest[own_start]))
            scale = ours_apart / max(theirs_apart, 1e-6)
            aims[:, joint] = aims[:, start] + scale * (seen[:, pairs[joint]] - seen[:, own_start])
    for joint in range(1, len(target)):
        if joint not in pairs:
            end = next((other for other in pairs if joint in _path(target, other)), None)
            start = above[joint]
            if end is not None:
                whole = float(np.linalg.norm(rest[end] - rest[start]))
                share = float(np.linalg.norm(rest[joint] - rest[start])) / max(whole, 1e-6)
                aims[:, joint] = aims[:, start] + min(share, 1.0) * (aims[:, end] - aims[:, start])
    return aims


def _world_rotations(motion: Motion) -> Array:
    """(T, J, 3, 3): every joint's rotation in the world."""
    world = motion.rotations.astype(np.float64)
    for joint, parent in enumerate(motion.skeleton.parents[1:], start=1):
        world[:, joint] = world[:, parent] @ world[:, joint]
    return world


def _leg(rest: Array, found: dict[str, int]) -> float:
    """Metres from hip to knee to ankle (where there is one) in the rest pose, mean of both sides."""
    total = 0.0
    for side in ("left", "right"):
        joints = [found[f"{side} {part}"] for part in ("hip", "knee", "ankle") if f"{side} {part}" in found]
        total += sum(float(np.linalg.norm(rest[b] - rest[a])) for a, b in pairwise(joints))
    return total / 2


def _rest(skeleton: Skeleton) -> Array:
    """(J, 3) joints in the rest pose, the root at 0."""
    rest = skeleton.offsets.astype(np.float64)
    for joint, parent in enumerate(skeleton.parents[1:], start=1):
        rest[joint] += rest[parent]
    return rest


def _path(skeleton: Skeleton, joint: int) -> list[int]:
    """The joints above one, nearest first."""
    path = []
    while (joint := skeleton.parents[joint]) >= 0:
        path.append(joint)
    return path


def _nearest_pair(skeleton: Skeleton, joint: int, pairs: dict[int, int]) -> int:
    return next(other for other in _path(skeleton, joint) if other in pairs)


def _with_ancestors(skeleton: Skeleton, joints: list[int]) -> list[int]:
    return sorted({0, *joints, *(above for joint in joints for above in _path(skeleton, joint))})


def _kinect(joints: kinect.Joints, only: dict[str, tuple[float, float, float]]) -> Skeleton:
    body = {**_KINECT_BODY, **only}
    offsets = [(0.0, 0.0, 0.0)]
    for name in joints.names[1:]:
        x, y, z = body[name.removesuffix("Left").removesuffix("Right")]
        offsets.append((-x if name.endswith("Right") else x, y, z))
    return Skeleton(joints.names, joints.parents, np.array(offsets, dtype=np.float32))
