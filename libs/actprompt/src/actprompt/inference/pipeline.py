"""Action recognition of one video: probabilities, an explanation, and an HTML page of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actprompt.data.video import VideoClip, VideoInfo, probe
from actprompt.inference.explain import Explanation, encode_views
from actprompt.inference.html_report import save_page
from actprompt.inference.timeline import Segment, make_timeline, split_windows, window_inputs, window_seconds
from actprompt.inference.video_input import VideoInput, check_source, check_threshold, load_video_input
from actprompt.models.action_model import ActionModel
from actprompt.models.visual_branch import Head
from actprompt.training.trainer import predict_probabilities
from icube_common.errors import InputError
from icube_common.io.pretrained import PretrainedPipeline
from icube_common.io.runs import check_output_path
from icube_common.pose import PoseSequence, overlay_pose
from icube_common.training.calibration import Rejection
from icube_common.vlm import EncoderLike


@dataclass(frozen=True, eq=False)
class ActionPrediction:
    """Predicted action of a video.

    Attributes:
        video: the file.
        labels: C classes as the data set spells them.
        words: their names in words.
        probabilities: (C,), of a long video those of its most certain window.
        threshold: probability of `label` below which the video shows none of the classes; None where none was chosen.
        threshold_rule: origin of the threshold in words.
        timeline: stretches of the video with one action each.
        window: start and end in s of the window that ``probabilities`` and ``reasons`` are of, and the number of
            windows; None for a video that was recognised as a whole.
        reasons: explanation of the predicted class against the next: ``runner_up``, ``margin`` (before the clip's
            feature is normalised: the parts sum to it), ``cosine_margin``, the ``sentences`` of both classes, and the
            contributions of ``shares``, ``captions``, ``numbers`` and ``frames`` to the margin, as of
            `actprompt.inference.explain.Explanation`.
        warnings: warnings for a reader, the most specific first.
        frames: the sampled frames.
        poses: landmarks of all frames, for a model that uses poses.
        n_frames: frames of the video.
        seconds: its duration.
        backbone: the frozen model.
    """

    video: str
    labels: tuple[str, ...]
    words: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    threshold: float | None
    threshold_rule: str
    timeline: tuple[Segment, ...]
    window: tuple[float, float, int] | None
    reasons: Mapping[str, Any]
    warnings: tuple[str, ...]
    frames: VideoClip
    poses: PoseSequence | None
    n_frames: int
    seconds: float
    backbone: str

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.labels[int(self._order[0])]

    @property
    def probability(self) -> float:
        """The probability of `label`."""
        return float(self.probabilities.max())

    @property
    def rejected(self) -> bool:
        """True where the most probable class is below the threshold: none of the classes; `label` is the best guess."""
        return self.threshold is not None and self.probability < self.threshold

    @property
    def _order(self) -> npt.NDArray[np.int64]:
        return np.argsort(-self.probabilities, kind="stable")

    def top(self, k: int = 5) -> list[dict[str, Any]]:
        """The ``k`` most probable classes: ``action``, its name in ``words``, ``probability``."""
        return [
            {"action": self.labels[row], "words": self.words[row], "probability": float(self.probabilities[row])}
            for row in self._order.tolist()[:k]
        ]

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """The prediction for JSON, with the ``top`` most probable classes."""
        rows = self.top(max(top, 1))
        return {
            "video": self.video,
            "n_frames": self.n_frames,
            "seconds": round(self.seconds, 3),
            "backbone": self.backbone,
            "poses": self.poses is not None,
            "warnings": list(self.warnings),
            "predicted": rows[0],
            "top": rows,
            "rejected": self.rejected,
            "threshold": self.threshold,
            "threshold_rule": self.threshold_rule,
            "timeline": [segment.to_dict(self.labels, self.words) for segment in self.timeline],
            "window": None if self.window is None else dict(zip(("start", "end", "windows"), self.window, strict=True)),
            "reasons": dict(self.reasons),
        }

    def save_html(self, path: str | Path, *, top: int = 5, overwrite: bool = False) -> Path:
        """Write a page with frames, bars and sentences.

        Raises:
            InputError: the file exists and ``overwrite`` is False, or it cannot be written.
        """
        return save_page(path, self.to_dict(top), self._drawn(), overwrite=overwrite)

    def _drawn(self) -> VideoClip:
        """The sampled frames with the poses drawn on them."""
        if self.poses is None:
            return self.frames
        indices, frames = self.frames.indices, self.frames.frames.copy()
        for place in np.ndindex(indices.shape):
            index = indices[place]
            frames[place] = overlay_pose(frames[place], self.poses.pixels[index], self.poses.visibility[index])
        return VideoClip(frames, indices)


class ActionPipeline(PretrainedPipeline):
    """Action recognition of videos by a trained model: ``ActionPipeline.from_pretrained("RUN")("video.mp4").top(5)``.

    Args:
        model: a trained model.
    """

    model_class = ActionModel

    def __call__(
        self,
        video: str | Path,
        *,
        skeleton: str | Path | None = None,
        data: str | Path | None = None,
        frame_rate: float | None = None,
        keep_damaged: bool = False,
        pose_models: str | Path | None = None,
        window: float | None = None,
        stride: float | None = None,
        threshold: float | None = None,
    ) -> ActionPrediction:
        """Recognise the action of a video, of a long one in sliding windows.

        Args:
            video: the file, or a folder of frames.
            skeleton: ``.npz`` with joints (T, J, 3), NaN where not tracked, and time (T,) in s; joints, order and unit
                of the training.
            data: a prepared set that holds the video, its skeleton and parameters; a clip of it is taken as a whole.
            frame_rate: frames per second of a folder of frames.
            keep_damaged: use the decodable frames of a truncated or damaged video; a note reports it.
            pose_models: folder of the pose networks, for a model that was trained on poses (default: the cache folder).
            window: length of a window in s (default: the median training clip); a video of up to 1.5 windows is taken
                as a whole.
            stride: seconds from one window to the next (default: half a window).
            threshold: probability below which the answer is none of the classes (default: that of the training).

        Raises:
            InputError: a video, skeleton or set that cannot be used or does not fit the model.
        """
        check_source(video, skeleton=skeleton, data=data, frame_rate=frame_rate, window=window, stride=stride)
        check_threshold(threshold)
        info = probe(video, frame_rate=frame_rate, keep_damaged=keep_damaged)
        options = {"skeleton": skeleton, "pose_models": pose_models}
        return self._recognise(video, info, data=data, options=options, windows=(window, stride), threshold=threshold)

    def _recognise(
        self,
        video: str | Path,
        info: VideoInfo,
        *,
        data: str | Path | None,
        options: Mapping[str, str | Path | None],
        windows: tuple[float | None, float | None],
        threshold: float | None,
    ) -> ActionPrediction:
        """The prediction of a decoded video."""
        model: ActionModel = self.model
        rule = "given with the request"
        if threshold is None and model.rejection is not None:
            threshold, rule = model.rejection.threshold, rejection_rule(model.rejection)
        length = None if data is not None else window_seconds(model, info, window=windows[0], stride=windows[1])
        explained = None
        if length is None:
            inputs = load_video_input(model, video, info, data=data, **options)
            probabilities = predict_probabilities(model, inputs.tensors)[0]
            accepted = bool(probabilities.max() >= (threshold or 0.0))
            timeline: tuple[Segment, ...] = (Segment(0.0, info.duration, probabilities, accepted),)
        else:
            parts = split_windows(info, *length)
            inputs, best, rows = _most_certain(model, window_inputs(model, video, info, parts, **options), video)
            timeline = make_timeline(parts, rows, info.duration, threshold=threshold or 0.0)
            probabilities, explained = rows[best], (round(parts[best].start, 3), round(parts[best].end, 3), len(parts))
        order = np.argsort(-probabilities, kind="stable").tolist()
        views = encode_views(model, inputs.tensors)
        explanation = Explanation(model, views, order[0], order[1] if len(order) > 1 else None)
        names = model.description["data"].get("classes", {})
        words = tuple(names.get(label, label) for label in model.labels)
        other = None
        if explanation.other is not None:
            row = explanation.other
            other = {"action": model.labels[row], "words": words[row], "probability": float(probabilities[row])}
        return ActionPrediction(
            video=str(video),
            labels=model.labels,
            words=words,
            probabilities=probabilities,
            threshold=threshold,
            threshold_rule="" if threshold is None else rule,
            timeline=timeline,
            window=explained,
            reasons=_reasons(inputs, info, explanation, other),
            warnings=tuple(_warnings(model, inputs)),
            frames=inputs.frames,
            poses=inputs.poses,
            n_frames=info.n_frames,
            seconds=info.duration,
            backbone=str(model.vlm.origin),
        )


def _most_certain(
    model: ActionModel, inputs: Iterable[VideoInput | None], video: str | Path
) -> tuple[VideoInput, int, list[Any]]:
    """Input and number of the window with the largest probability, and the probabilities (C,) of all, or None.

    Raises:
        InputError: no window with a person, for a model of skeletons alone.
    """
    best: tuple[float, int, VideoInput] | None = None
    rows: list[Any] = []
    missing = 0
    for number, window in enumerate(inputs):
        rows.append(None if window is None else predict_probabilities(model, window.tensors)[0])
        if window is None:
            continue
        missing += bool(window.skeleton_missing)
        if best is None or rows[-1].max() > best[0]:
            best = (float(rows[-1].max()), number, window)
    if best is None:
        raise InputError(f"{video}: no person was found in the video and this run uses skeletons only")
    if missing:
        note = f"Skeleton missing in {missing} of {len(rows)} windows: their actions are recognised from the frames."
        best = (*best[:2], replace(best[2], warnings=(note, *best[2].warnings)))
    return best[2], best[1], rows


def rejection_rule(rejection: Rejection) -> str:
    """Choice of a threshold in words."""
    return (
        f"chosen so that {100 * rejection.accepted:.0f} % of {rejection.rows} correctly recognised training clips "
        "reach it, each predicted by a model that was trained without its person or group"
    )


def predict(
    run: str | Path | ActionModel,
    video: str | Path,
    *,
    head: Head | None = None,
    encoder: EncoderLike | None = None,
    skeleton: str | Path | None = None,
    data: str | Path | None = None,
    frame_rate: float | None = None,
    keep_damaged: bool = False,
    pose_models: str | Path | None = None,
    window: float | None = None,
    stride: float | None = None,
    threshold: float | None = None,
    html: str | Path | None = None,
    top: int = 5,
    overwrite: bool = False,
) -> ActionPrediction:
    """Recognise the action of one video with a trained model.

    Args:
        run: a trained model, or what `ActionPipeline.from_pretrained` takes.
        video: the file, or a folder of frames.
        head: the custom head that a run was trained with.
        encoder: the image encoder of that training, where that was a class or an instance.
        skeleton: as for `ActionPipeline`.
        data: as for `ActionPipeline`.
        frame_rate: as for `ActionPipeline`.
        keep_damaged: as for `ActionPipeline`.
        pose_models: as for `ActionPipeline`.
        window: as for `ActionPipeline`.
        stride: as for `ActionPipeline`.
        threshold: as for `ActionPipeline`.
        html: a page to write, with frames, bars and sentences.
        top: classes on the page.
        overwrite: replace an existing page.

    Raises:
        InputError: no such run, or as `ActionPipeline`; ``top`` below 1; the page exists. Nothing is written then.
    """
    if top < 1:
        raise InputError(f"--top {top}: must be at least 1")
    if html is not None:
        if Path(html).is_dir():
            raise InputError(f"--html {html}: is a folder; give the file to write, such as {Path(html) / 'why.html'}")
        check_output_path(html, overwrite=overwrite)
    check_source(video, skeleton=skeleton, data=data, frame_rate=frame_rate, window=window, stride=stride)
    check_threshold(threshold)
    # a bad video is refused before the model is loaded
    info = probe(video, frame_rate=frame_rate, keep_damaged=keep_damaged)
    model = run if isinstance(run, ActionModel) else ActionModel.from_pretrained(run, head=head, encoder=encoder)
    pipeline = ActionPipeline(model)
    options = {"skeleton": skeleton, "pose_models": pose_models}
    prediction = pipeline._recognise(
        video, info, data=data, options=options, windows=(window, stride), threshold=threshold
    )
    if html is not None:
        prediction.save_html(html, top=top, overwrite=overwrite)
    return prediction


def _warnings(model: ActionModel, inputs: VideoInput) -> list[str]:
    """Warnings for a reader, the most specific first."""
    warnings, description = list(inputs.warnings), model.description
    if inputs.clip_id in description["trained_on"].get("ids", ()):
        warnings.append(f"A clip called {inputs.clip_id} was trained on: no evidence about unseen videos.")
    if description["data"].get("simulated"):
        warnings.append("Trained on simulated videos, not on recordings of people.")
    backbone = model.vlm.weights_warning
    if backbone and (model.visual is not None or not model.vlm.origin.text_trained):
        warnings.append(f"Backbone: {backbone}.")
    return list(dict.fromkeys([*warnings, *description["warnings"]]))


def _reasons(
    inputs: VideoInput, info: VideoInfo, explanation: Explanation, runner_up: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "runner_up": runner_up,
        "margin": explanation.margin(),
        "cosine_margin": explanation.cosines(),
        "prompts_trained": bool(explanation.model.config.prompt.learn),
        "sentences": explanation.sentences(),
        "shares": explanation.shares(),
        "captions": explanation.captions(),
        "numbers": explanation.numbers(inputs.units),
        "frames": [
            {"index": row["index"], "time": round(float(info.times[row["index"]]), 3), "importance": row["importance"]}
            for row in explanation.frames(inputs.frames.indices)
        ],
    }
