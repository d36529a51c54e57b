"""ACTOR: its divergence by hand, padding that does not count, saved and loaded, seeds, and bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from icube_common.errors import InputError
from icube_common.training import TrainConfig
from motiondiff.config import ActorConfig, ActorLossConfig, ActorModelConfig, DataConfig
from motiondiff.data.store import MotionStore

if TYPE_CHECKING:
    from motiondiff.pipelines.actor import ActorGenerator

TINY = ActorConfig(
    train=TrainConfig(
        max_steps=4, batch_size=8, checkpointing_steps=2, logging_steps=1, device="cpu", report_to="none"
    ),
    model=ActorModelConfig(num_layers=1, width=16, num_heads=2, feedforward=16, dropout=0.1),
    data=DataConfig(max_frames=32, min_frames=8),
)


@pytest.fixture(scope="module")
def actor_run(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from motiondiff.training.actor import train_actor

    path = tmp_path_factory.mktemp("actor") / "run"
    train_actor(store_path, path, TINY)
    return path


@pytest.fixture(scope="module")
def model(actor_run: Path) -> ActorGenerator:
    from motiondiff.pipelines.actor import ActorGenerator

    return ActorGenerator.from_pretrained(actor_run / "model")


def test_divergence_by_hand() -> None:
    import torch

    from motiondiff.models.actor import kl_divergence

    # KL(N(1, 1) | N(0, 1)) = 1/2; KL(N(0, 4) | N(0, 1)) = (4 - 1 - ln 4) / 2; the mean over two clips
    mean, log_variance = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [math.log(4), 0.0]])
    assert float(kl_divergence(mean, log_variance)) == pytest.approx((0.5 + (3 - math.log(4)) / 2) / 2)


def test_weights_of_the_losses(store: MotionStore, model: ActorGenerator) -> None:
    from icube_common.training import SampleRef, StepRandom
    from motiondiff.data.dataset import MotionDataset
    from motiondiff.training.actor import ActorLoss, collate_padded

    windows = MotionDataset(store, store.select("train"), TINY.data, augment=False)
    batch = collate_padded([windows[SampleRef(row, 0)] for row in range(3)], TINY.data.max_frames)
    weights = ActorLossConfig(weight_pose=2.0, weight_positions=3.0, weight_kl=0.5)
    step = ActorLoss(model.representation, weights, TINY.model.width)
    terms = step(model.vae, batch, StepRandom(0, 0, 0, rows=slice(0, 3), total=3))
    wanted = 2 * terms["pose"] + 3 * terms["positions"] + 0.5 * terms["kl"]
    assert float(terms["loss"].detach()) == pytest.approx(float(wanted.detach())) and float(terms["kl"].detach()) > 0


def test_padding_does_not_count(model: ActorGenerator) -> None:
    import torch

    vae, generator = model.vae, torch.Generator().manual_seed(0)
    features = torch.randn(2, 12, vae.config.feature_size, generator=generator)
    mask = torch.arange(12) < torch.tensor([[7], [12]])
    noise, action = torch.zeros(2, vae.config.width), torch.tensor([1, 0])
    features[0, 7:] = torch.nan
    with torch.no_grad():
        both, mean, _ = vae(features, action, mask, noise)
        alone, own_mean, _ = vae(features[:1, :7], action[:1], mask[:1, :7], noise[:1])
    torch.testing.assert_close(mean[0], own_mean[0])
    torch.testing.assert_close(both[0, :7], alone[0])


def test_the_action_reaches_encoder_and_decoder(model: ActorGenerator) -> None:
    import torch

    vae = model.vae
    features, mask = torch.zeros(2, 8, vae.config.feature_size), torch.ones(2, 8, dtype=torch.bool)
    with torch.no_grad():
        mean, _ = vae.encode(features, torch.tensor([0, 1]), mask)
        decoded = vae.decode(torch.zeros(2, vae.config.width), torch.tensor([0, 1]), mask)
    assert not torch.allclose(mean[0], mean[1]) and not torch.allclose(decoded[0], decoded[1])


def test_saved_without_pickle_and_loaded(actor_run: Path, model: ActorGenerator, store: MotionStore) -> None:
    import torch

    from motiondiff.pipelines.actor import ActorGenerator

    files = {path.name for path in (actor_run / "model").rglob("*") if path.is_file()}
    assert files == {"config.json", "diffusion_pytorch_model.safetensors", "README.md"}
    assert "simulated motions" in (actor_run / "model" / "README.md").read_text()
    assert model.actions == store.actions
    again = ActorGenerator.from_pretrained(actor_run / "model")
    for name, value in again.vae.state_dict().items():
        assert torch.equal(value, model.vae.state_dict()[name])


def test_generates_from_seeds(model: ActorGenerator) -> None:
    import torch

    def make(seeds: list[int], frames: int | None = None) -> list[np.ndarray]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return [motion.positions for motion in model(["walk"] * len(seeds), generators, frames)]

    first, second = make([1, 2])
    np.testing.assert_allclose(make([2])[0], second, atol=1e-5)
    assert first.shape != second.shape or not np.allclose(first, second)
    [one], [other] = make([1], 20), make([2], 20)
    assert one.shape == (20, 18, 3) and not np.allclose(one, other)
    motion = model(["wave"], [torch.Generator().manual_seed(0)])[0]
    assert motion.action == "wave" and motion.source == "simulated training data" and 2 <= len(motion) <= 32


def test_resuming_reaches_the_same_weights(store_path: Path, tmp_path: Path, actor_run: Path) -> None:
    from safetensors.torch import load_file

    from motiondiff.training.actor import train_actor

    train_actor(store_path, tmp_path / "run", replace(TINY, train=replace(TINY.train, max_steps=2)))
    result = train_actor(store_path, tmp_path / "run", TINY, resume=True)
    assert result.fit.resumed_from == 2
    file = "model/actor/diffusion_pytorch_model.safetensors"
    mine, whole = load_file(tmp_path / "run" / file), load_file(actor_run / file)
    assert all(np.array_equal(mine[name], whole[name]) for name in whole)


def test_bad_input(model: ActorGenerator, tmp_path: Path) -> None:
    import torch

    from motiondiff.models.actor import ActorVae
    from motiondiff.pipelines.actor import ActorGenerator

    generator = [torch.Generator()]
    with pytest.raises(InputError, match="unknown action 'wlak': did you mean 'walk'"):
        model(["wlak"], generator)
    for frames in (1, 33):
        with pytest.raises(InputError, match=f"{frames} frames: this model makes 2 to 32"):
            model(["walk"], generator, frames)
    with pytest.raises(InputError, match="holds no ACTOR model"):
        ActorGenerator.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="there are none"):
        ActorVae(feature_size=9, actions=[])
    with pytest.raises(ValueError, match=r"model\.width=18"):
        ActorVae(feature_size=9, actions=["walk"], width=18)
