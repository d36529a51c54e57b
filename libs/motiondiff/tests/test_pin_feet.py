"""Standing feet that stay in place: slip before and after on simulated and recorded walking, and the commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from motiondiff.cli import main
from motiondiff.data.readers.motion_file import read_motion
from motiondiff.data.synthetic import simulate_motion
from motiondiff.evaluation.movement import Limbs, relative_to_chest
from motiondiff.evaluation.stance import feet_of, pin_feet, stances
from motiondiff.export.npz import write_npz
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton


def slips(motion: Motion) -> list[float]:
    return [stance.slip for stance in stances(motion.positions, motion.skeleton, motion.fps)]


def walk_without_slip(seed: int = 0) -> Motion:
    """A simulated walk (no recording) whose root follows from the lower foot, which stays where it is."""
    motion = simulate_motion("walk", seed)
    feet = motion.positions[:, feet_of(motion.skeleton)] - motion.root[:, None]
    root = motion.root.copy()
    for frame in range(1, len(motion)):
        lower = int((feet[frame, :, 1] + feet[frame - 1, :, 1]).argmin())
        root[frame, [0, 2]] = root[frame - 1, [0, 2]] - (feet[frame] - feet[frame - 1])[lower, [0, 2]]
    return replace(motion, root=root)


def drifting(motion: Motion, speed: float = 0.1, sway: float = 0.02) -> Motion:
    """The motion on ice: a drift along x (m/s) and a sway along z (m)."""
    time = np.arange(len(motion)) / motion.fps
    root = motion.root.copy()
    root[:, 0] += speed * time
    root[:, 2] += sway * np.sin(2 * np.pi * 0.7 * time)
    return replace(motion, root=root)


@pytest.mark.parametrize("seed", range(3))
def test_a_simulated_walk_that_drifts(seed: int) -> None:
    motion = walk_without_slip(seed)
    moved = drifting(motion)
    pinned = pin_feet(moved)
    assert len(slips(motion)) >= 3 and np.median(slips(motion)) < 1e-3
    assert np.median(slips(moved)) > 0.012 and np.median(slips(pinned)) < 1e-3
    assert_only_the_root_moved(moved, pinned)


def assert_only_the_root_moved(before: Motion, after: Motion) -> None:
    np.testing.assert_array_equal(before.rotations, after.rotations)
    np.testing.assert_array_equal(before.root[:, 1], after.root[:, 1])
    limbs = Limbs.of(before.skeleton)
    for limb in ("hands", "feet"):
        first, second = (relative_to_chest(motion.positions, limbs, limb) for motion in (before, after))
        assert np.abs(first - second).max() < 1e-5
    # smooth: the root takes on little acceleration
    shift = (after.root - before.root)[:, [0, 2]]
    assert np.linalg.norm(np.diff(shift, n=2, axis=0), axis=-1).max() * before.fps**2 < 4


@pytest.mark.real_data
def test_a_recorded_walk_that_drifts(real_data: Callable[[str], Path]) -> None:
    file = sorted(real_data("bandai_namco").rglob("*walk-left_normal_001.bvh"))[0]
    motion = read_motion(file)
    moved = drifting(motion, 0.1, 0.03)
    pinned = pin_feet(moved)
    real = np.median(slips(motion))
    assert real < 0.02 and np.median(slips(moved)) > 0.05
    assert np.median(slips(pinned)) < real
    assert_only_the_root_moved(moved, pinned)
    # of a recording little is changed
    assert np.abs(pin_feet(motion).root - motion.root).max() < 0.1


def test_feet_that_do_not_slip_stay() -> None:
    motion = walk_without_slip()
    still = replace(motion, root=motion.root[:1].repeat(30, 0), rotations=motion.rotations[:1].repeat(30, 0))
    np.testing.assert_allclose(pin_feet(still).root, still.root, atol=1e-5)
    swaying = drifting(still, 0.0, 0.02)
    # both feet stand in all frames: the root stands, at its mean place
    assert np.ptp(pin_feet(swaying).root[:, 2]) < 0.002
    assert pin_feet(swaying).root[:, 2].mean() == pytest.approx(swaying.root[:, 2].mean(), abs=2e-3)


def test_a_body_without_feet_and_short_clips_are_left_alone() -> None:
    skeleton = Skeleton(("a", "b"), (-1, 0), np.array([[0, 0, 0], [0, 1, 0]], dtype=np.float32))
    rotations = np.tile(np.eye(3, dtype=np.float32), (5, 2, 1, 1))
    motion = Motion(root=np.zeros((5, 3), np.float32), rotations=rotations, skeleton=skeleton, fps=20)
    assert pin_feet(motion) is motion
    walk = simulate_motion("wave", 0)
    assert pin_feet(walk.cut(0, 2)).root.shape == (2, 3)


def test_export_pins_feet(tmp_path: Path, capsys: pytest.CaptureFixture[str], store_path: Path) -> None:
    source, motion = tmp_path / "walk.npz", drifting(walk_without_slip())
    write_npz(motion, source)
    words = ["export", str(source), "--to", "npz", "--out"]
    assert (
        main([*words, str(tmp_path / "plain.npz")]) == main([*words, str(tmp_path / "pinned.npz"), "--pin-feet"]) == 0
    )
    plain, pinned = (np.load(tmp_path / f"{name}.npz")["root"] for name in ("plain", "pinned"))
    np.testing.assert_allclose(plain, motion.root, atol=1e-6)
    np.testing.assert_allclose(pinned, pin_feet(motion).root, atol=1e-6)
    capsys.readouterr()
    words = ["export", str(store_path), "--to", "pyskl", "--out", str(tmp_path / "set.pkl"), "--pin-feet"]
    assert main(words) == 2
    assert "--pin-feet: not for the data set pyskl" in capsys.readouterr().err


def test_sampled_motions_are_pinned(run_path: Path, tmp_path: Path) -> None:
    words = ["sample", str(run_path), "--action", "wave", "--steps", "2", "--seconds", "2", "--out"]
    assert main([*words, str(tmp_path / "plain")]) == main([*words, str(tmp_path / "pinned"), "--pin-feet"]) == 0
    plain, pinned = (read_motion(tmp_path / name / "wave-000.npz") for name in ("plain", "pinned"))
    np.testing.assert_array_equal(plain.rotations, pinned.rotations)
    np.testing.assert_allclose(pinned.root, pin_feet(plain).root, atol=1e-5)
