"""Seconds and peak memory of a block of code."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Measurement:
    """Cost of a block, complete when it has ended.

    Attributes:
        seconds: wall time.
        memory_mb: highest memory above that at the start, in MB (1e6 bytes): of the GPU where one is used, else the
            resident memory of the process; None on systems without Linux's counter.
    """

    seconds: float = 0.0
    memory_mb: float | None = None


@contextmanager
def measure(*, gpu: bool = False) -> Iterator[Measurement]:
    """Measure a block; blocks must not overlap, as they share one counter.

    Args:
        gpu: whether the block computes on the current GPU.
    """
    result = Measurement()
    if gpu:
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before: float | None = float(torch.cuda.memory_allocated())
    else:
        before = _resident("VmRSS") if _reset_peak() else None
    start = time.perf_counter()
    try:
        yield result
    finally:
        if gpu:
            torch.cuda.synchronize()
        result.seconds = time.perf_counter() - start
        peak = float(torch.cuda.max_memory_allocated()) if gpu else _resident("VmHWM")
        if before is not None and peak is not None:
            result.memory_mb = max(0.0, peak - before) / 1e6


def _reset_peak() -> bool:
    """Lower the peak of resident memory (VmHWM) to the present value; False where the system has no such counter.

    Freed memory that the allocator keeps is returned before, as its reuse would not count.
    """
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass  # not the C library of GNU
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _resident(name: str) -> float | None:
    """A size of ``/proc/self/status`` in bytes; None where there is no such file."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((1024.0 * float(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
