"""Number sequences over a clip's frames: gaps, equal lengths, warped time, and vectors of one length for any clip.

Shapes: T frames, J joints, 3 coordinates; C channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def fill_gaps(sequence: npt.ArrayLike) -> Array:
    """Lost frames of a joint interpolated in time, the ends held; a joint that is never there stays NaN.

    Args:
        sequence: (T, J, 3), NaN where a joint was lost.
    """
    filled = np.array(sequence, dtype=np.float64)
    frames = np.arange(len(filled))
    for joint in range(filled.shape[1]):
        there = ~np.isnan(filled[:, joint]).any(axis=1)
        if there.any() and not there.all():
            for axis in range(3):
                filled[:, joint, axis] = np.interp(frames, frames[there], filled[there, joint, axis])
    return filled


def mean_joints(sequences: Iterable[npt.ArrayLike]) -> Array:
    """Each joint's mean (J, 3) over clips, a clip counting once however long: what stands in for a joint never seen.

    Measured on training clips only. A joint that no clip has is NaN.

    Args:
        sequences: (T, J, 3) each, NaN where a joint was lost.
    """
    total: Array | None = None
    for sequence in sequences:
        values = fill_gaps(sequence).mean(axis=0)
        total = np.zeros((2, *values.shape)) if total is None else total
        total += np.stack([np.nan_to_num(values), ~np.isnan(values)])
    if total is None:
        raise ValueError("no sequence to take the mean of")
    return np.divide(total[0], total[1], out=np.full(total.shape[1:], np.nan), where=total[1] > 0)


def complete(sequence: npt.ArrayLike, joint_means: npt.ArrayLike) -> Array:
    """A sequence (T, J, 3) without NaN: gaps interpolated, joints without any frame imputed by their mean (J, 3)."""
    filled = fill_gaps(sequence)
    return np.where(np.isnan(filled), np.asarray(joint_means, dtype=np.float64), filled)


def at_positions(sequence: npt.ArrayLike, positions: npt.ArrayLike) -> Array:
    """A sequence (T, ...) at fractional frame numbers (N,) from 0 to T - 1, linearly interpolated: (N, ...)."""
    values, at = np.asarray(sequence, dtype=np.float64), np.asarray(positions, dtype=np.float64)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    share = (at - low).reshape(-1, *[1] * (values.ndim - 1))
    return values[low] * (1 - share) + values[high] * share


def resample(sequence: npt.ArrayLike, frames: int = 16) -> Array:
    """A sequence (T, ...) at ``frames`` evenly spaced moments from its first to its last frame, interpolated."""
    return at_positions(sequence, np.linspace(0, len(np.asarray(sequence)) - 1, frames))


def time_warp(
    sequence: npt.ArrayLike, generator: np.random.Generator, *, strength: float = 0.3, crop: float = 0.12
) -> Array:
    """The same movement, faster at first or at last and with its ends cut off a little; for training only.

    Time from 0 to 1 becomes ``t ** exp(k)`` with ``k`` normal with deviation `strength`, then ``a + (b - a) t`` with
    ``a`` and ``1 - b`` uniform up to `crop`.

    Args:
        sequence: (T, ...); the result has as many frames.
        generator: what is drawn from.
        strength: of the warp, 0 for none.
        crop: largest share of the clip that is cut off at either end.
    """
    frames = len(np.asarray(sequence))
    warped = np.linspace(0, 1, frames) ** np.exp(generator.normal(0, strength))
    first, last = generator.uniform(0, crop), 1 - generator.uniform(0, crop)
    return at_positions(sequence, (first + (last - first) * warped) * (frames - 1))


def temporal_pyramid(sequence: npt.ArrayLike, levels: tuple[int, ...] = (2, 4, 8), frames: int = 16) -> Array:
    """A clip of any length as one vector: what its channels do as a whole, and their means over ever shorter parts.

    Mean, standard deviation, maximum, minimum and last-minus-first of each channel over the resampled clip, then the
    channels' means over each of 2, 4 and 8 equal parts: (5 + sum(levels)) * C numbers.

    Args:
        sequence: (T, C) without NaN.
        levels: numbers of parts.
        frames: frames that the clip is resampled to.
    """
    values = resample(sequence, frames)
    whole = [values.mean(0), values.std(0), values.max(0), values.min(0), values[-1] - values[0]]
    parts = [part.mean(axis=0) for level in levels for part in np.array_split(values, level)]
    return np.concatenate([*whole, *parts])
