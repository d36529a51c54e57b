"""Movement and stance of generated beside real motions, as an evaluation defines them, for some actions and one style.

Usage: python benchmarks/motiondiff_movement.py STORE RUN [--actions walk,run,wave-right-hand] [--style normal]
       [--count 12] [--steps 10] [--guidance 2.5] [--real-split train] [--json]

Medians over ``count`` generated motions and over the real clips of each action, all in one style (a feminine wave of
Bandai-Namco swings the hand by 3 cm, a normal one by 24): movement of hands and feet by frequency band, dominant
frequency, reversals, jerk, range of the hand (`motiondiff.evaluation.movement`), slip and share of stances
(`motiondiff.evaluation.stance`). Without a style, all clips of the action.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.movement import DIFFERENCES, movement_table
from motiondiff.evaluation.stance import FIGURES as STANCE
from motiondiff.evaluation.stance import action_slips
from motiondiff.pipelines.sampling import SampleOptions, generate, load_pipeline

ACTIONS = "walk,run,wave-right-hand"


def measure(store: MotionStore, run: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Action -> figure -> comparison of generated and real clips."""
    actions = tuple(arguments.actions.split(","))
    rows = store.select(None if arguments.real_split == "all" else arguments.real_split)
    rows = rows[np.isin(store.columns["action"][rows], [store.actions.index(action) for action in actions])]
    if arguments.style:
        rows = rows[store.columns["style"][rows] == store.styles.index(arguments.style)]
    real = ClipSet.from_store(store, rows=rows).with_classes(actions)
    options = SampleOptions(
        actions=actions,
        count=arguments.count,
        style=arguments.style or None,
        steps=arguments.steps,
        guidance=arguments.guidance,
        seed=1,
    )
    made = ClipSet.from_motions(list(generate(load_pipeline(run, "dpmsolver++"), options)), actions)
    stances = {"generated": action_slips(made), "reference": action_slips(real)}
    result: dict[str, Any] = {}
    for action, row in movement_table(made, real).items():
        slips = {name: {side: stances[side][action][name] for side in stances} for name in STANCE}
        result[action] = {**row, **slips}
    return result


def table_of(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| action | figure | generated | real | ratio or difference |", "|---|---|---|---|---|"]
    for action, row in result.items():
        for name, values in row.items():
            numbers = [values["generated"], values["reference"]]
            compared = values.get("difference" if name in DIFFERENCES else "ratio")
            if compared is None and all(isinstance(value, float) for value in numbers) and numbers[1]:
                compared = numbers[0] / numbers[1]
            cells = ["" if value is None else f"{value:.3g}" for value in (*numbers, compared)]
            lines.append(f"| {action} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("run")
    parser.add_argument("--actions", default=ACTIONS)
    parser.add_argument("--style", default="normal")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=2.5)
    parser.add_argument("--real-split", default="train")
    parser.add_argument("--json", action="store_true")
    parsed = parser.parse_args()
    measured = measure(MotionStore(parsed.store), parsed.run, parsed)
    print(json.dumps(measured, indent=2) if parsed.json else table_of(measured))
