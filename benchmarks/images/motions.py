"""Generated motions as an animated strip, ``docs/images/motions.gif``, and as a sheet, ``docs/images/samples.png``.

Usage: python benchmarks/images/motions.py RUN --out docs/images/motions.gif --sheet docs/images/samples.png

The first motion of each action from seed 0, none chosen by eye: DPM-Solver++, guidance of the run, three seconds. RUN
is a run of `libs/motiondiff/configs/utkinect.yaml`; weights and recordings are not part of the repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from motiondiff.export.images.drawing import Scene
from motiondiff.export.images.render import write_contact_sheet
from motiondiff.pipelines.sampling import SampleOptions, generate, load_pipeline
from motiondiff.skeleton.motion import Motion

ACTIONS = ("wave hands", "clap hands", "throw", "walk", "sit down")
SHEET = ("wave hands", "clap hands", "throw", "walk", "sit down", "pick up", "push", "carry")
CELL, FRAMES_PER_SECOND = (180, 216), 10


def strip(motions: list[Motion]) -> list[Image.Image]:
    """Frames of the animation, all motions side by side."""
    scenes = [Scene(motion, CELL, caption=str(motion.action)) for motion in motions]
    stride = round(scenes[0].motion.fps / FRAMES_PER_SECOND)
    frames = []
    for frame in range(0, min(len(scene.motion) for scene in scenes), stride):
        image = Image.new("RGB", (CELL[0] * len(scenes), CELL[1]), "white")
        for place, scene in enumerate(scenes):
            image.paste(scene.draw(frame), (CELL[0] * place, 0))
        frames.append(image)
    return frames


def save(frames: list[Image.Image], out: Path) -> None:
    """One palette for all frames, so that unchanged parts cost nothing."""
    palette = frames[len(frames) // 2].quantize(48, dither=Image.Dither.NONE)
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    colours[colours.min(1) >= 248] = 255  # Pillow looks colours up coarsely: no near white beside the white background
    palette.putpalette(colours.flatten().tolist())
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    duration = 1000 // FRAMES_PER_SECOND
    small[0].save(out, save_all=True, append_images=small[1:], duration=duration, loop=0, disposal=1, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    pipeline = load_pipeline(arguments.run, "dpmsolver++")
    options = SampleOptions(actions=list(SHEET), count=1, seconds=arguments.seconds, steps=arguments.steps, seed=0)
    made = {str(motion.action): motion for motion in generate(pipeline, options)}
    save(strip([made[action] for action in ACTIONS]), arguments.out)
    print(arguments.out, arguments.out.stat().st_size, "bytes")
    if arguments.sheet:
        write_contact_sheet([made[action] for action in SHEET], None, arguments.sheet, frames=10, cell=(96, 132))
        print(arguments.sheet, arguments.sheet.stat().st_size, "bytes")
