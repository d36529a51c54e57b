"""Generate motions with a trained model from Python: a waving and a sitting person, as BVH for Blender and as GIF.

    python examples/sample_with_python.py RUN OUT [--actions walk "sit down"] [--seconds 3]

RUN is the folder that ``motiondiff train`` or ``motiondiff demo`` made (``demo/motiondiff/run``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler

from motiondiff import MotionDiffusionPipeline
from motiondiff.export import export


def main(run: Path, out: Path, actions: list[str], seconds: float, steps: int) -> None:
    """Generate one motion of each action and write it twice."""
    pipeline = MotionDiffusionPipeline.from_pretrained(run / "model")
    print("this model knows:", ", ".join(pipeline.denoiser.config.actions))

    # any diffusers scheduler that takes prediction_type="sample" will do; this one needs few steps. The cosine noise
    # schedule ends in almost pure noise, which lambda_min_clipped keeps it from
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, lambda_min_clipped=-5.1)

    motions = pipeline(
        actions=actions,
        num_frames=round(seconds * pipeline.representation.config.fps),  # left out: as long as training clips are
        num_inference_steps=steps,
        guidance_scale=2.5,  # 1: no guidance, more variety, half the time
        # one generator for each motion: a motion stays the same whatever is generated beside it
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(actions))],
    ).motions
    for number, motion in enumerate(motions):
        name = f"{number:02d}-{actions[number].replace(' ', '-')}"
        for suffix in ("bvh", "gif"):
            print(export(motion, out / f"{name}.{suffix}"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--actions", nargs="+", default=["wave", "sit down"])
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    main(arguments.run, arguments.out, arguments.actions, arguments.seconds, arguments.steps)
