"""One video as a trained model takes it: its frames, and the numbers of a skeleton where there is one.

Shapes: T frames, J joints, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from actprompt.clips import Tables
from actprompt.extract import encode_clip, preprocess
from actprompt.inputs import Inputs
from actprompt.limbs import LIMB_JOINTS
from actprompt.manifest import Clip, Manifest
from actprompt.numeric_features import Parameters, joint_parameters, limb_parameters
from actprompt.saved import SavedModel
from actprompt.skeletons import read_skeleton
from actprompt.video import VideoClip, VideoInfo, read_clip
from icube_common.errors import InputError
from icube_common.tabular import NumericTable

Joints = npt.NDArray[np.float32]

# how far the mean length of limb directions may be from 1
_UNIT = 0.1


@dataclass(frozen=True, eq=False)
class OneVideo:
    """A video and what belongs to it.

    Attributes:
        clip: as a manifest would have it; its label is not known.
        info: what decoding it has shown.
        frames: the sampled ones.
        tables: of this one clip.
        units: of the P parameters.
        notes: what a reader has to know about the numbers.
    """

    clip: Clip
    info: VideoInfo
    frames: VideoClip
    tables: Tables
    units: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Numbers:
    """What a skeleton gives: joints (T, J, 3), none where there is no skeleton; values (P,), NaN; their units."""

    joints: Joints
    values: npt.NDArray[np.float64]
    units: tuple[str, ...]


def read_one(
    saved: SavedModel,
    video: str | Path,
    info: VideoInfo,
    *,
    skeleton: str | Path | None = None,
    data: str | Path | None = None,
) -> OneVideo:
    """A video as a model takes it.

    Args:
        saved: the model with what belongs to it.
        video: the file.
        info: what `actprompt.video.probe` says of it.
        skeleton: ``.npz`` with joints (T, J, 3) and time (T,) in s.
        data: a prepared set that the video is of: skeleton and numbers are taken from there.

    Raises:
        InputError: a video or skeleton that cannot be used or has other joints or numbers than the model was trained
            on; a video that is not in ``data``; a model that needs numbers, and there are none.
    """
    path, model = Path(video), saved.model
    clip = Clip(
        id=path.name,
        path=str(path),
        label="",
        n_frames=info.n_frames,
        fps=info.fps,
        duration=info.duration,
        variable_rate=info.variable_rate,
        damage=info.damage,
    )
    found, notes = None, []
    if info.damage:
        notes.append(f"The video is not whole ({info.damage}): only these frames are used.")
    if data is not None:
        manifest = Manifest.load(data)
        listed = find_clip(manifest, path, info)
        if manifest.video(listed).resolve() != path.resolve():
            notes.append(f"Taken for clip {listed.id} of {data} by its name: the set has the video at another place.")
        clip = replace(clip, id=listed.id)
        found = _numbers_of_set(saved, manifest, listed) if uses_numbers(saved) else None
    elif skeleton is not None:
        found, note = _numbers_of_file(saved, Path(skeleton), info.duration)
        notes += [note] if note else []
    if skeleton is not None and not uses_numbers(saved):
        notes.append("The skeleton is not used: this run knows the picture only.")
    if found is None and uses_numbers(saved):
        missing = "no skeleton was given" if data is None else f"{data} has no skeleton of {clip.id}"
        if model.visual is None:
            remedy = "give --skeleton FILE, or --data SET with the video's skeleton"
            raise InputError(f"{path}: {missing} and this run knows an action by its numbers only; {remedy}")
        notes.insert(0, f"Numbers missing: {missing}; the action is named from the picture alone.")
    frames = read_clip(
        path,
        model.config.video.sampling,
        n_frames=clip.n_frames,
        variable_rate=clip.variable_rate,
        keep_damaged=bool(clip.damage),
    )
    found = found or _absent(saved)
    return OneVideo(clip, info, frames, _tables(saved, clip, frames, found), found.units, tuple(notes))


def uses_numbers(saved: SavedModel) -> bool:
    """Whether a clip's own numbers enter a prediction; they don't where they only served the training."""
    entry = saved.model.config.numeric.fusion_mode
    return saved.course is not None or bool(saved.model.parameter_names and entry in ("statements", "fusion"))


def find_clip(manifest: Manifest, video: Path, info: VideoInfo) -> Clip:
    """The clip of a set that a video is: the same file, else the only one of that name with as many frames.

    Raises:
        InputError: none, or several, or one of other length.
    """
    place = video.resolve()
    names = {video.name, place.name}
    alike = [clip for clip in manifest.clips if Path(clip.path).name in names or clip.id in names]
    for clip in alike:
        if manifest.video(clip).resolve() == place:
            return clip
    if not alike:
        raise InputError(f"{video}: not in {manifest.folder}; give its skeleton by --skeleton, or leave --data away")
    if len(alike) > 1:
        raise InputError(
            f"{video}: {manifest.folder} has {len(alike)} clips of that name ({alike[0].id}, {alike[1].id}); give the "
            f"file below {manifest.root}"
        )
    if alike[0].n_frames != info.n_frames:
        raise InputError(
            f"{video}: {info.n_frames} frames, and {alike[0].id} of {manifest.folder} has {alike[0].n_frames}: another "
            "video of that name; give its skeleton by --skeleton, or leave --data away"
        )
    return alike[0]


def joint_names(saved: SavedModel) -> tuple[str, ...]:
    """The joints of the skeletons that a model was trained on: as its course has them, else by its parameters."""
    if saved.course is not None:
        return saved.course.joint_names
    names = saved.model.parameter_names
    if "active arm raise, first" in names:
        return LIMB_JOINTS
    return tuple(name.removesuffix(" range") for name in names if name.endswith(" range"))


def _numbers_of_set(saved: SavedModel, manifest: Manifest, clip: Clip) -> Numbers | None:
    """What a prepared set has of a clip; None where it has neither skeleton nor number of it."""
    found, has = _absent(saved), False
    if saved.model.parameter_names and "numeric" in manifest.about:
        table = manifest.numeric()
        _refuse_others(manifest.folder / "numeric.csv", table.names, saved)
        found = replace(found, values=table.values[manifest.index[clip.id]], units=table.units)
        has = not np.isnan(found.values).all()
    if saved.course is not None and "skeleton" in manifest.about:
        skeleton = manifest.skeleton(clip)
        if skeleton is not None:
            names = tuple(manifest.about["skeleton"]["joints"])
            if names != saved.course.joint_names or skeleton[0].shape[1] != len(names):
                raise InputError(
                    f"{manifest.folder}: skeletons of other joints ({', '.join(names)}) than this run was trained on "
                    f"({', '.join(saved.course.joint_names)}); leave --data away to go by the picture"
                )
            found, has = replace(found, joints=skeleton[0]), has or bool(len(skeleton[0]))
    return found if has else None


def _numbers_of_file(saved: SavedModel, path: Path, duration: float) -> tuple[Numbers, str]:
    """What a skeleton file gives for a video of that duration, and what is odd about it."""
    remedy = "give an .npz with joints (T, J, 3) and time (T,) in s"
    joints, time = read_skeleton(path, remedy=remedy)
    if np.isnan(joints).all():
        raise InputError(f"{path}: no joint is tracked in any of its {len(joints)} frames: {remedy}")
    if not uses_numbers(saved):
        return _absent(saved), ""
    names = joint_names(saved)
    if joints.shape[1] != len(names):
        raise InputError(
            f"{path}: {joints.shape[1]} joints, this run was trained on {len(names)}: {', '.join(names)}; give these"
        )
    if names == LIMB_JOINTS and abs(float(np.nanmean(np.linalg.norm(joints, axis=2))) - 1) > _UNIT:
        raise InputError(f"{path}: its joints are no unit directions, as this run was trained on; see actprompt.limbs")
    found = _absent(saved)
    if saved.model.parameter_names:
        named = _named(saved, names, joints, duration)
        _refuse_others(path, tuple(named), saved)
        values, units = zip(*named.values(), strict=True)
        found = replace(found, values=np.array(values, dtype=np.float64), units=tuple(units))
    span = float(time[-1] - time[0])
    odd = abs(span - duration) > max(0.5, 0.25 * duration)
    note = f"The skeleton spans {span:.2f} s, the video {duration:.2f} s: is it this video's?" if odd else ""
    return replace(found, joints=joints), note


def _named(saved: SavedModel, names: tuple[str, ...], joints: Joints, duration: float) -> Parameters:
    if names == LIMB_JOINTS:
        return limb_parameters(joints, duration)
    heights = any(name.endswith(" height, mean") for name in saved.model.parameter_names)
    return joint_parameters(joints, names, duration, up=1 if heights else None)


def _refuse_others(path: Path, names: tuple[str, ...], saved: SavedModel) -> None:
    """The parameters have to be those of the model, in its order."""
    wanted = saved.model.parameter_names
    if names != wanted:
        differ = next((pair for pair in zip(names, wanted, strict=False) if pair[0] != pair[1]), ("", ""))
        example = f": {differ[0]!r} where it has {differ[1]!r}" if differ[0] else ""
        raise InputError(
            f"{path}: {len(names)} numbers, other ones than the {len(wanted)} this run was trained on{example}; leave "
            "it away to go by the picture, or train on such numbers"
        )


def _absent(saved: SavedModel) -> Numbers:
    """No skeleton, no number."""
    names = saved.model.parameter_names
    joints = np.zeros((0, len(joint_names(saved)), 3), dtype=np.float32)
    return Numbers(joints, np.full(len(names), np.nan), ("",) * len(names))


def _tables(saved: SavedModel, clip: Clip, frames: VideoClip, numbers: Numbers) -> Tables:
    """The rows of this clip, in the precision that a training has seen."""
    model, ids = saved.model, (clip.id,)
    features = pixels = parameters = None
    if model.visual is not None:
        prepared = preprocess(frames.frames, model.vlm)
        if model.visual.tower is None:
            features = {clip.id: encode_clip(prepared, model.vlm).float()}
        else:
            pixels = {clip.id: prepared.half().float()}
    if model.parameter_names:
        parameters = NumericTable(
            ids=ids, names=model.parameter_names, values=numbers.values[None], units=numbers.units
        )
    skeletons = None if saved.course is None else {clip.id: numbers.joints}
    inputs = Inputs(ids, features, pixels, skeletons, joint_names(saved), parameters)
    return Tables.of(ids, inputs, saved.course, saved.captioner, model.vlm)
