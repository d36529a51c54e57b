"""Diffusers schedulers by the names people use for them."""

from __future__ import annotations

from typing import Any

from icube_common.errors import InputError, unknown

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
