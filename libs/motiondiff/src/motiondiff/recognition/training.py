"""Training of a classifier on a few hundred clips by the shared loop: seconds to minutes on one core."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from icube_common.errors import InputError
from icube_common.training import SampleRef, StepRandom, TrainConfig, fit
from icube_common.training.sampler import derive_seed
from icube_common.vlm.device import named_device
from motiondiff.config import MIN_CLIPS, ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.recognition.classifier import ActionClassifier, make_network
from motiondiff.recognition.features import stack_clips, varied_clips

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


def fit_classifier(
    clips: ClipSet,
    config: ClassifierConfig,
    seed: int = 0,
    *,
    start: ActionClassifier | None = None,
    fewest: int = MIN_CLIPS,
) -> ActionClassifier:
    """Train a classifier on all of the clips.

    Weights, order and variations come from the seed: on a CPU the same clips and seed give the same classifier. Every
    class is sampled equally often, joined clips for ``config.synthetic_fraction`` of its samples. The
    moving average of the weights at the last step is kept: no clip is set aside to choose a step by.

    Args:
        clips: the training clips, no others.
        config: network, steps, variations.
        seed: of everything random.
        start: the classifier whose weights are trained further, of the same classes and joints; by default new ones.
        fewest: clips that every class must have.

    Raises:
        InputError: fewer than two classes, a class with too few clips, no such device, or mirror images of a class that
            names a side (`motiondiff.data.clips.ClipSet.with_mirror_images`).
    """
    if len(clips.class_names) < 2:
        raise InputError(f"classifier: {len(clips.class_names)} class, at least two are needed")
    check_class_sizes(clips, fewest, "to train on")
    clips = clips.with_mirror_images(config.mirror)
    data = stack_clips(clips.positions, config)
    labels = torch.from_numpy(clips.labels)
    network = make_network(config, clips.skeleton, len(clips.class_names), derive_seed(seed, 1))
    if start is not None:
        network.load_state_dict(start.network.state_dict())

    def loss_of(model: nn.Module, rows: Tensor, random: StepRandom) -> Tensor:
        logits = model(varied_clips(data[rows], config, random.generator).to(random.device))
        return functional.cross_entropy(logits, labels[rows].to(random.device), label_smoothing=config.label_smoothing)

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

    Among the real or further clips of a class, ``clips.weights`` decide; without them all are drawn equally often.

    A class of which there are only further clips, or none, is drawn as if the share were 1, or 0.

    Args:
        clips: the training clips.
        synthetic_fraction: of the clips that came with `ClipSet.joined`.
    """
    classes = len(clips.class_names)
    weights = np.ones(len(clips)) if clips.weights is None else clips.weights
    kinds = [clips.is_extra == kind for kind in (False, True)]
    sizes = np.stack([np.bincount(clips.labels[rows], weights[rows], minlength=classes) for rows in kinds])
    shares = np.where(sizes > 0, np.array([[1 - synthetic_fraction], [synthetic_fraction]]), 0.0)
    shares = np.where((sizes > 0).all(axis=0), shares, sizes > 0)
    kind = clips.is_extra.astype(int)
    return np.asarray(weights * shares[kind, clips.labels] / sizes[kind, clips.labels])


def fit_network(
    network: nn.Module,
    loss_of: Callable[[nn.Module, Tensor, StepRandom], Tensor],
    clips: ClipSet,
    config: ClassifierConfig,
    seed: int,
    *,
    name: str,
) -> None:
    """Train a network in place, in a fixed number of steps that show every class equally often.

    Args:
        network: ends with the moving average of its weights where ``config`` asks for it.
        loss_of: the loss of a batch: the network, rows of ``clips`` on the CPU, and the random numbers that vary them.
        clips: the training clips.
        config: steps, batch size, rates, device.
        seed: of order, variations and dropout.
        name: for the progress bar.
    """
    device = named_device(config.device)
    train = TrainConfig(
        max_steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=round(WARMUP * config.steps),
        lr_scheduler="cosine",
        ema_decay=config.ema_decay,
        device=device.type,
        seed=seed,
        report_to="none",
    )
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        fit(
            network,
            lambda model, rows, random: {"loss": loss_of(model, rows.cpu(), random)},
            _Rows(len(clips)),
            config=train,
            run=None,
            weights=sampling_weights(clips, config.synthetic_fraction),
            name=name,
        )


class _Rows:
    """Rows of a set of clips, as the loop draws them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, draw: SampleRef) -> int:
        return draw.index
