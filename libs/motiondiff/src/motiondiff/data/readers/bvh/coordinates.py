"""Up axis and unit of length of recordings without them, from the posture of the recorded body.

The up axis is the one along which the head is above the feet in most frames. The rest pose and the height of the feet
above the origin are the second evidence, where a person may lie. The unit is the one in which the legs, from hip to
ankle, have a human length. A body keeps its own size in the chosen unit, with one exception: where the legs are a
child's in a less common unit, the unit is unknown and the legs are scaled to 0.8 m, with a warning (`choose_unit`). The
limits were chosen with six recordings of other programs in view, one of which needs the exception.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError, unknown
from motiondiff.data.readers.bvh.limbs import Limbs

Array = npt.NDArray[np.float64]

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "dm": 0.1, "foot": 0.3048, "cmu": 0.0254 / 0.45}
"""Metres in each unit; ``cmu`` is that of the CMU motion capture database, also of BVH files made from it."""
LEG_RANGE = (0.4, 1.15)
"""Metres from hip to ankle, from a child of 1 m to a very tall adult."""
MIN_ADULT_LEG = 0.6
"""Metres from hip to ankle above which a unit other than m, cm and mm is assumed."""
MAX_GIANT_LEG = 2.0
"""Metres from hip to ankle up to which m, cm and mm are assumed without another unit, with a warning."""
TYPICAL_LEG = 0.8
REACH_RANGE = (0.3, 3.0)
"""Metres of the longest chain of bones, for a body without legs."""
FPS_RANGE = (5.0, 1000.0)
"""Frames per second of recordings of motion."""

UP_AXES = ("y", "z", "x", "-y", "-z", "-x")
TO_Y_UP: dict[str, Array] = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "-y": np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
    "-z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-x": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
}
"""Rotations (determinant 1) from each up axis to y-up."""

_COMMON_UNITS = ("cm", "m", "mm")
_UPRIGHT = math.cos(math.radians(35))


@dataclass(frozen=True)
class Posture:
    """Standing body of one clip, measured in the file's own axes and unit.

    Attributes:
        leg: length from hip to ankle; None where the rig has no legs.
        reach: longest chain of bones.
        upright: fraction of frames with the head above the feet, along each of `UP_AXES`.
        rest: axis of the rest pose from legs to trunk, or None.
        feet: median height of the lower ankle along each of `UP_AXES`.
        pelvis: the same of the pelvis.
    """

    leg: float | None
    reach: float
    upright: tuple[float, ...] = (0.0,) * 6
    rest: str | None = None
    feet: tuple[float, ...] = (0.0,) * 6
    pelvis: tuple[float, ...] = (0.0,) * 6


@dataclass(frozen=True)
class Coordinates:
    """Up axis and unit of a rig's files.

    Attributes:
        up: one of `UP_AXES`.
        metres: metres per file unit.
        turn_rest: the rest pose is along ``up`` and rotated with the world; else only the root is.
    """

    up: str = "y"
    metres: float = 1.0
    turn_rest: bool = True


def measure_posture(limbs: Limbs | None, reach: float, positions: Array, rest: Array) -> Posture:
    """The posture of a clip.

    Args:
        limbs: of the rig, or None.
        reach: longest chain of bones.
        positions: (T, J, 3) in the world.
        rest: (J, 3) of the rest pose.
    """
    if limbs is None:
        return Posture(None, reach)
    axes = np.array([TO_Y_UP[axis][1] for axis in UP_AXES])

    def along(lower: Array, upper: Array) -> Array:
        span = upper - lower
        length = np.linalg.norm(span, axis=-1, keepdims=True)
        return np.asarray(np.divide(span, length, out=np.zeros_like(span), where=length > 1e-9) @ axes.T)

    hips, ankles, upper = list(limbs.hips), list(limbs.ankles), limbs.upper
    heads = positions[:, hips].mean(axis=1) if upper is None else positions[:, upper]
    upright = (along(positions[:, ankles].mean(axis=1), heads) > _UPRIGHT).mean(axis=0)
    pelvis = rest[hips].mean(axis=0)
    standing = along(rest[ankles].mean(axis=0), pelvis) > _UPRIGHT
    if upper is not None:
        standing &= along(pelvis, rest[upper]) > _UPRIGHT
    heights = positions @ axes.T
    return Posture(
        leg=limbs.leg,
        reach=reach,
        upright=tuple(upright.tolist()),
        rest=UP_AXES[int(standing.argmax())] if standing.any() else None,
        feet=tuple(np.median(heights[:, ankles].min(axis=1), axis=0).tolist()),
        pelvis=tuple(np.median(heights[:, limbs.pelvis], axis=0).tolist()),
    )


def choose_up(postures: Sequence[Posture]) -> tuple[str, str]:
    """Up axis of a rig's clips, and a warning or an empty text.

    A body that is upright along one axis stands, or lies along it. Where the axis of the rest pose is another one (y if
    unknown), it stands if the feet are near the origin's height and the pelvis is a leg length higher, if it is upside
    down in the rest pose's axis, or if several clips agree (people lie in many directions).
    """
    votes = np.mean([posture.upright for posture in postures], axis=0)
    best = int(votes.argmax())
    up = UP_AXES[best]
    rests = [posture.rest for posture in postures if posture.rest]
    rest = max(sorted(set(rests)), key=rests.count) if rests else "y"
    if up == rest:
        return up, ""
    if votes[best] < 0.5:
        doubtful = any(posture.leg for posture in postures) and (rest != "y" or not rests)
        return rest, f"the body stands in few frames: {rest}-up is taken by its rest pose" if doubtful else ""
    agreeing = sum(posture.upright[best] > 0.5 for posture in postures)
    grounded = np.median([_stands(posture, best) for posture in postures]) > 0.5
    chosen = up if grounded or up.strip("-") == rest.strip("-") or agreeing >= 3 else rest
    if chosen == up and (grounded or not rests):
        return chosen, ""
    return chosen, f"the body is upright along {up}, its rest pose along {rest}: {chosen}-up is taken"


def _stands(posture: Posture, axis: int) -> bool:
    """True where the feet are near the origin's height along an axis and the pelvis is about a leg length higher."""
    leg = posture.leg or 1.0
    return -0.3 < posture.feet[axis] / leg < 0.5 and 0.6 < posture.pelvis[axis] / leg < 1.7


def choose_unit(postures: Sequence[Posture], path: str | Path) -> tuple[str, float, str]:
    """Unit of length of a rig's clips, its metres, and a warning or an empty text.

    By the length of the legs, in this order: cm, m or mm for human legs; another unit for an adult's legs, the nearest
    to 0.8 m; cm, m or mm for oversized legs. A child's legs in another unit leave the unit unknown, since adults in
    unknown units are more common than children in inches: they are scaled to 0.8 m.

    Raises:
        InputError: no unit gives human legs, or, without legs, a human chain of bones.
    """
    legs = [posture.leg for posture in postures if posture.leg]
    if not legs:
        reach = float(np.median([posture.reach for posture in postures]))
        for unit in ("m", "cm", "mm"):
            if REACH_RANGE[0] <= reach * METRES[unit] <= REACH_RANGE[1]:
                return unit, METRES[unit], ""
        raise InputError(
            f"{path}: the unit of length is unknown (longest chain of bones {reach:.4g}): "
            "--unit NUMBER (prepare, export) sets the metres in one unit"
        )
    leg = float(np.median(legs))

    def fitting(units: Iterable[str], shortest: float, longest: float) -> list[str]:
        candidates = [unit for unit in units if shortest <= leg * METRES[unit] <= longest]
        return sorted(candidates, key=lambda unit: abs(math.log(leg * METRES[unit] / TYPICAL_LEG)))

    if common := fitting(_COMMON_UNITS, *LEG_RANGE):
        return common[0], METRES[common[0]], ""
    if adult := fitting(METRES, MIN_ADULT_LEG, LEG_RANGE[1]):
        choices = " or ".join(f"{unit} (legs of {leg * METRES[unit]:.2f} m)" for unit in adult)
        return adult[0], METRES[adult[0]], f"lengths may be in {choices}: {adult[0]} is taken" if adult[1:] else ""
    if giant := fitting(_COMMON_UNITS, LEG_RANGE[1], MAX_GIANT_LEG):
        return giant[0], METRES[giant[0]], ""  # `leg_warning` follows
    if child := fitting(METRES, LEG_RANGE[0], MIN_ADULT_LEG):
        text = f"the unit of length is unknown (legs of {leg:.4g}, in {child[0]} {leg * METRES[child[0]]:.2f} m)"
        return "unknown", TYPICAL_LEG / leg, f"{text}: they are taken to be {TYPICAL_LEG} m, sizes are a guess"
    raise InputError(
        f"{path}: the unit of length is unknown (legs of {leg:.4g} from hip to ankle are human in none of "
        f"{', '.join(METRES)}): --unit NUMBER (prepare, export) sets the metres in one unit"
    )


def parse_unit(unit: str | float) -> float | None:
    """Metres per unit; None for ``auto``.

    Raises:
        InputError: neither a unit's name nor a positive number.
    """
    if unit == "auto":
        return None
    if unit in METRES:
        return METRES[str(unit)]
    try:
        metres = float(unit)
    except ValueError:
        raise unknown("unit", str(unit), [*METRES, "auto"]) from None
    if not (math.isfinite(metres) and metres > 0):
        raise InputError(f"--unit {unit}: the metres in one unit must be positive")
    return metres


def check_up(up: str) -> None:
    """InputError unless an up axis is one of `UP_AXES` or ``auto``."""
    if up not in (*UP_AXES, "auto"):
        raise unknown("up axis", up, [*UP_AXES, "auto"])


def leg_warning(leg: float | None, metres: float) -> str:
    """Warning about legs of implausible length, or an empty text."""
    if leg is None or LEG_RANGE[0] <= leg * metres <= LEG_RANGE[1]:
        return ""
    return (
        f"a leg of {leg * metres:.2f} m from hip to ankle is outside human range ({LEG_RANGE[0]} to {LEG_RANGE[1]} m): "
        f"see --unit, now {metres:.4g} m"
    )


def fps_warning(fps: float) -> str:
    """Warning about an implausible frame rate, or an empty text."""
    if FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
        return ""
    return f"{fps:.4g} fps is outside {FPS_RANGE[0]:g} to {FPS_RANGE[1]:g}: --source-fps sets the right rate"


def to_y_up(coordinates: Coordinates, positions: Array, rotations: Array) -> tuple[Array, Array]:
    """Local transforms, with the root at index 0, of the y-up world, in metres.

    Args:
        coordinates: of the file.
        positions: (T, J, 3) each joint in its parent's frame.
        rotations: (T, J, 3, 3) each joint in its parent's frame.
    """
    positions = positions * coordinates.metres
    if coordinates.up == "y":
        return positions, rotations
    turn = TO_Y_UP[coordinates.up]
    if coordinates.turn_rest:
        return positions @ turn.T, turn @ rotations @ turn.T
    positions, rotations = positions.copy(), rotations.copy()
    positions[:, 0] = positions[:, 0] @ turn.T
    rotations[:, 0] = turn @ rotations[:, 0]
    return positions, rotations
