"""Movement of hands and feet relative to the chest: amplitude by frequency band, tempo, reversals, jerk, range.

Amplitudes are two-sided: a generator that damps waving and one that adds jitter both miss the reference. Shapes: T
frames, J joints, N clips, H joints (hands or feet), R resamples. World axes, metres, seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import detrend

from icube_common.data.skeleton_roles import SIDES, ancestors
from icube_common.errors import InputError
from motiondiff.data.clips import ClipSet
from motiondiff.skeleton.skeleton import Skeleton

Array = npt.NDArray[np.float64]

BANDS = ((0.3, 1.0), (1.0, 4.0), (5.0, 10.0))
"""Hz: slow gestures; waving, clapping, steps; jitter. The last ends at the Nyquist frequency where that is lower."""
TEMPO = (0.3, 5.0)
"""Hz: range of the dominant frequency and of reversals."""
MIN_SECONDS = 1.0
"""A shorter clip has no tempo."""
BIN = 0.05
"""Hz: widest spacing of the spectrum, by zeros after the clip."""
DEAD_ZONE = 0.01
"""m: a turning point counts as a reversal where the hand moves back by at least this."""
MIDDLE = 0.5
"""Share of a clip, around its middle, in which the range of a hand is measured: without raising and lowering it."""
RESAMPLES = 1000

_STILL = 1e-6
"""m: movement below this is rounding."""


def band_name(limb: str, band: tuple[float, float]) -> str:
    """Name of a band's figure: ``hands_1-4hz``."""
    return f"{limb}_{band[0]:g}-{band[1]:g}hz"


FIGURES = (*(band_name(limb, band) for limb in ("hands", "feet") for band in BANDS),
           "frequency", "reversals", "jerk", "hand_range")  # fmt: skip
DIFFERENCES = ("frequency", "reversals")
"""Figures that are compared by difference; all others by ratio."""
MEANING = {
    **{
        band_name(limb, band): f"m: movement of the {limb} relative to the chest, {band[0]:g}-{band[1]:g} Hz"
        for limb in ("hands", "feet")
        for band in BANDS
    },
    "frequency": "Hz: dominant frequency of the hands",
    "reversals": "1/s: changes of direction of the hand that moves most",
    "jerk": "m/s3: mean length of the joints' third derivative",
    "hand_range": "m: range of the hand that moves most, middle half of the motion",
}


@dataclass(frozen=True)
class Limbs:
    """Joints by role.

    Attributes:
        chest: the joint at which both arms leave the trunk.
        hands: left and right: the hand, else the wrist.
        feet: left and right: the foot, else the ankle.
    """

    chest: int
    hands: tuple[int, int]
    feet: tuple[int, int]

    @classmethod
    def of(cls, skeleton: Skeleton) -> Limbs:
        """Limbs of a skeleton, by its roles (`motiondiff.skeleton.skeleton.Skeleton.roles`).

        Raises:
            InputError: a shoulder, hand or foot has no joint by name.
        """
        roles = skeleton.roles

        def pair(*parts: str) -> tuple[int, int]:
            joints = [next((roles[f"{side} {p}"] for p in parts if f"{side} {p}" in roles), None) for side in SIDES]
            if joints[0] is None or joints[1] is None:
                raise InputError(f"movement: no joint is the {' or '.join(parts)} of both sides by name")
            return joints[0], joints[1]

        left, right = (ancestors(skeleton.parents, joint) for joint in pair("collar", "shoulder"))
        chest = next((joint for joint in left if joint in right), 0)
        return cls(chest, pair("hand", "wrist"), pair("foot", "ankle"))


def relative_to_chest(positions: npt.ArrayLike, limbs: Limbs, limb: str = "hands") -> Array:
    """(T, 2, 3) metres: both hands or feet minus the chest, in world axes.

    Args:
        positions: (T, J, 3) metres.
        limbs: joints.
        limb: ``hands`` or ``feet``.
    """
    points = np.asarray(positions, dtype=np.float64)
    joints = limbs.hands if limb == "hands" else limbs.feet
    return np.asarray(points[:, list(joints)] - points[:, [limbs.chest]])


def band_pass(signal: Array, fps: float, low: float, high: float) -> Array:
    """(T, ...) the detrended signal's part between two frequencies (Hz, both included), by the Fourier transform."""
    spectrum = np.fft.rfft(detrend(signal, axis=0), axis=0)
    frequency = np.fft.rfftfreq(len(signal), 1 / fps)
    spectrum[(frequency < low - 1e-9) | (frequency > high + 1e-9)] = 0
    return np.asarray(np.fft.irfft(spectrum, n=len(signal), axis=0))


def band_movement(signal: Array, fps: float, low: float, high: float) -> float:
    """Root mean square of a band over frames and joints, metres.

    The length of the vector counts: a hand that swings along one axis by ``A sin`` moves by ``A / sqrt(2)``.

    Args:
        signal: (T, H, 3) metres.
        fps: frames per second.
        low: Hz.
        high: Hz; the Nyquist frequency where that is lower.

    Returns:
        Metres; NaN where the clip is shorter than one period of ``low``, or ``low`` is above the Nyquist frequency.
    """
    if len(signal) < fps / low - 1e-9 or low > fps / 2:
        return math.nan
    return float(np.sqrt(np.square(band_pass(signal, fps, low, high)).sum(axis=-1).mean()))


def power_spectrum(signal: Array, fps: float, bins: int | None = None) -> tuple[Array, Array]:
    """Power over frequency, summed over joints and axes, after detrending and a Hann window.

    Args:
        signal: (T, H, 3) metres.
        fps: frames per second.
        bins: points of the transform; by default the fewest, not below T, that stand at most `BIN` apart.

    Returns:
        (K,) Hz, and (K,) m^2/Hz: its integral is the signal's mean squared length.
    """
    size = bins or max(len(signal), math.ceil(fps / BIN - 1e-9))
    window = np.hanning(len(signal) + 2)[1:-1].reshape(-1, *(1,) * (signal.ndim - 1))
    spectrum = np.fft.rfft(detrend(signal, axis=0) * window, n=size, axis=0)
    power = np.square(np.abs(spectrum)).reshape(len(spectrum), -1).sum(axis=1)
    power *= 2 / (fps * np.square(window).sum())
    return np.asarray(np.fft.rfftfreq(size, 1 / fps), dtype=np.float64), np.asarray(power)


def dominant_frequency(signal: Array, fps: float) -> float:
    """Frequency of the largest power within `TEMPO`, Hz; NaN below `MIN_SECONDS` or where nothing moves."""
    if len(signal) < MIN_SECONDS * fps - 1e-9 or np.abs(detrend(signal, axis=0)).max() < _STILL:
        return math.nan
    frequency, power = power_spectrum(signal, fps)
    inside = (frequency >= TEMPO[0] - 1e-9) & (frequency <= TEMPO[1] + 1e-9)
    return float(frequency[inside][power[inside].argmax()])


def reversals(signal: Array, fps: float) -> float:
    """Changes of direction a second of the joint that moves most, along its main axis, within `TEMPO`.

    A turning point counts once the joint has moved back by `DEAD_ZONE`; a swing of frequency f has 2 f.

    Args:
        signal: (T, H, 3) metres.
        fps: frames per second.

    Returns:
        1/s; NaN below `MIN_SECONDS`.
    """
    if len(signal) < MIN_SECONDS * fps - 1e-9:
        return math.nan
    band = band_pass(signal, fps, *TEMPO)
    most = band[:, int(np.square(band).sum(axis=(0, 2)).argmax())]
    return _turning_points(most @ principal_axis(most)) / (len(signal) / fps)


def principal_axis(path: Array) -> Array:
    """(3,) unit vector along which the points (T, 3) spread most."""
    return np.asarray(np.linalg.svd(path - path.mean(axis=0), full_matrices=False)[2][0])


def _turning_points(path: Array) -> int:
    """Turning points of (T,) after which it moves back by `DEAD_ZONE` at least."""
    count, direction = 0, 0
    low = high = path[0]
    for value in path[1:]:
        low, high = min(low, value), max(high, value)
        if direction >= 0 and value <= high - DEAD_ZONE:
            count += direction > 0
            direction, low = -1, value
        elif direction <= 0 and value >= low + DEAD_ZONE:
            count += direction < 0
            direction, high = 1, value
    return count


def jerk(positions: npt.ArrayLike, fps: float) -> float:
    """Mean length of the third derivative over frames and joints, m/s^3; NaN below four frames.

    Args:
        positions: (T, J, 3) metres.
        fps: frames per second.
    """
    third = np.linalg.norm(np.diff(np.asarray(positions), n=3, axis=0), axis=-1)
    return float(third.mean() * fps**3) if third.size else math.nan


def hand_range(signal: Array) -> float:
    """Range of the joint that moves most along the main axis of its steps, in the middle of the motion, metres.

    Args:
        signal: (T, H, 3) metres, such as `relative_to_chest`; the middle `MIDDLE` of the frames is measured.

    Returns:
        Metres; NaN below four frames in the middle.
    """
    margin = round(len(signal) * (1 - MIDDLE) / 2)
    middle = signal[margin : len(signal) - margin]
    if len(middle) < 4:
        return math.nan
    return max(float(np.ptp(path @ principal_axis(np.diff(path, axis=0)))) for path in middle.swapaxes(0, 1))


def clip_movement(positions: npt.ArrayLike, limbs: Limbs, fps: float) -> dict[str, float]:
    """All figures of `MEANING` for one clip; NaN where it is too short for one.

    Args:
        positions: (T, J, 3) metres.
        limbs: joints.
        fps: frames per second.
    """
    signals = {limb: relative_to_chest(positions, limbs, limb) for limb in ("hands", "feet")}
    return {
        **{
            band_name(limb, band): band_movement(signal, fps, *band) for limb, signal in signals.items()
            for band in BANDS
        },
        "frequency": dominant_frequency(signals["hands"], fps),
        "reversals": reversals(signals["hands"], fps),
        "jerk": jerk(positions, fps),
        "hand_range": hand_range(signals["hands"]),
    }  # fmt: skip


def movement_of(clips: ClipSet) -> dict[str, Array]:
    """(N,) every figure of `clip_movement` for each clip.

    Raises:
        InputError: a shoulder, hand or foot has no joint by name.
    """
    limbs = Limbs.of(clips.skeleton)
    rows = [clip_movement(clip, limbs, clips.fps) for clip in clips.positions]
    return {name: np.array([row[name] for row in rows]) for name in FIGURES}


def action_medians(clips: ClipSet) -> dict[str, dict[str, float]]:
    """Action -> figure -> median over its clips that have it; NaN where none has.

    Raises:
        InputError: a shoulder, hand or foot has no joint by name.
    """
    figures = movement_of(clips)
    return {
        name: {figure: _median(values[clips.labels == label]) for figure, values in figures.items()}
        for label, name in enumerate(clips.class_names)
    }


def movement_table(
    generated: ClipSet, reference: ClipSet, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Movement of generated beside reference clips: medians over the clips of each action, and their comparison.

    The interval is a percentile bootstrap over clips (Efron and Tibshirani, 1993, chapter 13): generated and reference
    clips of an action are drawn with replacement, independently. Clips of one person are not independent: where the
    reference has several clips of few people it is too narrow as a statement about people.

    Args:
        generated: clips with an action.
        reference: real clips of the same classes; an action without clips on a side is left out.
        resamples: R.
        seed: of the bootstrap.

    Returns:
        action -> figure -> ``{"generated", "reference", "ratio", "ci95": [low, high], "clips": [n, m]}``: ratio is
        generated / reference; for `DIFFERENCES` ``"difference"`` instead, generated - reference. None where undefined.

    Raises:
        InputError: other classes, joints or frame rates on the two sides, or joints without roles.
    """
    generated.check_same_skeleton(reference.skeleton, reference.fps, "movement: the reference clips")
    if tuple(generated.class_names) != tuple(reference.class_names):
        raise InputError(
            f"movement: classes {list(generated.class_names)} and {list(reference.class_names)} have to be the same"
        )
    sides = [(movement_of(clips), clips.labels) for clips in (generated, reference)]
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for label, action in enumerate(generated.class_names):
        if all((labels == label).any() for _, labels in sides):
            table[action] = {
                name: compare(
                    *(figures[name][labels == label] for figures, labels in sides),
                    difference=name in DIFFERENCES,
                    resamples=resamples,
                    seed=seed,
                )
                for name in FIGURES
            }
    return table


def compare(
    generated: Array, reference: Array, *, difference: bool = False, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Medians of two samples and their ratio (or difference) with a bootstrap interval; see `movement_table`.

    Args:
        generated: (N,); NaN entries are left out.
        reference: (M,).
        difference: generated - reference instead of generated / reference.
        resamples: R.
        seed: of the bootstrap.
    """
    kind = "difference" if difference else "ratio"
    samples = [values[np.isfinite(values)] for values in (generated, reference)]
    result: dict[str, Any] = {
        "generated": _number(_median(generated)), "reference": _number(_median(reference)),
        kind: None, "ci95": [None, None], "clips": [len(values) for values in samples],
    }  # fmt: skip
    if not all(len(values) for values in samples):
        return result
    random = np.random.default_rng([seed, 23])
    medians = [np.median(random.choice(values, (resamples, len(values))), axis=1) for values in samples]
    top, bottom = (np.append(drawn, np.median(values)) for drawn, values in zip(medians, samples, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        compared = top - bottom if difference else top / bottom
    result[kind] = _number(float(compared[-1]))
    if np.isfinite(compared).all():
        result["ci95"] = [float(end) for end in np.percentile(compared[:-1], [2.5, 97.5])]
    return result


def hand_spectra(clips: ClipSet) -> tuple[Array, dict[str, Array]]:
    """Amplitude over frequency of the hands, root mean over the clips of each action.

    Args:
        clips: clips with an action.

    Returns:
        (K,) Hz, `BIN` apart at most and up to the Nyquist frequency; action -> (K,) m/sqrt(Hz).

    Raises:
        InputError: a shoulder, hand or foot has no joint by name.
    """
    limbs = Limbs.of(clips.skeleton)
    bins = max(math.ceil(clips.fps / BIN - 1e-9), *(len(positions) for positions in clips.positions))
    frequency = np.asarray(np.fft.rfftfreq(bins, 1 / clips.fps), dtype=np.float64)
    result: dict[str, Array] = {}
    for label, action in enumerate(clips.class_names):
        rows = [
            power_spectrum(relative_to_chest(clips.positions[row], limbs), clips.fps, bins)[1]
            for row in np.flatnonzero(clips.labels == label).tolist()
        ]
        if rows:
            result[action] = np.asarray(np.sqrt(np.mean(rows, axis=0)))
    return frequency, result


def _median(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
