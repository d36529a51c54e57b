"""Parser of BVH files: hierarchy and motion block, in the dialects of many programs.

Conventions, the same as bvhio's and Blender's: rotation channels are intrinsic, in the order given; a position channel
*replaces* the joint's offset along its axis, on any joint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.data.readers.base import parse_numbers
from motiondiff.data.readers.bvh.hierarchy import BvhJoint, parse_hierarchy

Array = npt.NDArray[np.float64]

_FRAMES = re.compile(r"\s*Frames[ \t]*:?[ \t]*(?P<value>[^\n]*?)[ \t]*(?=\n|Frame[ \t]*Time|$)", re.IGNORECASE)
_HIGH = re.compile(rb"[\x80-\xff]+")
_HALF_WIDTH = re.compile("[\uff61-\uff9f]")
_FRAME_TIME = re.compile(r"\s*Frame[ \t]*Time[ \t]*:?[ \t]*(?P<value>[^\s]*)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class BvhTable:
    """A BVH file as written: joints, and the columns of its motion block.

    Attributes:
        joints: in the order of the file; several have no parent where the file has several ROOTs.
        values: (T, C) one column per channel.
        frame_time: seconds.
        warnings: tolerated departures from the format.
    """

    joints: tuple[BvhJoint, ...]
    values: Array
    frame_time: float
    warnings: tuple[str, ...] = ()

    def sample(self, count: int) -> BvhTable:
        """At most ``count`` rows, evenly spaced."""
        if len(self.values) <= count:
            return self
        return replace(self, values=self.values[np.linspace(0, len(self.values) - 1, count).round().astype(int)])


@dataclass(frozen=True, eq=False)
class BvhFile:
    """Local transforms of a BVH file's joints, in its own unit of length.

    Attributes:
        names: J joints, end sites left out, a parent before its children.
        parents: -1 for a root.
        positions: (T, J, 3) each joint in its parent's frame, by offset and position channels.
        rotations: (T, J, 3, 3) each joint in its parent's frame.
        offsets: (J, 3) rest positions in the parents' frames.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    positions: Array
    rotations: Array
    offsets: Array


def to_local(table: BvhTable) -> BvhFile:
    """Local positions and rotations of every joint in every frame."""
    joints, values = table.joints, table.values
    positions = np.empty((len(values), len(joints), 3))
    rotations = np.broadcast_to(np.eye(3), (len(values), len(joints), 3, 3)).copy()
    column = 0
    for index, joint in enumerate(joints):
        positions[:, index] = joint.offset
        turns = []
        for channel in joint.channels:
            if channel.kind == "position":
                positions[:, index, channel.axis] = values[:, column]
            else:
                turns.append(column)
            column += 1
        if turns:
            order = "".join("XYZ"[channel.axis] for channel in joint.channels if channel.kind == "rotation")
            # always (T, K): scipy takes a vector for one angle about each of several axes
            rotations[:, index] = Rotation.from_euler(order, values[:, turns], degrees=True).as_matrix()
    names = tuple(joint.name for joint in joints)
    offsets = np.array([joint.offset for joint in joints])
    return BvhFile(names, tuple(joint.parent for joint in joints), positions, rotations, offsets)


def parse_bvh(path: Path) -> BvhTable:
    """Joints and motion block of a BVH file.

    More rows than announced are all read, with a warning; fewer mean a truncated file.

    Raises:
        InputError: unreadable, not BVH, rows of the wrong length or number, a frame time that is not positive, values
            that are not finite; file and line are named.
    """
    path = Path(path)
    try:
        text = decode_text(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    joints, after = parse_hierarchy(text, str(path))
    frames = _match_head(_FRAMES, text, after, "Frames:", path)
    frame_time = _match_head(_FRAME_TIME, text, frames.end(), "Frame Time:", path)
    announced = _number(frames["value"], int, f"{path}: line {_line(text, frames.start('value'))}: number of frames")
    where = f"{path}: line {_line(text, frame_time.start('value'))}: frame time"
    seconds = _number(frame_time["value"].replace(",", "."), float, where)
    if not (np.isfinite(seconds) and seconds > 0):
        raise InputError(f"{where} {seconds} s must be positive")
    first = _line(text, frame_time.end())
    lines = [
        (number, line)
        for number, line in enumerate(text[frame_time.end() :].split("\n"), start=first)
        if line.strip("\x00\x1a \t") and not line.lstrip().startswith(("#", "//"))
    ]
    values = _parse_rows(lines, sum(len(joint.channels) for joint in joints), path)
    if len(values) < announced or not len(values):
        raise InputError(
            f"{path}: line {_line(text, frames.start('value'))}: {announced} frames announced, {len(values)} rows "
            "found; the file is truncated"
        )
    warnings: list[str] = []
    if len(values) > announced:
        warnings.append(f"{announced} frames announced, all {len(values)} rows are used")
    return BvhTable(tuple(joints), values, seconds, tuple(warnings))


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _match_head(pattern: re.Pattern[str], text: str, start: int, word: str, path: Path) -> re.Match[str]:
    match = pattern.match(text, start)
    if match:
        return match
    rest = text[start:].lstrip()
    if not rest:
        raise InputError(f"{path}: line {_line(text, len(text) - 1)}: ends within the head of MOTION; truncated file")
    line = _line(text, len(text) - len(rest))
    rest_of_line = rest.split("\n")[0].strip()
    raise InputError(f"{path}: line {line}: {word} expected, found {rest_of_line[:40]!r}")


def _parse_rows(lines: list[tuple[int, str]], channels: int, path: Path) -> Array:
    """(T, C) numbers of the rows of a motion block.

    Raises:
        InputError: a row of another length, a word that is no number, or a value that is not finite.
    """
    values = np.empty((0, channels))
    if lines:
        try:
            values = np.loadtxt([line for _, line in lines], dtype=np.float64, comments=None, ndmin=2)
        except ValueError:
            values = np.empty((0, 0))
        if values.shape != (len(lines), channels):
            # errors with the line, and decimal commas
            values = np.stack(
                [
                    _parse_row(line, channels, f"{path}: line {number} (frame {frame})")
                    for frame, (number, line) in enumerate(lines)
                ]
            )
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        frame = int(np.argmax(bad))
        raise InputError(f"{path}: line {lines[frame][0]} (frame {frame}): NaN or infinite value")
    return values


def _parse_row(line: str, channels: int, where: str) -> Array:
    """The numbers of one row: commas are decimal where the row then has as many as channels, else separators."""
    words = line.replace("\x00", " ").split()
    if "," in line and len(words) == channels and all(word.rstrip(",").count(",") <= 1 for word in words):
        words = [word.rstrip(",").replace(",", ".") for word in words]
    elif "," in line:
        words = line.replace(",", " ").split()
    if len(words) != channels:
        raise InputError(f"{where}: {len(words)} numbers, {channels} expected")
    return np.array(parse_numbers(words, where))


def _number(text: str, kind: type, what: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"{what} {text[:40]!r} is not a number") from error


def decode_text(data: bytes) -> str:
    r"""Text of any common encoding, without byte order mark, lines ended by ``\n``, padding at the end removed.

    UTF-16 is recognised by its byte order mark. Bytes that are no UTF-8 are Latin-1 where accented letters stand alone
    between ASCII letters, else Shift-JIS, else GBK: their characters are pairs of bytes, and the second may be a brace.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = _decode_legacy(data)
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\x00\x1a \t\n") + "\n"


def _decode_legacy(data: bytes) -> str:
    """Latin-1, Shift-JIS or GBK."""
    runs = _HIGH.findall(data)
    if all(len(run) == 1 and run >= b"\xc0" for run in runs):
        return data.decode("latin-1")
    japanese = _decode(data, "cp932")
    if japanese is not None and not _HALF_WIDTH.search(japanese):
        return japanese
    chinese = _decode(data, "gbk")
    return next(text for text in (chinese, japanese, data.decode("latin-1")) if text is not None)


def _decode(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None
