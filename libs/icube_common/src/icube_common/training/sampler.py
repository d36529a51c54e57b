"""Samples of each optimiser step: a function of the seed and the step alone, so any step can be resumed.

The samples form one endless stream, the concatenation of one shuffled pass per epoch; step ``s`` takes the items
``[s * B, (s + 1) * B)`` of it, across the borders of epochs, so no sample is dropped and a data set may be smaller than
the batch. Each epoch's pass comes from ``(seed, epoch)``.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from icube_common.errors import InputError


class SampleRef(NamedTuple):
    """One sample as the data set's ``__getitem__`` gets it.

    Attributes:
        index: of the sample in the data set.
        seed: 63 bits, this draw's own; ``numpy.random.default_rng(draw.seed)`` makes its augmentation reproducible in
            any worker. Two draws of one sample, in other epochs or by weighted drawing, have different seeds.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which a sample never needs
    seed: int


class BatchOrder:
    """The endless stream of draws.

    Args:
        size: samples in the data set.
        seed: of the training.
        weights: one non-negative weight per sample; each epoch then draws ``size`` samples with replacement, each in
            proportion to its weight.

    Raises:
        InputError: an empty data set, or weights that do not fit it.
    """

    def __init__(self, size: int, *, seed: int, weights: Sequence[float] | NDArray[Any] | None = None) -> None:
        if size < 1:
            raise InputError("the training set is empty: nothing to train on (check the data folder and the selection)")
        self.size = size
        self.seed = seed
        self.probabilities = None if weights is None else _probabilities(weights, size)
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def epoch(self, number: int) -> NDArray[np.int64]:
        """Sample indices of one epoch, shape (size,)."""
        if number not in self._epochs:
            # a batch reads at most the end of one epoch and the start of the next, unless the data set is tiny
            for old in [epoch for epoch in self._epochs if epoch != number - 1]:
                del self._epochs[old]
            generator = np.random.default_rng([self.seed, number])
            if self.probabilities is None:
                self._epochs[number] = generator.permutation(self.size)
            else:
                self._epochs[number] = generator.choice(self.size, size=self.size, p=self.probabilities)
        return self._epochs[number]

    def draws(self, start: int, stop: int) -> list[SampleRef]:
        """Items ``[start, stop)`` of the stream."""
        drawn = []
        for position in range(start, stop):
            epoch, place = divmod(position, self.size)
            drawn.append(SampleRef(int(self.epoch(epoch)[place]), derive_seed(self.seed, epoch, place)))
        return drawn


def _probabilities(weights: Sequence[float] | NDArray[Any], size: int) -> NDArray[np.float64]:
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (size,):
        raise InputError(f"sample weights of shape {values.shape}: must be one per sample, ({size},)")
    wrong = np.flatnonzero(~np.isfinite(values) | (values < 0))
    if wrong.size:
        raise InputError(f"sample weight {values[wrong[0]]} of sample {wrong[0]}: must be finite and not negative")
    if not values.sum() > 0:
        raise InputError("sample weights: all are 0, no sample could be drawn")
    probabilities: NDArray[np.float64] = values / values.sum()
    return probabilities


def local_rows(batch_size: int, *, gradient_accumulation_steps: int, rank: int, processes: int) -> slice:
    """The rows of each global micro-batch that one process computes: a contiguous share.

    Raises:
        InputError: the batch does not divide evenly.
    """
    if batch_size % (processes * gradient_accumulation_steps):
        raise InputError(
            f"batch_size={batch_size}: must be a multiple of processes x gradient_accumulation_steps = "
            f"{processes} x {gradient_accumulation_steps} = {processes * gradient_accumulation_steps}"
        )
    share = batch_size // (processes * gradient_accumulation_steps)
    return slice(rank * share, (rank + 1) * share)


@dataclass(frozen=True)
class MicroBatches:
    """Batch sampler: this process's draws of every micro-batch from step ``start`` up to step ``stop``.

    Args:
        order: the stream.
        batch_size: global samples per optimiser step.
        gradient_accumulation_steps: micro-batches per optimiser step, contiguous parts of the batch.
        rows: this process's rows of a micro-batch, from `local_rows`.
        start: steps done already.
        stop: steps in all.
    """

    order: BatchOrder
    batch_size: int
    gradient_accumulation_steps: int
    rows: slice
    start: int
    stop: int

    def __len__(self) -> int:
        return (self.stop - self.start) * self.gradient_accumulation_steps

    def __iter__(self) -> Iterator[list[SampleRef]]:
        micro_size = self.batch_size // self.gradient_accumulation_steps
        for micro in range(self.start * self.gradient_accumulation_steps, self.stop * self.gradient_accumulation_steps):
            first = micro * micro_size
            yield self.order.draws(first + self.rows.start, first + self.rows.stop)


def derive_seed(*numbers: int) -> int:
    """A 63-bit seed from any integers: neighbouring inputs give unrelated seeds."""
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class StepRandom:
    """Draws for one micro-batch of one optimiser step.

    Every method draws for the whole global micro-batch, on the CPU, and returns this process's rows on its device: two
    processes together get the numbers of one, and a GPU those of a CPU. A step must therefore make the same
    calls with the same shapes in every process.

    Args:
        seed: of the training.
        step: optimiser steps done before this one.
        micro: number of the micro-batch within the step.
        rows: this process's rows of the global micro-batch.
        total: rows of the global micro-batch.
        device: where the draws are wanted.
    """

    def __init__(
        self, seed: int, step: int, micro: int, *, rows: slice, total: int, device: torch.device | str = "cpu"
    ) -> None:
        self.rows = rows
        self.total = total
        self.device = torch.device(device)
        self.generator = torch.Generator().manual_seed(derive_seed(seed, step, micro))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32, shape (B, *shape) with B this process's rows."""
        return self._local(torch.randn(self.total, *shape, generator=self.generator))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), float32, shape (B, *shape)."""
        return self._local(torch.rand(self.total, *shape, generator=self.generator))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Uniform integers in [low, high), int64, shape (B, *shape)."""
        return self._local(torch.randint(low, high, (self.total, *shape), generator=self.generator))

    def _local(self, drawn: Tensor) -> Tensor:
        local = drawn[self.rows]
        if self.device.type == "cuda":
            return local.pin_memory().to(self.device, non_blocking=True)
        return local.to(self.device)


class GlobalDropout(TorchDispatchMode):
    """Dropout masks of the whole batch, of which a process takes those of its rows: the masks of one process.

    Active around a step of a training by several processes on CPUs, where every mask is one in-place Bernoulli draw.
    The rows of the processes follow each other in the first axis; other axes may be padded to another length in each
    process. A model that packs its rows gives their places in the whole batch (`rows`).
    """

    _active = False
    _rows: tuple[Tensor, int] | None = None

    def __enter__(self) -> GlobalDropout:
        GlobalDropout._active = True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        GlobalDropout._active = False
        super().__exit__(*error)

    @classmethod
    def whole_mask(cls, mask: Tensor) -> tuple[Tensor, int] | None:
        """Mask (B', N') of the whole batch from the (B, N) of each process, and the number of the own first row.

        None where the masks are drawn for one process.
        """
        if not cls._active:
            return None
        shapes = _gather_shapes(mask)
        longest = int(shapes[:, 1].max())
        padded = torch.zeros(int(shapes[:, 0].max()), longest, dtype=torch.uint8)
        padded[: len(mask), : mask.shape[1]] = mask
        parts = [torch.empty_like(padded) for _ in shapes]
        dist.all_gather(parts, padded)
        rows = torch.cat([part[:count] for part, count in zip(parts, shapes[:, 0].tolist(), strict=True)])
        return rows.bool(), int(shapes[: dist.get_rank(), 0].sum())

    @classmethod
    @contextlib.contextmanager
    def rows(cls, places: Tensor | None, total: int) -> Iterator[None]:
        """Take the masks of packed rows at ``places`` (M,) of the ``total`` rows of the whole batch, inside the block.

        Args:
            places: index of each row; None for one process.
            total: rows of the whole batch.
        """
        cls._rows = None if places is None else (places, total)
        try:
            yield
        finally:
            cls._rows = None

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is not torch.ops.aten.bernoulli_.float or not args[0].ndim:
            return function(*args, **(kwargs or {}))
        mask, probability = args[0], args[1] if len(args) > 1 else 0.5
        packed = self._rows
        if packed is not None and len(packed[0]) == len(mask):
            whole = torch.empty(packed[1], *mask.shape[1:], dtype=mask.dtype)
            return mask.copy_(whole.bernoulli_(probability, **(kwargs or {}))[packed[0]])
        shapes = _gather_shapes(mask)
        first = int(shapes[: dist.get_rank(), 0].sum())
        lengths = [int(shapes[:, 0].sum()), *shapes[:, 1:].amax(0).tolist()]
        # numbers fill a tensor in the order of its memory, which a transposed one does not have by its axes
        order = sorted(range(mask.ndim), key=lambda axis: -mask.stride(axis))
        whole = torch.empty([lengths[axis] for axis in order], dtype=mask.dtype)
        whole = whole.bernoulli_(probability, **(kwargs or {})).permute(
            [order.index(axis) for axis in range(mask.ndim)]
        )
        return mask.copy_(whole[(slice(first, first + len(mask)), *(slice(length) for length in mask.shape[1:]))])


def _gather_shapes(values: Tensor) -> Tensor:
    """Shape (ndim,) of a tensor in each process: (processes, ndim)."""
    shape = torch.tensor(values.shape)
    shapes = [torch.empty_like(shape) for _ in range(dist.get_world_size())]
    dist.all_gather(shapes, shape)
    return torch.stack(shapes)


def seed_global(seed: int, step: int, micro: int, rank: int, device: torch.device) -> None:
    """Seed the generators that ``nn.Dropout`` and the like read; call inside `torch.random.fork_rng`.

    On a CPU the seed is that of one process, for `GlobalDropout`.
    """
    value = derive_seed(seed, step, micro, 0 if device.type == "cpu" else rank, 1)
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        # only the device in use: the states of the others were not saved by fork_rng
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)
