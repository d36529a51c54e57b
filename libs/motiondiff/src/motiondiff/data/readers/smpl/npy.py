"""Arrays of text-to-motion models and sets: ``.npy`` of joints or vectors, and MDM's ``results.npy``.

One motion: joints (T, J, 3), or vectors (T, 263) of HumanML3D and (T, 251) of KIT-ML; as MDM has them (J, 3, T) and
(263, 1, T). Several: the same with a number N in front. Joints by J:

    22, 24    SMPL's (HumanML3D's ``new_joints``, MoMask; MDM on action sets), metres, 20 frames per second
    52        SMPL-H's (HumanML3D's ``joints``): the first 22, the others are of the hands
    21        KIT-ML's, 12.5 frames per second, in units of `KIT_UNIT`; in metres where legs are shorter than 10

``results.npy`` (Tevet et al., ICLR 2023) is a pickled dictionary, read without executing anything in it: ``motion``
(N, ...) as above, ``text`` and ``lengths`` (N), ``num_samples`` and ``num_repetitions``. Its clips are named
``sample00_rep00`` as MDM names its videos.

Two corrections, noted in ``Motion.source``: a mirrored body, whose left by names is not its left by its toes (KIT-ML's
files, HumanML3D's ``pose_data``: y and z are swapped there), is mirrored back in x; and a body with its head down in
most frames (HumanAct12's camera) is turned upright. Normalised vectors are scaled
back by ``Mean.npy`` and ``Std.npy`` in the folder of the file or the one above, and are an error without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, check_fps, file_references, resample
from motiondiff.data.readers.pickles import load_npy
from motiondiff.data.readers.smpl.humanml3d import fit_joints
from motiondiff.skeleton.humanml3d import FPS, vectors_to_joints
from motiondiff.skeleton.inverse_kinematics import unit_vectors
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.smpl import JOINT_NAMES, PARENTS

Array = npt.NDArray[np.float64]

KIT_NAMES = (
    "root", "spine1", "spine2", "neck", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder",
    "right_elbow", "right_wrist", "left_hip", "left_knee", "left_ankle", "left_foot", "left_toe", "right_hip",
    "right_knee", "right_ankle", "right_foot", "right_toe",
)  # fmt: skip
"""KIT-ML's joints; in the MMM model: root, BP, BT, BLN, BUN, LS, LE, LW, RS, ..., LH, LK, LA, LMrot, LF, RH, ..."""
KIT_PARENTS = (-1, 0, 1, 2, 3, 3, 5, 6, 3, 8, 9, 0, 11, 12, 13, 14, 0, 16, 17, 18, 19)
KIT_FPS = 12.5
KIT_UNIT = 0.75 / 480
"""Metres: 480 units are 0.75 m, as published comparisons of the set with SMPL scale it."""
LEG_RANGE = (0.3, 1.5)
"""Metres from hip to ankle of a person."""
MIRROR_THRESHOLD = -0.3
"""Mean triple product of left, up and front below which a body is its mirror image; 1 in a body that stands."""

_TO_UPRIGHT = np.diag([1.0, -1.0, -1.0])
_TO_MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class _Body:
    """Names, parents and frame rate of a skeleton."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    fps: float

    def index(self, name: str) -> int:
        return self.names.index(name)


_BODIES = {
    21: _Body(KIT_NAMES, KIT_PARENTS, KIT_FPS),
    22: _Body(JOINT_NAMES[:22], PARENTS[:22], FPS),
    24: _Body(JOINT_NAMES, PARENTS, FPS),
}
_JOINTS = (*_BODIES, 52)
_VECTORS = {263: 22, 251: 21}
_EXPECTED = "(frames, 22, 3) joints or (frames, 263) vectors, KIT-ML's (frames, 21, 3) or (frames, 251), or several"


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per .npy file below a folder, or the file itself."""
    return file_references("npy", folder, ".npy", "motions of text-to-motion models (*.npy)")


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """Motions of a file: one with the file's id, several as ``<id>/sample00_rep00`` or ``<id>/0000``."""
    check_fps(fps)
    path = ref.files[0]
    content = load_npy(path)
    try:
        if isinstance(content, dict):
            arrays, texts, names = _results(content)
        else:
            arrays, texts, names = _split(_numbers(content)), [], []
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    results: list[Clip | Rejection] = []
    for number, array in enumerate(arrays):
        clip_id = ref.clip_id if len(arrays) == 1 else f"{ref.clip_id}/{names[number] if names else f'{number:04d}'}"
        try:
            motion = _motion(array, path)
            text = texts[number].strip() if texts else ""
            results.append(Clip(clip_id, resample(replace(motion, texts=(text,) if text else ()), fps)))
        except InputError as error:
            results.append(Rejection(clip_id, f"{path}: {clip_id}: {error}"))
    return results


def _results(content: dict[Any, Any]) -> tuple[list[Array], list[str], list[str]]:
    """Motions, texts and names of MDM's dictionary."""
    if "motion" not in content:
        shown = ", ".join(map(str, content)) or "nothing"
        raise InputError(f"a dictionary with {shown}; MDM's results have motion, text and lengths")
    motions = content["motion"]
    if isinstance(motions, list) or (isinstance(motions, np.ndarray) and motions.dtype.hasobject):
        arrays = [part for motion in motions for part in _split(_numbers(motion))]  # of different lengths
    else:
        arrays = _split(_numbers(motions), several=True)
    for key in ("lengths", "text"):
        if key in content and len(np.atleast_1d(content[key])) != len(arrays):
            raise InputError(f"{len(arrays)} motions, but {len(np.atleast_1d(content[key]))} {key}")
    if "lengths" in content:
        lengths = [int(length) for length in np.atleast_1d(_numbers(content["lengths"]))]
        wrong = next((n for n, length in enumerate(lengths) if not 0 < length <= len(arrays[n])), None)
        if wrong is not None:
            raise InputError(f"motion {wrong} has length {lengths[wrong]}, and {len(arrays[wrong])} frames")
        arrays = [array[:length] for array, length in zip(arrays, lengths, strict=True)]
    texts = [str(text) for text in np.atleast_1d(content["text"])] if "text" in content else []
    samples, repetitions = content.get("num_samples"), content.get("num_repetitions")
    names = []
    if samples and repetitions and int(samples) * int(repetitions) == len(arrays):
        names = [f"sample{n % int(samples):02d}_rep{n // int(samples):02d}" for n in range(len(arrays))]
    return arrays, texts, names


def _numbers(content: Any) -> Array:
    try:
        array = np.asarray(content)
    except ValueError as error:
        raise InputError(f"holds arrays of different shapes: {_EXPECTED}") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"holds {array.dtype}, numbers expected: {_EXPECTED}")
    if not np.isfinite(array).all():
        raise InputError("holds NaN or infinite values")
    return array.astype(np.float64)


def _split(array: Array, *, several: bool = False) -> list[Array]:
    """The motions of an array, frames first: each (T, J, 3) or (T, V)."""
    one = None if several else _frames_first(array)
    if one is not None:
        return [one]
    parts = [_frames_first(part) for part in array] if array.ndim > 2 else []
    motions = [part for part in parts if part is not None]
    if not motions or len(motions) < len(parts):
        raise InputError(f"holds an array {array.shape}; {_EXPECTED} of them expected")
    return motions


def _frames_first(array: Array) -> Array | None:
    """One motion as (T, J, 3) or (T, V), or None for any other shape."""
    shape = array.shape
    if len(shape) == 2:
        return array if shape[1] in _VECTORS else None
    if len(shape) != 3:
        return None
    if shape[1] in _JOINTS and shape[2] == 3:
        return array
    if shape[0] in _JOINTS and shape[1] == 3:
        return array.transpose(2, 0, 1)
    if shape[0] in _VECTORS and shape[1] == 1:
        return array[:, 0].T
    return None


def _motion(array: Array, path: Path) -> Motion:
    joints, remarks = _from_vectors(array, path) if array.ndim == 2 else array, [path.name]
    if joints.shape[1] == 52:
        joints = joints[:, :22]
    body = _BODIES[joints.shape[1]]
    if body.names == KIT_NAMES and _leg(joints, body) > 10:
        joints = joints * KIT_UNIT
    leg = _leg(joints, body)
    if not LEG_RANGE[0] < leg < LEG_RANGE[1]:
        raise InputError(f"legs of {leg:.3g} m: not a body in metres")
    head = body.index("head")
    feet = [body.index("left_foot"), body.index("right_foot")]
    if len(body.names) == 24 and np.median(joints[:, head, 1] - joints[:, feet, 1].mean(1)) < 0:
        joints = joints @ _TO_UPRIGHT
        remarks.append("turned upright")
    if _handedness(joints, body) < MIRROR_THRESHOLD:
        joints = joints @ _TO_MIRROR
        remarks.append("mirrored back")
    return fit_joints(joints, body.names, body.parents, body.fps, ", ".join(remarks))


def _from_vectors(array: Array, path: Path) -> Array:
    """(T, J, 3) joints, normalised vectors scaled back."""
    body = _BODIES[_VECTORS[array.shape[1]]]
    joints = vectors_to_joints(array, len(body.names)).astype(np.float64)
    if _steady(joints, body):
        return joints
    for folder in (path.parent, path.parent.parent):
        if (folder / "Mean.npy").is_file() and (folder / "Std.npy").is_file():
            mean, std = (_numbers(load_npy(folder / name)) for name in ("Mean.npy", "Std.npy"))
            if mean.shape == std.shape == array.shape[1:]:
                joints = vectors_to_joints(array * std + mean, len(body.names)).astype(np.float64)
                if _steady(joints, body):
                    return joints
    raise InputError(
        "the vectors have no constant bone lengths: normalised ones need their Mean.npy and Std.npy beside the file"
    )


def _steady(joints: Array, body: _Body) -> bool:
    """True where shins and thighs have constant and similar lengths, within the error of generated motions."""
    lengths = np.array(
        [
            np.linalg.norm(joints[:, body.index(f"{side}_{low}")] - joints[:, body.index(f"{side}_{high}")], axis=-1)
            for side in ("left", "right")
            for high, low in (("hip", "knee"), ("knee", "ankle"))
        ]
    )
    usual = np.median(lengths, axis=1)
    spread = np.median(np.abs(lengths - usual[:, None]), axis=1)
    return bool((usual > 0).all() and (spread < 0.1 * usual).all() and usual.max() < 2 * usual.min())


def _leg(joints: Array, body: _Body) -> float:
    """Median length of the legs from hip to ankle along the bones."""
    total = np.zeros(len(joints))
    for side in ("left", "right"):
        for high, low in (("hip", "knee"), ("knee", "ankle")):
            bone = joints[:, body.index(f"{side}_{low}")] - joints[:, body.index(f"{side}_{high}")]
            total += np.linalg.norm(bone, axis=-1) / 2
    return float(np.median(total))


def _handedness(joints: Array, body: _Body) -> float:
    """Mean of left . (up x front) of unit vectors: the hips, the trunk, and where the feet point from the ankles."""
    tip = "toe" if "left_toe" in body.names else "foot"
    left = unit_vectors(joints[:, body.index("left_hip")] - joints[:, body.index("right_hip")])
    up = unit_vectors(joints[:, body.index("neck")] - joints[:, body.index(body.names[0])])
    front = sum(
        unit_vectors(joints[:, body.index(f"{side}_{tip}")] - joints[:, body.index(f"{side}_ankle")])
        for side in ("left", "right")
    )
    return float((left * np.cross(up, unit_vectors(np.asarray(front)))).sum(-1).mean())
