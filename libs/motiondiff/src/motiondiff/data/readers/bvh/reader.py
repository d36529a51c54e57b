"""BVH files of any program: body, up axis and unit are chosen once for each rig.

Files of one hierarchy in a folder are one rig: `choose_conventions` surveys all of them before any is read, so that a
clip without movement, or of a lying person, is read like the others. `read_bvh` alone decides by its file.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, check_fps, file_references, resample
from motiondiff.data.readers.bvh.body import find_body, take_subtree, world_transforms
from motiondiff.data.readers.bvh.coordinates import (
    Coordinates,
    Posture,
    check_up,
    choose_unit,
    choose_up,
    fps_warning,
    leg_warning,
    measure_posture,
    parse_unit,
    to_y_up,
)
from motiondiff.data.readers.bvh.limbs import find_limbs
from motiondiff.data.readers.bvh.parse import BvhFile, BvhTable, parse_bvh, to_local
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

logger = logging.getLogger(__name__)

POSITION_TOLERANCE = 1e-4
"""Metres: maximum deviation of a constant position channel from its mean."""
MAX_RESIDUAL = 0.02
"""Metres: maximum mean distance between joints with constant and with recorded bone lengths."""
SURVEY_FRAMES = 120
"""Maximum number of frames of a file, evenly spaced, for the choice of up axis, unit and body."""
MAX_WARNINGS = 3
"""Maximum number of files in a warning; further ones are counted."""


@dataclass(frozen=True)
class RigConventions:
    """Conventions of the files of one rig.

    Attributes:
        body: name of the joint that becomes the root; joints above and beside it are left out.
        coordinates: up axis and unit.
    """

    body: str
    coordinates: Coordinates


@dataclass(frozen=True)
class RigSurvey:
    """Survey of one file for its rig.

    Attributes:
        names: all joints of the file.
        parents: -1 for a root.
        body: name of the body's root in this file.
        depth: joints above the body's root.
        posture: of the body.
        fps: frames per second by the file.
        warnings: of the file and of its hierarchy.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    body: str
    depth: int
    posture: Posture
    fps: float
    warnings: tuple[str, ...]


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per .bvh file below a folder (any case, any depth), or the file itself."""
    return file_references("bvh", folder, ".bvh", "motion files (*.bvh)")


def choose_conventions(
    references: Sequence[ClipRef],
    *,
    up: str = "auto",
    unit: str = "auto",
    source_fps: float | None = None,
    run: Callable[..., Iterable[RigSurvey | None]] = map,
) -> tuple[list[ClipRef], list[dict[str, Any]]]:
    """Body, up axis and unit of each rig in a folder, by all of its files; logged, with warnings.

    Args:
        references: of the folder's files.
        up: an axis for all rigs, or ``auto``.
        unit: a unit or the metres in one for all rigs, or ``auto``.
        source_fps: frames per second of all files, replacing their own.
        run: `map`, or that of an executor.

    Returns:
        The references with options of `read_clips`, and a description of each rig for ``store.json``. An unreadable
        file, or a rig without a plausible unit, keeps its reference: reading it gives the reason.

    Raises:
        InputError: an unknown up axis or unit, or a frame rate that is not positive.
    """
    check_up(up)
    parse_unit(unit)
    check_fps(source_fps)
    surveys = list(run(_survey_file, [reference.files[0] for reference in references]))
    rigs: dict[tuple[tuple[str, ...], tuple[int, ...]], list[int]] = {}
    for number, survey in enumerate(surveys):
        if survey is not None:
            rigs.setdefault((survey.names, survey.parents), []).append(number)
    options: dict[str, Any] = {"up": up, "unit": unit, "source_fps": source_fps}
    resolved = [replace(reference, options=options) for reference in references]
    described: list[dict[str, Any]] = []
    for numbers in rigs.values():
        members = {references[number].files[0]: member for number in numbers if (member := surveys[number])}
        try:
            conventions, description = decide_conventions(members, up, unit, source_fps)
        except InputError as error:
            logger.warning("%s", error)
            continue
        described.append(description)
        for number in numbers:
            resolved[number] = replace(references[number], options={"rig": conventions, "source_fps": source_fps})
    return resolved, described


def decide_conventions(
    surveys: dict[Path, RigSurvey], up: str, unit: str, source_fps: float | None
) -> tuple[RigConventions, dict[str, Any]]:
    """Conventions of one rig from the surveys of its files, logged, with a description for ``store.json``.

    Raises:
        InputError: the unit cannot be chosen.
    """
    files, values = list(surveys), list(surveys.values())
    where = str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} files of one rig)"
    postures = [survey.posture for survey in values]
    deepest = max(values, key=lambda survey: survey.depth)
    rests = [posture.rest for posture in postures]
    warnings: list[str] = []
    if up == "auto":
        up, warning = choose_up(postures)
        warnings += [f"{warning}; --up sets another"] if warning else []
    metres = parse_unit(unit)
    if metres is None:
        unit, metres, warning = choose_unit(postures, where)
        warnings += [f"{warning}; --unit sets another"] if warning else []
    for warning in warnings:
        logger.warning("%s: %s", where, warning)
    by_file = [
        [*survey.warnings, leg_warning(survey.posture.leg, metres), fps_warning(source_fps or survey.fps)]
        for survey in values
    ]
    _log_warnings({path: tuple(filter(None, texts)) for path, texts in zip(files, by_file, strict=True)})
    logger.info(
        "%s: lengths are taken to be in %s (%.6g m), up to be %s, the body to begin at %s",
        where, unit, metres, up, deepest.body,
    )  # fmt: skip
    turn_rest = max(set(rests), key=rests.count) != "y"
    description = {
        "files": len(files), "joints": len(deepest.names), "body": deepest.body, "up": up, "unit": str(unit),
        "metres_per_unit": metres,
    }  # fmt: skip
    return RigConventions(deepest.body, Coordinates(up, metres, turn_rest)), description


def _log_warnings(warnings: dict[Path, tuple[str, ...]]) -> None:
    """Log the warnings of each file; of many files with the same, the first and their number."""
    kinds = {path: tuple(text.split(" ", 1)[-1] for text in texts) for path, texts in warnings.items() if texts}
    times = Counter(kinds.values())
    shown: Counter[tuple[str, ...]] = Counter()
    for path, kind in kinds.items():
        shown[kind] += 1
        if shown.total() > MAX_WARNINGS:
            break
        more = f" (and {times[kind] - 1} more files)" if times[kind] > 1 and shown[kind] == 1 else ""
        if shown[kind] == 1:
            for text in warnings[path]:
                logger.warning("%s%s: %s", path, more, text)
    rest = len(kinds) - shown.total()
    if rest > 0:
        logger.warning("%d further files with warnings of these kinds", rest)


def _survey_file(path: Path) -> RigSurvey | None:
    """Survey of a file; None for an unreadable one."""
    try:
        table = parse_bvh(path)
        return survey_rig(to_local(table.sample(SURVEY_FRAMES)), 1 / table.frame_time, table.warnings)
    except Exception:
        logger.debug("%s: no survey", path, exc_info=True)
        return None


def survey_rig(file: BvhFile, fps: float, warnings: tuple[str, ...] = ()) -> RigSurvey:
    """Body, posture and warnings of one file."""
    body, body_warnings = find_body(file)
    part = take_subtree(file, body)
    lengths = np.linalg.norm(part.positions.mean(axis=0), axis=1)
    lengths[0] = 0
    limbs = find_limbs(part.names, part.parents, lengths)
    positions, _ = world_transforms(part)
    rest = np.zeros((len(part.names), 3))
    for joint, parent in enumerate(part.parents[1:], start=1):
        rest[joint] = rest[parent] + part.offsets[joint]
    depth = 0
    while (above := file.parents[body]) >= 0:
        body, depth = above, depth + 1
    posture = measure_posture(limbs, _reach(lengths, part.parents), positions, rest)
    return RigSurvey(file.names, file.parents, part.names[0], depth, posture, fps, (*warnings, *body_warnings))


def read_clips(
    ref: ClipRef,
    fps: float | None = None,
    *,
    rig: RigConventions | None = None,
    up: str = "auto",
    unit: str = "auto",
    source_fps: float | None = None,
) -> list[Clip | Rejection]:
    """The one clip of a BVH file, without labels; see `read_bvh`."""
    motion = read_bvh(ref.files[0], rig=rig, up=up, unit=unit, source_fps=source_fps)
    return [Clip(ref.clip_id, resample(motion, fps))]


def read_bvh(
    path: Path,
    *,
    rig: RigConventions | None = None,
    up: str = "auto",
    unit: str | float = "auto",
    source_fps: float | None = None,
) -> Motion:
    """A BVH file as a motion with constant bones, y-up, in metres.

    The root is the body's: a world frame above it and props beside it are left out (`bvh.body.find_body`). The offset
    of a joint with varying position channels is their mean, and ``Motion.residual`` the mean distance over frames and
    joints that remains.

    Args:
        path: the file.
        rig: conventions of its rig, from `choose_conventions`; by default from this file alone.
        up: an axis, or ``auto``; without ``rig``.
        unit: a unit's name, the metres in one, or ``auto``; without ``rig``.
        source_fps: frames per second, replacing the file's own.

    Raises:
        InputError: not a readable BVH, values that are not finite, an unknown unit, or bones that vary by more than
            2 cm on average.
    """
    path = Path(path)
    check_up(up)
    parse_unit(unit)
    check_fps(source_fps)
    table = parse_bvh(path)
    if rig is None:
        # the same frames as for a folder, so that a file is read like a folder of one
        survey = survey_rig(to_local(table.sample(SURVEY_FRAMES)), 1 / table.frame_time, table.warnings)
        rig, _ = decide_conventions({path: survey}, up, str(unit), source_fps)
    return to_motion(table, rig, path, source_fps)


def to_motion(table: BvhTable, rig: RigConventions, path: Path, source_fps: float | None = None) -> Motion:
    """The motion of a parsed BVH file; see `read_bvh`."""
    file = to_local(table)
    if rig.body not in file.names:
        raise InputError(f"{path}: no joint {rig.body!r}, the root of this rig's body")
    file = take_subtree(file, file.names.index(rig.body))
    local, rotations = to_y_up(rig.coordinates, file.positions, file.rotations)
    offsets = local.mean(axis=0)
    try:
        motion = Motion(
            root=local[:, 0].astype(np.float32),
            rotations=rotations.astype(np.float32),
            skeleton=Skeleton(file.names, file.parents, offsets.astype(np.float32)),
            fps=float(source_fps or _round_fps(1 / table.frame_time)),
            source=path.name,
            residual=_residual(local, rotations, offsets, file.parents),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if motion.residual > MAX_RESIDUAL:
        raise InputError(
            f"{path}: bone lengths vary over time: constant bones would be {motion.residual * 100:.1f} cm off on "
            f"average, at most {MAX_RESIDUAL * 100:.0f} cm are accepted"
        )
    return motion


def _reach(lengths: npt.NDArray[np.float64], parents: tuple[int, ...]) -> float:
    """Length of the longest chain of bones from the root."""
    reach = np.zeros(len(parents))
    for joint, parent in enumerate(parents[1:], start=1):
        reach[joint] = reach[parent] + lengths[joint]
    return float(reach.max())


def _round_fps(fps: float) -> float:
    """Rounded to a whole number within 0.1 %: frame times have few digits."""
    return float(round(fps)) if round(fps) and abs(fps - round(fps)) <= 1e-3 * fps else float(fps)


def _residual(
    local: npt.NDArray[np.float64],
    rotations: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.float64],
    parents: tuple[int, ...],
) -> float:
    """Mean distance (m) over frames and joints between recorded and constant offsets."""
    if np.abs(local[:, 1:] - offsets[1:]).max(initial=0.0) <= POSITION_TOLERANCE:
        return 0.0
    import torch

    from motiondiff.skeleton.kinematics import forward_kinematics

    root, turns = torch.from_numpy(local[:, 0].copy()), torch.from_numpy(rotations)
    recorded, _ = forward_kinematics(root, turns, torch.from_numpy(local), parents)
    constant, _ = forward_kinematics(root, turns, torch.from_numpy(offsets), parents)
    return float((recorded - constant).norm(dim=-1).mean())
