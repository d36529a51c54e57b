"""In-between of held-out real motion beside spherical interpolation.

    python benchmarks/motiondiff_inbetween.py RUN STORE [--gaps 14,26] [--split test] [--context 10] [--json OUT.json]

From every held-out clip, windows of a gap with --context frames held on each side, one beside the other. The gap is
filled by

- ``slerp``: each joint's rotation spherically, the root linearly, from the last frame before to the first after;
- ``hermite``: the input curve of the denoiser (`motiondiff.models.inpainting.hermite_interpolate`), without any model;
- ``model``: `motiondiff.pipelines.editing.inpaint` as `motiondiff edit --keep-frames` calls it (one step, for runs
  trained with ``diffusion.inpainting_probability``), without and with the action;
- ``model, sampled``: one draw of 20 steps from such a run;
- ``replacement``: that draw without the held parts as an input of the denoiser: what a model gives that was not trained
  for editing.

Given are, over gaps, the mean distance of joints from the truth within the gap (mm), its paired difference to slerp
with a 95 % bootstrap interval over clips, the share of gaps that are closer than slerp, the largest distance of a held
frame (m), and the acceleration of joints at the seams as a share of the truth's there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from icube_common.io.runs import describe_environment
from motiondiff.data.store import MotionStore
from motiondiff.models.inpainting import CARRY_SECONDS, hermite_interpolate, joint_features
from motiondiff.pipelines.editing import edit_settings, inpaint, restore_conditioned
from motiondiff.pipelines.sampling import SampleOptions, clip_generator, load_pipeline
from motiondiff.schedulers import make_scheduler
from motiondiff.skeleton.motion import Motion, canonicalise
from motiondiff.training.diffusion import check_same_data

Array = npt.NDArray[np.float64]
BATCH = 32


def slerp_gap(motion: Motion, start: int, stop: int) -> Motion:
    """Frames ``start`` to ``stop`` interpolated between the frames beside them."""
    from scipy.spatial.transform import Rotation, Slerp

    ends = [start - 1, stop]
    inside = np.arange(start, stop)
    root, rotations = motion.root.copy(), motion.rotations.copy()
    for axis in range(3):
        root[start:stop, axis] = np.interp(inside, ends, motion.root[ends, axis])
    for joint in range(len(motion.skeleton)):
        path = Slerp(ends, Rotation.from_matrix(motion.rotations[ends, joint]))
        rotations[start:stop, joint] = path(inside).as_matrix()
    return Motion(root, rotations, motion.skeleton, motion.fps)


def windows(store: MotionStore, split: str, gap: int, context: int) -> tuple[list[Motion], list[int]]:
    """Windows of all clips of a split in the common frame, and the number of the clip that each is from."""
    size = gap + 2 * context
    found: list[Motion] = []
    clips: list[int] = []
    for clip in store.select(split):
        motion = store[int(clip)]
        for first in range(0, len(motion) - size + 1, size):
            found.append(canonicalise(motion.cut(first, first + size), floor=0.0)[0])
            clips.append(int(clip))
    return found, clips


def acceleration(motion: Motion, frames: list[int]) -> float:
    """Mean over joints and the given frames of the second difference of positions, m/s^2."""
    second = np.linalg.norm(np.diff(motion.positions, n=2, axis=0), axis=-1) * motion.fps**2
    return float(second[[frame - 1 for frame in frames]].mean())


def interval(values: Array, clips: list[int]) -> list[float]:
    """95 % bootstrap interval of the mean, clips drawn as a whole."""
    rng = np.random.default_rng(0)
    groups = [values[np.array(clips) == clip] for clip in sorted(set(clips))]
    draws = [
        float(np.concatenate([groups[number] for number in rng.integers(0, len(groups), len(groups))]).mean())
        for _ in range(2000)
    ]
    return [round(float(bound), 2) for bound in np.quantile(draws, [0.025, 0.975])]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("store")
    parser.add_argument("--gaps", default="14,26")
    parser.add_argument("--context", type=int, default=10)
    parser.add_argument("--split", default="test")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--scheduler")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = MotionStore(arguments.store)
    check_same_data(arguments.run, store)
    given = SampleOptions(steps=arguments.steps, scheduler=arguments.scheduler, guidance=arguments.guidance)
    pipeline = load_pipeline(arguments.run)
    pipeline.set_progress_bar_config(disable=True)
    trained = bool(pipeline.denoiser.config.inpainting_input)
    one = edit_settings(arguments.run, given, expectation=trained)
    drawn = edit_settings(arguments.run, given, expectation=False)
    # name, settings, whether the denoiser is shown what is held, whether the action is given
    ways = [("model", one, trained, False), ("model, action given", one, trained, True)]
    if trained:
        ways += [("model, sampled", drawn, True, False), ("replacement", drawn, False, False)]
    rows: list[dict[str, Any]] = []
    for gap in (int(word) for word in arguments.gaps.split(",")):
        truth, clips = windows(store, arguments.split, gap, arguments.context)
        start, stop = arguments.context, arguments.context + gap
        conditioned = np.ones((len(truth[0]), len(truth[0].skeleton)), dtype=bool)
        conditioned[start:stop] = False
        filled = {"slerp": [slerp_gap(motion, start, stop) for motion in truth]}
        values = torch.stack([pipeline.representation.encode(motion).cpu() for motion in truth])
        mask = joint_features(torch.from_numpy(conditioned)).expand_as(values)
        curves = hermite_interpolate(values, mask, CARRY_SECONDS * store.fps)
        filled["bridge"] = [
            restore_conditioned(motion, pipeline.representation.decode(curve, motion.skeleton), conditioned)
            for motion, curve in zip(truth, curves, strict=True)
        ]
        for name, options, shown, named in ways:
            assert options.scheduler is not None and options.steps is not None and options.guidance is not None
            pipeline.scheduler = make_scheduler(options.scheduler, pipeline.scheduler.config)
            pipeline.denoiser.register_to_config(inpainting_input=shown)
            filled[name] = []
            for first in range(0, len(truth), BATCH):
                batch = truth[first : first + BATCH]
                filled[name] += inpaint(
                    pipeline,
                    batch,
                    [conditioned] * len(batch),
                    actions=[motion.action if named else None for motion in batch],
                    styles=[None] * len(batch),
                    steps=options.steps,
                    guidance=options.guidance,
                    generators=[clip_generator(0, first + number) for number in range(len(batch))],
                )
        errors: dict[str, Array] = {}
        for name, motions in filled.items():
            apart = [
                np.linalg.norm(made.positions - real.positions, axis=-1) * 1000
                for made, real in zip(motions, truth, strict=True)
            ]
            errors[name] = np.array([distance[start:stop].mean() for distance in apart])
            difference = errors[name] - errors["slerp"]
            gap_frames = range(start, stop)
            seams = [start - 1, start, stop - 1, stop]
            rows.append(
                {
                    "gap": gap,
                    "method": name,
                    "gaps": len(truth),
                    "clips": len(set(clips)),
                    "error_mm": round(float(errors[name].mean()), 2),
                    "minus_slerp_mm": round(float(difference.mean()), 2),
                    "ci95": interval(difference, clips),
                    "closer": round(float((difference < 0).mean()), 3),
                    "conditioning_error_m": max(float(np.delete(row, gap_frames, 0).max()) for row in apart) / 1000,
                    "seam_acceleration": round(
                        sum(acceleration(motion, seams) for motion in motions)
                        / sum(acceleration(motion, seams) for motion in truth),
                        3,
                    ),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    result = {
        "rows": rows,
        "context": arguments.context,
        "split": arguments.split,
        "settings": {name: [way.scheduler, way.steps, way.guidance] for name, way, *_ in ways},
        "data_fingerprint": store.fingerprint,
        "environment": describe_environment(),
    }
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
