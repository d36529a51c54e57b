"""Work on many items: in this process, in local processes, on a Dask cluster or any executor, and in shards.

A worker process that dies (killed for lack of memory, or crashed in a native library) takes nothing with it but its
item: the pool is started again, what was in flight is run once more, one item at a time, and an item that ends a
worker for the second time is given up with a reason.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from icube_common.errors import InputError, require

Key = TypeVar("Key")
Item = TypeVar("Item")
Result = TypeVar("Result")

WORKER_DIED = "its worker process was killed twice, usually for lack of memory"
"""Reason of an item that is given up."""
MAX_TRIES = 2


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class InlineExecutor(Executor):
    """Runs each call at once, in this process: ``submit`` returns when it is done."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The call's future, finished."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class LocalPool(Executor):
    """Local processes that share the cores evenly and end with the process that started them, however that ends.

    Args:
        workers: number of processes.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._before = set(multiprocessing.active_children())
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        threads = max(1, available_cores() // self.workers)
        # spawned, not forked: a fork of a process that has started threads (torch) may hang
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_prepare_worker, initargs=(threads,))

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The call's future; raises ``BrokenExecutor`` after a worker died, until `restart`."""
        return self._pool.submit(function, *args, **kwargs)

    def restart(self) -> None:
        """Replace the processes of a pool that lost one of them."""
        self._pool.shutdown(cancel_futures=True)
        self._pool = self._start()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes, after what runs."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def terminate(self) -> None:
        """End the processes at once: hours may be left of what runs, and no caller waits for it any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - self._before:
            process.terminate()


@contextlib.contextmanager
def open_executor(workers: int | None = 1, dask: str | None = None) -> Iterator[tuple[Executor, int]]:
    """The executor that ``--workers`` and ``--dask`` ask for, closed when the block ends; an error ends its processes.

    With Dask, all folders have to be on a disk that every worker reads under the same path.

    Args:
        workers: local processes; 1 means this process, None one process for each core.
        dask: address of a Dask scheduler, such as ``tcp://host:8786``.

    Yields:
        The executor, and how many calls it runs at the same time.

    Raises:
        InputError: fewer than one worker, both ways asked for, Dask is not installed, or nothing answers there.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: must be at least 1")
    if dask is not None:
        if workers not in (None, 1):
            raise InputError(f"--workers {workers} --dask {dask}: the cluster decides how many workers it has")
        with _dask_client(dask) as client:
            executor = client.get_executor(pure=False)
            yield executor, max(1, sum(client.nthreads().values()))
        return
    workers = workers or available_cores()
    if workers == 1:
        yield InlineExecutor(), 1
    else:
        pool = LocalPool(workers)
        try:
            yield pool, workers
        except BaseException:
            pool.terminate()
            raise
        pool.shutdown()


@contextlib.contextmanager
def _dask_client(address: str) -> Iterator[Any]:
    distributed = require("distributed", package="icube-common", extra="cluster")
    try:
        client = distributed.Client(address, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"--dask {address}: no Dask scheduler answers there ({error})") from error
    try:
        yield client
    finally:
        client.close()


def _prepare_worker(threads: int) -> None:
    """A worker's share of the cores, unless the user has set it; and its end when the main process ends."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ["TQDM_DISABLE"] = "1"  # the main process shows the progress
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        # a training in progress would otherwise go on writing where a resumed study writes as well
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def executor_size(executor: Executor) -> int:
    """Number of calls that an executor runs at the same time, 1 where that is unknown."""
    client = getattr(executor, "_client", None)
    if client is not None and hasattr(client, "nthreads"):  # of Dask
        return max(1, sum(client.nthreads().values()))
    return int(getattr(executor, "workers", None) or getattr(executor, "_max_workers", None) or 1)


def worker_died(error: BaseException) -> bool:
    """True for the error of a call whose worker process ended under it."""
    # KilledWorker: Dask's, after it has tried the call on several workers itself
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"


@dataclass
class _Call(Generic[Key]):
    key: Key
    arguments: tuple[Any, ...]
    tries: int = 0


class _Workers:
    """An executor that is started again after one of its workers died."""

    def __init__(self, executor: Executor, workers: int) -> None:
        self._executor, self._size = executor, workers
        self._replacement: LocalPool | None = None

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        try:
            return self._executor.submit(function, *arguments)
        except BrokenExecutor:
            if isinstance(self._executor, LocalPool):
                self._executor.restart()
            else:  # a pool of the caller's: only its owner could start it again
                self._executor = self._replacement = LocalPool(self._size)
            return self._executor.submit(function, *arguments)

    def close(self) -> None:
        if self._replacement is not None:
            self._replacement.terminate()


def run_each(
    function: Callable[..., Result],
    calls: Iterator[tuple[Key, tuple[Any, ...]]],
    executor: Executor | None = None,
    workers: int | None = None,
    *,
    lost: Callable[[Key], Result] | None = None,
    split: Callable[[Key, tuple[Any, ...]], Sequence[tuple[Key, tuple[Any, ...]]]] | None = None,
) -> Generator[tuple[Key, Result]]:
    """Results in the order in which they come, never more than ``workers`` calls under way.

    A call is drawn only when it can begin, after the results before it have been taken: what is drawn next may depend
    on them, and nothing waits in a queue when the caller stops. After the death of a worker, the calls that were under
    way are run again one at a time; those that were not go on afterwards. A broken process pool of the caller's is
    replaced by a local one of the same size.

    Args:
        function: what is called.
        calls: key and arguments of each call.
        executor: where; by default in this process.
        workers: how many at the same time; by default as many as the executor has.
        lost: result of a call under which a worker died twice; by default that is an error.
        split: the calls that a call of several items consists of, each run by itself after the death of its worker.

    Yields:
        Key and result of each.

    Raises:
        InputError: a worker died twice under one call, without ``lost``.
    """
    executor = executor or InlineExecutor()
    workers = workers or executor_size(executor)
    pool = _Workers(executor, workers)
    running: dict[Future[Result], _Call[Key]] = {}
    alone: deque[_Call[Key]] = deque()
    try:
        while True:
            if not alone:
                for key, arguments in itertools.islice(calls, workers - len(running)):
                    running[pool.submit(function, *arguments)] = _Call(key, arguments)
            elif not running:
                call = alone.popleft()
                running[pool.submit(function, *call.arguments)] = call
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                call = running.pop(future)
                error = future.exception()
                if error is None:
                    yield call.key, future.result()
                elif not worker_died(error):
                    raise error
                else:
                    call.tries += 1
                    parts = split(call.key, call.arguments) if split is not None else ()
                    if len(parts) > 1:
                        alone.extend(_Call(key, arguments, call.tries) for key, arguments in parts)
                    elif call.tries < MAX_TRIES:
                        alone.append(call)
                    elif lost is None:
                        raise InputError(f"{call.key}: {WORKER_DIED}")
                    else:
                        yield call.key, lost(call.key)
    finally:
        pool.close()


def map_items(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    chunksize: int = 16,
    worth_a_pool: int = 256,
    lost: Callable[[Item], Result] | None = None,
) -> Iterator[Result]:
    """``work`` of each item, in order, as `run_each` runs calls.

    Args:
        work: a function that can be pickled, as can its items and results.
        items: what is worked on.
        executor: where; by default local processes that end with the iteration.
        workers: local processes without ``executor``, by default one for each core; with it, calls at the same time.
        chunksize: items sent to a worker at once.
        worth_a_pool: below this many items, starting processes takes longer than the work.
        lost: result of an item under which a worker died twice; by default that is an error.

    Raises:
        InputError: a worker died twice under one item, without ``lost``; fewer than one worker.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: must be at least 1")
    if isinstance(executor, InlineExecutor):
        yield from map(work, items)
        return
    with contextlib.ExitStack() as stack:
        if executor is None:
            workers = min(workers or available_cores(), max(1, len(items)))
            if len(items) < worth_a_pool or workers == 1:
                yield from map(work, items)
                return
            executor, workers = stack.enter_context(open_executor(workers))
        # another call waits behind each one that runs: no worker idles while its result is written
        ahead = 2 * (workers or executor_size(executor))
        whole = ((start, min(start + chunksize, len(items))) for start in range(0, len(items), chunksize))
        calls = (((start, stop), (work, items[start:stop])) for start, stop in whole)
        ready: dict[int, list[Result]] = {}
        first = 0

        def give_up(key: tuple[int, int]) -> list[Result]:
            if lost is None:
                raise InputError(f"{items[key[0]]}: {WORKER_DIED}")
            return [lost(items[key[0]])]

        worker: Callable[..., list[Result]] = _work_on
        for (start, _), results in run_each(worker, calls, executor, ahead, lost=give_up, split=_single_items):
            ready[start] = results
            while first in ready:
                done = ready.pop(first)
                first += len(done)
                yield from done


def _work_on(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [work(item) for item in items]


def _single_items(key: tuple[int, int], arguments: tuple[Any, ...]) -> list[tuple[tuple[int, int], tuple[Any, ...]]]:
    work, items = arguments
    return [((key[0] + number, key[0] + number + 1), (work, [item])) for number, item in enumerate(items)]


def take_shard(items: Iterable[Item], shard: tuple[int, int]) -> list[Item]:
    """The items of a shard ``(i, n)``: each n-th, from the i-th on.

    Raises:
        InputError: i is not from 0 to n - 1.
    """
    number, count = shard
    if not 0 <= number < count:
        raise InputError(f"shard {number}/{count}: must be I/N with I from 0 to N-1")
    return list(items)[number::count]


def parse_shard(text: str | None) -> tuple[int, int]:
    """``"0/4"`` as numbers, ``(0, 1)`` without a text.

    Raises:
        InputError: another text.
    """
    if text is None:
        return 0, 1
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise InputError(f"--shard {text}: must be I/N, such as 0/4 to 3/4")
    return int(number), int(count)
