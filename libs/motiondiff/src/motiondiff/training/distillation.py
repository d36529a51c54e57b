"""Distillation of a trained model into one that samples in one to four steps.

Latent consistency distillation (Luo et al., "Latent Consistency Models", 2023, algorithm 1), for motion as in MotionLCM
(Dai et al., ECCV 2024), on a denoiser that predicts the clean motion: along the teacher's guided ODE, the student's
clean motion at a timestep shall be its own clean motion one skipped step earlier. No moving average on that other side
(Song and Dhariwal, "Improved Techniques for Training Consistency Models", ICLR 2024, section 3.2).

Fewer and longer skipped steps than LCM's 50, each solved by the teacher in several: information crosses the schedule in
10 steps instead of 50, so that minutes of training are enough.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import LCMScheduler
from torch import Tensor

from icube_common.config import load_config
from icube_common.errors import InputError
from icube_common.io.runs import read_json
from icube_common.training import StepRandom, TrainingResult, check_start, finish_run, fit, training_report
from icube_common.vlm.device import default_device
from icube_common.vlm.features import FeatureCache
from motiondiff.config import DistillConfig, MotionDiffConfig
from motiondiff.data.dataset import MotionDataset, class_balanced_weights, collate, mirror_class_indices
from motiondiff.data.store import MotionStore
from motiondiff.models.conditioning import Conditions
from motiondiff.models.denoiser import MotionDenoiser
from motiondiff.models.inpainting import inpainting_input, loss_frames, sample_inpainting_mask
from motiondiff.models.losses import motion_losses
from motiondiff.models.representation import MotionRepresentation
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.pipelines.sampling import is_distilled, load_pipeline
from motiondiff.schedulers import make_scheduler
from motiondiff.training.diffusion import TEXT_CACHE, check_same_data, embed_captions, open_data_run, save_model
from motiondiff.training.diffusion_loss import sample_conditions
from motiondiff.training.model_cards import distilled_card

logger = logging.getLogger(__name__)


class ConsistencyLoss:
    """One distillation step's losses.

    Args:
        teacher: the trained denoiser.
        representation: features and body.
        scheduler: LCM's: its noise schedule, boundary scalings, and the steps laid over the schedule.
        trained: the teacher's settings: condition dropout, loss weights, held parts.
        guidance: of the teacher.
        solver_steps: DDIM steps of the teacher within one skipped step.
    """

    def __init__(
        self,
        teacher: MotionDenoiser,
        representation: MotionRepresentation,
        scheduler: LCMScheduler,
        trained: MotionDiffConfig,
        guidance: float,
        solver_steps: int = 1,
    ) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.representation = representation
        self.scheduler = scheduler
        self.config = trained.diffusion
        self.hide_action = trained.text.hide_action
        self.max_frames = trained.data.max_frames
        self.guidance = guidance
        self.solver_steps = solver_steps
        self.skip = scheduler.config.num_train_timesteps // scheduler.config.original_inference_steps

    def __call__(self, model: torch.nn.Module, batch: Mapping[str, Tensor], random: StepRandom) -> dict[str, Tensor]:
        """Loss terms of a batch; ``loss`` is their weighted sum."""
        features, mask = batch["features"], batch["mask"]
        device = features.device
        self.representation.to(device)
        self.teacher.to(device)
        clean = self.representation.normalise(features, batch["offsets"], mask) * mask[..., None]
        noise = random.normal(self.max_frames, clean.shape[-1])[:, : clean.shape[1]]
        later = (random.integers(0, self.scheduler.config.original_inference_steps) + 1) * self.skip - 1
        earlier = later - self.skip  # -1 is no noise at all
        conditions = sample_conditions(batch, self.representation, self.config, self.hide_action, random)
        inputs: dict[str, Tensor] = {}
        frames = mask
        if self.config.inpainting_probability > 0:
            conditioned = sample_inpainting_mask(
                random, mask, self.representation.parents, self.config.inpainting_probability
            )
            inputs["inpainting"] = inpainting_input(clean, conditioned, self.representation.config.fps)
            frames = loss_frames(mask, conditioned)
        signal, spread = self._levels(later)
        noisy = signal * clean + spread * noise
        with torch.no_grad():
            before = self._solve(noisy, later, conditions, mask, inputs)
            target = self._clean(model, before, earlier, conditions, mask, inputs)
        predicted = self._clean(model, noisy, later, conditions, mask, inputs)
        with torch.autocast(device.type, enabled=False):
            terms = motion_losses(predicted, target, frames, batch["offsets"], self.representation)
        weights = {name: getattr(self.config, f"weight_{name}") for name in terms}
        return {"loss": torch.stack([weights[name] * value for name, value in terms.items()]).sum(), **terms}

    def _solve(
        self, noisy: Tensor, later: Tensor, conditions: Conditions, mask: Tensor, inputs: Mapping[str, Tensor]
    ) -> Tensor:
        """One skipped step along the teacher's ODE by DDIM: what its clean motion leaves over is the noise, scaled."""
        timestep, sample = later, noisy
        for number in range(1, self.solver_steps + 1):
            following = later - round(self.skip * number / self.solver_steps)
            guided = self._guided(sample, timestep, conditions, mask, inputs)
            signal, spread = self._levels(timestep)
            signal_after, spread_after = self._levels(following)
            sample = signal_after * guided + spread_after * (sample - signal * guided) / spread
            timestep = following
        return sample

    def _guided(
        self, noisy: Tensor, timestep: Tensor, conditions: Conditions, mask: Tensor, inputs: Mapping[str, Tensor]
    ) -> Tensor:
        """The teacher's clean motion, guided."""
        if self.guidance == 1.0:
            return self.teacher(noisy, timestep, conditions, mask, **inputs).float()
        both = Conditions.cat([conditions.without_semantics(), conditions])
        twice = {name: values.repeat(2, 1, 1) for name, values in inputs.items()}
        predicted = self.teacher(noisy.repeat(2, 1, 1), timestep.repeat(2), both, mask.repeat(2, 1), **twice).float()
        null, conditional = predicted.chunk(2)
        return null + self.guidance * (conditional - null)

    def _clean(
        self,
        model: torch.nn.Module,
        noisy: Tensor,
        timestep: Tensor,
        conditions: Conditions,
        mask: Tensor,
        inputs: Mapping[str, Tensor],
    ) -> Tensor:
        """The student's clean motion with LCM's boundary: without noise, it is what goes in."""
        predicted = model(noisy, timestep.clamp(min=0), conditions, mask, **inputs).float()
        skip, out = self.scheduler.get_scalings_for_boundary_condition_discrete(timestep.clamp(min=0).float())
        skip, out = skip[:, None, None], out[:, None, None]
        at_start = (timestep < 0)[:, None, None]
        return torch.where(at_start, noisy, skip * noisy + out * predicted)

    def _levels(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, 1) shares of signal and noise; no noise at timestep -1."""
        cumulative = self.scheduler.alphas_cumprod.to(timestep.device)[timestep.clamp(min=0)]
        cumulative = torch.where(timestep < 0, torch.ones_like(cumulative), cumulative)[:, None, None]
        return cumulative.sqrt(), (1 - cumulative).sqrt()


def find_data(run: str | Path, data: str | Path | None) -> MotionStore:
    """The store that a run was trained on.

    Raises:
        InputError: it is not where it was, or ``data`` is another.
    """
    record = Path(run) / "environment.json"
    if not record.is_file():
        raise InputError(f"{run}: has no environment.json; give a run folder of `motiondiff train`")
    place = data if data is not None else read_json(record).get("data")
    try:
        store = MotionStore(place)
    except InputError as error:
        raise InputError(f"{error}; --data STORE names the folder of the data of {run}") from error
    check_same_data(run, store)
    return store


def distill(
    run: str | Path,
    out: str | Path,
    config: DistillConfig | None = None,
    *,
    data: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainingResult:
    """Distil a run into one that samples in 4 steps (or 1, or 2) without guidance.

    Args:
        run: the teacher's run folder.
        out: the run folder to make; `motiondiff.pipelines.sampling.sample` takes 4 steps of its LCM scheduler.
        config: guidance and training.
        data: the store that the teacher was trained on; None: where it was then.
        resume: go on from the newest whole checkpoint of ``out``.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: no trained teacher, one that is distilled itself, other data, or ``out`` exists.
    """
    config = config or DistillConfig()
    check_start(config.train, out, resume=resume, overwrite=overwrite)
    if is_distilled(run):
        raise InputError(f"{run}: is distilled already; distil the run that it came from")
    teacher = load_pipeline(run)
    store = find_data(run, data)
    trained = load_config(MotionDiffConfig, file=Path(run) / "config.yaml")
    scheduler = make_scheduler("lcm", {**teacher.scheduler.config, "original_inference_steps": config.lcm_steps})
    student = copy.deepcopy(teacher.denoiser)
    step = ConsistencyLoss(
        teacher.denoiser, teacher.representation, scheduler, trained, config.guidance, config.solver_steps
    )
    clips = store.select("train")
    mirror_class_indices(store, clips, trained.data)  # refuses before anything is written
    folder = open_data_run(out, store, config, resume=resume, overwrite=overwrite, teacher=str(run))
    captions = None
    if teacher.takes_text:
        cache = FeatureCache(trained.text.cache or Path(run) / TEXT_CACHE)
        encoder = teacher.text_encoder
        encoder.vlm.to(default_device(config.train.device))
        captions = embed_captions(store, trained.text, encoder, cache, mirror=trained.data.mirror > 0)
    result = fit(
        student,
        step,
        MotionDataset(store, clips, trained.data, augment=True, captions=captions),
        config=config.train,
        run=folder,
        collate=collate,
        weights=class_balanced_weights(store.columns["action"][clips], trained.data.balance),
        resume=resume,
    )
    pipeline = MotionDiffusionPipeline(result.model.to("cpu").eval(), teacher.representation.to("cpu"), scheduler)
    card = distilled_card(store, config, result.steps, config.guidance)
    facts = {"teacher": str(run), "guidance": config.guidance}
    return finish_run(
        TrainingResult(run=folder, model=pipeline.denoiser, fit=result, facts=facts),
        save=lambda path: save_model(path, pipeline, card),
        report=lambda: training_report(folder, result, subtitle=f"Distillation of {run}", facts=facts),
    )
