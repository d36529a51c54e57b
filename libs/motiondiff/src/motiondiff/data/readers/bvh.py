"""BVH: the hierarchy by bvhio, the motion block by numpy and scipy.

bvhio builds one object per joint and frame and waits for ever on a file that ends early, so only the hierarchy goes
through it. Conventions, the same as bvhio's and Blender's: rotation channels are intrinsic, in the order given; a
position channel *replaces* the joint's offset along its axis, on any joint.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError, unknown
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, find_files, ids_of, read_text, resample
from motiondiff.geometry.skeleton import Skeleton
from motiondiff.motion import Motion

logger = logging.getLogger(__name__)

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254}
MOVES = 1e-4
"""A position channel that stays within this many metres of its mean is constant."""
LARGEST_RESIDUAL = 0.02
"""Metres. Above this mean distance constant bones are no description of the clip, and it is rejected."""

_CHANNEL = re.compile(r"[XYZ](position|rotation)")


@dataclass(frozen=True, eq=False)
class BvhFile:
    """What a BVH file says, in its own unit of length.

    Attributes:
        names: J joints, end sites left out, a parent before its children.
        parents: -1 for the root.
        positions: (T, J, 3) each joint in its parent's frame, by offset and position channels.
        rotations: (T, J, 3, 3) each joint in its parent's frame.
        frame_time: seconds.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    positions: npt.NDArray[np.float64]
    rotations: npt.NDArray[np.float64]
    frame_time: float


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per .bvh file below a folder (any case, any depth), or the file itself.

    Raises:
        InputError: there is none.
    """
    files = find_files(folder, ".bvh", "motion files (*.bvh)")
    ids = ids_of(files, Path(folder))
    return [ClipRef("bvh", ids[path], (path,)) for path in files]


def read_clips(ref: ClipRef, fps: float | None = None, *, unit: str = "auto") -> list[Clip | Rejection]:
    """The one clip of a BVH file, without labels; see `read_bvh`."""
    return [Clip(ref.clip_id, resample(read_bvh(ref.files[0], unit=unit), fps))]


def read_bvh(path: Path, *, unit: str = "auto") -> Motion:
    """A BVH file as a motion with constant bones.

    A root that is a coordinate frame and not a joint is left out (`without_world_frame`): its child, placed in the
    world, becomes the root. Where a joint's position channels vary, its offset is their
    mean, and ``Motion.residual`` is the mean distance over frames and joints that this leaves.

    Args:
        path: the file; y-up.
        unit: ``m``, ``cm``, ``mm``, ``inch``, or ``auto``: by the longest chain from the root (about 1 m in a person).

    Raises:
        InputError: not a readable BVH, values that are not finite, a unit that cannot be guessed, or bones that vary
            by more than 2 cm on average.
    """
    if unit != "auto" and unit not in METRES:
        raise unknown("unit", unit, [*METRES, "auto"])
    file = without_world_frame(parse_bvh(path))
    mean = file.positions.mean(axis=0)
    scale = METRES[guess_unit(mean, file.parents, path) if unit == "auto" else unit]
    local = file.positions * scale
    offsets = mean * scale
    try:
        motion = Motion(
            root=local[:, 0].astype(np.float32),
            rotations=file.rotations.astype(np.float32),
            skeleton=Skeleton(file.names, file.parents, offsets.astype(np.float32)),
            fps=_round_fps(1 / file.frame_time),
            source=path.name,
            residual=_residual(local, file.rotations, offsets, file.parents),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if motion.residual > LARGEST_RESIDUAL:
        raise InputError(
            f"{path}: bone lengths vary over time: constant bones would be {motion.residual * 100:.1f} cm off on "
            f"average, at most {LARGEST_RESIDUAL * 100:.0f} cm are accepted"
        )
    return motion


def without_world_frame(file: BvhFile) -> BvhFile:
    """The file without a root that is a coordinate frame and not a joint; the same file where the root is a joint.

    A frame has one child, and no bone to it: the child translates against it. Against a root that never moves any
    translation tells; against one that moves (some Bandai-Namco loops carry the progress on `joint_Root`, and the
    bobbing on `Hips`) it is one beyond 3 % of the body's size, so that a jittery bone stays a bone.
    """
    if len(file.names) < 2 or file.parents.count(0) != 1:
        return file
    still = np.ptp(file.positions[:, 0], axis=0).max() < 1e-6 and np.ptp(file.rotations[:, 0], axis=0).max() < 1e-6
    size = _reach(file.positions[:, 1:].mean(axis=0), tuple(parent - 1 for parent in file.parents[1:]))
    if np.ptp(file.positions[:, 1], axis=0).max() <= (1e-6 if still else 3e-2) * size:
        return file
    frame, placed = file.rotations[:, 0], file.positions[:, 1:].copy()
    turned = file.rotations[:, 1:].copy()
    placed[:, 0] = file.positions[:, 0] + np.einsum("tij,tj->ti", frame, placed[:, 0])
    turned[:, 0] = frame @ turned[:, 0]
    parents = tuple(parent - 1 for parent in file.parents[1:])
    return BvhFile(file.names[1:], parents, placed, turned, file.frame_time)


def _reach(offsets: npt.NDArray[np.float64], parents: tuple[int, ...]) -> float:
    """Length of the longest chain of bones from the root."""
    reach = np.zeros(len(parents))
    for joint, parent in enumerate(parents[1:], start=1):
        reach[joint] = reach[parent] + np.linalg.norm(offsets[joint])
    return float(reach.max())


def guess_unit(offsets: npt.NDArray[np.float64], parents: tuple[int, ...], path: Path) -> str:
    """``m``, ``cm`` or ``mm`` by the longest chain of bones from the root, taken to be 0.3 to 3 m.

    Raises:
        InputError: the chain has no such length in any of the three.
    """
    reach = _reach(offsets, parents)
    for unit in ("m", "cm", "mm"):
        if 0.3 <= reach * METRES[unit] <= 3:
            logger.info("%s: longest chain %.4g, so lengths are taken to be in %s", path, reach, unit)
            return unit
    raise InputError(
        f"{path}: the unit of length cannot be guessed (longest chain of bones {reach:.4g}): "
        f"give unit={'|'.join(METRES)}"
    )


def parse_bvh(path: Path) -> BvhFile:
    """A BVH file's hierarchy and motion block.

    Raises:
        InputError: unreadable, not BVH, rows of the wrong length or number, a frame time that is not positive, values
            that are not finite; file and line are named.
    """
    path = Path(path)
    lines = read_text(path).splitlines()
    starts = [number for number, line in enumerate(lines) if line.split() == ["MOTION"]]
    if not lines or lines[0].split() != ["HIERARCHY"]:
        raise InputError(f"{path}: line 1: not a BVH file, HIERARCHY expected")
    if not starts:
        raise InputError(f"{path}: line {len(lines)}: ends before its MOTION block; the file is truncated")
    joints = list(_joints(_hierarchy(lines[: starts[0]], path), -1))
    names = tuple(joint.Name for joint, _ in joints)
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"{path}: joint names must be unique, repeated: {', '.join(repeated)}")
    for joint, _ in joints:
        for channel in joint.Channels:
            if not _CHANNEL.fullmatch(channel) or joint.Channels.count(channel) > 1:
                raise InputError(f"{path}: joint {joint.Name!r}: channel {channel!r} is unknown or repeated")
        if not np.isfinite(list(joint.Offset)).all():
            raise InputError(f"{path}: joint {joint.Name!r}: offset {list(joint.Offset)} is not finite")
    values, frame_time = _motion_block(lines, starts[0], sum(len(joint.Channels) for joint, _ in joints), path)
    positions = np.empty((len(values), len(joints), 3))
    rotations = np.broadcast_to(np.eye(3), (len(values), len(joints), 3, 3)).copy()
    column = 0
    for place, (joint, _) in enumerate(joints):
        positions[:, place] = list(joint.Offset)
        turns = []
        for channel in joint.Channels:
            if channel.endswith("position"):
                positions[:, place, "XYZ".index(channel[0])] = values[:, column]
            else:
                turns.append(column)
            column += 1
        if turns:
            order = "".join(channel[0] for channel in joint.Channels if channel.endswith("rotation"))
            angles = values[:, turns[0]] if len(turns) == 1 else values[:, turns]
            rotations[:, place] = Rotation.from_euler(order, angles, degrees=True).as_matrix()
    return BvhFile(names, tuple(parent for _, parent in joints), positions, rotations, frame_time)


def _hierarchy(lines: list[str], path: Path) -> Any:
    """The root joint, as bvhio reads it, of the lines before MOTION.

    Each line is handed over indented by its own number of spaces: bvhio's own line counter restarts within each
    joint, and the indentation comes back with its error.
    """
    import bvhio

    prepared = []
    for number, line in enumerate(lines, start=1):
        tokens = line.split()
        if tokens and tokens[0] in ("ROOT", "JOINT"):
            if len(tokens) == 1:
                raise InputError(f"{path}: line {number}: {tokens[0]} without a name")
            tokens = [tokens[0], "_".join(tokens[1:])]
        prepared.append(" " * number + " ".join(tokens))
    prepared += ["MOTION", "Frames: 0", "Frame Time: 1", ""]
    with tempfile.TemporaryDirectory(prefix="motiondiff-") as folder:
        copy = Path(folder) / "hierarchy.bvh"
        copy.write_text("\n".join(prepared), encoding="utf-8")
        try:
            return bvhio.readAsBvh(str(copy), loadKeyFrames=False).Root
        except SyntaxError as error:
            text = error.text or ""
            number = len(text) - len(text.lstrip()) or len(lines) + 1
            raise InputError(f"{path}: line {number}: {error.msg}, found {text.strip()!r}") from error
        except (ValueError, IndexError, RecursionError) as error:
            raise InputError(f"{path}: the hierarchy cannot be read: {error}") from error


def _joints(joint: Any, parent: int, count: int = 0) -> Iterator[tuple[Any, int]]:
    """(joint, index of its parent), depth first as the motion block is written; explicit stack, any depth."""
    stack = [(joint, parent)]
    while stack:
        joint, parent = stack.pop()
        yield joint, parent
        stack.extend((child, count) for child in reversed(joint.Children))
        count += 1


def _motion_block(lines: list[str], start: int, channels: int, path: Path) -> tuple[npt.NDArray[np.float64], float]:
    """(T, channels) values and the frame time, from the lines after MOTION."""
    body = [(number, line) for number, line in enumerate(lines[start + 1 :], start=start + 2) if line.strip()]
    heads = []
    for (number, line), word in zip(body, ("Frames:", "Frame Time:"), strict=False):
        if not " ".join(line.split()).startswith(word):
            raise InputError(f"{path}: line {number}: {word} expected, found {line.strip()[:40]!r}")
        heads.append((number, line.split(":", 1)[1].strip()))
    if len(heads) < 2:
        raise InputError(f"{path}: line {len(lines)}: ends within the head of MOTION; the file is truncated")
    announced = _number(heads[0][1], int, f"{path}: line {heads[0][0]}: number of frames")
    frame_time = _number(heads[1][1], float, f"{path}: line {heads[1][0]}: frame time")
    if not (np.isfinite(frame_time) and frame_time > 0):
        raise InputError(f"{path}: line {heads[1][0]}: frame time {frame_time} s must be positive")
    rows = body[2:]
    values = np.empty((len(rows), channels))
    for frame, (number, line) in enumerate(rows):
        tokens = line.split()
        if len(tokens) != channels:
            raise InputError(f"{path}: line {number} (frame {frame}): {len(tokens)} numbers, {channels} expected")
        try:
            values[frame] = list(map(float, tokens))
        except ValueError as error:
            raise InputError(f"{path}: line {number} (frame {frame}): {error}") from error
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        frame = int(np.argmax(bad))
        raise InputError(f"{path}: line {rows[frame][0]} (frame {frame}): NaN or infinite value")
    if announced != len(rows) or not rows:
        raise InputError(f"{path}: line {heads[0][0]}: {announced} frames announced, {len(rows)} rows found")
    return values, frame_time


def _number(text: str, kind: type, what: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"{what} {text[:40]!r} is not a number") from error


def _round_fps(fps: float) -> float:
    """A whole number where it is one within 0.1 %: frame times are written with few digits."""
    return float(round(fps)) if round(fps) and abs(fps - round(fps)) <= 1e-3 * fps else float(fps)


def _residual(
    local: npt.NDArray[np.float64],
    rotations: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.float64],
    parents: tuple[int, ...],
) -> float:
    """Mean distance (m) over frames and joints between the joints with their own and with constant offsets."""
    if np.abs(local[:, 1:] - offsets[1:]).max(initial=0.0) <= MOVES:
        return 0.0
    import torch

    from motiondiff.geometry.kinematics import forward_kinematics

    root, turns = torch.from_numpy(local[:, 0].copy()), torch.from_numpy(rotations)
    recorded, _ = forward_kinematics(root, turns, torch.from_numpy(local), parents)
    constant, _ = forward_kinematics(root, turns, torch.from_numpy(offsets), parents)
    return float((recorded - constant).norm(dim=-1).mean())
