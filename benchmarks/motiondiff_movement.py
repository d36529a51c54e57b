"""Movement of generated and of real Bandai-Namco motions: foot skating, jerk, and the swing of a waving hand.

Usage: python benchmarks/motiondiff_movement.py STORE RUN [--style normal] [--count 12] [--steps 10]

Medians over ``count`` generated motions and up to 40 real clips (of all splits) of each action, all in one style: a
feminine wave swings the hand by 3 cm, a normal one by 24.

- ``low_feet_speed``: mean horizontal speed (m/s) of foot and toe joints while they are below 8 cm;
- ``jerk``: mean length of the joints' third derivative (m/s^3);
- ``swing``, ``swing_speed``, ``swing_rate`` for ``wave-right-hand``, over the middle half of the motion, along the main
  axis of the hand's movement relative to the chest: range (cm), mean speed (cm/s), swings per second.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from motiondiff.data.store import MotionStore
from motiondiff.pipelines.sampling import SampleOptions, generate, load_pipeline
from motiondiff.skeleton.motion import Motion

ACTIONS = ("walk", "run", "wave-right-hand")
REAL_CLIPS = 40
LOW_FOOT = 0.08


def measure(motion: Motion) -> dict[str, float]:
    """Metrics of one motion; NaN where no foot is low."""
    positions, fps = motion.positions, motion.fps
    feet = [index for index, name in enumerate(motion.skeleton.names) if "Toe" in name or "Foot" in name]
    speed = np.linalg.norm(np.diff(positions[:, feet], axis=0)[..., [0, 2]], axis=-1) * fps
    low = positions[:-1, feet, 1] < LOW_FOOT
    jerk = np.linalg.norm(np.diff(positions, n=3, axis=0), axis=-1).mean() * fps**3
    figures = {"low_feet_speed": float(speed[low].mean()) if low.any() else np.nan, "jerk": float(jerk)}
    if motion.action == "wave-right-hand":
        hand = positions[:, motion.skeleton.index("Hand_R")] - positions[:, motion.skeleton.index("Chest")]
        middle = hand[len(hand) // 4 : 3 * len(hand) // 4]
        steps = np.diff(middle, axis=0)
        axis = np.linalg.svd(steps - steps.mean(0), full_matrices=False)[2][0]
        along = steps @ axis * fps
        figures["swing"] = float(np.ptp(middle @ axis)) * 100
        figures["swing_speed"] = float(np.abs(along).mean()) * 100
        figures["swing_rate"] = float((np.diff(np.sign(along)) != 0).sum() / 2 / (len(along) / fps))
    return figures


def medians(motions: list[Motion]) -> dict[str, float]:
    """Median of each metric over motions."""
    rows = [measure(motion) for motion in motions]
    return {name: round(float(np.nanmedian([row[name] for row in rows])), 3) for name in rows[0]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("run")
    parser.add_argument("--style", default="normal")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    store = MotionStore(arguments.store)
    pipeline = load_pipeline(arguments.run, "dpmsolver++")
    result = {}
    for action in ACTIONS:
        in_style = store.columns["style"] == store.styles.index(arguments.style)
        known = np.flatnonzero(in_style & (store.columns["action"] == store.actions.index(action)))[:REAL_CLIPS]
        options = SampleOptions(
            actions=(action,), count=arguments.count, style=arguments.style, steps=arguments.steps, seed=1
        )
        result[action] = {
            "generated": medians(list(generate(pipeline, options))),
            "real": medians([store[int(clip)] for clip in known]),
        }
    print(json.dumps(result, indent=2))
