"""ETRI-Activity3D (Jang et al., IROS 2020): ``Aaaa_Pppp_Gggg_Cccc.csv``, 55 daily activities of 100 people, Kinect v2.

Action, person, camera group, camera; persons 1 to 50 are elderly (64 to 88 years), 51 to 100 young adults: the
style. A row is one body in one frame: ``frameNum, bodyindexID, trackingID``, then for joint 1 to 25
``jointN_3dX, _3dY, _3dZ`` (metres), ``_depthX, _depthY``, ``_orientationX, Y, Z, W``, ``_trackingState``. A row without
``bodyindexID`` is a frame without a body. Of several bodies the performer is used (`tracks.select_performers`);
activities of two people (45 to 48) give a clip for each, see `motiondiff.data.readers.kinect.ntu_rgbd`.
"""

from __future__ import annotations

import csv
from pathlib import Path

from icube_common.data.class_lists import ETRI_ACTIVITY3D
from icube_common.data.file_names import ETRI_NAME
from icube_common.errors import InputError
from icube_common.io.csv import read_text
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, find_files, subject_references
from motiondiff.data.readers.kinect.tracks import (
    Track,
    TrackBuilder,
    TrackClip,
    parse_file_name,
    read_samples,
    recording_clips,
)

TWO_PEOPLE = frozenset(range(45, 49))
"""Activities of two people."""
COORDINATES = tuple(f"joint{joint}_3d{axis}" for joint in range(1, 26) for axis in "XYZ")
ELDERLY = range(1, 51)


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per person."""
    files = find_files(Path(folder), ".csv", "ETRI-Activity3D skeletons (Aaaa_Pppp_Gggg_Cccc.csv)")
    return subject_references("etri", files, lambda path: (m := ETRI_NAME.match(path.stem)) and f"P{m['person']}")


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """One person's clips, with ids of their files, on the person's own bone lengths."""
    return read_samples(ref.files, _read_sample, fps)


def _read_sample(path: Path) -> list[TrackClip]:
    number = parse_file_name(ETRI_NAME, path)
    return recording_clips(
        read_skeleton(path),
        together=number["action"] in TWO_PEOPLE,
        clip_id=path.stem,
        action=ETRI_ACTIVITY3D[number["action"] - 1],
        subject=f"P{number['person']:03d}",
        source=path.name,
        camera=f"A{number['action']}G{number['group']}C{number['camera']}",
        style="elderly" if number["person"] in ELDERLY else "young",
    )


def read_skeleton(path: Path) -> list[Track]:
    """Every body of a .csv file, in the camera's frame.

    Raises:
        InputError: a column is missing, or a row cannot be read; the line is named.
    """
    rows = csv.reader(read_text(path).splitlines())
    tracks = TrackBuilder()
    try:
        header = [name.strip() for name in next(rows, [])]
        missing = [name for name in ("frameNum", "bodyindexID", *COORDINATES) if name not in header]
        if missing:
            raise InputError(
                f"{path}: line 1: no column {missing[0]!r}; expected frameNum, bodyindexID, joint1_3dX, ..."
            )
        columns = [header.index(name) for name in COORDINATES]
        frame, body = header.index("frameNum"), header.index("bodyindexID")
        track = header.index("trackingID") if "trackingID" in header else body
        for row in rows:
            where = f"{path}: line {rows.line_num}"
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(f"{where}: {len(row)} values, {len(header)} expected")
            if row[body].strip().lower() in ("", "nan"):
                continue
            try:
                tracks.add(row[track].strip(), _whole(row[frame]), [float(row[column]) for column in columns])
            except ValueError as error:
                raise InputError(f"{where}: {error}") from error
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: {error}") from error
    return tracks.tracks()


def _whole(text: str) -> int:
    """Frame number, in some files as ``12.0``."""
    value = float(text)
    if not (0 <= value < 1e9 and value == int(value)):
        raise ValueError(f"{text!r} is not a frame number")
    return int(value)
