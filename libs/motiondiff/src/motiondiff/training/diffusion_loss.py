"""Loss of diffusion training: noise a batch, drop conditions, predict the clean motion, compare."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from icube_common.training import StepRandom
from motiondiff.config import DiffusionConfig
from motiondiff.models.conditioning import NULL, Conditions
from motiondiff.models.inpainting import inpainting_input, loss_frames, sample_inpainting_mask
from motiondiff.models.losses import mdm_losses, min_snr_weights, motion_losses
from motiondiff.models.representation import MotionRepresentation
from motiondiff.models.spectrum import Components, Preconditioning, noise_deviation


def make_noise_schedule(config: DiffusionConfig) -> DDPMScheduler:
    """The training noise schedule; predicts x0, clips nothing."""
    return DDPMScheduler(
        num_train_timesteps=config.num_train_timesteps,
        beta_schedule=config.beta_schedule,
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="trailing",
    )


class DiffusionLoss:
    """One training step's losses: noise the batch, drop conditions, predict, compare.

    Args:
        representation: features and body.
        schedule: adds the noise.
        config: condition dropout and loss weights.
        max_frames: noise is drawn for this many frames whatever the batch's longest clip, so that it does not depend
            on how a batch is spread over processes.
        hide_action: share of clips with a text whose action is left out, beyond what ``config`` drops.
        spectrum: (A + 1, K + 1, D) of the training motions, of all and of each action; the loss on features is then
            that of `motiondiff.models.spectrum.Preconditioning.loss`, for a denoiser with this preconditioning.
        pass_components: the model takes the argument ``components`` of `MotionDenoiser.forward`, which are then made
            once for the model and the loss.
    """

    def __init__(
        self,
        representation: MotionRepresentation,
        schedule: DDPMScheduler,
        config: DiffusionConfig,
        max_frames: int,
        hide_action: float = 0.0,
        spectrum: Tensor | None = None,
        pass_components: bool = False,
    ) -> None:
        self.pass_components = pass_components
        self.hide_action = hide_action
        self.spectrum = spectrum
        self.representation = representation
        self.schedule = schedule
        self.config = config
        self.max_frames = max_frames
        self.weights = {
            "simple": config.weight_simple,
            "positions": config.weight_positions,
            "root": config.weight_root,
            "velocity": config.weight_velocity,
            "contact": config.weight_contact,
            "feet": config.weight_feet,
        }

    def __call__(self, model: torch.nn.Module, batch: Mapping[str, Tensor], random: StepRandom) -> dict[str, Tensor]:
        """Loss terms of a batch; ``loss`` is their weighted sum."""
        features, mask = batch["features"], batch["mask"]
        self.representation.to(features.device)
        positions = self.representation.masked_positions(features, batch["offsets"], mask)
        clean = self.representation.normalise(features, batch["offsets"], mask, positions) * mask[..., None]
        noise = random.normal(self.max_frames, clean.shape[-1])[:, : clean.shape[1]]
        timesteps = random.integers(0, self.config.num_train_timesteps)
        conditions = sample_conditions(batch, self.representation, self.config, self.hide_action, random)
        cumulative = self.schedule.alphas_cumprod.to(features.device)
        noisy = self.schedule.add_noise(clean, noise, timesteps)
        components = None
        if self.spectrum is not None:
            components = Components.of(self.spectrum.to(features.device)[conditions.action - NULL], mask)
        options = {"components": components} if self.pass_components else {}
        if self.config.inpainting_probability > 0:
            conditioned = sample_inpainting_mask(
                random, mask, self.representation.parents, self.config.inpainting_probability
            )
            inpainting = inpainting_input(clean, conditioned, self.representation.config.fps)
            predicted = model(noisy, timesteps, conditions, mask, inpainting, **options)
            frames = loss_frames(mask, conditioned)
        else:
            predicted, frames = model(noisy, timesteps, conditions, mask, **options), mask
        with torch.autocast(features.device.type, enabled=False):
            if self.config.losses == "mdm":
                terms = mdm_losses(predicted, clean, frames, batch["offsets"], self.representation)
            else:
                gamma = self.config.min_snr_gamma
                weights = min_snr_weights(cumulative[timesteps], gamma, self.config.min_snr_floor) if gamma else None
                terms = motion_losses(
                    predicted, clean, frames, batch["offsets"], self.representation, weights, positions
                )
                if components is not None:
                    scalings = Preconditioning(components, noise_deviation(cumulative, timesteps))
                    terms["simple"] = scalings.loss(predicted.float(), clean, frames, self.config.spectral_exponent)
        return {"loss": torch.stack([self.weights[name] * value for name, value in terms.items()]).sum(), **terms}


def batch_conditions(batch: Mapping[str, Tensor], representation: MotionRepresentation) -> Conditions:
    """All conditions of a batch of windows."""
    return Conditions(
        action=batch["action"],
        style=batch["style"],
        shape=representation.shape_condition(batch["offsets"]),
        has_shape=torch.ones_like(batch["action"], dtype=torch.bool),
        text=batch.get("text"),
        has_text=batch.get("has_text"),
    )


def sample_conditions(
    batch: Mapping[str, Tensor],
    representation: MotionRepresentation,
    config: DiffusionConfig,
    hide_action: float,
    random: StepRandom,
) -> Conditions:
    """Conditions of a batch with some of them dropped at random, with the configured probabilities."""
    conditions = batch_conditions(batch, representation).drop(
        action=random.uniform() < config.action_dropout,
        style=random.uniform() < config.style_dropout,
        shape=random.uniform() < config.shape_dropout,
    )
    together = random.uniform() < config.joint_dropout
    conditions = conditions.drop(action=together, style=together, text=together)
    if conditions.has_text is not None:
        hidden = conditions.has_text & (random.uniform() < hide_action)
        conditions = conditions.drop(action=hidden, text=random.uniform() < config.text_dropout)
    return conditions
