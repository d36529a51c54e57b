"""`Skeleton`: joint names, parents and rest offsets, and joint roles by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from icube_common.data.skeleton_roles import ground_joints, joint_roles, mirror_order
from icube_common.errors import InputError, nearest


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A tree of joints.

    Attributes:
        names: J joint names, unique.
        parents: index of each joint's parent; -1 for joint 0, the root; a parent comes before its children.
        offsets: (J, 3) float32, metres: each joint's rest position in its parent's frame; zeros for the root.

    Raises:
        InputError: lengths differ, names repeat, a parent does not precede its child, or an offset is not finite.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        object.__setattr__(self, "parents", tuple(int(parent) for parent in self.parents))
        offsets = np.array(self.offsets, dtype=np.float32)
        joints = len(self.names)
        if len(self.parents) != joints or offsets.shape != (joints, 3) or joints == 0:
            raise InputError(
                f"skeleton: {joints} names, {len(self.parents)} parents and offsets {offsets.shape} do not fit together"
            )
        if len(set(self.names)) != joints:
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            raise InputError(f"skeleton: joint names must be unique, repeated: {', '.join(repeated)}")
        for joint, parent in enumerate(self.parents):
            if parent != -1 if joint == 0 else not 0 <= parent < joint:
                raise InputError(f"skeleton: joint {self.names[joint]!r} has parent {parent}; parents come first")
        if not np.isfinite(offsets).all():
            raise InputError("skeleton: offsets must be finite")
        offsets[0] = 0
        offsets.setflags(write=False)
        object.__setattr__(self, "offsets", offsets)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def bone_lengths(self) -> npt.NDArray[np.float32]:
        """(J,) metres: the distance of each joint from its parent; 0 for the root."""
        return np.asarray(np.linalg.norm(self.offsets, axis=-1), dtype=np.float32)

    @cached_property
    def children(self) -> list[list[int]]:
        """Children of each joint."""
        return [[child for child, parent in enumerate(self.parents) if parent == joint] for joint in range(len(self))]

    @property
    def rest_positions(self) -> npt.NDArray[np.float64]:
        """(J, 3) metres: the joints with all rotations at identity and the root at 0."""
        positions = self.offsets.astype(np.float64)
        for joint, parent in enumerate(self.parents[1:], start=1):
            positions[joint] += positions[parent]
        return positions

    def same_topology(self, other: Skeleton) -> bool:
        """True where names and parents agree (offsets may differ)."""
        return self.names == other.names and self.parents == other.parents

    def with_bone_lengths(self, lengths: npt.ArrayLike) -> Skeleton:
        """The same directions with other lengths.

        Args:
            lengths: (J,) metres; the root's entry is ignored.

        Raises:
            InputError: wrong count, a negative or non-finite length, or a length for a bone without a direction.
        """
        target = np.asarray(lengths, dtype=np.float32).copy()
        if target.shape != (len(self),):
            raise InputError(f"bone lengths: {target.shape} given, ({len(self)},) wanted, one for each joint")
        target[0] = 0
        if not np.isfinite(target).all() or (target < 0).any():
            raise InputError("bone lengths: must be finite and not negative (metres)")
        present = self.bone_lengths
        for joint in range(1, len(self)):
            if present[joint] < 1e-9 < target[joint]:
                raise InputError(f"bone length of {self.names[joint]!r}: its rest offset is zero and has no direction")
        scale = np.divide(target, present, out=np.ones_like(present), where=present > 1e-9)
        return Skeleton(self.names, self.parents, self.offsets * scale[:, None])

    def index(self, name: str) -> int:
        """The index of a joint by name.

        Raises:
            InputError: no such joint; the nearest name is given.
        """
        if name not in self.names:
            raise InputError(f"unknown joint {name!r}: did you mean {nearest(name, self.names)!r}?")
        return self.names.index(name)

    @cached_property
    def roles(self) -> dict[str, int]:
        """Role -> joint (`icube_common.data.skeleton_roles`): ``pelvis``, ``left knee``, ``right shoulder`` ..."""
        return joint_roles(self.names, self.parents, self.offsets)

    @cached_property
    def left_right_pairs(self) -> tuple[tuple[int, int], ...]:
        """(left, right) pairs of hips and shoulders, where names have sides; their mean difference points left."""
        return left_right_pairs(self.roles)

    @cached_property
    def mirror_indices(self) -> tuple[int, ...]:
        """(J,) index of the joint on the other side by name, or of the joint itself.

        Raises:
            InputError: no joint name has a side.
        """
        order = mirror_order(self.names)
        if order is None:
            raise InputError("mirroring: no joint name has a side (left, right)")
        return order

    @cached_property
    def feet(self) -> tuple[int, ...]:
        """Joints that touch the ground, by name: toes, else feet, else ankles, with the joint above each."""
        return ground_joints(self.names, self.parents)


def left_right_pairs(roles: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    """(left, right) joints of hips and of shoulders (else clavicles) by role."""
    pairs = []
    for parts in (("hip",), ("shoulder", "collar")):
        common = next((part for part in parts if f"left {part}" in roles and f"right {part}" in roles), None)
        if common is not None:
            pairs.append((roles[f"left {common}"], roles[f"right {common}"]))
    return tuple(pairs)
