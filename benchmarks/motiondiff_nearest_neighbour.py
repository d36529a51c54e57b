"""Accuracy of a nearest-neighbour classifier on generated motions, compared with real ones.

Usage: python benchmarks/motiondiff_nearest_neighbour.py STORE RUN --out DIR [--per-action 20] [--steps 10]

A clip is 16 frames, evenly spaced over its length, of joint positions relative to the root; Euclidean distance, one
neighbour. Classes with fewer than 15 clips are left out. Two comparisons, both across styles:

- held-out: the neighbours are real clips of styles that the model never saw; queries are generated motions (no style
  asked for) and, beside them, the real training clips of the same classes;
- across styles: motions generated *in* a style and the real clips of that style, each named by real clips of all other
  styles; averaged over the classes, then over the styles in which at least 200 clips are known.

A figure is the share of queries named as the class that they belong to, mean over classes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.io.runs import write_json
from motiondiff.data.store import MotionStore
from motiondiff.export.images.render import write_contact_sheet
from motiondiff.pipelines.sampling import SampleOptions, generate, load_pipeline
from motiondiff.skeleton.motion import Motion

FRAMES = 16
SMALLEST_CLASS = 15
LARGE_STYLE = 200


def describe(motion: Motion) -> npt.NDArray[np.float32]:
    """(16 * J * 3,) root-centred joint positions at 16 evenly spaced frames, metres."""
    frames = np.linspace(0, len(motion) - 1, FRAMES).round().astype(int)
    positions = motion.positions[frames]
    return np.asarray((positions - positions[:, :1]).ravel())


def accuracy_by_class(
    queries: npt.NDArray[np.float32], query_labels: list[str], real: npt.NDArray[np.float32], real_labels: list[str]
) -> dict[str, float]:
    """Class -> fraction of its queries with a nearest real clip of the same label."""
    distances = ((queries[:, None] - real[None]) ** 2).sum(-1)
    found = [real_labels[index] for index in distances.argmin(1)]
    classes = sorted(set(query_labels))
    return {
        name: float(np.mean([guess == name for guess, label in zip(found, query_labels, strict=True) if label == name]))
        for name in classes
    }


def compare(generated: dict[str, float], real: dict[str, float]) -> dict[str, Any]:
    """Means over classes and their ratio."""
    generated_mean, real_mean = float(np.mean(list(generated.values()))), float(np.mean(list(real.values())))
    return {
        "generated": round(generated_mean, 4),
        "real": round(real_mean, 4),
        "ratio": round(generated_mean / real_mean, 4),
        "classes": {name: [round(generated[name], 3), round(real[name], 3)] for name in sorted(generated)},
    }


def run(store_path: str, run_path: str, out: Path, per_action: int, steps: int, guidance: float) -> dict[str, Any]:
    """Both comparisons; contact sheets and ``nearest_neighbour.json`` in ``out``."""
    store = MotionStore(store_path)
    counts = store.info()["actions"]
    classes = [name for name, count in counts.items() if count >= SMALLEST_CLASS]
    motions = [store[clip] for clip in range(len(store))]
    keep = [index for index, motion in enumerate(motions) if motion.action in classes]
    real = np.stack([describe(motions[index]) for index in keep])
    labels = [str(motions[index].action) for index in keep]
    styles = np.array([motions[index].style for index in keep])
    trained = np.array([store.columns["split"][index] == 0 for index in keep])
    pipeline = load_pipeline(run_path, "dpmsolver++")

    def sample(style: str | None) -> tuple[npt.NDArray[np.float32], list[str], list[Motion]]:
        options = SampleOptions(actions=classes, count=per_action, style=style, steps=steps, guidance=guidance)
        made = list(generate(pipeline, options))
        return np.stack([describe(motion) for motion in made]), [str(motion.action) for motion in made], made

    def pick(mask: npt.NDArray[np.bool_]) -> list[str]:
        return [label for label, chosen in zip(labels, mask, strict=True) if chosen]

    features, names, made = sample(None)
    out.mkdir(parents=True, exist_ok=True)
    shown = [motion for index, motion in enumerate(made) if index % per_action == 0]
    write_contact_sheet(shown, [str(motion.action) for motion in shown], out / "samples.png")
    held_out_classes = set(pick(~trained))
    ours = np.array([name in held_out_classes for name in names])
    theirs = trained & np.array([label in held_out_classes for label in labels])
    result: dict[str, Any] = {
        "held_out_styles": sorted(set(styles[~trained].tolist())),
        "held_out": compare(
            accuracy_by_class(
                features[ours], [n for n in names if n in held_out_classes], real[~trained], pick(~trained)
            ),
            accuracy_by_class(real[theirs], pick(theirs), real[~trained], pick(~trained)),
        ),
    }
    across = {}
    for style, count in Counter(styles.tolist()).items():
        if count < LARGE_STYLE:
            continue
        features, names, _ = sample(style)
        own = styles == style
        both = set(names) & set(pick(own))
        ours = np.array([name in both for name in names])
        across[style] = compare(
            accuracy_by_class(features[ours], [n for n in names if n in both], real[~own], pick(~own)),
            accuracy_by_class(real[own], pick(own), real[~own], pick(~own)),
        )
    mean = {key: float(np.mean([row[key] for row in across.values()])) for key in ("generated", "real")}
    result["across_styles"] = {**mean, "ratio": round(mean["generated"] / mean["real"], 4), "styles": across}
    result["settings"] = {"per_action": per_action, "steps": steps, "guidance": guidance, "classes": len(classes)}
    write_json(out / "nearest_neighbour.json", result)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-action", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=2.5)
    arguments = parser.parse_args()
    figures = run(
        arguments.store, arguments.run, arguments.out, arguments.per_action, arguments.steps, arguments.guidance
    )
    print(json.dumps(figures, indent=2))
