from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icube_common.errors import InputError, nearest, require, unknown


@pytest.mark.parametrize(
    ("name", "candidates", "expected"),
    [
        ("wlak", ["walk", "run", "sit"], "walk"),
        ("WALK", ["walk", "run"], "walk"),
        ("max_stepz", ["max_steps", "batch_size"], "max_steps"),
        ("qqqq", ["walk", "run"], None),
        ("walk", [], None),
    ],
)
def test_nearest(name: str, candidates: list[str], expected: str | None) -> None:
    assert nearest(name, candidates) == expected


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, unique_by=str.lower), st.data())
def test_a_known_name_is_nearest_to_itself(names: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names))
    assert nearest(name, names) == name


def test_unknown_names_the_kind_the_value_and_the_nearest() -> None:
    error = unknown("action", "wlak", ["run", "walk"])
    assert isinstance(error, InputError) and isinstance(error, ValueError)
    assert str(error) == "unknown action 'wlak': did you mean 'walk'? (known: run, walk)"


def test_unknown_lists_at_most_thirty_names_in_one_line() -> None:
    message = str(unknown("joint", "zzz", [f"name{number:03}" for number in range(100)]))
    assert "name029, ..." in message and "name030" not in message and "\n" not in message


def test_unknown_without_candidates() -> None:
    assert str(unknown("action", "walk", [])) == "unknown action 'walk': (known: none)"


def test_require_returns_the_module() -> None:
    import json

    assert require("json", package="motiondiff") is json


@pytest.mark.parametrize(("extra", "target"), [("blender", "'motiondiff[blender]'"), (None, "no_such_module")])
def test_require_carries_the_pip_command(extra: str | None, target: str) -> None:
    with pytest.raises(InputError, match=r"no_such_module is needed here and not installed") as caught:
        require("no_such_module", package="motiondiff", extra=extra)
    assert str(caught.value).endswith(f"pip install {target}")
