"""The heads over frame features: what they keep of the mean, of order, of masks, and that all of them learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actprompt.models.temporal_heads import HEADS, make_head
from icube_common.errors import InputError

LEARNED = ["transformer", "cross_frame"]
WIDTHS = {"mean_std": 2, "segment_difference": 3}
B, T, D = 3, 6, 32


def clips(frames: int = T, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(B, frames, D, generator=generator), dim=-1)


def trained(kind: str, **options: object) -> nn.Module:
    """A head whose last map is no longer zero, in eval mode."""
    head = make_head(kind, D, **options)  # type: ignore[arg-type]
    if kind in LEARNED:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            weight = head.integrate.out.weight  # type: ignore[union-attr]
            weight.copy_(0.1 * torch.randn(D, D, generator=generator))  # type: ignore[operator, union-attr]
    return head.eval()


def test_the_mean_of_the_real_frames_by_hand() -> None:
    features = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    head = make_head("mean", 2)
    assert head(features, torch.tensor([[True, True, False]])).tolist() == [[2.0, 4.0]]
    assert head(features[:, :2]).tolist() == [[2.0, 4.0]]
    assert list(head.parameters()) == []


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("frames", [1, 2, 7, 512])
def test_one_feature_for_a_clip_of_any_length(kind: str, frames: int) -> None:
    found = trained(kind)(clips(frames).half())
    assert found.shape == (B, WIDTHS.get(kind, 1) * D) and found.dtype == torch.float32
    assert found.isfinite().all()


@pytest.mark.parametrize("kind", LEARNED)
@pytest.mark.parametrize("frames", [1, T])
def test_a_new_head_is_the_mean(kind: str, frames: int) -> None:
    features = clips(frames)
    for mode in (True, False):
        head = make_head(kind, D, layers=2).train(mode)
        torch.testing.assert_close(head(features), features.mean(1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("gradient", [True, False])  # without one torch runs its encoder layers in another way
def test_a_masked_clip_is_the_shorter_clip_alone(kind: str, gradient: bool) -> None:
    features = clips()
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[0, 4:] = False
    mask[1, :3] = False
    mask[2, 2] = False
    head = trained(kind, layers=2)
    with torch.set_grad_enabled(gradient):
        found = head(features.masked_fill(~mask.unsqueeze(-1), float("nan")), mask)
        for number in range(B):
            alone = head(features[number, mask[number]].unsqueeze(0))[0]
            torch.testing.assert_close(found[number], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", HEADS)
def test_a_clip_without_frames_is_refused(kind: str) -> None:
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[1] = False
    with pytest.raises(ValueError, match=r"clips \[1\] of the batch"):
        make_head(kind, D)(clips(), mask)


@pytest.mark.parametrize("kind", HEADS)
def test_heads_that_order_matters_to(kind: str) -> None:
    features = clips()
    head = trained(kind)
    difference = (head(features) - head(features.flip(1))).abs().max()
    assert difference > 1e-2 if kind in (*LEARNED, "segment_difference") else difference < 1e-6


def test_mean_and_deviation_by_hand() -> None:
    features = torch.tensor([[[1.0, 2.0], [3.0, 8.0], [100.0, 100.0]]], requires_grad=True)
    found = make_head("mean_std", 2)(features, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 5.0, 1.0, 3.0]]))
    make_head("mean_std", 2)(features[:, :1]).sum().backward()
    assert features.grad is not None and features.grad.isfinite().all()


def test_thirds_minus_the_mean_by_hand() -> None:
    # the mean of the real frames is (3, 4); thirds of four frames: the first, the middle two, the last
    features = torch.tensor([[[0.0, 1.0], [2.0, 3.0], [4.0, 3.0], [9e9, 9e9], [6.0, 9.0]]])
    found = make_head("segment_difference", 2)(features, torch.tensor([[True, True, True, False, True]]))
    torch.testing.assert_close(found, torch.tensor([[-3.0, -3, 0, -1, 3, 5]]))


def test_thirds_of_eight_frames_and_of_constant_features() -> None:
    head = make_head("segment_difference", 1)
    # 3, 2 and 3 frames of mean 4.5, whatever is common to all of them
    for common in (0.0, 100.0):
        found = head(torch.arange(1.0, 9).reshape(1, 8, 1) + common)
        torch.testing.assert_close(found, torch.tensor([[-2.5, 0, 2.5]]))
    assert (head(torch.full((1, 5, 1), 7.0)) == 0).all() and (head(torch.full((1, 1, 1), 7.0)) == 0).all()
    # two frames: no frame in the middle third
    torch.testing.assert_close(head(torch.tensor([[[1.0], [3.0]]])), torch.tensor([[-1.0, 0, 1]]))
    assert list(head.parameters()) == []


@pytest.mark.parametrize("kind", LEARNED)
@pytest.mark.parametrize("frames", [4, 8, 32])
def test_the_same_clip_sampled_twice_as_densely_is_near(kind: str, frames: int) -> None:
    """Positions are shares of the clip: with each frame twice it stays far nearer than backwards."""
    features = clips(frames)
    head = trained(kind)
    twice = (head(features.repeat_interleave(2, dim=1)) - head(features)).norm()
    backwards = (head(features.flip(1)) - head(features)).norm()
    assert twice < 0.25 * backwards


@pytest.mark.parametrize("kind", LEARNED)
def test_every_parameter_has_a_gradient_within_two_steps(kind: str) -> None:
    head = make_head(kind, D, layers=2, dropout=0.1)
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    target = torch.randn(B, D, generator=torch.Generator().manual_seed(2))
    felt: set[str] = set()
    for _ in range(2):
        optimiser.zero_grad()
        F.mse_loss(head(clips()), target).backward()
        felt |= {name for name, value in head.named_parameters() if value.grad is not None and value.grad.any()}
        optimiser.step()
    assert felt == {name for name, _ in head.named_parameters()}


@pytest.mark.parametrize("kind", LEARNED)
def test_the_seed_decides_and_the_global_generator_is_left_alone(kind: str) -> None:
    before = torch.get_rng_state()
    one, same, other = (trained(kind, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one(clips()), same(clips()))
    assert not torch.allclose(one(clips()), other(clips()))


def test_dropout_only_in_training() -> None:
    head = trained("cross_frame", dropout=0.5)
    assert torch.equal(head(clips()), head(clips()))
    head.train()
    torch.manual_seed(0)
    assert not torch.equal(head(clips()), head(clips()))


@pytest.mark.parametrize("kind", LEARNED)
def test_learning_the_order_of_colours(kind: str) -> None:
    """Two classes with the same frames in opposite order: chance is ln 2, and all that the mean can reach."""
    generator = torch.Generator().manual_seed(0)
    start, end = F.normalize(torch.randn(2, D, generator=generator), dim=-1)
    share = torch.linspace(0, 1, T).unsqueeze(-1)
    forwards = (1 - share) * start + share * end
    noise = 0.05 * torch.randn(8, T, D, generator=generator)
    features = F.normalize(torch.stack([forwards, forwards.flip(0)]).repeat(4, 1, 1) + noise, dim=-1)
    labels = torch.tensor([0, 1] * 4)
    classes = F.normalize(torch.randn(2, D, generator=generator), dim=-1)
    head = make_head(kind, D)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for _ in range(40):
        loss = F.cross_entropy(10 * F.normalize(head(features), dim=-1) @ classes.T, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1


def test_the_heads_of_attention_follow_the_width() -> None:
    assert make_head("transformer", 512).integrate.layers[0].self_attn.num_heads == 8  # type: ignore[index, union-attr]
    assert make_head("transformer", 200).integrate.layers[0].self_attn.num_heads == 2  # type: ignore[index, union-attr]
    assert make_head("cross_frame", 33, heads=3)(torch.ones(1, 2, 33)).shape == (1, 33)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("transformers", {}, "unknown temporal head 'transformers': did you mean 'transformer'"),
        ("transformer", {"layers": 0}, "layers 0"),
        ("cross_frame", {"heads": 5}, "heads 5: has to divide the width 32"),
        ("cross_frame", {"dropout": 1.0}, "dropout 1.0"),
    ],
)
def test_wrong_settings_are_refused(kind: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_head(kind, D, **options)  # type: ignore[arg-type]
