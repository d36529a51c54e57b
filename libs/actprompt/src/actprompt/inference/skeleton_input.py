"""Skeleton and named parameters of one video: of a prepared set, of a file, or estimated from the frames.

Shapes: T frames, J joints, P parameters.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from actprompt.data.manifest import Clip, Manifest
from actprompt.data.pose.estimate import POSE_JOINTS, PoseFolder, track_video
from actprompt.data.pose.sources import join_skeletons
from actprompt.data.video import VideoInfo
from actprompt.models.action_model import ActionModel
from actprompt.skeleton.features import Parameters, joint_parameters, named_parameters
from actprompt.skeleton.io import Skeleton, read_skeleton_file, spans_other_time
from actprompt.skeleton.joint_angles import LIMB_JOINTS
from icube_common.errors import InputError
from icube_common.pose import PoseModels, PoseSequence, PoseTracker, find_models

Joints = npt.NDArray[np.float32]

# how far the mean length of limb directions may be from 1
_UNIT = 0.1


@dataclass(frozen=True, eq=False)
class ClipParameters:
    """Skeleton and parameters of a clip.

    Attributes:
        joints: (T, J, 3), T = 0 without skeleton.
        values: (P,), NaN where missing.
        units: P of them.
        poses: landmarks of the frames, where they were estimated.
    """

    joints: Joints
    values: npt.NDArray[np.float64]
    units: tuple[str, ...]
    poses: PoseSequence | None = None

    @property
    def present(self) -> bool:
        """True with a joint or a parameter."""
        return bool(len(self.joints)) or not np.isnan(self.values).all()


def uses_skeleton(model: ActionModel) -> bool:
    """True where a clip's own parameters or trajectory enter a prediction, not only the training."""
    entry = model.config.skeleton.fusion_mode
    return model.encoder is not None or bool(model.parameter_names and entry in ("captions", "fusion"))


def uses_recorded(model: ActionModel) -> bool:
    """True where a model was trained on recorded skeletons."""
    return uses_skeleton(model) and skeleton_source(model) != "pose"


def unused_skeleton_warning(model: ActionModel) -> str:
    """Warning about a skeleton file that a model does not use."""
    inputs = "estimates poses from the frames" if uses_poses(model) else "uses frames only"
    return f"The skeleton is not used: this run {inputs}."


def uses_poses(model: ActionModel) -> bool:
    """True where a model was trained on skeletons that are estimated from the video."""
    return uses_skeleton(model) and skeleton_source(model) in ("pose", "both")


def skeleton_source(model: ActionModel) -> str:
    """Source of the skeletons of a model's training: "recorded", "pose" or "both"."""
    return str(model.description["data"].get("skeleton", "recorded"))


def model_joints(model: ActionModel) -> tuple[str, ...]:
    """Joint names of the skeletons that a model was trained on, of its encoder or from its parameters."""
    if model.encoder is not None:
        return model.encoder.joint_names
    if skeleton_source(model) == "pose":
        return POSE_JOINTS
    names = model.parameter_names
    if "active arm raise, first" in names:
        return LIMB_JOINTS
    return tuple(name.removesuffix(" range") for name in names if name.endswith(" range"))


def recorded_joints(model: ActionModel) -> tuple[str, ...]:
    """Joint names of the recorded skeletons among those of a model."""
    names = model_joints(model)
    return names[: -len(POSE_JOINTS)] if skeleton_source(model) == "both" and model.encoder is not None else names


def skeleton_of_set(model: ActionModel, manifest: Manifest, clip: Clip) -> ClipParameters | None:
    """Recorded skeleton and parameters of a clip in a prepared set; None where it has neither."""
    result = absent(model)
    if model.parameter_names and "parameters" in manifest.description:
        table = manifest.parameters()
        _check_parameters(manifest.folder / "parameters.csv", table.names, model)
        result = replace(result, values=table.values[manifest.index[clip.id]], units=table.units)
    if model.encoder is not None and "skeleton" in manifest.description:
        skeleton = manifest.skeleton(clip)
        if skeleton is not None:
            names, expected = manifest.joint_names(), recorded_joints(model)
            if names != expected or skeleton[0].shape[1] != len(names):
                raise InputError(
                    f"{manifest.folder}: skeletons of other joints ({', '.join(names)}) than this run was trained on "
                    f"({', '.join(expected)}); leave --data away to use the frames only"
                )
            result = replace(result, joints=skeleton[0])
    return result if result.present else None


def skeleton_of_file(model: ActionModel, path: Path, duration: float) -> tuple[ClipParameters | None, str]:
    """Skeleton and parameters of a file for a video of that duration, None for a model without them, and a warning."""
    recorded = read_recorded(model, path)
    if recorded is None:
        return None, ""
    joints, time = recorded
    span, odd = float(time[-1] - time[0]), spans_other_time(time, duration)
    note = f"The skeleton spans {span:.2f} s, the video {duration:.2f} s: is it this video's?" if odd else ""
    return measured(model, path, joints, duration), note


def read_recorded(model: ActionModel, path: Path) -> Skeleton | None:
    """Joints (T, J, 3) of a file and their times (T,) in s; None for a model that does not use them.

    Raises:
        InputError: not a skeleton file, no tracked joint, or other joints than the model was trained on.
    """
    remedy = "give an .npz with joints (T, J, 3) and time (T,) in s"
    joints, time, named = read_skeleton_file(path, remedy=remedy)
    if np.isnan(joints).all():
        raise InputError(f"{path}: no joint is tracked in any of its {len(joints)} frames: {remedy}")
    if not uses_recorded(model):
        return None
    names = recorded_joints(model)
    if joints.shape[1] != len(names) or named not in (None, names):
        raise InputError(
            f"{path}: {joints.shape[1]} joints, this run was trained on {len(names)}: {', '.join(names)}; give these"
        )
    if names == LIMB_JOINTS and abs(float(np.nanmean(np.linalg.norm(joints, axis=2))) - 1) > _UNIT:
        raise InputError(f"{path}: its joints are no unit directions, as this run was trained on")
    return joints, time


def measured(model: ActionModel, path: Path, joints: Joints, duration: float) -> ClipParameters:
    """Recorded joints (T, J, 3) with the parameters measured from them; ``path`` is for messages."""
    named = _named(model, recorded_joints(model), joints, duration)
    return replace(_with_parameters(absent(model), model, path, named), joints=joints)


def video_poses(
    path: Path,
    info: VideoInfo,
    *,
    stored: tuple[Manifest, Clip] | None = None,
    pose_models: str | Path | None = None,
) -> PoseSequence:
    """Poses of the frames of a video after the gates.

    Args:
        path: the video.
        info: of the video.
        stored: set and clip whose poses may be stored already.
        pose_models: folder of the pose networks.

    Raises:
        InputError: the pose networks are missing.
    """
    if stored is not None and PoseFolder(stored[0]).exists:
        sequence = PoseFolder(stored[0]).sequence(stored[1])
        if sequence is not None:
            return sequence
    return track_video(path, info, _tracker(find_models(pose_models)), keep_damaged=bool(info.damage)).gated()


def with_poses(
    model: ActionModel, recorded: ClipParameters | None, sequence: PoseSequence, path: Path, duration: float
) -> ClipParameters | None:
    """Skeleton of a video with the poses of its frames; None where it has neither these nor a recorded one.

    Args:
        model: trained on poses, alone or beside recorded skeletons.
        recorded: the recorded skeleton, where there is one.
        sequence: the poses.
        path: the video, for messages.
        duration: of the video, in s.
    """
    joints = sequence.skeleton if sequence.detected.any() else None
    result = replace(recorded or absent(model), poses=sequence)
    if skeleton_source(model) == "both" and model.encoder is not None:
        parts = None if recorded is None or not len(recorded.joints) else recorded.joints
        result = replace(
            result, joints=join_skeletons([(parts, len(recorded_joints(model))), (joints, len(POSE_JOINTS))])
        )
    elif joints is not None:
        result = replace(result, joints=joints)
    if joints is not None and np.isnan(result.values).all():
        result = _with_parameters(result, model, path, named_parameters(joints, POSE_JOINTS, duration))
    return result if result.present else None


@functools.cache
def _tracker(models: PoseModels) -> PoseTracker:
    return PoseTracker(models)


def _with_parameters(result: ClipParameters, model: ActionModel, path: Path, named: Parameters) -> ClipParameters:
    """The skeleton with these named parameters, where the model uses some."""
    if not model.parameter_names:
        return result
    _check_parameters(path, tuple(named), model)
    values, units = zip(*named.values(), strict=True)
    return replace(result, values=np.array(values, dtype=np.float64), units=tuple(units))


def _named(model: ActionModel, names: tuple[str, ...], joints: Joints, duration: float) -> Parameters:
    if any(name.endswith(" range") for name in model.parameter_names):
        heights = any(name.endswith(" height, mean") for name in model.parameter_names)
        return joint_parameters(joints, names, duration, up=1 if heights else None)
    return named_parameters(joints, names, duration)


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


def absent(model: ActionModel) -> ClipParameters:
    """Missing skeleton and parameters."""
    names = model.parameter_names
    joints = np.zeros((0, len(model_joints(model)), 3), dtype=np.float32)
    return ClipParameters(joints, np.full(len(names), np.nan), ("",) * len(names))
