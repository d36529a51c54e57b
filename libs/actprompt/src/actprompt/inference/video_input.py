"""Model input from one video: its frames, and the parameters of its skeleton where there is one.

Shapes: T frames, J joints, P parameters.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from actprompt.data.dataset import ClipTensors, Inputs
from actprompt.data.extract import encode_clip
from actprompt.data.manifest import Clip, Manifest
from actprompt.data.video import VideoClip, VideoInfo, read_clip
from actprompt.data.video.frame_folder import is_image
from actprompt.data.video.pixels import preprocess
from actprompt.inference.skeleton_input import (
    ClipParameters,
    absent,
    model_joints,
    skeleton_of_file,
    skeleton_of_set,
    unused_skeleton_warning,
    uses_poses,
    uses_recorded,
    uses_skeleton,
    video_poses,
    with_poses,
)
from actprompt.models.action_model import ActionModel
from icube_common.errors import InputError
from icube_common.pose import PoseSequence
from icube_common.tabular import TabularData


@dataclass(frozen=True, eq=False)
class VideoInput:
    """A video as model input.

    Attributes:
        clip_id: of the video, in a set where it is from one.
        frames: the sampled ones.
        tensors: of this one clip.
        units: of the P parameters.
        warnings: warnings about video and skeleton.
        poses: landmarks of all its frames, where the model uses them.
        skeleton_missing: the model uses skeletons and there is none.
    """

    clip_id: str
    frames: VideoClip
    tensors: ClipTensors
    units: tuple[str, ...]
    warnings: tuple[str, ...]
    poses: PoseSequence | None = None
    skeleton_missing: bool = False


def load_video_input(
    model: ActionModel,
    video: str | Path,
    info: VideoInfo,
    *,
    skeleton: str | Path | None = None,
    data: str | Path | None = None,
    pose_models: str | Path | None = None,
) -> VideoInput:
    """Decode a video and load its skeleton, or estimate it where the model was trained on poses.

    Args:
        model: a trained model.
        video: the file.
        info: of `actprompt.data.video.probe`.
        skeleton: ``.npz`` with joints (T, J, 3) and time (T,) in s.
        data: a prepared set that holds the video, its skeleton and parameters.
        pose_models: folder of the pose networks.

    Raises:
        InputError: a video or skeleton that cannot be used or has other joints or parameters than the model was trained
            on; a video that is not in ``data``; a model that needs a skeleton, without one.
    """
    path = Path(video)
    clip = Clip(id=path.name, path=str(path), label="", **info.measured())
    parameters, warnings, stored = None, [], None
    if info.damage:
        warnings.append(f"The video is not whole ({info.damage}): only these frames are used.")
    if data is not None:
        manifest = Manifest.load(data)
        listed = find_clip(manifest, path, info)
        if manifest.video(listed).resolve() != path.resolve():
            warnings.append(f"Taken for clip {listed.id} of {data} by its name: the set has another path of it.")
        clip, stored = replace(clip, id=listed.id), (manifest, listed)
        parameters = skeleton_of_set(model, manifest, listed) if uses_recorded(model) else None
    elif skeleton is not None:
        parameters, note = skeleton_of_file(model, Path(skeleton), info.duration)
        warnings += [note] if note else []
    if skeleton is not None and not uses_recorded(model):
        warnings.append(unused_skeleton_warning(model))
    if uses_poses(model):
        poses = video_poses(path, info, stored=stored, pose_models=pose_models)
        parameters = with_poses(model, parameters, poses, path, info.duration)
    if parameters is None and uses_skeleton(model):
        missing = "no skeleton was given" if data is None else f"{data} has no skeleton of {clip.id}"
        missing = "no person was found in the video" if uses_poses(model) else missing
        if model.visual is None:
            remedy = "give --skeleton FILE, or --data SET with the video's skeleton"
            raise InputError(f"{path}: {missing} and this run uses skeletons only; {remedy}")
        warnings.insert(0, f"Skeleton missing: {missing}; the action is recognised from the frames alone.")
    frames = read_clip(
        path,
        model.config.video.sampling,
        n_frames=clip.n_frames,
        variable_rate=clip.variable_rate,
        keep_damaged=bool(clip.damage),
    )
    parameters = parameters or absent(model)
    tensors = input_tensors(model, clip, frames, parameters)
    return VideoInput(clip.id, frames, tensors, parameters.units, tuple(warnings), parameters.poses)


def find_clip(manifest: Manifest, video: Path, info: VideoInfo) -> Clip:
    """The clip of a video in a set: the same file, else the only one of that name with as many frames.

    Raises:
        InputError: none, or several, or one of other length.
    """
    file = video.resolve()
    names = {video.name, file.name}
    same_name = [clip for clip in manifest.clips if Path(clip.path).name in names or clip.id in names]
    for clip in same_name:
        if manifest.video(clip).resolve() == file:
            return clip
    if not same_name:
        raise InputError(f"{video}: not in {manifest.folder}; give its skeleton by --skeleton, or leave --data away")
    if len(same_name) > 1:
        raise InputError(
            f"{video}: {manifest.folder} has {len(same_name)} clips of that name ({same_name[0].id}, "
            f"{same_name[1].id}); give the file below {manifest.root}"
        )
    if same_name[0].n_frames != info.n_frames:
        raise InputError(
            f"{video}: {info.n_frames} frames, and {same_name[0].id} of {manifest.folder} has {same_name[0].n_frames}: "
            "another video of that name; give its skeleton by --skeleton, or leave --data away"
        )
    return same_name[0]


def input_tensors(model: ActionModel, clip: Clip, frames: VideoClip, measured: ClipParameters) -> ClipTensors:
    """Tensors of this clip, in the precision of a training."""
    ids = (clip.id,)
    features = pixels = parameters = None
    if model.visual is not None:
        prepared = preprocess(frames.frames, model.vlm)
        if model.visual.tower is None:
            features = {clip.id: encode_clip(prepared, model.vlm).float()}
        else:
            pixels = {clip.id: prepared.half().float()}
    if model.parameter_names:
        parameters = TabularData(
            ids=ids, names=model.parameter_names, values=measured.values[None], units=measured.units
        )
    skeletons = None if model.encoder is None else {clip.id: measured.joints}
    inputs = Inputs(ids, features, pixels, skeletons, model_joints(model), parameters)
    return model.clip_tensors(ids, inputs)


def check_threshold(threshold: float | None) -> None:
    """Raise InputError for a threshold that is no probability."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g}: must be a probability from 0 to 1")


def check_source(
    video: str | Path,
    *,
    skeleton: str | Path | None = None,
    data: str | Path | None = None,
    frame_rate: float | None = None,
    window: float | None = None,
    stride: float | None = None,
) -> None:
    """Check the arguments of a prediction before anything is read.

    Raises:
        InputError: windows of a clip of a set or that are not positive, two sources of the skeleton, a folder of
            videos, a frame rate that is none or goes with a file.
    """
    if skeleton is not None and data is not None:
        raise InputError(f"--skeleton {skeleton} with --data {data}: both give the skeleton; leave one away")
    for name, value in (("window", window), ("stride", stride)):
        if value is not None and data is not None:
            raise InputError(f"--{name} {value:g} with --data {data}: a clip of a set is taken whole; leave one away")
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{name} {value:g}: must be a positive number of seconds")
    folder = os.path.isdir(video)
    if folder and not any(is_image(name) for name in os.listdir(video)):
        raise InputError(
            f"{video}: is a folder; give one video, or for all of them a set: actprompt prepare, then actprompt "
            "evaluate RUN --data DATA"
        )
    if frame_rate is not None and (not folder or not 0 < frame_rate < math.inf):
        problem = "must be a positive number of frames per second" if folder else f"{video} is a file, with its own"
        raise InputError(f"--frame-rate {frame_rate:g}: {problem}")
