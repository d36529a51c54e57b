"""Verified seeking: frames late in a long file without decoding all before them, where the result is provably the same.

A time is no frame: rounded ticks, reordered frames and edit lists move it. So the packets are listed first, without
decoding: where each has its own presentation time, and there are as many as frames decode, frame k is the one with the
k-th smallest time. Decoding starts at a key frame that no later frame reaches behind, and each frame that comes out has
to carry the time expected of it. Where any of this fails, the caller decodes in order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av

# containers that keep a presentation time for each packet and an index to seek by
_INDEXED = ("mov", "matroska")
# codecs whose key frames always are clean: later frames, in order of display, refer to nothing before them
_CLEAN = frozenset({"vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "png", "prores", "dnxhd"})
# frames up to a key frame from which on a seek is cheaper than decoding on
_WORTH_SEEKING = 32


@dataclass(frozen=True)
class PacketIndex:
    """Packets of a track in order of display.

    Attributes:
        times: presentation time of each, in ticks, ascending; frame k has the k-th.
        keys: numbers of the frames at which decoding may start, ascending.
    """

    times: Sequence[int]
    keys: Sequence[int]

    def start(self, frame: int) -> int:
        """The place in ``keys`` of the last one that is not behind a frame; -1 where there is none."""
        return bisect_right(self.keys, frame) - 1


def packet_index(container: Any, stream: Any, n_frames: int) -> PacketIndex | None:
    """The packets of a track that decodes to ``n_frames`` frames; None where they do not identify the frames."""
    if not any(name in container.format.name for name in _INDEXED):
        return None
    times, keys = set[int](), set[int]()
    for packet in container.demux(stream):
        if not packet.size:
            continue
        if packet.pts is None or packet.pts in times or packet.is_corrupt or packet.is_discard:
            return None
        times.add(packet.pts)
        if packet.is_keyframe and _is_clean(packet, stream):
            keys.add(packet.pts)
    if len(times) != n_frames:
        return None
    ordered = sorted(times)
    return PacketIndex(ordered, [number for number, time in enumerate(ordered) if time in keys])


def seek_frames(container: Any, stream: Any, index: PacketIndex, numbers: Sequence[int]) -> Iterator[Any]:
    """The frames of ascending numbers.

    Raises:
        LookupError: the file does not give the frames that its packets announce; decode in order.
    """
    frames: Iterator[tuple[int, Any]] = iter(())
    at = -len(index.times)  # the frame that came last; none yet
    for number in numbers:
        key = index.start(number)
        if key < 0:
            raise LookupError(number)
        if index.keys[key] - at > _WORTH_SEEKING:
            frames = _decoded_from(container, stream, index, key)
        for at, frame in frames:
            if at == number:
                yield frame
                break
        else:
            raise LookupError(number)


def _decoded_from(container: Any, stream: Any, index: PacketIndex, key: int) -> Iterator[tuple[int, Any]]:
    """Number and frame of each from a key frame on."""
    number = index.keys[key]
    first = index.times[number]
    try:
        container.seek(first, stream=stream)
        arrived = False
        for packet in container.demux(stream):
            if not arrived and packet.pts != first:
                raise LookupError(number)
            arrived = True
            if not packet.size and packet.dts is not None:
                continue
            for frame in packet.decode():
                if frame.pts is not None and frame.pts < first:
                    continue  # shown before the key frame, and of what is before it
                if number >= len(index.times) or frame.pts != index.times[number] or frame.is_corrupt:
                    raise LookupError(number)
                yield number, frame
                number += 1
    except av.FFmpegError as error:
        raise LookupError(number) from error


def _is_clean(packet: Any, stream: Any) -> bool:
    """True for a key frame to start decoding at: no frame shown after it refers to one before it."""
    name = stream.codec_context.name
    if name in ("h264", "hevc"):
        # other key frames (recovery points) may be referred across
        keyframe_types = {5} if name == "h264" else set(range(16, 24))
        return not keyframe_types.isdisjoint(_nal_types(bytes(packet), name, stream.codec_context.extradata or b""))
    return name in _CLEAN


def _nal_types(data: bytes, codec: str, extradata: bytes) -> Iterator[int]:
    """Types of the NAL units of an H.264 or HEVC packet."""

    def kind(head: int) -> int:
        return head & 31 if codec == "h264" else head >> 1 & 63

    if extradata[:1] != b"\1":  # Annex B: units behind start codes
        at = data.find(b"\0\0\1")
        while 0 <= at < len(data) - 3:
            yield kind(data[at + 3])
            at = data.find(b"\0\0\1", at + 3)
        return
    place = 4 if codec == "h264" else 21
    if len(extradata) <= place:
        return
    size = (extradata[place] & 3) + 1
    at = 0
    while at + size < len(data):
        yield kind(data[at + size])
        at += size + int.from_bytes(data[at : at + size], "big")
