"""Training a classifier on a few hundred clips: one loop, seconds to minutes on one core."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from icube_common.errors import InputError
from icube_common.training.ema import MovingAverage
from icube_common.training.sampler import BatchOrder, derive_seed
from icube_common.vlm.device import named_device
from motiondiff.config import ClassifierConfig
from motiondiff.recognition.classifier import ActionClassifier, make_network
from motiondiff.recognition.clips import ClipSet
from motiondiff.recognition.features import stack_clips, varied_clips

MIN_CLIPS = 2
"""Training clips that a class needs: of a single one a network learns the person with the action."""
WARMUP = 0.1
"""Share of the steps in which the learning rate rises."""


def check_class_sizes(clips: ClipSet, fewest: int, where: str) -> None:
    """Check that every class has enough clips to be learnt and evaluated.

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


def fit_classifier(clips: ClipSet, config: ClassifierConfig, seed: int = 0) -> ActionClassifier:
    """Train a classifier on all of the clips.

    Weights, order and variations come from the seed: on a CPU the same clips and seed give the same classifier. Every
    class is sampled equally often, joined clips for ``config.synthetic_fraction`` of its samples. The
    moving average of the weights at the last step is kept: no clip is set aside to choose a step by.

    Args:
        clips: the training clips, no others.
        config: network, steps, variations.
        seed: of everything random.

    Raises:
        InputError: fewer than two classes, a class with fewer than two clips, or no such device.
    """
    if len(clips.class_names) < 2:
        raise InputError(f"classifier: {len(clips.class_names)} class, at least two are needed")
    check_class_sizes(clips, MIN_CLIPS, "to train on")
    data = stack_clips(clips.positions, config)
    labels = torch.from_numpy(clips.labels)
    network = make_network(config, clips.skeleton, len(clips.class_names), derive_seed(seed, 1))
    network.to(named_device(config.device))

    def loss_of(rows: Tensor, generator: torch.Generator) -> Tensor:
        logits = network(varied_clips(data[rows], config, generator).to(config.device))
        return functional.cross_entropy(logits, labels[rows].to(config.device), label_smoothing=config.label_smoothing)

    fit_network(network, loss_of, clips, config, seed, name=f"classifier ({config.model})")
    return ActionClassifier(
        network=network.cpu().eval(),
        config=config,
        class_names=tuple(clips.class_names),
        skeleton=clips.skeleton,
        fps=clips.fps,
    )


def sampling_weights(clips: ClipSet, synthetic_fraction: float) -> npt.NDArray[np.float64]:
    """(N,) how often each clip is drawn: every class equally often, and within it further clips for their share.

    A class of which there are only further clips, or none, is drawn as if the share were 1, or 0.

    Args:
        clips: the training clips.
        synthetic_fraction: of the clips that came with `ClipSet.joined`.
    """
    classes = len(clips.class_names)
    sizes = np.stack([np.bincount(clips.labels[clips.is_extra == kind], minlength=classes) for kind in (False, True)])
    shares = np.where(sizes > 0, np.array([[1 - synthetic_fraction], [synthetic_fraction]]), 0.0)
    shares = np.where((sizes > 0).all(axis=0), shares, sizes > 0)
    kind = clips.is_extra.astype(int)
    return np.asarray(shares[kind, clips.labels] / sizes[kind, clips.labels])


def fit_network(
    network: nn.Module,
    loss_of: Callable[[Tensor, torch.Generator], Tensor],
    clips: ClipSet,
    config: ClassifierConfig,
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
    order = BatchOrder(len(clips), seed=seed, weights=sampling_weights(clips, config.synthetic_fraction))
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=max(2, config.steps), pct_start=WARMUP, cycle_momentum=False
    )
    average = MovingAverage(network, config.ema_decay) if config.ema_decay else None
    generator = torch.Generator().manual_seed(derive_seed(seed, 2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, 3))  # dropout
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
