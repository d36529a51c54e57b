"""Prompts inside a frozen image tower: parity without them, what each kind does, and that all of them learns."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from vlm_encoders import write_small

from actprompt.models.visual_prompts import PromptedTower
from icube_common.errors import InputError
from icube_common.vlm import FrozenVLM, load_vlm

VISION: dict[str, Any] = {"image_size": 32, "patch_size": 8, "layers": 3, "width": 48, "head_width": 24}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
OFF: dict[str, Any] = {"prompts": 0, "local": False, "summary": False}
KINDS: dict[str, dict[str, Any]] = {
    "global": OFF | {"prompts": 2},
    "local": OFF | {"local": True},
    "summary": OFF | {"summary": True},
    "all": {"prompts": 2},
}
B, T = 2, 4


def load(folder: Path, **vision: Any) -> FrozenVLM:
    config = {"embed_dim": 24, "vision_cfg": VISION | vision, "text_cfg": TEXT}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return load_vlm(str(folder))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> FrozenVLM:
    return load(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def tiny() -> FrozenVLM:
    return load_vlm("icube-tiny")


def pixels(clips: int = B, frames: int = T, size: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(clips, frames, 3, size, size, generator=torch.Generator().manual_seed(seed))


def frame_by_frame(vlm: FrozenVLM, clips: Tensor) -> Tensor:
    return torch.stack([vlm.encode_image(clip) for clip in clips])


@pytest.mark.parametrize("checkpoint", [False, True])
def test_without_prompts_the_tower_is_the_frozen_one(tiny: FrozenVLM, checkpoint: bool) -> None:
    tower = PromptedTower(tiny, T, **OFF, checkpoint=checkpoint)
    assert tower.learned() == {}
    images = pixels(size=96)
    torch.testing.assert_close(tower(images), frame_by_frame(tiny, images), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "vision",
    [
        {},
        {"ls_init_value": 0.1, "final_ln_after_pool": True, "no_ln_pre": True},
        {"qk_norm": True, "scale_heads": True},
        {"output_tokens": True, "patch_dropout": 0.5, "pos_embed_type": "sin_cos_2d"},
    ],
)
def test_without_prompts_on_every_kind_of_vision_transformer(tmp_path: Path, vision: dict[str, Any]) -> None:
    vlm = load(tmp_path, **vision)
    # what it pools is half of what such a tower returns, so encode_image has no answer to compare with
    vlm.model.visual.output_tokens = False  # type: ignore[union-attr]
    tower = PromptedTower(vlm, T, **OFF).train()
    torch.testing.assert_close(tower(pixels()), frame_by_frame(vlm, pixels()), atol=1e-5, rtol=0)
    assert PromptedTower(vlm, T)(pixels()).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_normalised_float32_features_of_each_frame(small: FrozenVLM, kind: str) -> None:
    found = PromptedTower(small, T, **KINDS[kind])(pixels())
    assert found.shape == (B, T, 24) and found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(B, T))
    assert (found - frame_by_frame(small, pixels())).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_across_frames(small: FrozenVLM, kind: str) -> None:
    """A change of the last frame reaches the first one through local prompts and summary, and no other clip."""
    tower = PromptedTower(small, T, **KINDS[kind])
    changed = pixels()
    changed[0, -1] += 1.0
    difference = (tower(changed) - tower(pixels())).abs().amax(dim=-1)
    assert difference[0, -1] > 1e-3
    assert difference[1].max() < 1e-6
    assert difference[0, 0] < 1e-6 if kind == "global" else difference[0, 0] > 1e-5


def test_only_local_prompts_know_the_order(small: FrozenVLM) -> None:
    clips = pixels()
    for kind, options in KINDS.items():
        tower = PromptedTower(small, T, **options)
        difference = (tower(clips.flip(1)).flip(1) - tower(clips)).abs().max()
        assert difference > 1e-4 if options.get("local", True) else difference < 1e-6, kind


def test_the_arrangement_of_a_layer_token_by_token(small: FrozenVLM) -> None:
    """The prompts of a layer as they are written down, and the tower run on one frame with them by hand."""
    tower = PromptedTower(small, T, prompts=2)
    prompts: Any = tower.layers[1]
    classes = torch.randn(1, T, 48, generator=torch.Generator().manual_seed(1))
    made = prompts(classes)
    assert made.shape == (1, T, 2 + T + 1, 48)
    projected = classes @ prompts.project.weight.T + prompts.project.bias
    normed = prompts.norm(projected)
    told = projected + prompts.attend(normed, normed, normed)[0]
    for frame in range(T):
        expected = torch.cat([prompts.shared, prompts.local + projected[0], told[0, frame : frame + 1]])
        torch.testing.assert_close(made[0, frame], expected)

    visual: Any = small.model.visual
    embedded = visual._embeds(pixels(1)[0])
    for block, layer in zip(visual.transformer.resblocks, tower.layers, strict=True):
        extra = layer(embedded[:, :1].transpose(0, 1))[0]
        # behind the class token, as in the published model: attention is blind to the order of tokens
        joined = block(torch.cat([embedded[:, :1], extra, embedded[:, 1:]], dim=1))
        embedded = torch.cat([joined[:, :1], joined[:, 1 + extra.shape[1] :]], dim=1)
    expected = F.normalize(visual.ln_post(embedded[:, 0]) @ visual.proj, dim=-1)
    torch.testing.assert_close(tower(pixels(1))[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_another_number_of_frames(small: FrozenVLM, frames: int) -> None:
    tower = PromptedTower(small, T)
    assert tower(pixels(frames=frames)).shape == (B, frames, 24)


def test_local_prompts_are_interpolated_in_time(small: FrozenVLM) -> None:
    tower = PromptedTower(small, 2, **KINDS["local"])
    layer: Any = tower.layers[0]
    with torch.no_grad():
        layer.local.copy_(torch.tensor([[0.0], [1.0]]).expand(2, 48))
        layer.project.weight.zero_()
        layer.project.bias.zero_()
    made = layer(torch.zeros(1, 4, 48))
    assert made[0, 0, :, 0].tolist() == [0.0, 0.25, 0.75, 1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient_and_the_tower_none(small: FrozenVLM, kind: str) -> None:
    tower = PromptedTower(small, T, **KINDS[kind]).train()
    assert not any(module.training for module in small.modules())
    names = {name for name, value in tower.named_parameters() if value.requires_grad}
    assert names == set(tower.learned())
    before = copy.deepcopy(small.model.state_dict())
    optimiser = torch.optim.SGD([value for value in tower.parameters() if value.requires_grad], lr=0.1)
    target = F.normalize(torch.randn(B, T, 24, generator=torch.Generator().manual_seed(2)), dim=-1)
    felt: set[str] = set()
    for _ in range(2):
        optimiser.zero_grad()
        F.mse_loss(tower(pixels()), target, reduction="sum").backward()
        felt |= {name for name, value in tower.named_parameters() if value.grad is not None and value.grad.any()}
        optimiser.step()
    assert felt == names
    if kind in ("summary", "all"):  # also where the query and key matrices are packed with that of the values
        for layer in list(tower.layers)[1:]:
            packed: Tensor = layer.attend.in_proj_weight.grad  # type: ignore[assignment, union-attr]
            assert (packed.abs().amax(dim=1) > 1e-9).all()
    after = small.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_recomputed_layers_have_the_same_gradients(small: FrozenVLM) -> None:
    gradients = []
    for checkpoint in (False, True):
        tower = PromptedTower(small, T, checkpoint=checkpoint)
        (tower(pixels()) * pixels(size=24)[:, :, 0, 0]).sum().backward()
        gradients.append({name: value.grad for name, value in tower.named_parameters() if value.requires_grad})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_recomputed_layers_keep_less_for_the_backward_pass(small: FrozenVLM) -> None:
    kept = []
    for checkpoint in (False, True):
        sizes: list[int] = []
        tower = PromptedTower(small, T, checkpoint=checkpoint)
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x):
            tower(pixels())
        kept.append(sum(sizes))
    assert kept[1] < 0.2 * kept[0]


def test_the_seed_decides_and_the_global_generator_is_left_alone(small: FrozenVLM) -> None:
    before = torch.get_rng_state()
    one, same, other = (PromptedTower(small, T, seed=seed).learned() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["layers.0.shared"], other["layers.0.shared"])


def test_a_tower_in_half_precision(tmp_path: Path, small: FrozenVLM) -> None:
    load(tmp_path)
    half = load_vlm(str(tmp_path), precision="bf16")
    found = PromptedTower(half, T)(pixels())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, PromptedTower(small, T)(pixels()), atol=0.05, rtol=0)


@pytest.mark.parametrize(("differ_by", "kind", "reached"), [("colour", "global", 0.4), ("order", "all", 0.1)])
def test_learning_coloured_noise(small: FrozenVLM, differ_by: str, kind: str, reached: float) -> None:
    """Eight clips of two classes: red or blue noise, or noise that fades from one to the other. Chance is ln 2 = 0.69.

    The direction of the fade is invisible in a mean over the frozen tower's frames. Global prompts alone shift both
    colours alike, and end at 0.35.
    """
    red, blue = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    share = torch.linspace(0, 1, T).unsqueeze(-1)
    fade = (1 - share) * red + share * blue
    kinds = torch.stack([red.expand(T, 3), blue.expand(T, 3)] if differ_by == "colour" else [fade, fade.flip(0)])
    clips = kinds.repeat(4, 1, 1)[..., None, None] + 0.3 * pixels(8)
    labels = torch.tensor([0, 1] * 4)
    classes = small.encode_text(["one thing", "quite another"])
    tower = PromptedTower(small, T, **KINDS[kind])
    optimiser = torch.optim.AdamW([value for value in tower.parameters() if value.requires_grad], lr=1e-2)
    losses = []
    for _ in range(150):
        features = F.normalize(tower(clips).mean(1), dim=-1)
        loss = F.cross_entropy(small.logit_scale * features @ classes.T, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.69 and losses[-1] < reached


RESNET = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 16, "patch_size": None}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (functools.partial(load, **RESNET), "a ModifiedResNet; supported is open_clip's VisionTransformer"),
        (functools.partial(load, pool_type="avg"), "a VisionTransformer with 'avg' pooling; supported is"),
        (
            lambda folder: load_vlm(str(write_small(folder, "coca_ViT-B-32"))),
            "a VisionTransformer with attention pooling; supported is",
        ),
    ],
)
def test_other_image_towers_are_refused(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PromptedTower(make(tmp_path), T)


@pytest.mark.parametrize(("options", "message"), [({"frames": 0}, "frames 0"), ({"prompts": -1}, "prompts -1")])
def test_wrong_settings_are_refused(small: FrozenVLM, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PromptedTower(small, **({"frames": T} | options))
