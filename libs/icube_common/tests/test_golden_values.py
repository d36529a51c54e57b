"""The comparison itself: equal, near and different values."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from golden_values import check


def test_near_values_pass_by_tolerance_and_not_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, array = tmp_path / "golden.json", np.linspace(0, 1, 7)
    monkeypatch.setenv("ICUBE_GOLDEN", "write")
    check(file, "run", {"loss": 0.25, "weights": array, "names": ["a"], "absent": math.nan})
    near = {"loss": 0.25 * (1 + 1e-6), "weights": array * (1 + 1e-6), "names": ["a"], "absent": math.nan}
    monkeypatch.setenv("ICUBE_GOLDEN", "")
    check(file, "run", near)
    monkeypatch.setenv("ICUBE_GOLDEN", "exact")
    check(file, "run", {"loss": 0.25, "weights": array, "names": ["a"], "absent": math.nan})
    with pytest.raises(AssertionError, match=r"(?s)/loss: .*/weights/sha256"):
        check(file, "run", near)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": 0.3, "names": ["a"]}, "/loss: 0.3, golden 0.25"),
        ({"loss": 0.25, "names": ["b"]}, "/names/0"),
        ({"loss": 0.25, "names": ["a", "b"]}, "2 items, golden 1"),
        ({"loss": 0.25}, "names.* on one side only"),
    ],
)
def test_other_values_fail(
    values: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICUBE_GOLDEN", "write")
    check(tmp_path / "golden.json", "run", {"loss": 0.25, "names": ["a"]})
    monkeypatch.delenv("ICUBE_GOLDEN")
    with pytest.raises(AssertionError, match=message):
        check(tmp_path / "golden.json", "run", values)
    with pytest.raises(AssertionError, match="no golden values 'other'"):
        check(tmp_path / "golden.json", "other", values)
