"""Schedulers in the pipeline: with the exact posterior mean as denoiser, samples have the data's mean and deviation."""

from __future__ import annotations

import itertools
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from icube_common.errors import InputError
from motiondiff.data.synthetic import simulate_motion
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.schedulers import (
    HIGHEST_NOISE,
    LOWEST_NOISE,
    SUPPORTED_CLASSES,
    log_snr_timesteps,
    make_scheduler,
    set_timesteps,
)

# diffusers' own, with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")

MEAN, DEVIATION = 0.7, 1.3
TRAINED = diffusers.DDPMScheduler(
    num_train_timesteps=1000,
    beta_schedule="squaredcos_cap_v2",
    prediction_type="sample",
    clip_sample=False,
    timestep_spacing="trailing",
)
# samplers for distilled denoisers renew the noise at every step: the mean is right, the spread that of a few steps
DISTILLED = {"LCMScheduler"}


def posterior_mean(noisy: Tensor, timestep: Tensor, *_: Any, **__: Any) -> Tensor:
    """E(x0 | x_t) of x0 ~ N(MEAN, DEVIATION^2) and x_t = a x0 + sqrt(1 - a^2) noise; between timesteps by log-SNR."""
    cumulative = TRAINED.alphas_cumprod.double()
    log_sigma = 0.5 * torch.log((1 - cumulative) / cumulative)
    time = timestep[0].double().clamp(0, len(cumulative) - 1)
    low = int(time)
    high = min(low + 1, len(cumulative) - 1)
    share = float(time) - low
    squared = 1 / (1 + torch.exp(2 * ((1 - share) * log_sigma[low] + share * log_sigma[high])))
    gain = squared.sqrt() * DEVIATION**2 / (squared * DEVIATION**2 + 1 - squared)
    return (MEAN + gain * (noisy.double() - squared.sqrt() * MEAN)).float()


def samples(pipeline: MotionDiffusionPipeline, scheduler: Any, monkeypatch: pytest.MonkeyPatch, steps: int) -> Tensor:
    pipeline.scheduler = scheduler
    monkeypatch.setattr(pipeline.denoiser, "forward", posterior_mean)
    # features are decoded to motions at the end, which is not what is looked at
    last: list[Tensor] = []
    frames = int(pipeline.denoiser.config.max_frames)
    pipeline(
        num_motions=8,
        num_frames=frames,
        num_inference_steps=steps,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
        callback_on_step_end=lambda step, timestep, latents: last.append(latents),
    )
    return last[-1]


@pytest.mark.parametrize("name", SUPPORTED_CLASSES)
def test_samples_have_the_distribution_of_the_data(
    pipeline: MotionDiffusionPipeline, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    scheduler = getattr(diffusers, name).from_config(TRAINED.config)
    found = samples(pipeline, scheduler, monkeypatch, steps=50)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.04)
    if name not in DISTILLED:
        assert float(found.std()) == pytest.approx(DEVIATION, rel=0.05)


@pytest.mark.parametrize("name", SUPPORTED_CLASSES)
def test_variations_begin_from_a_motion(pipeline: MotionDiffusionPipeline, name: str) -> None:
    """At a small noise_strength hardly anything changes, whatever space the scheduler works in."""
    from motiondiff.skeleton.motion import canonicalise

    motion, _ = canonicalise(simulate_motion("walk", 0, fps=10), floor=0.0)
    features = pipeline.representation.encode(motion)[None, : int(pipeline.denoiser.config.max_frames)]
    pipeline.denoiser.forward = lambda noisy, *_, **__: features.expand(len(noisy), -1, -1)[:, : noisy.shape[1]]
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
    made = pipeline(
        init_motions=[motion],
        noise_strength=0.3,
        num_inference_steps=10,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
    ).motions[0]
    assert abs(made.positions - motion.positions[: len(made)]).max() < 0.02


@pytest.mark.parametrize(
    "name",
    [
        "HeunDiscreteScheduler", "EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler", "PNDMScheduler", "IPNDMScheduler", "DDIMInverseScheduler",
        "DPMSolverMultistepInverseScheduler", "LMSDiscreteScheduler", "SASolverScheduler", "DEISMultistepScheduler",
        "EDMEulerScheduler", "TCDScheduler", "CogVideoXDDIMScheduler",
        "FlowMatchEulerDiscreteScheduler",
    ],
)  # fmt: skip
def test_other_schedulers_are_refused_by_name(pipeline: MotionDiffusionPipeline, name: str) -> None:
    kind = getattr(diffusers, name)
    try:
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    except ValueError:  # refuses the setting itself
        pipeline.scheduler = kind()
    with pytest.raises(InputError, match=f"scheduler {name}: not supported.*DPMSolverMultistepScheduler"):
        pipeline(["walk"], num_frames=8, num_inference_steps=4)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("DDIMScheduler", {"prediction_type": "epsilon"}, "its prediction_type is 'epsilon'.*from_config"),
        ("DDIMScheduler", {"clip_sample": True}, "clip_sample=True is not supported"),
        ("DDPMScheduler", {"thresholding": True}, "thresholding=True"),
        ("DDPMScheduler", {"variance_type": "learned"}, "variance_type='learned'"),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "use_karras_sigmas=True"),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "use_flow_sigmas=True"),
        ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, "interpolation_type='log_linear'"),
        ("UniPCMultistepScheduler", {"predict_x0": False}, "predict_x0=False"),
        ("UniPCMultistepScheduler", {"solver_type": "bh1"}, "solver_type='bh1'"),
    ],
)
def test_settings_that_give_other_samples_are_refused(
    pipeline: MotionDiffusionPipeline, name: str, settings: dict[str, Any], words: str
) -> None:
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **settings)
    with pytest.raises(InputError, match=f"scheduler {name}: {words}"):
        pipeline(["walk"], num_frames=8, num_inference_steps=4)


@pytest.mark.parametrize("steps", [1, 2, 10, 50, 999, 1000])
@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "linear"])
def test_timesteps_by_log_snr_fall_and_are_distinct(steps: int, schedule: str) -> None:
    cumulative = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule=schedule).alphas_cumprod
    timesteps = log_snr_timesteps(cumulative, steps)
    assert len(timesteps) == steps and all(a > b for a, b in itertools.pairwise(timesteps))
    assert 0 <= timesteps[-1] and timesteps[0] < 1000


def test_timesteps_are_spaced_by_log_snr_between_the_limits() -> None:
    cumulative = TRAINED.alphas_cumprod.double()
    noise = ((1 - cumulative) / cumulative).sqrt()
    for steps in (2, 5, 10):
        levels = noise[log_snr_timesteps(TRAINED.alphas_cumprod, steps)]
        assert float(levels[0]) == pytest.approx(HIGHEST_NOISE, rel=0.1)
        assert float(levels[-1]) == pytest.approx(max(LOWEST_NOISE, float(noise[0])), rel=0.1)
        ratios = levels[:-1] / levels[1:]
        assert ratios.tolist() == pytest.approx([float(ratios.log().mean().exp())] * (steps - 1), rel=0.1)
    assert log_snr_timesteps(TRAINED.alphas_cumprod, 1000) == list(range(999, -1, -1))
    # one step: from the highest noise
    assert log_snr_timesteps(TRAINED.alphas_cumprod, 1) == log_snr_timesteps(TRAINED.alphas_cumprod, 10)[:1]


def test_dpm_solver_alone_takes_steps_by_log_snr() -> None:
    solver = make_scheduler("dpmsolver++", TRAINED.config)
    set_timesteps(solver, 10, "cpu")
    assert solver.timesteps.tolist() == log_snr_timesteps(solver.alphas_cumprod, 10)
    for name in ("ddpm", "ddim", "unipc"):
        scheduler, plain = (make_scheduler(name, TRAINED.config) for _ in range(2))
        set_timesteps(scheduler, 10, "cpu")
        plain.set_timesteps(10)
        assert torch.equal(scheduler.timesteps, plain.timesteps)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"])
def test_ten_steps_keep_fine_detail(pipeline: MotionDiffusionPipeline, monkeypatch: Any, name: str) -> None:
    """A component of a hundredth of the deviation of the data, about the shake of a recording, comes out as strong."""
    deviation = 0.05
    monkeypatch.setattr(f"{__name__}.DEVIATION", deviation)
    monkeypatch.setattr(f"{__name__}.MEAN", 0.0)
    scheduler = getattr(diffusers, name).from_config(TRAINED.config, lambda_min_clipped=-5.1)
    assert float(samples(pipeline, scheduler, monkeypatch, steps=10).std()) == pytest.approx(deviation, rel=0.15)
