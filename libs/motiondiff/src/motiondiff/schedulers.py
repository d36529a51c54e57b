"""Diffusers schedulers by the names people use for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from icube_common.errors import InputError, unknown

if TYPE_CHECKING:
    import torch

HIGHEST_NOISE, LOWEST_NOISE = 100.0, 0.01
"""Standard deviations of the noise, in units of the features', between which steps are spaced by the log-SNR."""

# the steps that lie over the schedule where no distillation says otherwise, as in LCM's paper
LCM_STEPS = 50

# name -> (diffusers class, settings that predicting x0 on a cosine schedule asks for)
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    # trailing: few steps start where training ended, at pure noise
    "ddpm": ("DDPMScheduler", {"clip_sample": False, "timestep_spacing": "trailing"}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True, "timestep_spacing": "trailing"}),
    # a cosine schedule's last steps are almost pure noise: log-SNR is clipped as the DPM-Solver authors advise
    "dpmsolver++": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "lambda_min_clipped": -5.1},
    ),
    # for distilled models
    "lcm": ("LCMScheduler", {"clip_sample": False, "original_inference_steps": LCM_STEPS}),
    "unipc": ("UniPCMultistepScheduler", {"solver_order": 2, "timestep_spacing": "trailing"}),
}

SUPPORTED_CLASSES = (
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "EulerDiscreteScheduler",
    "LCMScheduler",
)
"""Diffusers classes whose samples have the distribution that a perfect denoiser of the clean motion asks for (tested;
LCM's with a distilled denoiser), from any step. Others crash, or give another distribution: Heun's is several times
too wide, SA-Solver's in few steps as well, and LMS and DEIS do not arrive when they begin at a later step."""

# setting -> its values with which samples are wrong, or that crash
_WRONG_SETTINGS: dict[str, tuple[Any, ...]] = {
    "clip_sample": (True,),
    "thresholding": (True,),
    "use_karras_sigmas": (True,),
    "use_exponential_sigmas": (True,),
    "use_beta_sigmas": (True,),
    "use_flow_sigmas": (True,),
    "interpolation_type": ("log_linear",),
    "predict_x0": (False,),
    "solver_type": ("bh1",),
    "algorithm_type": ("dpmsolver", "sde-dpmsolver"),
    "variance_type": ("learned", "learned_range"),
}

# what a scheduler must take over from the one that the model was trained with
NOISE_SCHEDULE_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)


def make_scheduler(name: str, base_config: Any) -> Any:
    """A scheduler with the noise schedule of another one.

    Args:
        name: a key of `SCHEDULERS`.
        base_config: the trained pipeline's ``scheduler.config``.

    Raises:
        InputError: an unknown name.
    """
    if name not in SCHEDULERS:
        raise unknown("scheduler", name, SCHEDULERS)
    import diffusers

    class_name, settings = SCHEDULERS[name]
    shared = {key: base_config[key] for key in NOISE_SCHEDULE_KEYS if key in base_config}
    if name == "lcm":  # no more of its steps than there are timesteps
        laid = int(base_config.get("original_inference_steps") or LCM_STEPS)  # a distilled run's own
        settings = {**settings, "original_inference_steps": min(laid, int(base_config["num_train_timesteps"]))}
    return getattr(diffusers, class_name).from_config({**shared, **settings})


def log_snr_timesteps(cumulative: torch.Tensor, steps: int) -> list[int]:
    """Falling distinct timesteps whose signal-to-noise ratios have about equal ratios.

    Lu et al., "DPM-Solver", NeurIPS 2022, section 3.3: steps are uniform in the log-SNR, here between `HIGHEST_NOISE`
    and `LOWEST_NOISE`, as far as the schedule reaches. Uniform timesteps of a cosine schedule leave fine detail to the
    last step, and diffusers' ``use_lu_lambdas`` gives half of ten steps to the pure noise at a cosine schedule's end.

    Args:
        cumulative: (N,) cumulative products of alphas, of the noise schedule.
        steps: how many, up to N.
    """
    logarithm = 0.5 * ((1 - cumulative.double()).log() - cumulative.double().log())
    highest = min(math.log(HIGHEST_NOISE), float(logarithm[-1]))
    lowest = max(math.log(LOWEST_NOISE), float(logarithm[0]))
    levels = [highest + (lowest - highest) * step / max(steps - 1, 1) for step in range(steps)]
    timesteps = [int((logarithm - level).abs().argmin()) for level in levels]
    last = len(cumulative) - 1
    for step in range(steps):  # each below the one before it, and room for those that follow
        highest_free = last if step == 0 else timesteps[step - 1] - 1
        timesteps[step] = min(max(timesteps[step], steps - 1 - step), highest_free)
    return timesteps


def set_timesteps(scheduler: Any, steps: int, device: torch.device | str, *, share: float = 1.0) -> int:
    """Set a scheduler's timesteps: DPM-Solver++'s by `log_snr_timesteps`, those of others as they are configured.

    A DPM-Solver++ with ``use_lu_lambdas`` keeps its own, which exclude others.

    Args:
        scheduler: of diffusers.
        steps: over the whole noise schedule.
        device: of the timesteps.
        share: of the noise schedule from which on it denoises, with this share of the steps, one at least.

    Returns:
        Index of the first timestep to denoise at.

    Raises:
        InputError: the scheduler has fewer steps, or visits a timestep twice.
    """
    try:
        begin = _set_timesteps(scheduler, steps, device, share)
    except ValueError as error:  # LCM's has fewer steps than were trained
        raise InputError(f"{steps} denoising steps: {str(error).splitlines()[0]}") from error
    distinct = len(scheduler.timesteps.unique())
    # a scheduler of order 1 that visits a timestep twice (the rounding of DPM-Solver's) divides by zero there
    if scheduler.order == 1 and distinct < len(scheduler.timesteps):
        raise InputError(
            f"{steps} denoising steps: {type(scheduler).__name__} has {distinct} that differ: take fewer, or another "
            "scheduler"
        )
    return begin


def _set_timesteps(scheduler: Any, steps: int, device: torch.device | str, share: float) -> int:
    settings = scheduler.config
    solver = type(scheduler).__name__.startswith("DPMSolver") and settings.get("algorithm_type") == "dpmsolver++"
    if solver and not settings.get("use_lu_lambdas"):
        cumulative = scheduler.alphas_cumprod[: max(1, round(share * len(scheduler.alphas_cumprod)))]
        count = min(max(1, round(share * steps)), len(cumulative))
        scheduler.set_timesteps(timesteps=log_snr_timesteps(cumulative, count), device=device)
        return 0
    scheduler.set_timesteps(steps, device=device)
    count = len(scheduler.timesteps)
    return count - max(1, round(share * count))


def check_scheduler(scheduler: Any) -> None:
    """Refuse a scheduler with which a model that predicts the clean motion gives no, or wrong, samples.

    Raises:
        InputError: a class outside of `SUPPORTED_CLASSES`, another ``prediction_type`` than ``sample``, or a setting
            that is not supported.
    """
    name = type(scheduler).__name__
    if not {base.__name__ for base in type(scheduler).__mro__}.intersection(SUPPORTED_CLASSES):
        raise InputError(
            f"scheduler {name}: not supported for a model that predicts the clean motion; take one of "
            f"{', '.join(SUPPORTED_CLASSES)}"
        )
    config = scheduler.config
    if config.get("prediction_type") != "sample":
        raise InputError(
            f"scheduler {name}: its prediction_type is {config.get('prediction_type')!r}, this model's is 'sample'; "
            f"make it with {name}.from_config(pipeline.scheduler.config)"
        )
    for key, wrong in _WRONG_SETTINGS.items():
        if config.get(key) in wrong:
            raise InputError(f"scheduler {name}: {key}={config[key]!r} is not supported; leave it at another value")
