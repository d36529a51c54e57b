"""Named parameters of a clip from its skeleton, with units: for readers, and for captions.

Shapes: T frames, J joints, 3 coordinates. A joint that was not tracked in a frame is NaN there; a parameter that cannot
be known is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actprompt.skeleton.joint_angles import LIMB_JOINTS, active_side_first, hand_distances, limb_angles
from actprompt.skeleton.roles import body_joints, limb_directions
from actprompt.skeleton.trajectory_ops import fill_gaps
from icube_common.data.manifest import write_rows
from icube_common.errors import InputError
from icube_common.io.csv import read_table
from icube_common.tabular import TabularData

Array = npt.NDArray[np.float64]
Parameters = dict[str, tuple[float, str]]
"""Name -> (value, unit)."""


def limb_parameters(directions: npt.ArrayLike, duration: float) -> Parameters:
    """Named parameters of a clip from its limb directions: name -> (value, unit), NaN where a joint is never tracked.

    Args:
        directions: (T, 8, 3) unit vectors, as `actprompt.skeleton.joint_angles` describes them.
        duration: of the clip, seconds.
    """
    ordered = active_side_first(fill_gaps(directions))
    angles = limb_angles(ordered)
    step = duration / len(angles)
    speeds = np.abs(np.diff(angles, axis=0)) / step if len(angles) > 1 else np.full((1, 8), np.nan)
    parameters: Parameters = {"duration": (float(duration), "s")}
    limbs = {"active arm": (0, 1), "other arm": (2, 3)}
    for limb, (upper, lower) in limbs.items():
        for what, joint in ((f"{limb} raise", upper), (f"{limb} elbow bend", lower)):
            parameters |= _angle_parameters(what, angles[:, joint], speeds[:, joint])
    legs = np.stack([angles[:, [4, 6]].mean(axis=1), angles[:, [5, 7]].mean(axis=1)], axis=1)
    leg_speeds = np.stack([speeds[:, [4, 6]].mean(axis=1), speeds[:, [5, 7]].mean(axis=1)], axis=1)
    for what, column in (("hip bend", 0), ("knee bend", 1)):
        parameters |= _angle_parameters(what, legs[:, column], leg_speeds[:, column])
    distances = hand_distances(ordered)
    for what, column in (("hands apart", 0), ("active hand to head", 1), ("other hand to head", 2)):
        parameters[f"{what}, smallest"] = (float(distances[:, column].min()), "m")
        parameters[f"{what}, last"] = (float(distances[-1, column]), "m")
    return parameters


def joint_parameters(
    positions: npt.ArrayLike, names: Sequence[str], duration: float, *, unit: str = "m", up: int | None = 1
) -> Parameters:
    """Named parameters of a clip from joint positions: speeds, extents, heights, distances; name -> (value, unit).

    Args:
        positions: (T, J, 3).
        names: J names; the distance of each pair whose name contains wrist, hand or head is taken.
        duration: of the clip, seconds.
        unit: of the coordinates.
        up: the axis that points up, for heights over the lowest joint's mean; None where it is unknown.
    """
    filled = fill_gaps(positions)
    step = duration / len(filled)
    parameters: Parameters = {"duration": (float(duration), "s")}
    for joint, name in enumerate(names):
        path = filled[:, joint]
        moved = np.linalg.norm(np.diff(path, axis=0), axis=1) / step if len(path) > 1 else np.array([np.nan])
        parameters[f"{name} speed, mean"] = (float(moved.mean()), f"{unit}/s")
        parameters[f"{name} speed, highest"] = (float(moved.max()), f"{unit}/s")
        parameters[f"{name} range"] = (float(np.linalg.norm(path.max(axis=0) - path.min(axis=0))), unit)
        if up is not None:
            parameters[f"{name} height, mean"] = (
                float((path[:, up] - filled[..., up].mean(axis=0).min()).mean()),
                unit,
            )
    ends = [at for at, name in enumerate(names) if any(part in name.lower() for part in ("wrist", "hand", "head"))]
    for at, first in enumerate(ends):
        for second in ends[at + 1 :]:
            apart = np.linalg.norm(filled[:, first] - filled[:, second], axis=1)
            parameters[f"{names[first]} to {names[second]}, mean"] = (float(apart.mean()), unit)
            parameters[f"{names[first]} to {names[second]}, smallest"] = (float(apart.min()), unit)
    return parameters


def named_parameters(joints: npt.ArrayLike, names: Sequence[str], duration: float) -> Parameters:
    """Named parameters of a clip: of limb directions, of a body by the roles of its joints, or of any joints.

    Args:
        joints: (T, J, 3).
        names: J names.
        duration: of the clip, in s.
    """
    if tuple(names) == LIMB_JOINTS:
        return limb_parameters(joints, duration)
    body = body_joints(joints, names)
    if body is not None:
        return limb_parameters(limb_directions(body), duration)
    return joint_parameters(joints, names, duration)


def parameter_table(ids: Sequence[str], rows: Sequence[Parameters]) -> TabularData:
    """Table of the parameters of clips; all rows have the same names.

    Args:
        ids: the clips.
        rows: their parameters.
    """
    names = tuple(rows[0])
    assert all(tuple(row) == names for row in rows)
    values = np.array([[row[name][0] for name in names] for row in rows], dtype=np.float64)
    return TabularData(tuple(ids), names, values, tuple(unit for _, unit in rows[0].values()))


def _angle_parameters(what: str, angle: Array, speed: Array) -> Parameters:
    """Statistics of an angle (T,) in degrees over a clip, and of its speed in degrees per second."""
    return {
        f"{what}, first": (float(angle[0]), "degrees"),
        f"{what}, last": (float(angle[-1]), "degrees"),
        f"{what}, mean": (float(angle.mean()), "degrees"),
        f"{what}, smallest": (float(angle.min()), "degrees"),
        f"{what}, largest": (float(angle.max()), "degrees"),
        f"{what}, highest speed": (float(speed.max()), "degrees/s"),
    }


def read_parameters(path: Path, ids: Sequence[str], description: Mapping[str, Any]) -> TabularData:
    """``parameters.csv`` in the order of ``ids``.

    Args:
        path: the file.
        ids: the clips of the manifest.
        description: of ``dataset.json``: the units by parameter.

    Raises:
        InputError: it cannot be read, names another clip, or a value is no finite number.
    """
    names = list(description["units"])
    index = {name: row for row, name in enumerate(ids)}
    values = np.full((len(ids), len(names)), np.nan)
    for line, row in read_table(path, ("id", *names), strip=False):
        if row["id"] not in index:
            raise InputError(f"{path}: line {line}: id {row['id']!r} is not in the manifest")
        for column, name in enumerate(names):
            try:
                value = float(row[name] or "nan")
            except ValueError as error:
                raise InputError(f"{path}: line {line}: {name}: {row[name]!r} is no number") from error
            if math.isinf(value):
                raise InputError(f"{path}: line {line}: {name}: must be finite, or empty where missing")
            values[index[row["id"]], column] = value
    return TabularData(tuple(ids), tuple(names), values, tuple(description["units"].values()))


def write_parameters(folder: Path, table: TabularData) -> dict[str, Any]:
    """Write ``parameters.csv``; returns its entry of ``dataset.json``."""
    rows = (
        [name, *("" if math.isnan(value) else f"{value:.6g}" for value in row)]
        for name, row in zip(table.ids, table.values, strict=True)
    )
    write_rows(folder / "parameters.csv", ["id", *table.names], rows)
    return {"units": dict(zip(table.names, table.units, strict=True))}
