"""Recognised video with its skeleton and the reasons: ``docs/images/video.png``.

Usage: actprompt demo --out DEMO, then python benchmarks/images/video.py DEMO --out docs/images/video.png

The video is simulated, of a figure that the demo's model was not trained on: the first clip of the last figure, as on
the demo's own page. Probabilities, contributions, sentences and measurements are those of `actprompt.predict`.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from actprompt import ActionPipeline, Manifest
from actprompt.data.synthetic import ACTIONS, BONES, PEOPLE, SIZE, joint_positions, simulate, to_pixels

INK, FAINT, BLUE, ORANGE = "#222833", "#7b8492", "#1f77c8", "#e8702a"
FRAMES = 6
INPUTS = {
    "image": "frames",
    "trajectory": "skeleton",
    "parameters": "numbers",
    "captions of the parameters": "captions",
}


def skeleton(person: int, action: str) -> tuple[list[dict[str, np.ndarray]], float]:
    """Joints of the first simulated take, and where the figure stands; seeds as of `write_simulated`."""
    seeds = np.random.SeedSequence([0, person, list(ACTIONS).index(action), 0])
    seed = int(seeds.generate_state(1)[0])
    pose = simulate(action, PEOPLE[person], seed=seed)
    return joint_positions(pose), float(np.random.default_rng(seed).normal(0, 0.08))


def bars(axis: plt.Axes, names: list[str], values: list[float], texts: list[str], colour: str, title: str) -> None:
    """Horizontal bars with their names on the left and values on the right."""
    rows = np.arange(len(names))[::-1]
    axis.barh(rows, values, height=0.62, color=colour)
    limit = max(values)
    for row, value, text in zip(rows, values, texts, strict=True):
        axis.text(max(value, 0) + 0.03 * limit, row, text, va="center", fontsize=11, color=INK)
    axis.set_yticks(rows, names, fontsize=11, color=INK)
    axis.set_xlim(min(0, *values), 1.3 * limit)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.set_title(title, fontsize=12, color=INK, loc="left", fontweight="bold")
    for side in axis.spines.values():
        side.set_visible(False)


def main(demo: Path, out: Path) -> None:
    """Predict and draw."""
    manifest = Manifest.load(demo / "data")
    person = len(PEOPLE) - 1
    clip = next(clip for clip in manifest.clips if clip.subject == PEOPLE[person].name)
    prediction = ActionPipeline.from_pretrained(demo / "run")(manifest.video(clip), data=demo / "data")
    reasons = prediction.to_dict()["reasons"]
    joints, place = skeleton(person, clip.label)
    figure = plt.figure(figsize=(10, 5.6), facecolor="white")
    grid = figure.add_gridspec(
        2, FRAMES, height_ratios=(1.2, 1), left=0.015, right=0.985, top=0.98, bottom=0.28, hspace=0.24
    )
    indices = prediction.frames.indices[0]
    for column, number in enumerate(np.linspace(0, len(indices) - 1, FRAMES).round().astype(int)):
        axis = figure.add_subplot(grid[0, column])
        axis.imshow(prediction.frames.frames[0, number], extent=(0, SIZE, SIZE, 0), interpolation="bicubic")
        points = joints[indices[number]]
        for ends in BONES:
            xs, ys = zip(*(to_pixels(points[name], PEOPLE[person], place) for name in ends), strict=True)
            axis.plot(xs, ys, color="#ffd400", linewidth=1.6, marker="o", markersize=3)
        axis.set_xlim(24, 94), axis.set_ylim(112, 14)
        axis.text(27, 20, f"{indices[number] / clip.fps:.1f} s", fontsize=10, color=INK, va="center")
        axis.set_axis_off()
    top = prediction.top(3)
    texts = [f"{100 * row['probability']:.1f} %" for row in top]
    axis = figure.add_subplot(grid[1, :3])
    bars(axis, [row["words"] for row in top], [row["probability"] for row in top], texts, BLUE, "Recognised action")
    shares = sorted(reasons["shares"], key=lambda row: -row["margin"])
    axis = figure.add_subplot(grid[1, 3:])
    names, values = [INPUTS[row["source"]] for row in shares], [row["margin"] for row in shares]
    title = f"Contributions, against {top[1]['words']!r}"
    bars(axis, names, values, [f"{value:+.2f}" for value in values], ORANGE, title)
    for place, box in enumerate(figure.axes[-2:]):
        left, bottom, width, height = box.get_position().bounds
        box.set_position((left + (0.13, 0.09)[place], bottom, width - (0.15, 0.1)[place], height))
    sentence = next(row["text"] for row in reasons["sentences"] if row["direction"] == "for")
    numbers = "; ".join(f"{row['statement']} ({row['value']:.0f} {row['unit']})" for row in reasons["numbers"][:1])
    for row, (head, text) in enumerate((("Closest description", sentence), ("Measured", numbers))):
        figure.text(0.02, 0.19 - 0.07 * row, head, fontsize=12, color=INK, fontweight="bold", va="center")
        figure.text(0.22, 0.19 - 0.07 * row, textwrap.fill(text, 100), fontsize=12, color=INK, va="center")
    figure.text(0.02, 0.03, "Simulated video of a figure that is not in the training", fontsize=10, color=FAINT)
    figure.savefig(out, dpi=90)
    print(out, plt.imread(out).shape, out.stat().st_size, "bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    main(arguments.demo, arguments.out)
