"""Executors of a study's runs: this process, local processes, or a Dask cluster."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

from icube_common.errors import InputError, require

Key = TypeVar("Key")
Result = TypeVar("Result")


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


def run_each(
    function: Callable[..., Result], calls: Iterator[tuple[Key, tuple[Any, ...]]], executor: Executor, workers: int
) -> Iterator[tuple[Key, Result]]:
    """Results in the order in which they come, never more than ``workers`` calls under way.

    A call is drawn only when it can begin, after the results before it have been taken: what is drawn next may depend
    on them, and nothing waits in a queue when the caller stops.

    Args:
        function: what is called.
        calls: key and arguments of each call.
        executor: where.
        workers: how many at the same time.

    Yields:
        Key and result of each.
    """
    running: dict[Future[Result], Key] = {}
    while True:
        for key, arguments in itertools.islice(calls, workers - len(running)):
            running[executor.submit(function, *arguments)] = key
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future.result()


@contextlib.contextmanager
def open_executor(workers: int = 1, dask: str | None = None) -> Iterator[tuple[Executor, int]]:
    """The executor that ``--workers`` and ``--dask`` ask for, closed when the block ends; an error ends its processes.

    Local processes share the cores evenly and end with the process that started them, however that ends. With Dask,
    the study's folder has to be on a disk that every worker reads under the same path.

    Args:
        workers: local processes; 1 means this process.
        dask: address of a Dask scheduler, such as ``tcp://host:8786``.

    Yields:
        The executor, and how many calls it runs at the same time.

    Raises:
        InputError: fewer than one worker, both ways asked for, Dask is not installed, or nothing answers there.
    """
    if workers < 1:
        raise InputError(f"--workers {workers}: must be at least 1")
    if dask is not None:
        if workers != 1:
            raise InputError(f"--workers {workers} --dask {dask}: the cluster decides how many workers it has")
        with _dask_client(dask) as client:
            executor = client.get_executor(pure=False)
            yield executor, max(1, sum(client.nthreads().values()))
    elif workers == 1:
        yield InlineExecutor(), 1
    else:
        threads = max(1, (os.cpu_count() or 1) // workers)
        # spawned, not forked: a fork of a process that has started threads (torch) may hang
        context = multiprocessing.get_context("spawn")
        others = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker, initargs=(threads,))
        try:
            yield pool, workers
        except BaseException:
            # hours may be left of what runs, and no caller waits for it any more
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        pool.shutdown()


@contextlib.contextmanager
def _dask_client(address: str) -> Iterator[Any]:
    distributed = require("distributed", package="icube-common", extra="dask")
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
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        # a training in progress would otherwise go on writing where a resumed study writes as well
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
