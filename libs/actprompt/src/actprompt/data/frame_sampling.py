"""Frame sampling: segments over the whole length of a video, or dense windows in it.

Indices count frames on an even time line; `actprompt.data.video.read_clip` translates them where frames are uneven in
time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError, unknown

MODES = ("uniform", "random", "dense")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Frame sampling of a video.

    Attributes:
        frames: T, frames in a view.
        mode: "uniform": the middle of each of T equal segments (TSN's test sampling, Wang et al., ECCV 2016; with
            several views the segments' frames are spread evenly over the segment); "random": a random frame of each
            segment (TSN's training sampling); "dense": T frames `stride` apart, in `views` windows spread by
            pytorchvideo's `ConstantClipsPerVideoSampler` (SlowFast's test sampling, Feichtenhofer et al., ICCV 2019).
        views: views of a video.
        stride: frames from one to the next of a dense window.
    """

    frames: int = 8
    mode: str = "uniform"
    views: int = 1
    stride: int = 2

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("sampling mode", self.mode, MODES)
        for name, most in (("frames", 512), ("views", 64), ("stride", 1024)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise InputError(f"{name} {value}: must be from 1 to {most}")

    def key(self) -> dict[str, Any]:
        """All values that determine the indices, for the key of a cache."""
        return asdict(self)


def sample_indices(n_frames: int, sampling: Sampling, *, seed: int | None = None) -> npt.NDArray[np.int64]:
    """Frame indices (views, T), ascending in each view.

    A video with too few frames repeats frames; a dense window that is longer than the video stays on the
    last frame.

    Args:
        n_frames: frames in the video.
        sampling: the frame sampling.
        seed: of "random"; the same seed gives the same frames. Must be None in the other modes.

    Raises:
        InputError: no frame, a seed without use, or none where one is needed.
    """
    if n_frames < 1:
        raise InputError(f"{n_frames} frames: a video needs at least one to be sampled")
    if (seed is not None) != (sampling.mode == "random"):
        raise InputError(
            f"sampling mode {sampling.mode!r} with seed {seed}: a seed goes with mode 'random', and only it"
        )
    if sampling.mode == "dense":
        starts = np.array(_window_starts(n_frames, sampling), dtype=np.int64)
        return np.minimum(starts[:, None] + np.arange(sampling.frames) * sampling.stride, n_frames - 1)
    segments = np.arange(sampling.frames)
    if sampling.mode == "uniform":
        offsets = ((np.arange(sampling.views) + 0.5) / sampling.views)[:, None]
    else:
        offsets = np.random.default_rng(seed).random((sampling.views, sampling.frames))
    chosen = np.floor((segments + offsets) * n_frames / sampling.frames).astype(np.int64)
    return np.minimum(chosen, n_frames - 1)  # rounding of a random offset just below one


def _window_starts(n_frames: int, sampling: Sampling) -> list[int]:
    """First frame of each dense window: pytorchvideo's sampler, with frames for seconds."""
    from pytorchvideo.data.clip_sampling import ConstantClipsPerVideoSampler

    span = (sampling.frames - 1) * sampling.stride + 1
    sampler = ConstantClipsPerVideoSampler(span, sampling.views)
    # the sampler calls a one-view video's last clip the last one too: ask as often as there are views
    return [int(sampler(0.0, Fraction(n_frames), {}).clip_start_sec) for _ in range(sampling.views)]
