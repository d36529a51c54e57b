"""Few-shot recognition of Florence's videos with skeletons of generated motions: does another set's generator help?

Usage: OMP_NUM_THREADS=1 python benchmarks/florence_synthetic_skeletons.py DATA NAME=FOLDER [NAME=FOLDER ...]
       [--classes "wave=wave hands,clap=clap hands,sit down=sit down,stand up=stand up"] [--shots 1,2,5] [--draws 20]
       [--share 0.5] [--out FILE.json]

DATA: a set of `actprompt prepare` with poses (`actprompt pose`). FOLDER: `motiondiff export STORE --to video-folder` of
generated or of other real motions; its skeletons join the training clips of the named classes (Florence's=FOLDER's) and
have ``--share`` of their weight; every class weighs the same with and without. Each actor is tested by a ridge
regression of skeleton trajectories on classes with few clips of the other actors: the initialisation of actprompt's
skeleton branch alone, with its penalty. Skeletons of any tracker become one body by the roles of their joints. Top-1 on
the actor's clips of all classes and of the named ones, draws averaged within an actor, and paired differences from no
further clips, with 95 % t intervals over actors.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from actprompt.config import RidgeInitConfig, SkeletonConfig
from actprompt.data.manifest import Manifest
from actprompt.data.pose.sources import SkeletonSource
from actprompt.skeleton.io import read_skeleton_file
from actprompt.skeleton.trajectory import TrajectoryEncoder
from icube_common.evaluation import mean_interval
from icube_common.io.runs import write_json

Array = npt.NDArray[np.float64]


def folder_vectors(folder: Path, classes: Mapping[str, str]) -> tuple[Array, list[str]]:
    """(N, F) trajectories of the skeletons of a video folder, and Florence's class of each."""
    files = [(file, name) for name, theirs in classes.items() for file in sorted((folder / theirs).glob("*.npz"))]
    if not files:
        raise SystemExit(f"{folder}: no skeletons of the classes {', '.join(classes.values())}")
    read = [read_skeleton_file(file, remedy="motiondiff export STORE --to video-folder") for file, _ in files]
    names = read[0].joint_names
    assert names is not None
    encoder = TrajectoryEncoder.fit([one.joints for one in read], names, SkeletonConfig().frames)
    return np.stack([encoder.vector(one.joints) for one in read]).astype(float), [name for _, name in files]


def predict(train: Array, labels: Array, weights: Array, test: Array, penalty: float) -> npt.NDArray[np.int64]:
    """Classes (M,) of test rows by ridge regression of standardised rows (N, F) on labels (N, C), rows weighted."""
    share = weights / weights.sum()
    mean = share @ train
    deviation = np.maximum(np.sqrt(share @ (train - mean) ** 2), 1e-3)
    scale = deviation * np.sqrt(train.shape[1])
    rows, others = (train - mean) / scale, (test - mean) / scale
    offset = share @ labels
    root = np.sqrt(weights)[:, None]
    kernel = (root * rows) @ (root * rows).T + penalty * np.eye(len(rows))
    dual = np.linalg.solve(kernel, root * (labels - offset))
    return np.asarray((others @ (root * rows).T @ dual + offset).argmax(axis=1))


def main(arguments: argparse.Namespace) -> dict[str, object]:
    """Accuracy of each actor for each number of shots, without and with each folder's clips."""
    classes = dict(pair.split("=", 1) for pair in arguments.classes.split(","))
    manifest = Manifest.load(arguments.data)
    names = list(manifest.description["class_names"])
    source = SkeletonSource.choose(manifest, "pose")
    clips = [(clip, source.skeleton(clip)) for clip in manifest.clips]
    clips = [(clip, joints) for clip, joints in clips if len(joints)]
    labels = np.array([names.index(clip.label) for clip, _ in clips])
    actors = np.array([clip.subject for clip, _ in clips])
    encoder = TrajectoryEncoder.unfitted(source.joint_names, SkeletonConfig().frames)
    vectors = np.stack([encoder.vector(joints) for _, joints in clips]).astype(float)
    sets = {"none": None}
    sets |= {
        name: folder_vectors(Path(path), classes) for name, path in (one.split("=", 1) for one in arguments.folders)
    }
    in_both = np.isin(labels, [names.index(name) for name in classes])
    penalty, one_hot = RidgeInitConfig().trajectory_alpha, np.eye(len(names))
    shots = [int(word) for word in arguments.shots.split(",")]
    result: dict[str, object] = {"clips": len(clips), "actors": len(set(actors)), "classes_with_further_clips": classes}
    for count in shots:
        right: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in sets}
        for number, actor in enumerate(sorted(set(actors))):
            test = np.flatnonzero(actors == actor)
            for draw in range(arguments.draws):
                rng = np.random.default_rng([count, number, draw])
                rows = few_clips(labels, actors != actor, count, rng)
                for name, further in sets.items():
                    train, targets, weights = vectors[rows], one_hot[labels[rows]], np.ones(len(rows))
                    if further is not None:
                        extra = np.array([names.index(label) for label in further[1]])
                        train = np.concatenate([train, further[0]])
                        targets = np.concatenate([targets, one_hot[extra]])
                        sizes = np.bincount(extra, minlength=len(names))
                        # every class weighs the same, with and without further clips
                        weights = np.where(sizes[labels[rows]] > 0, 1 - arguments.share, 1.0)
                        weights = np.concatenate([weights, arguments.share * count / sizes[extra]])
                    hits = predict(train, targets, weights, vectors[test], penalty) == labels[test]
                    both = hits[in_both[test]]
                    right[name].setdefault(actor, []).append((hits.mean(), both.mean()))
        result[f"{count} shots"] = summary(right)
    return result


def few_clips(labels: npt.NDArray[np.int64], allowed: Array, count: int, rng: np.random.Generator) -> list[int]:
    """Rows of ``count`` clips of each class among those allowed."""
    rows: list[int] = []
    for label in np.unique(labels):
        rows += rng.permutation(np.flatnonzero((labels == label) & allowed))[:count].tolist()
    return rows


def summary(right: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> dict[str, object]:
    """Intervals over actors of each set, on all classes and on those with further clips."""
    means = {name: np.array([np.mean(values, axis=0) for values in one.values()]) for name, one in right.items()}
    result: dict[str, object] = {}
    for name, values in means.items():
        change = values - means["none"]
        result[name] = {
            what: {
                "top1": mean_interval(values[:, column]).to_dict(),
                "gain": mean_interval(change[:, column]).to_dict(),
            }
            for column, what in enumerate(("all classes", "classes with further clips"))
        }
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--classes", default="wave=wave hands,clap=clap hands,sit down=sit down,stand up=stand up")
    parser.add_argument("--shots", default="1,2,5")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--out", type=Path, default=None)
    values = main(parser.parse_args())
    print(json.dumps(values, indent=1))
    out = parser.parse_args().out
    if out:
        write_json(out, values)
