"""Numbers from a skeleton: named parameters of a clip for people and texts, and short sequences that keep its dynamics.

Shapes: T frames, J joints, 3 coordinates. A joint that was not tracked in a frame is NaN there.

Florence 3D Actions gives 8 unit vectors a frame instead of positions: for each arm the direction of the elbow from the
shoulder in the torso's frame (first axis down the torso) and that of the wrist in the upper arm's (second axis along
it), for each leg knee and ankle likewise. So an arm's raise is the angle between elbow and the first axis (0 hanging,
90 level, 180 up), an elbow's bend that between wrist and the second axis (0 straight). That reading of the file's
columns is ours, from the frames themselves; which side comes first is not said, hence the more and the less active one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LIMB_JOINTS = ("elbow_1", "wrist_1", "elbow_2", "wrist_2", "knee_1", "ankle_1", "knee_2", "ankle_2")
"""The order of the 8 directions; ``_1`` and ``_2`` are the two sides."""
_MIRROR = [2, 3, 0, 1, 6, 7, 4, 5]


def fill_gaps(sequence: npt.ArrayLike) -> Array:
    """Lost frames of a joint interpolated in time, the ends held; a joint that is never there stays NaN.

    Args:
        sequence: (T, J, 3).
    """
    filled = np.array(sequence, dtype=np.float64)
    frames = np.arange(len(filled))
    for joint in range(filled.shape[1]):
        there = ~np.isnan(filled[:, joint]).any(axis=1)
        if there.any() and not there.all():
            for axis in range(3):
                filled[:, joint, axis] = np.interp(frames, frames[there], filled[there, joint, axis])
    return filled


def resample(sequence: npt.ArrayLike, frames: int = 16) -> Array:
    """A sequence (T, ...) at ``frames`` evenly spaced moments from its first to its last frame, interpolated."""
    values = np.asarray(sequence, dtype=np.float64)
    at = np.linspace(0, len(values) - 1, frames)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    share = (at - low).reshape(-1, *[1] * (values.ndim - 1))
    return values[low] * (1 - share) + values[high] * share


def limb_angles(directions: npt.ArrayLike) -> Array:
    """Angles (T, 8) in degrees of `LIMB_JOINTS`: raise of the upper limb, bend of the lower, in that order a limb.

    Args:
        directions: (T, 8, 3) unit vectors; NaN stays NaN.
    """
    vectors = np.asarray(directions, dtype=np.float64)
    axis = [0, 1] * 4
    cosines = np.stack([vectors[:, joint, axis[joint]] for joint in range(8)], axis=1)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def mirror(directions: npt.ArrayLike) -> Array:
    """The two sides exchanged: (T, 8, 3) as the same action done with the other hand would give it."""
    return np.asarray(directions, dtype=np.float64)[:, _MIRROR]


def active_side_first(directions: npt.ArrayLike) -> Array:
    """The arm that moves more as ``_1``; both sides are exchanged, legs included, where that is the other one.

    Which hand holds the bottle is not the action's: afterwards left- and right-handed clips are alike.

    Args:
        directions: (T, 8, 3) without NaN.
    """
    vectors = np.asarray(directions, dtype=np.float64)
    travelled = np.linalg.norm(np.diff(vectors, axis=0), axis=2).sum(axis=0)
    return vectors if travelled[:2].sum() >= travelled[2:4].sum() else mirror(vectors)


def limb_parameters(directions: npt.ArrayLike, duration: float) -> dict[str, tuple[float, str]]:
    """Named parameters of a clip from its limb directions: name -> (value, unit), NaN where a joint is never tracked.

    Args:
        directions: (T, 8, 3) unit vectors, as `LIMB_JOINTS`.
        duration: of the clip, seconds.
    """
    filled = fill_gaps(directions)
    ordered = active_side_first(filled) if not np.isnan(filled).any() else filled
    angles = limb_angles(ordered)
    step = duration / len(angles)
    speeds = np.abs(np.diff(angles, axis=0)) / step if len(angles) > 1 else np.full((1, 8), np.nan)
    found: dict[str, tuple[float, str]] = {"duration": (float(duration), "s")}
    limbs = {"active arm": (0, 1), "other arm": (2, 3)}
    for limb, (upper, lower) in limbs.items():
        for what, joint in ((f"{limb} raise", upper), (f"{limb} elbow bend", lower)):
            found |= _course(what, angles[:, joint], speeds[:, joint])
    legs = np.stack([angles[:, [4, 6]].mean(axis=1), angles[:, [5, 7]].mean(axis=1)], axis=1)
    leg_speeds = np.stack([speeds[:, [4, 6]].mean(axis=1), speeds[:, [5, 7]].mean(axis=1)], axis=1)
    for what, column in (("hip bend", 0), ("knee bend", 1)):
        found |= _course(what, legs[:, column], leg_speeds[:, column])
    found["difference of the arms' raise, mean"] = (float(np.mean(angles[:, 0] - angles[:, 2])), "degrees")
    return found


def joint_parameters(
    positions: npt.ArrayLike, names: Sequence[str], duration: float, *, unit: str = "m", up: int | None = 1
) -> dict[str, tuple[float, str]]:
    """Named parameters of a clip from joint positions: speeds, extents, heights, distances; name -> (value, unit).

    Args:
        positions: (T, J, 3).
        names: J names; the distance of each pair whose name says wrist, hand or head is taken.
        duration: of the clip, seconds.
        unit: of the coordinates.
        up: the axis that points up, for heights over the lowest joint's mean; None where it is unknown.
    """
    filled = fill_gaps(positions)
    step = duration / len(filled)
    found: dict[str, tuple[float, str]] = {"duration": (float(duration), "s")}
    for joint, name in enumerate(names):
        path = filled[:, joint]
        moved = np.linalg.norm(np.diff(path, axis=0), axis=1) / step if len(path) > 1 else np.array([np.nan])
        found[f"{name} speed, mean"] = (float(moved.mean()), f"{unit}/s")
        found[f"{name} speed, highest"] = (float(moved.max()), f"{unit}/s")
        found[f"{name} range"] = (float(np.linalg.norm(path.max(axis=0) - path.min(axis=0))), unit)
        if up is not None:
            found[f"{name} height, mean"] = (float((path[:, up] - filled[..., up].mean(axis=0).min()).mean()), unit)
    ends = [at for at, name in enumerate(names) if any(part in name.lower() for part in ("wrist", "hand", "head"))]
    for at, first in enumerate(ends):
        for second in ends[at + 1 :]:
            apart = np.linalg.norm(filled[:, first] - filled[:, second], axis=1)
            found[f"{names[first]} to {names[second]}, mean"] = (float(apart.mean()), unit)
            found[f"{names[first]} to {names[second]}, smallest"] = (float(apart.min()), unit)
    return found


def parameter_table(
    rows: Sequence[Mapping[str, tuple[float, str]]],
) -> tuple[tuple[str, ...], tuple[str, ...], Array]:
    """Names, units and values (rows, names) of rows that all have the same parameters."""
    names = tuple(rows[0])
    assert all(tuple(row) == names for row in rows)
    values = np.array([[row[name][0] for name in names] for row in rows], dtype=np.float64)
    return names, tuple(rows[0][name][1] for name in names), values


def _course(what: str, angle: Array, speed: Array) -> dict[str, tuple[float, str]]:
    """How an angle (T,) in degrees goes over a clip; its speed in degrees per second."""
    return {
        f"{what}, first": (float(angle[0]), "degrees"),
        f"{what}, last": (float(angle[-1]), "degrees"),
        f"{what}, mean": (float(angle.mean()), "degrees"),
        f"{what}, smallest": (float(angle.min()), "degrees"),
        f"{what}, largest": (float(angle.max()), "degrees"),
        f"{what}, highest speed": (float(speed.max()), "degrees/s"),
    }
