"""MSR-Action3D (Li, Zhang, Liu, CVPRW 2010): twenty actions of ten people, two or three times each, by one Kinect v1.

``aXX_sYY_eZZ_skeleton3D.txt`` holds 20 rows ``x y z confidence`` a frame (metres, 15 frames per second), in its own
order of joints (`JOINT_ORDER`). ``files_used_in_cvpr12_paper.txt`` lists the recordings that are not corrupted: where
it is there, the others are rejected. A frame of zeros is a lost one: removed at the ends, interpolated up to `MAX_GAP`
in between. The camera is levelled per subject (`positions.level_camera`), the floor per clip.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from einops import rearrange

from icube_common.errors import InputError
from icube_common.io.csv import read_text
from motiondiff.data.readers.base import (
    Clip,
    ClipRef,
    Rejection,
    check_fps,
    find_files,
    parse_numbers,
    subject_references,
)
from motiondiff.data.readers.kinect.positions import (
    Array,
    PositionClip,
    coordinate_error,
    fit_subject,
    level_and_resample,
    level_camera,
)

FPS = 15.0
MAX_GAP = 0.5
"""Maximum gap of lost frames in seconds: shorter gaps are interpolated, longer ones reject the clip."""
ACTIONS = (
    "high wave", "horizontal wave", "hammer", "hand catch", "forward punch", "high throw", "draw x", "draw tick",
    "draw circle", "hand clap", "two hand wave", "side-boxing", "bend", "forward kick", "side kick", "jogging",
    "tennis swing", "tennis serve", "golf swing", "pickup throw",
)  # fmt: skip
"""Names as in the paper, a01 to a20."""
JOINT_ORDER = (6, 3, 2, 19, 0, 7, 9, 11, 1, 8, 10, 12, 4, 13, 15, 17, 5, 14, 16, 18)
"""Row of a frame that holds each joint of `KINECT_V1` (the first shoulder of the files is the left one)."""
CLEAN_LIST = "files_used_in_cvpr12_paper.txt"

_SUFFIX = "_skeleton3D.txt"
_NAME = re.compile(r"(?P<recording>a(?P<action>\d+)_(?P<subject>s\d+)_e\d+)_skeleton3D\.txt", re.IGNORECASE)


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per subject: its recordings, and the clean list first where there is one."""
    folder = Path(folder)
    files = find_files(folder, _SUFFIX, f"MSR-Action3D skeletons (aXX_sYY_eZZ{_SUFFIX})")
    listed = tuple(sorted(folder.rglob(CLEAN_LIST))[:1])
    return subject_references(
        "msr-action3d", files, lambda path: (m := _NAME.fullmatch(path.name)) and m["subject"].lower(), listed
    )


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """One subject's clips, ids ``a01_s01_e01_skeleton3D``: fitted on the subject's own bone lengths."""
    recorded, rejected = read_recorded(ref, fps)
    return [*(fit_subject(recorded) if recorded else []), *rejected]


def read_recorded(ref: ClipRef, fps: float | None = None) -> tuple[list[PositionClip], list[Rejection]]:
    """One subject's clips as joint positions, before any fitting, and rejections; as `read_clips`."""
    check_fps(fps)
    clean: set[str] | None = None
    raw: list[tuple[Path, str, Array, Array]] = []
    rejected: list[Rejection] = []
    for path in ref.files:
        if path.name == CLEAN_LIST:
            clean = {name.removesuffix(_SUFFIX).lower() for name in read_text(path).split()}
            continue
        try:
            match = _NAME.fullmatch(path.name)
            if match is None or not 1 <= int(match["action"]) <= len(ACTIONS):
                raise InputError(f"{path}: the name is not aXX_sYY_eZZ{_SUFFIX} with an action from a01 to a20")
            if clean is not None and match["recording"].lower() not in clean:
                raise InputError(f"{path}: not in {CLEAN_LIST}, so known to be corrupted")
            times, positions = _read_rows(path)
            raw.append((path, ACTIONS[int(match["action"]) - 1], times, positions))
        except InputError as error:
            rejected.append(Rejection(path.stem, str(error)))
    if not raw:
        return [], rejected
    turn = level_camera([positions for _, _, _, positions in raw])
    recorded = []
    for path, action, times, positions in raw:
        rate = fps or FPS
        levelled = level_and_resample(positions, times, turn, rate)
        labels = {"action": action, "subject": str(ref.subject), "source": path.name}
        recorded.append(PositionClip(path.stem, levelled, rate, labels))
    return recorded, rejected


def _read_rows(path: Path) -> tuple[Array, Array]:
    """Times (T,) in seconds and positions (T, 20, 3) in the order of `KINECT_V1`, without lost frames.

    Raises:
        InputError: rows that are not four finite numbers or not a multiple of 20, fewer than 2 frames, or too long
            without a skeleton.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        tokens = line.split()
        if not tokens:
            continue
        where = f"{path}: line {number} (frame {len(rows) // 20})"
        if len(tokens) != 4:
            raise InputError(f"{where}: {len(tokens)} numbers, 4 expected (x y z confidence)")
        row = parse_numbers(tokens[:3], where)
        if problem := coordinate_error(row):
            raise InputError(f"{where}: {problem}")
        rows.append(row)
    if len(rows) % 20:
        raise InputError(f"{path}: {len(rows)} rows are no multiple of 20: the file is truncated or damaged")
    positions = rearrange(np.asarray(rows).reshape(-1, 3), "(frame joint) xyz -> frame joint xyz", joint=20)
    positions = positions[:, list(JOINT_ORDER)]
    valid = np.flatnonzero(np.abs(positions).sum(axis=(1, 2)) > 0)
    if len(valid) < 2:
        raise InputError(f"{path}: {len(valid)} of {len(positions)} frames hold a skeleton, at least 2 needed")
    lost = np.diff(valid) - 1
    if lost.max() > MAX_GAP * FPS:
        first = int(valid[int(np.argmax(lost))]) + 1
        raise InputError(f"{path}: frame {first}: {lost.max()} frames without a skeleton, more than {MAX_GAP:g} s")
    return (valid - valid[0]) / FPS, positions[valid]
