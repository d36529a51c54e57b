"""Legs and upper body of a rig with unconventional names: by words for feet and head, else by symmetry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from icube_common.data.skeleton_roles import ancestors

_FOOT = re.compile(r"foot(?!step)|feet|ankle|heel|足首")
_TOE = re.compile(r"toe|つま先")
_HEAD = re.compile(r"head|頭")
_NECK = re.compile(r"neck|(?<!足|手)首")
_UPPER = re.compile(
    r"head|neck|chest|spine|torso|abdomen|back|shoulder|collar|clav|arm|elbow|wrist|hand|頭|首|肩|腕|手"
)
_PELVIC = 0.18
"""Fraction of the length from pelvis to ankle below which the first bone belongs to the pelvis, not to the leg."""


@dataclass(frozen=True)
class Limbs:
    """Indices of the joints that determine the posture of a body.

    Attributes:
        pelvis: lowest common ancestor of both legs.
        hips: start of each thigh.
        ankles: end of each shin.
        leg: mean length from hip to ankle, along the bones.
        upper: head, neck or chest; None for a body of legs only.
    """

    pelvis: int
    hips: tuple[int, int]
    ankles: tuple[int, int]
    leg: float
    upper: int | None


def find_limbs(names: Sequence[str], parents: Sequence[int], lengths: npt.NDArray[np.float64]) -> Limbs | None:
    """Limbs of a rig; None without a pair of legs.

    Args:
        names: J joints, a parent before its children.
        parents: -1 for a root.
        lengths: (J,) distance of each joint from its parent, in any unit.
    """
    plain = [name.rsplit(":", 1)[-1].lower() for name in names]
    ankles = _paired_feet(plain, parents) or _paired_chains(parents, lengths)
    if ankles is None:
        return None
    pelvis = common_ancestor(parents, *ankles)
    hips, sums = [], []
    for ankle in ankles:
        path = path_below(parents, pelvis, ankle)
        total = float(sum(lengths[joint] for joint in path))
        start = next((n for n, joint in enumerate(path[1:]) if lengths[joint] >= _PELVIC * total), 0)
        hips.append(path[start])
        sums.append(float(sum(lengths[joint] for joint in path[start + 1 :])))
    leg = float(np.mean(sums))
    if not leg > 0:
        return None
    legs = {joint for ankle in ankles for joint in descendants(parents, path_below(parents, pelvis, ankle)[0])}
    trunk = [joint for joint in descendants(parents, pelvis) if joint not in legs and joint != pelvis]
    return Limbs(pelvis, (hips[0], hips[1]), ankles, leg, _upper(plain, parents, trunk))


def is_upper_body(name: str) -> bool:
    """True for a joint name with a word for trunk, head or arms."""
    return bool(_UPPER.search(name.rsplit(":", 1)[-1].lower()))


def has_feet(names: Sequence[str]) -> bool:
    """True where any joint name has a word for foot or toe."""
    return any(word.search(name.rsplit(":", 1)[-1].lower()) for name in names for word in (_FOOT, _TOE))


def common_ancestor(parents: Sequence[int], first: int, second: int) -> int:
    """The lowest joint above both; -1 where they are in different trees."""
    above = {first, *ancestors(parents, first)}
    return next((joint for joint in [second, *ancestors(parents, second)] if joint in above), -1)


def path_below(parents: Sequence[int], top: int, joint: int) -> list[int]:
    """The joints from below ``top`` down to a joint."""
    above = [joint, *ancestors(parents, joint)]
    return above[: above.index(top)][::-1]


def descendants(parents: Sequence[int], top: int) -> list[int]:
    """A joint and all below it, in order."""
    inside = {top}
    for joint in range(top + 1, len(parents)):
        if parents[joint] in inside:
            inside.add(joint)
    return sorted(inside)


def _paired_feet(plain: Sequence[str], parents: Sequence[int]) -> tuple[int, int] | None:
    """The first foot by name, and the foot with the deepest common ancestor."""
    for word in (_FOOT, _TOE):
        named = {joint for joint, name in enumerate(plain) if word.search(name)}
        feet = sorted(joint for joint in named if not named & set(ancestors(parents, joint)))
        pairs = [
            (len(ancestors(parents, top)), -second, second)
            for second in feet[1:]
            if (top := common_ancestor(parents, feet[0], second)) >= 0
        ]
        if pairs:
            return feet[0], max(pairs)[2]
    return None


def _paired_chains(parents: Sequence[int], lengths: npt.NDArray[np.float64]) -> tuple[int, int] | None:
    """Ankles of two equal chains of at least three joints that leave one joint, nearest to the root.

    Legs come from the pelvis, near the root; arms are further from it, and fingers are further still.
    """
    best: tuple[int, float, tuple[int, int]] | None = None
    for top in range(len(parents)):
        children = [joint for joint, parent in enumerate(parents) if parent == top]
        for pair in combinations(children, 2):
            trees = [descendants(parents, child) for child in pair]
            shapes = [[parents[joint] - tree[0] for joint in tree[1:]] for tree in trees]
            sizes = [float(lengths[tree[1:]].sum()) for tree in trees]
            alike = shapes[0] == shapes[1] and max(sizes) > 0 and min(sizes) > 0.9 * max(sizes)
            ends = [_main_chain(parents, tree) for tree in trees]
            if alike and all(len(end) >= 3 for end in ends):
                depth = len(ancestors(parents, top))
                if best is None or (depth, -sum(sizes)) < best[:2]:
                    best = (depth, -sum(sizes), (ends[0][2], ends[1][2]))
    return best[2] if best else None


def _main_chain(parents: Sequence[int], tree: Sequence[int]) -> list[int]:
    """From the top of a tree down, at each fork to the child with most joints below it."""
    chain = [tree[0]]
    while children := [joint for joint in tree if parents[joint] == chain[-1]]:
        chain.append(max(children, key=lambda child: len(descendants(parents, child))))
    return chain


def _upper(plain: Sequence[str], parents: Sequence[int], trunk: Sequence[int]) -> int | None:
    """Head, else neck, else the joint from which the upper body's branches leave, else the end of its one chain."""
    for word in (_HEAD, _NECK):
        for joint in trunk:
            if word.search(plain[joint]):
                return joint
    if not trunk:
        return None
    leaves = [joint for joint in trunk if joint not in parents]
    top = leaves[0]
    for leaf in leaves[1:]:
        top = common_ancestor(parents, top, leaf)
    return top if top in trunk else max(trunk, key=lambda joint: len(ancestors(parents, joint)))
