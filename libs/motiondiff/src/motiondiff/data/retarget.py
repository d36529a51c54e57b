"""Motions of one skeleton on another: joints that correspond, the target's bone lengths, rotations fitted anew.

Every joint has a role (left knee, neck, ...), told from its name. Where source and target both have a joint of a role,
the target's joint is aimed at: from the nearest such joint above it, in the direction of the source, as far as the
source is stretched there, at the target's scale. Where several bones leave a joint of the source together (hips from
the pelvis), the target's keep the target's shape and turn as the source's do: sensors put hips in all sorts of places.
Knees and ankles are aimed at from between the hips, so that narrower hips do not cross the legs. Joints that only the
target has are left to the fit (`motiondiff.geometry.fitting.fit_rotations`) and found by turns with it; at the ends of
limbs they stay straight.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError, unknown
from motiondiff.data.readers import kinect
from motiondiff.data.readers.kinect_v2 import KINECT_V2
from motiondiff.geometry.fitting import body_axes, fit_rotations
from motiondiff.geometry.skeleton import Skeleton
from motiondiff.geometry.smpl import mean_skeleton
from motiondiff.motion import Motion

Array = npt.NDArray[np.float64]

NEEDED = ("pelvis", "left hip", "right hip", "left knee", "right knee", "left shoulder", "right shoulder")
"""Roles without which a body cannot be put on another."""
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


def roles(skeleton: Skeleton) -> dict[str, int]:
    """Role -> joint (`icube_common.skeleton_roles.joint_roles`)."""
    return skeleton.roles


def retarget(motion: Motion, target: Skeleton) -> Motion:
    """The motion on the target's body.

    The root's path is scaled with the legs. ``residual`` grows by the mean distance of the joints that correspond from
    where they were aimed at, so it stays an upper bound of the distance from what was recorded.

    Raises:
        InputError: one of `NEEDED` is missing on either side.
    """
    pairs = correspondence(motion.skeleton, target)
    aims = _aims(motion, target, pairs)
    kept = _with_ancestors(target, list(pairs))
    body = Skeleton(
        tuple(target.names[joint] for joint in kept),
        tuple(-1 if joint == 0 else kept.index(target.parents[joint]) for joint in kept),
        target.offsets[kept],
    )
    free = [place for place, joint in enumerate(kept) if joint not in pairs]
    aimed = [place for place, joint in enumerate(kept) if joint in pairs]
    observed = aims[:, kept]
    root, local, residual = fit_rotations(observed, body)
    for _ in range(ROUNDS if free else 0):
        fitted = Motion(root.astype(np.float32), local.astype(np.float32), body, motion.fps).positions
        observed[:, free] = fitted[:, free]
        root, local, residual = fit_rotations(observed, body)
    rotations = np.tile(np.eye(3), (len(motion), len(target), 1, 1))
    rotations[:, kept] = local
    return replace(
        motion,
        root=root.astype(np.float32),
        rotations=rotations.astype(np.float32),
        skeleton=target,
        residual=motion.residual + float(residual[:, aimed].mean()),
    )


def correspondence(source: Skeleton, target: Skeleton) -> dict[int, int]:
    """Target joint -> source joint: of the same name in skeletons of one kind, else of the same role.

    Raises:
        InputError: one of `NEEDED` is missing on either side.
    """
    theirs, ours = roles(source), roles(target)
    for role in NEEDED:
        for side, found in ((source, theirs), (target, ours)):
            if role not in found:
                raise InputError(f"no joint is the {role} by name; the skeleton has {', '.join(side.names)}")
    by_role = {ours[role]: theirs[role] for role in ours if role in theirs}
    by_name = {joint: source.names.index(name) for joint, name in enumerate(target.names) if name in source.names}
    if 2 * len(by_name) < len(target):  # a spine of one kind of skeleton is not that of another
        by_name = {}
    pairs = {0: 0} | {joint: by_name.get(joint, by_role.get(joint, -1)) for joint in range(1, len(target))}
    return {joint: other for joint, other in pairs.items() if other >= 0}


def _aims(motion: Motion, target: Skeleton, pairs: dict[int, int]) -> Array:
    """(T, J, 3) where the target's joints should be; those without a counterpart in a straight line in between."""
    seen = motion.positions.astype(np.float64)
    turns = _world_rotations(motion)
    rest, own_rest = _rest(target), _rest(motion.skeleton)
    own, ours = roles(motion.skeleton), roles(target)
    aims = np.zeros((len(motion), len(target), 3))
    legs = _leg(rest, ours) / max(_leg(own_rest, own), 1e-6)
    aims[:, 0] = seen[:, 0] * legs
    lower = {ours[role] for role in ours if role.endswith((" knee", " ankle"))}
    hips, own_hips = ([found["left hip"], found["right hip"]] for found in (ours, own))
    # both rest poses in one frame, left, up and front: a rest pose may stand anyhow
    common = body_axes(own_rest[None], motion.skeleton)[0] @ body_axes(rest[None], target)[0].T
    above = {joint: _nearest_pair(target, joint, pairs) for joint in range(1, len(target))}
    # both hips before either knee
    for joint in [*hips, *(joint for joint in range(1, len(target)) if joint not in hips)]:
        if joint in pairs:
            start = above[joint]
            own_start = pairs[start]
            together = motion.skeleton.parents.count(own_start) > 1
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
