"""Truncation: data missing at the end of a file, by the sizes and tables of its container.

A header's count of frames or its duration is no evidence: copies of streams, dropped frames and edit lists leave wrong
ones in complete files. A size or an index that points behind the end of the file is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

# sizes that some writers get wrong by a head or a padding byte
_SLOPPY = 8
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_FLV_TAGS = (8, 9, 18)
# length of a packet of a transport stream, and where in it the sync byte is (plain, with a time stamp, with parity)
_TRANSPORT = ((188, 0), (192, 4), (204, 0))
_SYNC = 0x47


def missing_data(path: Path, container: Any, stream: Any) -> str:
    """The reason why data are missing at the end of a file whose packets were all read; "" where none are."""
    name, size = container.format.name, path.stat().st_size
    if "mov" in name:
        past = sum(entry.pos + entry.size > size for entry in stream.index_entries)
        if past:
            return f"its table places {past} frames behind the end of the file"
    checks: dict[str, Callable[[BinaryIO, int], int]] = {
        "mov": _fragments,
        "avi": _riff,
        "matroska": _matroska,
        "asf": _asf,
        "flv": _flv,
        "mpegts": _transport,
        "mpeg": _program,
    }
    check = next((check for key, check in checks.items() if key in name.split(",")), None)
    if check is None:
        return ""
    with path.open("rb") as handle:
        over = check(handle, size)
    return f"at least {over} byte{'s' * (over > 1)} missing at its end" if over > 0 else ""


def missing_table(path: Path) -> str:
    """The reason why an MP4 or QuickTime file cannot be opened; "" where its table of frames is whole."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        boxes = dict(_boxes(handle, size))
    if not boxes.keys() & {b"ftyp", b"mdat", b"moov"} or boxes.get(b"moov", size + 1) <= size:
        return ""
    return "truncated: its table of frames (moov) is missing or cut"


def _boxes(handle: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Name and end of each top-level box of MP4 and QuickTime."""
    at = 0
    while at + 8 <= size:
        handle.seek(at)
        head = handle.read(16).ljust(16, b"\0")
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # 0: to the end of the file
            break
        at += length
        yield name, at


def _fragments(handle: BinaryIO, size: int) -> int:
    """Bytes missing of an MP4 fragment's head; the frames' own places are in the table that is checked before."""
    return max((end - size for name, end in _boxes(handle, size) if name == b"moof"), default=0)


def _riff(handle: BinaryIO, size: int) -> int:
    """Bytes missing of the lists of frames of an AVI; a file above 1 GB has several."""
    at = 0
    while at + 12 <= size:
        handle.seek(at)
        name, length, kind = struct.unpack("<4sI4s", handle.read(12))
        if name == b"RIFF":
            at += 12
            continue
        if not name.isascii() or (name == b"LIST" and length in (0, 0xFFFFFFFF)):  # written to a pipe, or not closed
            break
        at += 8 + length
        if name == b"LIST" and kind == b"movi" and at > size + _SLOPPY:
            return at - size
        at += length % 2
    return 0


def _matroska(handle: BinaryIO, size: int) -> int:
    """Bytes missing of the segment of Matroska or WebM, or of its last element where its size is unknown (live)."""
    at = 0
    while at < size:
        handle.seek(at)
        head = handle.read(12)
        name, used = _ebml_number(head)
        length, more = _ebml_number(head[used:])
        if not used or not more:
            # behind the last element: a cut head, or something of another kind
            return 1 if len(head) < 12 and head[0] else 0
        length -= 1 << 7 * more  # without the mark of its own length
        at += used + more
        unknown = length == (1 << 7 * more) - 1
        if name == _SEGMENT and not unknown:
            return at + length - size
        if not (name in (_SEGMENT, _CLUSTER) and unknown):
            at += length
    return at - size


def _ebml_number(data: bytes) -> tuple[int, int]:
    """A number of variable length, with the mark of its length, and how many bytes it takes; 0 where there is none."""
    length = 9 - data[0].bit_length() if data and data[0] else 0
    if not length or len(data) < length:
        return 0, 0
    return int.from_bytes(data[:length], "big"), length


def _asf(handle: BinaryIO, size: int) -> int:
    """Bytes missing of the packets of a WMV."""
    at = 0
    while at + 24 <= size:
        handle.seek(at)
        name, length = struct.unpack("<16sQ", handle.read(24))
        if length < 24:
            break
        at += length
        if name == _ASF_DATA and at > size:
            return at - size
    return 0


def _flv(handle: BinaryIO, size: int) -> int:
    """Bytes missing of the last tag of an FLV."""
    handle.seek(5)
    at = int.from_bytes(handle.read(4), "big") + 4
    while at < size:
        handle.seek(at)
        head = handle.read(4)
        if head[0] & 0x1F not in _FLV_TAGS:
            return 0
        if len(head) < 4:
            return 1
        at += 11 + int.from_bytes(head[1:], "big") + 4
    return at - size


def _transport(handle: BinaryIO, size: int) -> int:
    """1 where an MPEG transport stream does not end with a whole packet; files may be joined at any place before."""
    handle.seek(max(size - 1024, 0))
    end = handle.read()
    for length, sync in _TRANSPORT:
        last = range(len(end) - length + sync, -1, -length)
        if len(last) and all(end[place] == _SYNC for place in last):
            return 0
    return 1


def _program(handle: BinaryIO, size: int) -> int:
    """Bytes missing of the last packet of an MPEG program stream (MPG, VOB)."""
    at = 0
    while at + 14 <= size:
        handle.seek(at)
        head = handle.read(14)
        if head[:3] != b"\0\0\1" or head[3] < 0xB9:
            return 0
        if head[3] == 0xBA:  # a pack's head: of MPEG-2 with stuffing, of MPEG-1
            at += 14 + (head[13] & 7) if head[4] & 0xC0 == 0x40 else 12
        elif head[3] == 0xB9:  # the end of the stream, behind which another may begin
            at += 4
        else:
            at += 6 + int.from_bytes(head[4:6], "big")
    return at - size
