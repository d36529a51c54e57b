"""Movement by frequency band, tempo, reversals, jerk and range: sines of known amplitude on a body that moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from motiondiff.data.clips import ClipSet
from motiondiff.data.synthetic import synthetic_skeleton
from motiondiff.evaluation.comparison import movement_errors
from motiondiff.evaluation.movement import (
    FIGURES,
    Limbs,
    band_movement,
    clip_movement,
    compare,
    dominant_frequency,
    hand_range,
    hand_spectra,
    jerk,
    movement_table,
    power_spectrum,
    relative_to_chest,
    reversals,
)
from motiondiff.skeleton.kinect import KINECT_V1, KINECT_V2
from motiondiff.skeleton.skeleton import Skeleton
from motiondiff.skeleton.smpl import JOINT_NAMES, PARENTS

FPS = 20.0
SKELETON = synthetic_skeleton()
LIMBS = Limbs.of(SKELETON)


def still(frames: int) -> np.ndarray:
    """(T, J, 3): the simulated body in its rest pose."""
    return np.repeat(SKELETON.rest_positions[None], frames, axis=0)


def waving(
    amplitude: float, frequency: float, seconds: float = 6.0, *, hands: tuple[int, ...] = LIMBS.hands
) -> np.ndarray:
    """A body that walks and sways; its hands swing sideways by ``amplitude`` m (peak) relative to it."""
    time = np.arange(round(seconds * FPS)) / FPS
    clip = still(len(time))
    clip[:, :, 2] += 1.3 * time[:, None]
    clip[:, :, 0] += 0.2 * np.sin(2 * np.pi * 2.3 * time)[:, None]
    clip[:, list(hands), 0] += amplitude * np.sin(2 * np.pi * frequency * time + 0.4)[:, None]
    return clip


def hands_of(clip: np.ndarray) -> np.ndarray:
    return relative_to_chest(clip, LIMBS)


def clip_set(clips: list[np.ndarray], labels: list[int], names: tuple[str, ...] = ("wave", "walk")) -> ClipSet:
    return ClipSet(
        positions=[clip.astype(np.float32) for clip in clips], labels=np.array(labels),
        ids=[str(number) for number in range(len(clips))], subjects=[""] * len(clips),
        class_names=names, skeleton=SKELETON, fps=FPS,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("names", "parents", "expected"),
    [
        (KINECT_V1.names, KINECT_V1.parents, ("ShoulderCenter", "HandLeft", "HandRight", "FootLeft", "FootRight")),
        (KINECT_V2.names, KINECT_V2.parents, ("SpineShoulder", "HandLeft", "HandRight", "FootLeft", "FootRight")),
        (JOINT_NAMES[:22], PARENTS[:22], ("spine3", "left_wrist", "right_wrist", "left_foot", "right_foot")),
        (SKELETON.names, SKELETON.parents, ("chest", "left_wrist", "right_wrist", "left_toe", "right_toe")),
    ],
)
def test_limbs_by_role(names: tuple[str, ...], parents: tuple[int, ...], expected: tuple[str, ...]) -> None:
    limbs = Limbs.of(Skeleton(names, parents, np.zeros((len(names), 3), np.float32)))
    assert tuple(names[joint] for joint in (limbs.chest, *limbs.hands, *limbs.feet)) == expected


def test_joints_without_roles_are_refused() -> None:
    leg = Skeleton(("hip", "foot"), (-1, 0), np.zeros((2, 3), np.float32))
    with pytest.raises(InputError, match="no joint is the collar or shoulder of both sides"):
        Limbs.of(leg)


def test_a_sine_on_a_moving_body() -> None:
    """5 cm at 2 Hz: 5 / sqrt 2 cm in the band, nothing in the others; four changes of direction a second."""
    signal = hands_of(waving(0.05, 2.0))
    assert band_movement(signal, FPS, 1, 4) == pytest.approx(0.05 / np.sqrt(2), rel=0.03)
    assert band_movement(signal, FPS, 0.3, 1) < 0.003 and band_movement(signal, FPS, 5, 10) < 0.001
    assert dominant_frequency(signal, FPS) == pytest.approx(2.0, abs=0.05)
    assert reversals(signal, FPS) == pytest.approx(4.0, abs=0.2)
    assert hand_range(signal) == pytest.approx(0.1, abs=0.002)
    feet = relative_to_chest(waving(0.05, 2.0), LIMBS, "feet")
    assert band_movement(feet, FPS, 1, 4) == pytest.approx(0, abs=1e-9)


def test_one_hand_of_two_counts_by_half_its_power() -> None:
    signal = hands_of(waving(0.05, 2.0, hands=LIMBS.hands[:1]))
    assert band_movement(signal, FPS, 1, 4) == pytest.approx(0.05 / 2, rel=0.03)
    assert reversals(signal, FPS) == pytest.approx(4.0, abs=0.2)  # of the hand that moves


@pytest.mark.parametrize(("frequency", "reversal"), [(0.7, 1.4), (1.4, 2.8), (3.2, 6.4)])
def test_tempo_by_hand(frequency: float, reversal: float) -> None:
    signal = hands_of(waving(0.1, frequency))
    assert dominant_frequency(signal, FPS) == pytest.approx(frequency, abs=0.05)
    assert reversals(signal, FPS) == pytest.approx(reversal, abs=0.34)  # one more or less in six seconds


def test_small_excursions_are_no_reversals() -> None:
    """A swing of 4 mm is below the dead zone of 1 cm, alone or on top of a slow one."""
    assert reversals(hands_of(waving(0.004, 3.0)), FPS) == 0
    slow = waving(0.2, 0.5) + waving(0.004, 4.5) - waving(0.0, 1.0)
    assert reversals(hands_of(slow), FPS) == pytest.approx(1.0, abs=0.2)


def test_a_still_clip() -> None:
    figures = clip_movement(still(120), LIMBS, FPS)
    assert set(figures) == set(FIGURES)
    assert np.isnan(figures.pop("frequency"))
    assert all(value == pytest.approx(0, abs=1e-9) for value in figures.values())


def test_white_noise_has_movement_by_bandwidth() -> None:
    """Noise of 1 cm on each axis: a band of B Hz holds B / Nyquist of its power; jerk is sqrt 20 times the noise."""
    clip = still(4000)
    clip += 0.01 * np.random.default_rng(0).normal(size=clip.shape)
    signal = hands_of(clip)
    total = 0.01 * np.sqrt(3 * 2)  # of hand and chest
    for low, high in ((0.3, 1.0), (1.0, 4.0), (5.0, 10.0)):
        assert band_movement(signal, FPS, low, high) == pytest.approx(total * np.sqrt((high - low) / 10), rel=0.05)
    # the length of a 3-d normal vector is 1.596 times its deviation
    assert jerk(clip, FPS) == pytest.approx(0.01 * np.sqrt(20) * 1.596 * FPS**3, rel=0.02)


def test_clips_too_short_for_a_band() -> None:
    assert np.isnan(band_movement(hands_of(waving(0.05, 2, 3.3)), FPS, 0.3, 1))
    assert np.isfinite(band_movement(hands_of(waving(0.05, 2, 3.35)), FPS, 0.3, 1))
    short = clip_movement(waving(0.05, 2, 0.9), LIMBS, FPS)
    assert [name for name, value in short.items() if np.isnan(value)] == [
        "hands_0.3-1hz", "hands_1-4hz", "feet_0.3-1hz", "feet_1-4hz", "frequency", "reversals",
    ]  # fmt: skip
    assert np.isnan(band_movement(hands_of(waving(0.05, 2)), 8.0, 5, 10))  # above the Nyquist frequency


def test_jerk_of_a_cubic() -> None:
    time = np.arange(12) / FPS
    clip = np.zeros((12, 2, 3))
    clip[:, 1, 0] = time**3
    assert jerk(clip, FPS) == pytest.approx(3)  # 6 of one joint of two
    assert np.isnan(jerk(clip[:3], FPS))


def test_the_spectrum_holds_the_power() -> None:
    signal = hands_of(waving(0.05, 2.0))
    frequency, power = power_spectrum(signal, FPS)
    assert frequency[1] <= 0.05 and frequency[-1] == 10
    assert power.sum() * frequency[1] == pytest.approx(2 * 0.05**2 / 2, rel=0.05)  # both hands
    frequency, spectra = hand_spectra(clip_set([waving(0.05, 2.0), waving(0.05, 1.0, 3)], [0, 0]))
    assert list(spectra) == ["wave"] and len(spectra["wave"]) == len(frequency)


def table_of(amplitude: float, frequency: float, count: int = 6) -> ClipSet:
    rng = np.random.default_rng(int(1000 * amplitude))
    clips = [waving(amplitude * rng.uniform(0.9, 1.1), frequency) for _ in range(count)]
    return clip_set([*clips, still(100)], [*[0] * count, 1])


def test_movement_table() -> None:
    """Half the amplitude at another tempo: ratio .5, difference of frequencies .6 Hz, within their intervals."""
    table = movement_table(table_of(0.04, 2.0), table_of(0.08, 1.4))
    wave = table["wave"]
    assert set(table) == {"wave", "walk"} and set(wave) == set(FIGURES)
    band = wave["hands_1-4hz"]
    assert band["clips"] == [6, 6] and band["ratio"] == pytest.approx(0.5, rel=0.1)
    assert band["generated"] == pytest.approx(0.04 / np.sqrt(2), rel=0.1)
    low, high = band["ci95"]
    assert low < band["ratio"] < high < 0.6 and low > 0.4
    assert wave["frequency"]["difference"] == pytest.approx(0.6, abs=0.05) and "ratio" not in wave["frequency"]
    assert wave["reversals"]["difference"] == pytest.approx(1.2, abs=0.35)
    assert table["walk"]["frequency"] == {
        "generated": None, "reference": None, "difference": None, "ci95": [None, None], "clips": [0, 0],
    }  # fmt: skip
    assert table == movement_table(table_of(0.04, 2.0), table_of(0.08, 1.4))
    same = movement_table(table_of(0.08, 1.4), table_of(0.08, 1.4))["wave"]
    assert same["hands_1-4hz"]["ratio"] == same["jerk"]["ratio"] == 1 and same["frequency"]["difference"] == 0


def test_errors_of_movement_are_logarithms() -> None:
    """Half the amplitude is as wrong as twice it; an action whose hands stand still has no part in the swing."""
    right = table_of(0.08, 2.0)
    halved, doubled = (replace(right, positions=[clip * factor for clip in right.positions]) for factor in (0.5, 2))
    assert movement_errors(right, right) == {"swing_error": 0, "jerk_error": 0}
    for made in (halved, doubled):
        assert movement_errors(made, right)["swing_error"] == pytest.approx(np.log(2), rel=1e-3)
        assert movement_errors(made, right)["jerk_error"] == pytest.approx(np.log(2), rel=1e-3)
    names = tuple(f"joint{number}" for number in range(len(right.skeleton.names)))
    unnamed = replace(right, skeleton=replace(right.skeleton, names=names))
    assert movement_errors(unnamed, unnamed) == {}


def test_the_interval_is_of_the_median() -> None:
    """Against a naive loop with the same numbers of clips; NaN entries are left out."""
    x, y = np.array([1.0, 2, 3, np.nan, 10]), np.array([2.0, 2.5, 4])
    result = compare(x, y, resamples=20_000)
    rng = np.random.default_rng(5)
    drawn = [np.median(rng.choice(x[np.isfinite(x)], 4)) / np.median(rng.choice(y, 3)) for _ in range(20_000)]
    assert result["ratio"] == pytest.approx(1.0) and result["clips"] == [4, 3]
    np.testing.assert_allclose(result["ci95"], np.percentile(drawn, [2.5, 97.5]), rtol=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda clips: clips.with_classes(["wave"]), "have to be the same"),
        (lambda clips: replace(clips, fps=10.0), "10 fps"),
    ],
)
def test_sets_that_cannot_be_compared(change: Callable[[ClipSet], ClipSet], words: str) -> None:
    clips = table_of(0.04, 2.0)
    with pytest.raises(InputError, match=words):
        movement_table(clips, change(clips))


@pytest.mark.real_data
def test_real_people_wave(real_data: Callable[[str], Path]) -> None:
    """Bandai-Namco, style normal: the hand waves 24 cm wide, 1.65 times a second."""
    from motiondiff.data.readers.bvh.reader import read_bvh

    files = sorted(real_data("bandai_namco").rglob("dataset-2_wave-right-hand_normal_*.bvh"))
    assert len(files) > 20
    figures = []
    for file in files:
        motion = read_bvh(file)
        figures.append(clip_movement(motion.positions, Limbs.of(motion.skeleton), motion.fps))
    medians = {name: np.median([row[name] for row in figures]) for name in FIGURES}
    assert 0.2 < medians["hand_range"] < 0.28 and 1.4 < medians["frequency"] < 1.9
