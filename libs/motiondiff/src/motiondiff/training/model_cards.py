"""Model cards of motiondiff: diffusion models, distilled models, ACTOR."""

from __future__ import annotations

from icube_common.config import Config
from icube_common.io.model_card import ModelCard
from motiondiff.config import MotionDiffConfig
from motiondiff.data.store import MotionStore
from motiondiff.models.text_encoder import TextEncoder

SIMULATED = "**Trained on simulated motions, not on recordings of people.**"
INTENDED = (
    "Research: new motions of the actions below, for animation, for robots in simulation, and as further training data "
    "of action classifiers."
)
EXCLUDED = (
    "statements about the movement of single people or of groups that were not recorded, medical assessment of gait, "
    "and control of machines near people without further checks."
)
LIMITS = (
    "Movements, bodies and habits are those of the recorded people.",
    "A generated motion may be near to a recorded one: `motiondiff evaluate` counts copies.",
    "Feet may slide and bodies may float: look at motions before use.",
)


def model_card(store: MotionStore, config: MotionDiffConfig, steps: int, encoder: TextEncoder | None = None) -> str:
    """Card of a diffusion model.

    Args:
        store: the training data.
        config: of the training.
        steps: trained steps.
        encoder: of texts, where the model takes them.
    """
    details = "Denoiser of a diffusion model on skeletons, loaded by `motiondiff.MotionDiffusionPipeline`."
    if encoder is not None:
        untrained = "" if encoder.facts["trained"] else "**untrained: its embeddings mean nothing**, "
        details += (
            f" Texts by the frozen encoder `{encoder.names['encoder']}` ({untrained}fingerprint "
            f"`{encoder.facts['fingerprint'][:16]}`), which is not part of the model."
        )
    cite = 'Tevet et al., "Human Motion Diffusion Model", ICLR 2023; the differences are in the documentation.'
    return _card("Motion diffusion model", store, config, steps, details, ("diffusers", "diffusion"), cite)


def distilled_card(store: MotionStore, config: Config, steps: int, guidance: float) -> str:
    """Card of a model that samples in 1 to 4 steps; arguments as `model_card`, and the guidance folded in."""
    details = (
        f"Distilled from a diffusion model of the same data, with guidance {guidance:g} folded in, loaded by "
        "`motiondiff.MotionDiffusionPipeline`."
    )
    cite = 'Luo et al., "Latent Consistency Models", 2023; Dai et al., "MotionLCM", ECCV 2024.'
    return _card(
        "Motion diffusion model for 1 to 4 steps", store, config, steps, details, ("diffusers", "diffusion"), cite
    )


def actor_card(store: MotionStore, config: Config, steps: int) -> str:
    """Card of an ACTOR model; arguments as `model_card`."""
    details = "Variational autoencoder with transformers, conditioned on the action, written from the paper."
    cite = "Petrovich, Black and Varol, ICCV 2021."
    return _card("ACTOR", store, config, steps, details, ("variational-autoencoder",), cite)


def _card(
    title: str, store: MotionStore, config: Config, steps: int, details: str, tags: tuple[str, ...], citation: str
) -> str:
    info = store.info()
    actions = ", ".join(f"{name} ({count})" for name, count in info["actions"].items()) or "none"
    data = (
        f"Trained for {steps} steps on {info['splits'].get('train', 0)} clips ({store.fps:g} fps, {info['joints']} "
        f"joints, data fingerprint `{store.fingerprint[:16]}`).\n\nActions (clips in all splits): {actions}"
    )
    return ModelCard(
        title=title,
        library="motiondiff",
        tags=("human-motion-generation", *tags),
        notice=SIMULATED if info["simulated"] else "",
        details=details,
        intended=INTENDED,
        excluded=EXCLUDED,
        data=data,
        limits=LIMITS,
        command="motiondiff evaluate",
        citation=citation,
        config=config,
    ).to_markdown()
