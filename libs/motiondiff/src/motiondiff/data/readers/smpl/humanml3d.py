"""HumanML3D (Guo et al., CVPR 2022): clips of AMASS and HumanAct12 with sentences, 22 joints, 20 frames per second.

``new_joints/<id>.npy`` (frames, 22, 3) in metres, or, where that is missing, ``new_joint_vecs/<id>.npy`` (frames, 263),
see `motiondiff.skeleton.humanml3d`. ``texts/<id>.txt`` has lines ``sentence#tagged words#start#end``: a sentence
describes the clip from start to end in seconds, and 0 to 0 is all of it. A part with times of its own becomes a clip
of its own, ``<id>.1.5-4.0``. Ids that begin with M are mirrored copies.

There are no action labels. Where every sentence of a clip has the same one verb (``walk/VERB``), it is given as the
action. ``index.csv``, where it is there, gives the recording of a clip, and so its subject.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.io.csv import read_text
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, check_fps, find_files, load_array, resample
from motiondiff.skeleton.humanml3d import FPS, NUM_JOINTS, VECTOR_SIZE, vectors_to_joints
from motiondiff.skeleton.inverse_kinematics import estimate_skeleton, fit_motion
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.smpl import JOINT_NAMES, PARENTS

FOLDERS = ("new_joints", "new_joint_vecs")
"""Folders of motions; the first has precedence."""
MAX_REACH = 100.0
"""Metres: maximum coordinate of a clip."""


@dataclass(frozen=True)
class Caption:
    """A sentence, its verbs, and its time span in seconds; 0 to 0 for the whole clip."""

    text: str
    verbs: tuple[str, ...]
    start: float
    end: float


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per id: the motion, then the texts where there are some."""
    folder = Path(folder)
    root = folder.parent if folder.name in FOLDERS else folder
    motions: dict[str, Path] = {}
    for name in FOLDERS:
        if (root / name).is_dir():
            motions = {path.stem: path for path in sorted((root / name).glob("*.npy"))} | motions
    if not motions:  # refuses with the reason
        find_files(root, ".npy", "HumanML3D motions (new_joints/*.npy or new_joint_vecs/*.npy)")
        raise InputError(f"{root}: its .npy files are in neither of {' and '.join(FOLDERS)}")
    subjects = _subjects(root / "index.csv")
    refs = []
    for stem, path in sorted(motions.items()):
        texts = root / "texts" / f"{stem}.txt"
        files = (path, texts) if texts.is_file() else (path,)
        refs.append(ClipRef("humanml3d", stem, files, subjects.get(stem.removeprefix("M"))))
    return refs


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """The clip of an id, and the parts of it that have sentences of their own.

    The body is estimated clip by clip: bone lengths of the set are the same for all clips, but not the hips.
    """
    check_fps(fps)
    motion = replace(read_motion(ref.files[0]), subject=ref.subject)
    captions = read_captions(ref.files[1]) if len(ref.files) > 1 else []
    parts: dict[tuple[float, float], list[Caption]] = {(0.0, 0.0): []}
    for caption in captions:
        parts.setdefault((caption.start, caption.end), []).append(caption)
    results: list[Clip | Rejection] = []
    for (start, end), part_captions in parts.items():
        whole = start == end == 0
        clip_id = ref.clip_id if whole else f"{ref.clip_id}.{start:g}-{end:g}"
        if whole and not part_captions and captions:
            continue  # every sentence is about a part
        try:
            cut = motion if whole else motion.cut(int(start * FPS), min(len(motion), int(np.ceil(end * FPS))))
        except InputError as error:
            results.append(Rejection(clip_id, f"{ref.files[1]}: {start:g} to {end:g} s: {error}"))
            continue
        texts = tuple(caption.text for caption in part_captions)
        results.append(Clip(clip_id, resample(replace(cut, texts=texts, action=common_verb(part_captions)), fps)))
    return results


def read_motion(path: Path) -> Motion:
    """One clip from joints or from vectors, by the array's shape.

    Raises:
        InputError: not readable, another shape, or values that are not finite or out of reach.
    """
    array = load_array(path)
    try:
        if array.ndim == 2 and array.shape[1] == VECTOR_SIZE:
            joints = vectors_to_joints(array).astype(np.float64)
        elif array.ndim == 3 and array.shape[1:] == (NUM_JOINTS, 3):
            joints = array.astype(np.float64)
        else:
            raise InputError(
                f"(frames, {NUM_JOINTS}, 3) joints or (frames, {VECTOR_SIZE}) vectors expected, found {array.shape}"
            )
        return fit_joints(joints, JOINT_NAMES[:NUM_JOINTS], PARENTS[:NUM_JOINTS], FPS, path.name)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def fit_joints(
    joints: npt.NDArray[np.float64], names: Sequence[str], parents: Sequence[int], fps: float, source: str
) -> Motion:
    """A motion from (T, J, 3) joints in metres, on their own bone lengths.

    Raises:
        InputError: no frames, values that are not finite or out of reach.
    """
    if not np.abs(joints).max(initial=0) <= MAX_REACH:
        raise InputError("joints beyond the reach of a clip")
    return fit_motion(joints, estimate_skeleton([joints], names, parents), fps, source=source)


def read_captions(path: Path) -> list[Caption]:
    """The lines of a text file.

    Raises:
        InputError: a line without its four fields, or invalid times.
    """
    captions = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.strip().split("#")
        where = f"{path}: line {number}"
        if len(fields) != 4 or not fields[0].strip():
            raise InputError(f"{where}: 'sentence#words#start#end' expected, found {line[:60]!r}")
        try:
            start, end = (0.0 if np.isnan(value := float(field)) else value for field in fields[2:])
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error
        if not (start == end == 0 or 0 <= start < end < 1e4):
            raise InputError(f"{where}: {start:g} to {end:g} s is not a part of a clip")
        verbs = tuple(dict.fromkeys(word[:-5] for word in fields[1].split() if word.endswith("/VERB")))
        captions.append(Caption(fields[0].strip(), verbs, start, end))
    return captions


def common_verb(captions: Sequence[Caption]) -> str | None:
    """The one verb that all sentences share, or None."""
    shared = set.intersection(*(set(caption.verbs) for caption in captions)) if captions else set()
    return shared.pop() if len(shared) == 1 else None


def _subjects(index: Path) -> dict[str, str]:
    """Id -> subject, ``KIT/3`` of ``./pose_data/KIT/3/kick_high_left02_poses.npy``; empty without the file."""
    if not index.is_file():
        return {}
    rows = csv.reader(read_text(index).splitlines())
    header = next(rows, [])
    if "source_path" not in header or "new_name" not in header:
        raise InputError(f"{index}: line 1: columns source_path and new_name expected")
    source, name = header.index("source_path"), header.index("new_name")
    subjects = {}
    for row in rows:
        if len(row) <= max(source, name):
            raise InputError(f"{index}: line {rows.line_num}: {len(row)} values, {len(header)} expected")
        folders = [part for part in Path(row[source]).parts[:-1] if part not in (".", "pose_data")]
        subjects[Path(row[name]).stem] = "/".join(folders) or Path(row[source]).stem
    return subjects
