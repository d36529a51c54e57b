"""Work spread over processes: reading and checking the files of a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    executor: Executor | None = None,
    worth_a_pool: int = 256,
    chunksize: int = 16,
    processes: int | None = None,
) -> Iterator[Result]:
    """``work`` of each item, in order.

    Args:
        work: a function that can be pickled, as can its items and results.
        items: what is worked on.
        executor: where; by default a local process pool that ends with the iteration.
        worth_a_pool: below this many items, starting processes takes longer than the work.
        chunksize: items sent to a process at once.
        processes: of the pool; by default one for each core.
    """
    processes = processes or available_cores()
    if executor is not None:
        yield from executor.map(work, items, chunksize=chunksize)
    elif len(items) < worth_a_pool or processes == 1:
        yield from map(work, items)
    else:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        # forking a process that already runs threads may hang
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(work, items, chunksize=chunksize)
