"""Training a recogniser on a few hundred clips: one loop, seconds to minutes on one core."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from icube_common.errors import InputError
from icube_common.training.ema import MovingAverage
from icube_common.training.order import BatchOrder
from icube_common.training.seeds import mix
from motiondiff.recognition.clips import ClipSet
from motiondiff.recognition.config import RecogniserConfig
from motiondiff.recognition.features import stack_clips, varied_clips
from motiondiff.recognition.recogniser import Recogniser, make_network

FEWEST_CLIPS = 2
"""Clips a class needs: of a single one a network learns the person with the action."""
WARMUP = 0.1
"""Share of the steps in which the learning rate rises."""


def refuse_small_classes(clips: ClipSet, fewest: int, where: str) -> None:
    """A class without clips cannot be learnt or judged, one with a single clip hardly.

    Raises:
        InputError: a class has fewer clips than ``fewest``; the first is named.
    """
    for name, count in zip(clips.class_names, clips.counts.tolist(), strict=True):
        if count < fewest:
            words = "no clip" if count == 0 else "a single clip" if count == 1 else f"{count} clips"
            raise InputError(
                f"class {name!r} has {words} {where}, at least {fewest} are needed: record more, or leave small "
                "classes out (--min-clips)"
            )


def fit_recogniser(clips: ClipSet, config: RecogniserConfig, seed: int = 0) -> Recogniser:
    """Train a recogniser on all of the clips.

    Weights, order and variations come from the seed: on a CPU the same clips and seed give the same recogniser. Every
    class is shown equally often. The weights at the end of a fixed number of steps are kept (their moving average): no
    clip is set aside to choose among them.

    Args:
        clips: the training clips, no others.
        config: network, steps, variations.
        seed: of everything random.

    Raises:
        InputError: fewer than two classes, or a class with fewer than two clips.
    """
    if len(clips.class_names) < 2:
        raise InputError(f"recogniser: {len(clips.class_names)} class, at least two are needed")
    refuse_small_classes(clips, FEWEST_CLIPS, "to train on")
    data = stack_clips(clips.positions, config)
    labels = torch.from_numpy(clips.labels)
    network = make_network(config, clips.skeleton, len(clips.class_names), mix(seed, 1))

    def loss_of(rows: Tensor, generator: torch.Generator) -> Tensor:
        logits = network(varied_clips(data[rows], config, generator))
        return functional.cross_entropy(logits, labels[rows], label_smoothing=config.label_smoothing)

    fit_network(network, loss_of, clips, config, seed, name=f"recogniser ({config.model})")
    return Recogniser(
        network=network.eval(),
        config=config,
        class_names=tuple(clips.class_names),
        skeleton=clips.skeleton,
        fps=clips.fps,
    )


def fit_network(
    network: nn.Module,
    loss_of: Callable[[Tensor, torch.Generator], Tensor],
    clips: ClipSet,
    config: RecogniserConfig,
    seed: int,
    *,
    name: str,
) -> None:
    """Train a network in place, in a fixed number of steps that show every class equally often.

    Args:
        network: ends with the moving average of its weights where ``config`` asks for it.
        loss_of: the loss of a batch: rows of ``clips``, and the generator that varies them.
        clips: what the rows are of.
        config: steps, batch size, rates.
        seed: of order, variations and dropout.
        name: for the progress bar.
    """
    network.train()
    order = BatchOrder(len(clips), seed=seed, weights=1.0 / clips.counts[clips.labels])
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=max(2, config.steps), pct_start=WARMUP, cycle_momentum=False
    )
    average = MovingAverage(network, config.ema_decay) if config.ema_decay else None
    generator = torch.Generator().manual_seed(mix(seed, 2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, 3))  # dropout
        for step in tqdm(range(config.steps), desc=name, unit="step", leave=False):
            draws = order.draws(step * config.batch_size, (step + 1) * config.batch_size)
            rows = torch.from_numpy(np.array([draw.index for draw in draws]))
            loss = loss_of(rows, generator)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            rate.step()
            if average is not None:
                average.update(step)
    if average is not None:
        average.copy_to_model()
