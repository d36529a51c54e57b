"""Joint roles and sides of a skeleton: which joint is the left elbow, by the tree of joints and by their names.

Names alone are ambiguous: ``LeftShoulder`` is the glenohumeral joint in Kinect and SMPL, and the clavicle in
MotionBuilder, Mixamo and Rokoko; ``LeftLeg`` is the knee below ``LeftUpLeg``, ``LeftHip`` a helper above it. So names
classify each joint coarsely (arm, leg, trunk, finger, helper), and the chain of a limb decides: with N joints above the
hand they are ``[collar,] shoulder, elbow``; with N joints above the ankle ``[helper,] hip, knee``. Unambiguous words
(``clavicle``, ``upperarm``, ``thigh``, ``shin``) come first.

Roles: ``pelvis``, ``neck``, ``head``, and for each side ``collar``, ``shoulder`` (where the upper arm begins),
``elbow``, ``wrist``, ``hand``, ``thumb``, ``tip``, ``hip`` (where the thigh begins), ``knee``, ``ankle``, ``foot``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SIDES = ("left", "right")

_SIDE_WORDS = {"left": "left", "right": "right", "lft": "left", "rgt": "right", "l": "left", "r": "right"}
_HELPERS = {
    "twist", "roll", "ik", "pole", "target", "goal", "end", "nub", "site", "effector", "helper", "mesh", "rigmesh",
    "corrective", "jiggle", "muscle", "prop", "weapon", "holder", "socket", "dummy", "null", "virtual", "heel",
}  # fmt: skip
"""Joints beside the body's own: end sites, twist bones, targets of inverse kinematics, attached meshes."""
_FINGERS = {"thumb", "index", "middle", "ring", "pinky", "pinkie", "little", "finger", "fingers", "metacarpal", "palm"}
_TOES = {"toe", "toes", "ball", "metatarsal", "metatarsals"}
_UPPER, _LOWER = {"upper", "up"}, {"lower", "low", "fore"}
_WORDS: dict[str, str] = {
    **dict.fromkeys(("clavicle", "clav", "collar", "scapula"), "collar"),
    **dict.fromkeys(("shoulder", "shldr"), "shoulder?"),
    **dict.fromkeys(("elbow", "forearm", "radius", "ulna"), "elbow"),
    **dict.fromkeys(("humerus", "upperarm"), "upperarm"),
    "wrist": "wrist",
    "hand": "hand",
    "arm": "arm?",
    **dict.fromkeys(("thigh", "femur", "upperleg"), "thigh"),
    **dict.fromkeys(("knee", "shin", "calf", "tibia", "fibula", "lowerleg"), "knee"),
    **dict.fromkeys(("ankle", "talus"), "ankle"),
    **dict.fromkeys(("foot", "feet"), "foot"),
    "buttock": "helper",
    "hip": "hip?",
    "leg": "leg?",
}
"""Word -> part of a limb; a question mark where the chain of the limb decides."""
_ARM = ("collar", "shoulder?", "arm?", "upperarm", "elbow", "wrist", "hand")
_LEG = ("helper", "hip?", "thigh", "leg?", "knee", "ankle", "foot", "toe")
"""Parts from the trunk outwards, the order in which joints of a flat list stand in a limb."""
_LIMBS = {*_ARM, *_LEG, "thumb", "finger", "tip"}
_SPINE = {"spine", "chest", "torso", "abdomen", "thorax", "back", "waist", "lumbar"}
_PELVIS = {"pelvis", "hips", "hip"}
_PELVIS_PAIRS = ({"hip", "center"}, {"hip", "centre"}, {"spine", "base"})
_ABBREVIATIONS = {
    "cl": "collar", "hu": "upperarm", "ra": "elbow", "hn": "hand",
    "fe": "thigh", "ti": "knee", "fo": "foot", "to": "toe",
}  # fmt: skip
"""Segments of Vicon's Plug-in Gait (``LFE`` is the left femur); only for names whose other side is there too."""
_BODY = {*_FINGERS, *_TOES, *_WORDS, *_SPINE, *_PELVIS, "neck", "head"}
_SPLITTABLE = {
    *_BODY, *_SIDE_WORDS, *_HELPERS, *_UPPER, *_LOWER,
    "center", "centre", "base", "mid", "tip", "joint", "in", "bend", "top", "root",
}  # fmt: skip


class JointName(NamedTuple):
    """Parsed name of a joint: side, part of the body, and words without the side.

    Attributes:
        side: ``left``, ``right`` or None.
        part: an entry of the arm or leg, ``toe``, ``thumb``, ``tip``, ``finger``, ``pelvis``, ``neck``, ``head``,
            ``spine``, or None; with a question mark where it depends on the tree.
        helper: whether it is an end site, twist bone or the like.
        words: lower-case words and numbers, the side replaced by an asterisk.
    """

    side: str | None
    part: str | None
    helper: bool
    words: tuple[str, ...]


@cache
def read_joint_name(name: str) -> JointName:
    """Read one name by itself; `read_joint_names` also uses that the name of the other side is there."""
    words = _split(re.split(r"[:|]", name)[-1])
    at = next((place for place, word in enumerate(words) if word in ("left", "right")), None)
    if at is None:
        at = next((place for place, word in enumerate(words) if word in _SIDE_WORDS), None)
    side = None if at is None else _SIDE_WORDS[words[at]]
    rest = [word for place, word in enumerate(words) if place != at and not word.isdigit()]
    part, helper = _part(set(rest), side is not None)
    if at is not None and len(words[at]) == 1 and part is None and not helper:
        side = at = None  # L5 is a vertebra
    marked = tuple("*" if place == at else word for place, word in enumerate(words))
    return JointName(side, part, helper, marked)


def read_joint_names(names: Sequence[str]) -> tuple[JointName, ...]:
    """Read all names of a skeleton; an L and an R that are the only difference between two names are sides."""
    read = [read_joint_name(name) for name in names]
    present = set(names)
    for joint, name in enumerate(names):
        if read[joint].side is None and (swapped := _swapped_letter(name, present)):
            letter, rest = swapped
            side = "left" if letter in "lL" else "right"
            part = _ABBREVIATIONS.get(rest.lower(), read[joint].part)
            read[joint] = JointName(side, part, read[joint].helper, ("*", rest.lower()))
    return tuple(read)


def mirror_order(names: Sequence[str]) -> tuple[int, ...] | None:
    """For each joint the one on the other side by name, or itself; None where no name distinguishes left from right."""
    read = read_joint_names(names)
    places: dict[tuple[str | None, tuple[str, ...]], list[int]] = {}
    for joint, name in enumerate(read):
        places.setdefault((name.side, name.words), []).append(joint)
    order = list(range(len(names)))
    for (side, words), joints in places.items():
        others = places.get(("right", words), []) if side == "left" else []
        for left, right in zip(joints, others, strict=False):
            order[left], order[right] = right, left
    return tuple(order) if order != list(range(len(names))) else None


def joint_roles(
    names: Sequence[str], parents: Sequence[int], offsets: npt.NDArray[np.floating] | None = None
) -> dict[str, int]:
    """Role -> joint, from names and tree.

    Args:
        names: J names.
        parents: index of each joint's parent, -1 for joint 0; a parent comes before its children.
        offsets: (J, 3) rest positions in the parent's frame, x to the left, y up, z to the front; they give the sides
            where no name does.
    """
    read = list(read_joint_names(names))
    if offsets is not None and not any(name.side for name in read):
        read = _sides_by_place(read, parents, np.asarray(offsets, dtype=np.float64))
    read = _inherit_sides(read, parents)
    roles: dict[str, int] = {}
    for side in SIDES:
        roles |= {f"{side} {part}": joint for part, joint in _arm(read, parents, side).items()}
        roles |= {f"{side} {part}": joint for part, joint in _leg(read, parents, side).items()}
        for part in ("thumb", "tip"):
            result = next((joint for joint, name in enumerate(read) if name[:2] == (side, part)), None)
            if result is not None:
                roles[f"{side} {part}"] = result
    return roles | _trunk(read, parents, roles)


def ground_joints(names: Sequence[str], parents: Sequence[int]) -> tuple[int, ...]:
    """Joints that touch the ground: toes, else feet, else ankles, with the joint above each; by name."""
    read = read_joint_names(names)
    for part in ("toe", "foot", "ankle"):
        # the end of a toe is on the ground as well; other helpers are no part of the body
        ends = [
            joint
            for joint, name in enumerate(read)
            if name.part == part and not (_HELPERS - {"end", "nub", "site"}).intersection(name.words)
        ]
        if ends:
            return tuple(sorted({*ends, *(parents[end] for end in ends if parents[end] > 0)}))
    return ()


def _split(name: str) -> list[str]:
    """Lower-case words of a name: at separators and capitals, and inside words made of known ones (``lhand``)."""
    words: list[str] = []
    for token in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", name):
        inside = _known_words(token.lower()) or []
        words += inside if _BODY.intersection(inside) else [token.lower()]  # "upright" names no side
    if "arm" in words or "leg" in words:  # LUArm, LFArm, LLLeg
        short = {"u": "upper", "f": "fore", "l": "lower"}
        words = [
            part
            for word in words
            for part in ((word[0], short[word[1]]) if re.fullmatch("[lr][ufl]", word) else (word,))
        ]
    return words


@cache
def _known_words(token: str) -> list[str] | None:
    """The token as a sequence of known words, the fewest; a single L or R only at an end. None if it is none."""
    if token in _SPLITTABLE:
        return [token]
    best: list[str] | None = None
    for cut in range(len(token) - 1, 0, -1):
        first = token[:cut]
        if first in _SPLITTABLE and (rest := _known_words(token[cut:])):
            best = min([first, *rest], best or [first, *rest], key=len)
    return best


def _part(words: set[str], sided: bool) -> tuple[str | None, bool]:
    """(part, helper) of a name's words without side and numbers."""
    helper = bool(words & _HELPERS)
    if not sided:
        helper = bool(words & (_HELPERS - {"twist", "roll"}))  # twist bones of the neck are the neck
        if words & _PELVIS or any(pair <= words for pair in _PELVIS_PAIRS):
            return "pelvis", helper
        for part in ("neck", "head"):
            if part in words:
                return part, helper
        if words & {"shoulder", "shoulders"} and words & {"center", "centre", "spine"}:
            return "neck", helper
        if words & _SPINE:
            return "spine", helper
    if words & _TOES or (words & {"foot", "feet"} and words & _FINGERS):
        return "toe", helper
    if words & _FINGERS:
        return ("thumb" if "thumb" in words else "finger"), helper
    if "tip" in words:
        return "tip", helper
    upper, lower = bool(words & _UPPER), bool(words & _LOWER)
    if "arm" in words and (upper or lower):
        return ("upperarm" if upper else "elbow"), helper
    if "leg" in words and (upper or lower):
        return ("thigh" if upper else "knee"), helper
    # in the order of the table: "ShoulderArm" is an arm's shoulder whatever comes first
    return next((part for word, part in _WORDS.items() if word in words), None), helper


def _swapped_letter(name: str, present: set[str]) -> tuple[str, str] | None:
    """(letter, the rest) where a name has an L or R, at an end or alone, and its counterpart is in ``present``."""
    other = {"L": "R", "R": "L", "l": "r", "r": "l"}
    for result in re.finditer(r"^[LRlr](?=.)|(?<=.)[LRlr]$|(?<![A-Za-z])[LRlr](?![A-Za-z])", name):
        before, letter, after = name[: result.start()], result[0], name[result.end() :]
        if before + other[letter] + after in present:
            return letter, before + after
    return None


def _inherit_sides(read: Sequence[JointName], parents: Sequence[int]) -> list[JointName]:
    """A part of a limb without a side, below a joint that has one, is on that side (``Hand`` below ``LeftForeArm``)."""
    roles = list(read)
    for joint, parent in enumerate(parents):
        if parent >= 0 and roles[joint].side is None and roles[parent].side and roles[joint].part in _LIMBS:
            roles[joint] = roles[joint]._replace(side=roles[parent].side)
    return roles


def _sides_by_place(
    read: Sequence[JointName], parents: Sequence[int], offsets: npt.NDArray[np.float64]
) -> list[JointName]:
    """Sides of limbs by their place in the rest pose: x to the left where toes point to +z, to the right else."""
    place = offsets.copy()
    for joint, parent in enumerate(parents[1:], start=1):
        place[joint] += place[parent]
    toes = [joint for joint, name in enumerate(read) if name.part == "toe" and parents[joint] > 0]
    front = float(np.mean([offsets[joint, 2] for joint in toes])) if toes else 1.0
    to_left = np.where(front < 0, -1.0, 1.0) * (place[:, 0] - place[0, 0])
    height = max(float(np.ptp(place[:, 1])), 1e-9)
    roles = []
    for joint, name in enumerate(read):
        part = "hip?" if name.part == "pelvis" and joint else name.part
        sided = part in _LIMBS and abs(to_left[joint]) > 0.01 * height
        roles.append(name._replace(side="left" if to_left[joint] > 0 else "right", part=part) if sided else name)
    return roles


def _chain(read: Sequence[JointName], parents: Sequence[int], side: str, parts: Sequence[str]) -> list[int]:
    """The joints of one limb from the trunk outwards: the longest path of the tree, or by parts in a flat list."""
    members = [joint for joint, name in enumerate(read) if name.side == side and name.part in parts and not name.helper]
    paths = [[other for other in members if other in {joint, *ancestors(parents, joint)}] for joint in members]
    longest = max(paths, key=len, default=[])
    if len(longest) < 2 < 1 + len({read[joint].part for joint in members}):
        return sorted(members, key=lambda joint: (parts.index(str(read[joint].part)), joint))
    return longest


def _arm(read: Sequence[JointName], parents: Sequence[int], side: str) -> dict[str, int]:
    """Collar, shoulder, elbow, wrist and hand of one arm."""
    chain = _chain(read, parents, side, _ARM)
    part = {joint: str(read[joint].part) for joint in chain}
    wrist, hand = _first(chain, part, "wrist"), _first(chain, part, "hand")
    above = [joint for joint in chain if part[joint] not in ("wrist", "hand")]
    middle = _first(above, part, "elbow")
    if middle is None and len(above) > 1 and part[above[-1]] == "arm?":
        others = {part[joint] for joint in above[:-1]}
        # Shoulder, Arm, Hand; Shoulder, Arm alone ends with the upper arm
        counted = wrist is not None or hand is not None or len(above) > 2
        middle = above[-1] if others & {"shoulder?", "upperarm", "arm?"} and counted else None
    shoulder, girdle = _top(above, part, middle, "collar", ("upperarm", "arm?"))
    collar = _first(girdle, part, "collar")
    return _roles(
        wrist=hand if wrist is None else wrist,
        hand=None if wrist is None else hand,
        elbow=middle,
        shoulder=shoulder,
        collar=girdle[-1] if girdle and collar is None else collar,
    )


def _leg(read: Sequence[JointName], parents: Sequence[int], side: str) -> dict[str, int]:
    """Hip, knee, ankle and foot of one leg."""
    chain = _chain(read, parents, side, _LEG)
    part = {joint: str(read[joint].part) for joint in chain}
    ends = [joint for joint in chain if part[joint] in ("ankle", "foot", "toe")]
    ankle = _first(ends, part, "ankle", "foot")
    feet = ends if ankle is None else ends[ends.index(ankle) + 1 :]
    above = [joint for joint in chain if joint not in ends]
    middle = _first(above, part, "knee")
    if middle is None and above and part[above[-1]] == "leg?":
        middle = above[-1]
    hip, _ = _top(above, part, middle, "helper", ("thigh", "leg?"))
    return _roles(ankle=ankle, foot=feet[0] if feet else None, knee=middle, hip=hip)


def _top(
    above: list[int], part: dict[int, str], middle: int | None, helper: str, names: tuple[str, ...]
) -> tuple[int | None, list[int]]:
    """Start of a limb's upper segment (by ``names``, else the outermost of several joints), and the joints above it."""
    if middle is not None:
        above = above[: above.index(middle)]
    free = [joint for joint in above if part[joint] != helper]
    # UpperArm, UpperArm.001 are segments of one bone; of two shoulders or hips the outer one is the joint
    top = next((joint for joint in [_first(free, part, *names), *free[-1:]] if joint is not None), None)
    return top, above if top is None else above[: above.index(top)]


def _first(joints: Sequence[int], part: dict[int, str], *names: str) -> int | None:
    """The first joint of the first of these parts that is there."""
    return next((joint for name in names for joint in joints if part[joint] == name), None)


def _roles(**joints: int | None) -> dict[str, int]:
    return {role: joint for role, joint in joints.items() if joint is not None}


def _trunk(read: Sequence[JointName], parents: Sequence[int], limbs: dict[str, int]) -> dict[str, int]:
    """Pelvis, neck and head; the pelvis is the root unless that is a frame of the world above it."""
    roles: dict[str, int] = {}
    midline = [joint for joint, name in enumerate(read) if name.side is None and not name.helper]
    tops = [limbs[role] for role in ("left hip", "right hip", "left shoulder", "right shoulder") if role in limbs]
    shared = set(range(len(parents))).intersection(*({joint, *ancestors(parents, joint)} for joint in tops))
    pelvis = [joint for joint in midline if read[joint].part == "pelvis" and (joint in shared or not tops)]
    roles["pelvis"] = pelvis[-1] if pelvis and tops else 0
    for part in ("neck", "head"):
        result = [joint for joint in midline if read[joint].part == part]
        plain = [joint for joint in result if [word for word in read[joint].words if word.isalpha()] == [part]]
        first = result[0] if result else None
        if part == "neck" and plain and first is not None and "lower" in read[first].words:
            first = plain[0]
        if first is not None:
            roles[part] = first
    if "head" not in roles and {"left shoulder", "right shoulder"} <= limbs.keys():
        above = _above_arms(read, parents, limbs)
        if above and read[above[-1]].part != "neck":
            roles["head"] = above[-1]
        if len(above) > 1:
            roles.setdefault("neck", above[0])
    return roles


def _above_arms(read: Sequence[JointName], parents: Sequence[int], limbs: dict[str, int]) -> list[int]:
    """The joints of the spine above the one that both arms leave: neck and head of a rig that numbers its spine."""
    arms = [ancestors(parents, limbs[f"{side} shoulder"]) for side in SIDES]
    joint = next((other for other in arms[0] if other in arms[1]), None)
    chain: list[int] = []
    while joint is not None:
        joint = next(
            (
                child
                for child, parent in enumerate(parents)
                if parent == joint and read[child].side is None and not read[child].helper
                and read[child].part in ("spine", "neck", "head")
            ),
            None,
        )  # fmt: skip
        if joint is not None:
            chain.append(joint)
    return chain


def ancestors(parents: Sequence[int], joint: int) -> list[int]:
    """The joints above one, nearest first."""
    path = []
    while (joint := parents[joint]) >= 0:
        path.append(joint)
    return path
