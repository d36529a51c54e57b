"""Parser of a BVH hierarchy: joints, offsets and channels in any layout of lines.

Keywords and channels are read in any case, braces on any line. Comments (``#`` and ``//``) are skipped. A name is the
rest of its line, joined by underscores. A name that repeats gets a number (``Hand``, ``Hand_2``): channels belong to
the place in the file, not to the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from icube_common.errors import InputError

_TOKEN = re.compile(r"(?P<comment>(?:#|//)[^\n]*)|[{}]|[^\s{}\x00]+")
_CHANNEL = re.compile(r"([xyz])(position|rotation)", re.IGNORECASE)
_AFTER_CHANNELS = ("", "{", "}", "JOINT", "END", "ENDSITE", "OFFSET", "CHANNELS", "MOTION")


class Channel(NamedTuple):
    """One column of the motion block.

    Attributes:
        kind: ``position`` or ``rotation``.
        axis: 0, 1 or 2.
    """

    kind: str
    axis: int


@dataclass
class BvhJoint:
    """One joint of a hierarchy, in the file's own unit of length.

    Attributes:
        name: unique in the file.
        parent: index of the parent; -1 for a ROOT.
        offset: rest position in the parent's frame.
        channels: in the order of the motion block.
    """

    name: str
    parent: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: list[Channel] = field(default_factory=list)


class _Token(NamedTuple):
    text: str
    at: int

    @property
    def word(self) -> str:
        return self.text.upper()


class _Tokens:
    """The tokens of a text with one token of look-ahead; errors name file and line."""

    def __init__(self, text: str, source: str) -> None:
        self._text, self.source = text, source
        self._tokens: Iterator[_Token] = (
            _Token(match[0], match.start()) for match in _TOKEN.finditer(text) if not match["comment"]
        )
        self.next = next(self._tokens, _Token("", len(text)))

    def take(self) -> _Token:
        token, self.next = self.next, next(self._tokens, _Token("", len(self._text)))
        return token

    def line(self, token: _Token) -> int:
        return self._text.count("\n", 0, token.at if token.text else len(self._text.rstrip())) + 1

    def error(self, token: _Token, message: str) -> InputError:
        if not (token.text and self.next.text):  # nothing follows
            last = self.line(_Token("", 0))
            return InputError(f"{self.source}: line {last}: ends before its MOTION block; the file is truncated")
        return InputError(f"{self.source}: line {self.line(token)}: {message}, found {token.text[:40]!r}")

    def expect(self, text: str, where: str) -> None:
        token = self.take()
        if token.word != text:
            raise self.error(token, f"{text!r} expected {where}")

    def number(self, what: str, keyword: _Token) -> float:
        token = self.take()
        try:
            return float(token.text.rstrip(",").replace(",", "."))
        except ValueError:
            raise self.error(_Token(token.text, keyword.at), f"{what} expected") from None

    def rest_of_line(self, token: _Token) -> list[str]:
        """The tokens up to the end of a token's line or the next brace."""
        end = self._text.find("\n", token.at)
        words = []
        while self.next.text not in ("{", "}", "") and self.next.at < end:
            words.append(self.take().text)
        return words


def parse_hierarchy(text: str, source: str) -> tuple[list[BvhJoint], int]:
    """Joints in the order of the file, end sites left out, and the index in the text after MOTION.

    Args:
        text: the file, lines ended by a newline.
        source: the file's name for messages.

    Raises:
        InputError: not a hierarchy; file and line are named.
    """
    tokens = _Tokens(text, source)
    if tokens.next.word != "HIERARCHY":
        raise InputError(f"{source}: line {tokens.line(tokens.next)}: not a BVH file, HIERARCHY expected")
    tokens.take()
    joints: list[BvhJoint] = []
    while tokens.next.word == "ROOT":
        _parse_tree(tokens, joints)
    if not joints or tokens.next.word != "MOTION":
        kind = "ROOT or MOTION" if joints else "First Joint: ROOT"
        raise tokens.error(tokens.next, f"{kind} expected")
    after = tokens.next.at + len("MOTION")
    _make_unique(joints)
    return joints, after


def _parse_tree(tokens: _Tokens, joints: list[BvhJoint]) -> None:
    """One ROOT with all below it, appended to the joints; an explicit stack, any depth."""
    open_joints = [_open_joint(tokens, joints, -1)]
    while open_joints:
        joint, token = joints[open_joints[-1]], tokens.next
        if token.word == "OFFSET":
            joint.offset = _offset(tokens, f"Offset of joint {joint.name!r}: three numbers")
            if not np.isfinite(joint.offset).all():
                raise InputError(f"{tokens.source}: joint {joint.name!r}: offset {list(joint.offset)} is not finite")
        elif token.word == "CHANNELS":
            _read_channels(tokens, joint)
        elif token.word == "JOINT":
            open_joints.append(_open_joint(tokens, joints, open_joints[-1]))
        elif token.word in ("END", "ENDSITE"):
            _skip_end_site(tokens)
        elif token.text == "}":
            tokens.take()
            open_joints.pop()
        else:
            raise tokens.error(token, f"OFFSET, CHANNELS, JOINT, End Site or '}}' expected in joint {joint.name!r}")


def _open_joint(tokens: _Tokens, joints: list[BvhJoint], parent: int) -> int:
    keyword = tokens.take()
    words = tokens.rest_of_line(keyword)
    if not words:
        raise InputError(f"{tokens.source}: line {tokens.line(keyword)}: {keyword.word} without a name")
    joints.append(BvhJoint("_".join(words), parent))
    tokens.expect("{", f"after {keyword.word} {joints[-1].name}")
    return len(joints) - 1


def _offset(tokens: _Tokens, what: str) -> tuple[float, float, float]:
    keyword = tokens.take()
    return tokens.number(what, keyword), tokens.number(what, keyword), tokens.number(what, keyword)


def _skip_end_site(tokens: _Tokens) -> None:
    keyword = tokens.take()
    tokens.rest_of_line(keyword)
    tokens.expect("{", "after End Site")
    while tokens.next.text != "}":
        if tokens.next.word == "OFFSET":
            _offset(tokens, "Offset of an end site: three numbers")
        elif tokens.next.word == "CHANNELS":
            end = BvhJoint("End Site", -1)
            _read_channels(tokens, end)
            if end.channels:
                raise InputError(f"{tokens.source}: line {tokens.line(keyword)}: an end site has no channels")
        else:
            raise tokens.error(tokens.next, "OFFSET or '}' expected in an end site")
    tokens.take()


def _read_channels(tokens: _Tokens, joint: BvhJoint) -> None:
    keyword = tokens.take()
    count = tokens.number(f"number of channels of joint {joint.name!r}", keyword)
    named = 0
    while tokens.next.word not in _AFTER_CHANNELS:
        token = tokens.take()
        match = _CHANNEL.fullmatch(token.text)
        channel = Channel(match[2].lower(), "xyz".index(match[1].lower())) if match else None
        if channel is None or channel in joint.channels:
            message = f"joint {joint.name!r}: channel {token.text!r} is unknown or repeated"
            raise tokens.error(token, message)
        joint.channels.append(channel)
        named += 1
    if named != count:
        raise InputError(
            f"{tokens.source}: line {tokens.line(keyword)}: joint {joint.name!r}: {count:g} channels announced, "
            f"{named} named"
        )


def _make_unique(joints: list[BvhJoint]) -> None:
    """A number behind each name that an earlier joint has."""
    names: set[str] = set()
    taken = {joint.name for joint in joints}
    for joint in joints:
        name, number = joint.name, 2
        while name in names or (name != joint.name and name in taken):
            name, number = f"{joint.name}_{number}", number + 1
        joint.name = name
        names.add(name)
