"""AMASS (Mahmood et al., ICCV 2019): SMPL+H or SMPL-X poses, ``<set>/<subject>/<recording>_poses.npz`` (or _stageii).

``poses`` (frames, 156 or 165): axis-angle of the pelvis, of 21 body joints, then of face and hands, which are ignored;
(frames, 72): the 24 joints of SMPL. ``trans`` (frames, 3) metres; ``mocap_framerate`` or ``mocap_frame_rate``; z up.
Rotations are unchanged, on the rest offsets of the mean body (`motiondiff.skeleton.smpl`), since the person's own
(``betas``, ``gender``) need the licensed model: limbs have mean length, and the feet may be a few centimetres off the
floor.
``rest_joints.npy`` in the folder replaces the mean body (`skeleton.smpl.load_rest_skeleton`).

BABEL's JSON files below the folder cut recordings into labelled clips, ``<recording>.<number>``
(`motiondiff.data.readers.smpl.babel`); other recordings are then rejected.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from einops import rearrange
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, check_fps, find_files, load_arrays, resample
from motiondiff.data.readers.smpl import babel
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.smpl import PELVIS_OFFSET, Z_UP_TO_Y_UP, load_rest_skeleton, mean_skeleton

NUM_JOINTS = {156: 22, 165: 22, 72: 24}
"""Joints by numbers of a pose: the body of SMPL+H and SMPL-X, all of SMPL."""
REST_JOINTS_FILE = "rest_joints.npy"
MAX_FILE_BYTES = 2 * 1024**3
MAX_REACH = 1000.0
"""Metres: maximum coordinate of a recording."""

_RATES = ("mocap_framerate", "mocap_frame_rate")


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per recording, ids ``<set>/<subject>/<recording>``: the file, then BABEL's and ``rest_joints.npy``.

    Files of body shapes (``shape.npz``, ``neutral_stagei.npz``) are ignored.
    """
    folder = Path(folder)
    files = find_files(folder, ".npz", "AMASS recordings (*_poses.npz or *_stageii.npz)")
    files = [path for path in files if not path.stem.lower().endswith(("shape", "_stagei"))]
    if not files:
        raise InputError(f"{folder}: holds body shapes only, no AMASS recordings (*_poses.npz or *_stageii.npz)")
    base = folder if folder.is_dir() else folder.parent
    labels = tuple(path for path in sorted(base.rglob("*.json")) if babel.is_label_file(path))
    rest = tuple(sorted(base.rglob(REST_JOINTS_FILE))[:1])
    refs = []
    for path in files:
        parts = path.resolve().parts[-3:]
        subject = "/".join(parts[:-1])
        refs.append(
            ClipRef("amass", path.relative_to(base).with_suffix("").as_posix(), (path, *labels, *rest), subject)
        )
    return refs


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """The recording, or its labelled parts where BABEL's files are there."""
    check_fps(fps)
    path = ref.files[0]
    rest = next((file for file in ref.files if file.name == REST_JOINTS_FILE), None)
    motion = replace(read_motion(path, rest), subject=ref.subject)
    tables = tuple(file for file in ref.files[1:] if file != rest)
    if not tables:
        return [Clip(ref.clip_id, resample(motion, fps))]
    segments = _labels(tables).get(babel.sequence_key(PurePosixPath(path.resolve().as_posix())), [])
    if not segments:
        raise InputError(f"{path}: no labels of BABEL for it")
    results: list[Clip | Rejection] = []
    for number, segment in enumerate(segments):
        clip_id = f"{ref.clip_id}.{number:02d}"
        try:
            last = len(motion) if segment.end is None else min(len(motion), round(segment.end * motion.fps))
            cut = motion.cut(round(segment.start * motion.fps), last)
        except (InputError, ValueError, OverflowError) as error:
            results.append(
                Rejection(clip_id, f"{path}: {segment.start:g} to {segment.end} s ({segment.text}): {error}")
            )
            continue
        texts = (segment.text,) if segment.text else ()
        results.append(Clip(clip_id, resample(replace(cut, action=segment.action, texts=texts), fps)))
    return results


@lru_cache(maxsize=1)
def _labels(tables: tuple[Path, ...]) -> dict[tuple[str, ...], list[babel.Segment]]:
    """BABEL's files, tens of megabytes, cached in the process."""
    return babel.read_labels(tables)


def read_motion(path: Path, rest: Path | None = None) -> Motion:
    """One recording at its own rate, y up.

    Args:
        path: the .npz.
        rest: rest joints of another body than the mean one.

    Raises:
        InputError: keys missing, shapes that do not fit, or values that are not finite or out of reach.
    """
    arrays = load_arrays(path, ("poses", "trans", *_RATES), max_bytes=MAX_FILE_BYTES)
    rate = next((arrays[key] for key in _RATES if key in arrays), None)
    if rate is None or "poses" not in arrays or "trans" not in arrays:
        raise InputError(
            f"{path}: poses, trans and mocap_framerate expected, found {', '.join(arrays) or 'none of them'}"
        )
    poses, trans = arrays["poses"], arrays["trans"]
    if any(array.dtype.kind not in "fiu" for array in (poses, trans, rate)) or rate.size != 1:
        raise InputError(f"{path}: poses, trans and the frame rate must be numbers")
    if poses.ndim != 2 or poses.shape[1] not in NUM_JOINTS or trans.shape != (len(poses), 3) or len(poses) == 0:
        raise InputError(
            f"{path}: poses {poses.shape} and trans {trans.shape}; (frames, 156, 165 or 72) and (frames, 3) expected"
        )
    joints = NUM_JOINTS[poses.shape[1]]
    poses = poses[:, : 3 * joints]
    if not (np.isfinite(poses).all() and np.isfinite(trans).all()) or np.abs(trans).max() > MAX_REACH:
        raise InputError(f"{path}: holds values that are not finite, or positions beyond {MAX_REACH:g} m")
    poses, trans = poses.astype(np.float64), trans.astype(np.float64)
    skeleton, pelvis = load_rest_skeleton(rest, joints) if rest else (mean_skeleton(joints), np.array(PELVIS_OFFSET))
    rotations = rearrange(
        Rotation.from_rotvec(rearrange(poses, "t (joint xyz) -> (t joint) xyz", xyz=3)).as_matrix(),
        "(t joint) row column -> t joint row column",
        joint=joints,
    )
    rotations[:, 0] = Z_UP_TO_Y_UP @ rotations[:, 0]
    try:
        return Motion(
            ((trans + pelvis) @ Z_UP_TO_Y_UP.T).astype(np.float32),
            rotations.astype(np.float32),
            skeleton,
            float(rate.ravel()[0]),
            source=path.name,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
