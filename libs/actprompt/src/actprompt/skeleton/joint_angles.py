"""Limb directions of Florence 3D Actions in place of joint positions: angles, hand positions and channels.

A frame has 8 unit vectors (`LIMB_JOINTS`): for each limb first the direction of the upper part (shoulder to elbow, hip
to knee) in the torso's frame: first axis down the torso, second outwards to the limb's own side, third backwards; then
the direction of the lower part (elbow to wrist, knee to ankle) in the same frame turned so that its second axis lies
along the upper part. That is the skeleton of Raptis, Kirovski, Hoppe (SCA 2011), which the paper of the set follows;
the order of columns and axes is our reading of the numbers: people stand with (1, 0, 0) and (0, 1, 0), sit with a first
axis near 0. The order of the sides is not published, so results are about the arm that moves more and the other one.

Shapes: T frames, 8 directions, 3 coordinates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from einops import rearrange

Array = npt.NDArray[np.float64]

LIMB_JOINTS = ("elbow_1", "wrist_1", "elbow_2", "wrist_2", "knee_1", "ankle_1", "knee_2", "ankle_2")
"""The order of the 8 directions; ``_1`` and ``_2`` are the two sides."""
UPPER_ARM, FOREARM, HALF_SHOULDERS, HEAD = 0.30, 0.27, 0.20, 0.25
"""Metres, of one body for all: the set gives no lengths. `HEAD` is the height of the head over the shoulders."""

_MIRROR = [2, 3, 0, 1, 6, 7, 4, 5]
_UPPER, _LOWER = [0, 2, 4, 6], [1, 3, 5, 7]


def mirror(directions: npt.ArrayLike) -> Array:
    """The two sides exchanged: (T, 8, 3) as the same action done with the other hand would give it."""
    return np.asarray(directions, dtype=np.float64)[:, _MIRROR]


def active_side_first(directions: npt.ArrayLike) -> Array:
    """The arm that moves more as ``_1``; both sides are exchanged, legs included, where that is the other one.

    Which hand holds the bottle is not the action's: afterwards left- and right-handed clips are alike.

    Args:
        directions: (T, 8, 3); a joint that is lost (NaN) counts as not moving.
    """
    vectors = np.asarray(directions, dtype=np.float64)
    travelled = np.nansum(np.linalg.norm(np.diff(vectors, axis=0), axis=2), axis=0)
    return vectors if travelled[:2].sum() >= travelled[2:4].sum() else mirror(vectors)


def limb_angles(directions: npt.ArrayLike) -> Array:
    """Angles (T, 8) in degrees: how far the upper part of a limb is raised, then how far its joint is bent.

    0 hanging, 90 level, 180 up for an elbow or knee; 0 straight for a wrist or ankle.

    Args:
        directions: (T, 8, 3) unit vectors; NaN stays NaN.
    """
    vectors = np.asarray(directions, dtype=np.float64)
    cosines = np.empty(vectors.shape[:2])
    cosines[:, _UPPER], cosines[:, _LOWER] = vectors[:, _UPPER, 0], vectors[:, _LOWER, 1]
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def torso_directions(directions: npt.ArrayLike) -> Array:
    """All 8 directions in the torso's frame: those of the lower parts turned back by their upper part's rotation.

    The rotation is the smallest one that takes the second axis to the upper part (Rodrigues' formula).

    Args:
        directions: (T, 8, 3) unit vectors.
    """
    return _turn_lower_parts(directions, 1.0)


def inverse_torso_directions(directions: npt.ArrayLike) -> Array:
    """The 8 directions as the set gives them, from (T, 8, 3) in the torso's frame: inverse of `torso_directions`."""
    return _turn_lower_parts(directions, -1.0)


def _turn_lower_parts(directions: npt.ArrayLike, sign: float) -> Array:
    """Directions with those of the lower parts turned by the rotation of the second axis to the upper part, or back."""
    vectors = np.array(directions, dtype=np.float64)
    upper, lower = vectors[:, _UPPER], vectors[:, _LOWER]
    cosine = upper[..., 1:2]
    cross = np.cross(np.array([0.0, 1.0, 0.0]), upper)
    sine = np.linalg.norm(cross, axis=-1, keepdims=True)
    axis = sign * cross / np.maximum(sine, 1e-9)
    along = (axis * lower).sum(axis=-1, keepdims=True)
    vectors[:, _LOWER] = lower * cosine + np.cross(axis, lower) * sine + axis * along * (1 - cosine)
    return vectors


def hand_positions(directions: npt.ArrayLike) -> Array:
    """Both hands (T, 2, 3) in metres of an average body, from the middle of the shoulders: down, to side 1, backwards.

    Args:
        directions: (T, 8, 3) unit vectors, as the set gives them.
    """
    torso = torso_directions(directions)
    hands = UPPER_ARM * torso[:, [0, 2]] + FOREARM * torso[:, [1, 3]] + np.array([0.0, HALF_SHOULDERS, 0.0])
    hands[:, 1, 1] *= -1  # outwards is the other way on the other side
    return hands


def hand_distances(directions: npt.ArrayLike) -> Array:
    """Metres (T, 3): between the hands, from hand 1 to the head, from hand 2 to the head."""
    hands = hand_positions(directions)
    head = np.array([-HEAD, 0.0, 0.0])
    between = np.linalg.norm(hands[:, 0] - hands[:, 1], axis=-1)
    return np.stack([between, *np.linalg.norm(hands - head, axis=-1).T], axis=1)


def limb_channels(directions: npt.ArrayLike) -> Array:
    """A clip as channels (T, 53) for `actprompt.skeleton.trajectory_ops`, the input of a linear classifier.

    The 8 directions as given (24), those of the lower parts in the torso's frame (12), both hands (6), their distances
    (3) and the angles in quarter turns (8).

    Args:
        directions: (T, 8, 3) without NaN.
    """
    vectors = np.asarray(directions, dtype=np.float64)
    flat = "frame part xyz -> frame (part xyz)"
    return np.concatenate(
        [
            rearrange(vectors, flat),
            rearrange(torso_directions(vectors)[:, _LOWER], flat),
            rearrange(hand_positions(vectors), flat),
            hand_distances(vectors),
            limb_angles(vectors) / 90,
        ],
        axis=1,
    )
