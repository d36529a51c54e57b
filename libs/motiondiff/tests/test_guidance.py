"""Guidance with one scale, and with a scale for each condition."""

from __future__ import annotations

import pytest
import torch

from icube_common.errors import InputError
from motiondiff.models.conditioning import NULL, Conditions
from motiondiff.pipelines.guidance import make_guidance


@pytest.fixture
def conditions() -> Conditions:
    return Conditions(
        action=torch.tensor([0, 1]),
        style=torch.tensor([2, NULL]),
        shape=torch.zeros(2, 3),
        has_shape=torch.ones(2, dtype=torch.bool),
        text=torch.ones(2, 4),
        has_text=torch.tensor([True, False]),
    )


def values(*rows: float) -> torch.Tensor:
    """(2 R, 1, 1) predictions: both motions alike in each row."""
    return torch.tensor([[[row]] for row in rows for _ in range(2)])


def test_one_scale_extrapolates_from_null(conditions: Conditions) -> None:
    guidance = make_guidance(conditions, 2.5)
    assert guidance.rows == 2
    assert guidance.conditions.action.tolist() == [NULL, NULL, 0, 1]
    assert guidance.conditions.has_shape.all()
    assert guidance.combine(values(1.0, 3.0)).flatten().tolist() == [6.0, 6.0]  # 1 + 2.5 * 2


@pytest.mark.parametrize("scale", [1.0, {"action": 1.0}])
def test_without_guidance_there_is_one_row(conditions: Conditions, scale: float | dict[str, float]) -> None:
    guidance = make_guidance(conditions, scale)
    assert guidance.rows == 1
    assert guidance.conditions is conditions
    assert guidance.combine(values(3.0)).flatten().tolist() == [3.0, 3.0]


def test_conditions_are_added_one_after_the_other(conditions: Conditions) -> None:
    guidance = make_guidance(conditions, {"style": 1.5, "action": 2.0, "text": 3.0})
    assert guidance.rows == 4
    assert guidance.conditions.style.tolist() == [NULL, NULL, 2, NULL, 2, NULL, 2, NULL]
    assert guidance.conditions.action.tolist() == [NULL, NULL, NULL, NULL, 0, 1, 0, 1]
    assert guidance.conditions.has_text is not None
    assert guidance.conditions.has_text.tolist() == [False] * 6 + [True, False]
    # 1 + 1.5 (2 - 1) + 2 (4 - 2) + 3 (5 - 4)
    assert guidance.combine(values(1.0, 2.0, 4.0, 5.0)).flatten().tolist() == [9.5, 9.5]


def test_conditions_of_one_scale_share_a_row(conditions: Conditions) -> None:
    guidance = make_guidance(conditions, {"action": 2.0, "text": 2.0})
    assert guidance.scales == (1.0, 2.0)
    assert guidance.rows == 3


@pytest.mark.parametrize(
    ("scale", "words"), [({"acton": 2.0}, "acton"), ({"text": -1.0}, "-1 of text"), (float("nan"), "nan")]
)
def test_impossible_scales_are_refused(conditions: Conditions, scale: float | dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_guidance(conditions, scale)
