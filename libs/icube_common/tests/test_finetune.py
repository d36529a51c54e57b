"""A trained part of the image tower: adapters at zero, what a step changes, frozen statistics, targets, refusals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import user_encoders
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.io.runs import RunFolder
from icube_common.training import TrainConfig, fit
from icube_common.training.checkpoints import checkpoint_folder, model_tensors
from icube_common.training.state import RELATIVE_RATE, parameter_groups
from icube_common.vlm import FinetuneConfig, FinetunedTower, FrozenVLM, load_vlm
from icube_common.vlm.finetune.layers import adapter_targets, list_blocks

pytest.importorskip("peft", reason="the extra icube-common[finetune] is not installed")

# a transformer of open_clip, one of timm, a network with batch normalisation, and networks of clips and volumes
TOWERS: dict[str, dict[str, Any]] = {
    "icube-tiny": {},
    "test_vit": {"encoder": "timm:test_vit"},
    "test_efficientnet": {"encoder": "timm:test_efficientnet"},
    "clip": {"encoder": user_encoders.ClipNet},
    "volume": {"encoder": user_encoders.VolumeNet},
}
SIZES = {"icube-tiny": 96, "test_vit": 160, "test_efficientnet": 160, "clip": 24, "volume": 16}


@pytest.fixture(scope="module", params=TOWERS)
def vlm(request: pytest.FixtureRequest) -> FrozenVLM:
    found = load_vlm("icube-tiny", **TOWERS[request.param], warn=False)
    found.size = SIZES[request.param]  # type: ignore[assignment]
    return found


def inputs(vlm: FrozenVLM, rows: int = 2, *, seed: int = 0) -> Tensor:
    """Pixels (B, S, 3, H, W), clips (B, T, 3, H, W) or volumes (B, 1, 1, S, S, S)."""
    size: int = vlm.size  # type: ignore[assignment]
    shape = (rows, 1, 1, *(size,) * 3) if vlm.kind == "volume" else (rows, 3, 3, size, size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def of_frozen(vlm: FrozenVLM, pixels: Tensor) -> Tensor:
    flat = pixels if vlm.kind == "clip" else pixels.flatten(0, 1)
    return vlm.encode_image(flat, output="features").reshape(len(pixels), -1, vlm.feature_dim)


@pytest.mark.parametrize("mode", ["lora", "last_blocks"])
def test_at_the_start_the_tower_is_the_frozen_one_to_the_last_bit(vlm: FrozenVLM, mode: str) -> None:
    tower = FinetunedTower(vlm, FinetuneConfig(mode=mode))
    pixels = inputs(vlm)
    with torch.no_grad():
        assert torch.equal(tower(pixels), of_frozen(vlm, pixels))
        assert torch.equal(tower.train()(pixels), of_frozen(vlm, pixels))
    # the state dict, and with it every checkpoint, holds the trained part alone
    trained = {name for name, value in tower.named_parameters() if value.requires_grad}
    assert trained and set(tower.state_dict()) == trained == set(model_tensors(tower))
    assert all("lora_" in name for name in trained) == (mode == "lora")


@pytest.mark.parametrize("mode", ["lora", "last_blocks"])
def test_a_step_changes_nothing_but_the_trained_part(vlm: FrozenVLM, mode: str) -> None:
    fingerprint = vlm.fingerprint
    tower = FinetunedTower(vlm, FinetuneConfig(mode=mode)).train()
    before = {name: value.detach().clone() for name, value in tower.named_parameters()}
    buffers = {name: value.clone() for name, value in tower.named_buffers()}
    pixels = inputs(vlm)
    optimizer = torch.optim.AdamW([value for value in tower.parameters() if value.requires_grad], lr=1e-2)
    for _ in range(2):
        tower(pixels).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {name for name, value in tower.named_parameters() if not torch.equal(value, before[name])}
    trained = {name for name, value in tower.named_parameters() if value.requires_grad}
    assert changed and changed <= trained
    assert all(torch.equal(value, buffers[name]) for name, value in tower.named_buffers())
    tower.check_frozen()
    with torch.no_grad():
        assert not torch.equal(tower(pixels), of_frozen(vlm, pixels))
    # the frozen model, which folds share, is what it was
    vlm.__dict__.pop("fingerprint")
    assert vlm.fingerprint == fingerprint


def test_the_trained_part_moves_to_another_tower(vlm: FrozenVLM) -> None:
    first = FinetunedTower(vlm, FinetuneConfig(mode="lora", rank=2), seed=1)
    for value in first.parameters():
        if value.requires_grad:
            torch.nn.init.normal_(value, std=0.1, generator=torch.Generator().manual_seed(3))
    second = FinetunedTower(vlm, FinetuneConfig(mode="lora", rank=2), seed=2)
    second.load_state_dict(first.state_dict(), strict=False)
    copied, pixels = copy.deepcopy(first), inputs(vlm)
    with torch.no_grad():
        assert torch.equal(second(pixels), first(pixels)) and torch.equal(copied(pixels), first(pixels))
        torch.testing.assert_close(first.encode(pixels, batch_size=1), first(pixels), atol=1e-5, rtol=1e-4)


def test_the_check_of_the_frozen_part_can_fail() -> None:
    tower = FinetunedTower(load_vlm("icube-tiny", warn=False), FinetuneConfig(mode="lora"))
    with torch.no_grad():
        next(value for value in tower.parameters() if not value.requires_grad).add_(1e-3)
    with pytest.raises(AssertionError, match="the frozen part of the image tower has changed"):
        tower.check_frozen()


def test_missing_slices_stay_missing() -> None:
    vlm = load_vlm("icube-tiny", warn=False)
    tower = FinetunedTower(vlm, FinetuneConfig(mode="lora"))
    pixels = torch.randn(2, 3, 3, 96, 96)
    whole = tower.encode(pixels)
    pixels[1, 2] = torch.nan
    features = tower.encode(pixels, batch_size=2)
    assert features[1, 2].isnan().all() and not features[:, :2].isnan().any()
    torch.testing.assert_close(features[0], whole[0], atol=1e-6, rtol=1e-5)


def test_the_seed_makes_the_adapters() -> None:
    vlm = load_vlm("icube-tiny", warn=False)
    state = torch.random.get_rng_state()
    first, same, other = (FinetunedTower(vlm, FinetuneConfig(mode="lora"), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    pairs = [torch.equal(value, same.state_dict()[name]) for name, value in first.state_dict().items()]
    assert all(pairs)
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in first.state_dict().items())


TARGETS = {
    "timm:test_vit": ({"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}, 6),
    "timm:resnet18": ({"conv1", "conv2", "downsample.0"}, 8),
    "torchvision:resnet18": ({"conv1", "conv2", "downsample.0"}, 8),
}


@pytest.mark.parametrize("name", TARGETS)
def test_layers_by_their_kind(name: str) -> None:
    ends, blocks = TARGETS[name]
    vlm = load_vlm("icube-tiny", encoder=name, warn=False)
    assert vlm.encoder is not None
    chosen = adapter_targets(vlm.encoder, [], name=name)
    assert all(key.endswith(tuple(ends)) for key in chosen) and len(list_blocks(vlm.encoder)) == blocks
    for end in ends:
        assert any(key.endswith(end) for key in chosen)


def test_attention_of_open_clip_is_adapted_as_a_whole() -> None:
    vlm = load_vlm("icube-tiny", warn=False)
    visual = vlm.model.get_submodule("visual")
    names = adapter_targets(visual, [], name="icube-tiny")
    assert {name.split(".", 3)[3] for name in names} == {"attn", "mlp.c_fc", "mlp.c_proj"} and len(names) == 12
    assert list_blocks(visual) == [f"transformer.resblocks.{number}" for number in range(4)]
    # depth-wise convolutions have no adapter
    lite = load_vlm("icube-tiny", encoder="timm:test_efficientnet", warn=False)
    assert lite.encoder is not None
    for name in adapter_targets(lite.encoder, [], name="lite"):
        layer = lite.encoder.get_submodule(name)
        assert isinstance(layer, nn.Conv2d) and layer.groups == 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"mode": "none"}, "the tower is frozen, there is nothing to train"),
    ({"mode": "lora", "targets": ["c_fd"]}, "finetune.targets=c_fd: icube-tiny has no layer of this name, such as"),
    ({"mode": "lora", "targets": ["ln_1"]}, "ln_1 is a LayerNorm; adapters go into attention, linear layers"),
    ({"mode": "lora", "dropout": 0.1}, "weights are adapted as a whole, without dropout; set finetune.dropout=0"),
    ({"mode": "last_blocks", "blocks": 9}, "finetune.blocks=9: icube-tiny has 4 blocks"),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED)
def test_refusals(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        FinetunedTower(load_vlm("icube-tiny", warn=False), FinetuneConfig(**keys))
    assert "\n" not in str(error.value)


def test_dropout_is_the_adapters_alone() -> None:
    vlm = load_vlm("icube-tiny", encoder="timm:test_vit", warn=False)
    tower = FinetunedTower(vlm, FinetuneConfig(mode="lora", dropout=0.5))
    for name, value in tower.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(value)
    pixels = torch.randn(1, 1, 3, 160, 160)
    active = [name for name, module in tower.train().visual.named_modules() if module.training]
    assert active and all("lora_dropout" in name for name in active) and tower.training
    with torch.no_grad():
        assert not torch.equal(tower(pixels), tower(pixels))
        assert torch.equal(tower.eval()(pixels), tower(pixels))


class Classifier(nn.Module):
    """A tower with a trained part and a linear layer, for the training loop."""

    def __init__(self, vlm: FrozenVLM, config: FinetuneConfig) -> None:
        super().__init__()
        self.tower = FinetunedTower(vlm, config)
        torch.manual_seed(0)
        self.linear = nn.Linear(vlm.feature_dim, 2)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        result: Tensor = self.linear(self.tower(batch["pixels"]).mean(1))
        return result


class Rows:
    def __init__(self) -> None:
        self.pixels = torch.randn(6, 1, 3, 160, 160, generator=torch.Generator().manual_seed(5))

    def __len__(self) -> int:
        return 6

    def __getitem__(self, draw: Any) -> dict[str, Tensor]:
        return {"pixels": self.pixels[draw.index], "label": torch.tensor(draw.index % 2)}


def step(model: nn.Module, batch: dict[str, Tensor], random: Any) -> dict[str, Tensor]:
    return {"loss": nn.functional.cross_entropy(model(batch), batch["label"])}


@pytest.mark.parametrize("mode", ["lora", "last_blocks"])
def test_a_resumed_training_equals_one_without_a_break(tmp_path: Path, mode: str) -> None:
    vlm = load_vlm("icube-tiny", encoder="timm:test_vit", warn=False)
    dropout = 0.3 if mode == "lora" else 0.0
    finetune = FinetuneConfig(mode=mode, dropout=dropout, learning_rate=3e-3)

    def run(name: str, steps: int, *, resume: bool = False) -> Classifier:
        model = Classifier(vlm, finetune)
        config = TrainConfig(
            max_steps=steps, batch_size=3, learning_rate=1e-2, checkpointing_steps=2, device="cpu", report_to="none"
        )
        folder = tmp_path / name
        made = RunFolder(folder) if resume else RunFolder.create(folder, config_yaml="", environment={})
        fit(model, step, Rows(), config=config, run=made, resume=resume)
        model.tower.check_frozen()
        return model

    whole = run("whole", 4)
    run("broken", 2)
    resumed = run("broken", 4, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    files = [checkpoint_folder(RunFolder(tmp_path / name), 4) / "model.safetensors" for name in ("whole", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()
    parameters = sum(value.numel() for value in whole.parameters() if value.requires_grad)
    assert files[0].stat().st_size < 4 * parameters + 20_000


def test_the_tower_has_a_learning_rate_of_its_own() -> None:
    vlm = load_vlm("icube-tiny", encoder="timm:test_vit", warn=False)
    model = Classifier(vlm, FinetuneConfig(mode="lora", learning_rate=5e-4))
    groups = parameter_groups(model, 1e-2)
    assert [group.get(RELATIVE_RATE, 1.0) for group in groups] == [pytest.approx(0.05), 1.0]
    assert len(groups[1]["params"]) == 2


def test_keys_without_effect() -> None:
    assert set(FinetuneConfig(mode="lora").unused_keys()) == {"blocks"}
    assert set(FinetuneConfig(mode="last_blocks").unused_keys()) == {"rank", "alpha", "dropout", "targets"}
    assert len(FinetuneConfig().unused_keys()) == 6 and not FinetuneConfig().enabled
