"""Model input from one video: its frames, and the parameters of its skeleton where there is one.

Shapes: T frames, J joints, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from actprompt.data.dataset import ClipTensors, Inputs
from actprompt.data.extract import encode_clip, preprocess
from actprompt.data.manifest import Clip, Manifest
from actprompt.data.video import VideoClip, VideoInfo, read_clip
from actprompt.models.action_model import ActionModel
from actprompt.skeleton.features import Parameters, joint_parameters, limb_parameters
from actprompt.skeleton.io import read_skeleton
from actprompt.skeleton.joint_angles import LIMB_JOINTS
from icube_common.errors import InputError
from icube_common.tabular import TabularData

Joints = npt.NDArray[np.float32]

# how far the mean length of limb directions may be from 1
_UNIT = 0.1


@dataclass(frozen=True, eq=False)
class VideoInput:
    """A video as model input.

    Attributes:
        clip_id: of the video, in a set where it is from one.
        frames: the sampled ones.
        tensors: of this one clip.
        units: of the P parameters.
        warnings: warnings about video and skeleton.
    """

    clip_id: str
    frames: VideoClip
    tensors: ClipTensors
    units: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ClipParameters:
    """Skeleton of a clip: joints (T, J, 3), T = 0 without skeleton; parameters (P,), NaN where missing; their units."""

    joints: Joints
    values: npt.NDArray[np.float64]
    units: tuple[str, ...]


def load_video_input(
    model: ActionModel,
    video: str | Path,
    info: VideoInfo,
    *,
    skeleton: str | Path | None = None,
    data: str | Path | None = None,
) -> VideoInput:
    """Decode a video and load its skeleton.

    Args:
        model: a trained model.
        video: the file.
        info: of `actprompt.data.video.probe`.
        skeleton: ``.npz`` with joints (T, J, 3) and time (T,) in s.
        data: a prepared set that holds the video, its skeleton and parameters.

    Raises:
        InputError: a video or skeleton that cannot be used or has other joints or parameters than the model was trained
            on; a video that is not in ``data``; a model that needs a skeleton, without one.
    """
    path = Path(video)
    clip = Clip(id=path.name, path=str(path), label="", **info.measured())
    found, warnings = None, []
    if info.damage:
        warnings.append(f"The video is not whole ({info.damage}): only these frames are used.")
    if data is not None:
        manifest = Manifest.load(data)
        listed = find_clip(manifest, path, info)
        if manifest.video(listed).resolve() != path.resolve():
            warnings.append(f"Taken for clip {listed.id} of {data} by its name: the set has another path of it.")
        clip = replace(clip, id=listed.id)
        found = _skeleton_of_set(model, manifest, listed) if uses_skeleton(model) else None
    elif skeleton is not None:
        found, note = _skeleton_of_file(model, Path(skeleton), info.duration)
        warnings += [note] if note else []
    if skeleton is not None and not uses_skeleton(model):
        warnings.append("The skeleton is not used: this run uses frames only.")
    if found is None and uses_skeleton(model):
        missing = "no skeleton was given" if data is None else f"{data} has no skeleton of {clip.id}"
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
    found = found or _absent(model)
    return VideoInput(clip.id, frames, _tensors(model, clip, frames, found), found.units, tuple(warnings))


def uses_skeleton(model: ActionModel) -> bool:
    """True where a clip's own parameters or trajectory enter a prediction, not only the training."""
    entry = model.config.skeleton.fusion_mode
    return model.encoder is not None or bool(model.parameter_names and entry in ("captions", "fusion"))


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


def model_joints(model: ActionModel) -> tuple[str, ...]:
    """Joint names of the skeletons that a model was trained on, of its encoder or from its parameters."""
    if model.encoder is not None:
        return model.encoder.joint_names
    names = model.parameter_names
    if "active arm raise, first" in names:
        return LIMB_JOINTS
    return tuple(name.removesuffix(" range") for name in names if name.endswith(" range"))


def _skeleton_of_set(model: ActionModel, manifest: Manifest, clip: Clip) -> ClipParameters | None:
    """Skeleton and parameters of a clip in a prepared set; None where it has neither."""
    found, has = _absent(model), False
    if model.parameter_names and "parameters" in manifest.description:
        table = manifest.parameters()
        _check_parameters(manifest.folder / "parameters.csv", table.names, model)
        found = replace(found, values=table.values[manifest.index[clip.id]], units=table.units)
        has = not np.isnan(found.values).all()
    if model.encoder is not None and "skeleton" in manifest.description:
        skeleton = manifest.skeleton(clip)
        if skeleton is not None:
            names = tuple(manifest.description["skeleton"]["joints"])
            if names != model.encoder.joint_names or skeleton[0].shape[1] != len(names):
                raise InputError(
                    f"{manifest.folder}: skeletons of other joints ({', '.join(names)}) than this run was trained on "
                    f"({', '.join(model.encoder.joint_names)}); leave --data away to use the frames only"
                )
            found, has = replace(found, joints=skeleton[0]), has or bool(len(skeleton[0]))
    return found if has else None


def _skeleton_of_file(model: ActionModel, path: Path, duration: float) -> tuple[ClipParameters, str]:
    """Skeleton and parameters of a file for a video of that duration, and a warning."""
    remedy = "give an .npz with joints (T, J, 3) and time (T,) in s"
    joints, time = read_skeleton(path, remedy=remedy)
    if np.isnan(joints).all():
        raise InputError(f"{path}: no joint is tracked in any of its {len(joints)} frames: {remedy}")
    if not uses_skeleton(model):
        return _absent(model), ""
    names = model_joints(model)
    if joints.shape[1] != len(names):
        raise InputError(
            f"{path}: {joints.shape[1]} joints, this run was trained on {len(names)}: {', '.join(names)}; give these"
        )
    if names == LIMB_JOINTS and abs(float(np.nanmean(np.linalg.norm(joints, axis=2))) - 1) > _UNIT:
        raise InputError(f"{path}: its joints are no unit directions, as this run was trained on")
    found = _absent(model)
    if model.parameter_names:
        named = _named(model, names, joints, duration)
        _check_parameters(path, tuple(named), model)
        values, units = zip(*named.values(), strict=True)
        found = replace(found, values=np.array(values, dtype=np.float64), units=tuple(units))
    span = float(time[-1] - time[0])
    odd = abs(span - duration) > max(0.5, 0.25 * duration)
    note = f"The skeleton spans {span:.2f} s, the video {duration:.2f} s: is it this video's?" if odd else ""
    return replace(found, joints=joints), note


def _named(model: ActionModel, names: tuple[str, ...], joints: Joints, duration: float) -> Parameters:
    if names == LIMB_JOINTS:
        return limb_parameters(joints, duration)
    heights = any(name.endswith(" height, mean") for name in model.parameter_names)
    return joint_parameters(joints, names, duration, up=1 if heights else None)


def _check_parameters(path: Path, names: tuple[str, ...], model: ActionModel) -> None:
    """Check that the parameters are those of the model, in its order."""
    expected = model.parameter_names
    if names != expected:
        differ = next((pair for pair in zip(names, expected, strict=False) if pair[0] != pair[1]), ("", ""))
        example = f": {differ[0]!r} where it has {differ[1]!r}" if differ[0] else ""
        raise InputError(
            f"{path}: {len(names)} parameters, other ones than the {len(expected)} this run was trained on{example}; "
            "leave it away to use the frames only, or train on such parameters"
        )


def _absent(model: ActionModel) -> ClipParameters:
    """Missing skeleton and parameters."""
    names = model.parameter_names
    joints = np.zeros((0, len(model_joints(model)), 3), dtype=np.float32)
    return ClipParameters(joints, np.full(len(names), np.nan), ("",) * len(names))


def _tensors(model: ActionModel, clip: Clip, frames: VideoClip, found: ClipParameters) -> ClipTensors:
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
        parameters = TabularData(ids=ids, names=model.parameter_names, values=found.values[None], units=found.units)
    skeletons = None if model.encoder is None else {clip.id: found.joints}
    inputs = Inputs(ids, features, pixels, skeletons, model_joints(model), parameters)
    return model.clip_tensors(ids, inputs)
