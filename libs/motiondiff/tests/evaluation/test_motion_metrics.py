"""Physics, poses and memorisation: hand-computed values and invariants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion, synthetic_skeleton
from motiondiff.evaluation.comparison import check_targets
from motiondiff.evaluation.memorisation import TrainingMemory, memorisation_metrics
from motiondiff.evaluation.physics import clip_physics, physics_metrics
from motiondiff.recognition.pose_descriptors import describe, on_body
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

LEG = Skeleton(("hip", "foot"), (-1, 0), np.array([[0, 0, 0], [0, -1, 0]], np.float32))


def leg(foot: list[list[float]], hip_height: float = 1.0) -> np.ndarray:
    """(T, 2, 3): a hip that stands still above the origin, a foot where it is put."""
    clip = np.zeros((len(foot), 2, 3), np.float32)
    clip[:, 0, 1] = hip_height
    clip[:, 1] = foot
    return clip


def test_physics_by_hand() -> None:
    """10 fps; the foot slides 1 cm, then 5 cm, then lifts while it moves by 30 cm."""
    clip = leg([[0, 0.02, 0], [0.01, 0.02, 0], [0.01, -0.04, 0.05], [0.31, 0.5, 0.05], [0.31, 0.5, 0.05]])
    metrics = clip_physics(clip, LEG, 10.0)
    assert metrics["foot_skate"] == pytest.approx((0.1 + 0.5) / 2, rel=1e-5)
    assert metrics["foot_skate_share"] == pytest.approx(1 / 2)
    assert metrics["float"] == pytest.approx((0.02 + 0.02 + 0.5 + 0.5) / 5)
    assert metrics["penetration"] == pytest.approx(0.04 / 5)
    bone = np.linalg.norm(clip[:, 1] - clip[:, 0], axis=-1)
    assert metrics["bone_length_drift"] == pytest.approx(bone.max() - bone.min())


def test_jitter_is_the_third_derivative() -> None:
    """x = t^3 has the third derivative 6; parabolas have none. The hip stands still: half of the joints."""
    time = np.arange(12) / 20
    cubic = leg(np.stack([time**3, 0 * time, 0 * time], 1).tolist())
    assert clip_physics(cubic, LEG, 20.0)["jitter"] == pytest.approx(6 / 2, rel=1e-2)
    square = leg(np.stack([time**2, 0 * time, 0 * time], 1).tolist())
    assert clip_physics(square, LEG, 20.0)["jitter"] == pytest.approx(0, abs=0.02)


def test_physics_of_a_set_is_the_mean_over_classes() -> None:
    still, high = leg([[0, 0.0, 0]] * 5), leg([[0, 0.6, 0]] * 5)
    clips = ClipSet(
        positions=[still, still, still, high], labels=np.array([0, 0, 0, 1]), ids=list("abcd"), subjects=[""] * 4,
        class_names=("stand", "hover"), skeleton=LEG, fps=10.0,
    )  # fmt: skip
    metrics = physics_metrics(clips)
    assert metrics["float"] == pytest.approx(0.3) and metrics["penetration"] == 0 and metrics["jitter"] == 0
    assert np.isnan(clip_physics(high, LEG, 10.0)["foot_skate"])  # no low foot
    assert np.isnan(physics_metrics(replace(clips, positions=[still[:3]] * 4))["jitter"])


def test_a_common_body_keeps_directions() -> None:
    clip = leg([[3, 1, 4]])
    placed = on_body(clip, LEG.parents, np.array([0, 2.0], np.float32))
    np.testing.assert_allclose(placed[0], [[0, 0, 0], [1.2, 0, 1.6]], atol=1e-6)
    folded = on_body(leg([[0, 1, 0]]), LEG.parents, np.array([0, 2.0], np.float32))
    np.testing.assert_allclose(folded, 0)  # the foot in the hip: no direction


def test_the_distance_is_a_root_mean_square_over_joints() -> None:
    lengths = np.array([0, 1.0], np.float32)
    down, aside = (describe(leg([foot] * 20), LEG, lengths) for foot in ([0, 0, 0], [1, 1, 0]))
    # of two joints one is sqrt 2 away, always
    assert np.linalg.norm(down - aside) == pytest.approx(1.0)


def test_poses_do_not_depend_on_place_heading_body_and_length() -> None:
    from motiondiff.skeleton.motion import RigidTransform, apply_transform

    motion = simulate_motion("wave", 3, fps=10)
    lengths = synthetic_skeleton().bone_lengths
    tall = Motion(
        root=motion.root * 1.3, rotations=motion.rotations, fps=10,
        skeleton=motion.skeleton.with_bone_lengths(1.3 * motion.skeleton.bone_lengths),
    )  # fmt: skip
    points = [
        describe(m.positions, m.skeleton, lengths)
        for m in (motion, apply_transform(motion, RigidTransform(2, (1, 0, 3))), tall)
    ]
    np.testing.assert_allclose(points[1], points[0], atol=1e-5)
    np.testing.assert_allclose(points[2], points[0], atol=1e-5)


def test_copies_are_called_out(store: MotionStore) -> None:
    """Verbatim, on another body, and as a part of a clip; held-out clips are none."""
    train, held_out = (ClipSet.from_store(store, split=split) for split in ("train", "test"))
    memory = TrainingMemory(train)
    verbatim = memory.nearest(train)
    assert verbatim.clip.tolist() == list(range(len(train))) and verbatim.distance.max() < 1e-6
    assert (memory.own.distance > memory.copy_distance).all()
    bigger = replace(train, positions=[clip * np.float32(1.1) for clip in train.positions])
    assert memory.nearest(bigger).distance.max() < memory.copy_distance
    parts = replace(train, positions=[clip[: round(0.75 * len(clip))] for clip in train.positions])
    assert memory.nearest(parts).distance.max() < memory.copy_distance
    known = memory.nearest(held_out)
    assert (known.distance > memory.copy_distance).all()
    p5 = float(np.percentile(known.distance, 5))
    metrics = memorisation_metrics(verbatim, memory.copy_distance, p5)
    assert metrics["copies"] == 1 and metrics["below_held_out_p5"] == 1 and metrics["nearest_training_median"] < 1e-6
    assert memorisation_metrics(known, memory.copy_distance, p5)["copies"] == 0


def test_nearest_is_a_naive_search(store: MotionStore) -> None:
    train, held_out = (ClipSet.from_store(store, split=split) for split in ("train", "test"))
    memory = TrainingMemory(train)
    whole = [describe(clip, train.skeleton, memory.lengths) for clip in train.positions]
    for row, clip in enumerate(held_out.positions[:4]):
        mine = describe(clip, held_out.skeleton, memory.lengths)
        # parts can only be nearer than whole clips are
        assert memory.nearest(held_out).distance[row] <= min(np.linalg.norm(mine - other) for other in whole) + 1e-9


def movement(
    swing: dict[str, float], tempo: dict[str, float], jerk: dict[str, float], small: str = ""
) -> dict[str, Any]:
    return {
        action: {
            "hands_1-4hz": {"ratio": swing[action], "reference": 0.002 if action == small else 0.05},
            "frequency": {"difference": tempo[action], "reference": 1.0},
            "jerk": {"ratio": jerk[action], "reference": 50.0},
        }
        for action in swing
    }


def metrics(**changes: float | None) -> dict[str, dict[str, float | None]]:
    values: dict[str, float | None] = {
        "accuracy": 0.8, "within_class_diversity": 0.1, "slip": 0.02, "below_held_out_p5": 0.1,
    }  # fmt: skip
    return {name: {"mean": value} for name, value in (values | changes).items()}


def test_targets_are_two_sided_and_name_the_worst_action() -> None:
    good = movement({"wave": 0.8, "clap": 1.2}, {"wave": -0.3, "clap": 0.1}, {"wave": 0.7, "clap": 1.5})
    result = check_targets(metrics(), metrics(), {"training": good, "held_out": good})
    assert all(target["met"] for target in result.values())
    assert (result["hands_1-4hz_ratio"]["value"], result["hands_1-4hz_ratio"]["action"]) == (0.8, "wave")
    assert (result["frequency_difference"]["value"], result["frequency_difference"]["action"]) == (-0.3, "wave")
    assert result["jerk_ratio"]["action"] == "clap"  # 1.5 is farther from 1 than 0.7 is: its logarithm
    assert result["jerk_ratio"]["held_out"] == {"value": 1.5, "action": "clap"}
    for changes in (
        {"wave": 0.7, "clap": 1.0},  # damped
        {"wave": 1.0, "clap": 1.4},  # exaggerated
    ):
        table = movement(changes, {"wave": 0.4, "clap": 0}, {"wave": 1.0, "clap": 0.5})
        result = check_targets(metrics(), metrics(), {"training": table, "held_out": good})
        assert [result[name]["met"] for name in ("hands_1-4hz_ratio", "frequency_difference", "jerk_ratio")] == [
            False
        ] * 3


def test_targets_of_still_actions_and_of_skeletons_without_roles() -> None:
    table = movement({"wave": 0.9, "sit": 9.0}, {"wave": 0, "sit": 0}, {"wave": 1, "sit": 1}, small="sit")
    result = check_targets(metrics(), metrics(), {"training": table, "held_out": table})
    assert result["hands_1-4hz_ratio"]["action"] == "wave"  # hands that move by 2 mm have no ratio
    without = check_targets(metrics(), metrics(), None)
    assert without["hands_1-4hz_ratio"]["met"] is None and without["accuracy_ratio"]["met"]


def test_targets_of_sets() -> None:
    bad = check_targets(
        metrics(accuracy=0.7, within_class_diversity=0.07, slip=0.031, below_held_out_p5=0.21), metrics(), None
    )
    names = ("slip_ratio", "accuracy_ratio", "within_class_diversity_ratio", "below_held_out_p5")
    assert [bad[name]["met"] for name in names] == [False] * 4
    assert bad["slip_ratio"]["value"] == pytest.approx(1.55)
    assert check_targets(metrics(slip=None), metrics(), None)["slip_ratio"]["met"] is None
    chance = check_targets(metrics(accuracy=0.1), metrics(accuracy=0.1), None)["accuracy_ratio"]
    assert chance["met"] is None and "recognises 0.10 of real motion" in chance["note"]
