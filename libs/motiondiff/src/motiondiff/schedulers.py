"""Diffusers schedulers by the names people use for them."""

from __future__ import annotations

from typing import Any

from icube_common.errors import unknown

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
