"""NTU RGB+D 60 (Shahroudy et al., CVPR 2016) and 120 (Liu et al., TPAMI 2020): ``SsssCcccPpppRrrrAaaa.skeleton``.

Setup, camera, performer, replication, action; actions 1 to 60 are NTU RGB+D 60's. The file holds

    number of frames
    number of bodies                                                                     for each frame
    bodyID clipedEdges handLeftConfidence handLeftState handRightConfidence handRightState isResticted leanX leanY
        trackingState                                                                    for each body
    number of joints (25)
    x y z depthX depthY colorX colorY orientationW X Y Z trackingState                   for each joint

in metres, at 30 frames per second. Frames without a body are lost ones: removed at the ends, else interpolated up to
`tracks.MAX_GAP`. Of several bodies in a file of one person's action the performer is used
(`tracks.select_performers`); files of two people's actions (50 to 60, 106 to 120) give a clip for each, the second with
id ``<sample>.2``. The set does not identify the partner, who has the performer's subject, so that both are in one
split, and separate bone lengths.

The published lists of samples with missing or incomplete skeletons (``*samples_with_missing_skeletons.txt``) are used
where they are beside the files: their samples are rejected.
"""

from __future__ import annotations

from pathlib import Path

from icube_common.data.class_lists import NTU_RGBD
from icube_common.data.file_names import NTU_RGBD_NAME
from icube_common.errors import InputError
from icube_common.io.csv import read_text
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, find_files, parse_numbers, subject_references
from motiondiff.data.readers.kinect.tracks import (
    Track,
    TrackBuilder,
    TrackClip,
    parse_file_name,
    read_samples,
    recording_clips,
)

TWO_PEOPLE = frozenset({*range(50, 61), *range(106, 121)})
"""Actions of two people."""

_SUFFIX = ".skeleton"
_LIST = "*samples_with_missing_skeletons.txt"
_NUMBERS_A_JOINT, _NUMBERS_A_BODY, _JOINTS = 12, 10, 25


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per performer: the lists of bad samples first where there are some, then the files."""
    folder = Path(folder)
    files = find_files(folder, _SUFFIX, "NTU RGB+D skeletons (SsssCcccPpppRrrrAaaa.skeleton)")
    base = folder if folder.is_dir() else folder.parent
    lists = tuple(sorted(base.rglob(_LIST)))
    return subject_references(
        "ntu-rgbd", files, lambda path: (m := NTU_RGBD_NAME.match(path.stem)) and f"P{m['performer']}", lists
    )


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """One performer's clips, with ids of their files, on the performer's own bone lengths."""
    files = [path for path in ref.files if path.suffix.lower() == _SUFFIX]
    bad = {name.upper(): path.name for path in ref.files if path not in files for name in bad_samples(path)}
    taken: set[str] = set()

    def read(path: Path) -> list[TrackClip]:
        name = path.stem.upper()
        if name in taken:
            raise InputError(f"{path}: another file has this name already")
        taken.add(name)
        if name in bad:
            raise InputError(f"{path}: listed in {bad[name]}: its skeleton is missing or incomplete")
        return _read_sample(path, name)

    return read_samples(files, read, fps)


def bad_samples(path: Path) -> list[str]:
    """Samples of a published list, one a line, after any heading.

    Raises:
        InputError: no sample, or another line after the first sample.
    """
    names: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        text = line.strip()
        if NTU_RGBD_NAME.match(text.removesuffix(_SUFFIX)):
            names.append(text.removesuffix(_SUFFIX))
        elif text and names:
            raise InputError(f"{path}: line {number}: {text[:40]!r} is not SsssCcccPpppRrrrAaaa")
    if not names:
        raise InputError(f"{path}: no sample (SsssCcccPpppRrrrAaaa, one a line)")
    return names


def _read_sample(path: Path, name: str) -> list[TrackClip]:
    number = parse_file_name(NTU_RGBD_NAME, path)
    return recording_clips(
        read_skeleton(path),
        together=number["action"] in TWO_PEOPLE,
        clip_id=name,
        action=NTU_RGBD[number["action"] - 1],
        subject=f"P{number['performer']:03d}",
        source=path.name,
        camera=f"S{number['setup']}C{number['camera']}",
    )


def read_skeleton(path: Path) -> list[Track]:
    """Every body of a .skeleton file of 25 joints, in the camera's frame.

    Raises:
        InputError: truncated, or not of this format; the line is given.
    """
    tracks = TrackBuilder()
    for frame, bodies in enumerate(read_frames(path)):
        for line, body, joints in bodies:
            try:
                if len(joints) != _JOINTS:
                    raise InputError(f"{len(joints)} joints, {_JOINTS} expected")
                tracks.add(body, frame, [value for joint in joints for value in joint])
            except InputError as error:
                raise InputError(f"{path}: line {line} (frame {frame}): {error}") from error
    return tracks.tracks()


def read_frames(path: Path) -> list[list[tuple[int, str, list[list[float]]]]]:
    """For each frame of a .skeleton file its bodies: the line they start in, their id, and x y z of their joints.

    Raises:
        InputError: truncated, or not of this format; the line is given.
    """
    lines = read_text(path).splitlines()
    position = 0

    def words(expected: int, what: str) -> list[str]:
        nonlocal position
        tokens = lines[position].split() if position < len(lines) else []
        position += 1
        if len(tokens) != expected:
            problem = "the file ends" if position > len(lines) else f"{len(tokens)} numbers"
            raise InputError(f"{path}: line {position}: {problem}, {expected} expected ({what})")
        return tokens

    def count(what: str) -> int:
        word = words(1, what)[0]
        if not (word.isascii() and word.isdigit() and len(word) < 10):
            raise InputError(f"{path}: line {position}: {word[:40]!r} is not a number of {what}")
        return int(word)

    def joint() -> list[float]:
        tokens = words(_NUMBERS_A_JOINT, "a joint")[:3]
        return parse_numbers(tokens, f"{path}: line {position}")

    frames = []
    for _ in range(count("frames")):
        bodies = []
        for _ in range(count("bodies")):
            body = words(_NUMBERS_A_BODY, "a body")[0]
            start = position
            bodies.append((start, body, [joint() for _ in range(count("joints"))]))
        frames.append(bodies)
    if any(line.strip() for line in lines[position:]):
        raise InputError(f"{path}: line {position + 1}: more than the {len(frames)} frames that the file announces")
    return frames
