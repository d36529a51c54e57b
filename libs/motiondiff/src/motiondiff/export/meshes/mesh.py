"""Mesh of a body: round limbs bound rigidly to the joints, for any program with skinning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from motiondiff.export.body import TORSO, Points, body_height, head_centre, head_joint, side_colour
from motiondiff.skeleton.skeleton import Skeleton

_SIDES = 10  # corners of a limb's cross section
_LIMB, _TRUNK, _HEAD = 0.0145, 0.018, 0.055  # radii relative to the body height, as in the images


@dataclass(frozen=True)
class MeshPart:
    """Part of the mesh with one colour.

    Attributes:
        name: ``left``, ``right`` or ``middle``.
        colour: ``#rrggbb``, sRGB.
        vertices: (V, 3) metres, each in the frame of its joint.
        normals: (V, 3) unit vectors, in the same frames.
        joints: (V,) index of the joint of each vertex.
        triangles: (F, 3) indices of vertices, counter-clockwise seen from outside.
    """

    name: str
    colour: str
    vertices: Points
    normals: Points
    joints: npt.NDArray[np.int64]
    triangles: npt.NDArray[np.int64]


def build_mesh(skeleton: Skeleton) -> list[MeshPart]:
    """Mesh parts: a capsule for every bone, bound to the joint at its upper end, and a ball for the head.

    A skeleton of one joint, or of bones without length, is a ball in each joint.
    """
    pieces: dict[str, list[tuple[int, Points, Points, npt.NDArray[np.int64]]]] = {}
    for colour, joint, shape in _pieces(skeleton):
        pieces.setdefault(colour, []).append((joint, *shape))
    parts = []
    for colour, solids in pieces.items():
        counts = [len(vertices) for _, vertices, _, _ in solids]
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        parts.append(
            MeshPart(
                name={TORSO: "middle"}.get(colour) or ("left" if colour == side_colour("left") else "right"),
                colour=colour,
                vertices=np.concatenate([vertices for _, vertices, _, _ in solids]),
                normals=np.concatenate([normals for _, _, normals, _ in solids]),
                joints=np.repeat([joint for joint, *_ in solids], counts),
                triangles=np.concatenate(
                    [triangles + start for start, (*_, triangles) in zip(starts, solids, strict=True)]
                ),
            )
        )
    return parts


def linear_colour(colour: str) -> list[float]:
    """``#rrggbb`` as three numbers of linear light, 0 to 1: the inverse of the sRGB curve, IEC 61966-2-1."""
    channels = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return [float(channel) for channel in linear.round(6)]


def _pieces(skeleton: Skeleton) -> Iterator[tuple[str, int, tuple[Points, Points, npt.NDArray[np.int64]]]]:
    """(colour, joint, solid) of each limb and the head."""
    size = body_height(skeleton)
    bones = [joint for joint in range(1, len(skeleton)) if skeleton.bone_lengths[joint] > 1e-4]
    head = head_joint(skeleton)
    for joint in bones:
        colour = side_colour(skeleton.names[joint])
        radius = (_TRUNK if colour == TORSO else _LIMB) * size
        yield colour, skeleton.parents[joint], _capsule(skeleton.offsets[joint].astype(np.float64), radius)
    if not bones:
        for joint, name in enumerate(skeleton.names):
            yield side_colour(name), joint, _capsule(np.zeros(3), _TRUNK * size)
    elif head is not None:
        vertices, normals, triangles = _capsule(np.zeros(3), _HEAD * size)
        yield TORSO, head, (vertices + head_centre(skeleton.offsets[head].astype(np.float64), size), normals, triangles)


def _capsule(end: Points, radius: float) -> tuple[Points, Points, npt.NDArray[np.int64]]:
    """A capsule from the origin to ``end``: vertices and unit normals (V, 3), triangles (F, 3); a ball where end is 0.

    Rings of `_SIDES` corners from one pole to the other: four on either half ball.
    """
    length = float(np.linalg.norm(end))
    axis = end / length if length > 0 else np.array([0.0, 1.0, 0.0])
    helper = np.array([1.0, 0.0, 0.0]) if abs(axis[0]) < 0.9 else np.array([0.0, 0.0, 1.0])
    across = np.cross(axis, helper)
    across /= np.linalg.norm(across)
    third = np.cross(axis, across)
    half = np.radians([0.0, 22.5, 45.0, 67.5])
    # a ball has its equator once: twice would make triangles without area
    upper = half if length > 0 else half[1:]
    latitudes = np.concatenate((-half[::-1], upper))
    shift = np.repeat([0.0, length], (len(half), len(upper)))
    around = np.arange(_SIDES) * 2 * np.pi / _SIDES
    circle = np.cos(around)[:, None] * across + np.sin(around)[:, None] * third
    rings = np.cos(latitudes)[:, None, None] * circle + np.sin(latitudes)[:, None, None] * axis
    normals = np.concatenate((-axis[None], rings.reshape(-1, 3), axis[None]))
    centres = np.concatenate(([0.0], np.repeat(shift, _SIDES), [length]))[:, None] * axis
    corner = np.arange(_SIDES)
    following = (corner + 1) % _SIDES
    last = 1 + len(latitudes) * _SIDES
    triangles = [np.stack((np.zeros_like(corner), 1 + following, 1 + corner), axis=-1)]
    for ring in range(len(latitudes) - 1):
        low, high = 1 + ring * _SIDES, 1 + (ring + 1) * _SIDES
        triangles.append(np.stack((low + corner, low + following, high + following), axis=-1))
        triangles.append(np.stack((low + corner, high + following, high + corner), axis=-1))
    top = last - _SIDES
    triangles.append(np.stack((top + corner, top + following, np.full_like(corner, last)), axis=-1))
    return centres + radius * normals, normals, np.concatenate(triangles)
