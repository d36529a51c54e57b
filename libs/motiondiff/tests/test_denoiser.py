"""The denoiser: padding that does not leak, learned nulls, the same numbers every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from motiondiff.models.conditioning import NULL, Conditions
from motiondiff.models.denoiser import MotionDenoiser, Packing, sinusoidal_positions

FEATURES, JOINTS = 9, 3


def make(**changes: Any) -> MotionDenoiser:
    """A small denoiser whose output depends on everything (a fresh one predicts zeros)."""
    settings = {"width": 16, "num_layers": 2, "num_heads": 2, "feedforward": 32, "dropout": 0.0, "max_frames": 20}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = MotionDenoiser(FEATURES, JOINTS, actions=["run", "walk"], styles=["calm"], **{**settings, **changes})
        torch.nn.init.normal_(denoiser.predict.weight, std=0.3)
        torch.nn.init.normal_(denoiser.embed_conditions.null_shape, std=0.3)
    return denoiser.eval()


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def conditions(batch: int) -> Conditions:
    return Conditions(
        action=torch.arange(batch) % 2,
        style=torch.zeros(batch, dtype=torch.long),
        shape=numbers(batch, JOINTS, seed=2),
        has_shape=torch.ones(batch, dtype=torch.bool),
    )


def row(given: Conditions, index: int) -> Conditions:
    part = slice(index, index + 1)
    return Conditions(given.action[part], given.style[part], given.shape[part], given.has_shape[part])


@pytest.mark.parametrize("step", [1, 16, 256], ids=["no padding kept", "some", "all"])
@pytest.mark.parametrize("padding", [0.0, 1e6, float("nan")], ids=["zeros", "garbage", "nan"])
@torch.no_grad()
def test_batch_and_single_clips_agree(monkeypatch: pytest.MonkeyPatch, padding: float, step: int) -> None:
    monkeypatch.setattr("motiondiff.models.denoiser.PACKING_STEP", step)
    denoiser, given = make(), conditions(4)
    lengths = [20, 13, 2, 7]
    timesteps = torch.tensor([3, 999, 40, 500])
    clips = [numbers(1, length, FEATURES, seed=length) for length in lengths]
    batch = torch.full((4, 20, FEATURES), padding)
    mask = torch.arange(20) < torch.tensor(lengths)[:, None]
    batch[mask] = torch.cat(clips, dim=1)[0]
    together = denoiser(batch, timesteps, given, mask)
    for index, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
        alone = denoiser(clip, timesteps[index], row(given, index))
        assert alone.abs().mean() > 0.1
        torch.testing.assert_close(together[index, :length], alone[0], atol=1e-5, rtol=0)
    assert torch.isfinite(together[mask]).all()


@torch.no_grad()
def test_frames_attend_to_all_others_by_position() -> None:
    denoiser, given = make(), row(conditions(1), 0)
    sample = numbers(1, 8, FEATURES)
    plain = denoiser(sample, torch.tensor(5), given)
    changed = sample.clone()
    changed[0, 7] += 1
    assert ((denoiser(changed, torch.tensor(5), given) - plain).abs().amax(-1) > 1e-5).all()
    assert (denoiser(sample.flip(1), torch.tensor(5), given).flip(1) - plain).abs().max() > 1e-3


@torch.no_grad()
def test_every_condition_matters_and_its_null_is_something_else() -> None:
    denoiser, given = make(), row(conditions(1), 0)
    sample, every = numbers(1, 6, FEATURES), torch.tensor([True])
    variants = {
        "given": given,
        "another action": replace(given, action=torch.tensor([1])),
        "no action": given.drop(action=every),
        "no style": given.drop(style=every),
        "no shape": given.drop(shape=every),
        "another shape": replace(given, shape=given.shape + 1),
        "no semantics": given.without_semantics(),
    }
    outputs = [denoiser(sample, torch.tensor(10), variant) for variant in variants.values()]
    outputs.append(denoiser(sample, torch.tensor(30), given))
    for index, first in enumerate(outputs):
        for second in outputs[:index]:
            assert (first - second).abs().max() > 1e-4
    # a shape that is not given does not matter
    unknown = replace(given.drop(shape=every), shape=given.shape + 7)
    torch.testing.assert_close(denoiser(sample, torch.tensor(10), unknown), outputs[4], atol=0, rtol=0)


@torch.no_grad()
def test_null_is_the_last_row_of_each_table() -> None:
    embedding = make().embed_conditions
    given = conditions(2).drop(action=torch.tensor([True, False]), style=torch.tensor([False, True]))
    assert given.action.tolist() == [NULL, 1] and given.style.tolist() == [0, NULL]
    tokens = embedding(given)
    assert tokens.shape == (2, 3, 16)
    assert torch.equal(tokens[0, 0], embedding.action.weight[2]) and torch.equal(
        tokens[1, 0], embedding.action.weight[1]
    )
    assert torch.equal(tokens[1, 1], embedding.style.weight[1]) and torch.equal(tokens[0, 1], embedding.style.weight[0])
    dropped = embedding(given.drop(shape=torch.tensor([True, False])))
    assert torch.equal(dropped[0, 2], embedding.null_shape) and torch.equal(dropped[1, 2], tokens[1, 2])


def test_drop_leaves_the_given_conditions_alone() -> None:
    given = conditions(2)
    bare = given.without_semantics()
    assert bare.action.tolist() == [NULL, NULL] and bare.style.tolist() == [NULL, NULL] and bare.has_shape.all()
    assert given.action.tolist() == [0, 1] and given.style.tolist() == [0, 0]
    both = Conditions.cat([bare, given])
    assert both.action.tolist() == [NULL, NULL, 0, 1] and both.shape.shape == (4, JOINTS)


@torch.no_grad()
def test_a_vocabulary_may_be_empty() -> None:
    denoiser = MotionDenoiser(FEATURES, JOINTS, width=16, num_layers=1, num_heads=2, feedforward=16)
    null = torch.tensor([NULL])
    given = Conditions(null, null, torch.zeros(1, JOINTS), torch.tensor([True]))
    assert denoiser(numbers(1, 4, FEATURES), torch.tensor(0), given).shape == (1, 4, FEATURES)


@torch.no_grad()
def test_golden_slice() -> None:
    output = make()(numbers(2, 5, FEATURES), torch.tensor([0, 30]), conditions(2))
    torch.testing.assert_close(output[0, 0, :4], torch.tensor(GOLDEN[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(output[1, 4, :4], torch.tensor(GOLDEN[1]), atol=1e-4, rtol=0)


GOLDEN = ([1.8714, 1.34964, -1.13377, -0.65354], [0.01771, 1.11234, -1.73592, 1.27874])
"""Recorded with torch 2.15 on a CPU."""


@torch.no_grad()
def test_save_and_load_is_exact(tmp_path: Path) -> None:
    denoiser = make()
    denoiser.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    again = MotionDenoiser.from_pretrained(tmp_path).eval()
    sample, given = numbers(2, 5, FEATURES), conditions(2)
    expected, loaded = (model(sample, torch.tensor(9), given) for model in (denoiser, again))
    assert torch.equal(expected, loaded)
    assert again.config.actions == ["run", "walk"] and again.config.max_frames == 20


def test_the_gradient_reaches_every_parameter() -> None:
    denoiser = make().train()
    given = Conditions(
        action=torch.tensor([0, 1, NULL]),
        style=torch.tensor([0, NULL, 0]),
        shape=numbers(3, JOINTS, seed=2),
        has_shape=torch.tensor([True, True, False]),
    )
    mask = torch.arange(6) < torch.tensor([6, 4, 2])[:, None]
    output = denoiser(numbers(3, 6, FEATURES), torch.tensor([1, 20, 30]), given, mask)
    (output[mask] ** 2).sum().backward()
    for name, value in denoiser.named_parameters():
        assert value.grad is not None and torch.isfinite(value.grad).all(), name
        assert value.grad.abs().max() > 0, name
    for table in (denoiser.embed_conditions.action, denoiser.embed_conditions.style):
        assert table.weight.grad is not None and (table.weight.grad.abs().amax(1) > 0).all()


@torch.no_grad()
def test_a_fresh_denoiser_predicts_the_mean_motion() -> None:
    denoiser = MotionDenoiser(FEATURES, JOINTS, width=16, num_layers=1, num_heads=2, feedforward=16)
    null = torch.tensor([NULL])
    given = Conditions(null, null, torch.zeros(1, JOINTS), torch.tensor([True]))
    assert denoiser(numbers(1, 4, FEATURES), torch.tensor(0), given).abs().max() == 0


@pytest.mark.parametrize(("width", "heads"), [(15, 3), (16, 3), (10, 4)])
def test_width_must_suit_the_heads(width: int, heads: int) -> None:
    with pytest.raises(ValueError, match=rf"model\.width={width}: must be even and a multiple of .*={heads}"):
        MotionDenoiser(FEATURES, JOINTS, width=width, num_heads=heads)


@pytest.mark.parametrize(("step", "kept"), [(1, 3), (2, 4), (4, 4), (256, 6)])
def test_packing_is_undone_by_unpacking(monkeypatch: pytest.MonkeyPatch, step: int, kept: int) -> None:
    monkeypatch.setattr("motiondiff.models.denoiser.PACKING_STEP", step)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    padded = numbers(2, 3, 4)
    packing = Packing(mask)
    assert packing.pack(padded).shape == (kept, 4)
    assert torch.equal(packing.unpack(packing.pack(padded))[mask], padded[mask])
    full = Packing(torch.ones(2, 3, dtype=torch.bool))
    assert full.attention_mask is None and torch.equal(full.unpack(full.pack(padded)), padded)


def test_position_code() -> None:
    code = sinusoidal_positions(3, 4)
    # sin and cos of n / 10000^0 and of n / 10000^(1/2)
    expected = [[0, 1, 0, 1], [0.841471, 0.540302, 0.0099998, 0.99995], [0.909297, -0.416147, 0.0199987, 0.9998]]
    torch.testing.assert_close(code, torch.tensor(expected), atol=1e-6, rtol=0)
