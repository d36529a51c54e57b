"""Slip of feet: hand-made stances, swings and slides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from motiondiff.data.clips import ClipSet
from motiondiff.data.synthetic import synthetic_skeleton
from motiondiff.evaluation.physics import clip_physics
from motiondiff.evaluation.stance import action_slips, feet_of, stance_metrics, stances
from motiondiff.skeleton.skeleton import Skeleton

FPS = 20.0
SKELETON = synthetic_skeleton()
LEFT, RIGHT = feet_of(SKELETON)


def standing(frames: int) -> np.ndarray:
    """(T, J, 3): the simulated body in its rest pose on the floor."""
    rest = SKELETON.rest_positions
    return np.repeat((rest - [0, rest[:, 1].min(), 0])[None], frames, axis=0)


def clip_set(clips: list[np.ndarray], labels: list[int], skeleton: Skeleton = SKELETON) -> ClipSet:
    return ClipSet(
        positions=[clip.astype(np.float32) for clip in clips], labels=np.array(labels),
        ids=[str(number) for number in range(len(clips))], subjects=[""] * len(clips),
        class_names=("a", "b"), skeleton=skeleton, fps=FPS,
    )  # fmt: skip


def walking(slide: float = 0.0, lift: float = 0.03, seconds: int = 4) -> np.ndarray:
    """Each foot rests .6 s and swings by 1 m in .4 s, ``lift`` m above the floor; it slides in stance."""
    clip = standing(round(seconds * FPS))
    for foot, shift in ((LEFT, 0), (RIGHT, 10)):
        phase = (np.arange(len(clip)) + shift) % 20
        cycles = (np.arange(len(clip)) + shift) // 20
        swing = np.clip((phase - 12) / 8, 0, 1)
        clip[:, foot, 2] = cycles * (1 + slide) + swing + slide * np.clip(phase / 12, 0, 1)
        clip[:, foot, 1] += lift * np.sin(np.pi * swing)
    return clip


def test_feet_by_role() -> None:
    assert [SKELETON.names[joint] for joint in (LEFT, RIGHT)] == ["left_toe", "right_toe"]


def test_a_still_clip_is_one_stance_of_each_foot() -> None:
    result = stances(standing(40), SKELETON, FPS)
    assert [(s.foot, s.start, s.stop, s.slip) for s in result] == [(LEFT, 0, 39, 0), (RIGHT, 0, 39, 0)]
    assert result[0].seconds == pytest.approx(1.95)
    assert stance_metrics(clip_set([standing(40)], [0])) == {"slip": 0, "slip_speed": 0, "stance_share": 1}


def test_a_foot_that_slides_by_3_cm() -> None:
    """Ten frames of 3 mm (.06 m/s), then still."""
    clip = standing(30)
    clip[:, LEFT, 0] += 0.003 * np.clip(np.arange(30) - 5, 0, 10)
    left, right = stances(clip, SKELETON, FPS)
    assert left.slip == pytest.approx(0.03) and left.seconds == pytest.approx(1.45) and right.slip == 0
    # forth and back counts as far as it goes; a path would count twice
    clip[:, LEFT, 0] = standing(1)[0, LEFT, 0] + 0.003 * np.clip(10 - np.abs(np.arange(30) - 15), 0, 10)
    assert stances(clip, SKELETON, FPS)[0].slip == pytest.approx(0.03)


def test_the_swinging_leg_is_no_stance() -> None:
    """The foot swings 3 cm above the floor at 2.5 m/s: what a height alone calls sliding."""
    clip = walking()
    result = stances(clip, SKELETON, FPS)
    assert {round(stance.seconds, 2) for stance in result if stance.start and stance.stop < len(clip) - 1} == {0.6}
    assert max(stance.slip for stance in result) == pytest.approx(0, abs=1e-6)
    assert clip_physics(clip.astype(np.float32), SKELETON, FPS)["foot_skate"] > 0.4
    metrics = stance_metrics(clip_set([clip], [0]))
    assert metrics["slip"] == pytest.approx(0, abs=1e-6) and metrics["stance_share"] == pytest.approx(0.6, abs=0.03)


def test_a_slide_in_each_stance_of_a_walk() -> None:
    metrics = stance_metrics(clip_set([walking(slide=0.04)], [0]))
    assert metrics["slip"] == pytest.approx(0.04, abs=0.004) and metrics["slip_speed"] == pytest.approx(0.067, abs=0.01)


def test_hysteresis() -> None:
    """At .25 m/s a stance lasts and none begins; at .35 m/s it ends."""
    speeds = np.r_[np.full(5, 0.0), np.full(5, 0.25), np.full(5, 0.35), np.full(5, 0.25), np.full(5, 0.1)]
    clip = standing(len(speeds) + 1)
    clip[1:, LEFT, 0] += np.cumsum(speeds) / FPS
    left = [stance for stance in stances(clip, SKELETON, FPS) if stance.foot == LEFT]
    assert [(stance.start, stance.stop) for stance in left] == [(0, 10), (20, 25)]
    assert [stance.slip for stance in left] == pytest.approx([5 * 0.25 / FPS, 5 * 0.1 / FPS])


def test_a_raised_foot_and_a_short_stop_are_no_stances() -> None:
    clip = standing(40)
    clip[20:, LEFT, 1] += 0.1  # still, in the air
    assert [stance.stop for stance in stances(clip, SKELETON, FPS) if stance.foot == LEFT] == [19]
    moving = standing(40)
    moving[:, LEFT, 0] += np.cumsum(np.where(np.arange(40) == 20, 0, 2.0)) / FPS  # one slow step
    assert not [stance for stance in stances(moving, SKELETON, FPS) if stance.foot == LEFT]


def test_height_is_the_foots_own() -> None:
    """A body that floats by 30 cm still has stances; floating is another figure."""
    assert len(stances(standing(40) + np.array([0, 0.3, 0]), SKELETON, FPS)) == 2


def test_white_noise_moves_a_standing_foot_by_its_size() -> None:
    """Noise of 1 mm: some millimetres, however long the stance; its path grows with time."""
    clip = standing(400)
    clip += 0.001 * np.random.default_rng(0).normal(size=clip.shape)
    assert stance_metrics(clip_set([clip], [0]))["slip"] < 0.006
    path = np.linalg.norm(np.diff(clip[:, LEFT][:, [0, 2]], axis=0), axis=-1).sum()
    assert path > 0.5


def test_every_action_weighs_the_same() -> None:
    clips = clip_set([standing(40), walking(slide=0.04), walking(slide=0.04)], [0, 1, 1])
    rows = action_slips(clips)
    assert rows["a"]["slip"] == 0 and rows["b"]["slip"] == pytest.approx(0.04, abs=0.004)
    assert stance_metrics(clips)["slip"] == pytest.approx(rows["b"]["slip"] / 2)


def test_without_feet_or_stances_it_is_undefined() -> None:
    arm = Skeleton(("root", "tail"), (-1, 0), np.array([[0, 0, 0], [0, -1, 0]], np.float32))
    clips = clip_set([np.zeros((10, 2, 3))], [0], arm)
    assert all(np.isnan(value) for value in stance_metrics(clips).values())
    fast = standing(40)
    fast[:, :, 0] += 2 * np.arange(40)[:, None] / FPS
    metrics = stance_metrics(clip_set([fast], [0]))
    assert np.isnan(metrics["slip"]) and metrics["stance_share"] == 0


@pytest.mark.real_data
def test_real_walkers_stand(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Bandai-Namco, walk, style normal: low feet have .5 m/s and more, feet in stance slip by 2 cm."""
    from motiondiff.data.readers.bvh.reader import read_bvh

    files = sorted(real_data("bandai_namco").rglob("dataset-2_walk_normal_00*.bvh"))[:3]
    assert files
    for file in files:
        motion = read_bvh(file)
        positions, fps = motion.positions, motion.fps
        slips = [stance.slip for stance in stances(positions, motion.skeleton, fps)]
        assert len(slips) >= 3 and 0.005 < np.median(slips) < 0.035
        assert clip_physics(positions, motion.skeleton, fps)["foot_skate"] > 0.4
