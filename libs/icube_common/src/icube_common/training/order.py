"""Which samples each optimiser step sees: a function of the seed and the step alone, so any step can be resumed.

The samples form one endless stream, the concatenation of one shuffled pass per epoch; step ``s`` takes the items
``[s * B, (s + 1) * B)`` of it, across the borders of epochs, so no sample is dropped and a data set may be smaller than
the batch. Each epoch's pass comes from ``(seed, epoch)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from icube_common.errors import InputError
from icube_common.training.seeds import mix


class Draw(NamedTuple):
    """One sample as the data set's ``__getitem__`` gets it.

    Attributes:
        index: of the sample in the data set.
        seed: 63 bits, this draw's own; ``numpy.random.default_rng(draw.seed)`` makes its augmentation reproducible in
            any worker. Two draws of one sample, in other epochs or by weighted drawing, have different seeds.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks a draw for
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
            for old in [known for known in self._epochs if known != number - 1]:
                del self._epochs[old]
            generator = np.random.default_rng([self.seed, number])
            if self.probabilities is None:
                self._epochs[number] = generator.permutation(self.size)
            else:
                self._epochs[number] = generator.choice(self.size, size=self.size, p=self.probabilities)
        return self._epochs[number]

    def draws(self, start: int, stop: int) -> list[Draw]:
        """Items ``[start, stop)`` of the stream."""
        drawn = []
        for position in range(start, stop):
            epoch, place = divmod(position, self.size)
            drawn.append(Draw(int(self.epoch(epoch)[place]), mix(self.seed, epoch, place)))
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


def local_rows(batch_size: int, *, accumulate: int, rank: int, processes: int) -> slice:
    """The rows of each global micro-batch that one process computes: a contiguous share.

    Raises:
        InputError: the batch does not divide evenly.
    """
    if batch_size % (processes * accumulate):
        raise InputError(
            f"batch_size={batch_size}: must be a multiple of processes x accumulate = {processes} x {accumulate} = "
            f"{processes * accumulate}"
        )
    share = batch_size // (processes * accumulate)
    return slice(rank * share, (rank + 1) * share)


class MicroBatches:
    """Batch sampler: this process's draws of every micro-batch from step ``start`` up to step ``stop``.

    Args:
        order: the stream.
        batch_size: global samples per optimiser step.
        accumulate: micro-batches per optimiser step; micro-batch ``m`` is the ``m``-th contiguous part of the batch.
        rows: this process's rows of a micro-batch, from `local_rows`.
        start: steps done already.
        stop: steps in all.
    """

    def __init__(
        self, order: BatchOrder, *, batch_size: int, accumulate: int, rows: slice, start: int, stop: int
    ) -> None:
        self.order = order
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.rows = rows
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[Draw]]:
        micro_size = self.batch_size // self.accumulate
        for micro in range(self.start * self.accumulate, self.stop * self.accumulate):
            first = micro * micro_size
            yield self.order.draws(first + self.rows.start, first + self.rows.stop)
