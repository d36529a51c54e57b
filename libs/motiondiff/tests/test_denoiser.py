"""The denoiser: padding that does not leak, learned nulls, the same numbers every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from motiondiff.models.conditioning import NULL, Conditions
from motiondiff.models.denoiser import MotionDenoiser, Packing, TimeConvolution, attention, sinusoidal_positions

FEATURES, JOINTS = 9, 3


def make(**changes: Any) -> MotionDenoiser:
    """A small denoiser whose output depends on everything (a fresh one is a Wiener filter, without convolutions)."""
    settings = {"width": 16, "num_layers": 2, "num_heads": 2, "feedforward": 32, "dropout": 0.0, "max_frames": 20}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = MotionDenoiser(FEATURES, JOINTS, actions=["run", "walk"], styles=["calm"], **{**settings, **changes})
        torch.nn.init.normal_(denoiser.predict.weight, std=0.3)
        torch.nn.init.normal_(denoiser.embed_conditions.null_shape, std=0.3)
        for module in denoiser.modules():
            if isinstance(module, TimeConvolution):
                torch.nn.init.normal_(module.out.weight, std=0.3)
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
    output = make()(numbers(2, 5, FEATURES), torch.tensor([600, 900]), conditions(2))
    torch.testing.assert_close(output[0, 0, :4], torch.tensor(GOLDEN[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(output[1, 4, :4], torch.tensor(GOLDEN[1]), atol=1e-4, rtol=0)


GOLDEN = ([-3.141, -0.6773, -1.34335, -1.43962], [0.47499, 2.9376, 0.52416, 2.97932])
"""Recorded with torch 2.15 on a CPU, with spectral preconditioning, convolutions and two timesteps of much noise: there
the network decides and not the noisy motion."""


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
def test_a_fresh_denoiser_is_the_wiener_filter_of_white_motions() -> None:
    denoiser = MotionDenoiser(FEATURES, JOINTS, width=16, num_layers=1, num_heads=2, feedforward=16)
    null = torch.tensor([NULL])
    given = Conditions(null, null, torch.zeros(1, JOINTS), torch.tensor([True]))
    sample = numbers(1, 4, FEATURES)
    for timestep in (0, 400, 999):
        # x_t = sqrt(a) x0 + sqrt(1 - a) noise: of deviation 1, and E(x0 | x_t) = sqrt(a) x_t
        share = denoiser.cumulative[timestep].sqrt()
        predicted = denoiser(sample, torch.tensor(timestep), given)
        # of the mean of four frames the deviation is 1, not the 1 / 2 of white noise
        parts, expected = predicted - predicted.mean(1, keepdim=True), sample - sample.mean(1, keepdim=True)
        torch.testing.assert_close(parts, share * expected, atol=1e-5, rtol=0)
        variance = 4 * share**2 / (4 * share**2 + 1 - share**2)
        torch.testing.assert_close(predicted.mean(1), variance / share * sample.mean(1), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_fresh_denoiser_without_preconditioning_predicts_the_mean_motion() -> None:
    settings: dict[str, Any] = {"width": 16, "num_layers": 1, "num_heads": 2, "feedforward": 16}
    denoiser = MotionDenoiser(FEATURES, JOINTS, preconditioning="none", **settings)
    null = torch.tensor([NULL])
    given = Conditions(null, null, torch.zeros(1, JOINTS), torch.tensor([True]))
    assert denoiser(numbers(1, 4, FEATURES), torch.tensor(0), given).abs().max() == 0
    assert not hasattr(denoiser, "spectrum") and denoiser.predict.out_features == FEATURES


@torch.no_grad()
def test_the_preconditioning_is_saved(tmp_path: Path) -> None:
    denoiser = make(num_train_timesteps=7)
    spectrum, cumulative = numbers(*denoiser.spectrum.shape).exp(), torch.linspace(0.99, 0.01, 7)
    before = denoiser(numbers(1, 5, FEATURES), torch.tensor(3), row(conditions(2), 0))
    denoiser.set_preconditioning(spectrum, cumulative)
    after = denoiser(numbers(1, 5, FEATURES), torch.tensor(3), row(conditions(2), 0))
    assert (before - after).abs().max() > 0.01
    denoiser.save_pretrained(tmp_path)
    again = MotionDenoiser.from_pretrained(tmp_path).eval()
    assert torch.equal(again.spectrum, spectrum) and torch.equal(again.cumulative, cumulative)
    assert torch.equal(again(numbers(1, 5, FEATURES), torch.tensor(3), row(conditions(2), 0)), after)
    plain = make(preconditioning="none")
    plain.set_preconditioning(spectrum, cumulative)  # nothing to fix
    assert not plain.spectral


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"convolution": 4}, r"model\.convolution=4: must be odd"),
        ({"preconditioning": "ddpm"}, "must be one of spectral"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(**settings)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_training_on_a_cpu_is_torchs(masked: bool) -> None:
    mask = (torch.arange(6) < torch.tensor([6, 3])[:, None])[:, None, None] if masked else None
    tensors = [numbers(2, 4, 6, 8, seed=seed) for seed in range(3)]
    grown = [tensor.clone().requires_grad_() for tensor in tensors]
    result, weight = attention(grown[0], grown[1], grown[2], mask), numbers(2, 4, 6, 8, seed=9)
    reference = [tensor.clone().requires_grad_() for tensor in tensors]
    expected = torch.nn.functional.scaled_dot_product_attention(*reference, attn_mask=mask)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    for value in (result, expected):
        (value * weight).sum().backward()
    for one, other in zip(grown, reference, strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(attention(*tensors, mask), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_convolution_has_no_effect_at_first() -> None:
    convolution = TimeConvolution(4, 3)
    packing = Packing(torch.tensor([[True] * 6, [True] * 4 + [False] * 2]), front=1)
    assert convolution(packing.pack(numbers(2, 6, 4)), packing).abs().max() == 0


@torch.no_grad()
def test_a_convolution_mixes_neighbours_and_neither_padding_nor_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motiondiff.models.denoiser.PACKING_STEP", 1)
    convolution = TimeConvolution(4, 3)
    torch.nn.init.eye_(convolution.out.weight)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    packing = Packing(mask, front=1)
    rows = numbers(2, 6, 4)
    mixed = packing.unpack(convolution(packing.pack(rows), packing))
    normal = torch.nn.functional.layer_norm(rows, (4,))
    for clip, last in ((0, 5), (1, 3)):
        assert mixed[clip, 0].abs().max() == 0  # in front of the frames
        for frame in range(1, last + 1):
            near = [(frame + step, weight) for step, weight in zip((-1, 0, 1), convolution.weight, strict=True)]
            total = sum(normal[clip, at] * weight for at, weight in near if 1 <= at <= last)
            torch.testing.assert_close(mixed[clip, frame], torch.nn.functional.gelu(total), atol=1e-5, rtol=0)


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
