"""A skeleton: joint names, parents and rest offsets, and what its names say about the body."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

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

    def same_topology(self, other: Skeleton) -> bool:
        """Whether names and parents agree (offsets may differ)."""
        return self.names == other.names and self.parents == other.parents

    def with_bone_lengths(self, lengths: npt.ArrayLike) -> Skeleton:
        """The same directions with other lengths.

        Args:
            lengths: (J,) metres; the root's entry is ignored.

        Raises:
            InputError: wrong count, a negative or non-finite length, or a length for a bone without a direction.
        """
        wanted = np.asarray(lengths, dtype=np.float32).copy()
        if wanted.shape != (len(self),):
            raise InputError(f"bone lengths: {wanted.shape} given, ({len(self)},) wanted, one for each joint")
        wanted[0] = 0
        if not np.isfinite(wanted).all() or (wanted < 0).any():
            raise InputError("bone lengths: must be finite and not negative (metres)")
        own = self.bone_lengths
        for joint in range(1, len(self)):
            if own[joint] < 1e-9 < wanted[joint]:
                raise InputError(f"bone length of {self.names[joint]!r}: its rest offset is zero and has no direction")
        scale = np.divide(wanted, own, out=np.ones_like(own), where=own > 1e-9)
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
    def across(self) -> tuple[tuple[int, int], ...]:
        """(left, right) pairs of hips and shoulders, as far as the names tell them; their mean points to the left."""
        pairs = []
        for words in (("upperleg", "upleg", "hip", "thigh"), ("upperarm", "shoulder", "arm", "collar", "clavicle")):
            for word in words:
                left, right = _find_side(self.names, word, "left"), _find_side(self.names, word, "right")
                if left is not None and right is not None:
                    pairs.append((left, right))
                    break
        return tuple(pairs)

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """For each joint the one on the other side by name, or itself.

        Raises:
            InputError: no name tells left from right.
        """
        plain = [name.lower() for name in self.names]
        others = []
        for joint, name in enumerate(plain):
            swapped = {re.sub(left, right, name) for left, right in _SIDES if re.search(left, name)}
            others.append(next((plain.index(other) for other in sorted(swapped) if other in plain), joint))
        pairs = [others[other] == joint != other for joint, other in enumerate(others)]
        if not any(pairs):
            raise InputError("mirroring: no names of joints tell left from right")
        return tuple(
            other if paired else joint for joint, (other, paired) in enumerate(zip(others, pairs, strict=True))
        )

    @cached_property
    def feet(self) -> tuple[int, ...]:
        """Joints that touch the ground, by name: toes, else feet, else ankles, with the joint above each."""
        for word in ("toe", "foot", "ankle"):
            ends = [index for index, name in enumerate(self.names) if word in name.lower()]
            if ends:
                return tuple(sorted({*ends, *(self.parents[end] for end in ends if self.parents[end] > 0)}))
        return ()


# how a joint's name changes when the body is seen in a mirror: LeftHip, hip_left; LHip; Bip01 L Thigh; UpperLeg_L
_SIDES = (
    *(("left", "right"), ("right", "left"), ("^l(?=[_. a-z-])", "r"), ("^r(?=[_. a-z-])", "l")),
    *((r"([_. :-])l(?=[_. -]|$)", r"\1r"), (r"([_. :-])r(?=[_. -]|$)", r"\1l")),
)


def _find_side(names: Sequence[str], word: str, side: str) -> int | None:
    """The joint named ``word`` on one side: ``LeftHip``, ``hip_left``, ``UpperLeg_L``, ``LHip``, ``Bip01 L Thigh``."""
    letter = side[0]
    patterns = (
        rf"(^|[^a-z]){side}[_\- .]?{word}",
        rf"{word}[_\- .]?{side}",
        rf"^{letter}[_\- .]?{word}",
        rf"[_\- .:]{letter}[_\- .]{word}",
        rf"{word}[_\- .]{letter}$",
    )
    for pattern in patterns:
        for index, name in enumerate(names):
            if re.search(pattern, name.lower()):
                return index
    return None
