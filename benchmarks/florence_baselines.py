"""How well do plain classifiers tell the nine actions of Florence 3D apart, one actor left out?

Usage: python benchmarks/florence_baselines.py DATA, with DATA from actprompt prepare --format florence3d

From the skeletons alone, no video:

- nearest neighbour: 16 frames of the 24 coordinates of features.txt, linearly resampled, lost joints as the file has
  them (5 5 5); Euclidean distance, one neighbour;
- extremely randomised trees (1,000) on the same frames, their differences, means, deviations and ranges; 3 seeds;
- linear: ridge regression on `actprompt.skeleton.joint_angles.limb_channels`, the more active arm first, as 16 frames
  or as a temporal pyramid, each training clip there four times more with its time warped. Which of the two, and how
  much shrinkage, is chosen for each left-out actor by leaving out each of the other actors in turn; the left-out actor
  has no part in it, nor in what stands in for joints that were never tracked, nor in the scaling.

With --poses, the first two on the poses of the videos (after actprompt pose --data DATA): 16 frames of the 13 joints
from the hips in trunk lengths, with the paths of head and hips (`actprompt.skeleton.roles.body_channels`).

A figure is the share of clips named right, as the mean over the actors and over all clips.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from actprompt.data.manifest import Manifest
from actprompt.data.pose.sources import SkeletonSource
from actprompt.skeleton.joint_angles import active_side_first, limb_channels
from actprompt.skeleton.roles import body_channels, body_joints
from actprompt.skeleton.trajectory_ops import complete, fill_gaps, mean_joints, resample, temporal_pyramid, time_warp

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

LOST = 5.0
WARPED_COPIES = 4
SHRINKAGES = (100.0, 300.0, 1000.0)
VECTORS: dict[str, Callable[[Array], Array]] = {
    "16 frames": lambda channels: resample(channels).ravel(),
    "temporal pyramid": temporal_pyramid,
}


def figures(right: npt.NDArray[np.bool_], actors: list[str]) -> dict[str, Any]:
    """Shares of clips named right: mean over actors, over clips, and of each actor."""
    by_actor = {actor: float(right[np.array(actors) == actor].mean()) for actor in sorted(set(actors))}
    return {
        "mean_over_actors": round(float(np.mean(list(by_actor.values()))), 4),
        "over_clips": round(float(right.mean()), 4),
        "actors": {actor: round(value, 3) for actor, value in by_actor.items()},
    }


def leave_one_actor_out(
    features: Array, labels: Labels, actors: list[str], name: Callable[[Array, Labels, Array], Labels]
) -> npt.NDArray[np.bool_]:
    """Which clips are named right by a classifier that is made anew without their actor."""
    right = np.zeros(len(labels), dtype=bool)
    for actor in sorted(set(actors)):
        out = np.array(actors) == actor
        right[out] = name(features[~out], labels[~out], features[out]) == labels[out]
    return right


def nearest_neighbour(known: Array, labels: Labels, queries: Array) -> Labels:
    """The label of the closest known row."""
    return labels[((queries[:, None] - known[None]) ** 2).sum(-1).argmin(1)]


def trees(seed: int) -> Callable[[Array, Labels, Array], Labels]:
    """1,000 extremely randomised trees."""
    from sklearn.ensemble import ExtraTreesClassifier

    def name(known: Array, labels: Labels, queries: Array) -> Labels:
        fitted = ExtraTreesClassifier(1000, random_state=seed).fit(known, labels)
        return np.asarray(fitted.predict(queries))

    return name


def ridge(known: Array, labels: Labels, queries: Array, shrinkage: float, classes: int) -> Labels:
    """Ridge regression to class indicators, in its dual form.

    Args:
        known: (copies, clips, features), scaled here.
        labels: (clips,).
        queries: (clips, features).
        shrinkage: of one copy.
        classes: how many.
    """
    rows = known.reshape(-1, known.shape[-1])
    targets = np.tile(2.0 * np.eye(classes)[labels] - 1, (len(known), 1))
    mean, deviation = rows.mean(0), rows.std(0) + 1e-6
    rows, queries = (rows - mean) / deviation, (queries - mean) / deviation
    kernel = rows @ rows.T + shrinkage * len(known) * np.eye(len(rows))
    weights = rows.T @ np.linalg.solve(kernel, targets - targets.mean(0))
    return (queries @ weights + targets.mean(0)).argmax(1)


def linear(sequences: list[Array], labels: Labels, actors: list[str], classes: int) -> dict[str, Any]:
    """The linear classifier, chosen inside the training actors for each left-out one."""
    names = sorted(set(actors))
    who = np.array(actors)
    right = np.zeros(len(labels), dtype=bool)
    chosen = {}
    for actor in names:
        train, test = who != actor, who == actor
        joint_means = mean_joints([sequences[row] for row in np.flatnonzero(train)])
        generator = np.random.default_rng(0)
        whole = [complete(sequence, joint_means) for sequence in sequences]
        copies = [whole, *([time_warp(clip, generator) for clip in whole] for _ in range(WARPED_COPIES))]
        channels = [[limb_channels(active_side_first(clip)) for clip in copy] for copy in copies]
        vectors = {
            name: np.array([[make(clip) for clip in copy] for copy in channels]) for name, make in VECTORS.items()
        }
        inner: dict[tuple[str, float], float] = {}
        for name, features in vectors.items():
            for shrinkage in SHRINKAGES:
                shares = []
                for other in names:
                    inside, held = train & (who != other), who == other
                    if other != actor:
                        guess = ridge(features[:, inside], labels[inside], features[0, held], shrinkage, classes)
                        shares.append(float((guess == labels[held]).mean()))
                inner[name, shrinkage] = float(np.mean(shares))
        best = max(inner, key=lambda key: inner[key])
        features = vectors[best[0]]
        guess = ridge(features[:, train], labels[train], features[0, test], best[1], classes)
        right[test] = guess == labels[test]
        chosen[actor] = [*best, round(inner[best], 3)]
    return {**figures(right, actors), "chosen": chosen}


def plain(frames: Array, labels: Labels, actors: list[str]) -> dict[str, Any]:
    """Nearest neighbour and trees on 16 frames of each clip, (N, 16, C)."""
    flat = frames.reshape(len(frames), -1)
    differences = np.diff(frames, axis=1).reshape(len(frames), -1)
    more = np.concatenate([flat, differences, frames.mean(1), frames.std(1), np.ptp(frames, axis=1)], axis=1)
    return {
        "clips": len(labels),
        "nearest_neighbour": figures(leave_one_actor_out(flat, labels, actors, nearest_neighbour), actors),
        "extra_trees": {
            f"seed {seed}": figures(leave_one_actor_out(more, labels, actors, trees(seed)), actors) for seed in range(3)
        },
    }


def run_poses(data: str) -> dict[str, Any]:
    """Figures on the poses of the videos."""
    manifest = Manifest.load(data)
    source = SkeletonSource.choose(manifest, "pose")
    frames = []
    for clip in manifest.clips:
        body = body_joints(fill_gaps(source.skeleton(clip)), source.joint_names)
        assert body is not None, clip.id
        frames.append(resample(body_channels(body)))
    return plain(np.stack(frames), manifest.targets(), manifest.groups("leave-one-actor-out"))


def run(data: str) -> dict[str, Any]:
    """All figures on the recorded skeletons."""
    manifest = Manifest.load(data)
    labels, actors = manifest.targets(), manifest.groups("leave-one-actor-out")
    sequences = []
    for clip in manifest.clips:
        skeleton = manifest.skeleton(clip)
        assert skeleton is not None, clip.id
        sequences.append(skeleton[0].astype(np.float64))
    frames = np.stack([resample(np.nan_to_num(joints, nan=LOST).reshape(len(joints), -1)) for joints in sequences])
    return {
        **plain(frames, labels, actors),
        "linear_on_limb_channels": linear(sequences, labels, actors, len(manifest.class_names)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--poses", action="store_true", help="poses of the videos in place of the recorded skeletons")
    args = parser.parse_args()
    print(json.dumps((run_poses if args.poses else run)(args.data), indent=2))
