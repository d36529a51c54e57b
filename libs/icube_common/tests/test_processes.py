"""Work on many items: the order of the results, workers that are killed, executors of others, Dask, shards."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from icube_common.data.processes import (
    WORKER_DIED,
    LocalPool,
    available_cores,
    executor_size,
    map_items,
    open_executor,
    parse_shard,
    run_each,
    take_shard,
)
from icube_common.errors import InputError


def square(number: int) -> int:
    return number * number


def die_on_three(number: int) -> int:
    """A worker that kills itself on one item, as the kernel kills one that is out of memory."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die_once(task: tuple[int, str]) -> int:
    number, folder = task
    mark = Path(folder) / f"{number}"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


SQUARES_WITHOUT_THREE = [0, 1, 4, WORKER_DIED, 16, 25, 36, 49, 64, 81]


def test_results_keep_the_order_wherever_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    items = ["3", "1", "2"]
    assert list(map_items(int, items)) == [3, 1, 2]
    with ThreadPoolExecutor(2) as pool:
        assert list(map_items(int, items, executor=pool, chunksize=1)) == [3, 1, 2]
    monkeypatch.setattr("icube_common.data.processes.available_cores", lambda: 2)
    assert list(map_items(int, items, worth_a_pool=1)) == [3, 1, 2]
    assert list(map_items(int, [])) == []


def test_there_is_a_core() -> None:
    assert available_cores() >= 1


@pytest.mark.parametrize("chunksize", [1, 4])
def test_a_killed_worker_costs_its_item_alone(chunksize: int) -> None:
    with open_executor(2) as (pool, workers):
        results = map_items(
            die_on_three, range(10), executor=pool, workers=workers, chunksize=chunksize, lost=lambda _: WORKER_DIED
        )
        assert list(results) == SQUARES_WITHOUT_THREE
        # the pool that was started again serves what comes next
        assert list(map_items(square, range(3), executor=pool)) == [0, 1, 4]


def test_a_worker_that_is_killed_once_costs_nothing(tmp_path: Path) -> None:
    tasks = [(number, str(tmp_path)) for number in range(6)]
    with open_executor(2) as (pool, _):
        assert list(map_items(die_once, tasks, executor=pool, chunksize=2)) == [0, 1, 4, 9, 16, 25]


def test_a_pool_of_the_users_is_replaced_when_it_breaks() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert executor_size(pool) == 2
        results = map_items(die_on_three, range(10), executor=pool, chunksize=1, lost=lambda _: WORKER_DIED)
        assert list(results) == SQUARES_WITHOUT_THREE


def test_without_a_rejection_a_killed_worker_is_one_line() -> None:
    with open_executor(2) as (pool, _), pytest.raises(InputError, match=f"^3: {WORKER_DIED}"):
        list(map_items(die_on_three, range(5), executor=pool, chunksize=1))


def test_an_error_of_an_item_is_no_death_of_a_worker() -> None:
    with LocalPool(2) as pool, pytest.raises(ValueError, match="invalid literal"):
        list(map_items(int, ["1", "x"], executor=pool))


def test_calls_are_drawn_when_they_can_begin() -> None:
    """Calls may depend on the results before them, as in a search."""
    results: list[int] = []

    def calls():  # type: ignore[no-untyped-def]
        while len(results) < 4:
            yield len(results), (len(results),)

    for _, result in run_each(square, calls()):
        results.append(result)
    assert results == [0, 1, 4, 9]


def test_a_dask_cluster_of_two_processes() -> None:
    """Dask tries the call of a dead worker on others itself; the item is given up after that."""
    distributed = pytest.importorskip("distributed", reason="needs icube-common[cluster]")
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        open_executor(1, cluster.scheduler_address) as (executor, workers),
    ):
        assert workers == 2
        assert list(map_items(square, range(20), executor=executor, workers=workers, chunksize=3)) == [
            number * number for number in range(20)
        ]
        results = map_items(die_on_three, range(10), executor=executor, chunksize=1, lost=lambda _: WORKER_DIED)
        assert list(results) == SQUARES_WITHOUT_THREE


def test_shards_are_a_partition() -> None:
    parts = [take_shard("abcdefg", parse_shard(f"{number}/3")) for number in range(3)]
    assert parts == [["a", "d", "g"], ["b", "e"], ["c", "f"]]
    assert take_shard("abc", parse_shard(None)) == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"shard 3/3: must be I/N with I from 0 to N-1"):
        take_shard("abc", (3, 3))
    for text in ("3/3", "first", "1/", "/2", "-1/2"):
        with pytest.raises(InputError, match=f"--shard {text}: must be I/N"):
            parse_shard(text)
