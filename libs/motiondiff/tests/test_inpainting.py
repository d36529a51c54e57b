"""Held parts: bridges between them, what training is shown, and a sampler that keeps them exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from icube_common.config import load_config
from icube_common.errors import InputError
from icube_common.training import StepRandom
from icube_common.training.sampler import SampleRef
from motiondiff.config import MotionDiffConfig
from motiondiff.data.dataset import MotionDataset, collate
from motiondiff.data.store import MotionStore
from motiondiff.models.inpainting import (
    InpaintingCondition,
    hermite_interpolate,
    inpainting_input,
    joint_features,
    loss_frames,
    sample_inpainting_mask,
    spread_correction,
    subtrees,
)
from motiondiff.models.representation import MotionRepresentation
from motiondiff.models.spectrum import noise_deviation
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.training.diffusion import make_denoiser
from motiondiff.training.diffusion_loss import DiffusionLoss, make_noise_schedule

ConfigMaker = Callable[..., MotionDiffConfig]


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[None, :, None]


def gap(frames: int, first: int, stop: int) -> torch.Tensor:
    conditioned = torch.ones(1, frames, 1, dtype=torch.bool)
    conditioned[:, first:stop] = False
    return conditioned


def test_a_bridge_by_hand() -> None:
    given = column(1, 9, 9, 9, 5, 9)
    conditioned = torch.tensor([True, False, False, False, True, False])[None, :, None]
    assert hermite_interpolate(given, conditioned).flatten().tolist() == [1, 2, 3, 4, 5, 5]
    assert hermite_interpolate(given, ~conditioned).flatten().tolist() == [9, 9, 9, 9, 9, 9]
    assert not hermite_interpolate(given, torch.zeros_like(conditioned)).any()


def test_a_bridge_carries_speed_into_short_gaps() -> None:
    """From rest to speed 1 over a gap of four steps: Hermite's cubic with these ends, at a quarter, half, three."""
    given = column(0, 0, 7, 7, 7, 4, 5)
    conditioned = gap(7, 2, 5)
    curve = hermite_interpolate(given, conditioned, carry=1e6).flatten()
    # steps of 1/4 from (0, speed 0) to (4, speed 1): h01 * 4 + h11 * 4 * 1
    for step in (1, 2, 3):
        t = step / 4
        assert curve[1 + step] == pytest.approx(4 * (3 * t**2 - 2 * t**3) + 4 * (t**3 - t**2), abs=1e-6)
    torch.testing.assert_close(
        hermite_interpolate(given, conditioned, carry=0.5), hermite_interpolate(given, conditioned)
    )
    steady = torch.arange(12.0)[None, :, None]
    torch.testing.assert_close(hermite_interpolate(steady, gap(12, 3, 9), carry=8.0), steady)


def test_a_correction_is_exact_and_leaves_no_step() -> None:
    conditioned = torch.zeros(1, 30, 9, dtype=torch.bool)
    conditioned[:, :10] = conditioned[:, 20:25] = True
    predicted, values = torch.zeros(1, 30, 9), torch.ones(1, 30, 9)
    values[:, 20:] = 3.0
    corrected = spread_correction(predicted, values, conditioned, fade=4)
    assert torch.equal(corrected[conditioned], values[conditioned])
    # two apart over eleven steps, then 3 fading over four frames; the place on the floor (x, z) does not fade
    assert corrected[0, :25].diff(dim=0).abs().max() == pytest.approx(2 / 11, abs=1e-6)
    assert corrected[0, 25:, 4].tolist() == pytest.approx([1.5 * (1 + np.cos(np.pi * n / 4)) for n in (1, 2, 3, 4, 4)])
    assert (corrected[0, 25:, [0, 2]] == 3).all()


def test_features_of_joints_and_their_descendants(representation: MotionRepresentation) -> None:
    parents = representation.parents
    below = subtrees(parents)
    assert below[0].all() and below.sum() == sum(
        1 + sum(1 for other in range(len(parents)) if joint in path(parents, other)) for joint in range(len(parents))
    )
    features = joint_features(below[1])
    assert features.shape == (representation.feature_size,) and not features[:9].any()
    assert features.sum() == 6 * below[1].sum()
    assert joint_features(torch.eye(len(parents), dtype=torch.bool)[0])[:9].all()


def path(parents: tuple[int, ...], joint: int) -> list[int]:
    above = []
    while (joint := parents[joint]) >= 0:
        above.append(joint)
    return above


def test_inpainting_masks_of_training(representation: MotionRepresentation) -> None:
    mask = torch.arange(30) < torch.tensor([30, 12, 2] * 60)[:, None]
    random = StepRandom(0, 0, 0, rows=slice(0, 180), total=180)
    conditioned = sample_inpainting_mask(random, mask, representation.parents, share=0.75)
    some = conditioned.flatten(1).any(1)
    assert not conditioned[~mask].any() and 0.6 < some.float().mean() < 0.9
    whole = conditioned.all(-1)
    assert (whole[some][:, 0] | conditioned[some].any(1).any(1)).all()
    gaps = some & whole.any(1) & (whole != mask).any(1)
    assert gaps.float().mean() > 0.3
    learned = loss_frames(mask, conditioned)
    assert not learned[~mask].any() and learned[(~whole) & mask].all()
    # a wholly held frame counts only beside one that is not
    beside = torch.nn.functional.max_pool1d((~whole).float()[:, None], 3, 1, 1)[:, 0].bool()
    assert torch.equal(learned, mask & beside)
    assert not sample_inpainting_mask(random, mask, representation.parents, share=0.0).any()


@pytest.mark.parametrize("preconditioning", ["none", "spectral"])
def test_a_denoiser_starts_from_the_bridge_and_old_runs_stay(
    store: MotionStore, representation: MotionRepresentation, tiny_config: ConfigMaker, preconditioning: str
) -> None:
    config = tiny_config(diffusion={"inpainting_probability": 0.5}, model={"preconditioning": preconditioning})
    denoiser = make_denoiser(None, MotionDataset(store, config=config.data), config)
    assert make_denoiser(None, MotionDataset(store, config=tiny_config().data), tiny_config()).embed_inpainting is None
    windows = MotionDataset(store, store.select("train"), config.data, augment=True)
    batch = collate([windows[SampleRef(row, row)] for row in range(4)])
    clean = representation.normalise(batch["features"], batch["offsets"], batch["mask"])
    conditioned = sample_inpainting_mask(
        StepRandom(1, 0, 0, rows=slice(0, 4), total=4), batch["mask"], representation.parents, 1.0
    )
    shown = inpainting_input(clean, conditioned, store.fps)
    step = DiffusionLoss(representation, make_noise_schedule(config.diffusion), config.diffusion, 32)
    terms = step(denoiser, batch, StepRandom(0, 0, 0, rows=slice(0, 4), total=4))
    assert torch.isfinite(terms["loss"]) and terms["loss"] > 0
    terms["loss"].backward()
    assert denoiser.predict.weight.grad is not None and denoiser.predict.weight.grad.abs().max() > 0
    from motiondiff.training.diffusion_loss import batch_conditions

    # its last layer starts at zero: a fresh one gives the bridge, with a Wiener filter where all else is noise
    last = config.diffusion.num_train_timesteps - 1
    if preconditioning == "spectral":
        denoiser.set_preconditioning(denoiser.spectrum, step.schedule.alphas_cumprod)
    given = denoiser(
        torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)),
        torch.tensor(3 if preconditioning == "none" else last),
        batch_conditions(batch, representation),
        batch["mask"],
        shown,
    )
    expected = shown[..., : clean.shape[-1]] * batch["mask"][..., None]
    # a component of deviation s passes s^2 / n of unit noise at deviation n: at most the mean's, of s^2 = T
    passed = clean.shape[1] / float(noise_deviation(step.schedule.alphas_cumprod, torch.tensor([last])))
    tolerance = 1e-5 if preconditioning == "none" else 5 * passed
    torch.testing.assert_close(given * batch["mask"][..., None], expected, atol=tolerance, rtol=1e-4)


def test_show_held_is_off_by_default_and_on_in_the_config_for_editing() -> None:
    assert load_config(MotionDiffConfig).diffusion.inpainting_probability == 0
    file = Path(__file__).resolve().parents[1] / "configs" / "bandai_namco_editing.yaml"
    assert load_config(MotionDiffConfig, file=file).diffusion.inpainting_probability > 0


@pytest.mark.parametrize("scheduler", ["dpmsolver++", "ddim", "ddpm", "lcm"])
def test_sampler_keeps_conditioned_values(pipeline: MotionDiffusionPipeline, scheduler: str) -> None:
    from motiondiff.schedulers import make_scheduler

    pipeline.scheduler = make_scheduler(scheduler, pipeline.scheduler.config)
    size = pipeline.denoiser.config.feature_size
    values = torch.randn(1, 20, size, generator=torch.Generator().manual_seed(1)) * 0.3
    mask = torch.zeros(1, 20, size, dtype=torch.bool)
    mask[:, :6] = mask[:, 15:] = True
    seen: list[torch.Tensor] = []
    call = {"num_frames": [20], "num_inference_steps": 4, "guidance_scale": 2.0}
    pipeline(
        ["walk"],
        inpainting=InpaintingCondition(values, mask),
        callback_on_step_end=lambda *step: seen.append(step[2]),
        **call,
    )
    assert len(seen) == 4
    torch.testing.assert_close(seen[-1][0, :20][mask[0]], values[0][mask[0]], atol=0.02, rtol=0)
    assert (seen[-1][0, :20][~mask[0]] - values[0][~mask[0]]).abs().max() > 0.1
    with pytest.raises(InputError, match=r"inpainting: values \(1, 20, \d+\) .* \(1, 21, \d+\) expected"):
        pipeline(["walk"], inpainting=InpaintingCondition(values, mask), **{**call, "num_frames": [21]})
