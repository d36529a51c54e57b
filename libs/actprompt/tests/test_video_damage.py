"""Whole files with wrong headers are used; files of which data are missing are refused, or used knowingly."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_files import PAIRS, cut, numbers, patch, picture, remux, write_video

from actprompt.data.video import VideoError, probe, read_frames

# name -> codec and options of the muxer: tables at the head, fragments, live recordings, older containers
OTHERS: dict[str, tuple[str, dict[str, str]]] = {
    "head.mp4": ("h264", {"movflags": "faststart"}),
    "head.mov": ("mjpeg", {"movflags": "faststart"}),
    "fragments.mp4": ("h264", {"movflags": "frag_keyframe+empty_moov"}),
    "dash.mp4": ("h264", {"movflags": "dash+frag_keyframe"}),
    "live.mkv": ("h264", {"live": "1"}),
    "live.webm": ("vp9", {"live": "1"}),
    "a.mpg": ("mpeg2", {}),
    "a.vob": ("mpeg2", {}),
    "a.m2ts": ("h264", {}),
    "a.MTS": ("h264", {}),
    "a.flv": ("h264", {}),
    "a.wmv": ("mpeg4", {}),
    "a.3gp": ("h264", {}),
    "a.m4v": ("mpeg4", {}),
}
FILES = [*(f"{codec}.{container}" for container, codec in PAIRS), *OTHERS]


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of each file, 120 frames."""
    folder = tmp_path_factory.mktemp("whole")
    made = {}
    for name in FILES:
        codec, options = OTHERS.get(name, (name.split(".")[0], {}))
        made[name] = write_video(folder / name, codec, range(120), container_options=options).read_bytes()
    return made


def plain(path: Path) -> list[int]:
    """Frames by PyAV alone."""
    with av.open(str(path)) as container:
        return numbers(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))


@pytest.mark.parametrize("name", FILES)
def test_whole_and_cut(contents: dict[str, bytes], tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(contents[name])
    assert probe(path).n_frames == 120
    assert numbers(read_frames(path, range(120))) == list(range(120))
    for share in (0.45, 0.6, 0.75):
        # an odd size: at no border of a packet of a transport stream
        cut_at = int(len(contents[name]) * share) // 188 * 188 + 91
        path.write_bytes(contents[name][:cut_at])
        with pytest.raises(VideoError, match=r"truncated|damaged|cannot be decoded") as caught:
            probe(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: ") and "\n" not in text
        try:
            info = probe(path, keep_damaged=True)
        except VideoError:
            # an MP4 without its table at the end: nothing decodes
            assert "decode" in text and "--keep-damaged" not in text
            continue
        assert "--keep-damaged" in text and info.damage and f"{info.n_frames} frames decode" in info.damage
        assert 0 < info.n_frames < 120
        # all but the last few, which miss data, are those of the whole file
        found = numbers(read_frames(path, range(info.n_frames), keep_damaged=True))
        assert found[:-6] == list(range(len(found)))[:-6]


@pytest.mark.parametrize("name", FILES)
def test_cut_behind_the_frames(contents: dict[str, bytes], tmp_path: Path, name: str) -> None:
    """A few bytes less: refused, or all frames are there."""
    path = tmp_path / name
    path.write_bytes(contents[name][:-3])
    try:
        info = probe(path)
    except VideoError as error:
        assert any(word in str(error) for word in ("truncated", "damaged", "decode"))
    else:
        assert info.n_frames == 120 and numbers(read_frames(path, range(120))) == list(range(120))


@pytest.mark.parametrize("codec", ["h264", "mpeg4", "mpeg2", "vp9", "mjpeg"])
@pytest.mark.parametrize("count", [0, 100, 150, 4000])
def test_an_avi_whose_header_counts_wrong(tmp_path: Path, codec: str, count: int) -> None:
    path = write_video(tmp_path / "a.avi", codec, range(120))
    data = bytearray(path.read_bytes())
    for mark, place in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        at = data.index(mark) + place
        assert struct.unpack_from("<I", data, at)[0] == 120
        struct.pack_into("<I", data, at, count)
    path.write_bytes(bytes(data))
    assert probe(path).n_frames == 120 and numbers(read_frames(path, range(120))) == list(range(120))


@pytest.mark.parametrize("codec", ["h264", "mpeg4", "mpeg2", "vp9", "mjpeg"])
def test_an_avi_with_dropped_frames(tmp_path: Path, codec: str) -> None:
    """Ten moments without a frame are ten empty packets, which the header counts."""
    shown = [*range(50), *range(60, 120)]
    path = write_video(tmp_path / "a.avi", codec, shown, pts=shown)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 120
    info = probe(path)
    assert info.n_frames == 110 and info.variable_rate
    assert numbers(read_frames(path, range(110))) == shown


@pytest.mark.parametrize(("suffix", "codec"), [pair for pair in PAIRS if pair[0] in ("avi", "mp4", "mkv")])
def test_a_copy_with_frames_left_out(tmp_path: Path, suffix: str, codec: str) -> None:
    path = remux(write_video(tmp_path / f"a.{suffix}", codec, range(120)), tmp_path / f"b.{suffix}", skip=(31, 32, 70))
    with av.open(str(path)) as container:
        want = plain(path)
        assert not container.streams.video[0].frames or container.streams.video[0].frames >= len(want)
    info = probe(path)
    assert info.n_frames == len(want) >= 100 and numbers(read_frames(path, range(info.n_frames))) == want


def test_an_avi_that_was_written_to_a_pipe(tmp_path: Path) -> None:
    """Sizes and counts of its heads are not filled in, and it has no index."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with av.open(pipe, "w", format="avi") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 64, "yuv420p", 2_000_000
        for number in range(120):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    path = tmp_path / "a.avi"
    path.write_bytes(bytes(pipe.data))
    assert probe(path).n_frames == 120 and numbers(read_frames(path, [0, 60, 119])) == [0, 60, 119]


def test_a_duration_that_is_too_long(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", "h264", range(120))
    patch(path, b"00:00:04.80", b"00:00:09.80")
    assert probe(path).duration == pytest.approx(4.8, abs=0.01)
    path = write_video(tmp_path / "a.mp4", "h264", range(120))
    for box in (b"mvhd", b"mdhd", b"tkhd"):
        data = path.read_bytes()
        at = data.index(box)
        for old in (struct.pack(">I", 4800), struct.pack(">I", 61440)):
            place = data.find(old, at, at + 40)
            if place > 0:
                data = data[:place] + struct.pack(">I", struct.unpack(">I", old)[0] * 3) + data[place + 4 :]
        path.write_bytes(data)
    assert probe(path).duration == pytest.approx(4.8, abs=0.01)


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2"])
def test_a_recording_that_starts_between_key_frames(tmp_path: Path, codec: str) -> None:
    """As broadcasts do: what cannot be decoded before the first key frame is left out."""
    path = write_video(tmp_path / "a.ts", codec, range(120))
    data = path.read_bytes()
    start = len(data) // 4 // 188 * 188
    for offset in (0, 77):
        path.write_bytes(data[start + offset :])
        info = probe(path)
        found = numbers(read_frames(path, range(info.n_frames)))
        assert found == plain(path) and found[-60:] == list(range(60, 120)) and 60 < len(found) < 110


def test_a_start_that_the_decoder_calls_an_error(tmp_path: Path) -> None:
    """VP9 from its sixth frame on: PyAV raises until the next key frame, players wait for it."""
    whole = write_video(tmp_path / "a.webm", "vp9", range(120))
    path = remux(whole, tmp_path / "b.webm", skip=range(6))
    info = probe(path)
    assert info.n_frames == 80 and numbers(read_frames(path, range(80))) == list(range(40, 120))


def test_damage_in_the_middle(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", "mjpeg", range(120))
    with av.open(str(path)) as container:
        coded = [bytes(packet) for packet in container.demux(video=0)][50]
    data = bytearray(path.read_bytes())
    place = data.index(coded)
    data[place : place + len(coded)] = bytes(len(coded))
    path.write_bytes(bytes(data))
    with pytest.raises(VideoError, match=r"damaged: the data behind frame 49 cannot be decoded .*119 frames decode"):
        probe(path)
    info = probe(path, keep_damaged=True)
    shown = [*range(50), *range(51, 120)]
    assert info.n_frames == 119 and numbers(read_frames(path, range(119), keep_damaged=True)) == shown
    with pytest.raises(VideoError, match="damaged"):
        read_frames(path, [100])
    assert numbers(read_frames(path, [10, 20])) == [10, 20]


def test_packed_frames_of_divx(tmp_path: Path) -> None:
    """Two coded frames in one packet and an empty one after it, in AVI and copied from there."""
    source = write_video(tmp_path / "a.avi", "mpeg4", options={"bf": "1"})
    packed = tmp_path / "packed.avi"
    with av.open(str(source)) as read, av.open(str(packed), "w") as write:
        stream = read.streams.video[0]
        target = write.add_stream_from_template(stream)
        coded = [(bytes(packet), packet.is_keyframe) for packet in read.demux(stream) if packet.size]
        for number, (data, key) in enumerate(_packed(coded)):
            # the mark by which decoders know such streams, in place of the encoder's own
            packet = av.Packet(data.replace(_encoder_mark(data), b"DivX503b1393p"))
            packet.stream, packet.time_base = target, stream.time_base or packet.time_base
            packet.pts = packet.dts = number
            packet.is_keyframe = key
            write.mux(packet)
    for path in (packed, remux(packed, tmp_path / "b.mp4"), remux(packed, tmp_path / "b.mkv")):
        info = probe(path)
        assert info.n_frames == 300 and not info.variable_rate and info.fps == pytest.approx(25, rel=1e-3)
        wanted = [0, 1, 2, 128, 257, 258, 298, 299]
        assert numbers(read_frames(path, wanted, n_frames=300)) == numbers(read_frames(path, wanted)) == wanted


def _packed(coded: list[tuple[bytes, bool]]) -> list[tuple[bytes, bool]]:
    def is_b(data: bytes) -> bool:
        return data[data.index(b"\0\0\1\xb6") + 4] >> 6 == 2

    packed = []
    pictures = iter(range(len(coded)))
    for at in pictures:
        data, key = coded[at]
        if at + 1 < len(coded) and is_b(coded[at + 1][0]):
            packed += [(data + coded[at + 1][0], key), (bytes([0, 0, 1, 0xB6, 0x56, 0x0B, 0x7F]), False)]
            next(pictures)
        else:
            packed.append((data, key))
    return packed


def _encoder_mark(data: bytes) -> bytes:
    at = data.find(b"Lavc")
    return data[at : at + 13] if at >= 0 else b"-" * 64


def test_sound_that_lasts_longer(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        sound: Any = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        for number in range(160):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 16000, number * 1024
            container.mux(sound.encode(silence))
        for each in (stream, sound):
            container.mux(each.encode(None))
    info = probe(path)
    assert info.n_frames == 25 and info.duration == pytest.approx(1)


def test_undecodable_file_is_refused(tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "a.mp4", "h264", range(120), container_options={"movflags": "faststart"}), 0.2)
    for keep in (False, True):
        with pytest.raises(VideoError) as caught:
            probe(path, keep_damaged=keep)
        assert "--keep-damaged" not in str(caught.value)
