"""MDM: one token of timestep and condition, batch independence, losses by hand, a whole run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from icube_common.config import load_config
from icube_common.errors import InputError
from motiondiff.augmentation.config import TrialConfig, unused_keys
from motiondiff.config import MotionDiffConfig
from motiondiff.models.conditioning import NULL, Conditions
from motiondiff.models.denoiser import MotionDenoiser
from motiondiff.models.losses import CONTACT_SPEED, mdm_losses
from motiondiff.models.mdm import MDMDenoiser
from motiondiff.models.representation import MotionRepresentation
from motiondiff.pipelines.sampling import load_pipeline
from motiondiff.training.diffusion import train

FEATURES, JOINTS, WIDTH = 9, 3, 16
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def make(**changes: Any) -> MDMDenoiser:
    settings = {"width": WIDTH, "num_layers": 2, "num_heads": 2, "feedforward": 32, "dropout": 0.0, "max_frames": 20}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = MDMDenoiser(FEATURES, JOINTS, actions=["run", "walk"], styles=["calm"], **{**settings, **changes})
    return denoiser.eval()


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def conditions(batch: int, text: int = 0) -> Conditions:
    return Conditions(
        action=torch.arange(batch) % 2,
        style=torch.zeros(batch, dtype=torch.long),
        shape=numbers(batch, JOINTS, seed=2),
        has_shape=torch.ones(batch, dtype=torch.bool),
        text=nn.functional.normalize(numbers(batch, text, seed=3), dim=-1) if text else None,
        has_text=torch.ones(batch, dtype=torch.bool) if text else None,
    )


def row(given: Conditions, index: int) -> Conditions:
    part = slice(index, index + 1)
    return Conditions(given.action[part], given.style[part], given.shape[part], given.has_shape[part])


@pytest.mark.parametrize("padding", [0.0, 1e6, float("nan")], ids=["zeros", "garbage", "nan"])
@torch.no_grad()
def test_batch_and_single_clips_agree(padding: float) -> None:
    denoiser, given = make(), conditions(4)
    lengths = [20, 13, 2, 7]
    timesteps = torch.tensor([3, 999, 40, 500])
    clips = [numbers(1, length, FEATURES, seed=length) for length in lengths]
    batch = torch.full((4, 20, FEATURES), padding)
    mask = torch.arange(20) < torch.tensor(lengths)[:, None]
    batch[mask] = torch.cat(clips, dim=1)[0]
    together = denoiser(batch, timesteps, given, mask)
    assert together.shape == batch.shape
    for index, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
        alone = denoiser(clip, timesteps[index], row(given, index))
        assert alone.abs().mean() > 0.05
        torch.testing.assert_close(together[index, :length], alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_timestep_and_conditions_are_one_token_their_sum() -> None:
    """The whole network by hand: sum, projection, position, post-norm layers, projection."""
    denoiser = make(text_size=5)
    given = conditions(1, text=5)
    seen: list[Tensor] = []
    hook = denoiser.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    sample = numbers(1, 6, FEATURES)
    predicted = denoiser(sample, torch.tensor(30), given)
    hook.remove()
    [tokens] = seen
    assert tokens.shape == (1, 7, WIDTH)  # one token in front of six frames
    embed = denoiser.condition_sum
    assert given.text is not None and embed.text is not None
    time = denoiser.embed_timestep(denoiser.timestep_features(torch.tensor([30])))
    expected = time[0] + embed.action.weight[0] + embed.style.weight[0]
    expected = expected + embed.shape(given.shape)[0] + embed.text(given.text * 5**0.5)[0]
    torch.testing.assert_close(tokens[0, 0], expected, atol=1e-5, rtol=0)
    frames = denoiser.embed_frames(sample) + denoiser.frame_position[:6]
    torch.testing.assert_close(tokens[:, 1:], frames, atol=1e-6, rtol=0)
    hidden = tokens
    for layer in denoiser.encoder.layers:  # Vaswani et al.: LayerNorm(x + Sublayer(x))
        attended = layer.self_attn(hidden, hidden, hidden, need_weights=False)[0]
        hidden = layer.norm1(hidden + attended)
        forward = layer.linear2(nn.functional.gelu(layer.linear1(hidden)))
        hidden = layer.norm2(hidden + forward)
    torch.testing.assert_close(predicted, denoiser.predict(hidden[:, 1:]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_condition_that_is_not_given_adds_nothing() -> None:
    embed = make(text_size=5).condition_sum
    given, every = conditions(2, text=5), torch.tensor([True, True])
    nothing = given.drop(action=every, style=every, shape=every, text=every)
    assert embed(nothing).abs().max() == 0
    total = sum(
        embed(given.drop(**{name: every for name in ("action", "style", "shape", "text") if name != one}))
        for one in ("action", "style", "shape", "text")
    )
    torch.testing.assert_close(embed(given), total)
    with pytest.raises(ValueError, match="trained without text"):
        make().condition_sum(given)
    empty = MDMDenoiser(FEATURES, JOINTS, width=16, num_layers=1, num_heads=2, feedforward=16)
    null = torch.tensor([NULL])
    alone = Conditions(null, null, torch.zeros(1, JOINTS), torch.tensor([True]))
    assert empty.eval()(numbers(1, 4, FEATURES), torch.tensor(0), alone).shape == (1, 4, FEATURES)


@torch.no_grad()
def test_save_and_load_is_exact(tmp_path: Path) -> None:
    denoiser = make()
    denoiser.save_pretrained(tmp_path)
    again = MDMDenoiser.from_pretrained(tmp_path).eval()
    sample, given = numbers(2, 5, FEATURES), conditions(2)
    assert torch.equal(denoiser(sample, torch.tensor(9), given), again(sample, torch.tensor(9), given))


def test_the_gradient_reaches_every_parameter() -> None:
    denoiser = make(dropout=0.1).train()
    mask = torch.arange(6) < torch.tensor([6, 4])[:, None]
    output = denoiser(numbers(2, 6, FEATURES), torch.tensor([1, 20]), conditions(2), mask)
    (output[mask] ** 2).sum().backward()
    for name, value in denoiser.named_parameters():
        assert value.grad is not None and torch.isfinite(value.grad).all(), name
        assert value.grad.abs().max() > 0, name


def test_the_papers_shape_is_the_default() -> None:
    denoiser = MDMDenoiser(123, 20, actions=["walk"])
    assert len(denoiser.encoder.layers) == 8
    layer = denoiser.encoder.layers[0]
    assert layer.linear1.in_features == 512 and layer.linear1.out_features == 1024
    assert layer.self_attn.num_heads == 4 and not layer.norm_first and layer.dropout.p == 0.1
    first, second = (denoiser.encoder.layers[place].linear1.weight for place in (0, 1))
    assert not torch.equal(first, second)


FPS = 10.0
OFFSETS = torch.tensor([[[0.0, 0, 0], [0, -1, 0]]])
UPRIGHT = [1.0, 0, 0, 0, 1, 0]


def clip(*places: tuple[float, float, float]) -> Tensor:
    return torch.tensor([[[*place, *UPRIGHT, *UPRIGHT] for place in places]])


def test_losses_by_hand() -> None:
    """The root slips by 4 cm in the second of two frames; hips and foot are off by it along one of three axes."""
    body = MotionRepresentation(["hips", "foot"], [-1, 0], fps=FPS, feet=[1])
    still, slips = clip((0, 0, 0), (0, 0, 0)), clip((0, 0, 0), (0.04, 0, 0))
    mask = torch.ones(1, 2, dtype=torch.bool)
    terms = {name: value.item() for name, value in mdm_losses(slips, still, mask, OFFSETS, body).items()}
    square = 0.04**2
    expected = {"simple": square / 15 / 2, "positions": square / 3 / 2, "velocity": square / 15, "contact": square / 3}
    assert terms == pytest.approx(expected, rel=1e-4)
    # a foot that walks in the real motion may move
    step = CONTACT_SPEED / FPS * 1.01
    walks = clip((0, 0, 0), (step, 0, 0))
    assert mdm_losses(slips, walks, mask, OFFSETS, body)["contact"] == 0
    # padding never counts
    longer = [torch.cat([motion, clip((9, 9, 9))], dim=1) for motion in (slips, still)]
    flags = torch.tensor([[True, True, False]])
    for name, value in mdm_losses(*longer, flags, OFFSETS, body).items():
        assert value.item() == pytest.approx(expected[name], rel=1e-4)
    headless = MotionRepresentation(["hips", "head"], [-1, 0], fps=FPS)
    assert mdm_losses(slips, still, mask, OFFSETS, headless)["contact"] == 0


def mdm(tiny_config: Any, **changes: Any) -> MotionDiffConfig:
    made = tiny_config(train={"max_steps": 2}, model={"architecture": "mdm"}, diffusion={"losses": "mdm", **changes})
    assert isinstance(made, MotionDiffConfig)
    return made


def test_a_run_is_trained_saved_loaded_and_sampled_with_guidance_to_the_end(
    store_path: Path, tmp_path: Path, tiny_config: Any
) -> None:
    result = train(None, store_path, out=tmp_path / "run", config=mdm(tiny_config))
    assert isinstance(result.model, MDMDenoiser)
    pipeline = load_pipeline(tmp_path / "run", "ddpm")
    assert type(pipeline.denoiser) is MDMDenoiser and isinstance(pipeline.denoiser, MotionDenoiser)
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, pipeline.denoiser.state_dict()[name])
    pipeline.set_progress_bar_config(disable=True)
    rows: list[int] = []
    pipeline.denoiser.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    [motion] = pipeline(["walk"], num_frames=12, num_inference_steps=20, guidance_scale=2.5).motions
    assert len(motion) == 12 and rows == [2] * 20


def test_an_input_for_conditioned_parts_is_refused(store_path: Path, tmp_path: Path, tiny_config: Any) -> None:
    with pytest.raises(InputError, match=r"architecture=mdm: has no input for conditioned parts; set diffusion\.inp"):
        train(None, store_path, out=tmp_path / "run", config=mdm(tiny_config, inpainting_probability=0.5))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mdm_utkinect", "mdm_utkinect_small"])
def test_the_shipped_configurations_are_the_papers_recipe(name: str) -> None:
    config = load_config(MotionDiffConfig, file=CONFIGS / f"{name}.yaml")
    assert config.model.architecture == config.diffusion.losses == "mdm"
    assert config.model.dropout == 0.1 and config.diffusion.num_train_timesteps == 1000
    assert config.diffusion.beta_schedule == "squaredcos_cap_v2"
    dropouts = config.diffusion
    assert (dropouts.joint_dropout, dropouts.action_dropout, dropouts.shape_dropout) == (0.1, 0.0, 0.0)
    paper = (config.model.num_layers, config.model.width, config.train.batch_size)
    assert (paper == (8, 512, 64)) == (name == "mdm_utkinect")


def test_keys_without_effect_are_named() -> None:
    config = TrialConfig()
    assert "model.convolution" not in unused_keys(config)
    changed = replace(
        config,
        model=replace(config.model, architecture="mdm"),
        diffusion=replace(config.diffusion, losses="mdm"),
    )
    reasons = unused_keys(changed)
    assert reasons["model.convolution"] == "model.architecture=mdm"
    assert reasons["diffusion.weight_root"] == "diffusion.losses=mdm"
