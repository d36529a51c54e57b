"""Motions as points between which a distance in metres makes sense, whatever the body and the length.

Shapes: N clips, T frames, J joints, F = `FRAMES`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from motiondiff.data.clips import ClipSet
from motiondiff.recognition.features import resample
from motiondiff.skeleton.motion import RigidTransform
from motiondiff.skeleton.skeleton import Skeleton

Array = npt.NDArray[np.float32]

FRAMES = 16
"""Moments at which two motions are compared."""
SHARES = (1.0, 0.75, 0.5)
"""Lengths of a training clip's parts that a generated clip may be a copy of."""
MIN_FRAMES = 8
"""A part shorter than this is no motion to compare with."""


def on_body(positions: Array, parents: Sequence[int], lengths: Array) -> Array:
    """(T, J, 3) relative to the root, each bone in its direction and of the given length (J,), metres.

    Copies are copies on another body too. A bone of length zero stays at its parent.
    """
    placed = np.zeros_like(positions)
    for joint, parent in enumerate(parents):
        if parent < 0:
            continue
        bone = positions[:, joint] - positions[:, parent]
        length = np.linalg.norm(bone, axis=-1, keepdims=True)
        direction = np.divide(bone, length, out=np.zeros_like(bone), where=length > 1e-6)
        placed[:, joint] = placed[:, parent] + direction * lengths[joint]
    return placed


def facing_front(positions: Array, skeleton: Skeleton) -> Array:
    """The clip turned about y so that its first frame faces +z; unchanged where no names distinguish the sides."""
    if not skeleton.left_right_pairs:
        return positions
    left = np.sum([positions[0, a] - positions[0, b] for a, b in skeleton.left_right_pairs], axis=0)
    turn = RigidTransform(-float(np.arctan2(-left[2], left[0]))).matrix
    return np.asarray(positions @ turn.T)


def body_lengths(clips: ClipSet) -> Array:
    """(J,) metres: the mean bone lengths of the clips' first frames."""
    parents = np.array(clips.skeleton.parents)
    parents[0] = 0
    return np.asarray(
        np.mean([np.linalg.norm(clip[0] - clip[0][parents], axis=-1) for clip in clips.positions], axis=0)
    )


def describe(positions: Array, skeleton: Skeleton, lengths: Array) -> npt.NDArray[np.float64]:
    """(F J 3,) the motion at `FRAMES` moments on a common body, facing +z at first, relative to the root.

    Scaled so that the Euclidean distance of two motions is the root mean square, over moments and joints, of how far
    their joints are apart, in metres.
    """
    moments = facing_front(resample(positions, FRAMES), skeleton)
    placed = on_body(moments, skeleton.parents, lengths).astype(np.float64)
    return np.asarray(placed.ravel() / np.sqrt(FRAMES * len(skeleton)))


def describe_all(clips: ClipSet, lengths: Array) -> npt.NDArray[np.float64]:
    """(N, F J 3) of `describe`."""
    return np.stack([describe(clip, clips.skeleton, lengths) for clip in clips.positions])


def describe_parts(clips: ClipSet, lengths: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Every clip whole and in overlapping parts of it: (P, F J 3), and (P,) which clip each is of."""
    points, owner = [], []
    for number, clip in enumerate(clips.positions):
        for share in SHARES:
            size = round(share * len(clip))
            if size < MIN_FRAMES and share < 1:
                continue
            for start in np.unique(np.linspace(0, len(clip) - size, 1 if share == 1 else round(2 / share)).astype(int)):
                points.append(describe(clip[start : start + size], clips.skeleton, lengths))
                owner.append(number)
    return np.stack(points), np.array(owner)
