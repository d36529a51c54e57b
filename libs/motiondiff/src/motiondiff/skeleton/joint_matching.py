"""Corresponding joints of two skeletons: by roles, by equal names, or by a user's joint map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from icube_common.config import read_yaml
from icube_common.errors import InputError, unknown
from motiondiff.skeleton.skeleton import Skeleton

REQUIRED_ROLES = ("pelvis", "left hip", "right hip", "left knee", "right knee", "left shoulder", "right shoulder")
"""Roles that retargeting requires on both skeletons."""


def read_joint_map(path: str | Path) -> dict[str, str | None]:
    """Joint map of a user: YAML of role or joint of the target -> joint of the source; ``null`` leaves a joint free.

    Raises:
        InputError: it cannot be read, is not YAML, or is no map of names.
    """
    content = read_yaml(path, option="--map")
    if not content:
        raise InputError(
            f"--map {path}: lines `left shoulder: LeftArm` expected (role or joint of the target: joint of the source)"
        )
    for key, joint in content.items():
        if joint is not None and not isinstance(joint, (str, int)):
            raise InputError(f"--map {path}: {key}: {joint!r} is not a joint name")
    return {key: None if joint is None else str(joint) for key, joint in content.items()}


@dataclass(frozen=True)
class JointCorrespondence:
    """Correspondence of the joints of two skeletons.

    Attributes:
        pairs: target joint -> source joint.
        source_roles: role -> joint of the source, the user's joint map included.
        target_roles: role -> joint of the target.
    """

    pairs: dict[int, int]
    source_roles: dict[str, int]
    target_roles: dict[str, int]


def match_joints(
    source: Skeleton, target: Skeleton, joints: Mapping[str, str | None] | None = None
) -> JointCorrespondence:
    """Pairs of joints: by the joint map ``joints``, else by name in skeletons of one kind, else by role.

    Raises:
        InputError: one of `REQUIRED_ROLES` is missing on either side, or a name in ``joints`` is unknown.
    """
    source_roles, target_roles = dict(source.roles), target.roles
    mapped = _mapped(source, target, joints or {})
    for role, joint in target_roles.items():
        if joint in mapped:
            source_roles.pop(role, None)
            if (partner := mapped[joint]) is not None:
                source_roles[role] = partner
    for role in REQUIRED_ROLES:
        for side, roles in ((source, source_roles), (target, target_roles)):
            if role not in roles:
                raise InputError(f"no joint is the {role} by name; the skeleton has {', '.join(side.names)}")
    by_role = {target_roles[role]: source_roles[role] for role in target_roles if role in source_roles}
    # LeftShoulder is the clavicle of one rig and the upper arm of another: a name pairs only within a role
    role_of = {joint: role for role, joint in target_roles.items()}
    by_name = {
        joint: source.names.index(name)
        for joint, name in enumerate(target.names)
        if name in source.names and source_roles.get(role_of.get(joint, ""), -1) in (-1, source.names.index(name))
    }
    if 2 * len(by_name) < len(target):  # a spine of one kind of skeleton is not that of another
        by_name = {}
    pairs = {0: by_role.get(0, 0)}
    pairs |= {joint: by_name.get(joint, by_role.get(joint, -1)) for joint in range(1, len(target))}
    pairs |= {
        joint: -1 if partner is None else partner for joint, partner in mapped.items() if joint or partner is not None
    }
    return JointCorrespondence(
        {joint: other for joint, other in pairs.items() if other >= 0}, source_roles, target_roles
    )


def _mapped(source: Skeleton, target: Skeleton, joints: Mapping[str, str | None]) -> dict[int, int | None]:
    """Target joint -> source joint of a user's joint map.

    Raises:
        InputError: an unknown role or joint, of which the nearest is named, or a joint of the target named twice.
    """
    target_roles = target.roles
    mapped: dict[int, int | None] = {}
    for key, name in joints.items():
        if key not in target.names and key not in target_roles:
            raise unknown("role or joint of the target in the joint map", key, [*target_roles, *target.names])
        if name is not None and name not in source.names:
            raise unknown(f"joint of the source in the joint map, for {key}:", name, source.names)
        joint = target.names.index(key) if key in target.names else target_roles[key]
        if joint in mapped:
            raise InputError(f"joint map: {key}: the target's {target.names[joint]} is named twice")
        mapped[joint] = None if name is None else source.names.index(name)
    return mapped
