"""Memory of prompts in a text tower, by which a training step runs them whole or in chunks with checkpointing.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016: what a chunk keeps for the backward pass is
computed again there, so that the activations of one chunk are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

ACTIVATION_BYTES = 2**30
"""Activations of a text tower that a training step keeps, at most; prompts that need more run in chunks."""
CHUNK_BYTES = 2**28
"""Activations of a chunk: a quarter, as fast on a CPU, and freed memory that is not whole again adds to it."""
# prompts that are too few for the question
FEW = 8


def saved_bytes(run: Callable[[], Tensor], parameters: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of a computation, its parameters not counted."""
    pointers = {value.untyped_storage().data_ptr() for value in parameters}
    matches: dict[int, int] = {}

    def count(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in pointers:
            matches[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
        result = run()
    del result
    return sum(matches.values())


def chunk_size(prompts: int, graphs: int, bytes_each: int) -> int | None:
    """Prompts that run through the tower at once; None: all of them, since their activations fit.

    Args:
        prompts: how many there are.
        graphs: how often they are run before the backward pass: once, or for each image of a batch.
        bytes_each: activations of one prompt.
    """
    if prompts * graphs * bytes_each <= ACTIVATION_BYTES:
        return None
    return max(1, min(prompts, CHUNK_BYTES // max(1, bytes_each)))
