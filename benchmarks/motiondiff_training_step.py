"""A training step of motiondiff against the bare step of its transformer, alternating in one run.

    OMP_NUM_THREADS=1 python benchmarks/motiondiff_training_step.py STORE --config libs/motiondiff/configs/utkinect.yaml

Whole: noise, conditions, preconditioning, transformer, kinematics, all losses, gradient, clipping, AdamW. Bare: the
same transformer on the same batches, the mean squared error of its output, gradient, clipping, AdamW. Reading and
collating windows is in neither. Rounds alternate between the two; each round's ratio of medians is one value, and the
spread is their quartiles. `--parts` times by themselves the parts that the whole step has beyond the bare one.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from icube_common.config import load_config
from icube_common.training import SampleRef, StepRandom
from motiondiff.config import MotionDiffConfig
from motiondiff.data.dataset import MotionDataset, collate
from motiondiff.data.store import MotionStore
from motiondiff.models.conditioning import NULL
from motiondiff.models.denoiser import MotionDenoiser
from motiondiff.models.spectrum import Components, Preconditioning, noise_deviation
from motiondiff.training.diffusion import make_denoiser
from motiondiff.training.diffusion_loss import DiffusionLoss, batch_conditions, make_noise_schedule
from motiondiff.training.statistics import fit_representation, training_spectrum


class Trainer:
    """A model, its optimiser, and one step on a batch.

    Args:
        model: trained.
        loss: of the model, a batch and the number of the step.
        precision: ``bf16`` or ``no``.
    """

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Any, int], Tensor], precision: str) -> None:
        self.model, self.loss, self.precision = model.train(), loss, precision
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(self, batch: Any, number: int) -> float:
        """Seconds of one step."""
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.loss(self.model, batch, number)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - begun


def main() -> None:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4, help="steps of each side in a round")
    parser.add_argument("--parts", action="store_true", help="also time the parts of the step by themselves")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_intermixed_args()
    config = load_config(MotionDiffConfig, file=args.config, overrides=args.overrides)
    store = MotionStore(args.store)
    clips = store.select("train")
    representation = fit_representation(store, clips, config.data)
    windows = MotionDataset(store, clips, config.data, augment=True)
    schedule = make_noise_schedule(config.diffusion)
    spectrum = training_spectrum(store, clips, config.data, representation)
    denoiser = make_denoiser(None, windows, config)
    assert isinstance(denoiser, MotionDenoiser)
    denoiser.set_preconditioning(spectrum, schedule.alphas_cumprod)
    terms = DiffusionLoss(
        representation,
        schedule,
        config.diffusion,
        config.data.max_frames,
        spectrum=spectrum if denoiser.spectral else None,
        pass_components=denoiser.spectral,
    )
    size = config.train.batch_size
    rng = np.random.default_rng(0)
    batches = [
        collate([windows[SampleRef(int(rng.integers(len(windows))), int(rng.integers(2**31)))] for _ in range(size)])
        for _ in range(args.steps)
    ]

    def whole(model: nn.Module, batch: Any, number: int) -> Tensor:
        return terms(model, batch, StepRandom(0, number, 0, rows=slice(0, size), total=size))["loss"]

    def bare(model: Any, batch: Any, number: int) -> Tensor:
        inputs = torch.zeros(*batch["mask"].shape, model.embed_frames.in_features)
        inputs[..., : representation.feature_size] = batch["features"]
        conditions = batch_conditions(batch, representation)
        output = model.network(inputs, torch.full((size,), 100), conditions, batch["mask"])
        return output.float().square().mean()

    precision = config.train.mixed_precision
    sides = {
        "whole": Trainer(denoiser, whole, precision),
        "bare": Trainer(copy.deepcopy(denoiser), bare, precision),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-2, args.rounds):  # two rounds to warm up
        for name in sorted(sides, reverse=number % 2 == 0):
            times = [sides[name].step(batch, step) for step, batch in enumerate(batches)]
            if number >= 0:
                seconds[name].append(float(np.median(times)))
    ratios = np.array(seconds["whole"]) / np.array(seconds["bare"])
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    parameters = sum(weight.numel() for weight in denoiser.parameters())
    print(f"{parameters:,} parameters, batches of {size}, {precision}; {args.rounds} rounds of {args.steps} steps")
    for name, values in seconds.items():
        print(f"{name:6} {1000 * float(np.median(values)):8.1f} ms a step")
    print(f"ratio  {middle:8.3f} (quartiles {low:.3f} to {high:.3f}); bar 1.15")
    if args.parts:
        parts(denoiser, terms, batches[0], args.rounds)


def parts(denoiser: MotionDenoiser, terms: DiffusionLoss, batch: Any, rounds: int) -> None:
    """Milliseconds of what the whole step has beyond the bare one, forward and gradient."""
    representation, mask = terms.representation, batch["mask"]
    clean = representation.normalise(batch["features"], batch["offsets"], mask) * mask[..., None]
    clean.requires_grad_()
    noise = noise_deviation(terms.schedule.alphas_cumprod, torch.full((len(mask),), 300))
    output = torch.zeros(*mask.shape, denoiser.predict.out_features, requires_grad=True)

    def kinematics() -> Tensor:
        return representation.normalised_positions(clean, batch["offsets"], mask).sum()

    def components() -> Components:
        return Components.of(denoiser.spectrum[batch["action"] - NULL], mask)

    scalings = Preconditioning(components(), noise) if denoiser.spectral else None
    noisy = scalings.components.dct(clean.detach()) if scalings else clean
    jobs: dict[str, Callable[[], Any]] = {
        "normal random numbers": lambda: torch.randn(len(mask), terms.max_frames, clean.shape[-1]),
        "kinematics of the prediction, with gradient": lambda: kinematics().backward(),
        "kinematics of the target": torch.no_grad()(kinematics),
    }
    if scalings is not None:
        jobs |= {
            "cosine components": torch.no_grad()(components),
            "input of the network": torch.no_grad()(lambda: scalings.network_input(clean, noisy)),
            "clean motion, with gradient": lambda: scalings.clean(noisy, output).sum().backward(),
            "loss on components, with gradient": lambda: scalings.loss(clean, clean.detach(), mask).backward(),
        }
    for name, job in jobs.items():
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            job()
            times.append(time.perf_counter() - begun)
        print(f"  {1000 * float(np.median(times)):7.1f} ms  {name}")


if __name__ == "__main__":
    main()
