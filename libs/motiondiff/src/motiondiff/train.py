"""Training a motion diffusion model on a store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from diffusers import DDPMScheduler
from torch import Tensor

from icube_common.config import config_to_dict, config_to_yaml, load_config
from icube_common.errors import InputError
from icube_common.io.runs import RunFolder, atomic_folder, read_json
from icube_common.training import SampleRef, StepRandom, check_start, fit, open_run
from icube_common.vlm.device import default_device
from icube_common.vlm.features import FeatureCache
from motiondiff.config import DataConfig, DiffusionConfig, MotionDiffConfig, TextConfig
from motiondiff.data.captions import EmbeddedCaptions, store_captions
from motiondiff.data.dataset import MotionDataset, class_balanced_weights, collate, to_common_frame
from motiondiff.data.store import MotionStore
from motiondiff.model.conditions import Conditions
from motiondiff.model.denoiser import MotionDenoiser
from motiondiff.model.held import draw_held, held_input, loss_frames
from motiondiff.model.losses import motion_losses
from motiondiff.model.representation import ANY_ACTION, MotionRepresentation
from motiondiff.model.text import TextEncoder, load_text_encoder
from motiondiff.pipeline import MotionDiffusionPipeline
from motiondiff.report import write_training_report

logger = logging.getLogger(__name__)

# clips that the feature statistics are taken from, at most
STATISTICS_CLIPS = 4000
VALIDATION_BATCH = 32
VALIDATION_SEED = 20_000
TEXT_CACHE = "text_cache"
"""Folder of a run with the embeddings of its captions."""


def measure_representation(
    store: MotionStore, clips: npt.NDArray[np.int64], config: DataConfig
) -> MotionRepresentation:
    """The representation of a store: mean and deviation of features from the given (training) clips only."""
    chosen = clips[np.linspace(0, len(clips) - 1, min(len(clips), STATISTICS_CLIPS)).round().astype(int)]
    count, total, squares = 0, 0.0, 0.0
    for clip in chosen:
        features = to_common_frame(store.frames(int(clip), 0, config.max_frames)).astype(np.float64)
        count += len(features)
        total = total + features.sum(0)
        squares = squares + (features**2).sum(0)
    mean = np.asarray(total / count)
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    skeleton = store.skeleton(int(clips[0]))
    lengths = np.minimum(store.columns["length"][clips], config.max_frames)
    actions = store.columns["action"][clips]
    quantiles = {store.actions[code]: _quantiles(lengths[actions == code]) for code in np.unique(actions[actions >= 0])}
    representation = MotionRepresentation(
        joint_names=list(skeleton.names),
        parents=list(skeleton.parents),
        fps=store.fps,
        feet=list(skeleton.feet),
        action_frames=quantiles or {ANY_ACTION: _quantiles(lengths)},
        simulated=bool(store.header.get("simulated", False)),
    )
    bodies = np.bincount(store.columns["skeleton"][clips], minlength=len(store.offsets))
    offsets = np.average(store.offsets, axis=0, weights=bodies)
    representation.set_statistics(
        torch.tensor(mean, dtype=torch.float32),
        torch.tensor(deviation, dtype=torch.float32),
        torch.tensor(offsets, dtype=torch.float32),
    )
    return representation


def _quantiles(lengths: npt.NDArray[np.int64]) -> list[int]:
    """Eleven rising lengths in frames: the deciles, with shortest and longest."""
    return [round(float(value)) for value in np.quantile(lengths, np.linspace(0, 1, 11))]


def make_denoiser(
    store: MotionStore,
    representation: MotionRepresentation,
    config: MotionDiffConfig,
    encoder: TextEncoder | None = None,
) -> MotionDenoiser:
    """A denoiser for a store's labels and body, its weights drawn from ``train.seed``; for texts with an encoder.

    Raises:
        InputError: a shape that cannot be, such as a width that the heads do not divide.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        try:
            return MotionDenoiser(
                feature_size=representation.feature_size,
                shape_size=len(store.joint_names),
                actions=store.actions,
                styles=store.styles,
                max_frames=config.data.max_frames,
                held_input=config.diffusion.show_held > 0,
                **({"text_size": encoder.size, "text_encoder": encoder.facts} if encoder else {}),
                **config_to_dict(config.model),
            )
        except ValueError as error:
            raise InputError(str(error)) from error


def make_noise_schedule(config: DiffusionConfig) -> DDPMScheduler:
    """The training noise schedule; predicts x0, clips nothing."""
    return DDPMScheduler(
        num_train_timesteps=config.num_train_timesteps,
        beta_schedule=config.beta_schedule,
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="trailing",
    )


class DiffusionStep:
    """One training step's losses: noise the batch, drop conditions, predict, compare.

    Args:
        representation: features and body.
        schedule: adds the noise.
        config: condition dropout and loss weights.
        max_frames: noise is drawn for this many frames whatever the batch's longest clip, so that it does not depend
            on how a batch is spread over processes.
        hide_action: share of clips with a text whose action is left out, beyond what ``config`` drops.
    """

    def __init__(
        self,
        representation: MotionRepresentation,
        schedule: DDPMScheduler,
        config: DiffusionConfig,
        max_frames: int,
        hide_action: float = 0.0,
    ) -> None:
        self.hide_action = hide_action
        self.representation = representation
        self.schedule = schedule
        self.config = config
        self.max_frames = max_frames
        self.weights = {
            "simple": config.weight_simple,
            "positions": config.weight_positions,
            "velocity": config.weight_velocity,
            "contact": config.weight_contact,
        }

    def __call__(self, model: torch.nn.Module, batch: Mapping[str, Tensor], random: StepRandom) -> dict[str, Tensor]:
        """Loss terms of a batch; ``loss`` is their weighted sum."""
        features, mask = batch["features"], batch["mask"]
        self.representation.to(features.device)
        clean = self.representation.normalise(features) * mask[..., None]
        noise = random.normal(self.max_frames, clean.shape[-1])[:, : clean.shape[1]]
        timesteps = random.integers(0, self.config.num_train_timesteps)
        conditions = draw_conditions(batch, self.representation, self.config, self.hide_action, random)
        noisy = self.schedule.add_noise(clean, noise, timesteps)
        if self.config.show_held > 0:
            held = draw_held(random, mask, self.representation.parents, self.config.show_held)
            predicted = model(
                noisy, timesteps, conditions, mask, held_input(clean, held, self.representation.config.fps)
            )
            mask = loss_frames(mask, held)
        else:
            predicted = model(noisy, timesteps, conditions, mask)
        with torch.autocast(features.device.type, enabled=False):
            terms = motion_losses(predicted, clean, mask, batch["offsets"], self.representation)
        return {"loss": torch.stack([self.weights[name] * value for name, value in terms.items()]).sum(), **terms}


def batch_conditions(batch: Mapping[str, Tensor], representation: MotionRepresentation) -> Conditions:
    """All conditions that a batch of windows knows."""
    return Conditions(
        action=batch["action"],
        style=batch["style"],
        shape=representation.shape_condition(batch["offsets"]),
        has_shape=torch.ones_like(batch["action"], dtype=torch.bool),
        text=batch.get("text"),
        has_text=batch.get("has_text"),
    )


def draw_conditions(
    batch: Mapping[str, Tensor],
    representation: MotionRepresentation,
    config: DiffusionConfig,
    hide_action: float,
    random: StepRandom,
) -> Conditions:
    """A batch's conditions with some of them dropped at random, as often as the configuration says."""
    conditions = batch_conditions(batch, representation).drop(
        action=random.uniform() < config.drop_action,
        style=random.uniform() < config.drop_tag,
        shape=random.uniform() < config.drop_shape,
    )
    if conditions.has_text is not None:
        hidden = conditions.has_text & (random.uniform() < hide_action)
        conditions = conditions.drop(action=hidden, text=random.uniform() < config.drop_text)
    return conditions


def embed_captions(
    store: MotionStore, config: TextConfig, encoder: TextEncoder, cache: FeatureCache | None, *, mirror: bool = False
) -> EmbeddedCaptions:
    """The captions of a store with their embeddings, those from the cache that are there.

    With ``mirror`` the captions of motions seen in a mirror as well.

    Raises:
        InputError: no clip has a text or an action.
    """
    captions = store_captions(store, labels=config.labels, mirror=mirror)
    cut = [text for text in captions.texts if encoder.too_long(text)]
    if cut:
        logger.warning("%d captions are longer than %s reads and are cut: %r ...", len(cut), config.encoder, cut[0])
    vectors = encoder.embed(captions.texts, cache).numpy()
    return EmbeddedCaptions(captions, vectors, noise=config.noise, blend=config.blend)


def make_validation(
    store: MotionStore, step: DiffusionStep, config: MotionDiffConfig, captions: EmbeddedCaptions | None = None
) -> Callable[[torch.nn.Module], dict[str, float]] | None:
    """The loss on the validation split, with the same noise every time; None where it is off.

    Raises:
        InputError: it is on, and the store has no validation split.
    """
    if not config.train.eval_steps:
        return None
    if "validation" not in store.info()["splits"]:
        raise InputError(
            f"train.eval_steps={config.train.eval_steps}: {store.path} has no validation split to watch (split "
            f"by: {store.header['split_by']}); set it, and train.early_stopping_patience, to 0"
        )
    windows = MotionDataset(store, store.select("validation"), config.data, augment=False, captions=captions)

    def validate(model: torch.nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        totals: dict[str, float] = {}
        for number, first in enumerate(range(0, len(windows), VALIDATION_BATCH)):
            rows = range(first, min(first + VALIDATION_BATCH, len(windows)))
            batch = collate([windows[SampleRef(row, 0)] for row in rows])
            random = StepRandom(VALIDATION_SEED, 0, number, rows=slice(0, len(rows)), total=len(rows), device=device)
            batch = {name: values.to(device) for name, values in batch.items()}
            for name, value in step(model, batch, random).items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(rows) / len(windows)
        return totals

    return validate


def refuse_other_run(run: RunFolder, store: MotionStore, config: MotionDiffConfig) -> None:
    """Hold a stopped run's data and settings against what it is to go on with; those of ``train`` are `fit`'s to check.

    Raises:
        InputError: other data, or the first setting that differs.
    """
    if not (run.environment.is_file() and run.config.is_file()):
        return  # no run folder: `open_run` says so
    written = read_json(run.environment).get("data_fingerprint")
    if written != store.fingerprint:
        raise InputError(f"{store.path}: is not the data that {run.path} was trained on; resume with the same store")
    before = config_to_dict(load_config(MotionDiffConfig, file=run.config))
    now = config_to_dict(config)
    for section in ("model", "data", "diffusion", "text"):
        for key, value in now[section].items():
            if before[section][key] != value and key != "cache":  # where embeddings lie does not change them
                raise InputError(
                    f"{section}.{key}={value}: {run.path} was trained with {before[section][key]}; resume with the "
                    f"same value (--config {run.config}) or start a new run"
                )


def model_card(store: MotionStore, config: MotionDiffConfig, steps: int, encoder: TextEncoder | None = None) -> str:
    """Markdown for ``model/README.md``: what the model was trained on, and how."""
    info = store.info()
    simulated = "**Trained on simulated motions, not on recordings of people.**\n\n" if info["simulated"] else ""
    actions = ", ".join(f"{name} ({count})" for name, count in info["actions"].items()) or "none"
    texts = ""
    if encoder is not None:
        untrained = "" if encoder.facts["trained"] else "**untrained: its embeddings mean nothing**, "
        texts = (
            f"Texts by the frozen encoder `{encoder.names['encoder']}` ({untrained}fingerprint "
            f"`{encoder.facts['fingerprint'][:16]}`), which is not part of the model.\n\n"
        )
    return (
        f"# Motion diffusion model\n\n{simulated}"
        f"Trained for {steps} steps on {info['splits'].get('train', 0)} clips ({store.fps:g} fps, {info['joints']} "
        f"joints, data fingerprint `{store.fingerprint[:16]}`).\n\n"
        f"Actions (clips in all splits): {actions}\n\n{texts}"
        f"```yaml\n{config_to_yaml(config)}```\n"
    )


def train(
    data: str | Path,
    out: str | Path,
    config: MotionDiffConfig | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train on a store's training split and save a pipeline.

    Args:
        data: the store.
        out: the run folder; `icube_common.io.runs` says what it holds.
        config: all settings.
        resume: go on from the newest whole checkpoint of ``out``.
        overwrite: replace an existing ``out``.

    Returns:
        Where the model and the report are, steps, seconds, and the last losses.

    Raises:
        InputError: a bad store, setting, or output folder; nothing is written then.
    """
    config = config or MotionDiffConfig()
    check_start(config.train, out, resume=resume, overwrite=overwrite)
    store = MotionStore(data)
    if resume:
        refuse_other_run(RunFolder(out), store, config)
    clips = store.select("train")
    representation = measure_representation(store, clips, config.data)
    encoder = load_text_encoder(config.text, default_device(config.train.device)) if config.text.enabled else None
    denoiser = make_denoiser(store, representation, config, encoder)
    captions = None
    cache = FeatureCache(config.text.cache or RunFolder(out).path / TEXT_CACHE)
    if encoder is not None:
        # a new run's folder is not there yet, and must not be before all is known to be well
        known = cache if config.text.cache or resume else None
        captions = embed_captions(store, config.text, encoder, known, mirror=config.data.mirror > 0)
        means = captions.action_means(store.columns["action"], len(store.actions), clips)
        denoiser.action_texts.copy_(torch.from_numpy(means))
    schedule = make_noise_schedule(config.diffusion)
    step = DiffusionStep(
        representation, schedule, config.diffusion, config.data.max_frames, hide_action=config.text.hide_action
    )
    validate = make_validation(store, step, config, captions)
    dataset = MotionDataset(store, clips, config.data, augment=True, captions=captions)
    run = open_run(
        out,
        config=config.train,
        config_yaml=config_to_yaml(config),
        environment={"data": str(store.path), "data_fingerprint": store.fingerprint, "seed": config.train.seed},
        resume=resume,
        overwrite=overwrite,
    )
    if encoder is not None and captions is not None and PartialState().is_main_process:
        encoder.embed(captions.captions.texts, cache)
    result = fit(
        denoiser,
        step,
        dataset,
        config=config.train,
        run=run,
        collate=collate,
        weights=class_balanced_weights(store.columns["action"][clips], config.data.balance),
        validate=validate,
        resume=resume,
    )
    pipeline = MotionDiffusionPipeline(result.model.to("cpu"), representation.to("cpu"), schedule)
    if PartialState().is_main_process:
        with atomic_folder(run.model, overwrite=True) as folder:
            pipeline.save_pretrained(folder)
            (folder / "README.md").write_text(model_card(store, config, result.steps, encoder))
        write_training_report(run, store, config)
    return {"model": str(run.model), "report": str(run.report), **result.summary(run)}
