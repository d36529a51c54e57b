"""Sentences of named parameters: two of opposite meaning for each."""

from __future__ import annotations

import numpy as np
import pytest
from act_world import directions

from actprompt.skeleton.captions import parameter_phrases
from actprompt.skeleton.features import joint_parameters, limb_parameters

LIMBS = tuple(limb_parameters(directions("wave", np.random.default_rng(0)), 2.0))
JOINTS = tuple(
    joint_parameters(np.random.default_rng(0).normal(size=(5, 4, 3)), ["head", "left_hand", "right wrist", "hip"], 2.0)
)


@pytest.mark.parametrize("name", [*LIMBS, *JOINTS])
def test_every_parameter_has_two_sentences(name: str) -> None:
    high, low = parameter_phrases(name)
    assert high and low and high != low
    for sentence in (high, low):
        assert "_" not in sentence and "  " not in sentence and sentence == sentence.strip() and "," not in sentence
        # a sentence of its own names what moves, never the moment as the table spells it
        assert not any(word in sentence.split() for word in ("mean", "smallest", "highest"))


def test_names_without_sentences_are_written_out() -> None:
    assert len(JOINTS) == 1 + 4 * 4 + 3 * 2
    assert parameter_phrases("left_hand speed, mean") == ("the left hand moves quickly", "the left hand stays still")
    assert parameter_phrases("head height, mean")[1] == "the head is low near the ground"
    assert parameter_phrases("hip range") == ("the hip moves far", "the hip stays in its place")
    assert parameter_phrases("head to hip, smallest")[1] == "always the head is close to the hip"
    assert parameter_phrases("step count") == ("the step count is large", "the step count is small")
    assert parameter_phrases("knee bend, last") == (
        "at the end the knees are strongly bent",
        "at the end the knees are straight and the person stands upright",
    )
    assert parameter_phrases("hands apart, smallest")[1] == "the hands come close together"
