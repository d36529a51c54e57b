"""Mirroring: motions, features and labels with left and right exchanged.

Labels and captions exchange whole words: ``wave-left-hand`` becomes ``wave-right-hand``, ``turnLeft`` ``turnRight``,
``clockwise`` ``counterclockwise``; ``upright`` and ``leftover`` name no side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from icube_common.data.skeleton_roles import mirror_order
from icube_common.errors import InputError
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

_SIDE = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[LR]))"
    r"(?:(?:left|right|Left|Right)(?=(?:wards?|most|[Hh]and(?:ed)?|[Ff]oot(?:ed)?|[Ss]ide)?(?![a-z]))"
    r"|(?:LEFT|RIGHT)(?![A-Za-z]))"
)
_TURN = re.compile(r"(?<![a-z])((?:counter|anti)[-_ ]?)?clockwise(?![a-z])", re.IGNORECASE)
_LETTER = re.compile(r"(?<![A-Za-z0-9])[LRlr](?![A-Za-z0-9])")
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}


def mirror_text(text: str) -> str:
    """The text with left and right exchanged; unchanged where it names no side."""
    turned = _TURN.sub(lambda match: "clockwise" if match[1] else "counterclockwise", text)
    return _SIDE.sub(lambda match: _like(match[0], _OTHER[match[0].lower()]), turned)


def mirror_labels(names: Sequence[str], used: Iterable[int], kind: str, key: str) -> npt.NDArray[np.int64]:
    """(A,) index into ``names`` of the mirrored motion's label, for each label.

    Args:
        names: all labels of a kind.
        used: indices of the labels to mirror.
        kind: kind of label for messages: action, style.
        key: configuration key for messages.

    Raises:
        InputError: a used label names a side, and the label of the other side is not in ``names``.
    """
    result = np.arange(len(names))
    for index in sorted({int(code) for code in used if code >= 0}):
        name = names[index]
        target = mirror_text(name)
        spellings = [re.sub("counterclockwise", other, target) for other in _TURNS]
        # a single letter is a side only where the other one is there
        spellings.append(_LETTER.sub(lambda match: _like(match[0], _OTHER[match[0].lower()]), name))
        match = next((names.index(other) for other in spellings if other != name and other in names), None)
        if match is None and target != name:
            remedy = f"set {key.split('=')[0]}={'never' if key.endswith('always') else 0}, or add clips of it"
            raise InputError(
                f"{key}: the {kind} {name!r} names a side, and {target!r} is none of the {kind}s: {remedy}"
            )
        if match is not None:
            result[index] = match
    return result


def has_mirror_images(mode: str, class_names: Sequence[str], joint_names: Sequence[str]) -> bool:
    """True where labelled motions are to be mirrored.

    Args:
        mode: ``always``; ``never``; ``auto``: only where no class, and some joint, names a side.
        class_names: labels.
        joint_names: joints.

    Raises:
        InputError: with ``always``, a class names a side without a class of the other side, or no joint names one.
    """
    if mode == "never":
        return False
    sides = mirror_order(joint_names) is not None
    if mode == "auto" and (not sides or any(mirror_text(name) != name for name in class_names)):
        return False
    if not sides:
        raise InputError("classifier.mirror=always: no joint name has a side (left, right)")
    codes = mirror_labels(class_names, range(len(class_names)), "action", "classifier.mirror=always")
    return mode == "always" or bool((codes == np.arange(len(class_names))).all())


_TURNS = ("counterclockwise", "anticlockwise", "counter-clockwise", "anti-clockwise", "counter clockwise")


def _like(word: str, other: str) -> str:
    """``other`` with the capitals of ``word``."""
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other


def mirror(motion: Motion) -> Motion:
    """The motion reflected at x = 0: ``M p`` of the joint on the other side, M = diag(-1, 1, 1).

    Labels and texts exchange left and right (`mirror_text`).

    Raises:
        InputError: no joint name has a side.
    """
    skeleton, order = motion.skeleton, list(motion.skeleton.mirror_indices)
    across = np.array([-1, 1, 1], dtype=np.float32)
    return replace(
        motion,
        root=motion.root * across,
        rotations=across[:, None] * motion.rotations[:, order] * across,
        skeleton=Skeleton(skeleton.names, skeleton.parents, skeleton.offsets[order] * across),
        action=None if motion.action is None else mirror_text(motion.action),
        style=None if motion.style is None else mirror_text(motion.style),
        texts=tuple(mirror_text(text) for text in motion.texts),
    )


def mirror_positions(positions: npt.NDArray[np.float32], order: Sequence[int]) -> npt.NDArray[np.float32]:
    """(T, J, 3) metres of the motion reflected at x = 0: ``M p`` of the joint on the other side, M = diag(-1, 1, 1).

    Args:
        positions: (T, J, 3) metres.
        order: for each joint the one on the other side.
    """
    return np.asarray(positions[:, list(order)] * np.array([-1, 1, 1], dtype=np.float32))


def mirror_features(
    features: npt.NDArray[np.float32], offsets: npt.NDArray[np.float32], order: Sequence[int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Features (T, D) of the common frame and offsets (J, 3) m of the motion reflected at x = 0.

    Positions ``M p`` with M = diag(-1, 1, 1) of the joint on the other side; so rotations are ``M R M``.

    Args:
        features: root translation and six numbers a joint: the first two columns of its rotation.
        offsets: of its body.
        order: for each joint the one on the other side.
    """
    across = np.array([-1, 1, 1], dtype=np.float32)
    columns = np.concatenate([across * across[0], across * across[1]])
    order = list(order)  # a tuple would index dimensions
    joints = features[:, 3:].reshape(len(features), -1, 6)[:, order] * columns
    mirrored = np.concatenate([features[:, :3] * across, joints.reshape(len(features), -1)], axis=1)
    return mirrored, offsets[order] * across
