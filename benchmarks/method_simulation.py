"""Methods of the field on simulated features of a model like CLIP, with a modality gap, at 1, 4 and 16 shots.

    OMP_NUM_THREADS=1 python benchmarks/method_simulation.py --out RESULTS  # half an hour; continues where RESULTS ends
    OMP_NUM_THREADS=1 python benchmarks/method_simulation.py --draws 2 --shots 16 --max-steps 20

Everything is simulated, and no tower is trained: the text tower is `icube-tiny` with random weights (seed 0).

Ten classes. A hidden prompt (the four context vectors of "a photo of a", each shifted by its length) gives each class
its true text feature t_c in the tower. An image of class c is the normalised sum of t_c, a gap vector that all images
share (Liang et al., "Mind the Gap", NeurIPS 2022: images and texts lie in two cones apart), a deviation of the class
that no prompt describes, and noise of the image. The plain template "a photo of a" is then right in part; a prompt can
be learned that is right more often; and adapters and heads can also learn the deviations. Logit scale 100.

Each method selects its setting on inner folds of the training rows with the same budget and predicts 200 new images of
each class. Differences from zero-shot are paired over the draws, with 95 % t-intervals: other draws of prompt, gap,
deviations and images, no other tower. Lengths of the simulation and rates of the grids were set on draws 0 to 2; the
table is of draws 10 to 17.
"""

from __future__ import annotations

import argparse
import csv
import functools
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from icube_common.evaluation import mean_interval
from icube_common.experiments.methods import (
    CoCoOp,
    CoOp,
    FeatureProblem,
    KgCoOp,
    LinearProbe,
    Method,
    NearestMean,
    TaskRes,
    TipAdapter,
    TipAdapterF,
    ZeroShot,
    tune_and_fit,
)
from icube_common.prompts import PromptLearner
from icube_common.vlm import FrozenVLM, load_vlm

CLASSES = ("cat", "dog", "horse", "house", "tree", "river", "mountain", "bicycle", "clock", "lamp")
TEMPLATE = "a photo of a"
TEST = 200
FIRST_DRAW = 10
# length of the shift of a context vector beside the vector's; of gap, deviation and noise beside a text feature's
SHIFT, GAP, DEVIATION, NOISE = 1.0, 1.0, 0.2, 1.0


def unit(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Random directions, in the last dimension."""
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


def simulate(
    seed: int, shots: int, *, test: int = TEST, class_names: Sequence[str] = CLASSES
) -> tuple[FeatureProblem, Tensor, Tensor]:
    """A problem, the features of its test images (n, D) and their classes (n,)."""
    vlm = tower()
    generator = torch.Generator().manual_seed(seed)
    texts = hidden_texts(vlm, class_names, generator)
    count, width = texts.shape
    gap, deviations = GAP * unit((width,), generator), DEVIATION * unit((count, width), generator)

    def images(rows: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count).repeat(rows)
        noise = NOISE * torch.randn(len(labels), width, generator=generator) / width**0.5
        return F.normalize(texts[labels] + gap + deviations[labels] + noise, dim=1), labels

    test_images, test_labels = images(test)
    features, labels = images(shots)
    problem = FeatureProblem(
        features=features,
        joint=features,
        labels=labels,
        class_names=class_names,
        vlm=vlm,
        templates=TEMPLATE,
        logit_scale=100.0,
        seed=seed,
    )
    return problem, test_images, test_labels


@functools.cache
def tower() -> FrozenVLM:
    """The text tower of all draws."""
    return load_vlm("icube-tiny")


@torch.no_grad()
def hidden_texts(vlm: FrozenVLM, class_names: Sequence[str], generator: torch.Generator) -> Tensor:
    """Class features of the hidden prompt, (C, D)."""
    learner = PromptLearner(vlm, class_names, template=TEMPLATE)
    norm = learner.context.norm(dim=1, keepdim=True)
    learner.context += SHIFT * norm * unit(learner.context.shape, generator)
    return learner()


def methods(max_steps: int) -> list[Method]:
    """All methods, zero-shot first."""
    return [
        ZeroShot(),
        ZeroShot(texts="ensemble"),
        NearestMean(),
        LinearProbe(),
        TipAdapter(),
        TipAdapterF(max_steps=max_steps),
        TaskRes(max_steps=max_steps),
        CoOp(max_steps=max_steps),
        CoCoOp(max_steps=max_steps),
        KgCoOp(max_steps=max_steps),
    ]


def accuracy(method: Method, seed: int, shots: int, *, budget: int, folds: int, test: int = TEST) -> float:
    """Accuracy of a tuned method on the test images of a draw."""
    problem, images, labels = simulate(seed, shots, test=test)
    fitted = tune_and_fit(method, problem, budget=budget, folds=folds)
    return float(fitted.logits(images, images).argmax(1).eq(labels).float().mean())


def table(rows: dict[tuple[str, int, int], float], names: Sequence[str], shots: Sequence[int]) -> str:
    """Mean accuracy in percent, and the paired difference from zero-shot with its interval, as Markdown."""
    lines = ["| method | " + " | ".join(f"{count} shots" for count in shots) + " |", "|---" * (len(shots) + 1) + "|"]
    for name in names:
        cells = []
        for count in shots:
            draws = sorted({seed for other, number, seed in rows if other == name and number == count})
            values = [100 * rows[name, count, seed] for seed in draws]
            cell = f"{sum(values) / max(1, len(values)):.1f}"
            if name != "zero-shot" and len(draws) > 1:
                gain = mean_interval([100 * (rows[name, count, s] - rows["zero-shot", count, s]) for s in draws])
                cell += f" ({gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}])"
            cells.append(cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--budget", type=int, default=2, help="settings that each method compares")
    parser.add_argument("--folds", type=int, default=2, help="inner folds")
    parser.add_argument(
        "--max-steps", type=int, default=300, help="steps of a training, at most; 1600 are all of the papers'"
    )
    parser.add_argument("--out", type=Path, help="CSV of accuracies, continued where it exists")
    args = parser.parse_args()
    rows: dict[tuple[str, int, int], float] = {}
    if args.out is not None and args.out.exists():
        with args.out.open() as file:
            rows = {(name, int(shots), int(seed)): float(value) for name, shots, seed, value in csv.reader(file)}
    every = methods(args.max_steps)
    for seed in range(FIRST_DRAW, FIRST_DRAW + args.draws):
        for count in args.shots:
            for method in every:
                if (method.name, count, seed) in rows:
                    continue
                start = time.perf_counter()
                value = accuracy(method, seed, count, budget=args.budget, folds=args.folds)
                rows[method.name, count, seed] = value
                print(
                    f"{seed} {count:2d} {method.name:20s} {value:.3f} {time.perf_counter() - start:6.1f} s", flush=True
                )
                if args.out is not None:
                    with args.out.open("a") as file:
                        csv.writer(file).writerow([method.name, count, seed, value])
    print(table(rows, [method.name for method in every], args.shots))


if __name__ == "__main__":
    main()
