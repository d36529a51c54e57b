"""Training a motion diffusion model on a store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn

from icube_common.config import config_to_dict, config_to_yaml, load_config
from icube_common.errors import InputError
from icube_common.io.reports import Report
from icube_common.io.runs import RunFolder, atomic_folder, read_json, write_json
from icube_common.training import SampleRef, StepRandom, TrainingResult, check_start, finish_run, fit, open_run
from icube_common.training.config import TrainConfig
from icube_common.vlm.device import default_device
from icube_common.vlm.features import FeatureCache
from motiondiff.config import MotionDiffConfig, TextConfig
from motiondiff.data.dataset import MotionDataset, class_balanced_weights, collate
from motiondiff.data.labels.captions import EmbeddedCaptions, store_captions
from motiondiff.data.store import MotionStore
from motiondiff.models.custom_denoiser import CustomDenoiser
from motiondiff.models.denoiser import MotionDenoiser
from motiondiff.models.mdm import MDMDenoiser
from motiondiff.models.text_encoder import TextEncoder, load_text_encoder
from motiondiff.pipelines.actor import ActorGenerator
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.training.copy_test import FILE as COPY_TEST
from motiondiff.training.copy_test import copy_test
from motiondiff.training.diffusion_loss import DiffusionLoss, make_noise_schedule
from motiondiff.training.initialise import initialise_from
from motiondiff.training.model_cards import model_card
from motiondiff.training.report import run_report
from motiondiff.training.statistics import fit_representation, training_spectrum

logger = logging.getLogger(__name__)

# settings of `ModelConfig` that MDM's denoiser does not have
NOT_MDM = ("preconditioning", "convolution", "gates")
VALIDATION_BATCH = 32
VALIDATION_SEED = 20_000
TEXT_CACHE = "text_cache"
"""Folder of a run with the embeddings of its captions."""


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
    store: MotionStore, step: DiffusionLoss, config: MotionDiffConfig, captions: EmbeddedCaptions | None = None
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


def check_same_data(run: str | Path, store: MotionStore) -> None:
    """Check that a store is the training data of a run: no other defines the clips that the generator has not seen.

    Raises:
        InputError: another store, or a saved model without the record of its training.
    """
    places = [Path(run) / "environment.json", Path(run).resolve().parent / "environment.json"]
    record = next((place for place in places if place.is_file()), None)
    if record is None:
        raise InputError(
            f"{run}: has no environment.json with its training data; give a run folder of `motiondiff train`"
        )
    written = read_json(record).get("data_fingerprint")
    if written != store.fingerprint:
        raise InputError(
            f"{store.path}: is not the data that {run} was trained on; evaluate with the same store, whose splits "
            "hold out the test clips"
        )


def check_same_run(run: RunFolder, store: MotionStore, config: MotionDiffConfig) -> None:
    """Check that a resumed run has the data and settings of its start; `fit` checks those of ``train``.

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


def train(
    model: nn.Module | type[nn.Module] | None,
    data: MotionDataset | str | Path,
    config: TrainConfig | MotionDiffConfig | None = None,
    *,
    out: str | Path,
    init_from: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainingResult:
    """Train a denoiser on the clips of a data set and save a pipeline.

    Args:
        model: a `MotionDenoiser` or subclass of it, or any module that is called as `MotionDenoiser.forward` is and
            predicts the clean features (B, T, D); a class is made for the data (`MotionDenoiser.for_dataset`, or called
            with ``width=D``). None: a `MotionDenoiser`, or `MDMDenoiser`, with the settings of ``config.model``.
        data: the data set, or the folder of a store, whose training split is taken.
        config: settings of the training, or of all sections.
        out: the run folder; `icube_common.io.runs` lists its files.
        init_from: a run whose weights this one starts with (`motiondiff.training.initialise.initialise_from`).
        resume: continue from the newest whole checkpoint of ``out``.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: a bad store, setting, model of another width, or output folder; nothing is written then.
    """
    dataset = data if isinstance(data, MotionDataset) else MotionDataset(data)
    if not isinstance(config, MotionDiffConfig):
        config = MotionDiffConfig(train=config or MotionDiffConfig().train, data=dataset.config)
    check_start(config.train, out, resume=resume, overwrite=overwrite)
    store, clips = dataset.store, dataset.clips
    if resume:
        check_same_run(RunFolder(out), store, config)
    representation = fit_representation(store, clips, config.data)
    encoder = load_text_encoder(config.text, default_device(config.train.device)) if config.text.enabled else None
    denoiser = make_denoiser(model, dataset, config, encoder)
    if init_from is not None:
        initialise_from(denoiser, init_from)
    captions = None
    cache = FeatureCache(config.text.cache or RunFolder(out).path / TEXT_CACHE)
    if encoder is not None:
        # a new run's folder must not exist before all settings are checked
        caption_cache = cache if config.text.cache or resume else None
        captions = embed_captions(store, config.text, encoder, caption_cache, mirror=config.data.mirror > 0)
        means = captions.action_means(store.columns["action"], len(store.actions), clips)
        denoiser.action_texts.copy_(torch.from_numpy(means))
    schedule = make_noise_schedule(config.diffusion)
    spectrum = None
    if isinstance(denoiser, MotionDenoiser) and denoiser.spectral:
        spectrum = training_spectrum(store, clips, config.data, representation, denoiser.config.preconditioning)
        denoiser.set_preconditioning(spectrum, schedule.alphas_cumprod)
    step = DiffusionLoss(
        representation,
        schedule,
        config.diffusion,
        config.data.max_frames,
        hide_action=config.text.hide_action,
        spectrum=spectrum,
        pass_components=type(denoiser).forward is MotionDenoiser.forward,
    )
    validate = make_validation(store, step, config, captions)
    windows = MotionDataset(store, clips, config.data, augment=True, captions=captions)
    facts = {} if init_from is None else {"init_from": str(init_from)}
    run = open_data_run(out, store, config, resume=resume, overwrite=overwrite, **facts)
    if encoder is not None and captions is not None and PartialState().is_main_process:
        encoder.embed(captions.captions.texts, cache)
    result = fit(
        denoiser,
        step,
        windows,
        config=config.train,
        run=run,
        collate=collate,
        weights=class_balanced_weights(store.columns["action"][clips], config.data.balance),
        validate=validate,
        resume=resume,
    )
    pipeline = MotionDiffusionPipeline(result.model.to("cpu"), representation.to("cpu"), schedule)
    trained = pipeline.denoiser.module if isinstance(pipeline.denoiser, CustomDenoiser) else pipeline.denoiser

    def report() -> Report:
        parts = pipeline.denoiser, pipeline.representation, schedule
        write_json(run.path / COPY_TEST, copy_test(*parts, store, config.data, captions=captions))
        return run_report(run, store, config)

    return finish_run(
        TrainingResult(run=run, model=trained, fit=result),
        save=lambda folder: save_model(folder, pipeline, model_card(store, config, result.steps, encoder)),
        report=report,
    )


def open_data_run(
    out: str | Path, store: MotionStore, config: Any, *, resume: bool, overwrite: bool, **facts: Any
) -> RunFolder:
    """`icube_common.training.open_run` of a configuration with a section ``train``, with the data in its record."""
    return open_run(
        out,
        config=config.train,
        config_yaml=config_to_yaml(config),
        environment={
            "data": str(store.path),
            "data_fingerprint": store.fingerprint,
            "seed": config.train.seed,
            **facts,
        },
        resume=resume,
        overwrite=overwrite,
    )


def save_model(folder: Path, model: MotionDiffusionPipeline | ActorGenerator, card: str) -> None:
    """Write a trained model and its card atomically."""
    with atomic_folder(folder, overwrite=True) as temporary:
        model.save_pretrained(temporary)
        (temporary / "README.md").write_text(card)


def make_denoiser(
    model: nn.Module | type[nn.Module] | None,
    data: MotionDataset,
    config: MotionDiffConfig,
    encoder: TextEncoder | None = None,
) -> MotionDenoiser | CustomDenoiser:
    """Denoiser of a training: the given one, checked, or a new one whose weights are sampled from ``train.seed``.

    Raises:
        InputError: a model of another width, or without an input that the configuration needs.
    """
    size, frames = data.feature_size, config.data.max_frames
    settings = config_to_dict(config.model)
    architectures = {"motiondiff": MotionDenoiser, "mdm": MDMDenoiser}
    default = architectures[settings.pop("architecture")]
    kind: Any = default if model is None else model
    if isinstance(kind, type) and issubclass(kind, MotionDenoiser):
        if issubclass(kind, MDMDenoiser):
            for key in NOT_MDM:
                del settings[key]
        return kind.for_dataset(  # type: ignore[attr-defined]
            data,
            text_encoder=encoder,
            seed=config.train.seed,
            max_frames=frames,
            inpainting_input=config.diffusion.inpainting_probability > 0,
            num_train_timesteps=config.diffusion.num_train_timesteps,
            **settings,
        )
    assert model is not None
    if isinstance(model, type):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            model = model(width=size)
    denoiser = model if isinstance(model, MotionDenoiser) else CustomDenoiser.for_dataset(data, model)
    made = denoiser.config
    if made.feature_size != size:
        raise InputError(f"model: made for {made.feature_size} features a frame, the data have {size}")
    if (list(made.actions), list(made.styles)) != (list(data.store.actions), list(data.store.styles)):
        raise InputError("model: made for other actions or styles than the data have; make it with for_dataset(data)")
    if made.max_frames < frames:
        raise InputError(f"model: takes {made.max_frames} frames at most, data.max_frames={frames}")
    if config.diffusion.inpainting_probability and not made.inpainting_input:
        raise InputError(
            "diffusion.inpainting_probability: the model has no input for the mask; build it with inpainting_input"
        )
    if made.text_size != (encoder.size if encoder else 0):
        raise InputError(
            f"model: takes texts of {made.text_size} numbers, the encoder makes {encoder and encoder.size}"
        )
    return denoiser
