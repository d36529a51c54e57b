"""Sliding windows over a long video: the action of each window, and a timeline of them.

Frames are decoded in one pass, those of a window at a time; poses are estimated once and cut for each window.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from actprompt.data.frame_sampling import sample_indices
from actprompt.data.manifest import Clip
from actprompt.data.video import VideoInfo, indices_at, iterate_clips
from actprompt.inference.skeleton_input import (
    absent,
    measured,
    read_recorded,
    unused_skeleton_warning,
    uses_poses,
    uses_recorded,
    uses_skeleton,
    video_poses,
    with_poses,
)
from actprompt.inference.video_input import VideoInput, input_tensors
from actprompt.models.action_model import ActionModel
from icube_common.errors import InputError

MAX_WHOLE = 1.5
"""Windows of a video up to which it is recognised as a whole."""
NO_PERSON = "no person"


class Window(NamedTuple):
    """Part of a video from ``start`` to ``end`` in s: its frames ``first`` to ``last - 1``."""

    start: float
    end: float
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Segment:
    """Stretch of a video with one action.

    Attributes:
        start: in s.
        end: in s.
        probabilities: (C,), the mean over its windows; None without a person in a model of skeletons alone.
        accepted: whether the largest probabilities reach the threshold of rejection.
    """

    start: float
    end: float
    probabilities: npt.NDArray[np.float64] | None
    accepted: bool = True

    def to_dict(self, labels: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
        """Row of a timeline for JSON; ``action`` is the best guess where ``accepted`` is False, None without a person.

        Args:
            labels: C classes.
            words: their names in words.
        """
        row: dict[str, Any] = {"start": round(self.start, 3), "end": round(self.end, 3)}
        if self.probabilities is None:
            return {**row, "action": None, "words": NO_PERSON, "probability": None, "accepted": False}
        best = int(self.probabilities.argmax())
        guess = {"action": labels[best], "words": words[best], "probability": float(self.probabilities[best])}
        return {**row, **guess, "accepted": self.accepted}


def window_seconds(
    model: ActionModel, info: VideoInfo, *, window: float | None, stride: float | None
) -> tuple[float, float] | None:
    """Length and stride of the windows of a video in s; None for a video that is recognised as a whole.

    Args:
        model: its median training clip is the default length.
        info: of the video.
        window: length, where it is given.
        stride: by default half a window.

    Raises:
        InputError: a window or stride that is not positive, is shorter than a frame, or leaves gaps.
    """
    if window is None:
        window = float(model.description.get("data", {}).get("clip_seconds") or 0.0)
        if not window and stride is not None:
            raise InputError(f"--stride {stride:g}: this run has no usual length of a clip; give --window SECONDS too")
        if not window:
            return None
    elif not window * info.fps >= 1:
        raise InputError(f"--window {window:g}: must be at least one frame, {1 / info.fps:.3g} s")
    if stride is not None and not 1 / info.fps <= stride <= window:
        raise InputError(
            f"--stride {stride:g}: must be from one frame, {1 / info.fps:.3g} s, to a window, {window:g} s"
        )
    if info.duration <= MAX_WHOLE * window + 1e-9:
        return None
    return window, max(window / 2, 1 / info.fps) if stride is None else stride


def split_windows(info: VideoInfo, window: float, stride: float) -> list[Window]:
    """Windows of a video; the last one ends with it."""
    starts = (np.arange(int((info.duration - window) / stride + 1e-9) + 1) * stride).tolist()
    if starts[-1] + window < info.duration - 1e-6:
        starts.append(info.duration - window)
    windows = []
    for start in starts:
        first, last = np.searchsorted(info.times, [start - 1e-6, start + window - 1e-6]).tolist()
        first = min(first, info.n_frames - 1)
        # a gap between frames that is longer than a window shows the frame before it
        windows.append(Window(start, start + window, min(first, max(last - 1, 0)), max(last, 1)))
    return windows


def window_inputs(
    model: ActionModel,
    video: str | Path,
    info: VideoInfo,
    windows: Sequence[Window],
    *,
    skeleton: str | Path | None = None,
    pose_models: str | Path | None = None,
) -> Iterator[VideoInput | None]:
    """Model input of each window; None for one without a person, for a model of skeletons alone.

    Args:
        model: a trained model.
        video: the file, or a folder of frames.
        info: of the video.
        windows: of `split_windows`.
        skeleton: skeleton file of the whole video.
        pose_models: folder of the pose networks.

    Raises:
        InputError: as `actprompt.inference.video_input.load_video_input`.
    """
    path = Path(video)
    recorded = None if skeleton is None else read_recorded(model, Path(skeleton))
    poses = video_poses(path, info, pose_models=pose_models) if uses_poses(model) else None
    if recorded is None and poses is None and uses_skeleton(model) and model.visual is None:
        raise InputError(f"{path}: no skeleton was given and this run uses skeletons only; give --skeleton FILE")
    warnings = [f"The video is not whole ({info.damage}): only these frames are used."] if info.damage else []
    if skeleton is not None and not uses_recorded(model):
        warnings.append(unused_skeleton_warning(model))
    parts = [info.part(window.first, window.last) for window in windows]
    sampled = [window.first + _indices(part, model) for window, part in zip(windows, parts, strict=True)]
    clips = iterate_clips(path, sampled, keep_damaged=bool(info.damage))
    for window, part, frames in zip(windows, parts, clips, strict=True):
        parameters = None
        if recorded is not None and skeleton is not None:
            joints, time = recorded
            inside = joints[(time >= window.start) & (time < window.end)]
            if len(inside) and not np.isnan(inside).all():
                parameters = measured(model, Path(skeleton), inside, part.duration)
        if poses is not None:
            parameters = with_poses(model, parameters, poses.part(window.first, window.last), path, part.duration)
        if parameters is None and uses_skeleton(model) and model.visual is None:
            yield None
            continue
        clip = Clip(id=path.name, path=str(path), label="", **part.measured())
        missing = parameters is None and uses_skeleton(model)
        parameters = parameters or absent(model)
        tensors = input_tensors(model, clip, frames, parameters)
        yield VideoInput(path.name, frames, tensors, parameters.units, tuple(warnings), poses, missing)


def _indices(part: VideoInfo, model: ActionModel) -> npt.NDArray[np.int64]:
    indices = sample_indices(part.n_frames, model.config.video.sampling)
    return indices_at(part, indices) if part.variable_rate else indices


def make_timeline(
    windows: Sequence[Window],
    probabilities: Sequence[npt.NDArray[np.float64] | None],
    duration: float,
    *,
    threshold: float = 0.0,
) -> tuple[Segment, ...]:
    """Timeline of a video: each moment has the action of the window with the nearest middle; equal neighbours are one.

    Neighbours below the threshold are one segment, whose best guess is of the mean of their probabilities.

    Args:
        windows: in order.
        probabilities: (C,) of each, None without a person.
        duration: of the video in s.
        threshold: of rejection.
    """
    middles = [(window.start + window.end) / 2 for window in windows]
    borders = [0.0, *((one + other) / 2 for one, other in pairwise(middles)), duration]

    def key(index: int) -> int | str:
        values = probabilities[index]
        if values is None:
            return NO_PERSON
        return int(values.argmax()) if values.max() >= threshold else "rejected"

    segments = []
    for kind, group in groupby(range(len(windows)), key):
        indices = list(group)
        values = [values for index in indices if (values := probabilities[index]) is not None]
        mean = np.mean(values, axis=0) if values else None
        segments.append(Segment(borders[indices[0]], borders[indices[-1] + 1], mean, isinstance(kind, int)))
    return tuple(segments)
