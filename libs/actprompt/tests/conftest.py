"""Shared by the tests of actprompt: small videos made with PyAV, and the real data where it is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from icube_common.vlm import FrozenVLM, load_vlm

ROOT = Path(__file__).resolve().parents[3]
MakeVideo = Callable[..., Path]


def _make_video(
    path: Path,
    frames: int = 6,
    *,
    fps: int = 20,
    size: tuple[int, int] = (32, 24),
    codec: str = "mpeg4",
    times_ms: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    sound: bool = False,
    level: Callable[[int], int] | None = None,
) -> Path:
    """A video whose frame n is a flat grey of level 16 + 8 n (modulo 224); lossless enough to distinguish frames.

    Args:
        path: the file; its suffix decides the container.
        frames: how many; 0 with ``sound`` makes a file that holds only sound.
        fps: frames per second.
        size: width and height.
        codec: PyAV's name of the encoder.
        times_ms: a time for each frame instead of a constant rate.
        options: of the encoder.
        sound: adds a track of silence.
        level: frame number -> grey, instead of `grey`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        streams: list[Any] = []
        if frames:
            video: Any = container.add_stream(codec, rate=fps, options=options or {})
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            if times_ms is not None:
                video.codec_context.time_base = Fraction(1, 1000)
            streams.append(video)
        if sound:
            audio: Any = container.add_stream("aac", rate=16000, layout="mono")
            streams.append(audio)
        for index in range(frames):
            picture = np.full((size[1], size[0], 3), (level or grey)(index), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            container.mux(video.encode(frame))
        if sound:
            for index in range(8):
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
                )
                silence.sample_rate, silence.pts = 16000, index * 1024
                container.mux(audio.encode(silence))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def grey(index: int) -> int:
    """The level of frame ``index``."""
    return 16 + 8 * index % 224


@pytest.fixture(scope="session")
def make_video() -> MakeVideo:
    return _make_video


@pytest.fixture(scope="session")
def one_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a video of 6 frames, to be written under many names."""
    return _make_video(tmp_path_factory.mktemp("video") / "video.avi").read_bytes()


@pytest.fixture
def fill(one_video: bytes) -> Callable[[Path, Sequence[str]], None]:
    """Writes that video under each of some names below a folder."""

    def write(folder: Path, names: Sequence[str]) -> None:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(one_video)

    return write


@pytest.fixture(scope="session")
def florence3d() -> Path:
    """The real recordings; skips where they are absent."""
    data = Path(os.environ.get("ICUBE_DATA", ROOT.parent / "shared" / "data"))
    folder = data / "video" / "florence3d"
    if not (folder / "index.csv").is_file():
        pytest.skip(f"no florence3d in {data / 'video'}")
    return folder


@pytest.fixture(scope="session")
def label_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published lists of splits and classes, unpacked; skips where they are absent."""
    import tarfile

    data = Path(os.environ.get("ICUBE_DATA", ROOT.parent / "shared" / "data"))
    archive = data / "video" / "labels.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no {archive.name} in {data / 'video'}")
    folder = tmp_path_factory.mktemp("labels")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def tiny() -> FrozenVLM:
    """The small random backbone, once for all tests of a process."""
    return load_vlm("icube-tiny")
