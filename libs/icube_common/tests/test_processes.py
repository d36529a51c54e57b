from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from icube_common.data.processes import available_cores, map_items


def test_results_keep_the_order_wherever_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    items = ["3", "1", "2"]
    assert list(map_items(int, items)) == [3, 1, 2]
    with ThreadPoolExecutor(2) as pool:
        assert list(map_items(int, items, executor=pool)) == [3, 1, 2]
    monkeypatch.setattr("icube_common.data.processes.available_cores", lambda: 2)
    assert list(map_items(int, items, worth_a_pool=1)) == [3, 1, 2]
    assert list(map_items(int, [])) == []


def test_there_is_a_core() -> None:
    assert available_cores() >= 1
