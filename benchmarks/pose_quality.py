"""Quality and speed of poses from video on Florence 3D Actions: detected frames, bone lengths, overhead, reference.

    python benchmarks/pose_quality.py FLORENCE [--reference REFERENCE.npz]

FLORENCE is the folder of the set. The overhead is the time of everything but the two networks' ``invoke`` (crop,
decoding, heat maps, filter), as a share of it, in one run on one thread. REFERENCE.npz holds, for some clips,
MediaPipe's own landmarks (T, 33, 2) in pixels, NaN without a person; it is made in an environment of its own by

    python benchmarks/pose_quality.py FLORENCE --make-reference REFERENCE.npz --frames FRAMES.npz

where FRAMES.npz has the decoded frames of these clips (made by ``--dump-frames FRAMES.npz`` in this environment).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FPS, EVERY = 20.0, 6
"""Frame rate of the set; the reference is of each EVERY-th clip."""


def clips(florence: Path) -> list[Path]:
    """The videos of the set's index."""
    with (florence / "index.csv").open(encoding="utf-8") as handle:
        return [florence / "clips" / row["clip"] for row in csv.DictReader(handle)]


def frames_of(path: Path) -> np.ndarray:
    """All frames (T, H, W, 3)."""
    from actprompt.data.video import iterate_frames

    return np.stack(list(iterate_frames(path)))


def make_reference(frames: Path, out: Path) -> None:
    """Landmarks by MediaPipe's own graph, video mode, the same networks (run where mediapipe is installed)."""
    import mediapipe

    result = {}
    with np.load(frames) as arrays:
        for name in arrays:
            pose = mediapipe.solutions.pose.Pose(static_image_mode=False, model_complexity=1, smooth_landmarks=True)
            images = arrays[name]
            height, width = images.shape[1:3]
            landmarks = np.full((len(images), 33, 2), np.nan)
            for index, image in enumerate(images):
                found = pose.process(np.ascontiguousarray(image)).pose_landmarks
                if found is not None:
                    landmarks[index] = [[point.x * width, point.y * height] for point in found.landmark]
            pose.close()
            result[name] = landmarks
    np.savez(out, **result)


class Timer:
    """Seconds inside the networks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, interpreter: object) -> None:
        """Count the time of an interpreter's ``invoke``."""
        invoke = interpreter.invoke  # type: ignore[attr-defined]

        def timed() -> None:
            start = time.perf_counter()
            invoke()
            self.seconds += time.perf_counter() - start

        interpreter.invoke = timed  # type: ignore[attr-defined]


def measure(florence: Path, reference: Path | None) -> Iterator[tuple[str, str]]:
    """Rows of the table."""
    from icube_common.pose import PoseTracker, find_models

    tracker, timer, total = PoseTracker(find_models()), Timer(), 0.0
    for network in (tracker._detect._network, tracker._landmarks._network):
        timer.around(network._interpreter)
    expected = dict(np.load(reference)) if reference else {}
    sequences, errors, differ = [], [], 0
    for path in clips(florence):
        frames = frames_of(path)
        start = time.perf_counter()
        sequence = tracker.track(frames, np.arange(len(frames)) / FPS)
        total += time.perf_counter() - start
        sequences.append(sequence)
        if path.name in expected:
            # MediaPipe's python interface counts 30 frames a second
            mine = tracker.track(frames, np.arange(len(frames)) / 30.0)
            theirs = expected[path.name]
            both = mine.detected & np.isfinite(theirs[:, 0, 0])
            differ += int((mine.detected != np.isfinite(theirs[:, 0, 0])).sum())
            errors.append(np.linalg.norm(mine.pixels[both, :, :2] - theirs[both], axis=2))
    networks = timer.seconds
    gated = [sequence.gated() for sequence in sequences]
    frames_all = sum(len(sequence.times) for sequence in sequences)
    yield "frames", str(frames_all)
    yield "detected", f"{100 * sum(int(s.detected.sum()) for s in sequences) / frames_all:.1f} %"
    yield "detected, gates on", f"{100 * sum(int(s.detected.sum()) for s in gated) / frames_all:.1f} %"
    for bone in gated[0].bone_variation():
        values = [sequence.bone_variation()[bone] for sequence in gated]
        yield f"{bone}: length variation, median", f"{100 * float(np.nanmedian(values)):.1f} %"
    if not expected:  # the reference's second tracking would count twice
        yield "seconds in the networks", f"{networks:.1f}"
        yield "overhead", f"{100 * (total - networks) / networks:.0f} % of it"
    else:
        distance = np.concatenate([error.ravel() for error in errors])
        yield "distance to MediaPipe, median", f"{np.median(distance):.2f} px ({len(errors)} clips)"
        yield "frames detected by one of the two", str(differ)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("florence", type=Path, metavar="FLORENCE")
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--dump-frames", type=Path)
    parser.add_argument("--make-reference", type=Path)
    parser.add_argument("--frames", type=Path)
    args = parser.parse_args()
    if args.dump_frames:
        np.savez(args.dump_frames, **{path.name: frames_of(path) for path in clips(args.florence)[::EVERY]})
    elif args.make_reference:
        make_reference(args.frames, args.make_reference)
    else:
        for name, value in measure(args.florence, args.reference):
            print(f"{name:45} {value}")


if __name__ == "__main__":
    main()
