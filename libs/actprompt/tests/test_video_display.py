"""The displayed image: which track, which way up, how wide, and in which colours."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.stream import Disposition
from video_files import big_endian, numbers, patch, picture, write_video

from actprompt.data.video import VideoError, probe, read_frames
from actprompt.data.video.display import Display, orientation

ONE = 0x10000
# a, b, c, d of the matrix; what a player makes of rows of pixels
SYMMETRIES: list[tuple[tuple[int, int, int, int], Any]] = [
    ((1, 0, 0, 1), lambda p: p),
    ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),  # clockwise
    ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    ((-1, 0, 0, 1), lambda p: p[:, ::-1]),  # left and right exchanged
    ((1, 0, 0, -1), lambda p: p[::-1]),  # upside down, not turned
    ((0, 1, 1, 0), lambda p: np.transpose(p, (1, 0, 2))),
    ((0, -1, -1, 0), lambda p: np.transpose(p[::-1, ::-1], (1, 0, 2))),
]


def corners(size: tuple[int, int] = (96, 64)) -> npt.NDArray[np.uint8]:
    """An image whose four quarters differ: red, green; blue, white."""
    width, height = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = (220, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 220, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 220)
    pixels[height // 2 :, width // 2 :] = (220, 220, 220)
    return pixels


def write_corners(path: Path, matrix: list[int] | None = None, *, codec: str = "mpeg4", frames: int = 4) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 64, "yuv420p", 4_000_000
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(corners(), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("matrix", "shown"), SYMMETRIES)
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_display_matrices(tmp_path: Path, matrix: tuple[int, int, int, int], shown: Any, suffix: str) -> None:
    a, b, c, d = (ONE * value for value in matrix)
    path = write_corners(tmp_path / f"a.{suffix}")
    straight = big_endian(ONE, 0, 0, 0, ONE, 0, 0, 0, 0x40000000)
    patch(path, straight, big_endian(a, b, 0, c, d, 0, 0, 0, 0x40000000), behind=b"tkhd")
    want = shown(corners())
    info = probe(path)
    assert (info.height, info.width) == want.shape[:2]
    for found in read_frames(path, [0, 3]):
        assert found.shape == want.shape and np.abs(found.astype(int) - want).mean() < 12
    assert np.abs(read_frames(path, [2])[0].astype(int) - want).mean() < 12


def test_a_matrix_that_moves_and_scales(tmp_path: Path) -> None:
    """Telephones also record the shift that brings the turned image back into view."""
    path = write_corners(tmp_path / "a.mp4")
    straight = big_endian(ONE, 0, 0, 0, ONE, 0, 0, 0, 0x40000000)
    patch(path, straight, big_endian(0, ONE, 0, -ONE, 0, 0, 64 * ONE, 0, 0x40000000), behind=b"tkhd")
    found = read_frames(path, [1])[0]
    assert np.abs(found.astype(int) - np.rot90(corners(), -1)).mean() < 12


@pytest.mark.parametrize(("matrix", "shown"), SYMMETRIES)
def test_orientation_agrees_with_pyav(tmp_path: Path, matrix: tuple[int, int, int, int], shown: Any) -> None:
    mirrored, rotation = orientation(np.array([matrix[0], matrix[1], 0, matrix[2], matrix[3], 0, 0, 0, 1]))
    pixels = corners()
    np.testing.assert_array_equal(np.rot90(pixels[:, ::-1] if mirrored else pixels, rotation // 90), shown(pixels))


@pytest.mark.parametrize(("degrees", "turn"), [(0, 0), (90, 90), (-90, 270), (180, 180), (-180, 180)])
def test_side_data_that_pyav_does_not_know(degrees: int, turn: int) -> None:
    class Frame:
        width, height, rotation = 96, 64, degrees

        @property
        def side_data(self) -> None:
            raise ValueError("30 is not a valid Type")

    class Stream:
        sample_aspect_ratio = None

    assert Display.of(Frame(), Stream()) == Display(96, 64, False, turn)


def test_a_slanted_matrix_is_refused(tmp_path: Path) -> None:
    path = write_corners(tmp_path / "a.mp4")
    straight = big_endian(ONE, 0, 0, 0, ONE, 0, 0, 0, 0x40000000)
    c, s = int(0.866 * ONE), ONE // 2
    patch(path, straight, big_endian(c, s, 0, -s, c, 0, 0, 0, 0x40000000), behind=b"tkhd")
    with pytest.raises(VideoError, match=r"a\.mp4: turned by 330 degrees, only quarter turns are understood"):
        probe(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts", "avi"])
@pytest.mark.parametrize(("aspect", "width"), [(Fraction(4, 3), 128), (Fraction(16, 15), 102), (Fraction(1, 2), 48)])
def test_pixels_that_are_not_square(tmp_path: Path, suffix: str, aspect: Fraction, width: int) -> None:
    path = write_video(tmp_path / f"a.{suffix}", "h264", range(40), aspect=aspect)
    info = probe(path)
    assert (info.height, info.width) == (64, width)
    frames = read_frames(path, [7, 33])
    assert frames.shape == (2, 64, width, 3) and numbers(frames) == [7, 33]


def test_stretched_before_turned(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "a.mp4", "h264", range(3), aspect=Fraction(2, 1), matrix=[0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30]
    )
    info = probe(path)
    assert (info.height, info.width) == (192, 64) and read_frames(path, [1]).shape == (1, 192, 64, 3)


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt", "size"),
    [
        ("hevc", "mp4", "yuv420p10le", (96, 64)),
        ("vp9", "webm", "yuv444p", (97, 65)),
        ("vp9", "webm", "yuv420p", (97, 65)),
        ("vp9", "webm", "yuva420p", (96, 64)),
        ("h264", "mp4", "gray", (96, 64)),
        ("h264", "mkv", "yuv444p", (101, 67)),
        ("mpeg4", "avi", "yuv420p", (98, 66)),
        ("mjpeg", "avi", "yuvj422p", (99, 61)),
    ],
)
def test_formats_of_pixels(tmp_path: Path, codec: str, suffix: str, pix_fmt: str, size: tuple[int, int]) -> None:
    """As PyAV's own conversion gives them."""
    path = write_video(tmp_path / f"a.{suffix}", codec, range(30), pix_fmt=pix_fmt, size=size)
    info = probe(path)
    assert (info.n_frames, info.width, info.height) == (30, *size)
    with av.open(str(path)) as container:
        want = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    found = read_frames(path, range(30))
    np.testing.assert_array_equal(found, np.stack(want))
    assert numbers(found) == list(range(30))


def test_interlaced(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mpg", "mpeg2", range(60), options={"flags": "+ildct+ilme", "top": "1"})
    assert probe(path).n_frames == 60 and numbers(read_frames(path, [0, 1, 30, 59])) == [0, 1, 30, 59]


def test_limited_and_full_range(tmp_path: Path) -> None:
    for codec, pix_fmt in (("h264", "yuv420p"), ("h264", "yuvj420p"), ("mjpeg", "yuvj420p")):
        path = write_video(tmp_path / f"{codec}-{pix_fmt}.mp4", codec, [1023, 0], pix_fmt=pix_fmt)
        white, black = read_frames(path, [0, 1])
        assert abs(int(white.mean()) - 235) < 4 and abs(int(black.mean()) - 20) < 4


def two_tracks(path: Path, first: dict[str, Any], second: dict[str, Any]) -> Path:
    """Two video tracks: numbers from 0 in the first, from 500 in the second."""
    with av.open(str(path), "w") as container:
        streams: list[Any] = []
        for description in (first, second):
            stream: Any = container.add_stream(description.get("codec", "mpeg4"), rate=25)
            stream.width, stream.height = description.get("size", (96, 64))
            stream.pix_fmt = description.get("pix_fmt", "yuv420p")
            stream.bit_rate = 2_000_000
            stream.disposition = description.get("disposition", 0)
            streams.append(stream)
        for at in range(20):
            for stream, description, start in zip(streams, (first, second), (0, 500), strict=True):
                if at < description.get("frames", 20):
                    pixels = picture(start + at, description.get("size", (96, 64)))
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


COVER = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "size": (640, 480), "frames": 1}


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("marked", [True, False])
def test_a_cover_is_no_video(tmp_path: Path, suffix: str, marked: bool) -> None:
    """An image of its own in the first track, marked as a cover or not (Matroska keeps no mark for tracks)."""
    cover = {**COVER, "disposition": Disposition.attached_pic} if marked else COVER
    path = two_tracks(tmp_path / f"a.{suffix}", cover, {})
    info = probe(path)
    assert (info.n_frames, info.width) == (20, 96)
    assert numbers(read_frames(path, [0, 7])) == [500, 507]


def test_the_default_track_is_taken(tmp_path: Path) -> None:
    path = two_tracks(tmp_path / "a.mkv", {"size": (192, 128)}, {"disposition": Disposition.default})
    assert numbers(read_frames(path, [3])) == [503]


def test_the_largest_of_equal_tracks_is_taken(tmp_path: Path) -> None:
    both = Disposition.default
    path = two_tracks(tmp_path / "a.mkv", {"disposition": both, "size": (48, 32)}, {"disposition": both})
    assert numbers(read_frames(path, [3])) == [503]
    path = two_tracks(tmp_path / "b.mkv", {"disposition": both}, {"disposition": both})
    assert numbers(read_frames(path, [3])) == [3]


def test_only_a_cover(tmp_path: Path) -> None:
    still = write_video(tmp_path / "cover.mp4", "mjpeg", [1])
    with av.open(str(still)) as container:
        jpeg = next(bytes(packet) for packet in container.demux() if packet.size)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        sound: Any = container.add_stream("aac", rate=16000, layout="mono")
        container.add_attachment("cover.jpg", "image/jpeg", jpeg)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 16000, 0
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with pytest.raises(VideoError, match="not a video: only a cover image in it"):
        probe(path)


def test_a_size_that_changes_on_the_way(tmp_path: Path) -> None:
    """As a player does: what comes later is brought to the first size."""
    first = write_video(tmp_path / "1.ts", "h264", range(30))
    second = write_video(tmp_path / "2.ts", "h264", range(100, 130), size=(192, 128))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    info = probe(joined)
    assert (info.n_frames, info.width, info.height) == (60, 96, 64)
    assert numbers(read_frames(joined, [0, 29, 30, 59])) == [0, 29, 100, 129]


def test_a_title_in_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Repas du soir, ete"
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(1), format="rgb24")))
        container.mux(stream.encode(None))
    patch(path, b"ete", b"\xe9t\xe9")
    assert probe(path).n_frames == 1
