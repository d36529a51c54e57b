"""Loss terms against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from motiondiff.models.losses import (
    CONTACT_HEIGHT,
    CONTACT_SPEED,
    masked_mean,
    min_snr_weights,
    motion_losses,
)
from motiondiff.models.representation import MotionRepresentation

FPS = 10.0
# hips with a foot 1 m below: D = 3 + 2 * 6 features, not normalised (mean 0, deviation 1)
OFFSETS = torch.tensor([[[0.0, 0, 0], [0, -1, 0]]])
UPRIGHT = [1.0, 0, 0, 0, 1, 0]
FORWARD = [1.0, 0, 0, 0, 0, 1]
"""A quarter turn about x: down becomes backwards, so the foot goes from (0, -1, 0) to (0, 0, -1)."""


@pytest.fixture
def body() -> MotionRepresentation:
    return MotionRepresentation(["hips", "foot"], [-1, 0], fps=FPS, feet=[1])


def clip(*frames: tuple[tuple[float, float, float], list[float]]) -> Tensor:
    """(1, T, 15) features: the root's place and the hips' rotation of each frame."""
    return torch.tensor([[[*root, *hips, *UPRIGHT] for root, hips in frames]])


ORIGIN = (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("values", "mask", "expected"),
    [
        ([[1.0, 3.0]], [[1, 1]], 2.0),
        ([[1.0, 99.0]], [[1, 0]], 1.0),
        # a clip of one frame weighs as much as one of three: ((2) + (4 + 6 + 8) / 3) / 2
        ([[2.0, 99, 99], [4, 6, 8]], [[1, 0, 0], [1, 1, 1]], 4.0),
        ([[5.0, 7.0]], [[0, 0]], 0.0),
    ],
)
def test_masked_mean(values: list[list[float]], mask: list[list[int]], expected: float) -> None:
    flags = torch.tensor(mask, dtype=torch.bool)
    assert masked_mean(torch.tensor(values), flags).item() == pytest.approx(expected)
    # further dimensions are averaged first
    spread = torch.stack([torch.tensor(values) - 1, torch.tensor(values) + 1], dim=-1)
    assert masked_mean(spread, flags).item() == pytest.approx(expected * float(flags.any()))


STILL = clip((ORIGIN, UPRIGHT), (ORIGIN, UPRIGHT))
CASES = {
    "nothing is wrong": (
        STILL,
        STILL,
        {"simple": 0, "positions": 0, "root": 0, "velocity": 0, "contact": 0, "feet": 0},
    ),
    # x is 0.1 m off in both frames: one of 15 features, by 0.1, one of three axes of the root by one unit; relative to
    # the root no joint is wrong, no step is
    "root beside its place": (
        clip(((0.1, 0, 0), UPRIGHT), ((0.1, 0, 0), UPRIGHT)),
        STILL,
        {"simple": 0.01 / 15, "positions": 0, "root": 1 / 3, "velocity": 0, "contact": 0, "feet": 1 / 3},
    ),
    # the root slips by 4 cm in one frame of 0.1 s: both joints move at 0.4 m/s, one unit, along one of three axes; the
    # foot should stand, so its squared speed of 1 along one of three axes is counted
    "root slips": (
        clip((ORIGIN, UPRIGHT), ((0.04, 0, 0), UPRIGHT)),
        STILL,
        {
            "simple": 0.04**2 / 15 / 2,
            "positions": 0,
            "root": 0.4**2 / 3 / 2,
            "velocity": 1 / 3,
            "contact": 1 / 3,
            "feet": 0.4**2 / 3 / 2,
        },
    ),
    # the leg points backwards in both frames: the foot is off by (0, 1, -1) m = (0, 10, -10) dm, one joint of two;
    # the second column changes from (0, 1, 0) to (0, 0, 1), two of 15 features by 1
    "leg turned": (
        clip((ORIGIN, FORWARD), (ORIGIN, FORWARD)),
        STILL,
        {"simple": 2 / 15, "positions": 200 / 6, "root": 0, "velocity": 0, "contact": 0, "feet": 200 / 3},
    ),
    # the leg swings in the second frame: the foot moves at (0, 10, -10) m/s = (0, 25, -25) units, one joint of two
    "leg swings": (
        clip((ORIGIN, UPRIGHT), (ORIGIN, FORWARD)),
        STILL,
        {
            "simple": 2 / 15 / 2,
            "positions": 200 / 6 / 2,
            "root": 0,
            "velocity": 1250 / 6,
            "contact": 1250 / 3,
            "feet": 200 / 3 / 2,
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_terms(body: MotionRepresentation, case: str) -> None:
    predicted, target, expected = CASES[case]
    mask = torch.ones(predicted.shape[:2], dtype=torch.bool)
    terms = motion_losses(predicted, target, mask, OFFSETS, body)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, abs=1e-6, rel=1e-4)


def test_only_feet_that_stand_are_held(body: MotionRepresentation) -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)
    below, above = CONTACT_SPEED / FPS * 0.99, CONTACT_SPEED / FPS * 1.01
    standing = clip((ORIGIN, UPRIGHT), ((below, 0, 0), UPRIGHT))
    walking = clip((ORIGIN, UPRIGHT), ((above, 0, 0), UPRIGHT))
    sliding = clip((ORIGIN, UPRIGHT), ((0.04, 0, 0), UPRIGHT))
    assert motion_losses(sliding, standing, mask, OFFSETS, body)["contact"].item() == pytest.approx(1 / 3, rel=1e-4)
    assert motion_losses(sliding, walking, mask, OFFSETS, body)["contact"].item() == 0


def test_a_foot_that_passes_above_the_floor_does_not_stand(body: MotionRepresentation) -> None:
    """A slow foot counts as standing up to `CONTACT_HEIGHT` above its lowest place in the clip."""
    mask = torch.ones(1, 4, dtype=torch.bool)
    for height, share in ((CONTACT_HEIGHT * 0.99, 1 / 3), (CONTACT_HEIGHT * 1.01, 0.0)):
        # on the floor, then slowly forward at a height: of three steps the last alone joins two frames of one height
        places = [ORIGIN, (0.5, 0, 0), (1.0, height, 0), (1.0, height, 0)]
        target = clip(*((place, UPRIGHT) for place in places))
        places[3] = (1.04, height, 0)
        predicted = clip(*((place, UPRIGHT) for place in places))
        terms = motion_losses(predicted, target, mask, OFFSETS, body)
        assert terms["contact"].item() == pytest.approx(share / 3, rel=1e-4)
    # what stands at padding is no lowest place
    padded = torch.cat([target, clip(((0, -5, 0), UPRIGHT))], dim=1)
    worse = torch.cat([predicted, clip(((0, -5, 0), UPRIGHT))], dim=1)
    flags = torch.tensor([[False, False, True, True, False]])
    assert motion_losses(worse, padded, flags, OFFSETS, body)["contact"].item() == pytest.approx(1 / 3, rel=1e-4)


def test_weights_of_clips(body: MotionRepresentation) -> None:
    """Each clip's errors count by its weight; the mean is over clips, not over weights."""
    predicted, target, expected = CASES["leg swings"]
    two = torch.cat([predicted, target]), torch.cat([target, target])
    mask = torch.ones(2, 2, dtype=torch.bool)
    for weights, factor in (([3.0, 1.0], 1.5), ([0.0, 9.0], 0.0), ([1.0, 1.0], 0.5)):
        terms = motion_losses(*two, mask, OFFSETS.expand(2, -1, -1), body, torch.tensor(weights))
        for name, value in terms.items():
            assert value.item() == pytest.approx(factor * expected[name], rel=1e-4, abs=1e-7)
    assert masked_mean(torch.tensor([[1.0], [3.0]]), mask[:, :1], torch.tensor([1.0, 2.0])).item() == 3.5


def test_min_snr_weights() -> None:
    """Hang et al., eq. 8: a / (1 - a), at most gamma; no less than a floor that the paper does not have."""
    cumulative = torch.tensor([1.0, 0.99, 0.8, 0.5, 0.2, 0.001, 0.0])
    assert min_snr_weights(cumulative, gamma=5.0).tolist() == pytest.approx([5, 5, 4, 1, 0.25, 0.001, 0], rel=2e-3)
    weights = min_snr_weights(cumulative, gamma=5.0, floor=0.5)
    assert weights.tolist() == pytest.approx([5, 5, 4, 1, 0.5, 0.5, 0.5], rel=1e-4)
    # a floor above gamma: all weigh the same
    assert min_snr_weights(cumulative, gamma=0.25, floor=0.5).tolist() == [0.25] * 7


def test_a_body_without_feet_has_no_contact_term() -> None:
    body = MotionRepresentation(["hips", "head"], [-1, 0], fps=FPS)
    sliding = clip((ORIGIN, UPRIGHT), ((0.04, 0, 0), UPRIGHT))
    terms = motion_losses(sliding, STILL, torch.ones(1, 2, dtype=torch.bool), OFFSETS, body)
    assert terms["contact"].item() == 0
    assert terms["velocity"].item() == pytest.approx(1 / 3, rel=1e-4)


def test_padding_never_counts(body: MotionRepresentation) -> None:
    generator = torch.Generator().manual_seed(0)
    target, predicted = (torch.randn(2, 6, 15, generator=generator) * 0.01 + STILL[:, :1] for _ in range(2))
    lengths = torch.tensor([6, 3])
    mask = torch.arange(6) < lengths[:, None]
    offsets = OFFSETS.expand(2, 2, 3)
    terms = motion_losses(predicted, target, mask, offsets, body)
    garbage = torch.where(mask[..., None], predicted, torch.randn(2, 6, 15, generator=generator) * 1e3)
    for name, value in motion_losses(garbage, target, mask, offsets, body).items():
        torch.testing.assert_close(value, terms[name], atol=0, rtol=0)
    alone = [
        motion_losses(predicted[i : i + 1, :n], target[i : i + 1, :n], mask[i : i + 1, :n], OFFSETS, body)
        for i, n in enumerate(lengths.tolist())
    ]
    for name, value in terms.items():
        assert value.item() == pytest.approx((alone[0][name] + alone[1][name]).item() / 2, rel=1e-5)
        assert value.item() > 0


def test_terms_are_in_metres_whatever_the_normalisation(body: MotionRepresentation) -> None:
    predicted, target, expected = CASES["leg swings"]
    body.set_statistics(torch.linspace(-1, 1, 15), torch.linspace(0.5, 2, 15), OFFSETS[0])
    mask = torch.ones(1, 2, dtype=torch.bool)
    terms = motion_losses(body.normalise(predicted, OFFSETS), body.normalise(target, OFFSETS), mask, OFFSETS, body)
    for name in ("positions", "velocity", "contact"):
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-4)


def test_twice_as_long_a_leg_is_twice_as_far_off(body: MotionRepresentation) -> None:
    predicted, target, expected = CASES["leg turned"]
    terms = motion_losses(predicted, target, torch.ones(1, 2, dtype=torch.bool), 2 * OFFSETS, body)
    assert terms["positions"].item() == pytest.approx(4 * expected["positions"], rel=1e-4)
