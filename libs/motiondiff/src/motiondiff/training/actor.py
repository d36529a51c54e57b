"""Training ACTOR on a store: the loop, the windows and the representation are the diffusion model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.training import StepRandom, TrainingResult, check_start, finish_run, fit, training_report
from motiondiff.config import ActorConfig, ActorLossConfig
from motiondiff.data.dataset import MotionDataset, class_balanced_weights, collate
from motiondiff.data.store import MotionStore
from motiondiff.models.actor import ActorVae, kl_divergence
from motiondiff.models.losses import motion_losses
from motiondiff.models.representation import MotionRepresentation
from motiondiff.pipelines.actor import ActorGenerator
from motiondiff.training.diffusion import open_data_run, save_model
from motiondiff.training.model_cards import actor_card
from motiondiff.training.statistics import fit_representation

# batches are padded to a multiple of this: a library that compiles kernels by size (oneDNN) then meets few sizes
FRAME_STEP = 40


class ActorLoss:
    """One training step's losses (section 3.3): pose parameters, joints, divergence.

    The paper's vertices are joints here, by forward kinematics: no licensed body model is needed. Pose and joints are
    means over a clip's own frames, as `motiondiff.models.losses` has them for both methods.

    Args:
        representation: features and body.
        config: loss weights.
        width: size of the latent.
    """

    def __init__(self, representation: MotionRepresentation, config: ActorLossConfig, width: int) -> None:
        self.representation = representation
        self.config = config
        self.width = width

    def __call__(self, model: torch.nn.Module, batch: Mapping[str, Tensor], random: StepRandom) -> dict[str, Tensor]:
        """Loss terms of a batch; ``loss`` is their weighted sum."""
        features, mask = batch["features"], batch["mask"]
        self.representation.to(features.device)
        clean = self.representation.normalise(features, batch["offsets"], mask) * mask[..., None]
        predicted, mean, log_variance = model(clean, batch["action"], mask, random.normal(self.width))
        with torch.autocast(features.device.type, enabled=False):
            terms = motion_losses(predicted, clean, mask, batch["offsets"], self.representation)
            pose, positions = terms["simple"], terms["positions"]
            kl = kl_divergence(mean.float(), log_variance.float())
        weights = self.config
        loss = weights.weight_pose * pose + weights.weight_positions * positions + weights.weight_kl * kl
        return {"loss": loss, "pose": pose, "positions": positions, "kl": kl}


def collate_padded(windows: Sequence[dict[str, Any]], max_frames: int) -> dict[str, Tensor]:
    """`collate`, padded further to a multiple of `FRAME_STEP` frames or to the longest window that can be."""
    batch = collate(windows)
    frames = batch["mask"].shape[1]
    more = max(0, min(-(-frames // FRAME_STEP) * FRAME_STEP, max_frames) - frames)
    return {**batch, "features": F.pad(batch["features"], (0, 0, 0, more)), "mask": F.pad(batch["mask"], (0, more))}


def train_actor(
    data: str | Path,
    out: str | Path,
    config: ActorConfig | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainingResult:
    """Train on a store's training split and save the model.

    Args:
        data: the store.
        out: the run folder; `icube_common.io.runs` lists its files.
        config: all settings.
        resume: go on from the newest whole checkpoint of ``out``.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: a bad store, setting, or output folder, or training clips without an action.
    """
    config = config or ActorConfig()
    check_start(config.train, out, resume=resume, overwrite=overwrite)
    store = MotionStore(data)
    clips = store.select("train")
    store.check_actions(clips, "ACTOR is conditioned on actions")
    representation = fit_representation(store, clips, config.data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        try:
            vae = ActorVae(
                feature_size=representation.feature_size,
                actions=store.actions,
                max_frames=config.data.max_frames,
                **config_to_dict(config.model),
            )
        except ValueError as error:
            raise InputError(str(error)) from error
    dataset = MotionDataset(store, clips, config.data, augment=True)
    run = open_data_run(out, store, config, resume=resume, overwrite=overwrite)
    result = fit(
        vae,
        ActorLoss(representation, config.loss, config.model.width),
        dataset,
        config=config.train,
        run=run,
        collate=partial(collate_padded, max_frames=config.data.max_frames),
        weights=class_balanced_weights(store.columns["action"][clips], config.data.balance),
        resume=resume,
    )
    generator = ActorGenerator(vae.to("cpu"), representation.to("cpu"))
    return finish_run(
        TrainingResult(run=run, model=vae, fit=result),
        save=lambda folder: save_model(folder, generator, actor_card(store, config, result.steps)),
        report=lambda: training_report(run, result, subtitle=f"ACTOR, {store.path.name}"),
    )
