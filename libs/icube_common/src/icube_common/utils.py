"""Utilities of all libraries: lazy exports (PEP 562), one text or several, work spread over processes."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor


def lazy_exports(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a module-level ``__getattr__`` and ``__dir__`` for ``package``.

    Args:
        package: the importing package's ``__name__``.
        names: public name -> the submodule that defines it, relative to ``package`` (``"pipeline"``).

    Returns:
        The pair ``(__getattr__, __dir__)`` to bind in the package's ``__init__``.
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    def __dir__() -> list[str]:
        return sorted(names)

    return __getattr__, __dir__


def as_list(texts: str | Iterable[str]) -> list[str]:
    """The texts as a list; a single string becomes a list of one."""
    return [texts] if isinstance(texts, str) else list(texts)


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
) -> Iterator[Result]:
    """``work`` of each item, in order.

    Args:
        work: a function that can be pickled, as can its items and results.
        items: what is worked on.
        executor: where; by default a local process pool that ends with the iteration.
        worth_a_pool: below this many items, starting processes takes longer than the work.
        chunksize: items sent to a process at once.
    """
    processes = available_cores()
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
