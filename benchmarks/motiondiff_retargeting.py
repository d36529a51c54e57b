"""Retargeting: information retained on another skeleton; accuracy of HumanML3D's vectors.

    python benchmarks/motiondiff_retargeting.py utkinect=DIR msr-action3d=DIR [--skeleton smpl-22] [--humanml3d DIR]

For each set (a format that `motiondiff prepare` reads, and its folder), its clips at 20 fps before and after
`motiondiff.skeleton.retarget.retarget`:

- ``residual_mm``: mean over clips, as recorded and on the target (an upper bound, see `retarget`);
- ``pair_distance_mm``: mean distance of joints that correspond from where they were aimed at, over clips;
- ``nearest_neighbour``: share of clips whose nearest clip of *other* subjects has the same action (16 evenly spaced
  frames of root-centred positions, Euclidean distance), before and after.

With ``--humanml3d`` (a folder of HumanML3D with new_joints and new_joint_vecs): largest difference, over its clips, of
joints from the set's vectors, of vectors from the set's joints (frames that the smoothed heading of the missing last
frame does not reach, and all), and of joints there and back, metres.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from motiondiff.data.readers import Clip, get_reader, read_or_reject
from motiondiff.data.readers.body_shape import target_skeleton
from motiondiff.skeleton.humanml3d import SMOOTHING_SIGMA, joints_to_vectors, vectors_to_joints
from motiondiff.skeleton.motion import Motion, canonicalise
from motiondiff.skeleton.retarget import retarget
from motiondiff.skeleton.skeleton import Skeleton

FRAMES = 16
FPS = 20.0


def describe(motion: Motion) -> npt.NDArray[np.float32]:
    """(16 * J * 3,) root-centred joint positions of the clip in the common frame."""
    positions = canonicalise(motion)[0].positions
    positions = positions[np.linspace(0, len(positions) - 1, FRAMES).round().astype(int)]
    return np.asarray((positions - positions[:, :1]).ravel())


def nearest_neighbour_accuracy(motions: list[Motion]) -> float:
    """Fraction of clips with the label of their nearest clip of another subject."""
    features = np.stack([describe(motion) for motion in motions])
    subjects = np.array([motion.subject for motion in motions])
    actions = np.array([motion.action for motion in motions])
    distances = ((features[:, None] - features[None]) ** 2).sum(-1)
    distances[subjects[:, None] == subjects[None]] = np.inf
    return float((actions[distances.argmin(1)] == actions).mean())


def measure(name: str, folder: Path, target: Skeleton) -> dict[str, Any]:
    """Metrics of one data set."""
    clips = [
        item.motion
        for reference in get_reader(name).find_clips(folder)
        for item in read_or_reject(reference, FPS)
        if isinstance(item, Clip)
    ]
    moved = [retarget(motion, target) for motion in clips]
    before, after = (np.array([motion.residual for motion in motions]) * 1000 for motions in (clips, moved))
    return {
        "clips": len(clips),
        "residual_mm": {"recorded": round(float(before.mean()), 1), "target": round(float(after.mean()), 1)},
        "pair_distance_mm": round(float((after - before).mean()), 1),
        "nearest_neighbour": {
            "recorded": round(nearest_neighbour_accuracy(clips), 3),
            "target": round(nearest_neighbour_accuracy(moved), 3),
        },
    }


def measure_vectors(folder: Path) -> dict[str, float]:
    """Largest differences over the clips of a folder of HumanML3D."""
    worst = {
        "vectors_to_joints": 0.0,
        "joints_to_vectors": 0.0,
        "joints_to_vectors_at_the_end": 0.0,
        "there_and_back": 0.0,
    }
    for path in sorted((folder / "new_joints").glob("*.npy")):
        joints, vectors = np.load(path), np.load(folder / "new_joint_vecs" / path.name)
        made = joints_to_vectors(joints)
        off = np.abs(made - vectors[: len(made)])
        for name, value in (
            ("vectors_to_joints", np.abs(vectors_to_joints(vectors) - joints).max()),
            ("joints_to_vectors", off[: -4 * SMOOTHING_SIGMA].max(initial=0)),
            ("joints_to_vectors_at_the_end", off.max()),
            ("there_and_back", np.abs(vectors_to_joints(made) - joints[:-1]).max()),
        ):
            worst[name] = max(worst[name], float(value))
    return worst


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="FORMAT=DIR")
    parser.add_argument("--skeleton", default="smpl-22")
    parser.add_argument("--humanml3d", type=Path)
    args = parser.parse_args()
    target = target_skeleton(args.skeleton)
    result: dict[str, Any] = {}
    for item in args.sets:
        name, _, folder = item.partition("=")
        result[name] = measure(name, Path(folder), target)
    if args.humanml3d:
        result["humanml3d"] = measure_vectors(args.humanml3d)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
